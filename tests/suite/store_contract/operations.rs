//! The audit log, quarantines and their reasons, dead letters that were dealt with.

use super::world::{OTHER, SHARD, World, account, customer, name, suspects};
use holdfast::domain::{Partition, Suspicion, Timestamp, TransferId};
use holdfast::store::{
    Act, ActFilter, Action, Actor, Handled, LetterMark, LoggedAct, Mark, NEWEST, StoreError,
};
use serde_json::{Value, json};

fn act(action: Action, target: &str, reason: Option<&str>) -> Act {
    let actor = Actor {
        operator: "Zoë".to_owned(),
        reason: reason.map(str::to_owned),
        request: Some("r-1".to_owned()),
    };
    actor.act(action, &target, &json!({ "state": "held" }), &json!({ "state": "é" }))
}

async fn log(world: &World, acts: &[Act]) {
    let mut tx = world.begin().await;
    tx.record_acts(acts).await.unwrap();
    tx.commit().await.unwrap();
}

async fn listed(world: &World, filter: &ActFilter) -> Vec<LoggedAct> {
    world.store.acts(SHARD, filter, NEWEST, 100).await.unwrap()
}

pub async fn acts_are_listed_newest_first_and_by_what_they_were(world: World) {
    let acts = [
        act(Action::CancelTransfer, "one", Some("because")),
        act(Action::RetryTransfer, "two", None),
        act(Action::CancelTransfer, "two", None),
    ];
    log(&world, &acts[..2]).await;
    log(&world, &acts[2..]).await;
    log(&world, &[]).await;
    let all = listed(&world, &ActFilter::default()).await;
    let found: Vec<Act> = all.iter().rev().map(|logged| logged.act.clone()).collect();
    assert_eq!(found, acts);
    assert_eq!(found[0].after.parse::<Value>().unwrap(), json!({ "state": "é" }));
    assert!(all.windows(2).all(|pair| (pair[0].at, pair[0].id) > (pair[1].at, pair[1].id)));

    let mut paged = Vec::new();
    let mut before = NEWEST;
    loop {
        let page = world.store.acts(SHARD, &ActFilter::default(), before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = (last.at, last.id);
        paged.extend(page);
    }
    assert_eq!(paged, all);

    let cancels = ActFilter { action: Some(Action::CancelTransfer), ..ActFilter::default() };
    assert_eq!(listed(&world, &cancels).await.len(), 2);
    let two = ActFilter { target: Some("two".to_owned()), ..cancels };
    assert_eq!(listed(&world, &two).await, all[..1]);
    assert_eq!(world.store.acts(OTHER, &ActFilter::default(), NEWEST, 9).await.unwrap(), []);
}

pub async fn an_act_is_written_with_what_it_did_or_not_at_all(world: World) {
    world.customers(SHARD, &["alice"]).await;
    let mut tx = world.begin().await;
    tx.quarantine(&suspects(["alice"])).await.unwrap();
    tx.record_acts(&[act(Action::Quarantine, "alice", None)]).await.unwrap();
    drop(tx);
    assert_eq!(listed(&world, &ActFilter::default()).await, []);
    assert!(!world.row(SHARD, "alice").await.quarantined);
    assert_eq!(world.store.quarantines(SHARD, None, 10).await.unwrap(), []);
}

pub async fn a_quarantine_keeps_its_first_reason_until_it_is_forgotten(world: World) {
    world.customers(SHARD, &["alice", "bob", "carol"]).await;
    let suspicion = |reason: &str| Suspicion {
        reason: reason.to_owned(),
        amount: -7,
        transfer: Some(TransferId::from_bytes([3; 16])),
    };
    let quarantine = async |reason: &str| {
        let mut tx = world.begin().await;
        let both = ["alice", "carol"].map(|id| (account(id), suspicion(reason)));
        tx.quarantine(&both.into()).await.unwrap();
        tx.commit().await.unwrap();
    };
    quarantine("é".repeat(2000).as_str()).await;
    quarantine("another").await;
    let all = world.store.quarantines(SHARD, None, 10).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].account, account("alice"));
    assert_eq!(all[0].suspicion, suspicion(&"é".repeat(1024)), "as long as its column");
    assert_eq!(all[0].currency, customer("alice").row.currency);
    assert!(all[0].since > Timestamp::default());
    let after = world.store.quarantines(SHARD, Some(&account("alice")), 10).await.unwrap();
    assert_eq!(after, all[1..]);
    let of = async |id: &str| world.store.quarantine_of(SHARD, &account(id)).await.unwrap();
    assert_eq!((of("bob").await, of("carol").await.as_ref()), (None, all.last()));

    let mut tx = world.begin().await;
    let forgotten = tx.forget_quarantines(&[account("alice"), account("bob")].into()).await;
    assert_eq!(forgotten.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(world.store.quarantines(SHARD, None, 10).await.unwrap(), all[1..]);
}

pub async fn a_dead_letter_is_marked_once(world: World) {
    let mark = |partition, offset, handled| LetterMark {
        partition: Partition(partition),
        offset,
        handled,
        operator: "Zoë".to_owned(),
        reason: None,
        at: Timestamp::default(),
    };
    let marks = [
        mark(0, 7, Handled::Replayed),
        mark(0, 9, Handled::Discarded),
        mark(1, 7, Handled::Discarded),
    ];
    let write = async |marks: &[LetterMark]| -> Result<(), StoreError> {
        let mut tx = world.begin().await;
        tx.mark_letters(marks).await?;
        tx.commit().await
    };
    write(&marks).await.unwrap();
    let again = write(&[mark(0, 8, Handled::Replayed), mark(0, 9, Handled::Replayed)]).await;
    assert_eq!(name(&again.unwrap_err()), "duplicate");
    let found = async |from, to| {
        let found = world.store.letter_marks(SHARD, Partition(0), from, to).await.unwrap();
        found.into_iter().map(|mark| (mark.offset, mark.handled)).collect::<Vec<_>>()
    };
    let both = [(7, Handled::Replayed), (9, Handled::Discarded)];
    assert_eq!(found(7, 9).await, both);
    assert_eq!(found(8, 100).await, both[1..]);
    assert_eq!(found(10, i64::MAX).await, []);
    let all = world.store.letter_marks(SHARD, Partition(0), 0, 100).await.unwrap();
    assert!(all.iter().all(|mark| mark.operator == "Zoë" && mark.at > Timestamp::default()));
    assert_eq!(world.store.letter_marks(OTHER, Partition(0), 0, 100).await.unwrap(), []);
}

pub async fn projections_are_made_anew_whatever_they_say(world: World) {
    world.customers(SHARD, &["alice", "bob"]).await;
    let spoil = "UPDATE balances SET posted = 5, version = 99 WHERE account_id = 'alice'";
    world.databases.sql(SHARD, spoil).await;
    world.databases.sql(SHARD, "DELETE FROM balances WHERE account_id = 'bob'").await;
    let mut tx = world.begin().await;
    let ids = [account("alice"), account("bob"), account("nobody")].into();
    assert_eq!(tx.rebuild_projections(&ids).await.unwrap(), 2);
    tx.commit().await.unwrap();
    for id in ["alice", "bob"] {
        let balance = world.store.balance(SHARD, &account(id)).await.unwrap().unwrap();
        assert_eq!(balance.row, world.row(SHARD, id).await);
    }
}

/// On the reconciler's list, behind its mark, and on both sides; final ones are left out.
pub async fn what_is_not_final_is_listed_without_writing(world: World) {
    let transfers = super::audit::ledger(&world).await;
    let at = transfers[0].at;
    let end = at.plus(std::time::Duration::from_secs(3600));
    let open = async |after: TransferId, limit: u32| {
        let found = world.store.open_transfers(SHARD, after, end, limit).await.unwrap();
        found.into_iter().map(|one| (one.row.terms.id, one.attempts)).collect::<Vec<_>>()
    };
    let first = TransferId::from_bytes([0; 16]);
    let mut expected = [(transfers[2].terms.id, 0), (transfers[3].terms.id, 0)];
    expected.sort_unstable();
    assert_eq!(open(first, 10).await, expected);
    world.store.scan_unfinished(SHARD, Mark::Recent, end, 100).await.unwrap();
    assert_eq!(open(first, 10).await, expected);
    world.store.stuck_seen(SHARD, &[(expected[0].0, 3, end)]).await.unwrap();
    expected[0].1 = 3;
    assert_eq!(open(first, 1).await, expected[..1]);
    assert_eq!(open(expected[0].0, 10).await, expected[1..]);
    let before = world.store.open_transfers(SHARD, first, Timestamp::default(), 10).await.unwrap();
    assert_eq!(before, []);
}
