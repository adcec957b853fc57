//! Encryption of personal fields at rest: what callers wrote for people (description, reference,
//! metadata), as it stands in rows and events.
//!
//! An envelope of two layers, both AES-256-GCM. Keys of the configuration, the *master keys*, wrap a
//! shard's *data keys*, which stand wrapped in its table `data_keys` and seal the fields. So the
//! master can be changed by wrapping a few keys anew, and no row is written again for it. Each shard
//! has one more key, for *lookups*: it is never changed, for it makes what has to be found again by
//! comparing, the fingerprints of claims and the marks of references (`src/sealing/lookup.rs`).
//!
//! What is sealed is bound to its place (cluster, shard, and the row's id), so that it opens nowhere
//! else.

mod data;
mod fields;
mod lookup;
mod master;

pub use data::{DataKey, ROWS_PER_KEY, key_of};
pub use fields::Fields;
pub use lookup::LookupKey;
pub use master::{KeyFault, MasterKeys, Purpose, Wrapped};

use crate::domain::{AccountId, ClusterId, NewTransfer, ProposalId, Sealed, Shard, TransferId};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;

/// The shard that keys and rows belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of this cluster.
    pub cluster: ClusterId,
    /// Its number.
    pub shard: Shard,
}

impl Place {
    fn bind(self, to: &mut Vec<u8>) {
        to.extend(self.cluster.0.as_bytes());
        to.extend(self.shard.0.to_be_bytes());
    }
}

/// The row that is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    /// The fields of a transfer.
    Transfer(TransferId),
    /// The metadata of an account.
    Account(&'a AccountId),
    /// The description of a proposed transfer.
    Proposal(ProposalId),
}

impl Of<'_> {
    fn bind(self, to: &mut Vec<u8>) {
        match self {
            Self::Transfer(id) => {
                to.push(1);
                to.extend(id.bytes());
            }
            Self::Account(id) => {
                to.push(2);
                to.extend(id.as_str().as_bytes());
            }
            Self::Proposal(id) => {
                to.push(3);
                to.extend(id.bytes());
            }
        }
    }
}

/// What seals the rows of one transaction.
#[derive(Clone)]
pub struct Sealer {
    place: Place,
    data: Arc<DataKey>,
    lookup: Arc<LookupKey>,
}

impl Sealer {
    /// With these keys of the shard.
    pub fn new(place: Place, data: Arc<DataKey>, lookup: Arc<LookupKey>) -> Self {
        Self { place, data, lookup }
    }

    /// Seals the fields of a transfer out of `source`, which can then be found by its reference.
    pub fn transfer(&self, id: TransferId, source: &AccountId, fields: &Fields<'_>) -> Sealed {
        let mark = fields.reference.map(|reference| self.lookup.mark(source, reference));
        let text = fields.encode();
        self.data.seal(self.place, Of::Transfer(id), mark.unwrap_or_default(), &text)
    }

    /// Seals one text.
    pub fn text(&self, of: Of<'_>, text: &str) -> Sealed {
        self.data.seal(self.place, of, Default::default(), text.as_bytes())
    }

    /// A fingerprint that says nothing to whoever does not have the key.
    pub fn fingerprint(&self, plain: &[u8; 32]) -> [u8; 32] {
        self.lookup.fingerprint(plain)
    }
}

/// Seals what a new transfer has of personal fields; what is sealed is what is stored and published.
pub fn seal(sealer: &Sealer, transfer: &mut NewTransfer) {
    let fields = Fields {
        description: transfer.description.as_deref(),
        reference: transfer.reference.as_deref(),
        metadata: transfer.metadata.as_deref(),
    };
    transfer.sealed = Some(sealer.transfer(transfer.terms.id, &transfer.terms.source, &fields));
}

/// From the operating system: neither keys nor nonces ever follow from a seed.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

#[cfg(test)]
mod tests;
