//! Records to be published.

use super::world::{OTHER, SHARD, World, record};
use holdfast::broker::{Headers, Record, Topic};
use holdfast::domain::EventType;

async fn values(world: &World) -> Vec<Vec<String>> {
    let rows = world.store.outbox(SHARD, 0, 100).await.unwrap();
    let text = |record: Record| String::from_utf8(record.value.to_vec()).unwrap();
    rows.into_iter().map(|row| row.records.unwrap().into_iter().map(text).collect()).collect()
}

pub async fn records_come_back_byte_for_byte(world: World) {
    let values = [
        r#"{"a":"1","b":[1,2.50,1e5],"c":"\u00e9"}"#,
        r#"{"a" :  1 }"#,
        " {} ",
        "",
        "null",
        "not JSON",
        "\"\u{1f600} line\n\"",
        "1.0000000000000000000001",
    ];
    let mut records: Vec<Record> = values.iter().map(|value| record("ali'ce\"", value)).collect();
    records[1].topic = Topic::of(EventType::Cancelled, OTHER);
    records[1].headers = Headers::default();
    world.publish(&records).await;
    let rows = world.store.outbox(SHARD, 0, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].records, Ok(records));
    assert!(rows[0].at.micros() > 0);
}

pub async fn rows_are_unsent_until_they_are_acknowledged(world: World) {
    assert_eq!(world.store.outbox_depth(SHARD).await.unwrap(), (0, None));
    world.publish(&[]).await;
    for value in ["1", "2", "3"] {
        world.publish(&[record("alice", value), record("bob", "0")]).await;
    }
    assert_eq!(values(&world).await, [["1", "0"], ["2", "0"], ["3", "0"]]);
    let rows = world.store.outbox(SHARD, 0, 2).await.unwrap();
    assert_eq!(rows.len(), 2);
    let rest = world.store.outbox(SHARD, rows[1].id, 10).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert!(world.store.outbox(SHARD, rest[0].id, 10).await.unwrap().is_empty());
    let ids = [rows[0].id, rows[1].id, rest[0].id];
    for (known, left) in [(vec![], vec![0, 1, 2]), (vec![1], vec![0, 2]), (vec![0, 2], vec![1])] {
        let known = known.iter().map(|place| ids[*place]).chain([10 * ids[2], 0]).collect();
        let new = world.store.outbox_but(SHARD, &known, 10).await.unwrap();
        let new: Vec<u64> = new.iter().map(|row| row.id).collect();
        assert_eq!(new, left.iter().map(|place| ids[*place]).collect::<Vec<_>>());
    }
    assert_eq!(world.store.outbox_but(SHARD, &[ids[0]].into(), 1).await.unwrap(), rows[1..]);
    let (depth, oldest) = world.store.outbox_depth(SHARD).await.unwrap();
    assert_eq!((depth, oldest), (6, Some(rows[0].at)));
    world.store.outbox_sent(SHARD, &[rows[1].id, rows[0].id]).await.unwrap();
    world.store.outbox_sent(SHARD, &[rows[1].id, 999_999]).await.unwrap();
    world.store.outbox_sent(SHARD, &[]).await.unwrap();
    assert_eq!(values(&world).await, [["3", "0"]]);
    let last = world.store.outbox(SHARD, 0, 1).await.unwrap().remove(0).id;
    world.store.outbox_sent(SHARD, &[last]).await.unwrap();
    world.publish(&[record("alice", "4")]).await;
    let next = world.store.outbox(SHARD, 0, 1).await.unwrap().remove(0).id;
    assert!(next > last, "ids are never used again");
    assert!(world.store.outbox(OTHER, 0, 10).await.unwrap().is_empty());
}

pub async fn a_payload_that_cannot_be_read_does_not_stop_the_rest(world: World) {
    for value in ["1", "2", "3"] {
        world.publish(&[record("alice", value)]).await;
    }
    let rows = world.store.outbox(SHARD, 0, 3).await.unwrap();
    let break_row = format!("UPDATE outbox SET payload = x'5b7b' WHERE id = {}", rows[1].id);
    world.databases.sql(SHARD, &break_row).await;
    let read = world.store.outbox(SHARD, 0, 3).await.unwrap();
    assert!(read[1].records.as_ref().unwrap_err().contains("not the records of an outbox: [{"));
    assert_eq!((&read[0], &read[2]), (&rows[0], &rows[2]));
}

pub async fn records_wait_through_a_restart(world: World) {
    world.publish(&[record("alice", "1")]).await;
    let again = world.databases.open().await.unwrap();
    assert_eq!(
        again.outbox(SHARD, 0, 10).await.unwrap(),
        world.store.outbox(SHARD, 0, 10).await.unwrap()
    );
}
