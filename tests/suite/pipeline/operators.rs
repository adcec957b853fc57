//! What operators do while everything runs: dead letters dealt with.

use super::backend::Backend;
use super::cluster::Cluster;
use super::dead_letters::{forge, record, tamper, unknown};
use super::process::{Process, dollars};
use crate::wait::eventually;
use holdfast::domain::{ClusterId, EventType, Shard, State};
use holdfast::operator::letters::{self, Blocked, Letter, LetterFilter};
use holdfast::operator::{Replayed, discard, replay};
use holdfast::roles::Role;
use holdfast::store::{ActFilter, Actor, Handled, NEWEST};
use uuid::Uuid;

scenarios! {
    a_dead_letter_is_listed_with_its_money_and_replayed_to_its_end
    what_cannot_be_replayed_says_why_and_is_discarded
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
    assert_eq!(replays, [("dlq.replay".to_owned(), letter.id.to_string())]);
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
    malformed.value = b"{\"version\":1}".to_vec();
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
