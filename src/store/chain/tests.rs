//! Whatever is done to a chain is found, and it is said where.

use super::*;
use crate::store::Actor;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use uuid::Uuid;

const CHAIN: ChainOf =
    ChainOf { cluster: ClusterId(Uuid::from_bytes([0x11; 16])), shard: Shard(3) };
const AT: i64 = 1_700_000_000_000_000;

type Column = Option<Vec<u8>>;

/// A log: rows from before the chain, rows of the chain, and its head.
#[derive(Clone, Debug)]
struct Log {
    began: i64,
    rows: Vec<ChainedAct>,
    head: Option<ChainHead>,
}

impl Log {
    /// So many rows from before the chain, and a chain of the others.
    fn of(before: usize, contents: Vec<(u8, [Column; 7])>) -> Self {
        let began = before as i64;
        let mut link = CHAIN.beginning(began);
        let mut rows = Vec::new();
        for (id, (later, columns)) in (1..).zip(contents) {
            let at = Timestamp::from_micros(AT + i64::from(later));
            let mut row = ChainedAct { id, at, columns, hash: None };
            if id > began {
                link = row.after(&link);
                row.hash = Some(link.0.to_vec());
            }
            rows.push(row);
        }
        let last_hash = Some(link.0.to_vec());
        let head = Some(ChainHead { began_after: began, last_id: rows.len() as i64, last_hash });
        Self { began, rows, head }
    }

    /// The place of one of the chain's rows.
    fn pick(&self, index: &Index) -> usize {
        let began = self.began as usize;
        began + index.index(self.rows.len() - began)
    }

    fn faults(&self) -> Vec<(What, i64, i64)> {
        let mut verifier = Verifier::new(CHAIN, self.head.as_ref(), &[]);
        self.rows.iter().for_each(|row| verifier.take(row));
        let report = verifier.finish(self.head.clone());
        report.faults.iter().map(|fault| (fault.what, fault.from, fault.through)).collect()
    }
}

fn any_column() -> impl Strategy<Value = Column> {
    proptest::option::of(vec(0_u8..4, 0..4))
}

fn any_content() -> impl Strategy<Value = (u8, [Column; 7])> {
    (0_u8..4, proptest::array::uniform7(any_column()))
}

fn any_log() -> impl Strategy<Value = Log> {
    (0_usize..3, 1_usize..8).prop_flat_map(|(before, chained)| {
        vec(any_content(), before + chained).prop_map(move |contents| Log::of(before, contents))
    })
}

fn any_hash() -> impl Strategy<Value = Column> {
    prop_oneof![Just(None), vec(any::<u8>(), 32).prop_map(Some), any_column()]
}

/// Ids that faults of these kinds name.
fn named(faults: &[(What, i64, i64)], kinds: &[What]) -> BTreeSet<i64> {
    let of_kind = faults.iter().filter(|(what, ..)| kinds.contains(what));
    of_kind.flat_map(|(_, from, through)| *from..=*through).collect()
}

proptest! {
    #[test]
    fn a_chain_that_was_left_alone_has_no_fault(log in any_log()) {
        prop_assert_eq!(log.faults(), []);
    }

    #[test]
    fn a_row_of_which_anything_was_changed_is_named(
        mut log in any_log(), index: Index, field in 0_usize..9, column in any_column(),
        hash in any_hash(), later in 1_i64..100,
    ) {
        let at = log.pick(&index);
        let row = &mut log.rows[at];
        let (id, before) = (row.id, row.clone());
        match field {
            0 => row.at = Timestamp::from_micros(row.at.micros() + later),
            8 => row.hash = hash,
            field => row.columns[field - 1] = column,
        }
        prop_assume!(*row != before);
        prop_assert_eq!(log.faults(), [(What::Changed, id, id)]);
    }

    #[test]
    fn a_row_that_got_another_id_is_named(mut log in any_log(), index: Index, id in -2_i64..12) {
        let at = log.pick(&index);
        let before = log.rows[at].id;
        prop_assume!(log.rows.iter().all(|row| row.id != id));
        log.rows[at].id = id;
        log.rows.sort_by_key(|row| row.id);
        let faults = log.faults();
        let kinds = [What::Missing, What::CutOff, What::Changed, What::Added, What::PastHead];
        let named = named(&faults, &kinds);
        prop_assert!(named.contains(&before) || named.contains(&id), "{faults:?}");
    }

    #[test]
    fn every_row_that_was_taken_away_is_named_and_no_other(log in any_log(), taken: Vec<Index>) {
        prop_assume!(!taken.is_empty());
        let taken: BTreeSet<i64> =
            taken.iter().map(|index| log.rows[log.pick(index)].id).collect();
        let mut left = log.clone();
        left.rows.retain(|row| !taken.contains(&row.id));
        let faults = left.faults();
        prop_assert_eq!(named(&faults, &[What::Missing, What::CutOff]), taken);
        let kinds = |(what, ..): &(What, i64, i64)| matches!(what, What::Missing | What::CutOff);
        prop_assert!(faults.iter().all(kinds), "{faults:?}");
    }

    #[test]
    fn rows_that_changed_places_are_named(
        log in any_log(), one: Index, other: Index, with_hash: bool,
    ) {
        let (one, other) = (log.pick(&one), log.pick(&other));
        let (one, other) = (one.min(other), one.max(other));
        let mut swapped = log.clone();
        swapped.rows.swap(one, other);
        for at in [one, other] {
            swapped.rows[at].id = log.rows[at].id;
            if !with_hash {
                swapped.rows[at].hash.clone_from(&log.rows[at].hash);
            }
        }
        prop_assume!(swapped.rows != log.rows);
        let faults = swapped.faults();
        prop_assert_eq!((faults[0].0, faults[0].1), (What::Changed, log.rows[one].id));
        let named = named(&faults, &[What::Changed]);
        prop_assert!(named.contains(&log.rows[other].id), "{faults:?}");
    }

    #[test]
    fn rows_in_another_order_are_named(mut log in any_log(), one: Index, other: Index) {
        let (one, other) = (log.pick(&one), log.pick(&other));
        prop_assume!(one != other);
        log.rows.swap(one, other);
        let id = log.rows[one.max(other)].id;
        let faults = log.faults();
        prop_assert!(faults.contains(&(What::OutOfOrder, id, id)), "{faults:?}");
    }

    #[test]
    fn a_row_that_was_added_behind_the_newest_is_named(
        mut log in any_log(), content in any_content(), hash in any_hash(), follows: bool,
    ) {
        let last = log.rows.last().unwrap();
        let (id, at) = (last.id + 1, Timestamp::from_micros(AT));
        let mut row = ChainedAct { id, at, columns: content.1, hash };
        let what = if follows {
            row.hash = Some(row.after(&last.stored().unwrap()).0.to_vec());
            What::PastHead
        } else {
            What::Added
        };
        log.rows.push(row);
        prop_assert_eq!(log.faults(), [(what, id, id)]);
    }

    #[test]
    fn a_row_that_was_added_in_the_middle_is_named(
        mut log in any_log(), index: Index, content in any_content(), hash in any_hash(),
    ) {
        let place = log.pick(&index);
        let id = log.rows[place].id;
        log.rows[place..].iter_mut().for_each(|row| row.id += 1);
        let at = Timestamp::from_micros(AT);
        log.rows.insert(place, ChainedAct { id, at, columns: content.1, hash });
        let faults = log.faults();
        prop_assert_eq!(faults[0].1, id, "{:?}", faults);
    }

    #[test]
    fn a_row_with_a_hash_from_before_the_chain_is_named(
        mut log in any_log(), index: Index, hash in any_hash(),
    ) {
        prop_assume!(log.began > 0 && hash.is_some());
        let at = index.index(log.began as usize);
        log.rows[at].hash = hash;
        let id = log.rows[at].id;
        prop_assert_eq!(log.faults(), [(What::Added, id, id)]);
    }

    #[test]
    fn a_head_that_was_changed_is_told(
        log in any_log(), last in -2_i64..12, hash in any_hash(), began in -2_i64..12,
    ) {
        let with = |change: &dyn Fn(&mut ChainHead)| {
            let mut changed = log.clone();
            change(changed.head.as_mut().unwrap());
            (changed.head != log.head).then(|| changed.faults())
        };
        if let Some(faults) = with(&|head| head.last_id = last) {
            prop_assert_eq!(faults, [(What::Head, last, last)]);
        }
        let newest = log.rows.len() as i64;
        if let Some(faults) = with(&|head| head.last_hash.clone_from(&hash)) {
            prop_assert_eq!(faults, [(What::Head, newest, newest)]);
        }
        if let Some(faults) = with(&|head| head.began_after = began) {
            let first = log.began + 1;
            prop_assert!(faults.contains(&(What::Beginning, first, first)), "{faults:?}");
        }
        let without = Log { head: None, ..log };
        prop_assert_eq!(without.faults(), [(What::NoHead, newest, newest)]);
    }

    #[test]
    fn the_newest_rows_taken_away_with_the_head_set_back_leave_a_shorter_chain(log in any_log()) {
        let noted = Noted {
            shard: CHAIN.shard,
            id: log.rows.len() as i64,
            hash: log.rows.last().unwrap().stored().unwrap(),
        };
        let contents = log.rows.iter().map(|row| (0, row.columns.clone()));
        let shorter = Log::of(log.began as usize, contents.take(log.rows.len() - 1).collect());
        prop_assume!(shorter.rows.len() > log.began as usize);
        prop_assert_eq!(shorter.faults(), []);
        let mut verifier = Verifier::new(CHAIN, shorter.head.as_ref(), &[noted]);
        shorter.rows.iter().for_each(|row| verifier.take(row));
        let found = verifier.finish(shorter.head.clone()).faults;
        prop_assert_eq!(&found[..], [ChainFault {
            what: What::NotAsNoted, from: noted.id, through: noted.id,
        }]);
    }

    #[test]
    fn a_chain_of_another_cluster_or_shard_does_not_begin_here(log in any_log(), shard: bool) {
        let elsewhere = if shard {
            ChainOf { shard: Shard(4), ..CHAIN }
        } else {
            ChainOf { cluster: ClusterId(Uuid::from_bytes([0x12; 16])), ..CHAIN }
        };
        let mut verifier = Verifier::new(elsewhere, log.head.as_ref(), &[]);
        log.rows.iter().for_each(|row| verifier.take(row));
        let faults = verifier.finish(log.head.clone()).faults;
        let first = log.began + 1;
        prop_assert_eq!(&faults[..], [ChainFault {
            what: What::Changed, from: first, through: first,
        }]);
    }
}

/// Computed by another implementation: what is hashed must never change by accident.
#[test]
fn what_is_hashed_is_what_it_was() {
    let beginning = CHAIN.beginning(7);
    assert_eq!(
        beginning.to_string(),
        "a0fce1e654a027a6a4fe89ed63db7ca2f07aba172f8eff7daaf1b18f70754c6e"
    );
    let actor = Actor { operator: "zoe".into(), reason: None, request: Some(String::new()) };
    let act = Act {
        actor,
        action: "transfer.cancel".into(),
        target: "t".into(),
        before: "{}".into(),
        after: "null".into(),
    };
    let row = ChainedAct::of(8, Timestamp::from_micros(AT), &act);
    let hash = row.after(&beginning);
    assert_eq!(
        hash.to_string(),
        "02422ae109c9e89731d9821279f55a55c445ba2407ad44077176a4a5057086af"
    );
    assert_eq!(hash.to_string().parse(), Ok(hash));
}

#[test]
fn of_many_faults_the_first_are_told_and_the_others_counted() {
    let mut log = Log::of(0, vec![(0, [const { None }; 7]); 1000]);
    log.rows.retain(|row| row.id % 2 == 0);
    let mut verifier = Verifier::new(CHAIN, log.head.as_ref(), &[]);
    log.rows.iter().for_each(|row| verifier.take(row));
    let report = verifier.finish(log.head.clone());
    assert_eq!((report.faults.len(), report.more, report.rows), (100, 400, 500));
    assert_eq!(report.faults[0], ChainFault { what: What::Missing, from: 1, through: 1 });
}

#[test]
fn what_was_noted_is_read_back_and_nothing_else_is() {
    let hash = CHAIN.beginning(0);
    let read: Result<Noted, String> = format!("3:17:{hash}").parse();
    assert_eq!(read, Ok(Noted { shard: Shard(3), id: 17, hash }));
    for text in ["", "3", "3:17", "3:17:", "3:17:0g", "x:17:00", "3:x:00", "70000:1:00"] {
        assert!(text.parse::<Noted>().is_err(), "{text}");
    }
}
