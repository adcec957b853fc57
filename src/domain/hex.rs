//! Bytes as hexadecimal digits.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two lower-case digits a byte.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    put(bytes, &mut text);
    text
}

/// The same, at the end of a text.
pub fn put(bytes: &[u8], text: &mut String) {
    text.reserve(2 * bytes.len());
    // Some at a time: a text grows slowly by characters.
    let mut digits = [0; 128];
    for some in bytes.chunks(digits.len() / 2) {
        for (pair, byte) in digits.chunks_exact_mut(2).zip(some) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        let written = &digits[..2 * some.len()];
        text.push_str(std::str::from_utf8(written).expect("digits are texts"));
    }
}

/// The bytes of a text of two digits each, in either case; none for any other text.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some((digit(pair[0])? << 4) | digit(pair[1])?);
    let pairs = text.as_bytes().chunks_exact(2);
    if pairs.remainder().is_empty() { pairs.map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_read_back_and_nothing_else_is() {
        assert_eq!(super::decode("000fA5ff"), Some(vec![0, 0x0f, 0xa5, 0xff]));
        assert_eq!(super::decode(""), Some(Vec::new()));
        for text in ["0", "0g", "+1", " 0", "\u{e9}", "0x"] {
            assert_eq!(super::decode(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_have_two_digits_each() {
        assert_eq!(super::encode(&[0, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(super::encode(&[]), "");
        for length in [63, 64, 65, 200] {
            let bytes: Vec<u8> = (0..length).collect();
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(super::encode(&bytes), expected);
        }
    }
}
