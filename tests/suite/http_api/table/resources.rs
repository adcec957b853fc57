//! Accounts, what does not exist, and the older paths.

use super::Case;

pub fn accounts() -> Vec<Case> {
    let create = |body: &str, at: &[&'static str]| {
        Case::new("POST", "/v1/accounts").named(format!("account {body}")).json(body).at(at)
    };
    let patch = |body: &str, at: &[&'static str]| {
        Case::new("PATCH", "/v1/accounts/alice").named(format!("patch {body}")).json(body).at(at)
    };
    let limits = |body: &str, at: &[&'static str]| {
        Case::new("PUT", "/v1/accounts/alice/limits")
            .named(format!("limits {body}"))
            .json(body)
            .at(at)
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
        limits("{}", &["/limits"]),
        limits(r#"{"limits":null}"#, &["/limits"]),
        limits(r#"{"limits":[{"period":"week","max_count":1}]}"#, &["/limits/0/period"]),
        limits(r#"{"limits":[{"period":"day"}]}"#, &["/limits/0"]),
        limits(r#"{"limits":[{"period":"day","max_count":1.5}]}"#, &["/limits/0/max_count"]),
        limits(r#"{"limits":[{"period":"day","max_amount":"1.001"}]}"#, &["/limits/0/max_amount"]),
        limits(r#"{"limits":[{"period":"day","max_amount":"x"}]}"#, &["/limits/0/max_amount"]),
        limits(r#"{"limits":[],"data":[]}"#, &["/data"]),
        Case::new("PUT", "/v1/accounts/closed/limits")
            .json(r#"{"limits":[]}"#)
            .refused(409, "account_closed"),
        Case::new("POST", "/v1/accounts/alice/freeze").body("{\"reason\":\"x\"}").at(&[""]),
        Case::new("POST", "/v1/accounts/alice/close").body("x").at(&[""]),
        create(r#"{"id":"alice","currency":"EUR"}"#, &[]).refused(409, "account_exists"),
        create(r#"{"id":"alice","currency":"USD","kind":"external"}"#, &[])
            .refused(409, "account_exists"),
        create(r#"{"id":"alice","currency":"USD","metadata":{"a":"b"}}"#, &[])
            .refused(409, "account_exists"),
    ]
}

pub fn unknown() -> Vec<Case> {
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
        account("GET", "/v1/accounts/nobody/limits"),
        account("PUT", "/v1/accounts/nobody/limits").json("{\"limits\":[]}"),
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

pub fn payments() -> Vec<Case> {
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
