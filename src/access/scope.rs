//! What can be allowed, and the roles that are bundles of it.

use std::fmt;
use std::str::FromStr;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in credentials and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or_else(|| {
                    let names: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    format!("'{text}' is no {}; there are {}", $what, names.join(", "))
                })
            }
        }
    };
}

named! {
    /// One thing that can be allowed.
    Scope, "scope" {
        /// Reading transfers and what happened to them.
        TransfersRead = "transfers:read",
        /// Making, cancelling and reversing transfers.
        TransfersWrite = "transfers:write",
        /// Reading accounts, balances and ledgers.
        AccountsRead = "accounts:read",
        /// Creating accounts for oneself and changing their metadata.
        AccountsWrite = "accounts:write",
        /// Freezing, closing, overdraft limits, owners, external accounts.
        AccountsControl = "accounts:control",
        /// Reading the audit log.
        AuditRead = "audit:read",
        /// Reading the metrics.
        MetricsRead = "metrics:read",
        /// Reading what is proposed and what became of it.
        ProposalsRead = "proposals:read",
        /// Proposing operations that somebody else has to approve.
        ProposalsWrite = "proposals:write",
        /// Approving and rejecting what others propose.
        ProposalsDecide = "proposals:decide",
        /// Setting velocity limits alone.
        LimitsWrite = "limits:write",
    }
}

named! {
    /// What somebody is; each role is a bundle of scopes.
    Role, "role" {
        /// Sees its own accounts and pays from them.
        Customer = "customer",
        /// A customer that also creates accounts of its own.
        Merchant = "merchant",
        /// Sees all accounts and runs them; proposes what has to do with money.
        Operator = "operator",
        /// Sees all accounts, and decides on what others propose.
        Approver = "approver",
        /// Sees everything and changes nothing.
        Auditor = "auditor",
        /// May do everything.
        Admin = "admin",
    }
}

impl Role {
    /// What it allows on accounts that the principal owns.
    pub fn on_own(self) -> Scopes {
        use Scope::{AccountsRead, AccountsWrite, TransfersRead, TransfersWrite};
        match self {
            Self::Customer => Scopes::of(&[TransfersRead, TransfersWrite, AccountsRead]),
            Self::Merchant => {
                Scopes::of(&[TransfersRead, TransfersWrite, AccountsRead, AccountsWrite])
            }
            Self::Operator | Self::Approver | Self::Auditor | Self::Admin => Scopes::NONE,
        }
    }

    /// What it allows on all accounts, whoever owns them.
    pub fn on_all(self) -> Scopes {
        use Scope::{
            AccountsControl, AccountsRead, AccountsWrite, AuditRead, MetricsRead, ProposalsDecide,
            ProposalsRead, ProposalsWrite, TransfersRead,
        };
        match self {
            Self::Customer | Self::Merchant => Scopes::NONE,
            Self::Operator => Scopes::of(&[
                TransfersRead,
                AccountsRead,
                AccountsWrite,
                AccountsControl,
                MetricsRead,
                ProposalsRead,
                ProposalsWrite,
            ]),
            Self::Approver => {
                Scopes::of(&[TransfersRead, AccountsRead, ProposalsRead, ProposalsDecide])
            }
            Self::Auditor => {
                Scopes::of(&[TransfersRead, AccountsRead, AuditRead, MetricsRead, ProposalsRead])
            }
            Self::Admin => Scopes::ALL,
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// Not one.
    pub const NONE: Self = Self(0);
    /// Every one there is.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// These.
    pub fn of(scopes: &[Scope]) -> Self {
        scopes.iter().fold(Self::NONE, |set, scope| Self(set.0 | (1 << *scope as u32)))
    }

    /// Whether a scope is among them.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }

    /// Those of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
        }
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(*role));
        }
        assert!("king".parse::<Role>().unwrap_err().contains("merchant"));
    }

    #[test]
    fn nobody_but_an_admin_moves_money_that_is_not_its_own() {
        for role in Role::ALL.iter().filter(|role| **role != Role::Admin) {
            assert!(!role.on_all().contains(Scope::TransfersWrite), "{role}");
        }
        assert_eq!(Role::Admin.on_all(), Scopes::ALL);
    }

    #[test]
    fn who_reads_only_writes_nothing() {
        let all = Role::Auditor.on_own().or(Role::Auditor.on_all());
        for scope in all.iter() {
            assert!(scope.as_str().ends_with(":read"), "an auditor has {scope}");
        }
    }

    #[test]
    fn only_an_admin_both_proposes_and_decides() {
        for role in Role::ALL {
            let all = role.on_all();
            let both = all.contains(Scope::ProposalsWrite) && all.contains(Scope::ProposalsDecide);
            assert_eq!(both, *role == Role::Admin, "{role}");
            assert!(!role.on_own().contains(Scope::ProposalsWrite), "{role}");
        }
    }
}
