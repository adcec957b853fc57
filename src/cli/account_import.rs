//! `account import`: many accounts from a CSV file.

use super::csv_file::{BadLines, Columns, CsvFile, Line, progress};
use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, fields, print};
use super::target::{Target, TargetArgs};
use super::{ConfigArgs, examples};
use crate::domain::{AccountKind, Currency, Money};
use crate::ingress::{AccountRequest, Refusal};
use crate::runtime::backend::Opening;
use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Accounts of one call.
const BATCH: usize = 1000;

const COLUMNS: Columns =
    Columns { required: &["id", "currency"], optional: &["kind", "overdraft_limit", "owner"] };

/// `account import`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account import accounts.csv",
    "printf 'id,currency,kind,overdraft_limit\\nbank,USD,external,\\nalice,USD,,50.00\\n' > accounts.csv",
))]
pub struct Import {
    /// A CSV file with the columns id and currency, and perhaps kind, overdraft_limit and owner
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Default)]
struct Tally {
    created: u64,
    existing: u64,
    refused: BadLines,
}

/// Checks the whole file, then creates its accounts.
pub async fn run(command: Import, args: &ConfigArgs) -> Ended {
    let file = CsvFile::new(&command.file, COLUMNS);
    let lines = file.check(parse)?;
    let target = command.target.open(args, Opening::AllShards).await?;
    let bar = progress(lines);
    let tally = import(&file, &target, |done| bar.inc(done)).await?;
    bar.finish_and_clear();
    let refused = tally.refused.report();
    let json = json!({
        "created": tally.created,
        "existing": tally.existing,
        "refused": refused,
    });
    print(command.output.format, || fields(&["created", "accepted"], &json), || json.clone());
    match refused {
        0 => Ok(Outcome::Fine),
        _ => Err(anyhow!("{refused} accounts were refused; correct them and import the file again, which leaves the others as they are").into()),
    }
}

async fn import(file: &CsvFile, target: &Target, progress: impl Fn(u64)) -> anyhow::Result<Tally> {
    let (mut tally, mut lines) = (Tally::default(), file.lines()?);
    loop {
        let batch = lines.batch(BATCH, parse)?;
        if batch.is_empty() {
            return Ok(tally);
        }
        let count = batch.len() as u64;
        let (numbers, requests): (Vec<u64>, Vec<AccountRequest>) = batch.into_iter().unzip();
        let answers = target.ingress().create_accounts(requests).await;
        for (number, answer) in numbers.into_iter().zip(answers) {
            tally.add(number, answer.map(|created| created.new));
        }
        progress(count);
    }
}

impl Tally {
    fn add(&mut self, number: u64, answer: Result<bool, Refusal>) {
        match answer {
            Ok(true) => self.created += 1,
            Ok(false) => self.existing += 1,
            Err(refusal) => self.refused.add(number, &refusal.to_string()),
        }
    }
}

fn parse(line: &Line) -> Result<AccountRequest, String> {
    let currency: Currency = line.parse("currency")?;
    let kind = match line.get("kind") {
        Some(_) => line.parse("kind")?,
        None => AccountKind::Customer,
    };
    let limit = line.get("overdraft_limit").unwrap_or("0");
    let limit = Money::parse(limit, currency)
        .map_err(|error| format!("overdraft_limit is '{limit}': {error}"))?;
    Ok(AccountRequest {
        id: line.parse("id")?,
        currency,
        kind,
        overdraft_limit: limit.minor(),
        metadata: BTreeMap::new(),
        owner: line.get("owner").map(|_| line.parse("owner")).transpose()?,
    })
}
