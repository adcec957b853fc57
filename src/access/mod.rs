//! Who may do what: credentials become a principal, and a principal has scopes, some of them for
//! its own accounts and some for all.
//!
//! A credential (an API key, or a bearer token of an OpenID provider) is proof of a principal and
//! nothing more: idempotency keys and accounts belong to the principal, so that a credential can be
//! replaced in the middle of anything.

mod authenticator;
mod key;
mod keys;
mod oidc;
mod principal;
mod scope;
mod token;

pub use authenticator::{Authenticator, Denied, Gate};
pub use key::{ApiKey, KeyId, Minted};
pub use keys::{KeyError, KeyRequest, create, find, list, revoke, rotate};
pub(crate) use oidc::algorithms;
pub use oidc::{Introspection, Oidc, OidcError, OidcSettings};
pub use principal::Principal;
pub use scope::{Role, Scope, Scopes};
pub use token::ALGORITHMS;
