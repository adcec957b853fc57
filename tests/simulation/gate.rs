//! The gate between a process and the world: every port call passes it before and after its effect.
//! Here calls are put into another order, fail, stay unanswered, or never return.

use crate::faults::{Act, Side};
use crate::world::{State, World, pass};
use holdfast::domain::Shard;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer comes.
    Unanswered,
    /// The database gave the transaction up.
    GivenUp,
    /// The COMMIT is not confirmed; it happens, or does not, now or later.
    Unconfirmed { applied: bool, after: Duration },
}

/// Gates that a history may pass: the longest that end pass a small part of it.
const MOST_CALLS: u64 = 5_000_000;

enum Fate {
    Go,
    Yield(u64),
    Pause(Duration),
    Fail(Trouble),
    Never,
}

/// The gate of one incarnation of a process.
#[derive(Clone)]
pub struct Gate {
    pub world: Arc<World>,
    pub process: usize,
}

impl Gate {
    /// Before the effect of a call.
    pub async fn enter(&self, call: &'static str, shard: Option<Shard>) -> Result<(), Trouble> {
        self.cross(call, shard, Side::Before).await
    }

    /// After it.
    pub async fn leave(&self, call: &'static str, shard: Option<Shard>) -> Result<(), Trouble> {
        self.cross(call, shard, Side::After).await
    }

    async fn cross(
        &self,
        call: &'static str,
        shard: Option<Shard>,
        side: Side,
    ) -> Result<(), Trouble> {
        let first = self.draw(call, shard, side);
        match first {
            Fate::Go => return Ok(()),
            Fate::Yield(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
            Fate::Pause(time) => pass(time).await,
            Fate::Fail(trouble) => return Err(trouble),
            Fate::Never => {}
        }
        while let Some(until) = self.held_up() {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending::<()>().await,
            }
        }
        Ok(())
    }

    /// Whether the process is dead (for ever) or stalled (until then).
    fn held_up(&self) -> Option<Option<Instant>> {
        let state = self.world.lock();
        let life = &state.lives[self.process];
        if life.dead {
            return Some(None);
        }
        life.stalled_until.filter(|until| *until > Instant::now()).map(Some)
    }

    fn draw(&self, call: &'static str, shard: Option<Shard>, side: Side) -> Fate {
        let mut state = self.world.lock();
        let state = &mut *state;
        let life = &state.lives[self.process];
        if life.dead {
            return Fate::Never;
        }
        if life.stalled_until.is_some_and(|until| until > Instant::now()) {
            return Fate::Pause(Duration::ZERO);
        }
        state.calls += 1;
        if state.calls == MOST_CALLS {
            let what = format!("{MOST_CALLS} calls and no end: {call} and others, in circles");
            self.world.violate(state, what);
        }
        state.trace.mix(self.process as u64 ^ (u64::from(side == Side::After) << 32));
        state.trace.mix_text(call);
        state.trace.mix(self.world.elapsed().as_micros() as u64);
        let fate = match scripted(state, self.process, call, shard, side) {
            Some(act) => self.scripted(state, act),
            None if state.lives[self.process].spared => Fate::Go,
            None => self.chosen(state, call, side),
        };
        let short = matches!(&fate, Fate::Pause(time) if *time < Duration::from_millis(100));
        if !short && call != "poll" && !matches!(fate, Fate::Go | Fate::Yield(_)) {
            let (at, process) = (self.world.elapsed(), self.process);
            let place = shard.map_or_else(String::new, |shard| format!(" on shard {shard}"));
            let what = match &fate {
                Fate::Pause(time) => format!("waits {time:?}"),
                Fate::Fail(trouble) => format!("{trouble:?}"),
                Fate::Never | Fate::Go | Fate::Yield(_) => "the process is gone".to_owned(),
            };
            state.trace.say(at, || format!("process {process}: {side:?} {call}{place}: {what}"));
        }
        fate
    }

    fn scripted(&self, state: &mut State, act: Act) -> Fate {
        match act {
            Act::Crash => self.crash(state),
            Act::Stall(time) => self.stall(state, time, true, true),
            Act::Pause(time) => Fate::Pause(time),
            Act::Unanswered => Fate::Fail(Trouble::Unanswered),
            Act::Unconfirmed { applied, after } => {
                Fate::Fail(Trouble::Unconfirmed { applied, after })
            }
        }
    }

    fn chosen(&self, state: &mut State, call: &'static str, side: Side) -> Fate {
        if state.faults.over {
            return Fate::Go;
        }
        let (dice, faults, counts) = (&mut state.dice, &state.faults, &mut state.counts);
        // One draw for all kinds: they are seldom, and this is the most frequent of all calls.
        let mut draw = dice.below(10_000) as u32;
        let mut hit = |chance: u32| {
            let hit = draw < chance;
            draw = draw.wrapping_sub(chance);
            hit
        };
        if faults.lives_to_take > 0 && hit(faults.crash) {
            counts.add(if side == Side::Before { "crash before" } else { "crash after" });
            return self.crash(state);
        }
        if faults.lives_to_take > 0 && hit(faults.stall) {
            counts.add("stall");
            let time = dice.millis(200, 15_000);
            let (loses, expelled) = (dice.chance(5000), dice.chance(7500));
            return self.stall(state, time, loses, expelled);
        }
        if call == "commit" && hit(faults.unconfirmed) {
            counts.add("unconfirmed COMMIT");
            let applied = side == Side::After || dice.chance(5000);
            let late = side == Side::Before && dice.chance(3000);
            let after = if late { dice.millis(1, 3000) } else { Duration::ZERO };
            return Fate::Fail(Trouble::Unconfirmed { applied, after });
        }
        if hit(faults.unanswered) {
            counts.add("unanswered call");
            return Fate::Fail(Trouble::Unanswered);
        }
        if side == Side::Before && hit(faults.given_up) {
            counts.add("transaction given up");
            return Fate::Fail(Trouble::GivenUp);
        }
        if hit(faults.long_pauses) {
            counts.add("long pause");
            return Fate::Pause(dice.millis(500, 8000));
        }
        if hit(faults.pauses) {
            counts.add("pause");
            return Fate::Pause(dice.millis(1, 40));
        }
        if hit(faults.yields) { Fate::Yield(1 + dice.below(3)) } else { Fate::Go }
    }

    fn crash(&self, state: &mut State) -> Fate {
        state.faults.lives_to_take = state.faults.lives_to_take.saturating_sub(1);
        self.world.kill(state, self.process);
        Fate::Never
    }

    fn stall(&self, state: &mut State, time: Duration, loses: bool, expelled: bool) -> Fate {
        state.faults.lives_to_take = state.faults.lives_to_take.saturating_sub(1);
        self.world.stall(state, self.process, time);
        if loses {
            state.counts.add("transactions lost to a stall");
            for database in &mut state.databases {
                database.disconnect(self.process);
            }
        }
        if expelled {
            state.counts.add("zombie");
            state.log.expel(self.process, &mut state.dice);
        }
        Fate::Pause(Duration::ZERO)
    }
}

/// The first rule that matches here and is due.
fn scripted(
    state: &mut State,
    process: usize,
    call: &'static str,
    shard: Option<Shard>,
    side: Side,
) -> Option<Act> {
    let at = state.rules.iter_mut().position(|rule| {
        let matches = rule.call == call
            && rule.side == side
            && rule.process.is_none_or(|of| of == process)
            && (rule.shard.is_none() || rule.shard == shard);
        if matches && rule.skip > 0 {
            rule.skip -= 1;
            return false;
        }
        matches
    })?;
    Some(state.rules.remove(at).act)
}

impl World {
    /// The process does nothing from now on: what it had open is rolled back, sooner or later, and
    /// its partitions go to others when its session has run out.
    pub fn kill(&self, state: &mut State, process: usize) {
        state.lives[process].dead = true;
        for database in &mut state.databases {
            database.disconnect(process);
        }
        state.crashed.push(process);
        self.crashes.notify_one();
        let at = self.elapsed();
        state.trace.say(at, || format!("process {process} crashes"));
    }

    /// The process stands still.
    pub fn stall(&self, state: &mut State, process: usize, time: Duration) {
        let at = self.elapsed();
        state.trace.say(at, || format!("process {process} stands still for {time:?}"));
        state.lives[process].stalled_until = Some(Instant::now() + time);
    }
}
