//! One history: a world drawn from a seed, callers, faults, and then quiet until nothing is left.

use crate::chaos;
use crate::clients::{self, Caller};
use crate::faults::{Counts, Faults};
use crate::fleet::{Fleet, ROLES};
use crate::limiter::Limiter;
use crate::world::{Life, State, World, pass};
use holdfast::domain::{AccountRow, Reason};
use holdfast::roles::Role;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::time::Instant;

/// How much virtual time the rest may take once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What came of a history.
pub struct Outcome {
    pub violation: Option<String>,
    pub hash: u64,
    pub counts: Counts,
    pub lines: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static SIMULATING: RefCell<bool> = const { RefCell::new(false) };
}

/// A panic anywhere in the product is a violation: it is kept for the history that it belongs to.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SIMULATING.with_borrow(|simulating| *simulating) {
                return before(info);
            }
            PANIC.with_borrow_mut(|first| {
                first.get_or_insert_with(|| format!("a panic: {info}"));
            });
        }));
    });
}

/// Runs work in a thread of its own world: virtual time, seeded randomness.
pub fn simulate<T>(seed: u64, work: impl Future<Output = T>) -> Result<T, String> {
    keep_panics();
    PANIC.with_borrow_mut(Option::take);
    SIMULATING.with_borrow_mut(|simulating| *simulating = true);
    holdfast::random::seed_thread(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let done = catch_unwind(AssertUnwindSafe(|| {
        let done = runtime.block_on(work);
        drop(runtime);
        done
    }));
    SIMULATING.with_borrow_mut(|simulating| *simulating = false);
    match (PANIC.with_borrow_mut(Option::take), done) {
        (Some(panic), _) => Err(panic),
        (None, Ok(done)) => Ok(done),
        (None, Err(_)) => Err("a panic without a word".to_owned()),
    }
}

/// The panic that a task of this history ended in.
pub fn panicked() -> Option<String> {
    PANIC.with_borrow(Clone::clone)
}

/// Runs the history of a seed. `readable` keeps what happened as text.
pub fn run(seed: u64, readable: bool) -> Outcome {
    let mut world = None;
    let done = simulate(seed, async {
        let mut dice = crate::dice::Dice::new(seed ^ 0x5EED);
        let faults = Faults::draw(&mut dice);
        let partitions = 1 + dice.below(2) as u32;
        let made = World::new(seed, partitions, faults, readable);
        world = Some(made.clone());
        live(&made, dice, crate::dice::Dice::new(seed ^ 0x11_317)).await;
    });
    let Some(world) = world else {
        let violation = done.err().or(Some("no world".to_owned()));
        let (counts, lines) = (Counts::default(), Vec::new());
        return Outcome { violation, hash: 0, counts, lines };
    };
    // Each has its way back to the world: nothing of a history would ever be freed.
    world.close_doors();
    let mut state = match world.state.lock() {
        Ok(state) => state,
        Err(poisoned) => poisoned.into_inner(),
    };
    Outcome {
        violation: done.err().or(state.violation.take()),
        hash: state.trace.hash(),
        counts: std::mem::take(&mut state.counts),
        lines: state.trace.take_lines(),
    }
}

async fn live(world: &Arc<World>, mut dice: crate::dice::Dice, mut limits: crate::dice::Dice) {
    let batch = *dice.pick(&[1, 3, 20, 50]);
    let fleet = Fleet::new(world, batch);
    let accounts = clients::accounts(world);
    for machine in 0..1 + dice.below(3) {
        let some: Vec<Role> = ROLES.into_iter().filter(|_| dice.chance(6000)).collect();
        fleet.add(if machine == 0 { &ROLES } else { &some });
    }
    tokio::spawn(fleet.clone().supervise());
    let mut busy = Vec::new();
    if limits.chance(2500) {
        let limiter = Limiter { fleet: fleet.clone(), accounts: accounts.clone(), dice: limits };
        busy.push(tokio::spawn(limiter.run()));
    }
    for number in 0..1 + dice.below(3) {
        let (fleet, accounts) = (fleet.clone(), accounts.clone());
        let caller = Caller { fleet, accounts, name: format!("caller{number}"), number: 0 };
        busy.push(tokio::spawn(caller.run(3 + dice.below(9))));
    }
    if dice.chance(1200) {
        for database in &mut world.lock().databases {
            database.remembers = true;
        }
        let (fleet, after) = (fleet.clone(), dice.millis(500, 8000));
        busy.push(tokio::spawn(async move {
            pass(after).await;
            chaos::happen(&fleet, chaos::Happening::Promotion).await;
        }));
    }
    for _ in 0..dice.below(3) {
        busy.push(tokio::spawn(chaos::run(fleet.clone(), 1 + dice.below(3))));
    }
    let all = async {
        for task in busy {
            let _ = task.await;
        }
        calm(world);
        rest(&fleet, PATIENCE).await;
    };
    tokio::select! {
        biased;
        () = world.violated.notified() => {}
        () = all => {}
    }
}

/// From now on nothing goes wrong any more.
pub fn calm(world: &World) {
    let mut state = world.lock();
    state.faults.over = true;
    state.log.down = false;
    for database in &mut state.databases {
        database.down = false;
    }
    let at = world.elapsed();
    state.trace.say(at, || "from here on nothing goes wrong".to_owned());
}

/// Waits until nothing moves, then has everything audited.
pub async fn rest(fleet: &Arc<Fleet>, patience: Duration) {
    let world = &fleet.world;
    let begun = world.elapsed();
    // What a caller gave up long ago may still come to a database while the audit runs.
    while quiet(fleet, begun + patience).await {
        chaos::audit_now(fleet).await;
        let mut state = world.lock();
        if moving(&state).is_none() {
            return conclude(world, &mut state);
        }
    }
}

/// Waits until nothing moves; false where something is wrong before that.
async fn quiet(fleet: &Arc<Fleet>, until: Duration) -> bool {
    let world = &fleet.world;
    loop {
        pass(Duration::from_millis(200)).await;
        if panicked().is_some() {
            return false;
        }
        let mut state = world.lock();
        let Some(open) = moving(&state) else { return true };
        if world.elapsed() > until {
            world.violate(&mut state, format!("it does not come to rest: {open}"));
            return false;
        }
    }
}

/// What must be true in the end, and how much there was of everything.
fn conclude(world: &World, state: &mut State) {
    let tables: Vec<_> = state.databases.iter().map(|database| &database.tables).collect();
    let verdict = state.auditor.ended(&tables).and_then(|()| state.book.kept(&state.auditor));
    world.judge(state, verdict);
    let ends: Vec<&'static str> =
        state.auditor.transfers.values().map(|seen| seen.state.as_str()).collect();
    ends.into_iter().for_each(|end| state.counts.add(end));
    let over = state.auditor.transfers.values();
    let over = over.filter(|seen| seen.reason == Some(Reason::VelocityLimitExceeded)).count();
    state.counts.add_many("over a velocity limit", over as u64);
    state.counts.add_many("port calls", state.calls / 2);
    state.counts.add_many("virtual seconds", world.elapsed().as_secs());
}

/// What is still to be done, if anything.
fn moving(state: &State) -> Option<String> {
    if let Some(open) = state.auditor.open() {
        return Some(open);
    }
    let still =
        |life: &Life| !life.dead && life.stalled_until.is_some_and(|at| at > Instant::now());
    if state.lives.iter().any(still) {
        return Some("a process stands still".to_owned());
    }
    for database in &state.databases {
        if !database.tables.outbox.is_empty() {
            return Some("an outbox is not empty".to_owned());
        }
        if !database.open.is_empty() {
            return Some("a transaction is open".to_owned());
        }
        for (id, stored) in &database.tables.accounts {
            let expected = AccountRow { quarantined: false, ..stored.row.clone() };
            if database.tables.balances.get(id).is_none_or(|known| known.row != expected) {
                return Some(format!("the projection of {id} is behind"));
            }
        }
    }
    for (name, group) in &state.log.groups {
        for place in group.members.values().flat_map(|member| &member.subscribed) {
            let committed = group.committed.get(place).copied().unwrap_or(0);
            if committed < state.log.end(*place) {
                return Some(format!(
                    "{name} is behind in {} partition {}: {committed} of {}",
                    place.0,
                    place.1,
                    state.log.end(*place)
                ));
            }
        }
    }
    None
}
