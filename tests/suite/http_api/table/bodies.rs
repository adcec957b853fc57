//! Bodies of a transfer, each wrong in one way.

use super::Case;

/// A transfer with one field written in another way; nothing leaves it out.
pub fn transfer_with(field: &str, value: Option<&str>) -> String {
    let fields = [
        ("source", Some("\"alice\"")),
        ("destination", Some("\"bob\"")),
        ("amount", Some("\"25.00\"")),
        ("currency", Some("\"USD\"")),
        ("idempotency_key", Some("\"bad\"")),
    ];
    let known = fields.iter().any(|(name, _)| *name == field);
    let written: Vec<String> = fields
        .into_iter()
        .map(|(name, usual)| (name, if name == field { value } else { usual }))
        .chain((!known).then_some((field, value)))
        .filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)))
        .collect();
    format!("{{{}}}", written.join(","))
}

fn bad_field(field: &str, value: &str, pointers: &[&'static str]) -> Case {
    let shown: String = value.chars().take(40).collect();
    Case::new("POST", "/v1/transfers")
        .named(format!("{field} = {shown}"))
        .json(transfer_with(field, Some(value)))
        .at(pointers)
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

pub fn amounts() -> Vec<Case> {
    let texts = [
        "",
        " ",
        "0",
        "0.00",
        "-0",
        "-1.00",
        "+1.00",
        "1e3",
        "1E2",
        "01.00",
        "00",
        "1.",
        ".5",
        "1.000",
        "1.001",
        "1,000.00",
        "1_000",
        " 1",
        "1 ",
        "1\n",
        "NaN",
        "Infinity",
        "0x10",
        "1/2",
        "10000000000000.01",
        "1000000000000000",
        "99999999999999999999999999",
        "\u{661}",
        "1\u{0}",
        "\u{ff11}",
        "1.00 USD",
        "$1.00",
        "one",
    ];
    let literals = [
        "0",
        "0.0",
        "-1",
        "-0",
        "1e3",
        "1E2",
        "1.5e1",
        "1.001",
        "10000000000000.01",
        "123456789012345678901234567890",
        "true",
        "null",
        "[]",
        "[1]",
        "{}",
        "{\"minor\":5}",
    ];
    let texts = texts.map(quoted).into_iter();
    let mut cases: Vec<Case> = texts
        .chain(literals.map(str::to_owned))
        .map(|value| bad_field("amount", &value, &["/amount"]))
        .collect();
    for (amount, currency) in
        [("1.0", "JPY"), ("0.5", "JPY"), ("1.2345", "BHD"), ("0.00001", "CLF")]
    {
        let body = format!(
            r#"{{"source":"alice","destination":"bob","amount":"{amount}","currency":"{currency}","idempotency_key":"k"}}"#
        );
        let case = Case::new("POST", "/v1/transfers").named(format!("{amount} {currency}"));
        cases.push(case.json(body).at(&["/amount"]));
    }
    cases
}

/// Amounts written with escapes are what they stand for.
pub fn escaped_amounts() -> Vec<Case> {
    vec![
        bad_field("amount", "\"\\u0030\"", &["/amount"]),
        bad_field("amount", "\"1\\u002c0\"", &["/amount"]),
    ]
}

pub fn currencies() -> Vec<Case> {
    let bad = [
        "\"usd\"",
        "\"US\"",
        "\"USDX\"",
        "\"XXX\"",
        "\"XAU\"",
        "\"\"",
        "\"\u{20ac}\"",
        "840",
        "null",
        "[\"USD\"]",
    ];
    bad.map(|value| bad_field("currency", value, &["/currency"])).into()
}

pub fn ids() -> Vec<Case> {
    let long = quoted(&"a".repeat(65));
    let bad = [
        "\"\"",
        "\"-alice\"",
        "\".a\"",
        "\"_a\"",
        "\"a b\"",
        "\"a/b\"",
        "\"\u{e4}\"",
        "\"alice\\n\"",
        "\"alice\\u0000\"",
        "\"\\ud800\"",
        "5",
        "null",
        "{}",
        &long,
    ];
    let mut cases: Vec<Case> = Vec::new();
    for value in bad {
        cases.push(bad_field("source", value, &["/source"]));
        cases.push(bad_field("destination", value, &["/destination"]));
    }
    cases.push(bad_field("destination", "\"alice\"", &["/destination"]).named("to itself"));
    cases
}

pub fn keys() -> Vec<Case> {
    let unkeyed = transfer_with("idempotency_key", None);
    let post = |name: &str| Case::new("POST", "/v1/transfers").named(format!("key: {name}"));
    let with_header = |name: &str, value: &[u8]| {
        post(name).json(unkeyed.clone()).header("idempotency-key", value)
    };
    let at = &["/idempotency_key"];
    let long = quoted(&"k".repeat(256));
    vec![
        post("none").json(unkeyed.clone()).refused(400, "idempotency_key_missing").at(at),
        bad_field("idempotency_key", "null", at).refused(400, "idempotency_key_missing"),
        bad_field("idempotency_key", "\"\"", at),
        bad_field("idempotency_key", "\"a b\"", at),
        bad_field("idempotency_key", "\"\u{e9}\"", at),
        bad_field("idempotency_key", "\"a\\u0000\"", at),
        bad_field("idempotency_key", "7", at),
        bad_field("idempotency_key", &long, at),
        with_header("empty header", b"").at(at),
        with_header("space in header", b"a b").at(at),
        with_header("not ASCII in header", "k\u{e9}".as_bytes()).at(at),
        with_header("not UTF-8 in header", b"k\xff").at(at),
        with_header("long header", &[b'k'; 256]).at(at),
        with_header("two headers", b"one").header("idempotency-key", "two").at(at),
        bad_field("idempotency_key", "\"one\"", at)
            .header("idempotency-key", "two")
            .refused(400, "idempotency_key_mismatch"),
    ]
}

pub fn labels() -> Vec<Case> {
    let (long, longer) = (quoted(&"\u{e4}".repeat(256)), quoted(&"r".repeat(65)));
    let wide = format!("{{\"a\":{}}}", quoted(&"x".repeat(16 * 1024)));
    vec![
        bad_field("description", &long, &["/description"]),
        bad_field("description", "5", &["/description"]),
        bad_field("description", "\"a\\u0000b\"", &["/description"]),
        bad_field("description", "\"\\udc00\"", &["/description"]),
        bad_field("reference", &longer, &["/reference"]),
        bad_field("reference", "[]", &["/reference"]),
        bad_field("metadata", "[]", &["/metadata"]),
        bad_field("metadata", "\"a\"", &["/metadata"]),
        bad_field("metadata", "{\"a\":1}", &["/metadata/a"]),
        bad_field("metadata", "{\"a\":null,\"b\":{}}", &["/metadata/a", "/metadata/b"]),
        bad_field("metadata", "{\"a/b~\":1}", &["/metadata/a~1b~0"]),
        bad_field("metadata", "{\"a\":\"1\",\"a\":\"2\"}", &["/metadata/a"]),
        bad_field("metadata", "{\"a\":\"\\u0000\"}", &["/metadata/a"]),
        bad_field("metadata", &wide, &["/metadata"]),
        bad_field("reverses", "\"018bcfe5-687f-7abc-9def-0123456789ab\"", &["/reverses"]),
        bad_field("Amount", "\"1.00\"", &["/Amount"]),
        bad_field("", "1", &["/"]),
    ]
}

pub fn bodies() -> Vec<Case> {
    let post = |name: &str, body: Vec<u8>| {
        Case::new("POST", "/v1/transfers").named(format!("body: {name}")).json(body).at(&[""])
    };
    let good = transfer_with("", None);
    let twice = good.replacen('{', "{\"amount\":\"1.00\",", 1);
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut broken = good.clone().into_bytes();
    broken[12] = 0xff;
    vec![
        post("empty", Vec::new()),
        post("blank", b" \n\t ".to_vec()),
        post("array", format!("[{good}]").into()),
        post("string", b"\"x\"".to_vec()),
        post("null", b"null".to_vec()),
        post("number", b"1".to_vec()),
        post("cut off", good.as_bytes()[..good.len() - 1].to_vec()),
        post("only a brace", b"{".to_vec()),
        post("two documents", format!("{good}{good}").into()),
        post("something behind", format!("{good} x").into()),
        post("byte order mark", format!("\u{feff}{good}").into()),
        post("not UTF-8", broken),
        post("UTF-16", utf16),
        post("single quotes", good.replace('"', "'").into()),
        post("trailing comma", good.replace('}', ",}").into()),
        post("comment", format!("/* */{good}").into()),
        post("bare NaN", good.replace("\"25.00\"", "NaN").into()),
        post("bare leading zero", good.replace("\"25.00\"", "025").into()),
        post("control character", good.replace("alice", "ali\u{1}ce").into()),
        post("form", b"source=alice&destination=bob".to_vec()),
        post("nested arrays", "[".repeat(30_000).into()),
        post("nested objects", "{\"a\":".repeat(10_000).into()),
        post("nested in a field", good.replace("\"25.00\"", &"[".repeat(30_000)).into()),
        post("key twice", twice.into()).at(&["/amount"]),
        bad_field("amount", &("[".repeat(9_000) + &"]".repeat(9_000)), &["/amount"]),
        bad_field("metadata", &("{\"a\":".repeat(900) + "1" + &"}".repeat(900)), &["/metadata/a"]),
        post("nothing in it", b"{}".to_vec()).at(&[
            "/source",
            "/destination",
            "/amount",
            "/currency",
            "/idempotency_key",
        ]),
        post(
            "all faults at once",
            br#"{"source":"-","destination":7,"amount":"x","currency":"usd","extra":1}"#.to_vec(),
        )
        .at(&[
            "/source",
            "/destination",
            "/amount",
            "/currency",
            "/idempotency_key",
            "/extra",
        ]),
    ]
}
