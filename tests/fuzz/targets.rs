//! What is fed with anything at all, and what must be true of it whatever it is fed with. Shared by
//! the seeded run of `cargo test` and by the targets under `fuzz/`.

use holdfast::broker::{Delivered, Family, Position, Topic, envelope};
use holdfast::config::{self, Sources};
use holdfast::domain::{
    AccountId, Client, Currency, DeadReason, Event, EventError, IdempotencyKey, MAX_AMOUNT, Money,
    Partition, Shard, Timestamp, TransferId,
};
use holdfast::ingress::TransferPosition;
use holdfast::ingress::http::{self, Caller, Shape};
use holdfast::roles::Role;
use std::collections::BTreeMap;

/// A target: its name, its body, and inputs to begin with.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub corpus: &'static [&'static str],
}

pub const TARGETS: [Target; 6] = [
    Target {
        name: "money",
        run: money,
        corpus: &["0", "1000.00", "0.5", "999999999999999", "1e3", "-1", "1_000", "01", "1.", "١"],
    },
    Target {
        name: "ids",
        run: ids,
        corpus: &[
            "alice",
            "018bcfe5-687f-7abc-9def-0123456789ab",
            "key with space",
            "a:b.c-d_e",
            "",
        ],
    },
    Target {
        name: "bodies",
        run: bodies,
        corpus: &[
            r#"{"source":"alice","destination":"bob","amount":"10.00","currency":"USD"}"#,
            r#"{"source":"a","destination":"b","amount":1000.00,"currency":"JPY","metadata":{"k":"v"},"idempotency_key":"k"}"#,
            r#"{"source":"a","source":"b","amount":1e3,"description":"\ud800","reference":null}"#,
        ],
    },
    Target {
        name: "events",
        run: events,
        corpus: &[
            r#"{"version":1,"type":"transfer.held","cluster":"018bcfe5-687f-4abc-9def-0123456789ab","generation":1,"attempt":1,"at":"2026-01-01T00:00:00.000000Z","transfer":{"id":"018bcfe5-687f-7abc-9def-0123456789ab","source":"a","destination":"b","amount":"10.00","currency":"USD"}}"#,
            r#"{"version":2}"#,
            r#"{"version":1,"reason":"invariant","detail":"x","role":"hold","attempt":1,"key":"a","value":"{}"}"#,
        ],
    },
    Target {
        name: "cursors",
        run: cursors,
        corpus: &["61616c696365", "", "zz", "7431327c", "70303138626366652d"],
    },
    Target {
        name: "configuration",
        run: configuration,
        corpus: &[
            "HOLDFAST_MYSQL_SHARDS=mysql://root:secret@127.0.0.1:3306/a,mysql://127.0.0.1/b",
            "HOLDFAST_HOLD_TIMEOUT=5m\nHOLDFAST_ROLES=hold,credit\nHOLDFAST_LISTEN=127.0.0.1:8080",
            "HOLDFAST_KAFKA_OPTIONS=a=b,c=d\nDB_HOST=db\nDB_PORT=x\nREDIS_HOST=r",
        ],
    },
];

fn usd() -> Currency {
    "USD".parse().unwrap()
}

/// What is taken matches the pattern of the contract, and nothing else is; it reads back from what
/// is written of it.
pub fn money(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for (code, scale) in [("JPY", 0), ("USD", 2), ("BHD", 3)] {
        let currency: Currency = code.parse().unwrap();
        let expected = plain_minor(text, scale).filter(|minor| *minor <= i128::from(MAX_AMOUNT));
        let read = Money::parse(text, currency).ok();
        assert_eq!(read.map(|money| i128::from(money.minor())), expected, "{text:?} in {code}");
        if let Some(money) = read {
            assert_eq!(Money::parse(&money.to_string(), currency).ok(), Some(money));
        }
    }
}

/// The pattern `^(0|[1-9][0-9]{0,14})(\.[0-9]{1,S})?$` and its value, digit by digit.
fn plain_minor(text: &str, scale: usize) -> Option<i128> {
    let bytes = text.as_bytes();
    let whole = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let fraction = match bytes.get(whole) {
        None => &[][..],
        Some(b'.') if whole + 1 < bytes.len() => &bytes[whole + 1..],
        Some(_) => return None,
    };
    let leading = whole > 1 && bytes[0] == b'0';
    let digits = fraction.iter().all(u8::is_ascii_digit);
    if whole == 0 || whole > 15 || leading || fraction.len() > scale || !digits {
        return None;
    }
    let padding = std::iter::repeat_n(&b'0', scale - fraction.len());
    let all = bytes[..whole].iter().chain(fraction).chain(padding);
    Some(all.fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0')))
}

/// Every identifier that is taken is written as it was read, and only what is allowed is taken.
pub fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let account = (1..=64).contains(&text.len())
        && text.bytes().all(inner)
        && text.as_bytes()[0].is_ascii_alphanumeric();
    let read = text.parse::<AccountId>();
    assert_eq!(read.is_ok(), account, "{text:?}");
    if let Ok(id) = read {
        assert_eq!(id.as_str(), text);
    }
    let key = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    assert_eq!(text.parse::<IdempotencyKey>().is_ok(), key, "{text:?}");
    if let Ok(id) = text.parse::<TransferId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        assert_eq!(TransferId::from_bytes(id.bytes()), id);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        assert_eq!(at.to_string().parse::<Timestamp>().ok(), Some(at), "{text:?}");
    }
    for name in [text.parse::<Client>().is_ok(), text.parse::<Currency>().is_ok()] {
        assert!(!name || !text.is_empty());
    }
    let _ = Topic::parse(text);
}

/// A body is refused with a code of the contract, or is a transfer that reads back from its own
/// parts.
pub fn bodies(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let caller = Caller {
        client: "fuzz".parse().unwrap(),
        key: Ok(Some("key".parse().unwrap())),
        traceparent: "00-00000000000000000000000000000001-0000000000000001-01".into(),
    };
    for shape in [Shape::TRANSFER, Shape::payment(usd())] {
        match http::read_transfer(text, "", &caller, &shape) {
            Err(problem) => {
                let code = problem.code.as_str();
                let codes =
                    ["invalid_request", "idempotency_key_missing", "idempotency_key_mismatch"];
                assert!(codes.contains(&code), "{code}: {text:?}");
                assert!(!problem.faults.is_empty(), "{text:?} is refused and nothing is named");
            }
            Ok(read) => {
                assert_ne!(read.source, read.destination);
                assert!((1..=MAX_AMOUNT).contains(&read.amount.minor()));
                assert!(read.description.as_ref().is_none_or(|text| text.chars().count() <= 255));
                assert!(read.reference.as_ref().is_none_or(|text| text.chars().count() <= 64));
                let again = serde_json::json!({
                    "source": read.source.as_str(), "destination": read.destination.as_str(),
                    "amount": read.amount.to_string(),
                    "currency": read.amount.currency().to_string(),
                    "description": read.description, "reference": read.reference,
                    "metadata": read.metadata,
                });
                let again = http::read_transfer(&again.to_string(), "", &caller, &Shape::TRANSFER);
                let expected = holdfast::ingress::TransferRequest { currency_given: true, ..read };
                assert_eq!(again.ok(), Some(expected), "{text:?}");
            }
        }
    }
}

/// An event that is read is written in a way that reads the same. What is not read fits into a
/// dead letter, which reads back too.
pub fn events(data: &[u8]) {
    let position = Position {
        topic: Topic { family: Family::Event(holdfast::domain::EventType::Held), shard: Shard(0) },
        partition: Partition(0),
        offset: 7,
    };
    let half = data.len() / 2;
    let text = String::from_utf8_lossy(&data[half..]).into_owned();
    let delivered = Delivered {
        position,
        key: data[..half].to_vec().into(),
        value: data.to_vec().into(),
        headers: [("ce_id", &text), ("traceparent", &text)].into_iter().collect(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
    };
    match Event::decode(data) {
        Ok(event) => {
            let mut value = Vec::new();
            event.encode_to(&mut value);
            assert_eq!(Event::decode(&value).as_ref(), Ok(&event));
            assert!(envelope::event(&delivered).is_ok());
        }
        Err(EventError::Newer(version)) => assert!(version > holdfast::domain::EVENT_VERSION),
        Err(EventError::Malformed(detail)) => assert!(!detail.is_empty()),
    }
    let verdict = envelope::Verdict {
        reason: DeadReason::Malformed,
        detail: &text,
        role: Role::Hold,
        at: delivered.timestamp,
    };
    let letter = envelope::dead_letter(&delivered, &verdict);
    let read = Delivered { value: letter.value, ..delivered };
    let read = envelope::read_dead_letter(&read).expect("a dead letter reads back");
    assert_eq!(read.origin.offset, Some(7));
}

/// What is taken for a cursor of a list is what would have been written for its position.
pub fn cursors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(account) = http::position::<AccountId>(text) {
        assert_eq!(http::cursor(&account), text);
    }
    if let Some(place) = http::position::<TransferPosition>(text) {
        assert_eq!(http::position(&http::cursor(&place)), Some(place));
    }
}

/// Any configuration is taken, or refused with every fault named; secrets are never shown.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    // Files are not named: those of the machine are none of a test's business.
    let pairs = pairs.filter(|(name, _)| !name.ends_with("_FILE") && !name.contains('@'));
    let env: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let secret = env.values().any(|value| value.contains(":secret@"));
    let loaded = config::load(&Sources { file: None, env, flags: Vec::new() });
    let mut shown: String =
        loaded.effective.iter().filter_map(|line| line.value.as_deref()).collect();
    if let Err(faults) = &loaded.config {
        assert!(!faults.0.is_empty());
        shown.push_str(&faults.to_string());
    }
    assert!(!secret || !shown.contains(":secret@"), "{shown}");
}
