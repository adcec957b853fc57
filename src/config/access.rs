//! Who is let in.

use super::mask::Secret;
use super::parse::{self, Parsed};
use super::reader::Reader;
use super::{MINUTE, SECOND, ZERO};
use crate::access::{Introspection, OidcSettings, algorithms};
use crate::limits::Rules;

/// How callers say who they are.
#[derive(Clone, Debug)]
pub struct Access {
    /// They do not: everybody may do everything.
    pub open: bool,
    /// Whether somebody asked for the ways below, or they are the default.
    pub given: bool,
    /// By API keys.
    pub keys: bool,
    /// By tokens of this provider.
    pub oidc: Option<OidcSettings>,
    /// How often.
    pub limits: Rules,
    /// Whether callers are let through while limits cannot be looked up.
    pub limits_open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Keys,
    Oidc,
}

fn ways(text: &str) -> Parsed<Vec<Way>> {
    let way = |name: &str| match name {
        "keys" => Ok(Way::Keys),
        "oidc" => Ok(Way::Oidc),
        _ => Err(None),
    };
    parse::list(text)?.into_iter().map(way).collect()
}

fn rules(text: &str) -> Parsed<Rules> {
    let rule = |part: &str| {
        part.parse().map_err(|()| Some(format!("'{part}' is not a rule such as merchant:write=100/s+200, @shop:*=50/s, *:read=600/m or strangers=10/m")))
    };
    parse::list(text)?.into_iter().map(rule).collect::<Parsed<_>>().map(Rules)
}

pub(super) fn read(reader: &mut Reader) -> Access {
    let ways = reader.get("auth", ways);
    let oidc = read_oidc(reader);
    let wanted = ways.contains(&Way::Oidc);
    if wanted && oidc.is_none() {
        reader.refuse("auth", "needs oidc_issuer and oidc_audience where it names oidc");
    }
    Access {
        open: reader.get("insecure_no_auth", parse::any::<bool>),
        given: reader.is_given("auth"),
        keys: ways.contains(&Way::Keys),
        oidc: oidc.filter(|_| wanted),
        limits: reader.get_optional("rate_limits", rules).unwrap_or_default(),
        limits_open: reader.get("rate_limits_without_redis", |text| match text {
            "open" => Ok(true),
            "closed" => Ok(false),
            _ => Err(None),
        }),
    }
}

fn read_oidc(reader: &mut Reader) -> Option<OidcSettings> {
    let issuer = reader.get_optional("oidc_issuer", parse::issuer);
    let audience = reader.get_optional("oidc_audience", parse::word);
    let taken = |text: &str| algorithms(&parse::list(text)?).ok_or(None);
    let algorithms = reader.get("oidc_algorithms", taken);
    let roles_claim = reader.get("oidc_roles_claim", parse::word);
    let leeway = reader.get("oidc_leeway", parse::duration(ZERO..=MINUTE));
    let introspection = read_introspection(reader);
    let (issuer, audience) = (issuer?, audience?);
    Some(OidcSettings { issuer, audience, algorithms, leeway, roles_claim, introspection })
}

fn read_introspection(reader: &mut Reader) -> Option<Introspection> {
    let client = reader.get_optional("oidc_client_id", parse::word);
    let some = |text: &str| match text.chars().count() {
        1..=1024 => Ok(Secret::new(text)),
        _ => Err(None),
    };
    let secret = reader.get_optional("oidc_client_secret", some);
    let every = reader.get("oidc_introspection_interval", parse::duration(SECOND..=MINUTE));
    match (client, secret) {
        (Some(client), Some(secret)) => Some(Introspection { client, secret, every }),
        (None, None) => None,
        (Some(_), None) => {
            reader.refuse("oidc_client_id", "needs oidc_client_secret too");
            None
        }
        (None, Some(_)) => {
            reader.refuse("oidc_client_secret", "needs oidc_client_id too");
            None
        }
    }
}
