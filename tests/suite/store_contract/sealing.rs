//! Personal fields that are encrypted at rest: what stands in the tables, and what becomes of it when
//! keys are changed, lost, or in the wrong place.

use super::world::{OTHER, SHARD, World, account, client, customer, key, name, transfer, usd};
use async_trait::async_trait;
use futures::future::join_all;
use holdfast::broker::{Record, envelope};
use holdfast::domain::{
    EventType, NewTransfer, Operation, Proposal, ProposalId, ProposalState, RequestDetails, Shard,
    TransferId,
};
use holdfast::sealing::{Purpose, ROWS_PER_KEY, seal};
use holdfast::store::{
    AccountRecord, AccountSettings, ActFilter, Actor, NEWEST, Store, StoreError, TransferFilter,
    TransferRecord, Tx, UNREADABLE, Work, transact,
};
use std::time::Duration;

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// A part of every text that is looked for.
const PLANTED: &str = "planted";

fn both() -> String {
    format!("{NEW},{OLD}")
}

/// Accepts transfers as ingress does: sealed where that is asked for, stored and published.
struct Accept(Vec<NewTransfer>);

#[async_trait]
impl Work for Accept {
    type Output = Vec<Record>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Vec<Record>, StoreError> {
        let mut transfers = self.0.clone();
        if let Some(sealer) = tx.sealer()? {
            transfers.iter_mut().for_each(|new| seal(&sealer, new));
        }
        tx.insert_transfers(&transfers).await?;
        let map = holdfast::routing::ShardMap::lay_out(2, 4);
        let stamp = holdfast::domain::Stamp {
            cluster: holdfast::domain::ClusterId(uuid::Uuid::nil()),
            generation: holdfast::domain::Generation(1),
            at: tx.now(),
        };
        let record = |new: &NewTransfer| {
            let mut event = stamp.event(EventType::Requested, &new.terms);
            event.request = Some(RequestDetails::of(new));
            envelope::record(&event, &map)
        };
        let records: Vec<Record> = transfers.iter().map(record).collect();
        tx.insert_outbox(&records).await?;
        Ok(records)
    }
}

/// A transfer with something planted in every field.
async fn planted(store: &dyn Store, number: u64) -> NewTransfer {
    let at = store.now(SHARD).await.unwrap();
    NewTransfer {
        description: Some(format!("planted description {number}")),
        reference: Some(format!("planted-reference-{number}")),
        metadata: Some(format!("{{\"planted-name\":\"planted {number}\"}}")),
        ..transfer(number, at, "alice", "bob", 1)
    }
}

async fn accept(store: &dyn Store, shard: Shard, new: &NewTransfer) -> Vec<Record> {
    transact(store, shard, &Accept(vec![new.clone()])).await.unwrap()
}

async fn read(store: &dyn Store, shard: Shard, id: TransferId) -> TransferRecord {
    store.transfer_records(shard, &[id]).await.unwrap().remove(0)
}

fn assert_reads(record: &TransferRecord, new: &NewTransfer) {
    assert!(!record.is_unreadable());
    assert_eq!(record.description, new.description);
    assert_eq!(record.reference, new.reference);
    assert_eq!(record.metadata, new.metadata);
}

/// Creates an account, changes its metadata, and proposes something.
struct Others(AccountRecord);

#[async_trait]
impl Work for Others {
    type Output = Proposal;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Proposal, StoreError> {
        tx.insert_accounts(std::slice::from_ref(&self.0)).await?;
        let mut row = self.0.row.clone();
        row.version = 2;
        let metadata = Some("{\"planted\":\"again\"}".to_owned());
        let settings = AccountSettings { row, version_before: 1, metadata, owner: None };
        tx.write_settings(&settings).await?;
        let proposal = Proposal {
            id: ProposalId::mint(tx.now(), tx.shard(), 1),
            operation: Operation::Adjust {
                source: account("bank"),
                destination: account("carol"),
                amount: holdfast::domain::Money::from_minor(1, usd()).unwrap(),
                description: Some("planted in a proposal".to_owned()),
            },
            before: "{}".to_owned(),
            proposed_by: client("ann"),
            reason: "because".to_owned(),
            key: key("one"),
            created_at: tx.now(),
            expires_at: tx.now(),
            state: ProposalState::Pending,
            decision: None,
            ended: None,
        };
        tx.insert_proposal(&proposal).await?;
        assert_eq!(tx.lock_proposal(proposal.id).await?, Some(proposal.clone()));
        let records = tx.account_records(&[account("carol")].into()).await?;
        assert_eq!(records[&account("carol")].metadata, "{\"planted\":\"again\"}");
        Ok(proposal)
    }
}

async fn plant_everywhere(store: &dyn Store) -> (NewTransfer, Vec<Record>, Proposal) {
    let new = planted(store, 1).await;
    let records = accept(store, SHARD, &new).await;
    let carol =
        AccountRecord { metadata: "{\"planted\":\"first\"}".to_owned(), ..customer("carol") };
    let proposal = transact(store, SHARD, &Others(carol)).await.unwrap();
    (new, records, proposal)
}

/// Rows of any table that tell what was planted.
async fn telling(world: &World) -> Vec<String> {
    let hex: String = PLANTED.bytes().map(|byte| format!("{byte:02X}")).collect();
    let mut rows = world.databases.dump(SHARD).await;
    rows.extend(world.databases.dump(OTHER).await);
    assert!(rows.iter().any(|row| row.starts_with("outbox ")), "the dump has every table");
    rows.retain(|row| row.contains(&hex));
    rows
}

pub async fn what_callers_wrote_stands_nowhere_in_the_tables(world: World) {
    let store = world.databases.open_with(OLD).await;
    let (new, records, proposal) = plant_everywhere(&*store).await;
    assert_eq!(telling(&world).await, Vec::<String>::new());
    let published = String::from_utf8(records[0].value.to_vec()).unwrap();
    assert!(published.contains("\"sealed\"") && !published.contains(PLANTED), "{published}");
    assert_reads(&read(&*store, SHARD, new.terms.id).await, &new);
    // By another process, too.
    let store = world.databases.open_with(OLD).await;
    assert_reads(&read(&*store, SHARD, new.terms.id).await, &new);
    let carol = store.account(SHARD, &account("carol")).await.unwrap().unwrap();
    assert_eq!(carol.metadata, "{\"planted\":\"again\"}");
    assert_eq!(store.proposal(SHARD, proposal.id).await.unwrap(), Some(proposal));
}

/// What is not encrypted is found by the same search; it reads on when it is, and the other way
/// round the fields are missing and nothing else is.
pub async fn plain_and_sealed_rows_live_side_by_side(world: World) {
    let (plain, _, proposal) = plant_everywhere(&*world.store).await;
    let told = telling(&world).await;
    for table in ["transaction_status ", "outbox ", "account_mst ", "proposals "] {
        assert!(told.iter().any(|row| row.starts_with(table)), "{table}: {told:?}");
    }
    let store = world.databases.open_with(OLD).await;
    let sealed = planted(&*store, 2).await;
    accept(&*store, SHARD, &sealed).await;
    for new in [&plain, &sealed] {
        assert_reads(&read(&*store, SHARD, new.terms.id).await, new);
    }
    assert_eq!(store.proposal(SHARD, proposal.id).await.unwrap(), Some(proposal));
    assert_reads(&read(&*world.store, SHARD, plain.terms.id).await, &plain);
    let without = read(&*world.store, SHARD, sealed.terms.id).await;
    assert!(without.is_unreadable());
    assert_eq!(without.row.terms, sealed.terms);
    // Forgetting to seal is a fault that is found before it is written.
    let mut tx = store.begin(SHARD).await.unwrap();
    let forgotten = planted(&*store, 3).await;
    let error = tx.insert_transfers(&[forgotten]).await.unwrap_err();
    assert!(error.to_string().contains("was not sealed"), "{error}");
}

/// Whoever can write to the tables moves sealed fields to another transfer.
pub async fn sealed_fields_in_the_place_of_others_are_not_read(world: World) {
    let store = world.databases.open_with(OLD).await;
    let (one, two) = (planted(&*store, 1).await, planted(&*store, 2).await);
    accept(&*store, SHARD, &one).await;
    accept(&*store, SHARD, &two).await;
    world
        .databases
        .sql(SHARD, "CREATE TABLE kept AS SELECT id, sealed FROM transaction_status")
        .await;
    let swap = "UPDATE transaction_status SET sealed = \
        (SELECT k.sealed FROM kept k WHERE k.id <> transaction_status.id)";
    world.databases.sql(SHARD, swap).await;
    for new in [&one, &two] {
        let record = read(&*store, SHARD, new.terms.id).await;
        assert!(record.is_unreadable(), "{record:?}");
        assert_eq!(record.row.terms, new.terms);
    }
    let back = "UPDATE transaction_status SET sealed = \
        (SELECT k.sealed FROM kept k WHERE k.id = transaction_status.id)";
    world.databases.sql(SHARD, back).await;
    assert_reads(&read(&*store, SHARD, one.terms.id).await, &one);
}

pub async fn processes_that_begin_at_once_share_one_key(world: World) {
    let stores = join_all((0..4).map(|_| world.databases.open_with(OLD))).await;
    let news = join_all((0..4).map(|number| planted(&*stores[0], number))).await;
    let accepted = stores.iter().zip(&news).map(|(store, new)| accept(&**store, SHARD, new));
    join_all(accepted).await;
    let keys = stores[0].data_keys(SHARD).await.unwrap();
    let purposes: Vec<Purpose> = keys.iter().map(|key| key.purpose).collect();
    assert_eq!(purposes, [Purpose::Lookup, Purpose::Fields]);
    for store in &stores {
        for new in &news {
            assert_reads(&read(&**store, SHARD, new.terms.id).await, new);
        }
    }
    assert_eq!(acts(&*stores[0], SHARD).await, ["encryption.make"]);
    assert_eq!(stores[0].data_keys(OTHER).await.unwrap(), [], "made where they are needed");
}

async fn acts(store: &dyn Store, shard: Shard) -> Vec<String> {
    let acts = store.acts(shard, &ActFilter::default(), NEWEST, 100).await.unwrap();
    acts.into_iter().rev().map(|act| act.act.action).collect()
}

fn operator() -> Actor {
    Actor { operator: "ann".to_owned(), reason: Some("it is time".to_owned()), request: None }
}

/// Has every data key count as old enough for those that look for it now.
async fn let_keys_settle(world: &World, shard: Shard) {
    let text = "UPDATE data_keys SET created_at = created_at - 61000000";
    world.databases.sql(shard, text).await;
}

pub async fn a_rotated_key_reads_on_and_another_seals(world: World) {
    let first = world.databases.open_with(OLD).await;
    let before = planted(&*first, 1).await;
    accept(&*first, SHARD, &before).await;
    let young = first.rotate_data_key(SHARD, Duration::from_secs(3600), &operator()).await;
    assert_eq!(young.unwrap(), None, "a repeat leaves alone what was rotated");
    let made = first.rotate_data_key(SHARD, Duration::ZERO, &operator()).await.unwrap();
    assert_eq!(made, Some(3));
    // A new key that a promotion might lose is not used yet.
    let early = planted(&*first, 2).await;
    let store = world.databases.open_with(OLD).await;
    accept(&*store, SHARD, &early).await;
    let_keys_settle(&world, SHARD).await;
    let store = world.databases.open_with(OLD).await;
    let after = planted(&*store, 3).await;
    accept(&*store, SHARD, &after).await;
    let sealed_with = async |new: &NewTransfer| {
        let record = read(&*first, SHARD, new.terms.id).await;
        assert_reads(&record, new);
        holdfast::sealing::key_of(&record.sealed.unwrap()).unwrap()
    };
    assert_eq!(sealed_with(&before).await, 2);
    assert_eq!(sealed_with(&early).await, 2);
    assert_eq!(sealed_with(&after).await, 3, "and a process from before finds the new one");
    assert_eq!(acts(&*first, SHARD).await, ["encryption.make", "encryption.rotate"]);
}

/// The process dies when it has done one shard of two.
pub async fn a_rewrap_that_was_interrupted_is_completed_by_repeating_it(world: World) {
    let store = world.databases.open_with(OLD).await;
    let here = planted(&*store, 1).await;
    let there = NewTransfer { ..planted(&*store, 2).await };
    accept(&*store, SHARD, &here).await;
    accept(&*store, OTHER, &there).await;
    let store = world.databases.open_with(&both()).await;
    assert_eq!(store.rewrap_data_keys(SHARD, &operator()).await.unwrap(), 2);
    drop(store);
    let early = world.databases.open_with(NEW).await;
    assert_reads(&read(&*early, SHARD, here.terms.id).await, &here);
    assert!(read(&*early, OTHER, there.terms.id).await.is_unreadable());
    let error = early.rewrap_data_keys(OTHER, &operator()).await.unwrap_err().to_string();
    assert!(error.contains("wrapped by 'old'") && error.contains("configure it again"), "{error}");
    let store = world.databases.open_with(&both()).await;
    assert_eq!(store.rewrap_data_keys(SHARD, &operator()).await.unwrap(), 0);
    assert_eq!(store.rewrap_data_keys(OTHER, &operator()).await.unwrap(), 2);
    let store = world.databases.open_with(NEW).await;
    assert_reads(&read(&*store, SHARD, here.terms.id).await, &here);
    assert_reads(&read(&*store, OTHER, there.terms.id).await, &there);
    for shard in [SHARD, OTHER] {
        assert_eq!(acts(&*store, shard).await, ["encryption.make", "encryption.rewrap"]);
        let keys = store.data_keys(shard).await.unwrap();
        assert!(keys.iter().all(|key| key.wrapped_by == "new" && key.fault.is_none()));
    }
}

/// Hazard 48, its second half: without the key nothing can be said of a reference, and nothing is.
pub async fn a_key_that_was_taken_out_too_early_costs_the_fields_and_nothing_else(world: World) {
    let store = world.databases.open_with(OLD).await;
    let (new, _, proposal) = plant_everywhere(&*store).await;
    for without in [world.databases.open_with(NEW).await, world.databases.open().await.unwrap()] {
        let record = read(&*without, SHARD, new.terms.id).await;
        assert!(record.is_unreadable());
        assert_eq!((&record.row.terms, &record.claim), (&new.terms, &new.claim));
        let carol = without.account(SHARD, &account("carol")).await.unwrap().unwrap();
        assert_eq!((carol.metadata.as_str(), carol.row.version), (UNREADABLE, 2));
        // Half of a proposal is not decided on.
        let error = without.proposal(SHARD, proposal.id).await.unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
        // Nobody can say that no payment has this reference.
        let filter = TransferFilter { reference: new.reference.clone(), ..Default::default() };
        let found = without.outgoing(SHARD, &account("alice"), &filter, None, 10).await;
        assert!(found.unwrap_err().to_string().contains("references of this shard"));
        let faults = without.data_keys(SHARD).await.unwrap();
        let fault = faults[0].fault.as_ref().unwrap().to_string();
        assert!(fault.contains("wrapped by 'old'"), "{fault}");
    }
    let without = world.databases.open_with(NEW).await;
    let refused = Accept(vec![planted(&*without, 2).await]);
    let error = transact(&*without, SHARD, &refused).await.map(drop).unwrap_err();
    assert_eq!(name(&error), "failed");
    assert!(error.to_string().contains("'old', which is not among HOLDFAST_ENCRYPTION_KEYS"));
    // What needs no key goes on.
    let at = without.now(SHARD).await.unwrap();
    let plain = transfer(3, at, "alice", "bob", 1);
    let mut tx = without.begin(SHARD).await.unwrap();
    tx.insert_transfers(std::slice::from_ref(&plain)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(read(&*without, SHARD, plain.terms.id).await.row.terms, plain.terms);
    // Nothing was lost.
    let store = world.databases.open_with(&both()).await;
    assert_reads(&read(&*store, SHARD, new.terms.id).await, &new);
}

/// Hazard 48, its first half.
pub async fn a_reference_is_found_however_it_is_kept(world: World) {
    let plain = planted(&*world.store, 7).await;
    accept(&*world.store, SHARD, &plain).await;
    let store = world.databases.open_with(OLD).await;
    let mut sealed = planted(&*store, 8).await;
    sealed.reference = plain.reference.clone();
    let other = planted(&*store, 9).await;
    let mut of_bob = planted(&*store, 10).await;
    of_bob.terms.source = account("bob");
    of_bob.terms.destination = account("alice");
    of_bob.reference = plain.reference.clone();
    for new in [&sealed, &other, &of_bob] {
        accept(&*store, SHARD, new).await;
    }
    store.rotate_data_key(SHARD, Duration::ZERO, &operator()).await.unwrap();
    let_keys_settle(&world, SHARD).await;
    let store = world.databases.open_with(OLD).await;
    let mut later = planted(&*store, 11).await;
    later.reference = plain.reference.clone();
    accept(&*store, SHARD, &later).await;
    let filter = TransferFilter { reference: plain.reference.clone(), ..Default::default() };
    let found = store.outgoing(SHARD, &account("alice"), &filter, None, 10).await.unwrap();
    let ids: Vec<TransferId> = found.iter().map(|record| record.row.terms.id).collect();
    assert_eq!(ids, [later.terms.id, sealed.terms.id, plain.terms.id]);
    assert!(found.iter().all(|record| record.reference == plain.reference));
}

/// Hazard 49: a claim counts for a month, and a key does not have to.
pub async fn a_fingerprint_is_the_same_through_every_rotation(world: World) {
    struct Print;
    #[async_trait]
    impl Work for Print {
        type Output = [u8; 32];
        async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<[u8; 32], StoreError> {
            Ok(tx.sealer()?.expect("it is encrypted").fingerprint(&[7; 32]))
        }
    }
    let store = world.databases.open_with(OLD).await;
    let print = transact(&*store, SHARD, &Print).await.unwrap();
    assert_ne!(print, [7; 32]);
    assert_ne!(print, transact(&*store, OTHER, &Print).await.unwrap());
    store.rotate_data_key(SHARD, Duration::ZERO, &operator()).await.unwrap();
    let_keys_settle(&world, SHARD).await;
    let store = world.databases.open_with(&both()).await;
    assert_eq!(transact(&*store, SHARD, &Print).await.unwrap(), print);
    store.rewrap_data_keys(SHARD, &operator()).await.unwrap();
    let store = world.databases.open_with(NEW).await;
    assert_eq!(transact(&*store, SHARD, &Print).await.unwrap(), print);
}

pub async fn a_worn_key_gets_a_successor_by_itself(world: World) {
    let store = world.databases.open_with(OLD).await;
    let first = planted(&*store, 1).await;
    accept(&*store, SHARD, &first).await;
    let granted = store.data_keys(SHARD).await.unwrap()[1].sealed;
    assert!(granted > 0 && granted < ROWS_PER_KEY / 100, "what a process may seal is counted");
    let worn = format!("UPDATE data_keys SET sealed = {} WHERE id = 2", ROWS_PER_KEY - 1);
    world.databases.sql(SHARD, &worn).await;
    let store = world.databases.open_with(OLD).await;
    let second = planted(&*store, 2).await;
    accept(&*store, SHARD, &second).await;
    let keys = store.data_keys(SHARD).await.unwrap();
    assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(keys[1].sealed, ROWS_PER_KEY - 1, "it seals no more");
    let record = read(&*store, SHARD, second.terms.id).await;
    assert_reads(&record, &second);
    assert_eq!(holdfast::sealing::key_of(&record.sealed.unwrap()), Some(3));
    assert_reads(&read(&*store, SHARD, first.terms.id).await, &first);
    assert_eq!(acts(&*store, SHARD).await, ["encryption.make", "encryption.make"]);
}
