//! Dead letters as operators see them: read without a group, with what became of them and the
//! money that each blocks.

use super::OperatorError;
use crate::broker::{Delivered, Family, Group, PartitionLag, Position, Topic, envelope};
use crate::context::Context;
use crate::domain::{DeadLetter, Money, Partition, Shard, State, Timestamp, TransferId};
use crate::roles::Role;
use crate::store::{LetterMark, StoreError, TransferRecord};
use std::collections::{BTreeMap, HashMap};

pub use crate::domain::LetterId;

/// Records read at once.
const PAGE: usize = 200;
/// Records and bytes of one partition that one list looks at; the next one goes on from there.
const MOST_RECORDS: usize = 10_000;
const MOST_BYTES: usize = 64 << 20;

/// What stands still because of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The transfer is not final: this much is under way.
    Money(State, Money),
    /// Its transfer is final.
    Final(State),
    /// It has none, as far as that can be told.
    NoTransfer,
    /// The transfer's shard does not answer.
    Unknown(String),
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where it stands; the first of its copies.
    pub id: LetterId,
    /// Itself, if it can be read; else the record's value.
    pub content: Result<DeadLetter, String>,
    /// How often it was written to the same partition: again where the role that gave it up began
    /// again before it had noted so.
    pub copies: usize,
    /// The offsets of those copies that are not dealt with.
    pub open: Vec<i64>,
    /// When it was written last.
    pub last: Timestamp,
    /// What became of it, where all copies are dealt with.
    pub mark: Option<LetterMark>,
    /// What stands still because of it.
    pub blocked: Blocked,
}

impl Letter {
    /// Its transfer, if it is known.
    pub fn transfer(&self) -> Option<TransferId> {
        self.content.as_ref().ok().and_then(|letter| letter.transfer)
    }
}

/// One dead letter.
pub async fn letter(context: &Context, id: LetterId) -> Result<Letter, OperatorError> {
    let LetterId { shard, partition, offset } = id;
    if !context.store.map().all_shards().any(|known| known == shard)
        || partition.0 >= context.store.map().partitions()
    {
        return Err(OperatorError::NoLetter(id));
    }
    let position = Position { topic: topic(shard), partition, offset };
    let mut records = context.broker.read_from(position, 1).await?;
    records.retain(|record| record.position.offset == offset);
    let found = records.pop().ok_or(OperatorError::NoLetter(id))?;
    let marks = context.store.letter_marks(shard, partition, offset, offset).await?;
    let mut letters = gather(shard, std::slice::from_ref(&found), &marks);
    look_at_transfers(context, &mut letters).await;
    letters.pop().ok_or(OperatorError::NoLetter(id))
}

/// Which dead letters to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct LetterFilter {
    /// Only those of this shard.
    pub shard: Option<Shard>,
    /// Also those that are dealt with.
    pub handled: bool,
}

/// Dead letters by place, after `after`, at most `limit`; and the last of them if more may follow.
pub async fn letters(
    context: &Context,
    filter: LetterFilter,
    after: Option<LetterId>,
    limit: usize,
) -> Result<(Vec<Letter>, Option<LetterId>), OperatorError> {
    let mut found = Vec::new();
    for shard in context.store.map().all_shards() {
        if filter.shard.is_some_and(|only| only != shard) {
            continue;
        }
        for part in parts(context, shard).await? {
            let first = LetterId { shard, partition: part.partition, offset: part.start };
            let from = match after {
                Some(after) if (after.shard, after.partition) > (shard, part.partition) => continue,
                Some(after) if (after.shard, after.partition) == (shard, part.partition) => {
                    after.offset + 1
                }
                _ => part.start,
            };
            let from = LetterId { offset: from, ..first };
            let stopped = read_part(context, filter, from, part.end, &mut found).await?;
            if found.len() > limit || stopped.is_some() {
                let last = found.get(limit.saturating_sub(1)).map(|letter| letter.id);
                found.truncate(limit);
                look_at_transfers(context, &mut found).await;
                return Ok((found, last.or(stopped)));
            }
        }
    }
    look_at_transfers(context, &mut found).await;
    Ok((found, None))
}

fn topic(shard: Shard) -> Topic {
    Topic { family: Family::DeadLetter, shard }
}

/// The partitions of a shard's dead letters and what they hold.
async fn parts(context: &Context, shard: Shard) -> Result<Vec<PartitionLag>, OperatorError> {
    let group = Group { role: Role::Reconciler.as_str(), shard };
    let mut parts = context.broker.lag(&group, &[topic(shard)]).await?;
    parts.sort_unstable_by_key(|part| part.partition);
    Ok(parts)
}

/// A partition from one place on, as a rule to its end, so that copies of a letter are seen as one;
/// returns where it stopped before.
async fn read_part(
    context: &Context,
    filter: LetterFilter,
    from: LetterId,
    end: i64,
    found: &mut Vec<Letter>,
) -> Result<Option<LetterId>, OperatorError> {
    let (shard, partition) = (from.shard, from.partition);
    let mut records: Vec<Delivered> = Vec::new();
    let (mut offset, mut bytes) = (from.offset, 0);
    while offset < end && records.len() < MOST_RECORDS && bytes < MOST_BYTES {
        let position = Position { topic: topic(shard), partition, offset };
        let page = context.broker.read_from(position, PAGE).await?;
        let Some(last) = page.last() else { break };
        offset = last.position.offset + 1;
        bytes += page.iter().map(|record| record.value.len()).sum::<usize>();
        records.extend(page);
    }
    let Some(last) = records.last() else { return Ok(None) };
    let to = last.position.offset;
    let marks = context.store.letter_marks(shard, partition, from.offset, to).await?;
    let letters = gather(shard, &records, &marks);
    found.extend(letters.into_iter().filter(|letter| filter.handled || letter.mark.is_none()));
    Ok((to + 1 < end).then_some(LetterId { offset: to, ..from }))
}

/// What tells one dead letter from another: who gave up which record, and why.
type Origin = (String, Option<(String, Partition, Option<i64>)>, Option<TransferId>);

fn gather(shard: Shard, records: &[Delivered], marks: &[LetterMark]) -> Vec<Letter> {
    let marks: HashMap<i64, &LetterMark> = marks.iter().map(|mark| (mark.offset, mark)).collect();
    let mut places: HashMap<Origin, usize> = HashMap::new();
    let mut letters: Vec<Letter> = Vec::new();
    for record in records {
        let Position { partition, offset, .. } = record.position;
        let mark = marks.get(&offset).copied().cloned();
        let Some(content) = envelope::read_dead_letter(record) else {
            let text = String::from_utf8_lossy(&record.value).into_owned();
            letters.push(new(shard, record, Err(text), mark));
            continue;
        };
        let origin = &content.origin;
        let place = (origin.topic.clone(), origin.partition, origin.offset);
        let known = (format!("{} {}", content.role, content.reason), Some(place), content.transfer);
        match places.get(&known) {
            Some(place) if letters[*place].id.partition == partition => {
                let first = &mut letters[*place];
                first.copies += 1;
                first.last = content.at.max(first.last);
                first.open.extend(mark.is_none().then_some(offset));
                first.mark = first.mark.take().filter(|_| mark.is_some());
            }
            _ => {
                places.insert(known, letters.len());
                letters.push(new(shard, record, Ok(content), mark));
            }
        }
    }
    letters
}

fn new(
    shard: Shard,
    record: &Delivered,
    content: Result<DeadLetter, String>,
    mark: Option<LetterMark>,
) -> Letter {
    let Position { partition, offset, .. } = record.position;
    Letter {
        id: LetterId { shard, partition, offset },
        last: content.as_ref().map_or(record.timestamp, |letter| letter.at),
        content,
        copies: 1,
        open: mark.is_none().then_some(offset).into_iter().collect(),
        mark,
        blocked: Blocked::NoTransfer,
    }
}

/// Asks the shards of the transfers, each once, how far they have come.
async fn look_at_transfers(context: &Context, letters: &mut [Letter]) {
    let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
    for id in letters.iter().filter_map(Letter::transfer) {
        by_shard.entry(context.store.map().shard_of_transfer(id)).or_default().push(id);
    }
    let mut known: HashMap<TransferId, TransferRecord> = HashMap::new();
    let mut silent: HashMap<Shard, StoreError> = HashMap::new();
    for (shard, ids) in by_shard {
        match context.store.transfer_records(shard, &ids).await {
            Ok(found) => known.extend(found.into_iter().map(|one| (one.row.terms.id, one))),
            Err(error) => drop(silent.insert(shard, error)),
        }
    }
    for letter in letters {
        let Some(id) = letter.transfer() else { continue };
        let shard = context.store.map().shard_of_transfer(id);
        letter.blocked = match (known.get(&id), silent.get(&shard)) {
            (Some(found), _) if found.row.state.is_final() => Blocked::Final(found.row.state),
            (Some(found), _) => Blocked::Money(found.row.state, found.row.terms.amount),
            (None, Some(error)) => Blocked::Unknown(error.to_string()),
            (None, None) => Blocked::NoTransfer,
        };
    }
}
