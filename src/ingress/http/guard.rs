//! Lets a request through to its handler, or not: who it comes from, and whether that may do this.

use super::extract::Call;
use super::permissions::{About, Need, Permissions};
use super::problem::{Code, Problem};
use crate::access::{Denied, Gate, Principal, Role, Scope};
use crate::ingress::{Ingress, Refusals, Refused};
use crate::limits::{Class, Limiter, Verdict};
use crate::store::Actor;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What it looks into.
#[derive(Clone)]
pub struct Guard {
    gate: Gate,
    limiter: Option<Limiter>,
    refusals: Refusals,
    ingress: Ingress,
    permissions: Arc<Permissions>,
}

impl Guard {
    /// At this gate, in front of this application.
    pub fn new(gate: Gate, limiter: Option<Limiter>, ingress: Ingress) -> Self {
        let refusals = Refusals::start(ingress.clone());
        Self { gate, limiter, refusals, ingress, permissions: Arc::new(Permissions::of_table()) }
    }

    /// Who a request comes from; nobody where nobody is asked. What was taken of its rate is told
    /// either way.
    async fn admit(
        &self,
        asked: &Asked<'_>,
        told: &mut Option<Verdict>,
    ) -> Result<Option<Who>, Problem> {
        // Whatever is not routed is answered by the fallbacks, which look at nothing.
        let Some(Need::Scope(scope, about)) = self.permissions.need(asked.method, asked.path)
        else {
            return Ok(None);
        };
        let principal = self.known(asked).await?;
        let class = Class::of(scope);
        let meter = self.limiter.clone().map(|limiter| Meter { limiter, class });
        let who = Who { principal, meter };
        *told = who.take(1).await;
        limited(*told)?;
        let seen = if who.principal.may(scope) {
            self.sees(&who.principal, scope, about, asked.id).await
        } else {
            let detail =
                format!("the scope {scope} is needed, which this credential does not have");
            Err(Problem::new(Code::Forbidden, detail))
        };
        if let Err(problem) = &seen {
            self.note(who.principal.client.to_string(), asked, problem.code);
        }
        seen.map(|()| Some(who))
    }

    /// Puts a refusal on record: of who may not, of who cannot be known, and of who asks for what
    /// is somebody else's or not there.
    fn note(&self, who: String, asked: &Asked<'_>, code: Code) {
        let refusals =
            [Code::Unauthenticated, Code::Forbidden, Code::AccountNotFound, Code::TransferNotFound];
        if refusals.contains(&code) {
            let what = format!("{} {}", asked.method, asked.path);
            self.refusals.tell(Refused { who, what, code: code.as_str() }, asked.request);
        }
    }

    /// By its credential. An address that shows too many that do not hold is not asked for more.
    async fn known(&self, asked: &Asked<'_>) -> Result<Arc<Principal>, Problem> {
        let watched = self.limiter.as_ref().zip(asked.address);
        if let Some((limiter, address)) = watched
            && let Some(wait) = limiter.is_refused(address)
        {
            return Err(too_often(wait));
        }
        let admitted = match bearer(asked.headers) {
            Ok(credential) => self.gate.admit(credential).await.map_err(Problem::from),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = &admitted
            && problem.code == Code::Unauthenticated
        {
            let from = asked.address.map_or("unknown".to_owned(), |address| address.to_string());
            self.note(from, asked, problem.code);
            if let Some((limiter, address)) = watched {
                limiter.stranger(address).await;
            }
        }
        admitted
    }

    async fn sees(
        &self,
        principal: &Principal,
        scope: Scope,
        about: About,
        id: &str,
    ) -> Result<(), Problem> {
        // What is no id is the handler's to refuse: it stands for nothing that could be seen.
        match about {
            About::Nothing => {}
            About::Account => {
                if let Ok(id) = id.parse() {
                    self.ingress.sees_account(principal, scope, &id).await?;
                }
            }
            About::Transfer(part) => {
                if let Ok(id) = id.parse() {
                    self.ingress.sees_transfer(principal, scope, part, id).await?;
                }
            }
        }
        Ok(())
    }
}

/// What the guard looks at.
struct Asked<'a> {
    method: &'a Method,
    path: &'a str,
    headers: &'a HeaderMap,
    /// What the path names: the account by the name of a route where it names none.
    id: &'a str,
    address: Option<IpAddr>,
    /// The request's id.
    request: &'a str,
}

/// A problem, where a rate is used up.
fn limited(verdict: Option<Verdict>) -> Result<(), Problem> {
    match verdict {
        None | Some(Verdict::Within(..) | Verdict::Unknown) => Ok(()),
        Some(Verdict::Beyond(_, taken)) => Err(too_often(taken.wait)),
        Some(Verdict::Closed) => {
            let detail = "rate limits cannot be looked up now; nothing was accepted, repeat the request with the same key later";
            Err(Problem::new(Code::Overloaded, detail))
        }
    }
}

fn too_often(wait: Duration) -> Problem {
    let seconds = whole_seconds(wait);
    let detail = format!("too many requests; nothing was accepted, repeat it in {seconds} s");
    Problem { retry_after: Some(seconds), ..Problem::new(Code::RateLimited, detail) }
}

/// Rounded up, and at least one.
fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_micros().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}

/// Says by which rate a request was let through or not, and what is left of it.
fn tell(headers: &mut HeaderMap, class: Class, verdict: Option<Verdict>) {
    let Some(Verdict::Within(rate, taken) | Verdict::Beyond(rate, taken)) = verdict else { return };
    let name = class.as_str();
    let policy = format!("\"{name}\";q={};w={}", rate.tokens, rate.seconds);
    let left = format!("\"{name}\";r={};t={}", taken.left, taken.wait.as_secs().max(1));
    for (header, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
        headers.insert(header, HeaderValue::try_from(text).expect("digits and a name"));
    }
}

/// The credential of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let told = value.to_str().ok().and_then(|text| text.split_once(' '));
    match told {
        Some((scheme, text))
            if scheme.eq_ignore_ascii_case("bearer") && values.next().is_none() =>
        {
            Ok(Some(text.trim()))
        }
        _ => {
            let detail = "Authorization must be given once, as Bearer and an API key or a token";
            Err(Problem::new(Code::Unauthenticated, detail))
        }
    }
}

/// In front of every handler.
pub async fn guard(
    State(guard): State<Guard>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    call: Call,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let asked = Asked {
        method: request.method(),
        path,
        headers: request.headers(),
        id: match &params {
            Ok(params) => params.iter().next().map_or("batch", |(_, id)| id),
            Err(_) => "",
        },
        address: peer.map(|peer| peer.ip()),
        request: &call.request_id,
    };
    let class = match guard.permissions.need(request.method(), path) {
        Some(Need::Scope(scope, _)) => Class::of(scope),
        Some(Need::Nothing) | None => Class::Read,
    };
    let mut told = None;
    let mut response = match guard.admit(&asked, &mut told).await {
        Ok(Some(who)) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Ok(None) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    tell(response.headers_mut(), class, told);
    response
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::new(
                Code::Unauthenticated,
                "say who you are: Authorization: Bearer, and an API key or a token",
            ),
            Denied::Invalid(why) => Self::new(Code::Unauthenticated, why),
            Denied::Unavailable(why) => {
                tracing::warn!(why, "callers cannot be told apart");
                let detail = "it cannot be found out now who you are; nothing was done";
                Self::new(Code::AuthenticationUnavailable, detail)
            }
        }
    }
}

/// Who a request comes from.
#[derive(Clone)]
pub struct Who {
    /// Who.
    pub principal: Arc<Principal>,
    meter: Option<Meter>,
}

/// What its calls are counted by.
#[derive(Clone)]
struct Meter {
    limiter: Limiter,
    class: Class,
}

impl Who {
    async fn take(&self, calls: u32) -> Option<Verdict> {
        let meter = self.meter.as_ref()?;
        meter.limiter.take(&self.principal, meter.class, calls).await
    }

    /// A batch counts as many calls as it has items; the request itself was one.
    pub async fn count_items(&self, items: usize) -> Result<(), Problem> {
        let more = u32::try_from(items).unwrap_or(u32::MAX).saturating_sub(1);
        if more == 0 { Ok(()) } else { limited(self.take(more).await) }
    }

    /// For the audit log.
    pub fn actor(&self, call: &Call) -> Actor {
        let request = call.request_id.chars().take(64).collect();
        Actor { operator: self.principal.client.to_string(), reason: None, request: Some(request) }
    }

    /// A problem, unless it may set overdraft limits alone.
    pub fn changes_limits(&self) -> Result<(), Problem> {
        self.is_admin(
            "an overdraft limit is changed by two: propose it (POST /v1/proposals with kind \
             change_limit), and have somebody else approve it",
        )
    }

    /// A problem, unless it may say alone from which accounts money comes, and who pays with them.
    pub fn opens_accounts_to_others(&self) -> Result<(), Problem> {
        self.is_admin("only an admin makes external accounts and gives accounts to another owner")
    }

    fn is_admin(&self, otherwise: &str) -> Result<(), Problem> {
        if self.principal.roles().contains(&Role::Admin) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, otherwise))
    }

    /// A problem, unless it has this scope on accounts that it does not own.
    pub fn needs_on_all(&self, scope: Scope, what: &str) -> Result<(), Problem> {
        if self.principal.may_on_all(scope) {
            return Ok(());
        }
        let detail = format!("{what} needs the scope {scope}, which this credential does not have");
        Err(Problem::new(Code::Forbidden, detail))
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let missing = || Problem::new(Code::Unauthenticated, "this call needs a credential");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}
