//! What the embedded log promises beyond the port.

use super::support::{
    PARTITIONS, TOPIC, eventually, group, marked, read, record, reopen, sent, within,
};
use holdfast::broker::embedded::{EmbeddedBroker, EmbeddedSettings, JournalError};
use holdfast::broker::{Broker, BrokerError, Position, Record};
use holdfast::domain::Partition;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

async fn create(dir: &Path, settings: impl FnOnce(&mut EmbeddedSettings)) -> EmbeddedBroker {
    let mut all = EmbeddedSettings::new(dir);
    settings(&mut all);
    let broker = reopen(all).await;
    broker.create_topics(&[TOPIC], PARTITIONS).await.unwrap();
    broker
}

async fn send(broker: &dyn Broker, records: Vec<Record>) {
    within("acknowledgement", broker.producer().await.unwrap().send(records)).await.unwrap();
}

/// The journal's files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .collect();
    paths.sort();
    paths
}

/// A copy as another machine would see it: nothing is open there.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for path in segments(from) {
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// The numbers of partition 0's records, in order.
async fn numbers(dir: &Path) -> Vec<u32> {
    let broker = reopen(EmbeddedSettings::new(dir)).await;
    let end = broker.lag(&group("hold"), &[TOPIC]).await.unwrap()[0].end;
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    read(&mut *consumer, end as usize).await.iter().map(sent).collect()
}

#[tokio::test]
async fn a_second_process_is_told_that_the_directory_is_in_use() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    let error = EmbeddedBroker::open(EmbeddedSettings::new(dir.path())).err().unwrap();
    assert!(matches!(error, JournalError::InUse { .. }));
    assert!(error.to_string().contains("in use by another holdfast process"), "{error}");
    drop(broker);
    reopen(EmbeddedSettings::new(dir.path())).await;
}

#[tokio::test]
async fn the_lock_lasts_as_long_as_a_producer_or_consumer() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    let producer = broker.producer().await.unwrap();
    drop(broker);
    assert!(EmbeddedBroker::open(EmbeddedSettings::new(dir.path())).is_err());
    producer.send(vec![record(0, 1)]).await.unwrap();
    drop(producer);
    assert_eq!(numbers(dir.path()).await, [1]);
}

#[tokio::test]
async fn a_read_only_open_sees_what_another_process_has_written_and_committed() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    let reader = EmbeddedBroker::open_read_only(dir.path()).unwrap();
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    send(&broker, (0..5).map(|n| record(0, n)).collect()).await;
    let records = read(&mut *consumer, 5).await;
    consumer.commit(&marked(&records[..2]));
    eventually("commit in the journal", || async {
        reader.lag(&group("hold"), &[TOPIC]).await.unwrap()[0].committed == Some(2)
    })
    .await;
    let position = Position { topic: TOPIC, partition: Partition(0), offset: 3 };
    assert_eq!(reader.read_at(position).await.unwrap().map(|record| sent(&record)), Some(3));
    assert!(reader.missing_topics(&[TOPIC], PARTITIONS).await.unwrap().is_empty());
    assert!(reader.producer().await.is_err());
    assert!(reader.consumer(&group("hold"), &[TOPIC]).await.is_err());
}

#[tokio::test]
async fn committed_offsets_are_written_when_the_log_is_closed() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    send(&broker, vec![record(0, 1), record(0, 2)]).await;
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    let records = read(&mut *consumer, 2).await;
    consumer.commit(&marked(&records));
    drop((broker, consumer));
    let reader = EmbeddedBroker::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.lag(&group("hold"), &[TOPIC]).await.unwrap()[0].committed, Some(2));
}

#[tokio::test]
async fn a_torn_end_costs_only_what_was_not_acknowledged() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    let mut lengths = Vec::new();
    for n in 0..4 {
        send(&broker, vec![record(0, n)]).await;
        lengths.push(fs::metadata(&segments(dir.path())[0]).unwrap().len());
    }
    for length in lengths[1]..=lengths[3] {
        let crashed = copy(dir.path());
        let file = fs::File::options().write(true).open(&segments(crashed.path())[0]).unwrap();
        file.set_len(length).unwrap();
        let whole = lengths.iter().filter(|end| **end <= length).count() as u32;
        assert_eq!(numbers(crashed.path()).await, (0..whole).collect::<Vec<_>>(), "at {length}");
        let broker = create(crashed.path(), |_| {}).await;
        send(&broker, vec![record(0, whole)]).await;
        drop(broker);
        assert_eq!(numbers(crashed.path()).await, (0..=whole).collect::<Vec<_>>(), "at {length}");
    }
}

#[tokio::test]
async fn damage_before_the_last_frame_is_an_error_wherever_it_is() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    send(&broker, vec![record(0, 0)]).await;
    let acknowledged = fs::metadata(&segments(dir.path())[0]).unwrap().len() as usize;
    send(&broker, vec![record(0, 1)]).await;
    for at in 0..acknowledged {
        let damaged = copy(dir.path());
        let path = &segments(damaged.path())[0];
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
        let error = EmbeddedBroker::open(EmbeddedSettings::new(damaged.path())).err();
        assert!(matches!(error, Some(JournalError::Damaged { .. })), "byte {at}: {error:?}");
    }
}

#[tokio::test]
async fn a_missing_segment_is_an_error() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |settings| settings.segment_bytes = 4096).await;
    for n in 0..100 {
        send(&broker, vec![record(0, n)]).await;
    }
    drop(broker);
    fs::remove_file(&segments(dir.path())[1]).unwrap();
    let error = EmbeddedBroker::open(EmbeddedSettings::new(dir.path())).err();
    assert!(matches!(error, Some(JournalError::Damaged { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_in_the_middle_of_writing_has_everything_acknowledged_before_it() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    let producer = broker.producer().await.unwrap();
    let (acknowledged, latest) = tokio::sync::watch::channel(0);
    let writing = tokio::spawn(async move {
        for n in 0..2000 {
            producer.send(vec![record(0, n)]).await.unwrap();
            acknowledged.send_replace(n + 1);
        }
    });
    for least in [100, 700, 1500] {
        within("writing", latest.clone().wait_for(|n| *n >= least)).await.unwrap();
        let before = *latest.borrow();
        let found = numbers(copy(dir.path()).path()).await;
        assert!(found.len() as u32 >= before);
        assert_eq!(found, (0..found.len() as u32).collect::<Vec<_>>());
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn retention_drops_what_every_group_has_read_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let small = |settings: &mut EmbeddedSettings| {
        (settings.segment_bytes, settings.retention_bytes) = (8192, 16384);
    };
    let broker = create(dir.path(), small).await;
    let mut fast = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    let mut slow = broker.consumer(&group("credit"), &[TOPIC]).await.unwrap();
    for n in 0..500 {
        send(&broker, vec![record(0, n)]).await;
    }
    let records = read(&mut *fast, 500).await;
    fast.commit(&marked(&records));
    for n in 500..1000 {
        send(&broker, vec![record(0, n)]).await;
    }
    assert_eq!(broker.lag(&group("credit"), &[TOPIC]).await.unwrap()[0].start, 0);
    let records = read(&mut *slow, 1000).await;
    assert_eq!(records.iter().map(sent).collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
    slow.commit(&marked(&records[..400]));
    for n in 1000..1200 {
        send(&broker, vec![record(0, n)]).await;
    }
    let start = broker.lag(&group("credit"), &[TOPIC]).await.unwrap()[0].start;
    assert!((1..=400).contains(&start), "{start}");
    let position = Position { topic: TOPIC, partition: Partition(0), offset: 0 };
    let first = broker.read_at(position).await.unwrap().unwrap();
    assert_eq!(first.position.offset, start, "the first that still exists");
    drop((broker, fast, slow));
    let broker = create(dir.path(), small).await;
    let mut slow = broker.consumer(&group("credit"), &[TOPIC]).await.unwrap();
    assert_eq!(sent(&read(&mut *slow, 1).await[0]), 400, "offsets outlive their segments");
}

#[tokio::test]
async fn damage_in_an_old_segment_is_an_error_when_it_is_read() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |settings| settings.segment_bytes = 4096).await;
    for n in 0..100 {
        send(&broker, vec![record(0, n)]).await;
    }
    drop(broker);
    let oldest = &segments(dir.path())[0];
    let mut bytes = fs::read(oldest).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(oldest, bytes).unwrap();
    let broker = create(dir.path(), |_| {}).await;
    let mut consumer = broker.consumer(&group("hold"), &[TOPIC]).await.unwrap();
    let error = consumer.next(10).await.unwrap_err();
    assert!(error.to_string().contains("is damaged at byte"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_calls_share_their_syncs() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |_| {}).await;
    let producer = broker.producer().await.unwrap();
    let calls: Vec<_> = (0..5000).map(|n| producer.send(vec![record(n % 4, n)])).collect();
    within("all calls", futures::future::try_join_all(calls)).await.unwrap();
    let journal = fs::read(&segments(dir.path())[0]).unwrap();
    let frames = journal.windows(4).filter(|bytes| *bytes == [0xF5, b'h', b'f', 1]).count();
    assert!(frames < 1000, "{frames} frames, each with a sync of its own, for 5000 calls");
}

#[tokio::test]
async fn a_disk_that_fails_stops_the_log_and_says_so() {
    let dir = TempDir::new().unwrap();
    let broker = create(dir.path(), |settings| settings.segment_bytes = 4096).await;
    let producer = broker.producer().await.unwrap();
    dir.close().unwrap();
    let failure = loop {
        // Until the segment is full and the next one cannot be created.
        if let Err(error) = within("answer", producer.send(vec![record(0, 1)])).await {
            break error;
        }
    };
    assert!(matches!(failure, BrokerError::Broken(_)), "{failure}");
    let later = within("answer", producer.send(vec![record(0, 2)])).await;
    assert!(matches!(later, Err(BrokerError::Broken(_))), "{later:?}");
    let state = broker.ping().await.unwrap_err();
    assert!(state.to_string().contains("restart when the disk is well"), "{state}");
    assert!(broker.producer().await.is_err());
}
