//! What a process counts and measures, for Prometheus: one table of all metrics (`table.rs`), and
//! handles that are kept where something happens often.
//!
//! Everything that is counted goes through a [`Metric`] of the table, so that there is no name, no
//! label and no help text that is not in `docs/METRICS.md`. Labels take their values from small sets
//! that are known beforehand; ids of accounts and transfers are never among them.

mod gauges;
mod http;
mod money;
mod stage;
pub mod table;
mod values;

pub use gauges::Gauges;
pub use http::{Answered, Requests};
pub use money::{Money, Step, Tally};
pub use stage::{IntakeMeter, StageMeter, dead_letter};
pub use values::Values;

pub use metrics::{Counter, Gauge, Histogram};

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// As it is now.
    Gauge,
    /// Samples, counted up to each of these bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Prometheus' word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// What a value is a number of; the name of the metric says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, which the name says.
    Number,
    /// Seconds.
    Seconds,
    /// Minor units of the currency that is among the labels: cents of USD, yen of JPY.
    MinorUnits,
}

impl Unit {
    /// In the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Seconds => "seconds",
            Self::MinorUnits => "minor units",
        }
    }
}

/// A label and what it may say.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// The values that it takes.
    pub values: Values,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As Prometheus has it.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it is a number of.
    pub unit: Unit,
    /// What it is told apart by.
    pub labels: &'static [Label],
    /// What it says, for `# HELP`.
    pub help: &'static str,
    /// When somebody should look; empty where a dashboard is all that it is for.
    pub look: &'static str,
}

impl Metric {
    /// The counter with these values of the labels, in the order of the table.
    pub fn counter(&self, values: &[&str]) -> Counter {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        metrics::counter!(self.name, self.with(values))
    }

    /// The gauge with these values of the labels, in the order of the table.
    pub fn gauge(&self, values: &[&str]) -> Gauge {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        metrics::gauge!(self.name, self.with(values))
    }

    /// The histogram with these values of the labels, in the order of the table.
    pub fn histogram(&self, values: &[&str]) -> Histogram {
        debug_assert!(matches!(self.kind, Kind::Histogram(_)), "{}", self.name);
        metrics::histogram!(self.name, self.with(values))
    }

    /// Tells the recorder what the metric is.
    pub fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.help),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, self.help),
        }
    }

    fn with(&self, values: &[&str]) -> Vec<metrics::Label> {
        assert_eq!(self.labels.len(), values.len(), "{} has other labels", self.name);
        let labels = self.labels.iter().zip(values);
        let label = |(label, value): (&Label, &&str)| {
            debug_assert!(label.values.allow(value), "{}: {} {value}", self.name, label.name);
            metrics::Label::new(label.name, (*value).to_owned())
        };
        labels.map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut seen = BTreeSet::new();
        for metric in table::all() {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("holdfast_"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            let stem = name.trim_end_matches("_total");
            let unit = match metric.unit {
                Unit::Number => !stem.ends_with("_seconds") && !stem.ends_with("_minor_units"),
                Unit::Seconds => stem.ends_with("_seconds"),
                Unit::MinorUnits => stem.ends_with("_minor_units"),
            };
            assert!(unit, "{name} does not say its unit");
            for suffix in ["_bucket", "_count", "_sum", "_info"] {
                assert!(!stem.ends_with(suffix) || suffix == "_info", "{name}");
            }
            assert!(
                metric.help.ends_with('.') && metric.help.len() > 10,
                "{name}: {}",
                metric.help
            );
        }
    }

    #[test]
    fn amounts_say_their_currency_and_labels_are_there_once() {
        for metric in table::all() {
            let labels: BTreeSet<&str> = metric.labels.iter().map(|label| label.name).collect();
            assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
            let in_money = metric.unit == Unit::MinorUnits;
            assert!(!in_money || labels.contains("currency"), "{}", metric.name);
        }
    }

    /// The objective is a bound of the histogram: between two bounds nothing can be counted.
    #[test]
    fn bounds_rise_and_hold_what_alerts_ask_for() {
        for metric in table::all() {
            let Kind::Histogram(bounds) = metric.kind else { continue };
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
        }
        let Kind::Histogram(bounds) = table::TRANSFER_SECONDS.kind else { unreachable!() };
        assert!([0.25, 1.0, 5.0].iter().all(|objective| bounds.contains(objective)));
        let Kind::Histogram(bounds) = table::HTTP_SECONDS.kind else { unreachable!() };
        assert!(bounds.contains(&0.5));
    }
}
