//! The headers of a record: names and values, each after its length, in one buffer. A log keeps them
//! as they are here, so that they are neither taken apart nor put together on the way.

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Bytes of a length.
const LENGTH: usize = 4;

/// Names and values, in the order in which they were written; texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// Those that `write` puts at the end of `buffer`, which is cut off there.
    pub(super) fn put(buffer: &mut BytesMut, write: impl FnOnce(&mut Put<'_>)) -> Self {
        debug_assert!(buffer.is_empty(), "what is before them is cut off already");
        write(&mut Put(buffer));
        Self(buffer.split().freeze())
    }

    /// Those at the beginning of `rest`, which is a part of `whole`: so many of them, as
    /// [`Headers::packed`] has them. Nothing where they are cut off or no texts.
    pub(crate) fn take(count: u32, whole: &Bytes, rest: &mut &[u8]) -> Option<Self> {
        let mut after = Texts(rest);
        for _ in 0..count {
            std::str::from_utf8(after.bytes()?).ok()?;
            std::str::from_utf8(after.bytes()?).ok()?;
        }
        let (packed, behind) = rest.split_at(rest.len() - after.0.len());
        *rest = behind;
        Some(Self(whole.slice_ref(packed)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each name after its length as a little-endian `u32`, and its value after its own.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.0
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.0.len() - 2 * LENGTH * self.len()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).expect("only texts are put in");
        self.pairs().map(move |(name, value)| (text(name), text(value)))
    }

    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut texts = Texts(&self.0);
        std::iter::from_fn(move || Some((texts.bytes()?, texts.bytes()?)))
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs().find(|(found, _)| *found == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    /// The same with this value, and only this one, for a name.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let others = self.iter().filter(|(other, _)| *other != name);
        others.chain([(name, value)]).collect()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        let mut buffer = BytesMut::new();
        let mut put = Put(&mut buffer);
        all.into_iter().for_each(|(name, value)| put.header(name.as_ref(), value.as_ref()));
        Self(buffer.freeze())
    }
}

/// Writes headers.
pub(super) struct Put<'a>(&'a mut BytesMut);

impl Put<'_> {
    pub fn header(&mut self, name: &str, value: &str) {
        self.text(name);
        self.text(value);
    }

    /// One whose value is written out where it stands.
    pub fn written(&mut self, name: &str, value: fmt::Arguments<'_>) {
        self.text(name);
        let at = self.0.len();
        self.0.put_u32_le(0);
        fmt::Write::write_fmt(self.0, value).expect("a buffer takes all there is");
        let length = length(self.0.len() - at - LENGTH);
        self.0[at..at + LENGTH].copy_from_slice(&length.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.0.put_u32_le(length(text.len()));
        self.0.put_slice(text.as_bytes());
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a record has at most a million bytes")
}

/// What is left of a buffer.
struct Texts<'a>(&'a [u8]);

impl<'a> Texts<'a> {
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_in_is_taken_out(all in prop::collection::vec((".{0,9}", ".{0,20}"), 0..6), behind: Vec<u8>) {
            let headers: Headers = all.iter().map(|(name, value)| (name, value)).collect();
            let texts = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            prop_assert_eq!(headers.iter().map(texts).collect::<Vec<_>>(), all.clone());
            prop_assert_eq!((headers.len(), headers.is_empty()), (all.len(), all.is_empty()));
            let bytes = all.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            prop_assert_eq!(headers.bytes(), bytes);
            for (name, _) in &all {
                let first = all.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
                prop_assert_eq!(headers.get(name), first);
            }
            let whole = Bytes::from([headers.packed(), &behind].concat());
            let mut rest = &whole[..];
            prop_assert_eq!(Headers::take(all.len() as u32, &whole, &mut rest), Some(headers));
            prop_assert_eq!(rest, &behind);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, count in 0_u32..4) {
            let whole = Bytes::from(bytes);
            if let Some(headers) = Headers::take(count, &whole, &mut &whole[..]) {
                prop_assert_eq!(headers.len(), count as usize);
            }
        }
    }

    #[test]
    fn a_name_has_one_value_once_it_is_set() {
        let headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        assert_eq!(headers.get("a"), Some("1"));
        assert_eq!(headers.get("c"), None);
        let set = headers.with("a", "4");
        assert_eq!(set.iter().collect::<Vec<_>>(), [("b", "2"), ("a", "4")]);
        assert_eq!(format!("{set:?}"), r#"{"b": "2", "a": "4"}"#);
    }

    #[test]
    fn they_are_cut_off_from_what_is_written_next() {
        let mut buffer = BytesMut::with_capacity(64);
        let one = Headers::put(&mut buffer, |put| put.header("a", "1"));
        let two = Headers::put(&mut buffer, |put| put.written("b", format_args!("{}-{}", 2, 3)));
        assert_eq!(one.iter().collect::<Vec<_>>(), [("a", "1")]);
        assert_eq!(two.iter().collect::<Vec<_>>(), [("b", "2-3")]);
    }
}
