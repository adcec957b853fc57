//! What changes of an account's settings are allowed.

use super::*;

fn account(posted: i64, held: i64, overdraft_limit: i64) -> AccountRecord {
    let currency: Currency = "USD".parse().unwrap();
    let request = AccountRequest {
        id: "alice".parse().unwrap(),
        currency,
        kind: AccountKind::Customer,
        overdraft_limit,
        metadata: BTreeMap::new(),
        owner: None,
    };
    let mut record = new_record(&request, Timestamp::from_micros(1));
    record.row.posted = posted;
    record.row.held = held;
    record
}

fn with_status(status: AccountStatus) -> AccountRecord {
    let mut record = account(0, 0, 0);
    record.row.status = status;
    record
}

fn limit(minor: i64) -> Change {
    Change::Patch(AccountPatch { overdraft_limit: Some(minor), ..AccountPatch::default() })
}

#[test]
fn a_real_change_raises_the_version_by_one() {
    let settings = decide(&account(5, 0, 0), &Change::Freeze).unwrap().unwrap();
    assert_eq!(settings.row.status, AccountStatus::Frozen);
    assert_eq!((settings.version_before, settings.row.version), (1, 2));
}

#[test]
fn what_is_so_already_changes_nothing() {
    for (status, change) in [
        (AccountStatus::Frozen, Change::Freeze),
        (AccountStatus::Active, Change::Unfreeze),
        (AccountStatus::Closed, Change::Close),
        (AccountStatus::Active, Change::Patch(AccountPatch::default())),
        (AccountStatus::Active, limit(0)),
    ] {
        assert_eq!(decide(&with_status(status), &change).unwrap(), None);
    }
}

#[test]
fn a_closed_account_takes_no_other_change() {
    for change in [Change::Freeze, Change::Unfreeze, limit(5)] {
        let refusal = decide(&with_status(AccountStatus::Closed), &change).unwrap_err();
        assert!(matches!(refusal, Refusal::AccountClosed(_)));
    }
}

#[test]
fn only_an_empty_account_is_closed() {
    for (posted, held) in [(1, 0), (1, 1), (-1, 0)] {
        let refusal = decide(&account(posted, held, 5), &Change::Close).unwrap_err();
        assert!(matches!(refusal, Refusal::AccountNotEmpty { .. }), "{posted} {held}");
    }
    assert!(decide(&account(0, 0, 5), &Change::Close).unwrap().is_some());
}

#[test]
fn a_limit_is_lowered_only_as_far_as_it_is_unused() {
    let overdrawn = account(-300, 200, 1_000);
    assert_eq!(decide(&overdrawn, &limit(500)).unwrap().unwrap().row.overdraft_limit, 500);
    match decide(&overdrawn, &limit(499)).unwrap_err() {
        Refusal::LimitInUse { lowest, .. } => assert_eq!(lowest, "5.00"),
        other => panic!("{other:?}"),
    }
    assert_eq!(decide(&overdrawn, &limit(2_000)).unwrap().unwrap().row.overdraft_limit, 2_000);
}

#[test]
fn minted_ids_differ_and_are_valid() {
    let (one, other) = (minted_account_id(1), minted_account_id(u128::MAX));
    assert_eq!(one.as_str(), "acct-00000000000000000000000001");
    assert_eq!(other.as_str(), "acct-7zzzzzzzzzzzzzzzzzzzzzzzzz");
}

#[test]
fn other_attributes_are_named() {
    let stored = account(0, 0, 7);
    let request = AccountRequest {
        id: "alice".parse().unwrap(),
        currency: "EUR".parse().unwrap(),
        kind: AccountKind::Customer,
        overdraft_limit: 7,
        metadata: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        owner: None,
    };
    let refusal = matching(&request, stored, false).unwrap_err();
    assert!(refusal.to_string().contains("another currency, metadata"), "{refusal}");
}
