//! The audit log's chain: every row has a hash over all that it says and over the hash of the row
//! before it, so that no row can be changed, added, taken away or moved without all that follow.
//!
//! `hash(row) = SHA-256(tag ‖ version ‖ hash(row before) ‖ id ‖ at ‖ seven columns)`. Each part after
//! the hash before has its length in front of it, eight bytes big-endian, and a byte that tells NULL
//! from empty. The first row follows a hash of the cluster, the shard and the id after which the
//! chain begins: a chain cannot be taken to another shard.
//!
//! Who may write to all of the database can make a chain anew that is whole. Only hashes that were
//! noted somewhere else show that: [`audit_chain`] compares them.

#[cfg(test)]
mod tests;
mod verify;

pub use verify::{ChainFault, ChainReport, Noted, Verifier, What, audit_chain};

use super::Act;
use crate::domain::{ClusterId, Shard, Timestamp, hex};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// What is hashed, and for what; other hashes over the same bytes are others.
const ROW: &[u8] = b"holdfast audit row";
const BEGINNING: &[u8] = b"holdfast audit chain";
/// Of the composition of what is hashed.
const VERSION: u8 = 1;

/// The hash of a row: SHA-256. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHash(pub [u8; 32]);

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for ChainHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hash = hex::decode(text).and_then(|bytes| bytes.try_into().ok());
        hash.map(Self).ok_or_else(|| "a hash has 64 hexadecimal digits".to_owned())
    }
}

/// Which chain it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainOf {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: Shard,
}

impl ChainOf {
    /// What the first row follows, where rows up to `began_after` are from before the chain.
    pub fn beginning(self, began_after: i64) -> ChainHash {
        let mut hash = Sha256::new();
        hash.update(BEGINNING);
        hash.update([VERSION]);
        put(&mut hash, Some(self.cluster.0.as_bytes()));
        put(&mut hash, Some(&self.shard.0.to_be_bytes()));
        put(&mut hash, Some(&began_after.to_be_bytes()));
        ChainHash(hash.finalize().into())
    }
}

/// A row of the audit log as it is stored, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedAct {
    /// One more than that of the row before.
    pub id: i64,
    /// Database time of the act's transaction.
    pub at: Timestamp,
    /// Operator, action, target, reason, state before, state after, request.
    pub columns: [Option<Vec<u8>>; 7],
    /// None for rows from before the chain. 32 bytes, unless somebody has tampered with it.
    pub hash: Option<Vec<u8>>,
}

impl ChainedAct {
    /// A row as it will be stored, its hash not yet known.
    pub fn of(id: i64, at: Timestamp, act: &Act) -> Self {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        let columns = [
            some(&act.actor.operator),
            some(&act.action),
            some(&act.target),
            act.actor.reason.as_deref().and_then(some),
            some(&act.before),
            some(&act.after),
            act.actor.request.as_deref().and_then(some),
        ];
        Self { id, at, columns, hash: None }
    }

    /// The hash that the row has behind a row of that hash.
    pub fn after(&self, before: &ChainHash) -> ChainHash {
        let mut hash = Sha256::new();
        hash.update(ROW);
        hash.update([VERSION]);
        hash.update(before.0);
        put(&mut hash, Some(&self.id.to_be_bytes()));
        put(&mut hash, Some(&self.at.micros().to_be_bytes()));
        for column in &self.columns {
            put(&mut hash, column.as_deref());
        }
        ChainHash(hash.finalize().into())
    }

    /// Its hash, where it can be one.
    fn stored(&self) -> Option<ChainHash> {
        read(self.hash.as_deref())
    }
}

/// Where a shard's chain ends, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Rows up to this id are from before the chain.
    pub began_after: i64,
    /// The id of the newest row.
    pub last_id: i64,
    /// The hash of the newest row; none before the first.
    pub last_hash: Option<Vec<u8>>,
}

impl ChainHead {
    /// What the next row follows. A hash that cannot be one counts as none: acts go on, and
    /// [`audit_chain`] finds it.
    pub fn follows(&self, chain: ChainOf) -> ChainHash {
        self.hash().unwrap_or_else(|| chain.beginning(self.began_after))
    }

    /// Its hash, where it can be one.
    pub fn hash(&self) -> Option<ChainHash> {
        read(self.last_hash.as_deref())
    }
}

/// Rows of a shard's audit log in id order and the end of its chain, of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPage {
    /// None where somebody has deleted it.
    pub head: Option<ChainHead>,
    /// The rows.
    pub rows: Vec<ChainedAct>,
}

fn read(bytes: Option<&[u8]>) -> Option<ChainHash> {
    bytes.and_then(|bytes| bytes.try_into().ok()).map(ChainHash)
}

fn put(hash: &mut Sha256, part: Option<&[u8]>) {
    let Some(bytes) = part else {
        hash.update([0]);
        return;
    };
    hash.update([1]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
