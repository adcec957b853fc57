//! What the audit reads: clean where everything adds up, and every planted fault.

use super::world::{SHARD, World, account, customer, external, refusal, transfer, usd};
use holdfast::domain::{PivotDecision, Reason, State, TransferId};
use holdfast::store::{AuditSnapshot, NewTransfer};

/// Money in, some of it moved on, one transfer held, one refused.
pub async fn ledger(world: &World) -> Vec<NewTransfer> {
    let at = world.store.now(SHARD).await.unwrap();
    world.create(SHARD, &[external("world"), customer("alice"), customer("bob")]).await;
    let transfers = vec![
        transfer(1, at, "world", "alice", 100),
        transfer(2, at, "alice", "bob", 30),
        transfer(3, at, "alice", "bob", 20),
        transfer(4, at, "alice", "bob", 7),
    ];
    world.request(&transfers).await;
    for new in &transfers[..2] {
        world.hold(new).await;
        world.complete(new).await;
    }
    world.hold(&transfers[2]).await;
    let mut tx = world.begin().await;
    let mark = refusal(&transfers[3].terms, Reason::DestinationFrozen, tx.now());
    tx.insert_entries(&[mark]).await.unwrap();
    tx.commit().await.unwrap();
    world.refresh(SHARD).await;
    transfers
}

async fn snapshot(world: &World) -> AuditSnapshot {
    world.store.audit_snapshot(SHARD).await.unwrap()
}

pub async fn a_sound_ledger_has_no_faults(world: World) {
    ledger(&world).await;
    let found = snapshot(&world).await;
    assert_eq!((found.accounts, found.entries), (3, 4));
    assert_eq!(found.posted, [(usd(), 0)]);
    assert_eq!((found.faulty_accounts, found.faulty_entries), (vec![], vec![]));
    assert!(found.at.micros() > 0);
}

/// Each fault is planted in a ledger that is sound otherwise, and mended.
pub async fn every_planted_fault_is_found(world: World) {
    ledger(&world).await;
    let faults = [
        ("account_mst SET posted", "posted + 1", "posted - 1", "id = 'bob'"),
        ("account_mst SET held", "held + 1", "held - 1", "id = 'alice'"),
        ("account_mst SET version", "version + 1", "version - 1", "id = 'bob'"),
        ("account_mst SET status", "2", "1", "id = 'bob'"),
        ("balances SET posted", "posted - 1", "posted + 1", "account_id = 'bob'"),
        ("balances SET held", "held - 1", "held + 1", "account_id = 'alice'"),
        ("balances SET version", "version - 1", "version + 1", "account_id = 'bob'"),
        ("transaction_status SET state", "1", "2", "idempotency_key = 'key-3'"),
        (
            "ledger_entries SET amount",
            "amount + 1",
            "amount - 1",
            "account_id = 'bob' AND amount > 0",
        ),
    ];
    for (what, plant, mend, which) in faults {
        let run = async |value: &str| {
            let statement = format!("UPDATE {what} = {value} WHERE {which}");
            world.databases.sql(SHARD, &statement).await;
        };
        run(plant).await;
        let found = snapshot(&world).await;
        assert_eq!(found.faulty_accounts.len(), 1, "{what} = {plant}");
        run(mend).await;
        assert_eq!(snapshot(&world).await.faulty_accounts, vec![], "{what} = {mend}");
    }
}

pub async fn a_fault_is_told_with_its_numbers(world: World) {
    let transfers = ledger(&world).await;
    world.databases.sql(SHARD, "UPDATE account_mst SET posted = posted + 5 WHERE id = 'bob'").await;
    let found = snapshot(&world).await;
    assert_eq!(found.posted, [(usd(), 5)]);
    let [bob] = &found.faulty_accounts[..] else { panic!("{found:?}") };
    assert_eq!(bob.row.id, account("bob"));
    assert_eq!((bob.row.posted, bob.entries, bob.held), (35, 30, 0));
    assert_eq!(bob.projected, Some((30, 0, 2)));
    world.databases.sql(SHARD, "UPDATE account_mst SET posted = posted - 5 WHERE id = 'bob'").await;

    world.databases.sql(SHARD, "DELETE FROM balances WHERE account_id = 'alice'").await;
    let [alice] = &snapshot(&world).await.faulty_accounts[..] else { panic!() };
    assert_eq!((alice.row.posted, alice.entries, alice.held), (70, 70, 20));
    assert_eq!(alice.projected, None);
    world.refresh(SHARD).await;

    let shift = "UPDATE ledger_entries SET balance_after = balance_after + 1 \
        WHERE account_id = 'alice' AND side = 1";
    world.databases.sql(SHARD, shift).await;
    let [fault] = &snapshot(&world).await.faulty_entries[..] else { panic!() };
    assert_eq!(fault.transfer, transfers[1].terms.id);
    assert_eq!((fault.account.as_str(), fault.balance_after, fault.expected), ("alice", 71, 70));
}

pub async fn sums_go_beyond_64_bits(world: World) {
    let names = ["a", "b", "c", "d"];
    world.create(SHARD, &names.map(external)).await;
    let bound = holdfast::domain::POSTED_LIMIT;
    world.databases.sql(SHARD, &format!("UPDATE account_mst SET posted = {bound}")).await;
    let found = snapshot(&world).await;
    assert_eq!(found.posted, [(usd(), 4 * i128::from(bound))]);
    assert_eq!(found.faulty_accounts.len(), 4);
    world.databases.sql(SHARD, &format!("UPDATE account_mst SET posted = -{bound}")).await;
    let found = snapshot(&world).await;
    assert_eq!(found.posted, [(usd(), -4 * i128::from(bound))]);
    assert_eq!(found.faulty_accounts[0].entries, 0);
}

pub async fn facts_of_both_sides_come_in_pages_and_by_id(world: World) {
    let transfers = ledger(&world).await;
    let ids: Vec<TransferId> = transfers.iter().map(|new| new.terms.id).collect();
    let store = &world.store;
    let (start, end) = (TransferId::from_bytes([0; 16]), TransferId::from_bytes([255; 16]));
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let page = store.source_facts(SHARD, start, end, 3).await.unwrap();
    assert_eq!(page.iter().map(|fact| fact.terms.id).collect::<Vec<_>>(), sorted[..3]);
    let rest = store.source_facts(SHARD, sorted[2], end, 3).await.unwrap();
    assert_eq!(rest.iter().map(|fact| fact.terms.id).collect::<Vec<_>>(), sorted[3..]);
    assert!(store.source_facts(SHARD, start, sorted[0], 3).await.unwrap().is_empty());
    let facts = store.source_facts_of(SHARD, &[ids[1], ids[2], end]).await.unwrap();
    let fact = |id: TransferId| facts.iter().find(|fact| fact.terms.id == id).unwrap();
    assert_eq!(facts.len(), 2);
    assert_eq!((fact(ids[1]).state, fact(ids[1]).debit), (State::Committed, Some(30)));
    assert_eq!((fact(ids[2]).state, fact(ids[2]).debit), (State::Held, None));
    let completed_at = world.record(ids[1]).await.unwrap().row.completed_at;
    assert!(completed_at.is_some() && fact(ids[1]).completed_at == completed_at);
    assert_eq!(fact(ids[2]).completed_at, None);

    let credits = store.credit_facts(SHARD, start, end, 10).await.unwrap();
    assert_eq!(credits.len(), 3);
    let refused = store.credit_facts_of(SHARD, &[ids[3], ids[2]]).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].decision, PivotDecision::Refused(Reason::DestinationFrozen));
    assert_eq!((refused[0].amount, refused[0].destination.as_str()), (0, "bob"));
    assert_eq!(refused[0].currency, usd());
}

pub async fn debits_of_transfers_that_do_not_exist_are_found(world: World) {
    let transfers = ledger(&world).await;
    let (start, end) = (TransferId::from_bytes([0; 16]), TransferId::from_bytes([255; 16]));
    let find = async || world.store.debits_without_transfer(SHARD, start, end, 10).await.unwrap();
    assert_eq!(find().await, []);
    world.databases.sql(SHARD, "DELETE FROM transaction_status WHERE source = 'alice'").await;
    assert_eq!(find().await, [transfers[1].terms.id]);
}
