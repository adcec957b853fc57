//! The rules: whom a rate is for, for which calls, and which of several counts.

use crate::access::{Principal, Role, Scope};
use crate::domain::Client;
use std::str::FromStr;

/// Which calls share a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Those that change nothing.
    Read,
    /// Those that may.
    Write,
}

impl Class {
    /// Of calls that need a scope.
    pub fn of(scope: Scope) -> Self {
        match scope {
            Scope::TransfersRead
            | Scope::AccountsRead
            | Scope::AuditRead
            | Scope::MetricsRead
            | Scope::ProposalsRead => Self::Read,
            Scope::TransfersWrite
            | Scope::AccountsWrite
            | Scope::AccountsControl
            | Scope::LimitsWrite
            | Scope::ProposalsWrite
            | Scope::ProposalsDecide => Self::Write,
        }
    }

    /// The name in rules and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Tokens that come back, and how many can be saved up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// So many a window.
    pub tokens: u32,
    /// The window in seconds.
    pub seconds: u32,
    /// The most there can be.
    pub burst: u32,
}

impl Rate {
    /// Tokens a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.tokens) / f64::from(self.seconds)
    }
}

/// Whom a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One principal.
    Principal(Client),
    /// All with a role.
    Role(Role),
    /// Everybody who is known.
    Everybody,
    /// An address whose credentials are refused.
    Strangers,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// For whom.
    pub subject: Subject,
    /// For which calls; none for each class on its own.
    pub class: Option<Class>,
    /// How often.
    pub rate: Rate,
}

impl FromStr for Rule {
    type Err = ();

    /// `merchant:write=100/s+200`, `@shop:read=50/s`, `*:*=20/s`, `strangers=10/m`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (whom, rate) = text.rsplit_once('=').ok_or(())?;
        if whom == "strangers" {
            return Ok(Self { subject: Subject::Strangers, class: None, rate: rate.parse()? });
        }
        let (subject, class) = whom.rsplit_once(':').ok_or(())?;
        let class = match class {
            "read" => Some(Class::Read),
            "write" => Some(Class::Write),
            "*" => None,
            _ => return Err(()),
        };
        let subject = match subject.strip_prefix('@') {
            Some(name) => Subject::Principal(name.parse().map_err(|_| ())?),
            None if subject == "*" => Subject::Everybody,
            None => Subject::Role(subject.parse().map_err(|_| ())?),
        };
        Ok(Self { subject, class, rate: rate.parse()? })
    }
}

impl FromStr for Rate {
    type Err = ();

    /// `100/s`, `600/m`, each perhaps with `+200`: so many can be saved up beyond a window's.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (rate, more) = text.split_once('+').unwrap_or((text, "0"));
        let (tokens, unit) = rate.split_once('/').ok_or(())?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(()),
        };
        let tokens: u32 = tokens.parse().map_err(|_| ())?;
        let more: u32 = more.parse().map_err(|_| ())?;
        let burst = tokens.checked_add(more).ok_or(())?;
        if tokens == 0 || burst > 10_000_000 {
            Err(())
        } else {
            Ok(Self { tokens, seconds, burst })
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rate of a principal's calls: its own rule before its roles', of several roles the most
    /// generous, theirs before everybody's; of rules for one subject that of the class before that
    /// of all.
    pub fn of(&self, principal: &Principal, class: Class) -> Option<Rate> {
        let own = self.best(class, |subject| match subject {
            Subject::Principal(name) => *name == principal.client,
            Subject::Role(_) | Subject::Everybody | Subject::Strangers => false,
        });
        let by_role = || {
            let rates = principal
                .roles()
                .iter()
                .filter_map(|role| self.best(class, |subject| *subject == Subject::Role(*role)));
            rates.max_by(|one, other| one.per_second().total_cmp(&other.per_second()))
        };
        own.or_else(by_role).or_else(|| self.best(class, |subject| *subject == Subject::Everybody))
    }

    /// How often an address may show credentials that are refused.
    pub fn of_strangers(&self) -> Option<Rate> {
        self.best(Class::Read, |subject| *subject == Subject::Strangers)
    }

    fn best(&self, class: Class, is: impl Fn(&Subject) -> bool) -> Option<Rate> {
        let of = |wanted: Option<Class>| {
            self.0.iter().find(|rule| rule.class == wanted && is(&rule.subject))
        };
        of(Some(class)).or_else(|| of(None)).map(|rule| rule.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Rules {
        Rules(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn tokens(rules: &Rules, name: &str, roles: &[Role], class: Class) -> Option<u32> {
        let principal = Principal::new(name.parse().unwrap(), roles, None);
        rules.of(&principal, class).map(|rate| rate.tokens)
    }

    #[test]
    fn the_rule_that_is_closest_counts() {
        let rules = rules(&[
            "*:*=1/s",
            "customer:*=2/s",
            "customer:write=3/s",
            "merchant:write=30/s",
            "@shop:write=40/s",
        ]);
        let both = [Role::Customer, Role::Merchant];
        assert_eq!(tokens(&rules, "x", &[Role::Auditor], Class::Read), Some(1));
        assert_eq!(tokens(&rules, "x", &[Role::Customer], Class::Read), Some(2));
        assert_eq!(tokens(&rules, "x", &[Role::Customer], Class::Write), Some(3));
        assert_eq!(tokens(&rules, "x", &both, Class::Write), Some(30));
        assert_eq!(tokens(&rules, "shop", &both, Class::Write), Some(40));
        assert_eq!(tokens(&rules, "shop", &both, Class::Read), Some(2));
        assert_eq!(rules.of_strangers(), None);
    }

    #[test]
    fn rates_are_read_with_their_bursts() {
        let rate = |text: &str| text.parse::<Rate>();
        assert_eq!(rate("100/s"), Ok(Rate { tokens: 100, seconds: 1, burst: 100 }));
        assert_eq!(rate("60/m+40"), Ok(Rate { tokens: 60, seconds: 60, burst: 100 }));
        for wrong in ["", "5", "0/s", "5/d", "-1/s", "5/s+", "5/s+x", "4294967295/s+1"] {
            assert_eq!(rate(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_rule_names_somebody_there_can_be() {
        for wrong in ["king:read=1/s", "@:read=1/s", "merchant=1/s", "merchant:all=1/s", "x"] {
            assert_eq!(wrong.parse::<Rule>(), Err(()), "{wrong}");
        }
        let strangers: Rule = "strangers=10/m".parse().unwrap();
        assert_eq!(strangers.subject, Subject::Strangers);
    }
}
