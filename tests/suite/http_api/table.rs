//! Bad requests, as rows.

use axum::body::Body;
use axum::http::Request;

/// A request and how it must be refused.
pub struct Case {
    pub name: String,
    method: &'static str,
    pub path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    pub status: u16,
    pub code: &'static str,
    /// The faults' pointers, in any order; not looked at where there are none.
    pub pointers: Vec<&'static str>,
}

impl Case {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            name: format!("{method} {path}"),
            method,
            path,
            headers: Vec::new(),
            body: Vec::new(),
            status: 400,
            code: "invalid_request",
            pointers: Vec::new(),
        }
    }

    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    pub fn refused(mut self, status: u16, code: &'static str) -> Self {
        (self.status, self.code) = (status, code);
        self
    }

    pub fn at(mut self, pointers: &[&'static str]) -> Self {
        self.pointers = pointers.to_vec();
        self
    }

    pub fn request(&self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value.as_slice());
        }
        request.body(Body::from(self.body.clone())).unwrap()
    }

    /// The method as the OpenAPI document writes it.
    pub fn documented_method(&self) -> String {
        self.method.to_lowercase()
    }
}

/// A transfer with one field written in another way; nothing leaves it out.
fn transfer_with(field: &str, value: Option<&str>) -> String {
    let fields = [
        ("source", Some("\"alice\"")),
        ("destination", Some("\"bob\"")),
        ("amount", Some("\"25.00\"")),
        ("currency", Some("\"USD\"")),
        ("idempotency_key", Some("\"bad\"")),
    ];
    let known = fields.iter().any(|(name, _)| *name == field);
    let written: Vec<String> = fields
        .into_iter()
        .map(|(name, usual)| (name, if name == field { value } else { usual }))
        .chain((!known).then_some((field, value)))
        .filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)))
        .collect();
    format!("{{{}}}", written.join(","))
}

fn bad_field(field: &str, value: &str, pointers: &[&'static str]) -> Case {
    let shown: String = value.chars().take(40).collect();
    Case::new("POST", "/v1/transfers")
        .named(format!("{field} = {shown}"))
        .json(transfer_with(field, Some(value)))
        .at(pointers)
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn amounts() -> Vec<Case> {
    let texts = [
        "",
        " ",
        "0",
        "0.00",
        "-0",
        "-1.00",
        "+1.00",
        "1e3",
        "1E2",
        "01.00",
        "00",
        "1.",
        ".5",
        "1.000",
        "1.001",
        "1,000.00",
        "1_000",
        " 1",
        "1 ",
        "1\n",
        "NaN",
        "Infinity",
        "0x10",
        "1/2",
        "10000000000000.01",
        "1000000000000000",
        "99999999999999999999999999",
        "\u{661}",
        "1\u{0}",
        "\u{ff11}",
        "1.00 USD",
        "$1.00",
        "one",
    ];
    let literals = [
        "0",
        "0.0",
        "-1",
        "-0",
        "1e3",
        "1E2",
        "1.5e1",
        "1.001",
        "10000000000000.01",
        "123456789012345678901234567890",
        "true",
        "null",
        "[]",
        "[1]",
        "{}",
        "{\"minor\":5}",
    ];
    let texts = texts.map(quoted).into_iter();
    let mut cases: Vec<Case> = texts
        .chain(literals.map(str::to_owned))
        .map(|value| bad_field("amount", &value, &["/amount"]))
        .collect();
    for (amount, currency) in
        [("1.0", "JPY"), ("0.5", "JPY"), ("1.2345", "BHD"), ("0.00001", "CLF")]
    {
        let body = format!(
            r#"{{"source":"alice","destination":"bob","amount":"{amount}","currency":"{currency}","idempotency_key":"k"}}"#
        );
        let case = Case::new("POST", "/v1/transfers").named(format!("{amount} {currency}"));
        cases.push(case.json(body).at(&["/amount"]));
    }
    cases
}

fn currencies() -> Vec<Case> {
    let bad = [
        "\"usd\"",
        "\"US\"",
        "\"USDX\"",
        "\"XXX\"",
        "\"XAU\"",
        "\"\"",
        "\"\u{20ac}\"",
        "840",
        "null",
        "[\"USD\"]",
    ];
    bad.map(|value| bad_field("currency", value, &["/currency"])).into()
}

fn ids() -> Vec<Case> {
    let long = quoted(&"a".repeat(65));
    let bad = [
        "\"\"",
        "\"-alice\"",
        "\".a\"",
        "\"_a\"",
        "\"a b\"",
        "\"a/b\"",
        "\"\u{e4}\"",
        "\"alice\\n\"",
        "\"alice\\u0000\"",
        "\"\\ud800\"",
        "5",
        "null",
        "{}",
        &long,
    ];
    let mut cases: Vec<Case> = Vec::new();
    for value in bad {
        cases.push(bad_field("source", value, &["/source"]));
        cases.push(bad_field("destination", value, &["/destination"]));
    }
    cases.push(bad_field("destination", "\"alice\"", &["/destination"]).named("to itself"));
    cases
}

fn keys() -> Vec<Case> {
    let unkeyed = transfer_with("idempotency_key", None);
    let post = |name: &str| Case::new("POST", "/v1/transfers").named(format!("key: {name}"));
    let with_header = |name: &str, value: &[u8]| {
        post(name).json(unkeyed.clone()).header("idempotency-key", value)
    };
    let at = &["/idempotency_key"];
    let long = quoted(&"k".repeat(256));
    vec![
        post("none").json(unkeyed.clone()).refused(400, "idempotency_key_missing").at(at),
        bad_field("idempotency_key", "null", at).refused(400, "idempotency_key_missing"),
        bad_field("idempotency_key", "\"\"", at),
        bad_field("idempotency_key", "\"a b\"", at),
        bad_field("idempotency_key", "\"\u{e9}\"", at),
        bad_field("idempotency_key", "\"a\\u0000\"", at),
        bad_field("idempotency_key", "7", at),
        bad_field("idempotency_key", &long, at),
        with_header("empty header", b"").at(at),
        with_header("space in header", b"a b").at(at),
        with_header("not ASCII in header", "k\u{e9}".as_bytes()).at(at),
        with_header("not UTF-8 in header", b"k\xff").at(at),
        with_header("long header", &[b'k'; 256]).at(at),
        with_header("two headers", b"one").header("idempotency-key", "two").at(at),
        bad_field("idempotency_key", "\"one\"", at)
            .header("idempotency-key", "two")
            .refused(400, "idempotency_key_mismatch"),
    ]
}

fn labels() -> Vec<Case> {
    let (long, longer) = (quoted(&"\u{e4}".repeat(256)), quoted(&"r".repeat(65)));
    let wide = format!("{{\"a\":{}}}", quoted(&"x".repeat(16 * 1024)));
    vec![
        bad_field("description", &long, &["/description"]),
        bad_field("description", "5", &["/description"]),
        bad_field("description", "\"a\\u0000b\"", &["/description"]),
        bad_field("description", "\"\\udc00\"", &["/description"]),
        bad_field("reference", &longer, &["/reference"]),
        bad_field("reference", "[]", &["/reference"]),
        bad_field("metadata", "[]", &["/metadata"]),
        bad_field("metadata", "\"a\"", &["/metadata"]),
        bad_field("metadata", "{\"a\":1}", &["/metadata/a"]),
        bad_field("metadata", "{\"a\":null,\"b\":{}}", &["/metadata/a", "/metadata/b"]),
        bad_field("metadata", "{\"a/b~\":1}", &["/metadata/a~1b~0"]),
        bad_field("metadata", "{\"a\":\"1\",\"a\":\"2\"}", &["/metadata/a"]),
        bad_field("metadata", "{\"a\":\"\\u0000\"}", &["/metadata/a"]),
        bad_field("metadata", &wide, &["/metadata"]),
        bad_field("reverses", "\"018bcfe5-687f-7abc-9def-0123456789ab\"", &["/reverses"]),
        bad_field("Amount", "\"1.00\"", &["/Amount"]),
        bad_field("", "1", &["/"]),
    ]
}

fn bodies() -> Vec<Case> {
    let post = |name: &str, body: Vec<u8>| {
        Case::new("POST", "/v1/transfers").named(format!("body: {name}")).json(body).at(&[""])
    };
    let good = transfer_with("", None);
    let twice = good.replacen('{', "{\"amount\":\"1.00\",", 1);
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut broken = good.clone().into_bytes();
    broken[12] = 0xff;
    vec![
        post("empty", Vec::new()),
        post("blank", b" \n\t ".to_vec()),
        post("array", format!("[{good}]").into()),
        post("string", b"\"x\"".to_vec()),
        post("null", b"null".to_vec()),
        post("number", b"1".to_vec()),
        post("cut off", good.as_bytes()[..good.len() - 1].to_vec()),
        post("only a brace", b"{".to_vec()),
        post("two documents", format!("{good}{good}").into()),
        post("something behind", format!("{good} x").into()),
        post("byte order mark", format!("\u{feff}{good}").into()),
        post("not UTF-8", broken),
        post("UTF-16", utf16),
        post("single quotes", good.replace('"', "'").into()),
        post("trailing comma", good.replace('}', ",}").into()),
        post("comment", format!("/* */{good}").into()),
        post("bare NaN", good.replace("\"25.00\"", "NaN").into()),
        post("bare leading zero", good.replace("\"25.00\"", "025").into()),
        post("control character", good.replace("alice", "ali\u{1}ce").into()),
        post("form", b"source=alice&destination=bob".to_vec()),
        post("nested arrays", "[".repeat(30_000).into()),
        post("nested objects", "{\"a\":".repeat(10_000).into()),
        post("nested in a field", good.replace("\"25.00\"", &"[".repeat(30_000)).into()),
        post("key twice", twice.into()).at(&["/amount"]),
        bad_field("amount", &("[".repeat(9_000) + &"]".repeat(9_000)), &["/amount"]),
        bad_field("metadata", &("{\"a\":".repeat(900) + "1" + &"}".repeat(900)), &["/metadata/a"]),
        post("nothing in it", b"{}".to_vec()).at(&[
            "/source",
            "/destination",
            "/amount",
            "/currency",
            "/idempotency_key",
        ]),
        post(
            "all faults at once",
            br#"{"source":"-","destination":7,"amount":"x","currency":"usd","extra":1}"#.to_vec(),
        )
        .at(&[
            "/source",
            "/destination",
            "/amount",
            "/currency",
            "/idempotency_key",
            "/extra",
        ]),
    ]
}

fn media_types() -> Vec<Case> {
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

fn sizes() -> Vec<Case> {
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

fn methods_and_paths() -> Vec<Case> {
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
        "/v1/accounts//balance",
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

fn path_ids() -> Vec<Case> {
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
        Case::new("GET", "/v1/transfers/x/timeline"),
        Case::new("POST", "/v1/transfers/x/cancel"),
        Case::new("POST", "/v1/transfers/x/reverse").json("{}"),
        Case::new("GET", "/api/v1/payments/transactions/x/status"),
        Case::new("GET", "/api/v1/payments/accounts/-x/balance"),
    ];
    let all = accounts.chain(parts).chain(transfers).chain(acts).chain(others);
    all.map(|case| case.at(&["/id"])).collect()
}

fn queries() -> Vec<Case> {
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

fn accounts() -> Vec<Case> {
    let create = |body: &str, at: &[&'static str]| {
        Case::new("POST", "/v1/accounts").named(format!("account {body}")).json(body).at(at)
    };
    let patch = |body: &str, at: &[&'static str]| {
        Case::new("PATCH", "/v1/accounts/alice").named(format!("patch {body}")).json(body).at(at)
    };
    vec![
        create("{}", &["/currency"]),
        create(r#"{"currency":"usd"}"#, &["/currency"]),
        create(r#"{"currency":"USD","kind":"vip"}"#, &["/kind"]),
        create(r#"{"currency":"USD","kind":1}"#, &["/kind"]),
        create(r#"{"currency":"USD","id":"-"}"#, &["/id"]),
        create(r#"{"currency":"USD","id":7}"#, &["/id"]),
        create(r#"{"currency":"USD","overdraft_limit":"-1.00"}"#, &["/overdraft_limit"]),
        create(r#"{"currency":"USD","overdraft_limit":1e2}"#, &["/overdraft_limit"]),
        create(r#"{"currency":"JPY","overdraft_limit":"1.5"}"#, &["/overdraft_limit"]),
        create(r#"{"currency":"USD","metadata":{"a":1}}"#, &["/metadata/a"]),
        create(r#"{"currency":"USD","balance":"1.00"}"#, &["/balance"]),
        create(
            r#"{"currency":"x","kind":"y","id":"-","a":1}"#,
            &["/currency", "/kind", "/id", "/a"],
        ),
        create("[]", &[""]),
        patch(r#"{"currency":"EUR"}"#, &["/currency"]),
        patch(r#"{"overdraft_limit":null}"#, &["/overdraft_limit"]),
        patch(r#"{"overdraft_limit":"1.001"}"#, &["/overdraft_limit"]),
        patch(r#"{"overdraft_limit":"x"}"#, &["/overdraft_limit"]),
        patch(r#"{"metadata":null}"#, &["/metadata"]),
        patch(r#"{"metadata":{"a":[]},"status":"frozen"}"#, &["/metadata/a", "/status"]),
        patch("", &[""]),
        Case::new("POST", "/v1/accounts/alice/freeze").body("{\"reason\":\"x\"}").at(&[""]),
        Case::new("POST", "/v1/accounts/alice/close").body("x").at(&[""]),
        create(r#"{"id":"alice","currency":"EUR"}"#, &[]).refused(409, "account_exists"),
        create(r#"{"id":"alice","currency":"USD","kind":"external"}"#, &[])
            .refused(409, "account_exists"),
        create(r#"{"id":"alice","currency":"USD","metadata":{"a":"b"}}"#, &[])
            .refused(409, "account_exists"),
    ]
}

fn unknown() -> Vec<Case> {
    let transfer = "/v1/transfers/018bcfe5-687f-7abc-9def-0123456789ab";
    let account = |method, path: &str| Case::new(method, path).refused(404, "account_not_found");
    let missing = |method, path: String| Case::new(method, path).refused(404, "transfer_not_found");
    vec![
        account("GET", "/v1/accounts/Alice"),
        account("GET", "/v1/accounts/nobody/balance"),
        account("GET", "/v1/accounts/nobody/balance?consistency=strong"),
        account("GET", "/v1/accounts/nobody/entries"),
        account("GET", "/v1/accounts/nobody/transfers"),
        account("PATCH", "/v1/accounts/nobody").json("{}"),
        account("PATCH", "/v1/accounts/nobody").json("{\"overdraft_limit\":\"1\"}"),
        account("POST", "/v1/accounts/nobody/freeze"),
        account("POST", "/v1/accounts/nobody/unfreeze"),
        account("POST", "/v1/accounts/nobody/close"),
        account("GET", "/api/v1/payments/accounts/nobody/balance"),
        missing("GET", transfer.to_owned()),
        missing("GET", format!("{transfer}/timeline")),
        missing("POST", format!("{transfer}/cancel")),
        missing("POST", format!("{transfer}/reverse"))
            .json("{\"amount\":\"1.00\",\"idempotency_key\":\"k\"}"),
        missing(
            "GET",
            "/api/v1/payments/transactions/018bcfe5-687f-7abc-9def-0123456789ab/status".into(),
        ),
        Case::new("POST", format!("{transfer}/reverse"))
            .json("{}")
            .at(&["/amount", "/idempotency_key"]),
        Case::new("POST", format!("{transfer}/reverse"))
            .json("{\"amount\":\"0\",\"idempotency_key\":\"k\"}")
            .at(&["/amount"]),
        Case::new("POST", format!("{transfer}/reverse"))
            .json("{\"amount\":\"1.00\"}")
            .refused(400, "idempotency_key_missing"),
        Case::new("POST", format!("{transfer}/reverse"))
            .json("{\"amount\":\"1.00\",\"currency\":\"USD\",\"idempotency_key\":\"k\"}")
            .at(&["/currency"]),
        Case::new("POST", format!("{transfer}/cancel")).body("{\"reason\":\"x\"}").at(&[""]),
    ]
}

fn payments() -> Vec<Case> {
    let pay = |body: &str, at: &[&'static str]| {
        Case::new("POST", "/api/v1/payments/transfer")
            .named(format!("pay {body}"))
            .json(body)
            .at(at)
    };
    vec![
        pay("{}", &["/sourceAccount", "/destinationAccount", "/amount", "/idempotencyKey"]),
        pay(
            r#"{"sourceAccount":"a","destinationAccount":"b","amount":1e3,"idempotencyKey":"k"}"#,
            &["/amount"],
        ),
        pay(
            r#"{"sourceAccount":"a","destinationAccount":"a","amount":1000.00,"idempotencyKey":"k"}"#,
            &["/destinationAccount"],
        ),
        pay(
            r#"{"sourceAccount":"a","destinationAccount":"b","amount":1.00,"idempotencyKey":"k","reference":"r"}"#,
            &["/reference"],
        ),
        pay(
            r#"{"sourceAccount":"a","destinationAccount":"b","amount":1.00}"#,
            &["/idempotencyKey"],
        )
        .refused(400, "idempotency_key_missing"),
        pay(r#"{"source":"a","destination":"b","amount":"1.00","currency":"USD"}"#, &[]),
    ]
}

/// All of them. They find the account alice, in USD, and a closed account `closed`.
pub fn cases() -> Vec<Case> {
    [
        amounts(),
        currencies(),
        ids(),
        keys(),
        labels(),
        bodies(),
        media_types(),
        sizes(),
        methods_and_paths(),
        path_ids(),
        queries(),
        accounts(),
        unknown(),
        payments(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
