//! The contract of the broker port: what every adapter does, and what the pipeline relies on.

mod embedded;
mod kafka;
mod support;

use holdfast::broker::{BrokerError, Incoming, MAX_RECORD_BYTES, Position, Topic};
use holdfast::domain::{EventType, Partition, Shard};
use std::collections::BTreeSet;
use support::{
    Fixture, Members, PARTITIONS, TOPIC, committed, group, marked, read, record, send, sent, within,
};

/// Instantiates every behaviour for every adapter.
macro_rules! contract {
    ($($behaviour:ident)*) => {
        mod on_the_embedded_log {
            use super::support::Fixture;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour(Fixture::embedded().await).await;
            })*
        }

        mod on_kafka {
            use super::support::Fixture;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                super::$behaviour(Fixture::kafka().await).await;
            })*
        }
    };
}

contract! {
    records_of_a_partition_arrive_in_the_order_of_their_sending
    every_part_of_a_record_survives
    a_waiting_consumer_is_woken_by_a_record
    next_gives_no_more_than_it_is_asked_for
    what_was_not_committed_is_delivered_again
    a_group_goes_on_after_what_it_committed
    nothing_acknowledged_is_lost_when_the_broker_is_opened_anew
    a_new_group_begins_at_the_start
    two_groups_do_not_notice_each_other
    members_share_partitions_and_never_process_one_at_the_same_time
    a_member_alone_gets_everything_that_others_left
    a_revoked_partition_waits_for_its_drain
    a_record_that_is_too_large_is_refused_and_nothing_of_its_call_is_written
    concurrent_callers_each_keep_their_order
    an_empty_call_is_acknowledged
    topics_are_created_once_and_a_wrong_partition_count_is_noticed
    an_unknown_topic_is_an_error_for_everybody
    a_producer_that_failed_refuses_everything
    lag_is_the_distance_between_what_is_written_and_what_is_committed
    read_at_finds_a_record_without_joining_a_group
    a_partition_is_read_from_any_offset_without_joining_a_group
}

async fn records_of_a_partition_arrive_in_the_order_of_their_sending(fixture: Fixture) {
    let producer = fixture.broker.producer().await.unwrap();
    let calls: Vec<_> = (0..20)
        .map(|call| producer.send((0..10).map(|n| record(n % 2, call * 10 + n)).collect()))
        .collect();
    for call in calls {
        within("acknowledgement", call).await.unwrap();
    }
    let mut consumer = fixture.consumer(&group("hold")).await;
    let records = read(&mut *consumer, 200).await;
    for partition in 0..2 {
        let of_partition = records.iter().filter(|r| r.position.partition == Partition(partition));
        let (offsets, numbers): (Vec<i64>, Vec<u32>) =
            of_partition.map(|r| (r.position.offset, sent(r))).unzip();
        assert_eq!(offsets, (0..100).collect::<Vec<i64>>());
        assert_eq!(numbers, (0..200).filter(|n| n % 2 == partition).collect::<Vec<u32>>());
    }
}

async fn every_part_of_a_record_survives(fixture: Fixture) {
    let mut written = record(3, 1);
    written.key = "zoë:1".into();
    written.value = vec![0, 0xFF, 0xF5, b'\n'].into();
    written.headers = [("ce_id", "1/x"), ("empty", "")].into_iter().collect();
    let mut bare = record(2, 1);
    (bare.value, bare.headers) = Default::default();
    send(&fixture, vec![written.clone(), bare.clone()]).await;
    let mut consumer = fixture.consumer(&group("hold")).await;
    let mut records = read(&mut *consumer, 2).await;
    records.sort_by_key(|record| record.position.partition);
    for (delivered, written) in records.iter().zip([bare, written]) {
        let Position { topic, partition, offset } = delivered.position;
        assert_eq!((topic, partition, offset), (TOPIC, written.partition, 0));
        assert_eq!(delivered.key, written.key);
        assert_eq!(delivered.value, written.value);
        assert_eq!(delivered.headers, written.headers);
        assert_eq!(delivered.timestamp, written.timestamp);
    }
}

async fn a_waiting_consumer_is_woken_by_a_record(fixture: Fixture) {
    let mut consumer = fixture.consumer(&group("hold")).await;
    for n in 0..5 {
        let waiting = async { read(&mut *consumer, 1).await };
        let (records, ()) = tokio::join!(waiting, send(&fixture, vec![record(n % 4, n)]));
        assert_eq!(sent(&records[0]), n);
    }
}

async fn next_gives_no_more_than_it_is_asked_for(fixture: Fixture) {
    send(&fixture, (0..100).map(|n| record(n % PARTITIONS, n)).collect()).await;
    let mut consumer = fixture.consumer(&group("hold")).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 100 {
        if let Incoming::Records(records) = within("next", consumer.next(7)).await.unwrap() {
            assert!((1..=7).contains(&records.len()));
            seen.extend(records.iter().map(sent));
        }
    }
}

async fn what_was_not_committed_is_delivered_again(fixture: Fixture) {
    send(&fixture, (0..10).map(|n| record(0, n)).collect()).await;
    let mut consumer = fixture.consumer(&group("hold")).await;
    let first = read(&mut *consumer, 10).await;
    drop(consumer);
    let mut consumer = fixture.consumer(&group("hold")).await;
    assert_eq!(read(&mut *consumer, 10).await, first);
}

async fn a_group_goes_on_after_what_it_committed(fixture: Fixture) {
    send(&fixture, (0..10).map(|n| record(n % 2, n)).collect()).await;
    let mut consumer = fixture.consumer(&group("hold")).await;
    let records = read(&mut *consumer, 10).await;
    let done: Vec<_> =
        records.iter().filter(|record| record.position.offset < 3).cloned().collect();
    consumer.commit(&marked(&done));
    drop(consumer);
    let fixture = fixture.reopened().await;
    let mut consumer = fixture.consumer(&group("hold")).await;
    let mut again: Vec<u32> = read(&mut *consumer, 4).await.iter().map(sent).collect();
    again.sort_unstable();
    assert_eq!(again, [6, 7, 8, 9]);
}

async fn nothing_acknowledged_is_lost_when_the_broker_is_opened_anew(mut fixture: Fixture) {
    for round in 0..3 {
        send(&fixture, (0..50).map(|n| record(n % PARTITIONS, round * 50 + n)).collect()).await;
        fixture = fixture.reopened().await;
    }
    let mut consumer = fixture.consumer(&group("hold")).await;
    let mut all: Vec<u32> = read(&mut *consumer, 150).await.iter().map(sent).collect();
    all.sort_unstable();
    assert_eq!(all, (0..150).collect::<Vec<u32>>());
}

async fn a_new_group_begins_at_the_start(fixture: Fixture) {
    send(&fixture, vec![record(0, 1)]).await;
    let mut early = fixture.consumer(&group("hold")).await;
    consume_and_commit(&mut *early, 1).await;
    send(&fixture, vec![record(0, 2)]).await;
    let mut late = fixture.consumer(&group("credit")).await;
    assert_eq!(read(&mut *late, 2).await.iter().map(sent).collect::<Vec<_>>(), [1, 2]);
}

async fn two_groups_do_not_notice_each_other(fixture: Fixture) {
    send(&fixture, (0..10).map(|n| record(0, n)).collect()).await;
    let mut hold = fixture.consumer(&group("hold")).await;
    let mut credit = fixture.consumer(&group("credit")).await;
    consume_and_commit(&mut *hold, 10).await;
    assert_eq!(read(&mut *credit, 10).await.len(), 10);
    committed(&fixture, &group("hold"), 10).await;
    let lag = fixture.broker.lag(&group("credit"), &[TOPIC]).await.unwrap();
    assert_eq!(lag[0].committed, None);
}

async fn consume_and_commit(consumer: &mut dyn holdfast::broker::Consumer, count: usize) {
    let records = read(consumer, count).await;
    consumer.commit(&marked(&records));
}

async fn members_share_partitions_and_never_process_one_at_the_same_time(fixture: Fixture) {
    let mut members = Members::new(&fixture);
    members.start("first").await;
    members.start("second").await;
    members.send_until(|by_member| by_member.len() == 2).await;
    members.start("third").await;
    members.send_until(|by_member| by_member.len() == 3).await;
    members.stop("first").await;
    let before = members.processed_by("second") + members.processed_by("third");
    members.send_until(|by_member| by_member["second"] + by_member["third"] > before + 40).await;
    members.assert_each_record_was_processed_once();
}

async fn a_member_alone_gets_everything_that_others_left(fixture: Fixture) {
    let mut leaving = fixture.consumer(&group("hold")).await;
    send(&fixture, (0..PARTITIONS).map(|n| record(n, n)).collect()).await;
    read(&mut *leaving, 1).await;
    let mut staying = fixture.consumer(&group("hold")).await;
    drop(leaving);
    let records = read(&mut *staying, PARTITIONS as usize).await;
    let partitions: BTreeSet<Partition> = records.iter().map(|r| r.position.partition).collect();
    assert_eq!(partitions.len(), PARTITIONS as usize);
}

async fn a_revoked_partition_waits_for_its_drain(fixture: Fixture) {
    let mut first = fixture.consumer(&group("hold")).await;
    send(&fixture, (0..PARTITIONS).map(|n| record(n, n)).collect()).await;
    let records = read(&mut *first, PARTITIONS as usize).await;
    let mut second = fixture.consumer(&group("hold")).await;
    let second = tokio::spawn(async move { read(&mut *second, 1).await });
    let Incoming::Revoked(revoked, token) = within("revocation", first.next(10)).await.unwrap()
    else {
        panic!("the other member must get a share")
    };
    assert!(!second.is_finished(), "nothing is delivered before the drain");
    first.commit(&marked(&records));
    drop(token);
    send(&fixture, (0..PARTITIONS).map(|n| record(n, 100 + n)).collect()).await;
    // The first member has to go on, or a Kafka group cannot finish its rebalance.
    let going_on = tokio::spawn(async move { while first.next(10).await.is_ok() {} });
    let taken_over = within("take-over", second).await.unwrap();
    going_on.abort();
    assert!(revoked.contains(&(TOPIC, taken_over[0].position.partition)));
    assert!(sent(&taken_over[0]) >= 100, "what was committed in the drain is not delivered again");
}

async fn a_record_that_is_too_large_is_refused_and_nothing_of_its_call_is_written(
    fixture: Fixture,
) {
    let producer = fixture.broker.producer().await.unwrap();
    let mut largest = record(0, 2);
    largest.value = vec![b'x'; MAX_RECORD_BYTES - largest.bytes() + largest.value.len()].into();
    let mut too_large = largest.clone();
    too_large.value = [&too_large.value[..], b"x"].concat().into();
    let refused = producer.send(vec![record(0, 1), too_large, record(0, 1)]).await;
    assert!(matches!(refused, Err(BrokerError::Refused { index: 1, .. })), "{refused:?}");
    within("largest record", producer.send(vec![largest.clone()])).await.unwrap();
    let mut consumer = fixture.consumer(&group("hold")).await;
    assert_eq!(read(&mut *consumer, 1).await[0].value, largest.value);
}

async fn concurrent_callers_each_keep_their_order(fixture: Fixture) {
    let producer = std::sync::Arc::new(fixture.broker.producer().await.unwrap());
    let callers: Vec<_> = (0..50)
        .map(|caller| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let calls: Vec<_> =
                    (0..20).map(|n| producer.send(vec![record(0, caller * 20 + n)])).collect();
                futures::future::try_join_all(calls).await.unwrap();
            })
        })
        .collect();
    within("all callers", futures::future::try_join_all(callers)).await.unwrap();
    let mut consumer = fixture.consumer(&group("hold")).await;
    let all: Vec<u32> = read(&mut *consumer, 1000).await.iter().map(sent).collect();
    for caller in 0..50 {
        let own: Vec<u32> = all.iter().copied().filter(|n| n / 20 == caller).collect();
        assert_eq!(own, (caller * 20..caller * 20 + 20).collect::<Vec<_>>());
    }
}

async fn an_empty_call_is_acknowledged(fixture: Fixture) {
    let producer = fixture.broker.producer().await.unwrap();
    within("empty call", producer.send(Vec::new())).await.unwrap();
}

async fn topics_are_created_once_and_a_wrong_partition_count_is_noticed(fixture: Fixture) {
    let broker = &fixture.broker;
    let other = Topic::of(EventType::Credited, Shard(1));
    let both = [TOPIC, other];
    let missing = |partitions| broker.missing_topics(&both, partitions);
    assert_eq!(missing(PARTITIONS).await.unwrap(), [other]);
    assert_eq!(missing(PARTITIONS + 1).await.unwrap(), [TOPIC, other]);
    broker.create_topics(&both, PARTITIONS).await.unwrap();
    broker.create_topics(&both, PARTITIONS).await.unwrap();
    assert!(missing(PARTITIONS).await.unwrap().is_empty());
    let wrong = broker.create_topics(&[TOPIC], PARTITIONS + 1).await;
    assert!(matches!(wrong, Err(BrokerError::Topic(_))), "{wrong:?}");
    assert!(missing(PARTITIONS).await.unwrap().is_empty(), "it stays as it was");
}

async fn an_unknown_topic_is_an_error_for_everybody(fixture: Fixture) {
    let broker = &fixture.broker;
    let unknown = Topic::of(EventType::Cancelled, Shard(9));
    let position = Position { topic: unknown, partition: Partition(0), offset: 0 };
    let topics = [TOPIC, unknown];
    let errors = [
        broker.consumer(&group("hold"), &topics).await.err(),
        broker.lag(&group("hold"), &topics).await.err(),
        broker.read_at(position).await.err(),
    ];
    for error in errors {
        assert!(matches!(error, Some(BrokerError::Topic(_))), "{error:?}");
    }
}

async fn a_producer_that_failed_refuses_everything(fixture: Fixture) {
    let producer = fixture.broker.producer().await.unwrap();
    let mut nowhere = record(0, 1);
    nowhere.partition = Partition(PARTITIONS);
    within("failure", producer.send(vec![nowhere])).await.unwrap_err();
    let later = within("refusal", producer.send(vec![record(0, 2)])).await;
    assert!(matches!(later, Err(BrokerError::Broken(_))), "{later:?}");
    drop(producer);
    send(&fixture, vec![record(0, 3)]).await;
    let mut consumer = fixture.consumer(&group("hold")).await;
    assert_eq!(sent(&read(&mut *consumer, 1).await[0]), 3);
}

async fn lag_is_the_distance_between_what_is_written_and_what_is_committed(fixture: Fixture) {
    send(&fixture, (0..6).map(|n| record(n % 2, n)).collect()).await;
    let lag = fixture.broker.lag(&group("hold"), &[TOPIC]).await.unwrap();
    assert_eq!(lag.iter().map(|lag| lag.records()).collect::<Vec<_>>(), [3, 3, 0, 0]);
    assert!(lag.iter().all(|lag| lag.committed.is_none()));
    let mut consumer = fixture.consumer(&group("hold")).await;
    let records = read(&mut *consumer, 6).await;
    let first: Vec<_> = records.iter().filter(|r| r.position.partition == Partition(1)).collect();
    consumer.commit(&[Position { offset: 2, ..first[0].position }]);
    committed(&fixture, &group("hold"), 2).await;
    let lag = fixture.broker.lag(&group("hold"), &[TOPIC]).await.unwrap();
    assert_eq!((lag[1].committed, lag[1].start, lag[1].end), (Some(2), 0, 3));
    assert_eq!((lag[0].records(), lag[1].records()), (3, 1));
}

async fn read_at_finds_a_record_without_joining_a_group(fixture: Fixture) {
    send(&fixture, (0..5).map(|n| record(1, n)).collect()).await;
    let at = |partition, offset| {
        let position = Position { topic: TOPIC, partition: Partition(partition), offset };
        let broker = fixture.broker.clone();
        async move { within("read_at", broker.read_at(position)).await.unwrap() }
    };
    for offset in [3, 0, 4] {
        let found = at(1, offset).await.expect("it was written");
        assert_eq!((found.position.offset, i64::from(sent(&found))), (offset, offset));
    }
    assert_eq!(at(1, 5).await, None);
    assert_eq!(at(0, 0).await, None);
    send(&fixture, vec![record(1, 5)]).await;
    assert_eq!(sent(&at(1, 5).await.expect("it was written since")), 5);
}

/// However a broker cuts it into pieces.
async fn a_partition_is_read_from_any_offset_without_joining_a_group(fixture: Fixture) {
    send(&fixture, (0..300).map(|n| record(1, n)).collect()).await;
    let mut read = Vec::new();
    loop {
        let offset = 100 + read.len() as i64;
        let position = Position { topic: TOPIC, partition: Partition(1), offset };
        let records = within("read_from", fixture.broker.read_from(position, 70)).await.unwrap();
        if records.is_empty() {
            break;
        }
        assert!(records.len() <= 70);
        read.extend(records.iter().map(sent));
    }
    assert_eq!(read, (100..300).collect::<Vec<_>>());
}
