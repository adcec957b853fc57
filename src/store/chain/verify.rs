//! Verification of a chain: its rows and its end go in, everything that is wrong with them comes out.
//!
//! A row that does not follow from the one before it is not judged at once: the row after it tells
//! whether it was changed (the chain goes on from it) or added (the chain goes past it).

use super::{ChainHash, ChainHead, ChainOf, ChainedAct};
use crate::domain::Shard;
use crate::store::{Store, StoreError};
use std::cmp::Ordering;
use std::str::FromStr;

/// Faults of a shard that are told one by one; of more there is the number.
const KEPT: usize = 100;
/// Rows that are read at once.
const PAGE: u32 = 500;

/// What can be wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Rows are not what was written, or do not follow from the row before.
    Changed,
    /// Rows are no part of the chain, which goes past them.
    Added,
    /// Ids that the chain has given are not there.
    Missing,
    /// A row comes behind one of the same or a higher id.
    OutOfOrder,
    /// The newest rows are not there.
    CutOff,
    /// Rows follow from the newest that the head knows of.
    PastHead,
    /// The head says that the chain begins somewhere else than it does.
    Beginning,
    /// The head is not what it was when the newest row was written.
    Head,
    /// There is no head.
    NoHead,
    /// A row is not there with the hash that was noted.
    NotAsNoted,
}

impl What {
    /// The name in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Missing => "missing",
            Self::OutOfOrder => "out_of_order",
            Self::CutOff => "cut_off",
            Self::PastHead => "past_head",
            Self::Beginning => "beginning_changed",
            Self::Head => "head_changed",
            Self::NoHead => "head_missing",
            Self::NotAsNoted => "not_as_noted",
        }
    }

    /// What it means, for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Changed => "not what was written, or does not follow from the row before",
            Self::Added => "no part of the chain, which goes past it",
            Self::Missing => "written once, and not there",
            Self::OutOfOrder => "behind a row of the same or a higher id",
            Self::CutOff => "written by the word of the head, and not there",
            Self::PastHead => "added behind the head, or the head was set back",
            Self::Beginning => "the head says that the chain begins somewhere else",
            Self::Head => "the head is not that of the newest row",
            Self::NoHead => "audit_chain has no row",
            Self::NotAsNoted => "not there with the hash that was noted",
        }
    }
}

/// Something that is wrong with the rows of these ids, or with the head that names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainFault {
    /// What it is.
    pub what: What,
    /// The first id.
    pub from: i64,
    /// The last one.
    pub through: i64,
}

/// A row's hash that was noted somewhere else. Written as `SHARD:ID:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Of which shard.
    pub shard: Shard,
    /// Which row.
    pub id: i64,
    /// What it had.
    pub hash: ChainHash,
}

impl FromStr for Noted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or("write it as SHARD:ID:HASH");
        let (shard, id, hash) = (part()?, part()?, part()?);
        let shard = shard.parse().map_err(|_| format!("'{shard}' is not a shard"))?;
        let id = id.parse().map_err(|_| format!("'{id}' is not a row's id"))?;
        Ok(Self { shard: Shard(shard), id, hash: hash.parse()? })
    }
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Rows from before the chain: nothing can be said of them.
    pub before: u64,
    /// Rows of the chain, sound or not.
    pub rows: u64,
    /// Where the chain ends, by its own word.
    pub head: Option<ChainHead>,
    /// Everything that is wrong, by ids.
    pub faults: Vec<ChainFault>,
    /// Faults beyond those.
    pub more: u64,
}

/// Verifies a shard's audit log while it is written, page by page, and compares what was noted of
/// this shard.
pub async fn audit_chain(
    store: &dyn Store,
    shard: Shard,
    noted: &[Noted],
) -> Result<ChainReport, StoreError> {
    let chain = ChainOf { cluster: store.identity().cluster, shard };
    let mut page = store.chained_acts(shard, i64::MIN, PAGE).await?;
    let mut verifier = Verifier::new(chain, page.head.as_ref(), noted);
    loop {
        page.rows.iter().for_each(|row| verifier.take(row));
        match page.rows.last() {
            Some(last) if page.rows.len() == PAGE as usize => {
                page = store.chained_acts(shard, last.id, PAGE).await?;
            }
            _ => return Ok(verifier.finish(page.head)),
        }
    }
}

/// What the next row may follow.
#[derive(Clone, Copy)]
struct Links {
    /// The hash of the last row that was sound.
    sound: Option<ChainHash>,
    /// The hash that the last row has.
    stored: Option<ChainHash>,
    /// The hash that the last row should have, if only stored hashes were changed.
    computed: Option<ChainHash>,
}

impl Links {
    fn all(hash: Option<ChainHash>) -> Self {
        Self { sound: hash, stored: hash, computed: hash }
    }

    fn none(&self) -> bool {
        self.sound.or(self.stored).or(self.computed).is_none()
    }
}

/// How a row belongs to the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It follows the row before it.
    Follows,
    /// It follows the last row that was sound.
    Skips,
    /// It begins a chain, and the head says that the chain begins elsewhere.
    Begins,
}

/// Rows that are not sound, and not judged.
#[derive(Clone, Copy)]
struct Doubtful {
    from: i64,
    through: i64,
    /// Whether none of them has a hash.
    bare: bool,
}

/// Takes rows in id order and says what is wrong.
pub struct Verifier {
    chain: ChainOf,
    began: Option<i64>,
    links: Links,
    /// The id of the last row that was sound, or the one after which the chain begins.
    sound: Option<i64>,
    /// The id of the last row of all.
    last: Option<i64>,
    /// Whether rows of the chain were seen.
    begun: bool,
    /// Whether any row of the chain was sound.
    trusted: bool,
    doubtful: Option<Doubtful>,
    noted: Vec<Noted>,
    report: ChainReport,
}

impl Verifier {
    /// Of a chain whose head says where it begins.
    pub fn new(chain: ChainOf, head: Option<&ChainHead>, noted: &[Noted]) -> Self {
        let began = head.map(|head| head.began_after);
        Self {
            chain,
            began,
            links: Links::all(began.map(|began| chain.beginning(began))),
            sound: began,
            last: None,
            begun: false,
            trusted: false,
            doubtful: None,
            noted: noted.iter().filter(|noted| noted.shard == chain.shard).copied().collect(),
            report: ChainReport { before: 0, rows: 0, head: None, faults: Vec::new(), more: 0 },
        }
    }

    /// Takes the next row.
    pub fn take(&mut self, row: &ChainedAct) {
        self.compare_noted(row);
        if self.last.is_some_and(|last| row.id <= last) {
            return self.fault(What::OutOfOrder, row.id, row.id);
        }
        if !self.begun && row.hash.is_none() && self.began.is_none_or(|began| row.id <= began) {
            self.last = Some(row.id);
            self.report.before += 1;
            // Databases count from 1.
            if row.id < 1 {
                self.fault(What::Added, row.id, row.id);
            }
            return;
        }
        self.report.rows += 1;
        let stored = row.stored();
        let way = stored.and_then(|stored| self.way(row, stored));
        let gap = way != Some(Way::Begins) && self.gap(row.id);
        match (way, stored) {
            (Some(Way::Follows), _) => self.judge(What::Changed),
            (Some(Way::Skips), _) => self.judge(What::Added),
            (Some(Way::Begins), _) => self.begins(row.id),
            // What it follows is not there: it is taken at its word.
            (None, Some(_)) if gap || self.links.none() => {}
            (None, _) => {
                self.doubt(row, stored);
                self.last = Some(row.id);
                return;
            }
        }
        self.links = Links::all(stored);
        (self.sound, self.last) = (Some(row.id), Some(row.id));
        (self.begun, self.trusted) = (true, true);
    }

    /// Takes the end of the chain, of the moment of the last rows.
    pub fn finish(mut self, head: Option<ChainHead>) -> ChainReport {
        match &head {
            None => {
                self.judge(What::Changed);
                let last = self.last.unwrap_or(0);
                self.fault(What::NoHead, last, last);
            }
            Some(head) => self.compare_head(head),
        }
        for noted in std::mem::take(&mut self.noted) {
            self.fault(What::NotAsNoted, noted.id, noted.id);
        }
        self.report.head = head;
        self.report.faults.sort_by_key(|fault| fault.from);
        self.report
    }

    fn compare_noted(&mut self, row: &ChainedAct) {
        let stored = row.stored();
        let (here, elsewhere): (Vec<Noted>, _) =
            self.noted.iter().partition(|noted| noted.id == row.id);
        for noted in here {
            if stored != Some(noted.hash) {
                self.fault(What::NotAsNoted, row.id, row.id);
            }
        }
        self.noted = elsewhere;
    }

    fn way(&self, row: &ChainedAct, stored: ChainHash) -> Option<Way> {
        let follows = |link: Option<ChainHash>| link.is_some_and(|link| row.after(&link) == stored);
        if follows(self.links.stored) || follows(self.links.computed) {
            return Some(Way::Follows);
        }
        if follows(self.links.sound) {
            return Some(Way::Skips);
        }
        let begins = || follows(Some(self.chain.beginning(row.id.saturating_sub(1))));
        (!self.trusted && begins()).then_some(Way::Begins)
    }

    /// Whether ids before this one are missing.
    fn gap(&mut self, id: i64) -> bool {
        let before = if self.begun { self.last } else { self.began };
        let Some(expected) = before.map(|before| before.saturating_add(1)) else { return false };
        if id <= expected {
            return false;
        }
        self.judge(What::Changed);
        self.fault(What::Missing, expected, id - 1);
        true
    }

    /// The chain begins at this row, whatever the head says.
    fn begins(&mut self, id: i64) {
        match self.doubtful {
            Some(rows) if rows.bare => {
                self.doubtful = None;
                let count = rows.through.abs_diff(rows.from) + 1;
                self.report.before += count;
                self.report.rows -= count;
            }
            _ => self.judge(What::Added),
        }
        if self.began.is_some() {
            self.fault(What::Beginning, id, id);
        }
    }

    fn doubt(&mut self, row: &ChainedAct, stored: Option<ChainHash>) {
        let before =
            self.doubtful.unwrap_or(Doubtful { from: row.id, through: row.id, bare: true });
        let bare = before.bare && row.hash.is_none();
        self.doubtful = Some(Doubtful { through: row.id, bare, ..before });
        self.links.stored = stored;
        self.links.computed = self.links.computed.map(|link| row.after(&link));
        self.begun |= self.began.is_none_or(|began| row.id > began);
    }

    /// Says what is wrong with the rows in doubt.
    fn judge(&mut self, what: What) {
        if let Some(rows) = self.doubtful.take() {
            self.fault(what, rows.from, rows.through);
        }
    }

    fn fault(&mut self, what: What, from: i64, through: i64) {
        if self.report.faults.len() < KEPT {
            self.report.faults.push(ChainFault { what, from, through });
        } else {
            self.report.more += 1;
        }
    }

    fn compare_head(&mut self, head: &ChainHead) {
        let id = head.last_id;
        let last = match self.last {
            Some(last) if self.begun => last,
            _ => {
                self.judge(What::Added);
                return self.compare_empty(head);
            }
        };
        let end = Some(head.follows(self.chain));
        let doubts = self.doubtful.is_some();
        let of_last = !doubts && self.links.stored == end;
        if doubts && id < last && self.sound == Some(id) && self.links.sound == end {
            return self.judge(What::Added);
        }
        self.judge(What::Changed);
        match id.cmp(&last) {
            Ordering::Equal if of_last || doubts => {}
            Ordering::Equal => self.fault(What::Head, id, id),
            Ordering::Less | Ordering::Greater if of_last => self.fault(What::Head, id, id),
            Ordering::Greater => self.fault(What::CutOff, last + 1, id),
            Ordering::Less => self.fault(What::PastHead, id.saturating_add(1), last),
        }
    }

    /// The head of a chain without rows.
    fn compare_empty(&mut self, head: &ChainHead) {
        match head.last_id.cmp(&head.began_after) {
            Ordering::Greater => self.fault(What::CutOff, head.began_after + 1, head.last_id),
            Ordering::Less => self.fault(What::Head, head.last_id, head.last_id),
            Ordering::Equal if head.last_hash.is_some() => {
                self.fault(What::Head, head.last_id, head.last_id);
            }
            Ordering::Equal => {}
        }
    }
}
