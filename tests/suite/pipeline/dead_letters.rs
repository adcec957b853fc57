//! Events that no step can be made of, and events that only look so.

use super::backend::{Backend, answered};
use super::cluster::{Cluster, PARTITIONS};
use super::process::{dollars, request};
use super::witness::FORGED;
use crate::wait::eventually;
use holdfast::broker::{Group, Incoming, Position, Record, Topic, envelope};
use holdfast::domain::{
    AccountChange, AccountId, Cause, Entry, EntryRow, Event, EventType, Generation, Partition,
    Reason, Shard, State, Terms, TransferId,
};
use holdfast::roles::Role;
use holdfast::routing::slot_of;
use std::collections::BTreeMap;
use uuid::Uuid;

scenarios! {
    what_cannot_be_acted_on_goes_to_the_dead_letters_and_the_partition_goes_on
    a_requested_transfer_in_the_dead_letters_is_cancelled
    a_record_that_the_broker_never_takes_stops_no_relay
    an_event_of_a_newer_release_waits_and_only_its_partition_with_it
    an_event_of_an_older_generation_is_dropped
    an_account_that_breaks_an_invariant_stops_nobody_else
    an_account_whose_versions_collide_stops_nobody_else
}

/// What can be wrong with an event, one thing at a time.
pub async fn forge(cluster: &Cluster, terms: &Terms, kind: EventType) -> Event {
    let shard = cluster.store().map().shard_of(&terms.source);
    let now = cluster.store().now(shard).await.unwrap();
    cluster.store().identity().stamp(now).event(kind, terms)
}

pub fn record(cluster: &Cluster, event: &Event) -> Record {
    let mut record = envelope::record(event, cluster.store().map());
    record.headers = record.headers.with(FORGED, "yes");
    record
}

/// Terms of a transfer that nobody asked for.
pub async fn unknown(cluster: &Cluster, source: &AccountId, destination: &AccountId) -> Terms {
    let now = cluster.store().now(cluster.store().map().shard_of(source)).await.unwrap();
    Terms {
        id: TransferId::mint(now, slot_of(source), 0, rand::random()),
        source: source.clone(),
        destination: destination.clone(),
        amount: dollars(5),
        reverses: None,
    }
}

async fn what_cannot_be_acted_on_goes_to_the_dead_letters_and_the_partition_goes_on(
    backend: Backend,
) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let real = process.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(real).await;
    let real = cluster.transfer(real).await.row.terms;

    let nobody =
        forge(&cluster, &unknown(&cluster, &alice, &bob).await, EventType::Requested).await;
    let requested = forge(&cluster, &real, EventType::Requested).await;
    let credited = forge(&cluster, &real, EventType::Credited).await;
    let mut malformed = record(&cluster, &requested);
    malformed.value = b"{\"version\":1}".to_vec().into();
    let mut foreign = requested.clone();
    foreign.cluster = holdfast::domain::ClusterId(Uuid::from_u128(1));
    let mut richer = requested.clone();
    richer.terms.amount = dollars(101);
    let mut elsewhere = credited.clone();
    elsewhere.terms.destination = alice.clone();
    elsewhere.terms.source = bob.clone();
    elsewhere.terms.id = unknown(&cluster, &alice, &bob).await.id;
    let mut misplaced = record(&cluster, &requested);
    misplaced.partition = Partition((misplaced.partition.0 + 1) % PARTITIONS);
    let mut in_another_topic = record(&cluster, &credited);
    in_another_topic.topic = Topic::of(EventType::Requested, Shard(0));
    let mut of_another_shard = record(&cluster, &requested);
    of_another_shard.topic = Topic::of(EventType::Requested, Shard(1));
    let unasked = forge(&cluster, &unknown(&cluster, &alice, &bob).await, EventType::Refused).await;
    cluster
        .produce(vec![
            malformed,
            record(&cluster, &foreign),
            record(&cluster, &nobody),
            record(&cluster, &richer),
            misplaced,
            in_another_topic,
            of_another_shard,
            record(&cluster, &elsewhere),
            record(&cluster, &unasked),
        ])
        .await;

    let next = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(next).await;
    process.caught_up(&[Role::Hold, Role::Commit, Role::Projector]).await;
    let mut reasons: BTreeMap<(String, String), usize> = BTreeMap::new();
    for shard in 0..2 {
        for letter in cluster.dead_letters(shard).await {
            assert_eq!(letter.origin.shard, Shard(shard));
            assert!(letter.origin.offset.is_some() && !letter.detail.is_empty());
            *reasons.entry((letter.role, letter.reason)).or_default() += 1;
        }
    }
    let expected = [
        ("commit", "contradiction", 2),
        ("hold", "contradiction", 4),
        ("hold", "foreign_cluster", 1),
        ("hold", "malformed", 1),
        ("hold", "no_row", 1),
        ("projector", "contradiction", 1),
    ];
    let expected: BTreeMap<(String, String), usize> = expected
        .into_iter()
        .map(|(role, reason, count)| ((role.to_owned(), reason.to_owned()), count))
        .collect();
    assert_eq!(reasons, expected);
    assert_eq!(cluster.money(&alice).await, (-101, 0));
    cluster.finish([process]).await;
}

/// Hazard 18: a transfer was accepted, its event is in the dead letters, and it is never final.
async fn a_requested_transfer_in_the_dead_letters_is_cancelled(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Relay]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let (thief, neighbour) = (cluster.account(1, 0).await, cluster.account(0, 0).await);
    // Hold reads these before the real ones: they contradict the rows.
    let forgeries: [fn(&mut Terms, &AccountId, &AccountId); 3] = [
        |terms, _, _| terms.amount = dollars(99),
        |terms, thief, _| terms.destination = thief.clone(),
        |terms, _, neighbour| terms.destination = neighbour.clone(),
    ];
    for change in forgeries {
        let id = process.transfer(&alice, &bob, 100).await;
        let mut terms = cluster.transfer(id).await.row.terms;
        change(&mut terms, &thief, &neighbour);
        let forged = forge(&cluster, &terms, EventType::Requested).await;
        cluster.produce(vec![record(&cluster, &forged)]).await;
        cluster.assert_refused(id, Reason::Undeliverable).await;
    }
    process.start(&[Role::Relay]);
    let next = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(next).await;
    let letters = cluster.dead_letters(0).await;
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["contradiction"; 3]);
    assert_eq!(cluster.money(&alice).await, (-1, 0));
    for account in [&thief, &neighbour] {
        assert_eq!(cluster.money(account).await, (0, 0));
    }
    cluster.finish([process]).await;
}

/// Hazard 35: one record is larger than the broker ever takes, and the relay of its shard tries to
/// publish it for ever.
async fn a_record_that_the_broker_never_takes_stops_no_relay(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.broker.largest(4096);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let before = request(&alice, &bob, 1);
    let mut large = request(&alice, &bob, 10);
    large.metadata = Some([("note".to_owned(), "x".repeat(5000))].into());
    let after = request(&alice, &bob, 100);
    let answers = process.ingress.submit_many(vec![before, large, after]).await;
    let ids: Vec<TransferId> =
        answers.into_iter().map(|answer| answer.unwrap().transfer.row.terms.id).collect();
    process.start_all();
    cluster.assert_committed(ids[0]).await;
    cluster.assert_committed(ids[2]).await;
    // The reconciler drives it again without what made it too large, unless the letter was first.
    let moved = match cluster.end_of(ids[1]).await {
        (State::Committed, None) => 111,
        (State::Cancelled, Some(Reason::Undeliverable)) => 101,
        other => panic!("{other:?}"),
    };
    let letters = cluster.dead_letters(0).await;
    // A relay that begins again publishes what it had not marked a second time.
    assert!(!letters.is_empty());
    for letter in letters {
        assert_eq!((letter.role.as_str(), letter.reason.as_str()), ("relay", "too_large"));
        assert_eq!((letter.transfer, letter.origin.offset), (Some(ids[1]), None));
    }
    assert_eq!(cluster.money(&alice).await, (-moved, 0));
    cluster.finish([process]).await;
}

/// Hazard 22: during a rolling upgrade a process of the old release reads an event of the new one
/// and writes it to the dead letters.
async fn an_event_of_a_newer_release_waits_and_only_its_partition_with_it(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let bob = cluster.account(1, 0).await;
    let alice = cluster.account(0, 1000).await;
    let beside = cluster.in_another_partition(&alice).await;
    let before = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(before).await;

    let real = cluster.transfer(before).await.row.terms;
    let mut newer = record(&cluster, &forge(&cluster, &real, EventType::Requested).await);
    newer.value = br#"{"version":2,"something":"else"}"#.to_vec().into();
    let (topic, partition) = (newer.topic, newer.partition);
    cluster.produce(vec![newer]).await;
    let waiting = process.transfer(&alice, &bob, 10).await;
    for _ in 0..3 {
        let passing = process.transfer(&beside, &bob, 100).await;
        cluster.assert_committed(passing).await;
    }
    assert_eq!(cluster.state(waiting).await.0, State::Requested);
    assert!(cluster.dead_letters(0).await.is_empty());

    // An upgraded member of the group takes the event.
    process.stop(&[Role::Hold]).await;
    read_past(&cluster, topic, partition).await;
    process.start(&[Role::Hold]);
    cluster.assert_committed(waiting).await;
    cluster.finish([process]).await;
}

/// Commits, for the group of hold, the newer event and no other.
async fn read_past(cluster: &Cluster, topic: Topic, partition: Partition) {
    let group = Group { role: Role::Hold.as_str(), shard: topic.shard };
    let (broker, topics) = (cluster.broker(), [topic]);
    let mut consumer = answered(|| broker.consumer(&group, &topics)).await.unwrap();
    loop {
        let Incoming::Records(records) = consumer.next(1).await.unwrap() else { continue };
        let position = records[0].position;
        if position.partition == partition {
            assert!(records[0].value.starts_with(br#"{"version":2"#), "it is the next one");
            let after = Position { offset: position.offset + 1, ..position };
            consumer.commit(&[after]);
            drop(consumer);
            eventually("the commit", || async {
                let lags = answered(|| broker.lag(&group, &topics)).await.unwrap();
                lags[partition.0 as usize].committed == Some(after.offset)
            })
            .await;
            return;
        }
    }
}

/// Raising the generation ends every role; what the old ones had published is not acted on, and
/// the reconciler drives from the rows.
async fn an_event_of_an_older_generation_is_dropped(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(id).await;
    let terms = cluster.transfer(id).await.row.terms;
    let generation = cluster.store().identity().generation;
    let mut old = forge(&cluster, &terms, EventType::Credited).await;
    old.generation = Generation(generation.0 - 1);
    cluster.produce(vec![record(&cluster, &old)]).await;
    process.caught_up(&[Role::Commit]).await;
    assert_eq!(cluster.state(id).await.0, State::Held, "nobody was credited");
    assert!(cluster.dead_letters(0).await.is_empty());
    process.start(&[Role::Credit]);
    cluster.assert_committed(id).await;
    cluster.finish([process]).await;
}

/// Hazard 23: an account's row breaks an invariant, the step that finds it ends, is started again,
/// finds it again: one account stops a role.
async fn an_account_that_breaks_an_invariant_stops_nobody_else(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let (alice, carol) = (cluster.account(0, 1000).await, cluster.account(0, 1000).await);
    let bob = cluster.account(1, 0).await;
    let broken = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(broken).await;
    tamper(&cluster, &alice, 0).await;
    process.start(&[Role::Credit]);
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(process.transfer(&carol, &bob, 1).await);
    }
    for id in others {
        cluster.assert_committed(id).await;
    }
    eventually("a quarantine", || async { cluster.row(&alice).await.quarantined }).await;
    let letters = || async { cluster.dead_letters(0).await };
    eventually("a dead letter", || async { !letters().await.is_empty() }).await;
    assert!(letters().await.iter().all(|letter| letter.reason == "invariant"));
    let refused = process.transfer(&alice, &bob, 1).await;
    cluster.assert_refused(refused, Reason::AccountQuarantined).await;
    // Repaired by hand, the transfer goes its way.
    tamper(&cluster, &alice, 100).await;
    cluster.assert_committed(broken).await;
    cluster.finish([process]).await;
}

/// Hazard 23, on the way to the account: its next credit gets a version that an entry has already.
async fn an_account_whose_versions_collide_stops_nobody_else(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    // The drift check would find the entry too, and quarantine the account before any step does.
    process.start_all_but(&[Role::Credit, Role::Reconciler]);
    let alice = cluster.account(0, 1000).await;
    let (bob, carol) = (cluster.account(1, 0).await, cluster.account(1, 0).await);
    let broken = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(broken).await;
    plant_entry(&cluster, &alice, &bob).await;
    process.start(&[Role::Credit]);
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(process.transfer(&alice, &carol, 1).await);
    }
    for id in others {
        cluster.assert_committed(id).await;
    }
    eventually("a quarantine", || async { cluster.row(&bob).await.quarantined }).await;
    let letters = || async { cluster.dead_letters(0).await };
    eventually("a dead letter", || async { !letters().await.is_empty() }).await;
    assert!(letters().await.iter().all(|letter| letter.reason == "invariant"));
    // Quarantine has raised the version: the next attempt goes through.
    process.start(&[Role::Reconciler]);
    cluster.assert_committed(broken).await;
    assert_eq!(cluster.money(&bob).await, (100, 0));
    process.stop_all().await;
}

/// An entry with the account's next version that no step has written.
async fn plant_entry(cluster: &Cluster, source: &AccountId, account: &AccountId) {
    let version = cluster.row(account).await.version + 1;
    let terms = unknown(cluster, source, account).await;
    let mut tx = cluster.store().begin(cluster.store().map().shard_of(account)).await.unwrap();
    let money = Entry { amount: terms.amount, version, balance_after: 0 };
    let entry = EntryRow::pivot_row(&terms, Ok(money), tx.now(), Cause::default());
    tx.insert_entries(&[entry]).await.unwrap();
    tx.commit().await.unwrap();
}

/// Writes another `held` into an account's row, as nothing in the product does.
pub async fn tamper(cluster: &Cluster, account: &AccountId, held: i64) {
    let mut tx = cluster.store().begin(cluster.store().map().shard_of(account)).await.unwrap();
    let row = tx.lock_accounts(&[account.clone()].into()).await.unwrap().remove(account).unwrap();
    let change = AccountChange {
        id: account.clone(),
        posted: row.posted,
        held,
        version_before: row.version,
        version: row.version + 1,
    };
    assert_eq!(tx.write_accounts(&[change]).await.unwrap(), 1);
    tx.commit().await.unwrap();
}
