//! Every route, every role and nobody, on what is theirs, what is others' and what is not there.

use super::super::world::{Answer, World};
use super::{key, transfer, world};
use holdfast::access::Role;
use holdfast::ingress::http::{Need, PERMISSIONS};
use std::collections::BTreeSet;

/// What is said in words here is what the program's own table must come to. `own` is allowed on
/// accounts of one's own, `all` on all; whoever is not named is forbidden; `anybody` needs no
/// credential.
const EXPECTED: &[(&str, &str)] = &[
    ("POST /v1/accounts", "merchant=all operator=all admin=all"),
    ("POST /v1/accounts/batch", "merchant=all operator=all admin=all"),
    (
        "GET /v1/accounts",
        "customer=all merchant=all operator=all approver=all auditor=all admin=all",
    ),
    ("GET /v1/accounts/{id}", READ),
    ("PATCH /v1/accounts/{id}", "merchant=own operator=all admin=all"),
    ("GET /v1/accounts/{id}/balance", READ),
    ("GET /v1/accounts/{id}/entries", READ),
    ("GET /v1/accounts/{id}/transfers", READ),
    ("GET /v1/accounts/{id}/limits", READ),
    ("PUT /v1/accounts/{id}/limits", "admin=all"),
    ("POST /v1/accounts/{id}/freeze", "operator=all admin=all"),
    ("POST /v1/accounts/{id}/unfreeze", "operator=all admin=all"),
    ("POST /v1/accounts/{id}/close", "operator=all admin=all"),
    ("POST /v1/transfers", PAY),
    ("GET /v1/transfers", READ),
    ("POST /v1/transfers/batch", PAY),
    ("GET /v1/transfers/{id}", READ),
    ("GET /v1/transfers/{id}/timeline", READ),
    ("POST /v1/transfers/{id}/cancel", PAY),
    ("POST /v1/transfers/{id}/reverse", PAY),
    ("GET /v1/audit", "auditor=all admin=all"),
    ("POST /api/v1/payments/transfer", PAY),
    ("GET /api/v1/payments/accounts/{id}/balance", READ),
    ("GET /api/v1/payments/transactions/{txId}/status", READ),
    ("GET /api/v1/actuator/health", "anybody"),
    ("GET /healthz", "anybody"),
    ("GET /readyz", "anybody"),
    ("GET /metrics", "operator=all auditor=all admin=all"),
    ("GET /openapi.json", "anybody"),
    ("GET /docs", "anybody"),
    ("POST /v1/proposals", "operator=all admin=all"),
    ("GET /v1/proposals", "operator=all approver=all auditor=all admin=all"),
    ("GET /v1/proposals/{id}", "operator=all approver=all auditor=all admin=all"),
    ("POST /v1/proposals/{id}/approve", "approver=all admin=all"),
    ("POST /v1/proposals/{id}/reject", "approver=all admin=all"),
];

const READ: &str = "customer=own merchant=own operator=all approver=all auditor=all admin=all";
const PAY: &str = "customer=own merchant=own admin=all";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Whose {
    Own,
    Foreign,
    Absent,
}

/// One caller, what is its own and what is not.
struct Caller {
    name: String,
    credential: Option<String>,
    /// From its account, to its account, between others.
    paid: String,
    received: String,
    foreign: String,
    /// Made by somebody else; one about its account, one about another's.
    proposals: [String; 2],
}

impl Caller {
    async fn new(world: &World, admin: &str, role: Option<Role>) -> Self {
        let name = role.map_or("nobody", Role::as_str).to_owned();
        let credential = match role {
            Some(role) => Some(key(&*world.store, &name, &[role]).await),
            None => None,
        };
        let (own, other) = (format!("own-{name}"), format!("other-{name}"));
        world.owned_account(admin, &own, &name).await;
        world.owned_account(admin, &other, "a-stranger").await;
        let tell = |what: &str| format!("{what}-{name}");
        let paid = world.asked_transfer(admin, &tell("paid"), &own, &other).await;
        let received = world.asked_transfer(admin, &tell("received"), &other, &own).await;
        let foreign = world.asked_transfer(admin, &tell("foreign"), &other, "elsewhere").await;
        let proposals = [limit_of(world, admin, &own).await, limit_of(world, admin, &other).await];
        Self { name, credential, paid, received, foreign, proposals }
    }

    fn account(&self, whose: Whose) -> String {
        match whose {
            Whose::Own => format!("own-{}", self.name),
            Whose::Foreign => format!("other-{}", self.name),
            Whose::Absent => "nowhere".to_owned(),
        }
    }

    fn transfer(&self, route: &str, whose: Whose) -> String {
        match whose {
            Whose::Own if route.ends_with("/reverse") => self.received.clone(),
            Whose::Own => self.paid.clone(),
            Whose::Foreign => self.foreign.clone(),
            Whose::Absent => "018bcfe5-687f-7abc-9def-0123456789ab".to_owned(),
        }
    }

    fn proposal(&self, whose: Whose) -> String {
        match whose {
            Whose::Own => self.proposals[0].clone(),
            Whose::Foreign => self.proposals[1].clone(),
            Whose::Absent => "018bcfe5-687f-7000-9def-0123456789ab".to_owned(),
        }
    }

    async fn call(&self, world: &World, route: &str, whose: Whose) -> Answer {
        let (method, path) = route.split_once(' ').unwrap();
        let id = if path.contains("/accounts/") {
            self.account(whose)
        } else if path.contains("/proposals/") {
            self.proposal(whose)
        } else {
            self.transfer(path, whose)
        };
        let mut to = path.replace("{id}", &id).replace("{txId}", &id);
        let key = format!("{path}-{whose:?}-{}", self.name);
        let account = self.account(whose);
        let body = match route {
            "POST /v1/accounts" => r#"{"currency":"USD"}"#.to_owned(),
            "POST /v1/accounts/batch" => r#"{"accounts":[{"currency":"USD"}]}"#.to_owned(),
            "PATCH /v1/accounts/{id}" => r#"{"metadata":{"a":"b"}}"#.to_owned(),
            "PUT /v1/accounts/{id}/limits" => r#"{"limits":[]}"#.to_owned(),
            "POST /v1/transfers" => transfer(&key, &account, "elsewhere"),
            "POST /v1/transfers/batch" => {
                format!(r#"{{"transfers":[{}]}}"#, transfer(&key, &account, "elsewhere"))
            }
            "POST /v1/transfers/{id}/reverse" => {
                format!(r#"{{"amount":"1.00","idempotency_key":"{key}"}}"#)
            }
            "POST /api/v1/payments/transfer" => format!(
                r#"{{"sourceAccount":"{account}","destinationAccount":"elsewhere","amount":1.00,"idempotencyKey":"{key}"}}"#
            ),
            "POST /v1/proposals" => {
                change_limit(&format!("own-{}", self.name), &format!("{whose:?}-{}", self.name))
            }
            "POST /v1/proposals/{id}/reject" => r#"{"reason":"no"}"#.to_owned(),
            _ => String::new(),
        };
        if route == "GET /v1/transfers" {
            to = format!("{to}?source={account}&reference=none");
        }
        world.ask(self.credential.as_deref(), method, &to, &body).await
    }
}

fn change_limit(account: &str, key: &str) -> String {
    format!(
        r#"{{"kind":"change_limit","account":"{account}","overdraft_limit":"1.00","reason":"r","idempotency_key":"{key}"}}"#
    )
}

/// The id of a proposal about an account.
async fn limit_of(world: &World, admin: &str, account: &str) -> String {
    let body = change_limit(account, "of-the-test");
    let proposed = world.ask(Some(admin), "POST", "/v1/proposals", &body).await.expect(201);
    proposed["id"].as_str().unwrap().to_owned()
}

/// The status that counts: of a batch, its only item's.
fn status_of(route: &str, answer: &Answer) -> u16 {
    let status = answer.status.as_u16();
    if status == 200 && route.ends_with("/batch") {
        return u16::try_from(answer.json()["results"][0]["status"].as_u64().unwrap()).unwrap();
    }
    status
}

/// Whether a status is what the words say.
fn is_as_expected(words: &str, route: &str, who: &str, whose: Whose, status: u16) -> bool {
    let allowed = |status: u16| !matches!(status, 401 | 403 | 404) && status < 500;
    if words == "anybody" {
        return allowed(status);
    }
    if who == "nobody" {
        return status == 401;
    }
    let of_who = words.split(' ').find_map(|word| word.strip_prefix(who)?.strip_prefix('='));
    // A list says nothing of what is not there; what is accepted is not looked for.
    let absent_is_told = route.contains('{');
    match (of_who, whose) {
        (None, _) => status == 403,
        (Some("own"), Whose::Own) | (Some("all"), Whose::Own | Whose::Foreign) => allowed(status),
        (Some("own"), Whose::Foreign | Whose::Absent) => status == 404,
        (Some("all"), Whose::Absent) if absent_is_told => status == 404,
        (Some("all"), Whose::Absent) => allowed(status),
        (Some(_), _) => unreachable!("own or all"),
    }
}

#[tokio::test]
async fn every_route_answers_every_role_as_the_table_says_and_no_other_way() {
    let world = world().await;
    let admin = key(&*world.store, "root", &[Role::Admin]).await;
    let mut unexpected = Vec::new();
    let mut asked = 0;
    for role in Role::ALL.iter().copied().map(Some).chain([None]) {
        let caller = Caller::new(&world, &admin, role).await;
        for (route, words) in EXPECTED {
            for whose in [Whose::Absent, Whose::Foreign, Whose::Own] {
                let answer = caller.call(&world, route, whose).await;
                let status = status_of(route, &answer);
                asked += 1;
                if !is_as_expected(words, route, &caller.name, whose, status) {
                    unexpected.push(format!("{route} by {} on {whose:?}: {status}", caller.name));
                }
            }
        }
    }
    assert_eq!(unexpected, [""; 0], "of {asked}");
    assert_eq!(asked, 7 * EXPECTED.len() * 3);
}

#[tokio::test]
async fn the_words_know_every_line_of_the_table() {
    let line = |one: &holdfast::ingress::http::Permission| format!("{} {}", one.method, one.path);
    let table: BTreeSet<String> = PERMISSIONS.iter().map(line).collect();
    let words: BTreeSet<String> = EXPECTED.iter().map(|(route, _)| (*route).to_owned()).collect();
    assert_eq!(table, words);
    for one in PERMISSIONS {
        let (_, words) = EXPECTED.iter().find(|(route, _)| *route == line(one)).unwrap();
        assert_eq!(one.need == Need::Nothing, *words == "anybody", "{}", line(one));
    }
}

/// Words, headers and reads: nothing tells what is foreign from what is not there.
#[tokio::test]
async fn what_is_foreign_is_refused_in_the_very_words_of_what_is_not_there() {
    let world = world().await;
    let admin = key(&*world.store, "root", &[Role::Admin]).await;
    let caller = Caller::new(&world, &admin, Some(Role::Merchant)).await;
    for (route, words) in EXPECTED.iter().filter(|(_, words)| words.contains("merchant=own")) {
        let foreign = caller.call(&world, route, Whose::Foreign).await;
        let absent = caller.call(&world, route, Whose::Absent).await;
        let plain = |answer: &Answer, whose| {
            let text = String::from_utf8(answer.body.clone()).unwrap();
            let text = text
                .replace(&caller.account(whose), "X")
                .replace(&caller.transfer(route, whose), "X");
            let id = answer.header("x-request-id").to_owned();
            (answer.status, text.replace(&id, "R"))
        };
        assert_eq!(
            plain(&foreign, Whose::Foreign),
            plain(&absent, Whose::Absent),
            "{route} {words}"
        );
        let names = |answer: &Answer| -> BTreeSet<String> {
            answer.headers.keys().map(ToString::to_string).collect()
        };
        assert_eq!(names(&foreign), names(&absent), "{route}");
    }
}

/// The account named `batch` is guarded like any other, though its path is one of its own.
#[tokio::test]
async fn an_account_by_the_name_of_a_route_is_guarded_too() {
    let world = world().await;
    let admin = key(&*world.store, "root", &[Role::Admin]).await;
    world.owned_account(&admin, "batch", "shop").await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    let other = key(&*world.store, "other", &[Role::Merchant]).await;
    let path = "/v1/accounts/batch";
    world.ask(Some(&shop), "GET", path, "").await.expect(200);
    world.ask(Some(&other), "GET", path, "").await.refused(404, "account_not_found");
    world.ask(None, "GET", path, "").await.refused(401, "unauthenticated");
    let patch = r#"{"metadata":{"a":"b"}}"#;
    world.ask(Some(&shop), "PATCH", path, patch).await.expect(200);
    world.ask(Some(&other), "PATCH", path, patch).await.refused(404, "account_not_found");
}
