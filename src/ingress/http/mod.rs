//! The REST API: requests are parsed here once, and answered here; what happens in between is the
//! application's and knows nothing of HTTP.

mod extras;

pub use extras::{DependencyStatus, Health, HttpExtras, Readiness};

use super::Ingress;
use axum::Router;

/// The whole API. Every error it answers is a problem document.
pub fn router(_ingress: Ingress, _extras: HttpExtras) -> Router {
    Router::new()
}
