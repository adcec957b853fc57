//! Media types, sizes, methods, paths and queries.

use super::Case;
use super::bodies::transfer_with;

pub fn media_types() -> Vec<Case> {
    let post = || Case::new("POST", "/v1/transfers").body(transfer_with("", None));
    let kinds = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/json",
        "application/json; charset=latin1",
        "application/json; version=2",
        "application/xml",
        "application/problem+json",
        "",
    ];
    let mut cases = vec![
        post().named("no content type"),
        post()
            .named("gzip")
            .header("content-type", "application/json")
            .header("content-encoding", "gzip"),
        Case::new("PATCH", "/v1/accounts/alice").body("{}"),
        Case::new("POST", "/v1/accounts").body("{}"),
        Case::new("POST", "/v1/transfers/batch").body("{}"),
    ];
    cases.extend(kinds.map(|kind| post().named(kind).header("content-type", kind)));
    cases.into_iter().map(|case| case.refused(415, "unsupported_media_type")).collect()
}

pub fn sizes() -> Vec<Case> {
    let spaces = |count: usize| format!("{}{}", " ".repeat(count), transfer_with("", None));
    let items = |count: usize| format!("{{\"transfers\":[{}]}}", vec!["{}"; count].join(","));
    let accounts = items(1001).replace("transfers", "accounts");
    let large = || Case::new("POST", "/v1/transfers").json(spaces(64 * 1024));
    vec![
        large().refused(413, "body_too_large"),
        large().named("8 MiB").json(spaces(8 << 20)).refused(413, "body_too_large"),
        Case::new("POST", "/v1/accounts").json(spaces(64 * 1024)).refused(413, "body_too_large"),
        Case::new("POST", "/v1/accounts/alice/freeze")
            .json(spaces(64 * 1024))
            .refused(413, "body_too_large"),
        Case::new("POST", "/v1/transfers/batch")
            .json(spaces(2 << 20))
            .refused(413, "body_too_large"),
        Case::new("POST", "/v1/transfers/batch").json(items(1001)).at(&["/transfers"]),
        Case::new("POST", "/v1/accounts/batch").json(accounts).at(&["/accounts"]),
        Case::new("POST", "/v1/transfers/batch").json("{}").at(&["/transfers"]),
        Case::new("POST", "/v1/transfers/batch").json("{\"transfers\":{}}").at(&["/transfers"]),
        Case::new("POST", "/v1/transfers/batch").json("{\"transfers\":null}").at(&["/transfers"]),
        Case::new("POST", "/v1/transfers/batch").json("[]").at(&[""]),
        Case::new("POST", "/v1/transfers/batch").json("{\"transfers\":[],\"a\":1}").at(&["/a"]),
        Case::new("POST", "/v1/accounts/batch").json("{\"transfers\":[]}"),
    ]
}

pub fn methods_and_paths() -> Vec<Case> {
    let wrong = [
        ("DELETE", "/v1/accounts/alice"),
        ("PUT", "/v1/transfers"),
        ("POST", "/healthz"),
        ("DELETE", "/v1/transfers/018bcfe5-687f-7abc-9def-0123456789ab"),
        ("GET", "/v1/accounts/alice/freeze"),
        ("PATCH", "/v1/transfers"),
        ("POST", "/openapi.json"),
        ("OPTIONS", "/v1/transfers"),
        ("BREW", "/v1/accounts"),
        ("GET", "/api/v1/payments/transfer"),
    ];
    let missing = [
        "/",
        "/v1",
        "/v1/",
        "/v1/accounts/",
        "/v1/transfers/",
        "/v2/accounts",
        "/V1/accounts",
        "/v1/accounts/alice/",
        "/v1/accounts/alice/nothing",
        "/v1/transfers/018bcfe5-687f-7abc-9def-0123456789ab/nothing",
        "/%2e%2e/etc/passwd",
        "/docs/",
        "/v1/accounts/alice%2fbalance/x",
    ];
    let wrong =
        wrong.map(|(method, path)| Case::new(method, path).refused(405, "method_not_allowed"));
    let missing = missing.map(|path| Case::new("GET", path).refused(404, "not_found"));
    wrong.into_iter().chain(missing).collect()
}

pub fn path_ids() -> Vec<Case> {
    let long = "a".repeat(65);
    let bad = ["-x", "a%20b", "%C3%A4", "%ff", "a%00", "a%2fb", &long];
    let accounts = bad.iter().map(|id| Case::new("GET", format!("/v1/accounts/{id}")));
    let parts = ["balance", "entries", "transfers"]
        .map(|part| Case::new("GET", format!("/v1/accounts/-x/{part}")));
    let transfers = [
        "x",
        "018bcfe5687f7abc9def0123456789ab",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "018bcfe5-687f-7abc-1def-0123456789ab",
        "00000000-0000-0000-0000-000000000000",
    ]
    .map(|id| Case::new("GET", format!("/v1/transfers/{id}")));
    let acts = ["freeze", "unfreeze", "close"]
        .map(|act| Case::new("POST", format!("/v1/accounts/-x/{act}")));
    let others = [
        Case::new("GET", "/v1/accounts//balance"),
        Case::new("GET", "/v1/transfers/x/timeline"),
        Case::new("POST", "/v1/transfers/x/cancel"),
        Case::new("POST", "/v1/transfers/x/reverse").json("{}"),
        Case::new("GET", "/api/v1/payments/transactions/x/status"),
        Case::new("GET", "/api/v1/payments/accounts/-x/balance"),
    ];
    let all = accounts.chain(parts).chain(transfers).chain(acts).chain(others);
    all.map(|case| case.at(&["/id"])).collect()
}

pub fn queries() -> Vec<Case> {
    let long = "k".repeat(256);
    let entries = "/v1/accounts/alice/entries";
    let transfers = "/v1/accounts/alice/transfers";
    let rows: Vec<(String, &[&'static str])> = [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=1.5",
        "limit=abc",
        "limit=",
        "limit=%2B5",
        "limit=99999999999",
        "limit=5&limit=6",
        "limit=%ff",
    ]
    .into_iter()
    .flat_map(|query| ["/v1/accounts", entries, transfers].map(|path| format!("{path}?{query}")))
    .map(|path| (path, &["/limit"][..]))
    .collect();
    let mut cases: Vec<Case> =
        rows.into_iter().map(|(path, at)| Case::new("GET", path).at(at)).collect();
    cases.extend([
        Case::new("GET", "/v1/accounts?cursor=x").at(&["/cursor"]),
        Case::new("GET", "/v1/accounts?cursor=").at(&["/cursor"]),
        Case::new("GET", "/v1/accounts?cursor=ABCD").at(&["/cursor"]),
        // `e1.5`, of the entries.
        Case::new("GET", "/v1/accounts?cursor=65312e35").at(&["/cursor"]),
        // `a1.-`, no account id.
        Case::new("GET", "/v1/accounts?cursor=61312e2d").at(&["/cursor"]),
        // `a2.x`, of another version.
        Case::new("GET", "/v1/accounts?cursor=61322e78").at(&["/cursor"]),
        Case::new("GET", format!("{entries}?cursor=61312e78")).at(&["/cursor"]),
        Case::new("GET", format!("{entries}?cursor=65312e2d35")).at(&["/cursor"]),
        Case::new("GET", format!("{transfers}?cursor=61312e78")).at(&["/cursor"]),
        Case::new("GET", "/v1/accounts?order=desc").at(&["/order"]),
        Case::new("POST", "/v1/transfers?dry_run=true")
            .json(transfer_with("", None))
            .at(&["/dry_run"]),
        Case::new("POST", "/v1/accounts/alice/freeze?force=1").at(&["/force"]),
        Case::new("GET", "/v1/accounts/alice?limit=5").at(&["/limit"]),
        Case::new("GET", "/v1/accounts?status=open").at(&["/status"]),
        Case::new("GET", "/v1/accounts?currency=usd").at(&["/currency"]),
        Case::new("GET", "/v1/accounts?prefix=-").at(&["/prefix"]),
        Case::new("GET", "/v1/accounts?prefix=").at(&["/prefix"]),
        Case::new("GET", format!("{transfers}?direction=both")).at(&["/direction"]),
        Case::new("GET", format!("{transfers}?status=done")).at(&["/status"]),
        Case::new("GET", format!("{transfers}?status=HELD")).at(&["/status"]),
        Case::new("GET", format!("{transfers}?from=yesterday")).at(&["/from"]),
        Case::new("GET", format!("{transfers}?from=2026-13-01T00:00:00Z")).at(&["/from"]),
        Case::new("GET", format!("{transfers}?to=2026-01-01")).at(&["/to"]),
        Case::new("GET", format!("{transfers}?from=x&to=y&limit=0&a=1"))
            .at(&["/from", "/to", "/limit", "/a"]),
        Case::new("GET", "/v1/accounts/alice/balance?consistency=eventual").at(&["/consistency"]),
        Case::new("GET", "/v1/transfers").at(&["/source", "/reference"]),
        Case::new("GET", "/v1/transfers?source=alice").at(&["/reference"]),
        Case::new("GET", "/v1/transfers?reference=x").at(&["/source"]),
        Case::new("GET", "/v1/transfers?source=-&reference=x").at(&["/source"]),
        Case::new("GET", "/v1/transfers?source=alice&reference=x&idempotency_key=y")
            .at(&["/reference"]),
        Case::new("GET", "/v1/transfers?source=alice&idempotency_key=a%20b")
            .at(&["/idempotency_key"]),
        Case::new("GET", format!("/v1/transfers?source=alice&idempotency_key={long}"))
            .at(&["/idempotency_key"]),
    ]);
    cases
}
