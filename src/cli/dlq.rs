//! `dlq`: dead letters, the money that each blocks, and dealing with them.

use super::exit::{Ended, Failure, Outcome};
use super::operator::ActingArgs;
use super::output::{OutputArgs, fields, list, print, value};
use super::target::{Target, TargetArgs};
use super::{ConfigArgs, PageArgs, examples};
use crate::domain::{Shard, format_minor};
use crate::ingress::http::{Position, cursor};
use crate::operator::letters::{self, Blocked, Letter, LetterFilter, LetterId};
use crate::operator::{Replayed, discard, replay};
use crate::runtime::backend::Opening;
use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// Letters that `--all` looks at in one go.
const BATCH: usize = 500;

/// `dlq`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast dlq list",
    "holdfast dlq show 0.3.17",
    "holdfast dlq replay --all --dry-run",
    "holdfast dlq discard 0.3.17 --reason 'of the old cluster'",
))]
pub struct DlqCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List dead letters that nobody has dealt with, and what each blocks
    List(List),
    /// Show a dead letter with the record that it was
    Show(Show),
    /// Put the events of dead letters on the ordinary path again
    Replay(Replay),
    /// Mark dead letters as dealt with
    Discard(Discard),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast dlq list",
    "holdfast dlq list --shard 0 --all --format json",
))]
struct List {
    /// Only those of this shard
    #[arg(long)]
    shard: Option<u16>,
    /// Also those that were replayed or discarded
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!("holdfast dlq show 0.3.17"))]
struct Show {
    /// Shard, partition and offset, as `dlq list` prints them
    id: LetterId,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast dlq replay 0.3.17 0.3.18",
    "holdfast dlq replay --all --dry-run",
))]
struct Replay {
    /// Shard, partition and offset, as `dlq list` prints them
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<LetterId>,
    /// All that nobody has dealt with
    #[arg(long)]
    all: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    acting: ActingArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast dlq discard 0.3.17 --reason 'of the old cluster'",
    "holdfast dlq discard 0.3.17 0.3.18 --reason 'of the old cluster' --dry-run",
))]
struct Discard {
    /// Shard, partition and offset, as `dlq list` prints them
    #[arg(required = true)]
    ids: Vec<LetterId>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    acting: ActingArgs,
}

impl Position for LetterId {
    const TAG: &'static str = "d1.";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Runs one of them.
pub async fn run(command: DlqCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::List(command) => list_letters(command, args).await,
        What::Show(command) => show(command, args).await,
        What::Replay(command) => replay_letters(command, args).await,
        What::Discard(command) => discard_letters(command, args).await,
    }
}

async fn list_letters(command: List, args: &ConfigArgs) -> Ended {
    let after = command.page.position()?;
    let target = command.target.open(args, Opening::AnyShard).await?;
    let filter = LetterFilter { shard: command.shard.map(Shard), handled: command.all };
    let limit = command.page.limit as usize;
    let (found, next) = letters::letters(&target.context, filter, after, limit).await?;
    let data: Vec<Value> = found.iter().map(shown).collect();
    let (next, blocked) = (next.as_ref().map(cursor), blocked(&found));
    let columns =
        ["id", "reason", "role", "attempt", "at", "transfer", "state", ">blocks", "handled"];
    let table = || {
        let sums: String = blocked
            .iter()
            .map(|(currency, sum)| format!("{sum} {currency} are blocked\n"))
            .collect();
        format!("{}{sums}", list(&columns, &data, next.as_deref()))
    };
    let json = || json!({ "data": data, "next_cursor": next, "blocked": blocked });
    print(command.output.format, table, json);
    Ok(Outcome::Fine)
}

/// What the letters of a list block, each transfer counted once.
fn blocked(letters: &[Letter]) -> BTreeMap<String, String> {
    let mut seen = HashSet::new();
    let mut sums = BTreeMap::new();
    for letter in letters {
        if let Blocked::Money(_, amount) = &letter.blocked
            && seen.insert(letter.transfer())
        {
            *sums.entry(amount.currency()).or_insert(0_i128) += i128::from(amount.minor());
        }
    }
    let text = |(currency, minor)| (format!("{currency}"), format_minor(minor, currency));
    sums.into_iter().map(text).collect()
}

fn shown(letter: &Letter) -> Value {
    let (state, blocks, detail) = match &letter.blocked {
        Blocked::Money(state, amount) => {
            (Some(state.as_str()), Some(format!("{amount} {}", amount.currency())), None)
        }
        Blocked::Final(state) => (Some(state.as_str()), Some("0".to_owned()), None),
        Blocked::NoTransfer => (None, Some("0".to_owned()), None),
        Blocked::Unknown(why) => (None, None, Some(why)),
    };
    let mut shown = json!({
        "id": letter.id.to_string(),
        "copies": letter.copies,
        "last_at": letter.last,
        "transfer": letter.transfer(),
        "state": state,
        "blocks": blocks,
        "blocks_unknown": detail,
        "handled": letter.mark.as_ref().map(|mark| mark.handled.as_str()),
        "handled_by": letter.mark.as_ref().map(|mark| &mark.operator),
        "handled_at": letter.mark.as_ref().map(|mark| mark.at),
        "handled_because": letter.mark.as_ref().map(|mark| &mark.reason),
    });
    match &letter.content {
        Err(_) => shown["reason"] = json!("unreadable"),
        Ok(dead) => {
            let mut dead = value(dead);
            for field in ["reason", "detail", "role", "attempt", "origin", "at"] {
                shown[field] = dead[field].take();
            }
        }
    }
    shown
}

async fn show(command: Show, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let letter = letters::letter(&target.context, command.id).await?;
    let mut shown = shown(&letter);
    match &letter.content {
        Err(text) => shown["value"] = json!(text),
        Ok(dead) => {
            shown["key"] = json!(dead.key);
            shown["value"] = json!(dead.value);
        }
    }
    let first = ["id", "reason", "detail", "role", "attempt", "transfer", "state", "blocks"];
    print(command.output.format, || fields(&first, &shown), || shown.clone());
    Ok(Outcome::Fine)
}

async fn replay_letters(command: Replay, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let actor = command.acting.operator.actor();
    let actor = (!command.dry_run).then_some(&actor);
    let mut done = Vec::new();
    let mut kept = 0;
    let mut after = None;
    loop {
        let (chosen, next) = if command.all {
            letters::letters(&target.context, LetterFilter::default(), after, BATCH).await?
        } else {
            (named(&target, &command.ids).await?, None)
        };
        for letter in &chosen {
            let replayed = replay(&target.context, letter, actor).await?;
            kept += usize::from(matches!(replayed, Replayed::Not(_)));
            done.push(said(letter, &replayed, command.dry_run));
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    let columns = ["id", "transfer", "state", ">blocks", "result"];
    print(command.acting.output.format, || list(&columns, &done, None), || json!({ "data": done }));
    if kept > 0 && !command.all {
        return Err(
            anyhow!("{kept} of {} cannot be replayed; the list says why", done.len()).into()
        );
    }
    Ok(Outcome::Fine)
}

async fn named(target: &Target, ids: &[LetterId]) -> Result<Vec<Letter>, Failure> {
    let mut letters = Vec::new();
    for id in ids {
        letters.push(letters::letter(&target.context, *id).await?);
    }
    Ok(letters)
}

fn said(letter: &Letter, replayed: &Replayed, dry_run: bool) -> Value {
    let verb = if dry_run { "would be replayed" } else { "replayed" };
    let result = match replayed {
        Replayed::Same => format!("{verb} as it was"),
        Replayed::FromRows(kind) => format!("{verb} as {kind}, which is what holds now"),
        Replayed::Already(handled) => format!("{} before", handled.as_str()),
        Replayed::Not(why) => format!("not replayed: {why}"),
    };
    let mut said = shown(letter);
    said["result"] = json!(result);
    said
}

async fn discard_letters(command: Discard, args: &ConfigArgs) -> Ended {
    let actor = command.acting.operator.actor_with_reason()?;
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let mut done = Vec::new();
    for letter in named(&target, &command.ids).await? {
        let result = match &letter.mark {
            Some(mark) => format!("{} before", mark.handled.as_str()),
            None if command.dry_run => "would be discarded".to_owned(),
            None if discard(&target.context, &letter, &actor).await? => "discarded".to_owned(),
            None => "dealt with before".to_owned(),
        };
        let mut said = shown(&letter);
        said["result"] = json!(result);
        done.push(said);
    }
    let columns = ["id", "transfer", "state", ">blocks", "result"];
    print(command.acting.output.format, || list(&columns, &done, None), || json!({ "data": done }));
    Ok(Outcome::Fine)
}
