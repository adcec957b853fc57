//! Recovery: after a promotion that may have lost commits, both sides of every transfer are made
//! to agree again.
//!
//! State before: every role has ended; one shard, or several, went back to an earlier moment. State
//! after: nothing is believed of what was published before, every transfer is where the ordinary
//! steps take it on, and the end of each that is final was announced. It can be interrupted anywhere
//! and run again: the generation is raised once more, and what was repaired is found repaired.

mod accounts;
mod apply;
mod decide;
mod ends;
mod evidence;
mod log;
mod report;
mod survey;

pub use decide::{Announced, End, Facts, Repair, SourceRepair, SourceRow, decide};
pub use report::{Finding, Repaired, RepairedTransfer, Report};

use crate::broker::BrokerError;
use crate::context::Context;
use crate::domain::{EventError, Generation, Shard, Timestamp, format_minor};
use crate::roles::Role;
use crate::store::{Action, Actor, Lease, Store, StoreError, record, transact};
use apply::{WritePivot, WriteSource, Written};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use survey::{Case, Survey, survey};

/// What is recovered.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The shards that may have lost commits; all of them at once.
    pub lost: BTreeSet<Shard>,
    /// Only transfers accepted, and events published, since then.
    pub since: Option<Timestamp>,
}

/// Why a recovery did not come to its end. Run it again.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A role still works, or was killed a few seconds ago.
    #[error(
        "{} of shard {shard} is at work in process {}, or was until now: end every role first \
         (the lease of one that was killed runs out at {})", .lease.name, .lease.holder, .lease.until
    )]
    AtWork {
        /// The shard that it works on.
        shard: Shard,
        /// Its lease.
        lease: Lease,
    },
    /// A shard.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// An event of a later release.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// Raises the generation in the identity row of every shard, once every role has ended: from then
/// on nothing that was published before is acted on, and no process that runs on can write. The
/// store is to be opened anew afterwards. Where an earlier run raised some shards, all of them are
/// raised above those.
pub async fn raise(store: &dyn Store) -> Result<Generation, RecoverError> {
    ensure_stopped(store).await?;
    let mut newest = Generation(0);
    for shard in store.map().all_shards() {
        newest = newest.max(store.stored_generation(shard).await?);
    }
    let next = Generation(newest.0 + 1);
    for shard in store.map().all_shards() {
        store.raise_generation(shard, next).await?;
    }
    Ok(next)
}

/// Every shard answers and takes writes, and no role has a lease.
pub async fn ensure_stopped(store: &dyn Store) -> Result<(), RecoverError> {
    for shard in store.map().all_shards() {
        store.ping(shard).await?;
        let leases = store.leases(shard).await?;
        if let Some(lease) = leases.into_iter().find(|lease| lease.name.parse::<Role>().is_ok()) {
            return Err(RecoverError::AtWork { shard, lease });
        }
    }
    Ok(())
}

/// What [`recover`] would find and do. Only reads.
pub async fn look(context: &Context, scope: &Scope) -> Result<Report, RecoverError> {
    let survey = survey(context, scope).await?;
    let mut report = begin(context, scope, &survey, true);
    survey.cases.iter().for_each(|case| report.count(case));
    report.ends = survey.unannounced.values().map(|ids| ids.len() as u64).sum();
    Ok(finish(report))
}

/// Makes both sides agree, in a store that was opened after [`raise`]. Accounts come first, then
/// the pivots, so that holds find as much money as there is; then the sources; then what nobody was
/// told of, with accounts as they are by then; then projections.
pub async fn recover(context: &Context, scope: &Scope) -> Result<Report, RecoverError> {
    let survey = survey(context, scope).await?;
    let mut report = begin(context, scope, &survey, false);
    accounts::restore(context, &survey.accounts, &mut report).await?;
    for case in &survey.cases {
        write_pivot(context, case, &mut report).await?;
    }
    for case in &survey.cases {
        write_source(context, case, &mut report).await?;
    }
    watch(context, &survey.cases).await?;
    ends::announce(context, &survey.unannounced, &mut report).await?;
    for shard in &scope.lost {
        accounts::project(context, *shard, &mut report).await?;
    }
    if report.finished {
        for shard in context.store.map().all_shards() {
            context.store.finish_recovery(shard).await?;
        }
    }
    Ok(finish(report))
}

/// Adds what was done to the audit logs of the lost shards.
pub async fn log(context: &Context, report: &Report, actor: &Actor) -> Result<(), StoreError> {
    for shard in &report.shards {
        let after = json!({
            "generation": report.generation,
            "finished": report.finished,
            "repairs": report.repairs,
            "ends": report.ends,
            "findings": report.findings.len(),
        });
        let act = actor.act(Action::Recover, &format!("shard {shard}"), &Value::Null, &after);
        record(&*context.store, *shard, &[act]).await?;
    }
    Ok(())
}

fn begin(context: &Context, scope: &Scope, survey: &Survey, dry_run: bool) -> Report {
    Report {
        dry_run,
        finished: !dry_run,
        shards: scope.lost.iter().copied().collect(),
        generation: context.store.identity().generation,
        transfers: survey.transfers,
        pivots: survey.pivots,
        events: survey.events,
        accounts: 0,
        projections: 0,
        ends: 0,
        repairs: Vec::new(),
        repaired: Vec::new(),
        findings: survey.findings.clone(),
    }
}

fn finish(mut report: Report) -> Report {
    report.findings.sort();
    report
}

async fn write_pivot(
    context: &Context,
    case: &Case,
    report: &mut Report,
) -> Result<(), RecoverError> {
    let Some(decision) = case.repair.pivot else { return Ok(()) };
    let shard = context.store.map().shard_of(&case.terms.destination);
    let work = WritePivot { terms: &case.terms, decision };
    let written = transact(&*context.store, shard, &work).await?;
    note(case, shard, "destination", &written, report);
    Ok(())
}

async fn write_source(
    context: &Context,
    case: &Case,
    report: &mut Report,
) -> Result<(), RecoverError> {
    let shard = context.store.map().shard_of(&case.terms.source);
    if let Some(repair) = case.repair.source {
        let work = WriteSource { context, case, repair };
        let written = transact(&*context.store, shard, &work).await?;
        note(case, shard, "source", &written, report);
        if written == (Written::KeyUsed { restored: false }) {
            return Ok(());
        }
    }
    report.count(case);
    Ok(())
}

/// The reconciler is told of every transfer that is not final now: its scan may have passed them.
async fn watch(context: &Context, cases: &[Case]) -> Result<(), RecoverError> {
    let mut by_shard: BTreeMap<Shard, Vec<crate::domain::TransferId>> = BTreeMap::new();
    for case in cases {
        let shard = context.store.map().shard_of(&case.terms.source);
        by_shard.entry(shard).or_default().push(case.terms.id);
    }
    for (shard, ids) in by_shard {
        context.store.watch(shard, &ids).await?;
    }
    Ok(())
}

/// What an operator has to know of. As long as a transfer could not be made to agree the recovery
/// is not finished: the ordinary steps would take it for one that moved no money.
fn note(case: &Case, shard: Shard, side: &str, written: &Written, report: &mut Report) {
    let terms = &case.terms;
    let currency = terms.amount.currency();
    report.finished &= !matches!(written, Written::NoAccount | Written::Impossible(_));
    let (what, repair) = match written {
        Written::Done | Written::AlreadyThere => return,
        Written::LimitRaised(_) => (
            "a hold that was lost takes its account below its limit: the limit was raised",
            "lower the limit again when the account has the money",
        ),
        Written::KeyUsed { restored: true } => (
            "a lost transfer has been paid, and its key was used since for another one",
            "see with the client which of the two it wants to take back",
        ),
        Written::KeyUsed { restored: false } => (
            "a lost transfer was not made again: its key was used since for another one",
            "none needed: its client was answered with the other",
        ),
        Written::NoAccount => (
            "an account was lost, and no event carried its row",
            "create it with `holdfast account create` and run this again",
        ),
        Written::Impossible(_) => {
            ("a transfer cannot be made to agree", "nothing automatic: call an engineer")
        }
    };
    let detail = match written {
        Written::LimitRaised(by) => format!(", limit {} higher", format_minor(*by, currency)),
        Written::Impossible(fault) => format!(", {fault}"),
        _ => String::new(),
    };
    report.findings.push(Finding {
        what,
        place: format!(
            "shard {shard}, {side} of transfer {}, {} to {}",
            terms.id, terms.source, terms.destination
        ),
        amount: format!("{} {currency}{detail}", terms.amount),
        repair,
    });
}
