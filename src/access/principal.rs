//! Who acts.

use super::scope::{Role, Scope, Scopes};
use crate::domain::Client;

/// Who acts, and what that may do. Idempotency keys and accounts belong to `client`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its name: of a key's owner, or a token's subject.
    pub client: Client,
    roles: Vec<Role>,
    on_own: Scopes,
    on_all: Scopes,
}

impl Principal {
    /// What these roles allow, no more than `limit` where there is one.
    pub fn new(client: Client, roles: &[Role], limit: Option<Scopes>) -> Self {
        let limit = limit.unwrap_or(Scopes::ALL);
        let sum = |of: fn(Role) -> Scopes| {
            roles.iter().fold(Scopes::NONE, |sum, role| sum.or(of(*role))).and(limit)
        };
        let (on_own, on_all) = (sum(Role::on_own), sum(Role::on_all));
        Self { client, roles: roles.to_vec(), on_own, on_all }
    }

    /// Where nobody has to say who they are: may do everything.
    pub fn anybody(client: Client) -> Self {
        Self::new(client, &[Role::Admin], None)
    }

    /// What it is.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Whether it has a scope, be it for its own accounts only.
    pub fn may(&self, scope: Scope) -> bool {
        self.on_own.or(self.on_all).contains(scope)
    }

    /// Whether it has a scope for accounts that it does not own.
    pub fn may_on_all(&self, scope: Scope) -> bool {
        self.on_all.contains(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(roles: &[Role], limit: Option<Scopes>) -> Principal {
        Principal::new("shop".parse().unwrap(), roles, limit)
    }

    #[test]
    fn seeing_all_does_not_make_a_customer_pay_from_all() {
        let both = principal(&[Role::Customer, Role::Auditor], None);
        assert!(both.may(Scope::TransfersWrite) && !both.may_on_all(Scope::TransfersWrite));
        assert!(both.may_on_all(Scope::TransfersRead));
    }

    #[test]
    fn a_limit_takes_away_and_never_adds() {
        let limit = Scopes::of(&[Scope::TransfersRead, Scope::AuditRead]);
        let limited = principal(&[Role::Merchant], Some(limit));
        assert!(limited.may(Scope::TransfersRead));
        assert!(!limited.may(Scope::TransfersWrite) && !limited.may(Scope::AuditRead));
    }

    #[test]
    fn nobody_in_particular_may_nothing() {
        let none = principal(&[], None);
        assert!(Scope::ALL.iter().all(|scope| !none.may(*scope)));
    }
}
