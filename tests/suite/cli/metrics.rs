//! What a process shows at `/metrics`: in money what the ledger has, and nothing that is not in the
//! table.

use super::embedded;
use super::program::{Program, Running, answer};
use super::serving::fresh;
use crate::wait::eventually;
use holdfast::meters::{Kind, Metric, table};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A series and its value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What processes show, and by which names they announce it.
struct Shown {
    samples: Vec<Sample>,
    help: BTreeSet<String>,
    kinds: BTreeMap<String, String>,
}

impl Shown {
    async fn by(addresses: &[&str]) -> Self {
        let mut shown = Self { samples: Vec::new(), help: BTreeSet::new(), kinds: BTreeMap::new() };
        for address in addresses {
            let text = reqwest::get(format!("{address}/metrics")).await.unwrap();
            for line in text.text().await.unwrap().lines().filter(|line| !line.is_empty()) {
                shown.read(line);
            }
        }
        shown
    }

    fn read(&mut self, line: &str) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            self.help.insert(help.split(' ').next().unwrap().to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            self.kinds.insert(name.to_owned(), kind.to_owned());
        } else {
            self.samples.push(sample(line));
        }
    }

    /// The sum of the series with these labels, over all others and all processes.
    fn sum(&self, metric: &Metric, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            let label = |(name, value): &(&str, &str)| sample.labels[*name] == *value;
            sample.name == metric.name && labels.iter().all(label)
        };
        self.samples.iter().filter(fits).map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let pairs = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once("=\"").unwrap();
        (name.to_owned(), value.trim_end_matches('"').to_owned())
    };
    Sample {
        name: name.to_owned(),
        labels: pairs.map(pair).collect(),
        value: value.parse().unwrap(),
    }
}

/// The table's row that a sample belongs to.
fn row(name: &str) -> Option<&'static Metric> {
    table::all().find(|metric| {
        let suffix = name.strip_prefix(metric.name);
        let histogram = matches!(metric.kind, Kind::Histogram(_));
        suffix == Some("") || histogram && matches!(suffix, Some("_bucket" | "_sum" | "_count"))
    })
}

/// Everything that is shown is announced, and says nothing that the table does not.
fn is_of_the_table(shown: &Shown) {
    for sample in &shown.samples {
        let metric = row(&sample.name).unwrap_or_else(|| panic!("{sample:?} is not in the table"));
        assert!(shown.help.contains(metric.name), "{}: no HELP", metric.name);
        assert_eq!(shown.kinds[metric.name], metric.kind.as_str());
        let mut labels = sample.labels.clone();
        assert_eq!(sample.name.ends_with("_bucket"), labels.remove("le").is_some(), "{sample:?}");
        assert_eq!(labels.len(), metric.labels.len(), "{sample:?}");
        for label in metric.labels {
            let value = &labels[label.name];
            assert!(label.values.allow(value), "{}: {} {value}", sample.name, label.name);
        }
    }
}

/// Accounts and transfers of a running system, over HTTP.
struct Bank {
    address: String,
    http: reqwest::Client,
    transfers: Vec<String>,
}

impl Bank {
    async fn open(address: &str) -> Self {
        let bank = Self {
            address: address.to_owned(),
            http: reqwest::Client::new(),
            transfers: Vec::new(),
        };
        let mut accounts = vec![
            json!({"id": "bank", "currency": "USD", "kind": "external"}),
            json!({"id": "yen-bank", "currency": "JPY", "kind": "external"}),
            json!({"id": "yen", "currency": "JPY"}),
        ];
        accounts.extend((0..8).map(|number| json!({"id": customer(number), "currency": "USD"})));
        let asked = bank.http.post(format!("{address}/v1/accounts/batch"));
        let created = asked.json(&json!({ "accounts": accounts })).send().await.unwrap();
        assert_eq!(created.status(), 200);
        bank
    }

    /// Asks for a transfer; `wait` has it answered at its end.
    async fn pay(
        &mut self,
        from: &str,
        to: &str,
        amount: &str,
        currency: &str,
        wait: bool,
    ) -> Value {
        let body =
            json!({"source": from, "destination": to, "amount": amount, "currency": currency});
        let key = self.transfers.len().to_string();
        let asked = self.http.post(format!("{}/v1/transfers", self.address)).json(&body);
        let asked = asked.header("Idempotency-Key", key);
        let asked = if wait { asked.header("Prefer", "wait=30") } else { asked };
        let answered: Value = asked.send().await.unwrap().json().await.unwrap();
        self.transfers.push(answered["id"].as_str().unwrap().to_owned());
        answered
    }

    /// Transfers of all outcomes.
    async fn business(&mut self) {
        for number in 0..8 {
            self.pay("bank", &customer(number), "50.00", "USD", true).await;
        }
        for number in 0..8 {
            // Some stay on their shard, some do not.
            let (from, to) = (customer(number), customer((number + 3) % 8));
            self.pay(&from, &to, "7.25", "USD", true).await;
        }
        self.pay(&customer(0), &customer(1), "5000.00", "USD", true).await;
        self.pay(&customer(0), "nobody", "1.00", "USD", true).await;
        self.pay("nobody", &customer(0), "2.00", "USD", true).await;
        self.pay("yen-bank", "yen", "900", "JPY", true).await;
        self.pay("yen", &customer(2), "30", "JPY", true).await;
        // Asked for twice, and accepted once.
        let again = self.transfers.len() - 1;
        let first = self.transfers.remove(again);
        self.pay("yen", &customer(2), "30", "JPY", true).await;
        assert_eq!(self.transfers[again], first);
    }

    /// By currency, state and reason, as it is stored now: how many, and how much.
    async fn ledger(&self) -> BTreeMap<[String; 3], (f64, f64)> {
        let mut sums: BTreeMap<[String; 3], (f64, f64)> = BTreeMap::new();
        for id in &self.transfers {
            let one = answer(&format!("{}/v1/transfers/{id}", self.address), 200).await;
            let text = |name: &str| one[name].as_str().unwrap_or("none").to_owned();
            let key = [text("currency"), text("status"), text("reason")];
            let (transfers, amount) = sums.entry(key).or_default();
            *transfers += 1.0;
            *amount += text("amount").replace('.', "").parse::<f64>().unwrap();
        }
        sums
    }

    /// What the customers' ledgers say that they were paid, in this currency.
    async fn credited(&self, accounts: &[String]) -> f64 {
        let mut sum = 0.0;
        for account in accounts {
            let entries =
                answer(&format!("{}/v1/accounts/{account}/entries", self.address), 200).await;
            let entries = entries["data"].as_array().unwrap();
            let credits = entries.iter().filter(|entry| entry["direction"] == "credit");
            let amounts = credits.map(|entry| entry["amount"].as_str().unwrap().replace('.', ""));
            sum += amounts.map(|amount| amount.parse::<f64>().unwrap()).sum::<f64>();
        }
        sum
    }
}

fn customer(number: usize) -> String {
    format!("customer-{number}")
}

/// What was counted is what is stored, to the cent; and everything accepted is open or has ended.
async fn agrees(bank: &Bank, addresses: &[&str]) {
    let ledger = bank.ledger().await;
    let shown = Shown::by(addresses).await;
    is_of_the_table(&shown);
    for currency in ["USD", "JPY"] {
        let of = [("currency", currency)];
        let stored = |wanted: &dyn Fn(&str, &str) -> bool| {
            let fits =
                ledger.iter().filter(|(key, _)| key[0] == currency && wanted(&key[1], &key[2]));
            fits.fold((0.0, 0.0), |sum, (_, one)| (sum.0 + one.0, sum.1 + one.1))
        };
        let accepted = (shown.sum(&table::ACCEPTED, &of), shown.sum(&table::ACCEPTED_AMOUNT, &of));
        assert_eq!(accepted, stored(&|_, _| true), "{currency} accepted: {ledger:?}");
        let mut ended = (0.0, 0.0);
        for outcome in ["committed", "rejected", "cancelled"] {
            let reasons: BTreeSet<&str> =
                ledger.keys().filter(|key| key[1] == outcome).map(|key| &*key[2]).collect();
            for reason in reasons {
                let of = [("currency", currency), ("outcome", outcome), ("reason", reason)];
                let counted = (shown.sum(&table::ENDED, &of), shown.sum(&table::ENDED_AMOUNT, &of));
                let stored = stored(&|status, why| (status, why) == (outcome, reason));
                assert_eq!(counted, stored, "{currency} {outcome} {reason}: {ledger:?}");
            }
            let of = [("currency", currency), ("outcome", outcome)];
            ended.0 += shown.sum(&table::ENDED, &of);
            ended.1 += shown.sum(&table::ENDED_AMOUNT, &of);
        }
        let final_ones =
            stored(&|status, _| ["committed", "rejected", "cancelled"].contains(&status));
        assert_eq!(ended, final_ones, "{currency}: nothing is counted that did not end");
    }
    let ends: f64 = shown
        .samples
        .iter()
        .filter(|one| one.name == "holdfast_transfer_seconds_count")
        .map(|one| one.value)
        .sum();
    assert_eq!(ends, shown.sum(&table::ENDED, &[]), "each end has a time");
}

/// What is open now, of a currency.
async fn open(addresses: &[&str], state: &str) -> (f64, f64) {
    let shown = Shown::by(addresses).await;
    let of = [("currency", "USD"), ("state", state)];
    (shown.sum(&table::OPEN, &of), shown.sum(&table::OPEN_AMOUNT, &of))
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_dev_counts_is_the_ledgers() {
    let program = Program::new().with("HOLDFAST_RECONCILE_INTERVAL", "20ms");
    let dev = embedded::start(program);
    let mut bank = Bank::open(&dev.address).await;
    bank.business().await;
    let ledger = bank.ledger().await;
    let of = |key: [&str; 3]| ledger.get(&key.map(str::to_owned)).copied();
    assert_eq!(of(["USD", "committed", "none"]), Some((16.0, 45_800.0)));
    assert_eq!(of(["USD", "rejected", "insufficient_funds"]), Some((1.0, 500_000.0)));
    assert!(of(["USD", "rejected", "destination_not_found"]).is_some(), "{ledger:?}");
    agrees(&bank, &[&dev.address]).await;
    let customers: Vec<String> = (0..8).map(customer).collect();
    let shown = Shown::by(&[&dev.address]).await;
    let committed = [("currency", "USD"), ("outcome", "committed")];
    assert_eq!(shown.sum(&table::ENDED_AMOUNT, &committed), bank.credited(&customers).await);
    eventually("nothing is open", || async {
        let shown = Shown::by(&[&dev.address]).await;
        shown.sum(&table::RECONCILED, &[]) > 0.0 && shown.sum(&table::OPEN, &[]) == 0.0
    })
    .await;
}

/// Hold works and credit does not: what is held is shown as held, then as stuck before credit, and the
/// process that goes on from there counts the ends.
#[tokio::test(flavor = "multi_thread")]
async fn money_that_several_processes_count_is_the_ledgers() {
    let (program, _) = fresh().await;
    let program = program
        .with("HOLDFAST_RECONCILE_INTERVAL", "50ms")
        .with("HOLDFAST_SCAN_LAG", "1s")
        .with("HOLDFAST_REDRIVE_BACKOFF", "1m");
    program.succeed(&["migrate"]);
    let start = async |roles: &str| {
        let mut running: Running = program.start(&["serve", "--roles", roles]);
        let address = running.listening();
        answer(&format!("{address}/readyz"), 200).await;
        (running, address)
    };
    let (first, early) = start("ingress,relay,hold,reconciler,projector").await;
    let mut bank = Bank::open(&early).await;
    for number in 0..8 {
        bank.pay("bank", &customer(number), "50.00", "USD", false).await;
    }
    eventually("all are held or at their end", || async {
        open(&[&early], "requested").await.0 == 0.0 && open(&[&early], "held").await.0 > 0.0
    })
    .await;
    let held = bank.ledger().await.get(&["USD", "held", "none"].map(str::to_owned)).copied();
    let held = held.expect("some are paid to the other shard");
    eventually("what is held is shown", || async { open(&[&early], "held").await == held }).await;
    agrees(&bank, &[&early]).await;
    let shown = Shown::by(&[&early]).await;
    let usd = [("currency", "USD")];
    let held_in_all = shown.sum(&table::HELD_AMOUNT, &usd);
    assert_eq!(held_in_all, shown.sum(&table::ACCEPTED_AMOUNT, &usd), "each was held on its way");
    eventually("it is stuck before credit", || async {
        let shown = Shown::by(&[&early]).await;
        let of = [("currency", "USD"), ("stage", "credit")];
        let records = shown.sum(&table::LAG_RECORDS, &[("role", "credit")]);
        shown.sum(&table::STUCK_AMOUNT, &of) == held.1
            && shown.sum(&table::STUCK, &of) == held.0
            && records >= held.0
            && shown.sum(&table::LAG_SECONDS, &[("role", "credit")]) > 0.0
    })
    .await;

    let (second, late) = start("ingress,credit,commit,hold,relay").await;
    let both = [early.as_str(), late.as_str()];
    eventually("nothing is open or stuck", || async {
        let shown = Shown::by(&both).await;
        shown.sum(&table::OPEN, &[]) == 0.0
            && shown.sum(&table::STUCK, &[]) == 0.0
            && shown.sum(&table::LAG_RECORDS, &[("role", "credit")]) == 0.0
    })
    .await;
    bank.business().await;
    agrees(&bank, &both).await;
    drop((first, second));
}
