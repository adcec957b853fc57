//! Log lines that a loop would repeat for as long as an outage lasts: one now and then, which says
//! how many it stands for.

use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long one line stands for all that are like it.
const INTERVAL: Duration = Duration::from_secs(10);

/// When a line was written last, and how many were left out since.
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// The first line is written.
    pub const fn unsaid() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Whether the line is to be written: then how many were left out since the last one.
    pub fn due(&self) -> Option<u64> {
        let mut state = self.0.lock().expect("nothing panics while it is held");
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < INTERVAL) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_stands_for_those_that_are_left_out() {
        let seldom = Seldom::unsaid();
        assert_eq!(seldom.due(), Some(0));
        assert_eq!((seldom.due(), seldom.due()), (None, None));
        tokio::time::advance(INTERVAL).await;
        assert_eq!((seldom.due(), seldom.due()), (Some(2), None));
    }
}
