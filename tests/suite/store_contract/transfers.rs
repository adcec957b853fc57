//! Transfers, claims and the lists of transfers.

use super::world::{
    SHARD, World, account, client, constraint, external, insert, key, record, stage, transfer, usd,
};
use holdfast::domain::{Cause, Client, Reason, StageWrite, State, Terms, Timestamp, TransferId};
use holdfast::store::{Claim, ClaimKey, Constraint, NewTransfer, TransferFilter};
use std::time::Duration;

pub async fn a_hold_a_credit_and_a_commit_move_money(world: World) {
    world.create(SHARD, &[external("world"), super::world::customer("bob")]).await;
    let requested = transfer(1, world.store.now(SHARD).await.unwrap(), "world", "bob", 100);
    world.request(std::slice::from_ref(&requested)).await;
    world.hold(&requested).await;
    let held = world.record(requested.terms.id).await.unwrap();
    assert_eq!(held.row.state, State::Held);
    assert!(held.row.held_at.is_some() && held.row.hold_deadline.is_some());
    assert_eq!(held.hold_cause, Cause { offset: Some(17), attempt: 2 });
    assert_eq!((held.row.completed_at, held.final_cause), (None, Cause::default()));
    assert_eq!(world.row(SHARD, "world").await.held, 100);
    world.complete(&requested).await;
    let done = world.record(requested.terms.id).await.unwrap();
    assert_eq!(done.row.state, State::Committed);
    assert_eq!(done.row.held_at, held.row.held_at);
    assert_eq!(done.row.hold_deadline, held.row.hold_deadline);
    assert!(done.row.completed_at >= done.row.held_at);
    assert_eq!(done.final_cause, Cause { offset: Some(17), attempt: 2 });
    let (world_row, bob) = (world.row(SHARD, "world").await, world.row(SHARD, "bob").await);
    assert_eq!((world_row.posted, world_row.held, world_row.version), (-100, 0, 3));
    assert_eq!((bob.posted, bob.held, bob.version), (100, 0, 2));
}

/// Quotes, backslashes, wildcards, line ends, other scripts, lengths: all come back as they went in.
fn odd(number: u64, at: Timestamp) -> NewTransfer {
    let plain = transfer(number, at, "alice", "bob", 1);
    let mut graphic: String = ('!'..='~').collect();
    graphic.push_str(&"k".repeat(255 - graphic.len()));
    NewTransfer {
        terms: Terms { reverses: Some(TransferId::first_at(at)), ..plain.terms },
        claim: ClaimKey {
            source: account("alice"),
            client: client("sub|%_'\"\\`,[{}]"),
            key: key(&graphic),
        },
        fingerprint: std::array::from_fn(|index| (index as u8).wrapping_mul(9)),
        fingerprint_version: 200,
        description: Some("\u{1f4b6}".repeat(255)),
        reference: Some("Re' f\"\\ \u{e4}\u{4e2d} ".to_owned()),
        metadata: Some("{\"k\\n\":\"\u{1f600}\\u0000\\\"\"}".to_owned()),
        sealed: None,
        at,
    }
}

pub async fn every_attribute_of_a_transfer_is_kept(world: World) {
    let at = Timestamp::from_micros(1_700_000_000_123_456);
    let new = odd(1, at);
    let plain = transfer(2, at, "alice", "bob", holdfast::domain::MAX_AMOUNT);
    world.request(&[new.clone(), plain.clone()]).await;
    let stored = world.record(new.terms.id).await.unwrap();
    assert_eq!(stored.row.terms, new.terms);
    assert_eq!((stored.row.state, stored.row.reason), (State::Requested, None));
    assert_eq!(stored.row.requested_at, at);
    assert_eq!((stored.row.held_at, stored.row.completed_at), (None, None));
    assert_eq!(stored.claim, new.claim);
    assert_eq!(stored.description, new.description);
    assert_eq!(stored.reference, new.reference);
    assert_eq!(stored.metadata, new.metadata);
    assert_eq!((stored.hold_cause, stored.final_cause), (Cause::default(), Cause::default()));
    let stored = world.record(plain.terms.id).await.unwrap();
    assert_eq!(stored.row.terms, plain.terms);
    assert_eq!((stored.description, stored.metadata), (None, None));
    let mut tx = world.begin().await;
    let claims = tx.claims(&[new.claim.clone(), new.claim.clone()]).await.unwrap();
    let claim = Claim {
        transfer: new.terms.id,
        fingerprint: new.fingerprint,
        fingerprint_version: new.fingerprint_version,
    };
    assert_eq!(claims, [(new.claim.clone(), claim)].into());
    let ClaimKey { source, client, key } = &new.claim;
    let found = world.store.claimed_transfer(SHARD, client, source, key).await.unwrap();
    assert_eq!(found, Some(new.terms.id));
}

/// Hazard 14, for clients and keys.
pub async fn claims_are_compared_byte_for_byte(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let claims = [
        ("alice", "api", "K"),
        ("alice", "api", "k"),
        ("alice", "API", "k"),
        ("Alice", "api", "k"),
        ("alice", "api", "k."),
    ];
    let transfers: Vec<NewTransfer> = (0..)
        .zip(claims)
        .map(|(number, (source, by, text))| {
            let mut new = transfer(number, at, source, "bob", 1);
            new.claim = ClaimKey { source: account(source), client: client(by), key: key(text) };
            new
        })
        .collect();
    world.request(&transfers).await;
    for new in &transfers {
        let ClaimKey { source, client, key } = &new.claim;
        let found = world.store.claimed_transfer(SHARD, client, source, key).await.unwrap();
        assert_eq!(found, Some(new.terms.id));
    }
    let nobody: Client = client("Api");
    let found = world.store.claimed_transfer(SHARD, &nobody, &account("alice"), &key("k")).await;
    assert_eq!(found.unwrap(), None);
}

pub async fn a_second_claim_or_transfer_is_told_apart(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let first = transfer(1, at, "alice", "bob", 1);
    world.request(std::slice::from_ref(&first)).await;
    let same_claim =
        NewTransfer { claim: first.claim.clone(), ..transfer(2, at, "alice", "bob", 1) };
    let mut tx = world.begin().await;
    let both = [transfer(3, at, "alice", "bob", 1), same_claim];
    let met = insert(&mut *tx, &both).await;
    assert_eq!(constraint(met), Constraint::Claim);
    drop(tx);
    let same_id = NewTransfer { terms: first.terms.clone(), ..transfer(2, at, "alice", "bob", 1) };
    let mut tx = world.begin().await;
    assert_eq!(constraint(insert(&mut *tx, &[same_id]).await), Constraint::Transfer);
    drop(tx);
    let mut tx = world.begin().await;
    let twice = [transfer(4, at, "alice", "bob", 1), transfer(4, at, "alice", "bob", 1)];
    assert_eq!(constraint(insert(&mut *tx, &twice).await), Constraint::Claim);
    drop(tx);
    assert_eq!(world.record(transfer(3, at, "alice", "bob", 1).terms.id).await, None);
}

pub async fn a_transfer_moves_on_only_from_what_is_expected(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let new = transfer(1, at, "alice", "bob", 10);
    world.request(std::slice::from_ref(&new)).await;
    let terms = &new.terms;
    let expected = stage(terms, State::Requested, State::Held, at);
    let with = |change: fn(&mut StageWrite)| {
        let mut write = expected.clone();
        change(&mut write);
        write
    };
    let wrong = [
        with(|write| write.from = State::Held),
        with(|write| write.terms.source = account("Alice")),
        with(|write| write.terms.destination = account("Alice")),
        with(|write| write.terms.amount = super::world::money(11)),
        with(|write| {
            let yen = "JPY".parse().unwrap();
            write.terms.amount = holdfast::domain::Money::from_minor(10, yen).unwrap();
        }),
        with(|write| write.terms.id = TransferId::from_bytes([1; 16])),
    ];
    for write in wrong {
        let mut tx = world.begin().await;
        assert_eq!(tx.advance_transfers(&[write]).await.unwrap(), 0);
        tx.commit().await.unwrap();
    }
    let expected = [expected];
    let mut tx = world.begin().await;
    assert_eq!(tx.advance_transfers(&expected).await.unwrap(), 1);
    assert_eq!(tx.advance_transfers(&expected).await.unwrap(), 0);
    assert_eq!(tx.advance_transfers(&[]).await.unwrap(), 0);
}

pub async fn a_refusal_at_hold_and_a_cancellation_keep_their_reasons_and_causes(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let (one, other) = (transfer(1, at, "alice", "bob", 10), transfer(2, at, "alice", "bob", 20));
    world.request(&[one.clone(), other.clone()]).await;
    let cause = Cause { offset: Some(i64::MAX), attempt: u32::MAX };
    let reject = StageWrite {
        reason: Some(Reason::InsufficientFunds),
        cause,
        ..stage(&one.terms, State::Requested, State::Rejected, at)
    };
    let cancel = StageWrite {
        reason: Some(Reason::CancelledByClient),
        cause: Cause::default(),
        ..stage(&other.terms, State::Requested, State::Cancelled, at)
    };
    let mut tx = world.begin().await;
    assert_eq!(tx.advance_transfers(&[cancel, reject]).await.unwrap(), 2);
    let rows = tx.transfers(&[one.terms.id, other.terms.id, one.terms.id]).await.unwrap();
    assert_eq!(rows.len(), 2);
    let rejected = &rows[&one.terms.id];
    assert_eq!(rejected.state, State::Rejected);
    assert_eq!(rejected.reason, Some(Reason::InsufficientFunds));
    assert_eq!((rejected.held_at, rejected.hold_deadline), (None, None));
    assert_eq!(rejected.completed_at, Some(at));
    assert_eq!(rows[&other.terms.id].reason, Some(Reason::CancelledByClient));
    tx.commit().await.unwrap();
    let rejected = world.record(one.terms.id).await.unwrap();
    assert_eq!((rejected.hold_cause, rejected.final_cause), (cause, cause));
    let cancelled = world.record(other.terms.id).await.unwrap();
    assert_eq!((cancelled.hold_cause, cancelled.final_cause), Default::default());
}

pub async fn a_thousand_transfers_go_through_in_one_batch(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let mut transfers: Vec<NewTransfer> =
        (0..1000).map(|number| transfer(number, at, "alice", "bob", 1 + number as i64)).collect();
    transfers.reverse();
    let mut tx = world.begin().await;
    tx.insert_transfers(&transfers).await.unwrap();
    let records: Vec<_> = (0..1000).map(|number| record("alice", &number.to_string())).collect();
    tx.insert_outbox(&records).await.unwrap();
    tx.commit().await.unwrap();
    let ids: Vec<TransferId> = transfers.iter().map(|new| new.terms.id).collect();
    let mut tx = world.begin().await;
    assert_eq!(tx.transfers(&ids).await.unwrap().len(), 1000);
    let holds: Vec<StageWrite> =
        transfers.iter().map(|new| stage(&new.terms, State::Requested, State::Held, at)).collect();
    assert_eq!(tx.advance_transfers(&holds).await.unwrap(), 1000);
    tx.commit().await.unwrap();
    let stored = world.store.transfer_records(SHARD, &ids).await.unwrap();
    assert!(stored.len() == 1000 && stored.iter().all(|one| one.row.state == State::Held));
    assert_eq!(world.store.outbox(SHARD, 0, 10).await.unwrap()[0].records, Ok(records));
}

pub async fn outgoing_transfers_are_listed_newest_first(world: World) {
    let hour = Duration::from_secs(3600);
    let first = Timestamp::from_micros(1_700_000_000_000_500);
    let times = [first, first.plus(hour), first.plus(hour * 2)];
    let mut transfers: Vec<NewTransfer> =
        (0..).zip(times).map(|(number, at)| transfer(number, at, "alice", "bob", 1)).collect();
    transfers[0].reference = Some("Order".to_owned());
    transfers[1].reference = Some("order".to_owned());
    transfers[2].reference = Some("order ".to_owned());
    world.request(&transfers).await;
    world.request(&[transfer(9, first, "Alice", "bob", 1)]).await;
    let reject = StageWrite {
        reason: Some(Reason::InsufficientFunds),
        ..stage(&transfers[1].terms, State::Requested, State::Rejected, first)
    };
    let mut tx = world.begin().await;
    tx.advance_transfers(&[reject]).await.unwrap();
    tx.commit().await.unwrap();
    let list = async |filter: TransferFilter, before: Option<TransferId>, limit: u32| {
        let source = account("alice");
        let rows = world.store.outgoing(SHARD, &source, &filter, before, limit).await.unwrap();
        let number = |id: TransferId| transfers.iter().position(|new| new.terms.id == id);
        rows.iter().map(|row| number(row.row.terms.id).unwrap()).collect::<Vec<_>>()
    };
    let any = TransferFilter::default();
    assert_eq!(list(any.clone(), None, 10).await, [2, 1, 0]);
    assert_eq!(list(any.clone(), None, 2).await, [2, 1]);
    assert_eq!(list(any.clone(), Some(transfers[1].terms.id), 10).await, [0]);
    let rejected = TransferFilter { state: Some(State::Rejected), ..any.clone() };
    assert_eq!(list(rejected, None, 10).await, [1]);
    let reference = TransferFilter { reference: Some("order".to_owned()), ..any.clone() };
    assert_eq!(list(reference, None, 10).await, [1]);
    let from = TransferFilter { from: Some(times[1]), ..any.clone() };
    assert_eq!(list(from.clone(), None, 10).await, [2, 1]);
    let micro = Duration::from_micros(1);
    let later = TransferFilter { from: Some(times[1].plus(micro)), ..any.clone() };
    assert_eq!(list(later, None, 10).await, [2]);
    let window = TransferFilter { to: Some(times[2]), ..from };
    assert_eq!(list(window, None, 10).await, [1]);
    let early = TransferFilter { to: Some(Timestamp::from_micros(-5)), ..any.clone() };
    assert_eq!(list(early, None, 10).await, [0; 0]);
    let late = TransferFilter { from: Some(Timestamp::from_micros(i64::MAX)), ..any };
    assert_eq!(list(late, None, 10).await, [0; 0]);
    assert_eq!(transfers[0].terms.amount.currency(), usd());
}
