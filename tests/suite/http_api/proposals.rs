//! Four eyes: what one principal proposes, another approves, and then it is done once.

use super::access::{key, transfer, world};
use super::world::{Answer, World};
use holdfast::access::Role;
use holdfast::broker::{Family, Record, Topic};
use holdfast::domain::{Decision, Partition, ProposalState, Shard, Suspicion, Timestamp};
use holdfast::store::{ActFilter, NEWEST};
use serde_json::{Value, json};

/// An operator who proposes, two who approve, and an admin who may do both.
struct Desk {
    world: World,
    olga: String,
    anna: String,
    rita: String,
    root: String,
}

impl Desk {
    async fn new() -> Self {
        let world = world().await;
        let [olga, anna, rita, root] = [
            key(&*world.store, "olga", &[Role::Operator]).await,
            key(&*world.store, "anna", &[Role::Approver]).await,
            key(&*world.store, "rita", &[Role::Approver]).await,
            key(&*world.store, "root", &[Role::Admin]).await,
        ];
        let desk = Self { world, olga, anna, rita, root };
        desk.world.owned_account(&desk.root, "alice", "alice").await;
        let bank = r#"{"id":"bank","currency":"USD","kind":"external"}"#;
        desk.world.ask(Some(&desk.root), "POST", "/v1/accounts", bank).await.expect(201);
        desk
    }

    async fn ask(&self, who: &str, method: &str, path: &str, body: &str) -> Answer {
        self.world.ask(Some(who), method, path, body).await
    }

    async fn propose(&self, body: &Value) -> Answer {
        self.ask(&self.olga, "POST", "/v1/proposals", &body.to_string()).await
    }

    /// The id of a new proposal of the operator's.
    async fn proposed(&self, body: &Value) -> String {
        let proposal = self.propose(body).await.expect(201);
        assert_eq!(proposal["status"], "pending", "{proposal}");
        proposal["id"].as_str().unwrap().to_owned()
    }

    async fn approve(&self, who: &str, id: &str) -> Answer {
        self.ask(who, "POST", &format!("/v1/proposals/{id}/approve"), "").await
    }

    async fn reject(&self, who: &str, id: &str) -> Answer {
        let path = format!("/v1/proposals/{id}/reject");
        self.ask(who, "POST", &path, r#"{"reason":"no"}"#).await
    }

    /// What became of it, once it was approved.
    async fn approved(&self, id: &str, status: &str) -> Value {
        let proposal = self.approve(&self.anna, id).await.expect(200);
        assert_eq!(proposal["status"], status, "{proposal}");
        assert_eq!(proposal["decided_by"], "anna", "{proposal}");
        proposal["outcome"].clone()
    }

    async fn show(&self, id: &str) -> Value {
        self.ask(&self.olga, "GET", &format!("/v1/proposals/{id}"), "").await.expect(200)
    }

    async fn account(&self, id: &str) -> Value {
        self.ask(&self.root, "GET", &format!("/v1/accounts/{id}"), "").await.expect(200)
    }

    /// Every action in the audit logs, the newest of a shard first, with operator and reason.
    async fn acts(&self, target: &str) -> Vec<(String, String, String)> {
        let filter = ActFilter { target: Some(target.to_owned()), ..ActFilter::default() };
        let mut all = Vec::new();
        for shard in self.world.store.map().all_shards() {
            let acts = self.world.store.acts(shard, &filter, NEWEST, 100).await.unwrap();
            let told = acts.into_iter().map(|logged| {
                let actor = logged.act.actor;
                (logged.act.action, actor.operator, actor.reason.unwrap_or_default())
            });
            all.extend(told);
        }
        all
    }

    async fn quarantine(&self, account: &str) {
        let suspicion = Suspicion::of("the test says so");
        let mut tx = self.world.store.begin(self.world.shard_of(account)).await.unwrap();
        tx.quarantine(&[(account.parse().unwrap(), suspicion)].into()).await.unwrap();
        tx.commit().await.unwrap();
    }
}

fn limit(amount: &str, key: &str) -> Value {
    json!({
        "kind": "change_limit", "account": "alice", "overdraft_limit": amount,
        "reason": "asked for in writing", "idempotency_key": key,
    })
}

fn adjust(key: &str) -> Value {
    json!({
        "kind": "adjust", "source": "bank", "destination": "alice", "amount": "5.00",
        "currency": "USD", "description": "a fee", "reason": "a fee that was wrong",
        "idempotency_key": key,
    })
}

#[tokio::test]
async fn nobody_decides_on_what_they_proposed_themselves_by_whatever_credential() {
    let desk = Desk::new().await;
    let body = limit("5.00", "k").to_string();
    let proposed = desk.ask(&desk.root, "POST", "/v1/proposals", &body).await.expect(201);
    let id = proposed["id"].as_str().unwrap();
    let another = key(&*desk.world.store, "root", &[Role::Approver]).await;
    for credential in [&desk.root, &another] {
        desk.approve(credential, id).await.refused(403, "proposal_own");
        desk.reject(credential, id).await.refused(403, "proposal_own");
    }
    assert_eq!(desk.show(id).await["status"], "pending");
    assert_eq!(desk.account("alice").await["overdraft_limit"], "0.00");
    assert_eq!(desk.approved(id, "executed").await["overdraft_limit"], "5.00");
}

#[tokio::test]
async fn what_nobody_decided_in_time_is_expired() {
    let desk = Desk::new().await;
    let id = desk.proposed(&limit("5.00", "k")).await;
    let listed = |status: &'static str| {
        let (desk, path) = (&desk, format!("/v1/proposals?status={status}"));
        async move { desk.ask(&desk.rita, "GET", &path, "").await.expect(200)["data"].clone() }
    };
    assert_eq!(listed("pending").await[0]["id"], id);
    assert_eq!(listed("expired").await, json!([]));
    desk.world.alter("alice", "UPDATE proposals SET expires_at = created_at").await;
    desk.approve(&desk.anna, &id).await.refused(409, "proposal_expired");
    desk.reject(&desk.anna, &id).await.refused(409, "proposal_expired");
    assert_eq!(desk.show(&id).await["status"], "expired");
    assert_eq!(listed("pending").await, json!([]));
    assert_eq!(listed("expired").await[0]["id"], id);
    assert_eq!(desk.account("alice").await["overdraft_limit"], "0.00");
}

#[tokio::test]
async fn a_decision_stands_and_the_same_again_is_the_same_answer() {
    let desk = Desk::new().await;
    let id = desk.proposed(&limit("5.00", "k")).await;
    let first = desk.approve(&desk.anna, &id).await.expect(200);
    assert_eq!(desk.approve(&desk.anna, &id).await.expect(200), first);
    desk.reject(&desk.anna, &id).await.refused(409, "proposal_decided");
    desk.approve(&desk.rita, &id).await.refused(409, "proposal_decided");
    let other = desk.proposed(&limit("9.00", "other")).await;
    let no = desk.reject(&desk.rita, &other).await.expect(200);
    assert_eq!((&no["status"], &no["decision_reason"]), (&json!("rejected"), &json!("no")));
    assert_eq!(desk.reject(&desk.rita, &other).await.expect(200), no);
    desk.approve(&desk.rita, &other).await.refused(409, "proposal_decided");
    desk.reject(&desk.anna, &other).await.refused(409, "proposal_decided");
    assert_eq!(desk.account("alice").await["overdraft_limit"], "5.00");
    let actions: Vec<String> =
        desk.acts(&id).await.into_iter().map(|(action, ..)| action).collect();
    assert_eq!(actions, ["proposal.execute", "proposal.approve", "proposal.create"]);
    desk.approve(&desk.anna, "018bcfe5-687f-7fff-9def-0123456789ab")
        .await
        .refused(404, "proposal_not_found");
}

#[tokio::test]
async fn a_request_that_is_repeated_finds_its_proposal_whatever_became_of_it() {
    let desk = Desk::new().await;
    let id = desk.proposed(&limit("5.00", "k")).await;
    let again = desk.propose(&limit("5.0", "k")).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.expect(200)["id"], id);
    desk.propose(&limit("6.00", "k")).await.refused(422, "idempotency_key_reused");
    desk.approved(&id, "executed").await;
    assert_eq!(desk.propose(&limit("5.00", "k")).await.expect(200)["status"], "executed");
    // A key is one principal's, and for one target.
    let body = limit("5.00", "k").to_string();
    let other = desk.ask(&desk.root, "POST", "/v1/proposals", &body).await.expect(201);
    assert_ne!(other["id"], id);
    desk.proposed(&adjust("k")).await;
    let all = desk.ask(&desk.anna, "GET", "/v1/proposals?limit=2", "").await.expect(200);
    let cursor = all["next_cursor"].as_str().unwrap();
    let path = format!("/v1/proposals?limit=2&cursor={cursor}");
    let rest = desk.ask(&desk.anna, "GET", &path, "").await.expect(200);
    assert_eq!((&rest["data"][0]["id"], &rest["next_cursor"]), (&json!(id), &Value::Null));
}

#[tokio::test]
async fn an_operator_changes_limits_by_proposals_only() {
    let desk = Desk::new().await;
    let patch = r#"{"overdraft_limit":"5.00"}"#;
    let refused = desk.ask(&desk.olga, "PATCH", "/v1/accounts/alice", patch).await;
    let problem = refused.refused(403, "forbidden");
    assert!(problem["detail"].as_str().unwrap().contains("/v1/proposals"), "{problem}");
    let rich = r#"{"currency":"USD","overdraft_limit":"5.00"}"#;
    desk.ask(&desk.olga, "POST", "/v1/accounts", rich).await.refused(403, "forbidden");
    desk.ask(&desk.root, "PATCH", "/v1/accounts/alice", patch).await.expect(200);

    let id = desk.proposed(&limit("7.00", "k")).await;
    assert_eq!(desk.show(&id).await["before"]["overdraft_limit"], "5.00");
    assert_eq!(desk.approved(&id, "executed").await["overdraft_limit"], "7.00");
    assert_eq!(desk.account("alice").await["overdraft_limit"], "7.00");
    let (action, operator, reason) = desk.acts("alice").await.remove(0);
    assert_eq!((action.as_str(), operator.as_str()), ("account.change", "olga"));
    assert!(reason.contains("approved by anna: asked for in writing"), "{reason}");
}

#[tokio::test]
async fn a_limit_that_is_not_the_one_that_was_seen_or_is_in_use_is_left_alone() {
    let desk = Desk::new().await;
    let (one, two) =
        (desk.proposed(&limit("7.00", "one")).await, desk.proposed(&limit("9.00", "two")).await);
    desk.approved(&one, "executed").await;
    assert_eq!(desk.approved(&two, "failed").await["code"], "changed_meanwhile");
    desk.world.set_balance("alice", -600, 0).await;
    let low = desk.proposed(&limit("1.00", "low")).await;
    assert_eq!(desk.approved(&low, "failed").await["code"], "limit_in_use");
    assert_eq!(desk.account("alice").await["overdraft_limit"], "7.00");
}

#[tokio::test]
async fn velocity_limits_are_changed_by_two_where_they_are_those_that_were_seen() {
    let desk = Desk::new().await;
    let path = "/v1/accounts/alice/limits";
    let day = json!([{ "period": "day", "max_count": 2, "max_amount": "10.00" }]);
    let put = json!({ "limits": day }).to_string();
    desk.ask(&desk.olga, "PUT", path, &put).await.refused(403, "forbidden");
    let body = |limits: &Value, key: &str| {
        json!({
            "kind": "change_velocity", "account": "alice", "limits": limits,
            "reason": "a new contract", "idempotency_key": key,
        })
    };
    let set = desk.proposed(&body(&day, "set")).await;
    let late = desk.proposed(&body(&json!([]), "late")).await;
    assert_eq!(desk.show(&set).await["before"]["limits"], json!([]));
    assert_eq!(desk.approved(&set, "executed").await["limits"], day);
    let shown = desk.ask(&desk.olga, "GET", path, "").await.expect(200);
    assert_eq!(shown["data"][0]["max_amount"], "10.00", "{shown}");
    assert_eq!(desk.approved(&late, "failed").await["code"], "changed_meanwhile");
    let (action, operator, reason) = desk.acts("alice").await.remove(0);
    assert_eq!((action.as_str(), operator.as_str()), ("limit.change", "olga"));
    let path = "/v1/audit?action=limit.change";
    let told = desk.ask(&desk.root, "GET", path, "").await.expect(200)["data"][0].clone();
    assert_eq!((&told["before"]["limits"], &told["after"]["limits"]), (&json!([]), &day));
    assert!(reason.contains("approved by anna: a new contract"), "{reason}");

    let none = desk.proposed(&body(&json!([]), "none")).await;
    assert_eq!(desk.approved(&none, "executed").await["limits"], json!([]));
    // What is wrong with the limits is told with the rest, also what only the currency shows.
    let wrong = json!([{ "period": "day", "max_amount": "1.001" }, { "period": "week" }]);
    let problem = desk.propose(&body(&wrong, "wrong")).await.refused(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/limits/1/period", "{problem}");
    let wrong = json!([{ "period": "day", "max_amount": "1.001" }]);
    let problem = desk.propose(&body(&wrong, "wrong")).await.refused(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/limits/0/max_amount", "{problem}");
}

#[tokio::test]
async fn a_transfer_is_cancelled_by_two() {
    let desk = Desk::new().await;
    let id = desk.world.asked_transfer(&desk.root, "t", "bank", "alice").await;
    let body = json!({
        "kind": "cancel_transfer", "transfer": id, "reason": "fraud", "idempotency_key": "k",
    });
    let proposal = desk.proposed(&body).await;
    assert_eq!(desk.show(&proposal).await["before"]["status"], "requested");
    assert_eq!(desk.approved(&proposal, "executed").await["status"], "cancelled");
    let path = format!("/v1/transfers/{id}");
    let transfer = desk.ask(&desk.olga, "GET", &path, "").await.expect(200);
    assert_eq!(transfer["reason"], "cancelled_by_operator");
    let unknown = json!({
        "kind": "cancel_transfer", "transfer": "018bcfe5-687f-7abc-9def-0123456789ab",
        "reason": "fraud", "idempotency_key": "k",
    });
    desk.propose(&unknown).await.refused(404, "transfer_not_found");
}

#[tokio::test]
async fn a_quarantine_is_ended_by_two_and_no_other_than_the_one_that_was_seen() {
    let desk = Desk::new().await;
    let body = |key: &str| {
        json!({
            "kind": "release_quarantine", "account": "alice", "reason": "mended",
            "idempotency_key": key,
        })
    };
    let early = desk.propose(&body("early")).await.refused(400, "invalid_request");
    assert_eq!(early["errors"][0]["pointer"], "/account");
    desk.quarantine("alice").await;
    let (id, late) = (desk.proposed(&body("k")).await, desk.proposed(&body("late")).await);
    assert_eq!(desk.show(&id).await["before"]["reason"], "the test says so");
    assert_eq!(desk.approved(&id, "executed").await["released"], "alice");
    assert_eq!(desk.account("alice").await["quarantined"], false);
    desk.quarantine("alice").await;
    assert_eq!(desk.approved(&late, "failed").await["code"], "changed_meanwhile");
    assert_eq!(desk.account("alice").await["quarantined"], true);
}

#[tokio::test]
async fn a_dead_letter_is_discarded_by_two() {
    let desk = Desk::new().await;
    let record = Record {
        topic: Topic { family: Family::DeadLetter, shard: Shard(1) },
        partition: Partition(2),
        key: "alice".into(),
        value: b"rubbish".to_vec().into(),
        headers: Default::default(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
    };
    let broker = &desk.world.context.broker;
    let letters = desk.world.store.map().all_shards();
    let letters = letters.map(|shard| Topic { family: Family::DeadLetter, shard });
    broker.create_topics(&letters.collect::<Vec<_>>(), 4).await.unwrap();
    broker.producer().await.unwrap().send(vec![record]).await.unwrap();
    let body = |key: &str, letter: &str| {
        json!({
            "kind": "discard_letter", "letter": letter, "reason": "of the test",
            "idempotency_key": key,
        })
    };
    for nowhere in ["1.2.7", "9.0.0"] {
        let problem = desk.propose(&body("no", nowhere)).await.refused(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/letter", "{nowhere}");
    }
    let id = desk.proposed(&body("k", "1.2.0")).await;
    let late = desk.proposed(&body("late", "1.2.0")).await;
    assert_eq!(desk.approved(&id, "executed").await["discarded"], "1.2.0");
    let marks = desk.world.store.letter_marks(Shard(1), Partition(2), 0, 9).await.unwrap();
    assert_eq!((marks.len(), marks[0].operator.as_str()), (1, "olga"));
    assert_eq!(desk.approved(&late, "failed").await["code"], "changed_meanwhile");
}

#[tokio::test]
async fn an_adjustment_is_an_ordinary_transfer_from_an_external_account() {
    let desk = Desk::new().await;
    let mut wrong = adjust("k");
    (wrong["source"], wrong["destination"]) = (json!("alice"), json!("bank"));
    let problem = desk.propose(&wrong).await.refused(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/source");
    let direct = transfer("direct", "bank", "alice");
    desk.ask(&desk.olga, "POST", "/v1/transfers", &direct).await.refused(403, "forbidden");
    let id = desk.proposed(&adjust("k")).await;
    let outcome = desk.approved(&id, "executed").await;
    let path = format!("/v1/transfers/{}", outcome["transfer"].as_str().unwrap());
    let made = desk.ask(&desk.olga, "GET", &path, "").await.expect(200);
    for (field, value) in [
        ("source", "bank"),
        ("destination", "alice"),
        ("amount", "5.00"),
        ("description", "a fee"),
        ("reference", id.as_str()),
    ] {
        assert_eq!(made[field], value, "{made}");
    }
}

/// Of two who approve at once one is told that it is decided, and what is approved is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_who_approve_at_once_have_it_done_once() {
    let desk = Desk::new().await;
    for round in 0..10 {
        let id = desk.proposed(&adjust(&format!("k{round}"))).await;
        let (anna, rita, again) = tokio::join!(
            desk.approve(&desk.anna, &id),
            desk.approve(&desk.rita, &id),
            desk.approve(&desk.anna, &id)
        );
        let mut statuses = [&anna, &rita, &again].map(|answer| answer.status.as_u16());
        statuses.sort_unstable();
        assert!(matches!(statuses, [200, 409, 409] | [200, 200, 409]), "{statuses:?}");
        let path = format!("/v1/transfers?source=bank&reference={id}");
        let made = desk.ask(&desk.root, "GET", &path, "").await.expect(200);
        assert_eq!(made["data"].as_array().unwrap().len(), 1, "{made}");
        assert_eq!(desk.show(&id).await["outcome"]["transfer"], made["data"][0]["id"]);
    }
}

/// As a process leaves it that dies right after the approval.
#[tokio::test]
async fn what_was_approved_by_a_process_that_died_is_done_by_the_next_approval() {
    let desk = Desk::new().await;
    for body in [limit("5.00", "k"), adjust("k")] {
        let id = desk.proposed(&body).await;
        let name = id.parse().unwrap();
        let store = &desk.world.store;
        let shard = desk.world.shard_of(desk.show(&id).await["target"].as_str().unwrap());
        let mut tx = store.begin(shard).await.unwrap();
        let mut proposal = tx.lock_proposal(name).await.unwrap().unwrap();
        proposal.state = ProposalState::Approved;
        let by = "anna".parse().unwrap();
        proposal.decision = Some(Decision { by, at: tx.now(), reason: None });
        assert_eq!(tx.write_proposal(&proposal).await.unwrap(), 1);
        tx.commit().await.unwrap();
        desk.approve(&desk.rita, &id).await.refused(409, "proposal_decided");
        assert_eq!(desk.show(&id).await["status"], "approved");
        desk.approved(&id, "executed").await;
    }
    assert_eq!(desk.account("alice").await["overdraft_limit"], "5.00");
}

/// As a process leaves it that dies once the transfer is made; even long after, when its idempotency
/// key is forgotten.
#[tokio::test]
async fn an_adjustment_that_was_made_is_found_and_not_made_again() {
    let desk = Desk::new().await;
    let id = desk.proposed(&adjust("k")).await;
    let first = desk.approved(&id, "executed").await;
    let undone = "UPDATE proposals SET state = 2, ended_at = NULL, outcome = NULL";
    desk.world.alter("bank", undone).await;
    desk.world.alter("bank", "DELETE FROM idempotency_keys").await;
    assert_eq!(desk.show(&id).await["status"], "approved");
    assert_eq!(desk.approved(&id, "executed").await, first);
}

#[tokio::test]
async fn what_is_wrong_with_a_proposal_is_told_all_at_once() {
    let desk = Desk::new().await;
    let body = json!({
        "kind": "change_limit", "source": "bank", "force": true, "reason": " ",
        "idempotency_key": "k",
    });
    let problem = desk.propose(&body).await.refused(400, "invalid_request");
    let mut pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/account", "/force", "/overdraft_limit", "/reason", "/source"]);
    desk.propose(&json!({ "kind": "change_limit" })).await.refused(400, "invalid_request");
    let mut unknown = limit("5.00", "k");
    unknown["account"] = json!("nobody");
    desk.propose(&unknown).await.refused(404, "account_not_found");
}
