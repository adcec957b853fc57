//! What one principal proposes and another decides on.

use super::world::{OTHER, SHARD, World, account, client, constraint, key, money, name, usd};
use holdfast::domain::{
    Decision, Ended, Limit, Operation, Period, Proposal, ProposalId, ProposalState, Timestamp,
    TransferId,
};
use holdfast::store::{Constraint, StoreError};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn proposal(number: u64, at: Timestamp, operation: Operation) -> Proposal {
    Proposal {
        id: ProposalId::mint(at, SHARD, number << 40),
        operation,
        before: r#"{"é":null}"#.to_owned(),
        proposed_by: client("olga"),
        reason: "é".repeat(1024),
        key: key(&format!("key-{number}")),
        created_at: at,
        expires_at: at.plus(HOUR),
        state: ProposalState::Pending,
        decision: None,
        ended: None,
    }
}

fn limit() -> Operation {
    Operation::ChangeLimit { account: account("alice"), limit: money(500) }
}

async fn insert(world: &World, proposals: &[Proposal]) -> Result<(), StoreError> {
    let mut tx = world.begin().await;
    for proposal in proposals {
        tx.insert_proposal(proposal).await?;
    }
    tx.commit().await
}

async fn write(world: &World, proposal: &Proposal) -> Result<u64, StoreError> {
    let mut tx = world.begin().await;
    let written = tx.write_proposal(proposal).await?;
    tx.commit().await?;
    Ok(written)
}

fn approved(proposal: &Proposal, by: &str) -> Proposal {
    let at = proposal.created_at.plus(Duration::from_secs(1));
    let decision = Some(Decision { by: client(by), at, reason: Some("é".to_owned()) });
    Proposal { state: ProposalState::Approved, decision, ..proposal.clone() }
}

pub async fn every_proposal_reads_back_as_it_was_and_as_it_became(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let limits = [
        (Period::Day, Limit::new(Some(20), Some(100_050)).unwrap()),
        (Period::Minute, Limit::new(None, Some(0)).unwrap()),
    ];
    let operations = [
        limit(),
        Operation::ChangeVelocity {
            account: account("alice"),
            currency: usd(),
            limits: limits.into(),
        },
        Operation::ChangeVelocity {
            account: account("bob"),
            currency: usd(),
            limits: BTreeMap::new(),
        },
        Operation::CancelTransfer(TransferId::mint(
            at,
            TransferId::from_bytes([0; 16]).slot(),
            0,
            1,
        )),
        Operation::ReleaseQuarantine { account: account("alice"), force: true },
        Operation::DiscardLetter("0.3.17".parse().unwrap()),
        Operation::Adjust {
            source: account("bank"),
            destination: account("alice"),
            amount: money(700),
            description: Some("é".to_owned()),
        },
    ];
    let all: Vec<Proposal> =
        (1..).zip(operations).map(|(number, one)| proposal(number, at, one)).collect();
    insert(&world, &all).await.unwrap();
    for made in &all {
        let found = world.store.proposal(SHARD, made.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(made));
        let target = made.operation.target();
        let by_key = world.store.claimed_proposal(SHARD, &client("olga"), &target, &made.key).await;
        assert_eq!(by_key.unwrap(), found);
        let yes = approved(made, "anna");
        assert_eq!(write(&world, &yes).await.unwrap(), 1);
        assert_eq!(world.store.proposal(SHARD, made.id).await.unwrap(), Some(yes.clone()));
        let ended = Some(Ended { at: at.plus(HOUR), outcome: r#"{"é":1}"#.to_owned() });
        let done = Proposal { state: ProposalState::Executed, ended, ..yes };
        assert_eq!(write(&world, &done).await.unwrap(), 1);
        assert_eq!(world.store.proposal(SHARD, made.id).await.unwrap(), Some(done));
    }
    assert_eq!(world.store.proposal(OTHER, all[0].id).await.unwrap(), None);
}

pub async fn a_key_stands_for_one_proposal_of_a_principal_about_a_target(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let first = proposal(1, at, limit());
    insert(&world, std::slice::from_ref(&first)).await.unwrap();
    let same_key = Proposal { key: first.key.clone(), ..proposal(2, at, limit()) };
    assert_eq!(
        constraint(insert(&world, std::slice::from_ref(&same_key)).await),
        Constraint::Claim
    );
    let release = Operation::ReleaseQuarantine { account: account("alice"), force: false };
    let other_kind = Proposal { operation: release, ..same_key.clone() };
    assert_eq!(constraint(insert(&world, &[other_kind]).await), Constraint::Claim);
    let bob = Operation::ChangeLimit { account: account("bob"), limit: money(500) };
    let other_target = Proposal { operation: bob, ..same_key.clone() };
    let other_principal =
        Proposal { id: proposal(3, at, limit()).id, proposed_by: client("Olga"), ..same_key };
    insert(&world, &[other_target, other_principal]).await.unwrap();
}

pub async fn proposals_are_listed_newest_first_and_by_their_state(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let all: Vec<Proposal> = (1..=4).map(|number| proposal(number, at, limit())).collect();
    insert(&world, &all).await.unwrap();
    write(&world, &approved(&all[1], "anna")).await.unwrap();
    let listed = async |state, before, limit| {
        let found = world.store.proposals(SHARD, state, before, limit).await.unwrap();
        found.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let ids = |places: &[usize]| places.iter().map(|at| all[*at].id).collect::<Vec<_>>();
    assert_eq!(listed(None, None, 9).await, ids(&[3, 2, 1, 0]));
    assert_eq!(listed(None, None, 2).await, ids(&[3, 2]));
    assert_eq!(listed(None, Some(all[2].id), 9).await, ids(&[1, 0]));
    let (soon, over) = (at.plus(HOUR / 2), at.plus(HOUR));
    for (state, now, expected) in [
        (ProposalState::Pending, soon, &[3, 2, 0][..]),
        (ProposalState::Pending, over, &[]),
        (ProposalState::Expired, soon, &[]),
        (ProposalState::Expired, over, &[3, 2, 0]),
        (ProposalState::Approved, over, &[1]),
        (ProposalState::Rejected, soon, &[]),
    ] {
        assert_eq!(listed(Some((state, now)), None, 9).await, ids(expected), "{state:?}");
    }
}

/// Whatever the code above it does.
pub async fn the_database_lets_nobody_decide_on_their_own_proposal(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let made = proposal(1, at, limit());
    insert(&world, std::slice::from_ref(&made)).await.unwrap();
    let error = write(&world, &approved(&made, "olga")).await.unwrap_err();
    assert_eq!(name(&error), "corrupt", "{error}");
    assert_eq!(world.store.proposal(SHARD, made.id).await.unwrap(), Some(made));
}

pub async fn of_two_that_decide_at_once_the_second_sees_what_the_first_decided(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    for number in 1..=20 {
        let made = proposal(number, at, limit());
        insert(&world, std::slice::from_ref(&made)).await.unwrap();
        let decide = async |by: &'static str| loop {
            let attempt = async {
                let mut tx = world.store.begin(SHARD).await?;
                let known = tx.lock_proposal(made.id).await?.expect("it was inserted");
                if known.state == ProposalState::Pending {
                    tx.write_proposal(&approved(&known, by)).await?;
                    tx.commit().await?;
                    return Ok(true);
                }
                Ok(false)
            };
            match attempt.await {
                Err(StoreError::Retry { .. }) => {}
                decided => break decided.unwrap(),
            }
        };
        let decided = tokio::join!(decide("anna"), decide("rita"));
        assert_eq!(u8::from(decided.0) + u8::from(decided.1), 1, "{decided:?}");
    }
}
