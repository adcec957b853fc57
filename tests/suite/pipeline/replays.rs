//! Events that come twice, late, in another order, or all over again.

use super::backend::Backend;
use super::cluster::Cluster;
use super::faults::SendFault;
use super::process::{Process, ROLES, request};
use crate::wait::eventually;
use holdfast::domain::{AccountId, AccountRow, Reason, TransferId};
use holdfast::roles::Role;
use holdfast::store::Actor;
use holdfast::store::SourceFact;

scenarios! {
    a_replay_of_every_topic_from_its_start_changes_nothing
    events_that_come_twice_and_in_any_order_change_nothing
    a_step_that_died_between_its_commit_and_its_events_announces_them_later
    a_step_whose_commit_is_unconfirmed_reads_again_before_it_speaks
    a_relay_that_died_between_publishing_and_marking_publishes_twice
    a_relay_that_is_told_to_end_leaves_nothing_to_publish_twice
    a_producer_that_fails_in_the_middle_of_a_batch_leaves_no_gap
    roles_that_are_killed_in_mid_work_lose_and_repeat_nothing
    a_member_that_forgot_its_offsets_changes_nothing
}

const STEPS: [Role; 4] = [Role::Hold, Role::Credit, Role::Commit, Role::Projector];

/// Transfers that end in every way there is.
async fn a_mixture(cluster: &Cluster, process: &Process) -> Vec<TransferId> {
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 50).await);
    let closed = cluster.account(1, 0).await;
    process.ingress.close_account(&closed, &Actor::itself()).await.unwrap();
    let nobody = cluster.name(0);
    let mut ids = Vec::new();
    for (from, to, amount) in [
        (&alice, &bob, 100),
        (&bob, &alice, 120),
        (&alice, &closed, 10),
        (&bob, &nobody, 10),
        (&nobody, &bob, 10),
        (&bob, &alice, 5000),
        (&alice, &bob, 7),
    ] {
        ids.push(process.transfer(from, to, amount).await);
    }
    ids
}

/// All that a replay must leave as it is.
async fn standing(cluster: &Cluster) -> (Vec<SourceFact>, Vec<AccountRow>) {
    let mut rows = Vec::new();
    for shard in cluster.store().map().all_shards() {
        rows.extend(cluster.store().decision_rows(shard, None, 10_000).await.unwrap());
    }
    (cluster.transfers().await, rows)
}

async fn a_replay_of_every_topic_from_its_start_changes_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let early = process.transfer(&alice, &bob, 1).await;
    process.ingress.cancel(early, Reason::CancelledByClient).await.unwrap();
    process.start_all_but(&[Role::Credit]);
    let late = process.transfer(&alice, &bob, 1).await;
    cluster.until_held(late).await;
    process.ingress.cancel(late, Reason::CancelledByOperator).await.unwrap();
    process.start(&[Role::Credit]);
    a_mixture(&cluster, &process).await;
    cluster.settled().await;
    process.caught_up(&STEPS).await;
    process.stop_all().await;
    let before = standing(&cluster).await;

    let again = cluster.process();
    again.broker.new_groups("again");
    again.start(&STEPS);
    // What a replayed step emits is read by the next one, so one pass is not enough.
    for _ in 0..2 {
        again.caught_up(&STEPS).await;
    }
    assert_eq!(standing(&cluster).await, before);
    assert!(cluster.dead_letters(0).await.is_empty() && cluster.dead_letters(1).await.is_empty());
    cluster.finish([again]).await;
}

async fn events_that_come_twice_and_in_any_order_change_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.broker.scramble(true);
    process.start_all();
    let accounts = accounts(&cluster, 6).await;
    for amount in 1..=60 {
        let (from, to) = (amount as usize % 6, (amount as usize * 5 + 1) % 6);
        if from != to {
            process.submit(&request(&accounts[from], &accounts[to], amount)).await;
        }
    }
    a_mixture(&cluster, &process).await;
    cluster.finish([process]).await;
}

async fn accounts(cluster: &Cluster, count: u16) -> Vec<AccountId> {
    let mut accounts = Vec::new();
    for number in 0..count {
        accounts.push(cluster.account(number % 2, 300).await);
    }
    accounts
}

/// No step lets a transfer go for a busy machine: there is no reconciler to drive it again.
async fn patient(backend: Backend) -> Cluster {
    Cluster::with(backend, |policy| policy.foreign_shard_timeout = crate::wait::DEADLINE).await
}

async fn a_step_that_died_between_its_commit_and_its_events_announces_them_later(backend: Backend) {
    for role in [Role::Hold, Role::Credit, Role::Commit] {
        let cluster = patient(backend).await;
        let (dying, others) = (cluster.process(), cluster.process());
        dying.broker.sends([SendFault::After(0), SendFault::After(0), SendFault::After(1)]);
        dying.start(&[role]);
        others.start_all_but(&[role, Role::Reconciler]);
        let ids = a_mixture(&cluster, &others).await;
        for id in ids {
            cluster.end_of(id).await;
        }
        eventually("every fault", || async { dying.broker.all_sends_failed() }).await;
        cluster.finish([dying, others]).await;
    }
}

async fn a_step_whose_commit_is_unconfirmed_reads_again_before_it_speaks(backend: Backend) {
    use super::faults::Unconfirmed::{Lost, Written};
    for role in [Role::Hold, Role::Credit, Role::Commit] {
        let cluster = patient(backend).await;
        let (unsure, others) = (cluster.process(), cluster.process());
        for shard in 0..2 {
            unsure.shard(shard).unconfirmed([Written, Lost, Written, Written, Lost]);
        }
        unsure.start(&[role]);
        others.start_all_but(&[role, Role::Reconciler]);
        let ids = a_mixture(&cluster, &others).await;
        for id in ids {
            cluster.end_of(id).await;
        }
        cluster.finish([unsure, others]).await;
    }
}

async fn a_relay_that_died_between_publishing_and_marking_publishes_twice(backend: Backend) {
    let cluster = patient(backend).await;
    let (dying, others) = (cluster.process(), cluster.process());
    dying.broker.sends([SendFault::Unanswered, SendFault::Unanswered]);
    others.start_all_but(&[Role::Relay, Role::Reconciler]);
    let ids = a_mixture(&cluster, &others).await;
    dying.start(&[Role::Relay]);
    for id in ids {
        cluster.end_of(id).await;
    }
    eventually("every fault", || async { dying.broker.all_sends_failed() }).await;
    cluster.finish([dying, others]).await;
}

async fn a_relay_that_is_told_to_end_leaves_nothing_to_publish_twice(backend: Backend) {
    let cluster = patient(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Reconciler]);
    let (alice, bob) = (cluster.account(0, 1_000).await, cluster.account(1, 0).await);
    for _ in 0..5 {
        let id = process.transfer(&alice, &bob, 1).await;
        cluster.assert_committed(id).await;
    }
    process.stop(&[Role::Relay]).await;
    for shard in cluster.store().map().all_shards() {
        assert_eq!(cluster.store().outbox_depth(shard).await.unwrap().0, 0);
    }
    cluster.finish([process]).await;
}

/// Hazard 25: of five records the second and third never reach the broker, the others do. A
/// producer that failed is dropped with all it had queued, and the next begins at the first record
/// that is not marked: each source's requests arrive in the order of their acceptance.
async fn a_producer_that_fails_in_the_middle_of_a_batch_leaves_no_gap(backend: Backend) {
    let cluster = patient(backend).await;
    let (relay, others) = (cluster.process(), cluster.process());
    let (alice, bob) = (cluster.account(0, 1_000).await, cluster.account(1, 0).await);
    let requests = (0..20).map(|_| request(&alice, &bob, 1)).collect();
    let mut ids = Vec::new();
    for answer in others.ingress.submit_many(requests).await {
        ids.push(answer.unwrap().transfer.row.terms.id);
    }
    relay.broker.sends([SendFault::After(7), SendFault::After(3), SendFault::After(12)]);
    others.start_all_but(&[Role::Relay, Role::Reconciler]);
    relay.start(&[Role::Relay]);
    cluster.settled().await;
    let records = cluster.events(holdfast::domain::EventType::Requested, 0).await;
    let mut first_seen: Vec<TransferId> = Vec::new();
    for record in &records {
        let id = holdfast::broker::envelope::event(record).unwrap().terms.id;
        if !first_seen.contains(&id) {
            first_seen.push(id);
        }
    }
    assert_eq!(first_seen, ids);
    cluster.finish([relay, others]).await;
}

async fn roles_that_are_killed_in_mid_work_lose_and_repeat_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let accounts = accounts(&cluster, 6).await;
    for (round, role) in ROLES.into_iter().chain(ROLES).enumerate() {
        let requests = (0..40_usize).map(|number| {
            let (from, to) = ((number + round) % 6, (number * 3 + round + 1) % 6);
            let to = if from == to { (to + 1) % 6 } else { to };
            request(&accounts[from], &accounts[to], 1 + number as i64)
        });
        let answers = process.ingress.submit_many(requests.collect()).await;
        process.abort(&[role]).await;
        process.start(&[role]);
        answers.into_iter().for_each(|answer| drop(answer.unwrap()));
    }
    cluster.finish([process]).await;
}

async fn a_member_that_forgot_its_offsets_changes_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (zombie, successor) = (cluster.process(), cluster.process());
    zombie.broker.forget_offsets(true);
    zombie.start_all();
    a_mixture(&cluster, &zombie).await;
    cluster.settled().await;
    let before = standing(&cluster).await;
    zombie.stop(&STEPS).await;
    successor.start(&STEPS);
    successor.caught_up(&STEPS).await;
    assert_eq!(standing(&cluster).await, before);
    cluster.finish([zombie, successor]).await;
}
