//! What the Kafka adapter promises beyond the port: outages, slow workers, deleted records.

use super::support::{
    Fixture, PARTITIONS, TOPIC, eventually, group, kafka_settings, marked, read, record, send,
    sent, within,
};
use crate::services::{own_services, services};
use holdfast::broker::kafka::{KafkaBroker, KafkaSettings};
use holdfast::broker::{Broker, BrokerError, Family, Incoming, Position, Topic};
use holdfast::domain::{Partition, Shard};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Settings for an address where nobody listens.
fn nowhere() -> KafkaSettings {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    kafka_settings(&free.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_delays_records_and_loses_none() {
    let own = own_services("kafka", 0).await;
    let broker = KafkaBroker::new(kafka_settings(&own.kafka)).unwrap();
    broker.create_topics(&[TOPIC], PARTITIONS).await.unwrap();
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    let producer = broker.producer().await.unwrap();
    within("first", producer.send((0..100).map(|n| record(0, n)).collect())).await.unwrap();
    let records = read(&mut *consumer, 100).await;
    consumer.commit(&marked(&records));
    eventually("commit", || async {
        broker.lag(&group("hold"), &[TOPIC]).await.unwrap()[0].committed == Some(100)
    })
    .await;
    own.control("kafka", "kill").await.unwrap();
    let waiting: Vec<_> = (1..5)
        .map(|call| producer.send((0..100).map(|n| record(0, call * 100 + n)).collect()))
        .collect();
    let silent = within("ping", broker.ping()).await;
    assert!(matches!(silent, Err(BrokerError::Unavailable { .. })), "{silent:?}");
    own.control("kafka", "start").await.unwrap();
    within("all", futures::future::try_join_all(waiting)).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 400 {
        match within("next", consumer.next(100)).await {
            Ok(Incoming::Records(records)) => numbers.extend(records.iter().map(sent)),
            Ok(Incoming::Revoked(_, token)) => drop(token),
            Err(error) => assert!(matches!(error, BrokerError::Unavailable { .. }), "{error}"),
        }
    }
    assert_eq!(numbers, (100..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_an_answer_in_bounded_time() {
    let broker = KafkaBroker::new(nowhere()).unwrap();
    let position = Position { topic: TOPIC, partition: Partition(0), offset: 0 };
    let results = within("every call", async {
        [
            broker.ping().await.err(),
            broker.missing_topics(&[TOPIC], 1).await.err(),
            broker.create_topics(&[TOPIC], 1).await.err(),
            broker.consumer(&group("hold"), &[TOPIC]).await.err(),
            broker.lag(&group("hold"), &[TOPIC]).await.err(),
            broker.read_at(position).await.err(),
        ]
    });
    for error in results.await {
        assert!(matches!(error, Some(BrokerError::Unavailable { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn a_dropped_producer_blocks_nobody_and_fails_what_it_had_queued() {
    let producer = KafkaBroker::new(nowhere()).unwrap().producer().await.unwrap();
    let waiting = producer.send((0..1000).map(|n| record(0, n)).collect());
    let begun = Instant::now();
    drop(producer);
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    let result = within("failure", waiting).await;
    assert!(matches!(result, Err(BrokerError::Broken(_))), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_consumer_blocks_nobody() {
    let fixture = Fixture::kafka().await;
    send(&fixture, vec![record(0, 1)]).await;
    let mut consumer = fixture.consumer(&group("hold")).await;
    read(&mut *consumer, 1).await;
    let begun = Instant::now();
    drop((consumer, fixture));
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_option_that_librdkafka_does_not_know_is_refused_with_its_name() {
    let mut settings = nowhere();
    settings.options.push(("no.such.option".to_owned(), "1".to_owned()));
    let error = KafkaBroker::new(settings).err().unwrap();
    assert!(error.to_string().contains("no.such.option"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_dropped_has_committed_and_left_once_the_broker_says_so() {
    let settings = kafka_settings(&services().await.kafka);
    let broker = KafkaBroker::new(settings.clone()).unwrap();
    broker.create_topics(&[TOPIC], PARTITIONS).await.unwrap();
    let producer = broker.producer().await.unwrap();
    within("send", producer.send(vec![record(0, 1)])).await.unwrap();
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    let records = read(&mut *consumer, 1).await;
    consumer.commit(&marked(&records));
    drop(consumer);
    within("leaving", broker.left()).await;
    assert_eq!(broker.lag(&group("hold"), &[TOPIC]).await.unwrap()[0].committed, Some(1));
    let name = format!("{}{}", settings.topic_prefix, group("hold"));
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &settings.brokers).create().unwrap();
    let groups = client.fetch_group_list(Some(&name), Duration::from_secs(30)).unwrap();
    assert!(groups.groups().iter().all(|group| group.members().is_empty()));
}

/// Hazard 42: a coordinator that is taking office says so in the place of offsets; librdkafka by
/// itself may not ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_refuses_to_say_where_a_group_stands_is_asked_again() {
    const NOT_YET: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
    let coordinator = MockCluster::new(1).unwrap();
    let settings = kafka_settings(&coordinator.bootstrap_servers());
    let name = format!("{}{TOPIC}", settings.topic_prefix);
    coordinator.create_topic(&name, PARTITIONS as i32, 1).unwrap();
    let broker = KafkaBroker::new(settings).unwrap();
    let producer = broker.producer().await.unwrap();
    within("send", producer.send((0..10).map(|n| record(0, n)).collect())).await.unwrap();
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    let first = read(&mut *consumer, 6).await;
    consumer.commit(&marked(&first));
    drop(consumer);
    eventually("the commit", || async {
        broker.lag(&group("hold"), &[TOPIC]).await.unwrap()[0].committed == Some(6)
    })
    .await;
    coordinator.request_errors(RDKafkaApiKey::OffsetFetch, &[NOT_YET; 5]);
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    let again: Vec<u32> = read(&mut *consumer, 4).await.iter().map(sent).collect();
    assert_eq!(again, [6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_come_loses_its_share_to_the_others() {
    const RECORDS: u32 = 20_000;
    let fixture = Fixture::kafka().await;
    let mut stuck = fixture.consumer(&group("hold")).await;
    send(&fixture, (0..RECORDS).map(|n| record(n % PARTITIONS, n)).collect()).await;
    let first = read(&mut *stuck, 1).await;
    // It does not call `next` any more: its mailbox fills, its partitions are paused.
    let mut other = fixture.consumer(&group("hold")).await;
    let mut seen: BTreeSet<u32> = first.iter().map(sent).collect();
    seen.extend(read(&mut *other, 5000).await.iter().map(sent));
    let Incoming::Revoked(lost, _) = within("revocation", stuck.next(10)).await.unwrap() else {
        panic!("revocations come before records")
    };
    assert_eq!(lost.len(), PARTITIONS as usize);
    stuck.commit(&marked(&first));
    let (more, rest) = tokio::sync::mpsc::unbounded_channel();
    let readers = [(stuck, more.clone()), (other, more)].map(|(mut consumer, found)| {
        tokio::spawn(async move {
            while let Ok(incoming) = consumer.next(500).await {
                if let Incoming::Records(records) = incoming {
                    records.iter().for_each(|record| found.send(sent(record)).unwrap());
                }
            }
        })
    });
    let mut rest = rest;
    while seen.len() < RECORDS as usize {
        seen.insert(within("the rest", rest.recv()).await.unwrap());
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_records_were_deleted_reading_begins_at_the_first_that_exists() {
    let settings = kafka_settings(&services().await.kafka);
    let broker = KafkaBroker::new(settings.clone()).unwrap();
    broker.create_topics(&[TOPIC], PARTITIONS).await.unwrap();
    let producer = broker.producer().await.unwrap();
    within("send", producer.send((0..10).map(|n| record(2, n)).collect())).await.unwrap();
    delete_before(&settings, 2, 6).await;
    let position = Position { topic: TOPIC, partition: Partition(2), offset: 1 };
    eventually("deletion", || async {
        let found = broker.read_at(position).await.unwrap();
        found.is_some_and(|found| (found.position.offset, sent(&found)) == (6, 6))
    })
    .await;
    let lag = broker.lag(&group("hold"), &[TOPIC]).await.unwrap();
    assert_eq!((lag[2].start, lag[2].end, lag[2].records()), (6, 10, 4));
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    assert_eq!(sent(&read(&mut *consumer, 1).await[0]), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_kept_for_ever_and_events_as_long_as_the_broker_says() {
    let settings = kafka_settings(&services().await.kafka);
    let letters = Topic { family: Family::DeadLetter, shard: Shard(0) };
    let broker = KafkaBroker::new(settings.clone()).unwrap();
    broker.create_topics(&[TOPIC, letters], 1).await.unwrap();
    for (topic, expected) in [(letters, "-1"), (TOPIC, "604800000")] {
        let name = format!("{}{topic}", settings.topic_prefix);
        let asked = [ResourceSpecifier::Topic(&name)];
        let answers =
            admin(&settings).describe_configs(&asked, &AdminOptions::new()).await.unwrap();
        let config = answers.into_iter().next().unwrap().unwrap();
        let retention = config.get("retention.ms").and_then(|entry| entry.value.clone());
        assert_eq!(retention.as_deref(), Some(expected), "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_record_that_the_broker_refuses_nothing_more_of_its_partition_is_written() {
    let settings = kafka_settings(&services().await.kafka);
    let name = format!("{}{TOPIC}", settings.topic_prefix);
    let topic = NewTopic::new(&name, PARTITIONS as i32, TopicReplication::Fixed(1));
    let small_only = topic.set("max.message.bytes", "2000");
    admin(&settings).create_topics([&small_only], &AdminOptions::new()).await.unwrap();
    let broker = KafkaBroker::new(settings).unwrap();
    eventually("topic", || async {
        broker.missing_topics(&[TOPIC], PARTITIONS).await.unwrap().is_empty()
    })
    .await;
    let producer = broker.producer().await.unwrap();
    within("send", producer.send(vec![record(0, 1)])).await.unwrap();
    let mut large = record(0, 2);
    large.value = vec![b'x'; 5000].into();
    let calls: Vec<_> = std::iter::once(producer.send(vec![large]))
        .chain((3..100).map(|n| producer.send(vec![record(0, n)])))
        .collect();
    for result in within("failure", futures::future::join_all(calls)).await {
        assert!(matches!(result, Err(BrokerError::Broken(_))), "{result:?}");
    }
    let lag = broker.lag(&group("hold"), &[TOPIC]).await.unwrap();
    assert_eq!(lag[0].end, 1);
}

fn admin(settings: &KafkaSettings) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &settings.brokers).create().unwrap()
}

async fn delete_before(settings: &KafkaSettings, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    let topic = format!("{}{TOPIC}", settings.topic_prefix);
    list.add_partition_offset(&topic, partition, Offset::Offset(offset)).unwrap();
    admin(settings).delete_records(&list, &AdminOptions::new()).await.unwrap();
}
