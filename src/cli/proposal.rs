//! `proposal`: what one principal proposes and another approves, straight to the store.

use super::exit::{Ended, Failure, Outcome};
use super::operator::{ActingArgs, OperatorArgs};
use super::output::{OutputArgs, fields, list, print, value};
use super::proposal_create::{self, Create};
use super::target::TargetArgs;
use super::{ConfigArgs, PageArgs, examples};
use crate::domain::{Client, ProposalId, ProposalState};
use crate::ingress::http::{ProposalAnswer, cursor};
use crate::proposals::{Proposals, Verdict, View};
use crate::runtime::backend::Opening;
use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `proposal`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create change-limit alice 50.00 --reason 'asked for in writing'",
    "holdfast proposal list --status pending",
    "holdfast proposal approve 019b1c5e-7a10-7000-9def-0123456789ab --operator anna",
))]
pub struct ProposalCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Propose something that somebody else has to approve
    Create(Create),
    /// List proposals, newest first
    List(List),
    /// Show a proposal
    Show(Show),
    /// Approve what somebody else has proposed, and have it done
    Approve(Approve),
    /// Reject what somebody else has proposed
    Reject(Reject),
    /// Do what was approved and, for its process died, is not done yet
    Execute(Execute),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal list",
    "holdfast proposal list --status pending --format json",
))]
struct List {
    /// pending, approved, executed, failed, rejected or expired
    #[arg(long)]
    status: Option<ProposalState>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!("holdfast proposal show 019b1c5e-7a10-7000-9def-0123456789ab"))]
struct Show {
    /// Its id
    id: ProposalId,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal approve 019b1c5e-7a10-7000-9def-0123456789ab --operator anna",
))]
struct Approve {
    #[command(flatten)]
    acting: Acting,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal reject 019b1c5e-7a10-7000-9def-0123456789ab --operator anna --reason 'twice'",
))]
struct Reject {
    #[command(flatten)]
    acting: Acting,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal execute 019b1c5e-7a10-7000-9def-0123456789ab",
))]
struct Execute {
    #[command(flatten)]
    acting: Acting,
}

#[derive(Args, Debug)]
struct Acting {
    /// Its id
    id: ProposalId,
    #[command(flatten)]
    acting: ActingArgs,
}

/// What is shown first of a proposal.
const FIRST: [&str; 6] = ["id", "status", "kind", "target", "proposed_by", "decided_by"];

/// Runs one of them.
pub async fn run(command: ProposalCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::Create(command) => proposal_create::run(command, args).await,
        What::List(command) => list_proposals(command, args).await,
        What::Show(command) => show(command, args).await,
        What::Approve(command) => decide(command.acting, args, Verdict::Approve).await,
        What::Reject(command) => {
            let reason = command.acting.acting.operator.actor_with_reason()?.reason;
            let verdict = Verdict::Reject(reason.unwrap_or_default());
            decide(command.acting, args, verdict).await
        }
        What::Execute(command) => execute(command.acting, args).await,
    }
}

/// Who acts: a name of the operating system or of `--operator`, as a principal.
pub fn principal(operator: &OperatorArgs) -> Result<Client, Failure> {
    let name = operator.actor().operator;
    name.parse::<Client>().map_err(|error| {
        Failure::Usage(format!("--operator: names the principal that acts, not '{name}': {error}"))
    })
}

/// Prints a proposal; one that could not be done is a failure.
pub fn show_one(output: OutputArgs, view: View) -> Ended {
    let failed = view.state == ProposalState::Failed;
    let shown = value(ProposalAnswer::from(view));
    print(output.format, || fields(&FIRST, &shown), || shown.clone());
    if failed {
        return Err(
            anyhow!("it was approved and cannot be done: {}", shown["outcome"]["detail"]).into()
        );
    }
    Ok(Outcome::Fine)
}

async fn list_proposals(command: List, args: &ConfigArgs) -> Ended {
    let before: Option<ProposalId> = command.page.position()?;
    let target = command.target.open(args, Opening::AllShards).await?;
    let proposals = Proposals::new(target.ingress());
    let (found, last) = proposals.list(command.status, before, command.page.limit).await?;
    let data: Vec<Value> =
        found.into_iter().map(|view| value(ProposalAnswer::from(view))).collect();
    let next = last.as_ref().map(cursor);
    let columns = ["id", "status", "kind", "target", "proposed_by", "decided_by", "reason"];
    let json = || json!({ "data": data, "next_cursor": next });
    print(command.output.format, || list(&columns, &data, next.as_deref()), json);
    Ok(Outcome::Fine)
}

async fn show(command: Show, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let view = Proposals::new(target.ingress()).show(command.id).await?;
    let shown = value(ProposalAnswer::from(view));
    print(command.output.format, || fields(&FIRST, &shown), || shown.clone());
    Ok(Outcome::Fine)
}

async fn decide(command: Acting, args: &ConfigArgs, verdict: Verdict) -> Ended {
    let (who, actor) = (principal(&command.acting.operator)?, command.acting.operator.actor());
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let proposals = Proposals::new(target.ingress());
    let view = proposals.decide(command.id, &who, &verdict, &actor).await?;
    show_one(command.acting.output, view)
}

async fn execute(command: Acting, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let actor = command.acting.operator.actor();
    let view = Proposals::new(target.ingress()).execute(command.id, &actor).await?;
    show_one(command.acting.output, view)
}
