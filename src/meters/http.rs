//! What is counted of each request: handles are kept, for there are many requests and few kinds.

use super::table::{HTTP_REQUESTS, HTTP_SECONDS};
use metrics::{Counter, Histogram};
use std::collections::HashMap;
use std::sync::RwLock;
use std::time::Duration;

/// Requests by route.
#[derive(Default)]
pub struct Requests {
    routes: RwLock<HashMap<String, Vec<Known>>>,
}

/// What a request was, beside its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// One of a fixed set.
    pub method: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// Whether it asked to wait for the end of a transfer.
    pub waits: bool,
}

struct Known {
    answered: Answered,
    requests: Counter,
    seconds: Histogram,
}

impl Known {
    fn count(&self, took: Duration) {
        self.requests.increment(1);
        self.seconds.record(took);
    }
}

impl Requests {
    /// A request was answered.
    pub fn count(&self, route: &str, answered: Answered, took: Duration) {
        const UNBROKEN: &str = "nothing panics while it is held";
        let counted = {
            let routes = self.routes.read().expect(UNBROKEN);
            let known = routes.get(route).into_iter().flatten();
            let found = known.into_iter().find(|known| known.answered == answered);
            found.map(|known| known.count(took)).is_some()
        };
        if counted {
            return;
        }
        let Answered { method, status, waits } = answered;
        let known = Known {
            answered,
            requests: HTTP_REQUESTS.counter(&[route, method, &status.to_string()]),
            seconds: HTTP_SECONDS.histogram(&[route, method, if waits { "yes" } else { "no" }]),
        };
        known.count(took);
        self.routes.write().expect(UNBROKEN).entry(route.to_owned()).or_default().push(known);
    }
}
