//! What makes two requests the same: what the caller sent, parsed and canonical.
//!
//! A field that was left out is no part of it, and a default never is, so that neither `10.0` for
//! `"10.00"` nor a default configured anew turns a retry into another request.

use super::request::TransferRequest;
use sha2::{Digest, Sha256};

/// How fingerprints are computed now; stored with each.
pub const VERSION: u8 = 1;
/// The same under the shard's key, which who reads the tables does not have: a hash of a few words
/// would say which they were, to whoever tries them out. For requests with personal fields, where
/// these are encrypted. That key is never changed, so that a claim counts through every rotation.
pub const KEYED: u8 = 2;

/// SHA-256 over the names and values of the fields that were sent, each with its length.
pub fn fingerprint(request: &TransferRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |name: &str, value: &str| {
        for part in [name, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    };
    add("source", request.source.as_str());
    add("destination", request.destination.as_str());
    add("amount", &shortest(&request.amount.to_string()));
    if request.currency_given {
        add("currency", request.amount.currency().as_str());
    }
    if let Some(description) = &request.description {
        add("description", description);
    }
    if let Some(reference) = &request.reference {
        add("reference", reference);
    }
    if let Some(metadata) = &request.metadata {
        add("metadata", &metadata.len().to_string());
        for (name, value) in metadata {
            add(name, value);
        }
    }
    if let Some(original) = &request.reverses {
        add("reverses", &original.id.to_string());
    }
    hash.finalize().into()
}

/// The amount without trailing zeros: the same whatever the scale of the currency.
fn shortest(amount: &str) -> String {
    match amount.split_once('.') {
        Some((whole, fraction)) => match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            digits => format!("{whole}.{digits}"),
        },
        None => amount.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Money;
    use crate::ingress::request::tests::request;

    /// Hazard 31: a retry that writes `10.0` where the first request wrote `10.00` is a retry.
    #[test]
    fn an_amount_written_in_another_way_is_the_same_request() {
        let usd = "USD".parse().unwrap();
        let mut one = request("key");
        let mut other = one.clone();
        one.amount = Money::parse("10.0", usd).unwrap();
        other.amount = Money::parse("10.00", usd).unwrap();
        assert_eq!(fingerprint(&one), fingerprint(&other));
        other.amount = Money::parse("10.01", usd).unwrap();
        assert_ne!(fingerprint(&one), fingerprint(&other));
    }

    /// Hazard 31: a default is no part of what the caller sent.
    #[test]
    fn a_default_that_is_configured_anew_changes_nothing() {
        let mut one = request("key");
        one.currency_given = false;
        one.amount = Money::parse("10", "USD".parse().unwrap()).unwrap();
        let mut other = one.clone();
        other.amount = Money::parse("10", "EUR".parse().unwrap()).unwrap();
        assert_eq!(fingerprint(&one), fingerprint(&other));
    }

    #[test]
    fn every_field_that_was_sent_counts() {
        let plain = request("key");
        let changes: [fn(&mut TransferRequest); 6] = [
            |request| request.source = "carol".parse().unwrap(),
            |request| request.destination = "carol".parse().unwrap(),
            |request| request.currency_given = false,
            |request| request.description = Some("x".into()),
            |request| request.reference = Some("x".into()),
            |request| request.metadata = Some([("x".to_owned(), "y".to_owned())].into()),
        ];
        let mut seen = vec![fingerprint(&plain)];
        for change in changes {
            let mut changed = plain.clone();
            change(&mut changed);
            let print = fingerprint(&changed);
            assert!(!seen.contains(&print));
            seen.push(print);
        }
    }
}
