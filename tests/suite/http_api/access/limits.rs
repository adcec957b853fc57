//! Rate limits: exactly as much as the rules say, whoever asks and through whichever process.

use super::super::world::World;
use super::key;
use crate::services::services;
use futures::future::join_all;
use holdfast::access::Role;

const LIST: (&str, &str) = ("GET", "/v1/accounts");
/// Nothing comes back while a test runs, and twenty can be had.
const TWENTY: &str = "merchant:read=1/h+19";

fn prefix(test: &str) -> String {
    format!("limits-{test}-{:x}:", rand::random::<u64>())
}

async fn list(world: &World, key: &str) -> u16 {
    world.ask(Some(key), LIST.0, LIST.1, "").await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_who_come_at_once_through_two_processes_exactly_as_many_pass_as_may() {
    let (url, prefix) = (services().await.redis.clone(), prefix("64"));
    let one = World::limited(&url, &prefix, &[TWENTY], true).await;
    let other = one.beside(&url, &prefix, &[TWENTY], true);
    let shop = key(&*one.store, "shop", &[Role::Merchant]).await;
    let asks = (0..64).map(|number| list(if number % 2 == 0 { &one } else { &other }, &shop));
    let answers = join_all(asks).await;
    let passed = answers.iter().filter(|status| **status == 200).count();
    let refused = answers.iter().filter(|status| **status == 429).count();
    assert_eq!((passed, refused), (20, 44));
    // A process that begins anew finds what is left, and so does another key of the same principal.
    let third = one.beside(&url, &prefix, &[TWENTY], true);
    let second_key = key(&*one.store, "shop", &[Role::Merchant]).await;
    assert_eq!(list(&third, &second_key).await, 429);
    let other_shop = key(&*one.store, "other-shop", &[Role::Merchant]).await;
    assert_eq!(list(&third, &other_shop).await, 200);
}

#[tokio::test]
async fn what_is_left_is_in_the_headers_and_when_to_come_again() {
    let (url, prefix) = (services().await.redis.clone(), prefix("headers"));
    let world = World::limited(&url, &prefix, &["merchant:read=2/m"], true).await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    let first = world.ask(Some(&shop), LIST.0, LIST.1, "").await;
    first.expect(200);
    assert_eq!(first.header("ratelimit-policy"), "\"read\";q=2;w=60");
    assert!(first.header("ratelimit").starts_with("\"read\";r=1;t="), "{:?}", first.headers);
    world.ask(Some(&shop), LIST.0, LIST.1, "").await.expect(200);
    let third = world.ask(Some(&shop), LIST.0, LIST.1, "").await;
    third.refused(429, "rate_limited");
    let wait: u32 = third.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    // Writes have a bucket of their own, without a rule none.
    let body = r#"{"currency":"USD"}"#;
    let written = world.ask(Some(&shop), "POST", "/v1/accounts", body).await;
    written.expect(201);
    assert_eq!(written.header("ratelimit"), "");
}

#[tokio::test]
async fn a_batch_counts_as_many_calls_as_it_has_items() {
    let (url, prefix) = (services().await.redis.clone(), prefix("batch"));
    let world = World::limited(&url, &prefix, &["merchant:write=1/h+9"], true).await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    let batch = |items: usize| {
        format!(r#"{{"accounts":[{}]}}"#, vec![r#"{"currency":"USD"}"#; items].join(","))
    };
    let path = "/v1/accounts/batch";
    world.ask(Some(&shop), "POST", path, &batch(6)).await.expect(200);
    world.ask(Some(&shop), "POST", path, &batch(6)).await.refused(429, "rate_limited");
}

#[tokio::test]
async fn an_address_that_tries_keys_is_not_asked_for_more() {
    let (url, prefix) = (services().await.redis.clone(), prefix("strangers"));
    let world = World::limited(&url, &prefix, &["strangers=1/h+4"], true).await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    let request = |credential: &str, port: u16| {
        let request = axum::http::Request::get(LIST.1)
            .header("authorization", format!("Bearer {credential}"))
            .extension(axum::extract::ConnectInfo(std::net::SocketAddr::from((
                [10, 0, 0, 1],
                port,
            ))));
        request.body(axum::body::Body::empty()).unwrap()
    };
    let mut statuses = Vec::new();
    for number in 0..8 {
        let guess = holdfast::access::Minted::new().text;
        statuses.push(world.send(request(&guess, number)).await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 429, 429]);
    // Whoever else is behind that address waits too; others do not.
    assert_eq!(world.send(request(&shop, 9)).await.status.as_u16(), 429);
    assert_eq!(list(&world, &shop).await, 200);
}

#[tokio::test]
async fn without_redis_callers_are_let_through_or_not_as_configured() {
    for (open, status) in [(true, 200), (false, 503)] {
        let nowhere = "redis://127.0.0.1:1";
        let world = World::limited(nowhere, "x:", &[TWENTY], open).await;
        let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
        let answer = world.ask(Some(&shop), LIST.0, LIST.1, "").await;
        assert_eq!(answer.status.as_u16(), status);
        if !open {
            answer.refused(503, "overloaded");
        }
    }
}
