//! API keys: made, shown once, limited, replaced, revoked.

use super::super::world::World;
use super::{key, limited_key, transfer, world};
use holdfast::access::{self, KeyId, Role, Scope, Scopes};
use holdfast::store::{Actor, NEWEST};
use std::time::Duration;

fn id_of(key: &str) -> KeyId {
    key[3..15].parse().unwrap()
}

async fn until_refused(world: &World, key: &str) {
    let refused = async {
        while world.ask(Some(key), "GET", "/v1/accounts", "").await.status != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::wait::DEADLINE, refused).await.expect("it ends within moments");
}

#[tokio::test]
async fn a_key_that_was_revoked_is_refused_within_moments_and_for_good() {
    let world = world().await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    world.ask(Some(&shop), "GET", "/v1/accounts", "").await.expect(200);
    access::revoke(&*world.store, &id_of(&shop), &Actor::itself()).await.unwrap();
    until_refused(&world, &shop).await;
    let answer = world.ask(Some(&shop), "GET", "/v1/accounts", "").await;
    answer.refused(401, "unauthenticated");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    // A repeat changes nothing.
    let again = access::revoke(&*world.store, &id_of(&shop), &Actor::itself()).await.unwrap();
    assert!(again.row.revoked_at.is_some());
}

/// Hazard: a credential is replaced between a request and its repeat.
#[tokio::test]
async fn a_repeat_with_the_successor_of_a_key_finds_the_transfer_of_the_first() {
    let world = world().await;
    let admin = key(&*world.store, "root", &[Role::Admin]).await;
    world.owned_account(&admin, "till", "shop").await;
    let old = key(&*world.store, "shop", &[Role::Merchant]).await;
    let body = transfer("order-1", "till", "elsewhere");
    let first = world.ask(Some(&old), "POST", "/v1/transfers", &body).await.expect(202);
    let (_, minted) =
        access::rotate(&*world.store, &id_of(&old), Duration::from_secs(60), &Actor::itself())
            .await
            .unwrap();
    for key in [&minted.text, &old] {
        let answer = world.ask(Some(key), "POST", "/v1/transfers", &body).await;
        assert_eq!(answer.header("idempotent-replayed"), "true");
        assert_eq!(answer.expect(200)["id"], first["id"]);
    }
}

#[tokio::test]
async fn a_key_that_was_replaced_ends_after_the_overlap() {
    let world = world().await;
    let old = key(&*world.store, "shop", &[Role::Merchant]).await;
    let (_, minted) = access::rotate(&*world.store, &id_of(&old), Duration::ZERO, &Actor::itself())
        .await
        .unwrap();
    until_refused(&world, &old).await;
    world.ask(Some(&minted.text), "GET", "/v1/accounts", "").await.expect(200);
    let ended = access::rotate(&*world.store, &id_of(&old), Duration::ZERO, &Actor::itself()).await;
    assert!(ended.unwrap_err().to_string().contains("has ended"));
}

#[tokio::test]
async fn a_key_with_scopes_does_no_more_than_they_say() {
    let world = world().await;
    let admin = key(&*world.store, "root", &[Role::Admin]).await;
    world.owned_account(&admin, "till", "shop").await;
    let scopes = Some(Scopes::of(&[Scope::AccountsRead]));
    let reader = limited_key(&*world.store, "shop", &[Role::Merchant], scopes).await;
    world.ask(Some(&reader), "GET", "/v1/accounts/till", "").await.expect(200);
    let body = transfer("k", "till", "elsewhere");
    let refused = world.ask(Some(&reader), "POST", "/v1/transfers", &body).await;
    let problem = refused.refused(403, "forbidden");
    assert!(problem["detail"].as_str().unwrap().contains("transfers:write"));
}

#[tokio::test]
async fn what_is_no_key_is_refused_whatever_it_is() {
    let world = world().await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    let other = access::Minted::new().text;
    let wrong = format!("{}0", &shop[..shop.len() - 1]);
    for credential in [other.as_str(), &wrong, "hf_", "", "a.b.c", "shop", &shop[3..]] {
        let answer = world.ask(Some(credential), "GET", "/v1/accounts", "").await;
        answer.refused(401, "unauthenticated");
    }
    for header in ["Basic aGY6", "bearer", "Bearer", &format!("Basic {shop}"), &shop] {
        let request = axum::http::Request::get("/v1/accounts").header("authorization", header);
        let answer = world.send(request.body(axum::body::Body::empty()).unwrap()).await;
        answer.refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn what_is_done_to_keys_is_in_the_audit_log_without_the_key() {
    let world = world().await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    access::revoke(&*world.store, &id_of(&shop), &Actor::itself()).await.unwrap();
    let mut acts = Vec::new();
    for shard in world.store.map().all_shards() {
        let found = world.store.acts(shard, &Default::default(), NEWEST, 50).await.unwrap();
        acts.extend(found.into_iter().map(|logged| logged.act));
    }
    let names: Vec<&str> = acts.iter().map(|act| act.action.as_str()).collect();
    assert_eq!(names, ["key.revoke", "key.create"]);
    assert!(acts.iter().all(|act| act.target == shop[3..15]));
    assert!(!format!("{acts:?}").contains(&shop[16..]));
}

/// What was refused to whom is on record, once for many of a kind.
#[tokio::test]
async fn refusals_of_access_are_in_the_audit_log() {
    let world = world().await;
    let shop = key(&*world.store, "shop", &[Role::Merchant]).await;
    for _ in 0..50 {
        world.ask(Some(&shop), "POST", "/v1/accounts/x/freeze", "").await.refused(403, "forbidden");
        world.ask(Some(&shop), "GET", "/v1/accounts/x", "").await.refused(404, "account_not_found");
        world.ask(None, "GET", "/v1/accounts", "").await.refused(401, "unauthenticated");
    }
    let told = || async {
        let (times, _) = refused(&world).await;
        times.values().sum::<u64>() == 150
    };
    crate::wait::eventually("all refusals are on record", told).await;
    let (times, rows) = refused(&world).await;
    let expected = [
        ("shop GET /v1/accounts/{id} account_not_found".to_owned(), 50),
        ("shop POST /v1/accounts/{id}/freeze forbidden".to_owned(), 50),
        ("unknown GET /v1/accounts unauthenticated".to_owned(), 50),
    ];
    assert_eq!(times, expected.into());
    assert!(rows < 60, "{rows} rows for 150 refusals");
}

/// How often who was refused what, and in how many rows.
async fn refused(world: &World) -> (std::collections::BTreeMap<String, u64>, usize) {
    let (mut times, mut rows) = (std::collections::BTreeMap::new(), 0);
    for shard in world.store.map().all_shards() {
        for logged in world.store.acts(shard, &Default::default(), NEWEST, 500).await.unwrap() {
            let act = logged.act;
            if act.action != "access.refused" {
                continue;
            }
            let after: serde_json::Value = serde_json::from_str(&act.after).unwrap();
            let code = after["code"].as_str().unwrap();
            let what = format!("{} {} {code}", act.actor.operator, act.target);
            *times.entry(what).or_default() += after["times"].as_u64().unwrap();
            rows += 1;
        }
    }
    (times, rows)
}
