//! `transfer import`: many transfers from a CSV file.

use super::csv_file::{BadLines, Columns, CsvFile, Line, progress};
use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, fields, print};
use super::target::{Target, TargetArgs};
use super::{ConfigArgs, PrincipalArgs, examples};
use crate::domain::{AccountId, Client, Currency, Money};
use crate::ingress::{Refusal, Submitted, TransferRequest};
use crate::runtime::backend::Opening;
use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Transfers of one call.
const BATCH: usize = 1000;

const COLUMNS: Columns = Columns {
    required: &["source", "destination", "amount", "currency", "idempotency_key"],
    optional: &["description"],
};

/// `transfer import`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast transfer import payroll.csv",
    "printf 'source,destination,amount,currency,idempotency_key\\nbank,alice,25.00,USD,pay-1\\n' > payroll.csv",
))]
pub struct Import {
    /// A CSV file with the columns source, destination, amount, currency and idempotency_key, and
    /// perhaps description
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    #[command(flatten)]
    principal: PrincipalArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Default)]
struct Tally {
    accepted: u64,
    repeated: u64,
    refused: BadLines,
}

/// Checks the whole file, then asks for its transfers.
pub async fn run(command: Import, args: &ConfigArgs) -> Ended {
    let file = CsvFile::new(&command.file, COLUMNS);
    let lines = file.check(parse)?;
    let target = command.target.open(args, Opening::AnyShard).await?;
    let bar = progress(lines);
    let tally = import(&file, &target, &command.principal.client, |done| bar.inc(done)).await?;
    bar.finish_and_clear();
    let refused = tally.refused.report();
    let json = json!({
        "accepted": tally.accepted,
        "repeated": tally.repeated,
        "refused": refused,
    });
    print(command.output.format, || fields(&["created", "accepted"], &json), || json.clone());
    match refused {
        0 => Ok(Outcome::Fine),
        _ => Err(anyhow!("{refused} transfers were not accepted; import the same file again, which finds the others by their keys").into()),
    }
}

async fn import(
    file: &CsvFile,
    target: &Target,
    client: &Client,
    progress: impl Fn(u64),
) -> anyhow::Result<Tally> {
    let (mut tally, mut lines) = (Tally::default(), file.lines()?);
    loop {
        let batch = lines.batch(BATCH, parse)?;
        if batch.is_empty() {
            return Ok(tally);
        }
        let count = batch.len() as u64;
        let (numbers, requests): (Vec<u64>, Vec<TransferRequest>) =
            batch.into_iter().map(|(number, asked)| (number, asked.by(client))).unzip();
        let answers = target.ingress().submit_patiently(requests).await;
        numbers.into_iter().zip(answers).for_each(|(number, answer)| tally.add(number, answer));
        progress(count);
    }
}

impl Tally {
    fn add(&mut self, number: u64, answer: Result<Submitted, Refusal>) {
        match answer {
            Ok(Submitted { replayed: false, .. }) => self.accepted += 1,
            Ok(Submitted { replayed: true, .. }) => self.repeated += 1,
            Err(refusal) => self.refused.add(number, &refusal.to_string()),
        }
    }
}

/// A line, as far as it stands in the file.
struct Asked {
    source: AccountId,
    destination: AccountId,
    amount: Money,
    key: crate::domain::IdempotencyKey,
    description: Option<String>,
}

impl Asked {
    fn by(self, client: &Client) -> TransferRequest {
        TransferRequest {
            client: client.clone(),
            key: self.key,
            source: self.source,
            destination: self.destination,
            amount: self.amount,
            currency_given: true,
            description: self.description,
            reference: None,
            metadata: None,
            reverses: None,
            traceparent: None,
        }
    }
}

fn parse(line: &Line) -> Result<Asked, String> {
    let currency: Currency = line.parse("currency")?;
    let text = line.required("amount")?;
    let amount =
        Money::parse(text, currency).map_err(|error| format!("amount is '{text}': {error}"))?;
    if amount.minor() == 0 {
        return Err("amount is zero".to_owned());
    }
    let (source, destination) = (line.parse("source")?, line.parse("destination")?);
    if source == destination {
        return Err("source and destination are the same account".to_owned());
    }
    let description = line.get("description").map(str::to_owned);
    if description.as_ref().is_some_and(|text| text.chars().count() > 255) {
        return Err("description is longer than 255 characters".to_owned());
    }
    Ok(Asked { source, destination, amount, key: line.parse("idempotency_key")?, description })
}
