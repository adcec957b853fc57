//! Dealing with dead letters: their events on the ordinary path again, or marked as dealt with.

use super::OperatorError;
use super::letters::Letter;
use super::stage::stage;
use crate::broker::{Record, envelope};
use crate::context::Context;
use crate::domain::{DeadLetter, DeadReason, Event, EventError};
use crate::stage::Stage;
use crate::store::{Action, Actor, Handled, LetterMark, StoreError, Tx, Work, transact};
use async_trait::async_trait;
use serde_json::json;

/// What became, or would become, of a dead letter that is to be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The record as it was is on the ordinary path again.
    Same,
    /// The event of the stage that its transfer stands in, made from the rows.
    FromRows(&'static str),
    /// It was dealt with before.
    Already(Handled),
    /// It cannot be; why.
    Not(String),
}

/// How an event can be put on the ordinary path again.
enum Way {
    Same(Record),
    FromRows(Box<Stage>),
    None(String),
}

/// Puts the event of a dead letter on the ordinary path again, through the outbox of its
/// transfer's shard: the record as it was where that still holds, else what the rows say now. The
/// letter is marked in the same transaction, so that it is replayed once. With no actor it only
/// says what it would do.
pub async fn replay(
    context: &Context,
    letter: &Letter,
    actor: Option<&Actor>,
) -> Result<Replayed, OperatorError> {
    if let Some(mark) = &letter.mark {
        return Ok(Replayed::Already(mark.handled));
    }
    let way = way(context, letter).await?;
    let replayed = match &way {
        Way::Same(_) => Replayed::Same,
        Way::FromRows(stage) => Replayed::FromRows(stage.kind.as_str()),
        Way::None(why) => return Ok(Replayed::Not(why.clone())),
    };
    let Some(actor) = actor else { return Ok(replayed) };
    let shard = letter.id.shard;
    let (emit, handled) = (Some(way), Handled::Replayed);
    let work = Settle { context, letter, actor, emit, handled };
    match transact(&*context.store, shard, &work).await {
        Ok(()) => {
            context.wake.outbox_written(shard);
            Ok(replayed)
        }
        Err(error) => already(context, letter, error).await,
    }
}

/// Marks a dead letter as dealt with; false where it was marked before.
pub async fn discard(
    context: &Context,
    letter: &Letter,
    actor: &Actor,
) -> Result<bool, OperatorError> {
    if letter.mark.is_some() {
        return Ok(false);
    }
    let (emit, handled) = (None, Handled::Discarded);
    let work = Settle { context, letter, actor, emit, handled };
    match transact(&*context.store, letter.id.shard, &work).await {
        Ok(()) => Ok(true),
        Err(error) => already(context, letter, error).await.map(|_| false),
    }
}

/// [`discard`], within a transaction of the letter's shard; [`StoreError::Duplicate`] where somebody
/// else was faster.
pub async fn discard_within(
    tx: &mut dyn Tx,
    context: &Context,
    letter: &Letter,
    actor: &Actor,
) -> Result<(), StoreError> {
    let (emit, handled) = (None, Handled::Discarded);
    Settle { context, letter, actor, emit, handled }.run(tx, 0).await
}

/// Somebody else was faster, or the error stands.
async fn already(
    context: &Context,
    letter: &Letter,
    error: StoreError,
) -> Result<Replayed, OperatorError> {
    let id = letter.id;
    let marks = context.store.letter_marks(id.shard, id.partition, id.offset, id.offset).await?;
    match (error, marks.first()) {
        (StoreError::Duplicate { .. }, Some(mark)) => Ok(Replayed::Already(mark.handled)),
        (error, _) => Err(error.into()),
    }
}

async fn way(context: &Context, letter: &Letter) -> Result<Way, OperatorError> {
    let not = |why: &str| Ok(Way::None(why.to_owned()));
    let Ok(dead) = &letter.content else {
        return not("it is no dead letter that this release can read: discard it");
    };
    let event = match Event::decode(dead.value.as_bytes()) {
        Ok(event) => event,
        Err(EventError::Newer(_)) => {
            return not("its event is of a newer release: upgrade, then replay it");
        }
        Err(EventError::Malformed(_)) => return from_rows(context, dead).await,
    };
    let identity = context.store.identity();
    if event.cluster != identity.cluster {
        return not("its event belongs to another cluster: discard it");
    }
    let map = context.store.map();
    let home = map.shard_of_transfer(event.terms.id);
    if home != letter.id.shard || map.shard_of(&event.terms.source) != home {
        return not("it stands in the topic of another shard: discard it, and drive its transfer \
                    with `holdfast transfer retry`");
    }
    let stage = match stage(context, event.terms.id).await {
        Err(OperatorError::NoTransfer(_)) => {
            return not("its transfer has no row, so that there is nothing to act on: discard it");
        }
        found => found?,
    };
    let same = event.generation == identity.generation
        && event.terms == stage.transfer.row.terms
        && (event.kind, event.reason) == (stage.kind, stage.reason)
        && dead.reason != DeadReason::TooLarge.as_str();
    if !same {
        return Ok(Way::FromRows(Box::new(stage)));
    }
    let record = envelope::record(&event, map);
    Ok(Way::Same(Record { value: dead.value.clone().into(), ..record }))
}

/// The value was cut because it was too large, or was never an event.
async fn from_rows(context: &Context, dead: &DeadLetter) -> Result<Way, OperatorError> {
    let cut = dead.reason == DeadReason::TooLarge.as_str();
    let Some(id) = dead.transfer.filter(|_| cut) else {
        let why = "its record cannot be read as an event: discard it; if it names a transfer, \
                   `holdfast transfer retry` drives that";
        return Ok(Way::None(why.to_owned()));
    };
    match stage(context, id).await {
        Ok(stage) => Ok(Way::FromRows(Box::new(stage))),
        Err(OperatorError::NoTransfer(_)) => {
            Ok(Way::None("its transfer has no row: discard it".to_owned()))
        }
        Err(error) => Err(error),
    }
}

struct Settle<'a> {
    context: &'a Context,
    letter: &'a Letter,
    actor: &'a Actor,
    emit: Option<Way>,
    handled: Handled,
}

#[async_trait]
impl Work for Settle<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        let id = self.letter.id;
        let (record, emitted) = match &self.emit {
            None | Some(Way::None(_)) => (None, json!(null)),
            Some(Way::Same(record)) => (Some(record.clone()), json!("the record as it was")),
            Some(Way::FromRows(stage)) => {
                let record = stage.record(self.context, tx).await?;
                (Some(record), json!(stage.kind.as_str()))
            }
        };
        tx.insert_outbox(record.as_slice()).await?;
        let marks: Vec<LetterMark> = self
            .letter
            .open
            .iter()
            .map(|offset| LetterMark {
                partition: id.partition,
                offset: *offset,
                handled: self.handled,
                operator: self.actor.operator.clone(),
                reason: self.actor.reason.clone(),
                at: tx.now(),
            })
            .collect();
        tx.mark_letters(&marks).await?;
        let action = match self.handled {
            Handled::Replayed => Action::ReplayLetter,
            Handled::Discarded => Action::DiscardLetter,
        };
        let before = json!({ "handled": null, "transfer": self.letter.transfer() });
        let after = json!({ "handled": self.handled.as_str(), "emitted": emitted });
        tx.record_acts(&[self.actor.act(action, &id, &before, &after)]).await
    }
}
