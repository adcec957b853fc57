//! What operators do while everything runs: dead letters dealt with.

use super::backend::Backend;
use super::cluster::Cluster;
use super::dead_letters::{forge, record, tamper, unknown};
use super::process::{Process, dollars};
use crate::wait::eventually;
use holdfast::domain::{ClusterId, EventType, Reason, Shard, State, TransferId};
use holdfast::operator::letters::{self, Blocked, Letter, LetterFilter};
use holdfast::operator::{Repairs, Replayed, discard, repair, replay};
use holdfast::roles::Role;
use holdfast::store::{ActFilter, Actor, BalanceRow, Handled, NEWEST};
use std::time::Duration;
use uuid::Uuid;

scenarios! {
    a_dead_letter_is_listed_with_its_money_and_replayed_to_its_end
    what_cannot_be_replayed_says_why_and_is_discarded
    what_stands_still_is_explained_and_driven_to_its_end
    a_hold_that_nobody_settles_is_given_up_by_repair
    projections_that_are_wrong_are_made_anew
}

pub fn zoe() -> Actor {
    Actor { operator: "zoe".to_owned(), reason: Some("the test says so".to_owned()), request: None }
}

async fn listed(process: &Process, filter: LetterFilter) -> Vec<Letter> {
    let (found, next) = letters::letters(&process.context, filter, None, 100).await.unwrap();
    assert_eq!(next, None);
    found
}

async fn open(process: &Process) -> Vec<Letter> {
    listed(process, LetterFilter::default()).await
}

/// Actions of the audit logs of all shards, in order of time.
pub async fn logged(cluster: &Cluster) -> Vec<(String, String)> {
    let mut acts = Vec::new();
    for shard in cluster.store().map().all_shards() {
        let found = cluster.store().acts(shard, &ActFilter::default(), NEWEST, 500).await.unwrap();
        acts.extend(found.into_iter().map(|one| (one.at, one.act.action, one.act.target)));
    }
    acts.sort();
    acts.into_iter().map(|(_, action, target)| (action, target)).collect()
}

async fn a_dead_letter_is_listed_with_its_money_and_replayed_to_its_end(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit, Role::Reconciler]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(id).await;
    tamper(&cluster, &alice, 0).await;
    process.start(&[Role::Credit]);
    eventually("a dead letter", || async { !open(&process).await.is_empty() }).await;

    let [letter] = &open(&process).await[..] else { panic!("one letter") };
    assert_eq!(letter.transfer(), Some(id));
    assert_eq!(letter.blocked, Blocked::Money(State::Held, dollars(100)));
    let dead = letter.content.as_ref().unwrap();
    assert_eq!((dead.role.as_str(), dead.reason.as_str()), ("commit", "invariant"));
    assert_eq!((letter.id.shard, dead.attempt), (Shard(0), 1));

    tamper(&cluster, &alice, 100).await;
    assert_eq!(replay(&process.context, letter, None).await.unwrap(), Replayed::Same);
    assert_eq!(open(&process).await.len(), 1, "a dry run changes nothing");
    assert_eq!(replay(&process.context, letter, Some(&zoe())).await.unwrap(), Replayed::Same);
    cluster.assert_committed(id).await;
    // The same by somebody whose list is old.
    let again = replay(&process.context, letter, Some(&zoe())).await.unwrap();
    assert_eq!(again, Replayed::Already(Handled::Replayed));

    assert_eq!(open(&process).await, []);
    let all = listed(&process, LetterFilter { handled: true, ..LetterFilter::default() }).await;
    let mark = all[0].mark.as_ref().unwrap();
    assert_eq!((mark.operator.as_str(), mark.handled), ("zoe", Handled::Replayed));
    assert_eq!(all[0].blocked, Blocked::Final(State::Committed));
    let replays = logged(&cluster).await;
    let quarantine = ("account.quarantine".to_owned(), alice.to_string());
    assert_eq!(replays, [quarantine, ("dlq.replay".to_owned(), letter.id.to_string())]);
    process.start(&[Role::Reconciler]);
    cluster.finish([process]).await;
}

async fn what_cannot_be_replayed_says_why_and_is_discarded(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let real = process.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(real).await;
    let terms = cluster.transfer(real).await.row.terms;
    let requested = forge(&cluster, &terms, EventType::Requested).await;
    let mut malformed = record(&cluster, &requested);
    malformed.value = b"{\"version\":1}".to_vec().into();
    let mut foreign = requested.clone();
    foreign.cluster = ClusterId(Uuid::from_u128(1));
    let nobody = unknown(&cluster, &alice, &bob).await;
    let nobody = forge(&cluster, &nobody, EventType::Requested).await;
    let mut richer = requested.clone();
    richer.terms.amount = dollars(101);
    let mut of_another_shard = record(&cluster, &requested);
    of_another_shard.topic = holdfast::broker::Topic::of(EventType::Requested, Shard(1));
    cluster
        .produce(vec![
            malformed,
            record(&cluster, &foreign),
            record(&cluster, &nobody),
            record(&cluster, &richer),
            of_another_shard,
        ])
        .await;
    eventually("five dead letters", || async { open(&process).await.len() == 5 }).await;

    let mut why = Vec::new();
    for letter in open(&process).await {
        let result = replay(&process.context, &letter, Some(&zoe())).await.unwrap();
        let reason = letter.content.as_ref().unwrap().reason.clone();
        why.push((letter.id.shard.0, reason, result));
    }
    let not = |shard: u16, reason: &str, words: &str| {
        let found = why.iter().find(|(on, found, _)| (*on, found.as_str()) == (shard, reason));
        let Some((_, _, Replayed::Not(sentence))) = found else { panic!("{reason}: {found:?}") };
        assert!(sentence.contains(words), "{sentence}");
    };
    not(0, "malformed", "cannot be read");
    not(0, "foreign_cluster", "another cluster");
    not(0, "no_row", "no row");
    not(1, "contradiction", "another shard");
    // What the forged amount was about has long ended: that is announced once more.
    let from_rows = Replayed::FromRows("transfer.committed");
    assert!(why.contains(&(0, "contradiction".to_owned(), from_rows)), "{why:?}");

    let rest = open(&process).await;
    assert_eq!(rest.len(), 4);
    for letter in &rest {
        assert!(discard(&process.context, letter, &zoe()).await.unwrap());
        assert!(!discard(&process.context, letter, &zoe()).await.unwrap());
    }
    assert_eq!(open(&process).await, []);
    let acts = logged(&cluster).await;
    let count = |action: &str| acts.iter().filter(|(name, _)| name == action).count();
    assert_eq!((acts.len(), count("dlq.discard"), count("dlq.replay")), (5, 4, 1));
    // Paged, one by one, with the same result.
    let all = LetterFilter { handled: true, shard: Some(Shard(0)) };
    let (mut after, mut paged) = (None, Vec::new());
    loop {
        let (page, next) = letters::letters(&process.context, all, after, 1).await.unwrap();
        paged.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, listed(&process, all).await);
    assert_eq!(paged.len(), 4);
    cluster.finish([process]).await;
}

/// What repair says of one transfer or account: why it stands, and what is done.
fn line(repairs: &Repairs, target: &str) -> Option<(String, Option<String>)> {
    let found = repairs.repairs.iter().find(|one| one.target == target)?;
    Some((found.why.join("; "), found.action.clone()))
}

async fn transfer_line(process: &Process, id: TransferId) -> Option<(String, Option<String>)> {
    let found = repair(&process.context, None).await;
    assert_eq!(found.faults, [] as [String; 0]);
    line(&found, &id.to_string())
}

/// Three transfers stand still, each for a reason of its own; no reconciler runs.
async fn what_stands_still_is_explained_and_driven_to_its_end(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Reconciler, Role::Relay, Role::Commit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let unpublished = process.transfer(&alice, &bob, 1).await;
    eventually("an explanation", || async {
        let line = transfer_line(&process, unpublished).await;
        line.is_some_and(|(why, action)| why.contains("the relay is behind") && action.is_none())
    })
    .await;
    process.start(&[Role::Relay]);
    cluster.pivot(unpublished).await.unwrap();
    eventually("an explanation", || async {
        let line = transfer_line(&process, unpublished).await;
        line.is_some_and(|(why, action)| why.contains("commit has yet to read") && action.is_none())
    })
    .await;
    process.start(&[Role::Commit]);
    cluster.assert_committed(unpublished).await;

    // Credit lets it go while shard 1 is away, and nobody drives it again.
    process.shard(1).down(true);
    let let_go = process.transfer(&alice, &bob, 10).await;
    cluster.until_hold_is_known(let_go).await;
    process.caught_up(&[Role::Credit]).await;
    eventually("an explanation", || async {
        let found = repair(&process.context, None).await;
        let line = line(&found, &let_go.to_string());
        !found.faults.is_empty()
            && line
                .is_some_and(|(why, action)| why.contains("shard 1 does not") && action.is_none())
    })
    .await;
    // What credit has under way could still succeed once the shard is back.
    process.stop(&[Role::Credit]).await;
    process.shard(1).down(false);
    eventually("something to be done", || async {
        let line = transfer_line(&process, let_go).await;
        line.is_some_and(|(_, action)| action.is_some_and(|it| it.contains("transfer.held")))
    })
    .await;
    assert_eq!(logged(&cluster).await, [], "a dry run leaves nothing");
    assert_eq!(cluster.state(let_go).await.0, State::Held);
    process.start(&[Role::Credit]);
    repair(&process.context, Some(&zoe())).await;
    cluster.assert_committed(let_go).await;
    let acts = logged(&cluster).await;
    assert!(acts.contains(&("transfer.retry".to_owned(), let_go.to_string())), "{acts:?}");
    // Nothing is left to be done.
    let again = repair(&process.context, Some(&zoe())).await;
    assert_eq!(line(&again, &let_go.to_string()), None);
    process.start(&[Role::Reconciler]);
    cluster.finish([process]).await;
}

async fn a_hold_that_nobody_settles_is_given_up_by_repair(backend: Backend) {
    let cluster = Cluster::with(backend, |policy| {
        policy.hold_timeout = Duration::from_secs(1);
        policy.foreign_shard_timeout = Duration::from_millis(200);
    })
    .await;
    let process = cluster.process();
    process.start_all_but(&[Role::Reconciler]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    process.shard(1).down(true);
    let id = process.transfer(&alice, &bob, 10).await;
    cluster.until_hold_is_known(id).await;
    process.caught_up(&[Role::Credit]).await;
    process.stop(&[Role::Credit]).await;
    process.shard(1).down(false);
    eventually("a hold past its deadline", || async {
        let line = transfer_line(&process, id).await;
        line.is_some_and(|(why, action)| {
            why.contains("past its deadline") && action.is_some_and(|it| it.contains("REFUSED"))
        })
    })
    .await;
    repair(&process.context, Some(&zoe())).await;
    cluster.assert_refused(id, Reason::HoldTimeout).await;
    let acts = logged(&cluster).await;
    assert_eq!(acts, [("transfer.cancel".to_owned(), id.to_string())]);
    assert_eq!(cluster.money(&alice).await, (0, 0));
    process.start(&[Role::Credit, Role::Reconciler]);
    cluster.finish([process]).await;
}

async fn projections_that_are_wrong_are_made_anew(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Projector, Role::Reconciler]);
    let alice = cluster.account(0, 1000).await;
    let row = cluster.row(&alice).await;
    let mut wrong = row.clone();
    wrong.posted = 5;
    let as_of = cluster.store().now(Shard(0)).await.unwrap();
    let balance = BalanceRow { row: wrong, as_of };
    cluster.store().project_balances(Shard(0), std::slice::from_ref(&balance)).await.unwrap();
    if let Some(cache) = cluster.cache() {
        let ahead =
            BalanceRow { row: holdfast::domain::AccountRow { version: 99, ..balance.row }, as_of };
        cache.set_newer(&[ahead]).await.unwrap();
    }
    let copies = if cluster.cache().is_some() { 2 } else { 1 };
    let would = repair(&process.context, None).await;
    assert_eq!(would.repairs.len(), copies, "{would:?}");
    assert!(would.acts());
    let done = repair(&process.context, Some(&zoe())).await;
    assert_eq!(done.repairs.len(), copies, "{done:?}");
    let projected = cluster.store().balance(Shard(0), &alice).await.unwrap().unwrap();
    assert_eq!(projected.row, row);
    if let Some(cache) = cluster.cache() {
        assert_eq!(cache.get(&alice).await.unwrap().unwrap().row, row);
    }
    let acts = logged(&cluster).await;
    assert_eq!(acts, vec![("projection.rebuild".to_owned(), alice.to_string()); copies]);
    assert!(repair(&process.context, Some(&zoe())).await.repairs.is_empty());
    process.start(&[Role::Projector, Role::Reconciler]);
    cluster.finish([process]).await;
}
