//! How many requests may be under way at once, and how many bytes of their bodies: what a process
//! keeps in memory for its callers is bounded by this. Who does not fit is told so before the body
//! is read.

use super::extract::MAX_BATCH_BODY;
use super::problem::{Code, Problem};
use crate::meters::table::CROWDED;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests, most of which wait for a commit or for the end of a transfer.
const REQUESTS: usize = 16_384;
/// Bytes of their bodies.
const BYTES: usize = 512 * 1024 * 1024;
/// Paths for operators, who look when everything else is too much.
const FOR_OPERATORS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The room that is left. Cheap to clone.
#[derive(Clone)]
pub struct Crowd {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The room that a request takes, until this is dropped.
pub struct Place {
    _request: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Crowd {
    /// Nobody is there.
    pub fn none() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(REQUESTS)),
            bytes: Arc::new(Semaphore::new(BYTES)),
        }
    }

    /// A place for a request of this route.
    pub fn enter(&self, route: &str, headers: &HeaderMap) -> Result<Place, Problem> {
        if FOR_OPERATORS.contains(&route) {
            return Ok(Place { _request: None, _bytes: None });
        }
        let take = |room: &Arc<Semaphore>, wanted| {
            let taken = Arc::clone(room).try_acquire_many_owned(wanted);
            taken.map(Some).map_err(|_| too_many())
        };
        Ok(Place {
            _request: take(&self.requests, 1)?,
            _bytes: take(&self.bytes, length(headers))?,
        })
    }
}

/// Bytes of the body, as far as they will be read; of one that does not say, as many as may be.
fn length(headers: &HeaderMap) -> u32 {
    let told = headers.get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok());
    let unknown = if headers.contains_key(TRANSFER_ENCODING) { usize::MAX } else { 0 };
    u32::try_from(told.unwrap_or(unknown).min(MAX_BATCH_BODY)).unwrap_or(u32::MAX)
}

fn too_many() -> Problem {
    CROWDED.counter(&[]).increment(1);
    Problem::new(
        Code::Overloaded,
        "too many requests are under way; nothing was accepted, repeat the request with the same key later",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_body(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, bytes.into())])
    }

    #[test]
    fn who_comes_too_many_is_refused_and_operators_never() {
        let (crowd, small) = (Crowd::none(), with_body(1));
        let all: Vec<_> =
            (0..REQUESTS).map(|_| crowd.enter("/v1/transfers", &small).ok().unwrap()).collect();
        assert_eq!(crowd.enter("/v1/transfers", &small).err().unwrap().code, Code::Overloaded);
        assert!(FOR_OPERATORS.into_iter().all(|route| crowd.enter(route, &small).is_ok()));
        drop(all);
        assert!(crowd.enter("/v1/transfers", &small).is_ok());
    }

    #[test]
    fn bodies_take_room_by_what_is_read_of_them() {
        let chunked = HeaderMap::from_iter([(TRANSFER_ENCODING, "chunked".parse().unwrap())]);
        let huge = with_body(usize::MAX);
        for headers in [with_body(MAX_BATCH_BODY), huge, chunked] {
            let crowd = Crowd::none();
            let places =
                (0..REQUESTS).map_while(|_| crowd.enter("/v1/transfers/batch", &headers).ok());
            assert_eq!(places.collect::<Vec<_>>().len(), BYTES / MAX_BATCH_BODY);
        }
        let crowd = Crowd::none();
        let reads =
            (0..REQUESTS).map_while(|_| crowd.enter("/v1/accounts", &HeaderMap::new()).ok());
        assert_eq!(reads.collect::<Vec<_>>().len(), REQUESTS, "what has no body takes none");
    }
}
