//! Randomness: the thread's generator, which a simulation may seed so that a run can be repeated.
//!
//! Whatever of the product is random asks here (how long to back off, what makes an id unique), so
//! that nothing else stands between a seed and what it did.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::time::Duration;

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on everything that is random in this thread follows from `seed`. For simulations.
pub fn seed_thread(seed: u64) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(StdRng::seed_from_u64(seed)));
}

/// 64 random bits.
pub fn bits() -> u64 {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(generator) => generator.random(),
        None => rand::random(),
    })
}

/// A random time from zero to `longest`, both possible, in whole microseconds.
pub fn up_to(longest: Duration) -> Duration {
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    match micros.checked_add(1) {
        Some(choices) => Duration::from_micros(bits() % choices),
        None => Duration::from_micros(bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeded_thread_repeats_itself() {
        let drawn = || {
            seed_thread(7);
            [bits(), bits()]
        };
        assert_eq!(drawn(), drawn());
        assert_ne!(drawn()[0], drawn()[1]);
    }

    #[test]
    fn random_times_stay_within_their_bound() {
        let longest = Duration::from_micros(3);
        assert!((0..100).all(|_| up_to(longest) <= longest));
        assert_eq!(up_to(Duration::ZERO), Duration::ZERO);
    }
}
