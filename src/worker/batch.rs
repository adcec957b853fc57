//! What waits in a lane, and what of it is the next batch.

use crate::broker::{Delivered, Position};
use crate::domain::{Input, TransferId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

/// An event in a lane.
pub struct Entered {
    pub input: Box<Input>,
    pub delivered: Delivered,
    pub since: Instant,
}

impl Entered {
    pub fn new(input: Box<Input>, delivered: Delivered) -> Self {
        Self { input, delivered, since: Instant::now() }
    }
}

/// Events for one transaction, the records that they came as, and the places of further copies.
pub struct Batch {
    pub inputs: Arc<Vec<Input>>,
    pub delivered: Vec<Delivered>,
    /// When each event was taken from the broker.
    pub taken: Vec<Instant>,
    pub copies: Vec<Position>,
    /// When the batch was made.
    pub began: Instant,
}

impl Batch {
    pub fn positions(&self) -> Vec<Position> {
        let of_events = self.delivered.iter().map(|delivered| delivered.position);
        of_events.chain(self.copies.iter().copied()).collect()
    }
}

/// The next batch of at most `most` events. With `once` it holds each transfer once: further copies
/// of an event are left out, and another event of the same transfer, or one that says something
/// else of it, waits for the next batch.
pub fn take_batch(waiting: &mut VecDeque<Entered>, most: usize, once: bool) -> Batch {
    let mut places: HashMap<TransferId, usize> = HashMap::new();
    let mut inputs = Vec::<Input>::with_capacity(most.min(waiting.len()));
    let mut delivered = Vec::with_capacity(inputs.capacity());
    let (mut taken, mut copies) = (Vec::with_capacity(inputs.capacity()), Vec::new());
    while inputs.len() < most {
        let Some(next) = waiting.pop_front() else { break };
        let event = &next.input.event;
        let first = places.get(&event.terms.id).map(|place| &inputs[*place].event);
        match first {
            Some(first) if first.kind == event.kind && first.terms == event.terms => {
                copies.push(next.delivered.position);
            }
            Some(_) => {
                waiting.push_front(next);
                break;
            }
            None => {
                if once {
                    places.insert(event.terms.id, inputs.len());
                }
                inputs.push(*next.input);
                delivered.push(next.delivered);
                taken.push(next.since);
            }
        }
    }
    Batch { inputs: Arc::new(inputs), delivered, taken, copies, began: Instant::now() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Topic;
    use crate::domain::testing::{input, terms};
    use crate::domain::{EventType, Partition, Shard, Terms};

    fn entered(kind: EventType, terms: &Terms, offset: i64) -> Entered {
        let input = Input { offset, ..input(kind, terms) };
        let topic = Topic::of(kind, Shard(0));
        let position = Position { topic, partition: Partition(0), offset };
        let timestamp = input.event.at;
        let (key, value, headers) = Default::default();
        Entered::new(Box::new(input), Delivered { position, key, value, headers, timestamp })
    }

    fn offsets(batch: &Batch) -> Vec<i64> {
        batch.inputs.iter().map(|input| input.offset).collect()
    }

    /// Hazard 11: of several copies of an event in one batch one is decided on; the others are
    /// done with it, so that their offsets are committed too.
    #[test]
    fn a_batch_holds_each_transfer_once() {
        let (one, two) = (terms(1, "a", "b", 50), terms(2, "a", "b", 50));
        let events = [(&one, 1), (&one, 2), (&two, 3), (&one, 4)];
        let requested = |(terms, offset)| entered(EventType::Requested, terms, offset);
        let mut waiting = events.map(requested).into();
        let batch = take_batch(&mut waiting, 10, true);
        assert_eq!(offsets(&batch), [1, 3]);
        assert_eq!(batch.copies.iter().map(|copy| copy.offset).collect::<Vec<_>>(), [2, 4]);
        let done: Vec<i64> = batch.positions().iter().map(|position| position.offset).collect();
        assert_eq!(done, [1, 3, 2, 4]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn another_event_of_a_transfer_waits_for_the_next_batch() {
        let (one, two) = (terms(1, "a", "b", 50), terms(2, "a", "b", 50));
        let mut waiting = VecDeque::from([
            entered(EventType::Credited, &one, 1),
            entered(EventType::Refused, &one, 1),
            entered(EventType::Credited, &two, 2),
        ]);
        assert_eq!(take_batch(&mut waiting, 10, true).inputs.len(), 1);
        assert_eq!(take_batch(&mut waiting, 10, true).inputs.len(), 2);
    }

    /// A forged event that comes first must not take the true one with it to the dead letters.
    #[test]
    fn an_event_with_other_terms_is_no_copy() {
        let (forged, real) = (terms(1, "a", "b", 51), terms(1, "a", "b", 50));
        let events = [(&forged, 1), (&real, 2), (&real, 3)];
        let requested = |(terms, offset)| entered(EventType::Requested, terms, offset);
        let mut waiting = events.map(requested).into();
        assert_eq!(offsets(&take_batch(&mut waiting, 10, true)), [1]);
        assert_eq!(offsets(&take_batch(&mut waiting, 10, true)), [2]);
    }

    #[test]
    fn a_batch_is_bounded_and_may_hold_all_events_of_a_transfer() {
        let one = terms(1, "a", "b", 50);
        let mut waiting = (1..6).map(|at| entered(EventType::Held, &one, at)).collect();
        assert_eq!(offsets(&take_batch(&mut waiting, 3, false)), [1, 2, 3]);
        assert_eq!(offsets(&take_batch(&mut waiting, 3, false)), [4, 5]);
    }
}
