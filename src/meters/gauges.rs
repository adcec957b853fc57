//! Gauges of what one process at a time looks at.

use super::Metric;
use metrics::Gauge;
use std::collections::HashMap;

/// What was shown by whoever looks. Once it is somebody else who does, all of it is 0 here: over all
/// processes the sum, and the greatest, are what the one that looks has seen.
#[derive(Default)]
pub struct Gauges {
    shown: HashMap<(&'static str, Vec<String>), Shown>,
}

struct Shown {
    gauge: Gauge,
    now: bool,
}

impl Gauges {
    /// Shows a value, with these values of the labels.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        let key = (metric.name, labels.iter().map(|label| (*label).to_owned()).collect());
        let gauge = || Shown { gauge: metric.gauge(labels), now: true };
        let shown = self.shown.entry(key).or_insert_with(gauge);
        shown.gauge.set(value);
        shown.now = true;
    }

    /// What was not shown since this was last called is 0 now.
    pub fn and_no_more(&mut self) {
        for shown in self.shown.values_mut() {
            if !std::mem::take(&mut shown.now) {
                shown.gauge.set(0.0);
            }
        }
    }

    /// It is somebody else who looks.
    pub fn clear(&mut self) {
        self.shown.drain().for_each(|(_, shown)| shown.gauge.set(0.0));
    }
}
