//! The OWASP API Security Top 10 (2023), one by one, as far as each can be asked of the API.

use super::super::world::{World, json};
use super::{key, transfer, world};
use axum::body::Body;
use axum::http::Request;
use holdfast::access::{Authenticator, Gate, Role};
use std::sync::Arc;

async fn two_shops() -> (World, String, String) {
    let world = world().await;
    let admin = key(&*world.store, "root", &[Role::Admin]).await;
    world.owned_account(&admin, "mine", "shop").await;
    world.owned_account(&admin, "theirs", "rival").await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    (world, admin, shop)
}

#[tokio::test]
async fn api1_broken_object_level_authorisation_an_id_is_no_permission() {
    let (world, _, shop) = two_shops().await;
    for path in ["", "/balance", "/balance?consistency=strong", "/entries", "/transfers"] {
        let path = format!("/v1/accounts/theirs{path}");
        world.ask(Some(&shop), "GET", &path, "").await.refused(404, "account_not_found");
    }
    let body = transfer("k", "theirs", "mine");
    let answer = world.ask(Some(&shop), "POST", "/v1/transfers", &body).await;
    answer.refused(404, "account_not_found");
    let batch = format!(
        r#"{{"transfers":[{},{}]}}"#,
        transfer("a", "theirs", "mine"),
        transfer("b", "mine", "theirs")
    );
    let results = world.ask(Some(&shop), "POST", "/v1/transfers/batch", &batch).await.expect(200);
    assert_eq!(results["results"][0]["status"], 404);
    assert_eq!(results["results"][1]["status"], 202);
}

#[tokio::test]
async fn api2_broken_authentication_nothing_but_a_whole_credential_opens() {
    let (world, _, shop) = two_shops().await;
    for credential in [&shop[..shop.len() - 1], &shop.to_uppercase(), "null", "undefined", "hf_"] {
        let answer = world.ask(Some(credential), "GET", "/v1/accounts/mine", "").await;
        answer.refused(401, "unauthenticated");
    }
    // In the query it is no credential, and would stand in logs of proxies.
    let path = format!("/v1/accounts/mine?access_token={shop}");
    world.ask(None, "GET", &path, "").await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn api3_broken_object_property_level_authorisation_owners_and_limits_are_not_ones_own_to_set()
{
    let (world, _, shop) = two_shops().await;
    for patch in [r#"{"owner":"shop"}"#, r#"{"overdraft_limit":"1000.00"}"#] {
        let answer = world.ask(Some(&shop), "PATCH", "/v1/accounts/mine", patch).await;
        answer.refused(403, "forbidden");
    }
    for body in [
        r#"{"id":"shop:1","currency":"USD","owner":"rival"}"#,
        r#"{"id":"shop:1","currency":"USD","overdraft_limit":"5.00"}"#,
        r#"{"id":"shop:1","currency":"USD","kind":"external"}"#,
        r#"{"id":"theirs","currency":"USD"}"#,
        r#"{"id":"nowhere","currency":"USD"}"#,
    ] {
        world.ask(Some(&shop), "POST", "/v1/accounts", body).await.refused(403, "forbidden");
    }
    let own = r#"{"id":"shop:1","currency":"USD"}"#;
    let made = world.ask(Some(&shop), "POST", "/v1/accounts", own).await.expect(201);
    assert_eq!(made["owner"], "shop");
    // Unknown members are refused, so that none is set by accident.
    let more = r#"{"currency":"USD","posted":"100.00"}"#;
    world.ask(Some(&shop), "POST", "/v1/accounts", more).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn api4_unrestricted_resource_consumption_bodies_lists_and_batches_are_bounded() {
    let (world, _, shop) = two_shops().await;
    let large = format!(r#"{{"currency":"USD","metadata":{{"a":"{}"}}}}"#, "x".repeat(70_000));
    world.ask(Some(&shop), "POST", "/v1/accounts", &large).await.refused(413, "body_too_large");
    let answer = world.ask(Some(&shop), "GET", "/v1/accounts?limit=501", "").await;
    answer.refused(400, "invalid_request");
    let items = vec![transfer("k", "mine", "theirs"); 1001].join(",");
    let batch = format!(r#"{{"transfers":[{items}]}}"#);
    let answer = world.ask(Some(&shop), "POST", "/v1/transfers/batch", &batch).await;
    answer.refused(400, "invalid_request");
}

#[tokio::test]
async fn api5_broken_function_level_authorisation_another_method_or_case_is_no_way_round() {
    let (world, _, shop) = two_shops().await;
    let freeze = "/v1/accounts/mine/freeze";
    world.ask(Some(&shop), "POST", freeze, "{}").await.refused(403, "forbidden");
    for (method, path) in [
        ("POST", "/v1/accounts/mine/freeze/"),
        ("POST", "//v1/accounts/mine/freeze"),
        ("POST", "/V1/accounts/mine/freeze"),
        ("POST", "/v1/accounts/mine/%66reeze/"),
        ("PUT", freeze),
        ("GET", freeze),
    ] {
        let answer = world.ask(Some(&shop), method, path, "").await;
        assert!(matches!(answer.status.as_u16(), 404 | 405), "{method} {path}: {}", answer.status);
    }
    let request = Request::post(freeze).header("x-http-method-override", "GET");
    let answer = world.send(request.body(Body::empty()).unwrap()).await;
    answer.refused(401, "unauthenticated");
    let head = world.ask(None, "HEAD", "/v1/accounts/mine", "").await;
    assert_eq!(head.status, 401);
}

#[tokio::test]
async fn api6_unrestricted_access_to_sensitive_flows_a_repeat_is_not_a_second_payment() {
    let (world, _, shop) = two_shops().await;
    let body = transfer("once", "mine", "theirs");
    let first = world.ask(Some(&shop), "POST", "/v1/transfers", &body).await.expect(202);
    for _ in 0..20 {
        let again = world.ask(Some(&shop), "POST", "/v1/transfers", &body).await.expect(200);
        assert_eq!(again["id"], first["id"]);
    }
}

#[tokio::test]
async fn api7_server_side_request_forgery_no_field_of_a_request_is_fetched() {
    let (world, _, shop) = two_shops().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let body = format!(
        r#"{{"source":"mine","destination":"theirs","amount":"1.00","currency":"USD","idempotency_key":"k","description":"{url}","reference":"{url}","metadata":{{"url":"{url}","jku":"{url}"}}}}"#
    );
    world.ask(Some(&shop), "POST", "/v1/transfers", &body).await.expect(202);
    // Nor does a token say where its key is to be had.
    let header = format!(r#"{{"alg":"RS256","kid":"k","jku":"{url}","x5u":"{url}"}}"#);
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let token = format!("{}.{}.{}", encode(&header), encode("{}"), encode("x"));
    world.ask(Some(&token), "GET", "/v1/accounts", "").await.refused(401, "unauthenticated");
    let nobody = futures::FutureExt::now_or_never(listener.accept());
    assert!(nobody.is_none(), "somebody came");
}

#[tokio::test]
async fn api8_security_misconfiguration_errors_tell_nothing_of_the_inside() {
    let (world, _, shop) = two_shops().await;
    for (method, path, body) in [
        ("GET", "/v1/accounts/' OR 1=1 --", ""),
        ("GET", "/v1/accounts?cursor=AAAA", ""),
        ("POST", "/v1/transfers", "{"),
        ("POST", "/v1/transfers", r#"{"source":{"$ne":null}}"#),
        ("TRACE", "/v1/accounts", ""),
        ("GET", "/v1/../etc/passwd", ""),
    ] {
        let path = path.replace(' ', "%20").replace('\'', "%27");
        let answer = world.ask(Some(&shop), method, &path, body).await;
        assert!(answer.status.is_client_error(), "{method} {path}: {}", answer.status);
        let text = String::from_utf8_lossy(&answer.body).to_lowercase();
        for word in ["select ", "sqlx", "panicked", "src/", "mysql"] {
            assert!(!text.contains(word), "{method} {path}: {text}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}

/// What is served is what is described, old paths too, and each of them is guarded.
#[tokio::test]
async fn api9_improper_inventory_management_every_described_call_says_what_it_needs() {
    let world = world().await;
    let document = world.ask(None, "GET", "/openapi.json", "").await.expect(200);
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().expect("every call says it");
            let guarded = operation["responses"]["401"].is_object();
            assert_eq!(guarded, !security.is_empty(), "{method} {path}");
            if guarded {
                let path = path.replace("{id}", "x").replace("{txId}", "x");
                let answer = world.ask(None, &method.to_uppercase(), &path, "").await;
                answer.refused(401, "unauthenticated");
            }
        }
    }
}

/// What comes from elsewhere (here: from shards that do not answer) is not trusted to be a yes.
#[tokio::test]
async fn api10_unsafe_consumption_of_apis_who_cannot_be_told_is_not_let_in() {
    let world =
        World::guarded(|store| Gate::Guarded(Arc::new(Authenticator::new(Some(store), None))))
            .await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    for account in ["alice", "bob", "carol", "dave", "erin"] {
        world.alter(account, "DROP TABLE IF EXISTS api_keys").await;
    }
    let request = json("GET", "/v1/accounts", &[("authorization", &format!("Bearer {shop}"))], "");
    let answer = world.send(request).await;
    answer.refused(503, "authentication_unavailable");
}

/// Who runs accounts does not decide alone from where money comes and who pays with it.
#[tokio::test]
async fn an_operator_opens_no_account_to_an_accomplice() {
    let (world, _, _) = two_shops().await;
    let operator = key(&*world.store, "op", &[Role::Operator]).await;
    let external = r#"{"id":"mint","currency":"USD","kind":"external","owner":"rival"}"#;
    world.ask(Some(&operator), "POST", "/v1/accounts", external).await.refused(403, "forbidden");
    let away = r#"{"owner":"rival"}"#;
    let answer = world.ask(Some(&operator), "PATCH", "/v1/accounts/mine", away).await;
    answer.refused(403, "forbidden");
    let customer = r#"{"id":"new","currency":"USD","owner":"rival"}"#;
    world.ask(Some(&operator), "POST", "/v1/accounts", customer).await.expect(201);
}
