//! What the drift check reads and remembers.

use super::audit::ledger;
use super::world::{OTHER, SHARD, World, account, transfer};
use holdfast::domain::{AccountId, Timestamp, TransferId};
use holdfast::store::{AccountSums, Mark, Pass, Progress};
use std::time::Duration;

/// Account, sum of entries, sum of held transfers.
type Line = (String, i128, i128);

fn lines(sums: &[AccountSums]) -> Vec<Line> {
    let line = |sums: &AccountSums| (sums.row.id.to_string(), sums.entries, sums.held);
    let mut lines: Vec<Line> = sums.iter().map(line).collect();
    lines.sort();
    lines
}

fn expected() -> Vec<Line> {
    [("alice", 70, 20), ("bob", 30, 0), ("world", -100, 0)]
        .map(|(id, entries, held)| (id.to_owned(), entries, held))
        .to_vec()
}

fn everybody() -> [AccountId; 4] {
    ["world", "alice", "bob", "nobody"].map(account)
}

pub async fn accounts_are_added_up_in_pages_and_by_id(world: World) {
    ledger(&world).await;
    let page = world.store.account_page(SHARD, None, 2).await.unwrap();
    assert_eq!(lines(&page), expected()[..2]);
    let rest = world.store.account_page(SHARD, Some(&account("bob")), 2).await.unwrap();
    assert_eq!(lines(&rest), expected()[2..]);
    let all = world.store.account_sums_of(SHARD, &everybody()).await.unwrap();
    assert_eq!(lines(&all), expected());
    for sums in &all {
        let row = &sums.row;
        assert_eq!((i128::from(row.posted), i128::from(row.held)), (sums.entries, sums.held));
        assert_eq!(sums.projected, Some((row.posted, row.held, row.version)));
    }
    assert_eq!(world.store.account_sums_of(OTHER, &everybody()).await.unwrap(), []);
}

/// Before the reconciler's mark and on its list, in any mixture.
pub async fn a_glance_sees_what_adding_up_does(world: World) {
    let transfers = ledger(&world).await;
    let glance = async || lines(&world.store.account_glances(SHARD, &everybody()).await.unwrap());
    assert_eq!(glance().await, expected());
    let end = transfers[0].at.plus(Duration::from_secs(3600));
    world.store.scan_unfinished(SHARD, Mark::Recent, end, 1).await.unwrap();
    assert_eq!(glance().await, expected());
    world.store.scan_unfinished(SHARD, Mark::Recent, end, 100).await.unwrap();
    assert_eq!(glance().await, expected());
    assert_eq!(world.store.stuck(SHARD, 10).await.unwrap().len(), 2);

    // A hold behind the mark is not on the list: only adding up sees it.
    let late = transfer(9, transfers[0].at.minus(Duration::from_secs(60)), "alice", "bob", 5);
    world.request(std::slice::from_ref(&late)).await;
    world.hold(&late).await;
    assert_eq!(glance().await, expected());
    let alice = world.store.account_sums_of(SHARD, &[account("alice")]).await.unwrap();
    assert_eq!((alice[0].held, alice[0].row.held), (25, 25));
}

pub async fn entries_that_do_not_follow_are_found_by_transfer_and_by_account(world: World) {
    let transfers = ledger(&world).await;
    let ids: Vec<TransferId> = transfers.iter().map(|new| new.terms.id).collect();
    let of_transfers = async |ids: &[TransferId]| {
        let found = world.store.entry_faults_of(SHARD, ids).await.unwrap();
        found
            .into_iter()
            .map(|fault| (fault.account, fault.balance_after, fault.expected))
            .collect()
    };
    let of_accounts = async |id: &str| {
        let found = world.store.chain_faults_of(SHARD, &[account(id)]).await.unwrap();
        found
            .into_iter()
            .map(|fault| (fault.account, fault.balance_after, fault.expected))
            .collect()
    };
    type Faults = Vec<(AccountId, i64, i128)>;
    let none: Faults = of_transfers(&ids).await;
    assert_eq!(none, []);
    let shift = "UPDATE ledger_entries SET balance_after = balance_after + 1 \
        WHERE account_id = 'alice' AND side = 1";
    world.databases.sql(SHARD, shift).await;
    let wrong: Faults = vec![(account("alice"), 71, 70)];
    let found: Faults = of_transfers(&ids).await;
    assert_eq!(found, wrong);
    let of_another: Faults = of_transfers(&ids[..1]).await;
    assert_eq!(of_another, []);
    let found: Faults = of_accounts("alice").await;
    assert_eq!(found, wrong);
    let of_bob: Faults = of_accounts("bob").await;
    assert_eq!(of_bob, []);
}

pub async fn a_pass_is_moved_by_one_of_several(world: World) {
    let at = |position: &str, ended: Option<i64>| Progress {
        position: position.to_owned(),
        begun_at: Timestamp::from_micros(1),
        ended_at: ended.map(Timestamp::from_micros),
    };
    let move_to = async |from: Option<&Progress>, to: &Progress, watch: &[TransferId]| {
        world.store.move_drift(SHARD, Pass::Recent, from, to, watch).await.unwrap()
    };
    let watched = async |after: u8, limit: u32| {
        let after = TransferId::from_bytes([after; 16]);
        world.store.drift_watched(SHARD, after, limit).await.unwrap()
    };
    let ids = [1, 2, 3].map(|byte| TransferId::from_bytes([byte; 16]));
    let (one, two) = (at("a", None), at("b", Some(7)));
    assert!(move_to(None, &one, &ids[..2]).await);
    assert!(!move_to(None, &two, &ids[2..]).await, "it has begun");
    assert!(!move_to(Some(&two), &two, &ids[2..]).await, "it is elsewhere");
    assert_eq!(watched(0, 10).await, ids[..2]);
    assert!(move_to(Some(&one), &two, &ids[1..]).await);
    let progress = async |pass| world.store.drift_progress(SHARD, pass).await.unwrap();
    assert_eq!((progress(Pass::Recent).await, progress(Pass::Pivots).await), (Some(two), None));
    assert_eq!(watched(0, 2).await, ids[..2]);
    assert_eq!(watched(2, 2).await, ids[2..]);
    world.store.drift_seen(SHARD, &ids[..1]).await.unwrap();
    world.store.drift_seen(SHARD, &[]).await.unwrap();
    assert_eq!(watched(0, 10).await, ids[1..]);
}
