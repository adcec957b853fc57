//! What opens where, and what does not.

use super::*;
use crate::domain::{Slot, Timestamp};
use uuid::Uuid;

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn place(shard: u16) -> Place {
    Place { cluster: ClusterId(Uuid::from_u128(7)), shard: Shard(shard) }
}

fn masters(text: &str) -> MasterKeys {
    text.parse().unwrap()
}

fn transfer(number: u64) -> TransferId {
    TransferId::mint(
        Timestamp::from_micros(1_700_000_000_000_000),
        Slot::new(3).unwrap(),
        0,
        number,
    )
}

fn sealer(masters: &MasterKeys, place: Place) -> (Sealer, Arc<DataKey>) {
    let fields = masters.make(place, 2, Purpose::Fields);
    let data = Arc::new(DataKey::open(masters, place, 2, &fields).unwrap());
    let lookup = masters.make(place, 1, Purpose::Lookup);
    let lookup = Arc::new(LookupKey::open(masters, place, 1, &lookup).unwrap());
    (Sealer::new(place, Arc::clone(&data), lookup), data)
}

#[test]
fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
    let masters = masters(OLD);
    let (sealer, data) = sealer(&masters, place(0));
    let source: AccountId = "alice".parse().unwrap();
    let fields =
        Fields { description: Some("Miete für Mai"), reference: None, metadata: Some("{}") };
    let sealed = sealer.transfer(transfer(1), &source, &fields);
    assert_eq!(key_of(&sealed), Some(2));
    let opened = data.unseal(place(0), Of::Transfer(transfer(1)), &sealed).unwrap();
    assert_eq!(Fields::decode(&opened), Some(fields));
    assert_eq!(data.unseal(place(0), Of::Transfer(transfer(2)), &sealed), None);
    assert_eq!(data.unseal(place(1), Of::Transfer(transfer(1)), &sealed), None);
    let other = Place { cluster: ClusterId(Uuid::from_u128(8)), ..place(0) };
    assert_eq!(data.unseal(other, Of::Transfer(transfer(1)), &sealed), None);
    let again = sealer.transfer(transfer(1), &source, &fields);
    assert_ne!(sealed, again, "the same text is never sealed the same way");
    assert_eq!(data.left(), -2);
}

/// Every single bit counts, those of the head too; and so does the length.
#[test]
fn a_value_that_was_changed_does_not_open() {
    let masters = masters(OLD);
    let (sealer, data) = sealer(&masters, place(0));
    let account = "alice".parse().unwrap();
    let sealed = sealer.text(Of::Account(&account), "{\"name\":\"Alice\"}");
    let open =
        |bytes: &[u8]| data.unseal(place(0), Of::Account(&account), &Sealed::new(bytes.to_vec()));
    assert!(open(sealed.bytes()).is_some());
    for bit in 0..sealed.bytes().len() * 8 {
        let mut changed = sealed.bytes().to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&changed), None, "bit {bit}");
    }
    for length in 0..sealed.bytes().len() {
        assert_eq!(open(&sealed.bytes()[..length]), None);
    }
    assert_eq!(key_of(&Sealed::new(vec![2, 0, 0, 0, 1])), None);
    assert_eq!(key_of(&Sealed::new(vec![1, 0])), None);
}

#[test]
fn a_data_key_is_wrapped_anew_and_stays_the_same() {
    let (old, both, new) = (masters(OLD), masters(&format!("{NEW},{OLD}")), masters(NEW));
    let wrapped = old.make(place(0), 2, Purpose::Fields);
    let first = DataKey::open(&old, place(0), 2, &wrapped).unwrap();
    let sealed = first.seal(place(0), Of::Transfer(transfer(1)), [0; 8], b"text");
    let fault = DataKey::open(&new, place(0), 2, &wrapped).err().unwrap();
    assert_eq!(fault, KeyFault::NotConfigured("old".to_owned()));
    assert_eq!(old.rewrap(place(0), 2, Purpose::Fields, &wrapped), Ok(None));
    let anew = both.rewrap(place(0), 2, Purpose::Fields, &wrapped).unwrap().unwrap();
    assert_eq!(anew.by, "new");
    let second = DataKey::open(&new, place(0), 2, &anew).unwrap();
    let opened = second.unseal(place(0), Of::Transfer(transfer(1)), &sealed);
    assert_eq!(opened.as_deref(), Some(&b"text"[..]));
}

/// A key cannot be put in the place of another, nor used for something else.
#[test]
fn a_wrapped_key_opens_in_its_place_and_nowhere_else() {
    let masters = masters(OLD);
    let wrapped = masters.make(place(0), 2, Purpose::Fields);
    let refused = Some(KeyFault::Refused("old".to_owned()));
    assert_eq!(DataKey::open(&masters, place(0), 3, &wrapped).err(), refused);
    assert_eq!(DataKey::open(&masters, place(1), 2, &wrapped).err(), refused);
    assert_eq!(LookupKey::open(&masters, place(0), 2, &wrapped).err(), refused);
    let other = super::tests::masters(&format!("old:{}", &NEW[4..]));
    assert_eq!(DataKey::open(&other, place(0), 2, &wrapped).err(), refused);
    assert!(DataKey::open(&masters, place(0), 2, &wrapped).is_ok());
    assert!(!format!("{wrapped:?} {masters:?}").contains("AAAA"));
}

#[test]
fn marks_and_fingerprints_are_the_same_for_the_same_and_under_this_key_alone() {
    let masters = masters(OLD);
    let open = |wrapped: &Wrapped| LookupKey::open(&masters, place(0), 1, wrapped).unwrap();
    let wrapped = masters.make(place(0), 1, Purpose::Lookup);
    let (one, same) = (open(&wrapped), open(&wrapped));
    let other = open(&masters.make(place(0), 1, Purpose::Lookup));
    let [alice, bob]: [AccountId; 2] = ["alice", "bob"].map(|id| id.parse().unwrap());
    assert_eq!(one.mark(&alice, "r"), same.mark(&alice, "r"));
    assert_ne!(one.mark(&alice, "r"), one.mark(&bob, "r"));
    assert_ne!(one.mark(&alice, "r"), one.mark(&alice, "s"));
    assert_ne!(one.mark(&alice, "r"), other.mark(&alice, "r"));
    assert_eq!(one.fingerprint(&[1; 32]), same.fingerprint(&[1; 32]));
    assert_ne!(one.fingerprint(&[1; 32]), one.fingerprint(&[2; 32]));
    assert_ne!(one.fingerprint(&[1; 32]), other.fingerprint(&[1; 32]));
}

#[test]
fn fields_read_back_and_nothing_else_does() {
    for description in [None, Some(""), Some("ä")] {
        for reference in [None, Some("r")] {
            let fields = Fields { description, reference, metadata: None };
            let text = fields.encode();
            assert_eq!(Fields::decode(&text), Some(fields));
            assert_eq!(Fields::decode(&text[..text.len() - 1]), None);
            assert_eq!(Fields::decode(&[&text[..], &[0]].concat()), None);
        }
    }
}

#[test]
fn a_key_that_is_none_is_told_without_repeating_it() {
    let fault = |text: &str| text.parse::<MasterKeys>().map(drop).unwrap_err();
    assert!(fault("AAAAAAAA").contains("place 1 is not name:base64"));
    assert!(fault(&format!("{OLD},")).contains("place 2 is not name:base64"));
    assert!(fault("a b:AAAA").contains("letters"));
    assert!(fault(&format!("{}:AAAA", "n".repeat(65))).contains("1 to 64"));
    assert!(fault("k:s3cret!").contains("the key k is not base64"));
    assert!(fault("k:AAAA").contains("has 3 bytes and must have 32"));
    assert!(fault(&format!("{OLD},{OLD}")).contains("two keys have the name old"));
    assert!(fault(&format!("{OLD},new:{}", &OLD[4..])).contains("the same as another"));
    for text in ["k:s3cret!", "s3cret", "k:czNjcmV0"] {
        assert!(!fault(text).contains("s3cret") && !fault(text).contains("czNj"));
    }
    let keys = masters(&format!("{NEW}, {OLD}"));
    assert_eq!((keys.first(), keys.names().collect::<Vec<_>>()), ("new", vec!["new", "old"]));
}
