//! The alerts, taken apart as far as the rules need it: their names, the entries of the runbook that
//! they lead to, and what their tests expect.

use std::collections::{BTreeMap, BTreeSet};

/// An alert: its name, and the values of what stands below it.
pub struct Alert {
    /// Its name.
    pub name: String,
    /// The last words of its lines, by their keys.
    pub fields: BTreeMap<String, String>,
}

/// The alerts of a rule file.
pub fn alerts(rules: &str) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    let mut open = false;
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts.push(Alert { name: name.to_owned(), fields: BTreeMap::new() });
            open = true;
        } else if line.starts_with("- ") {
            open = false;
        } else if let (true, Some(alert), Some((key, value))) =
            (open, alerts.last_mut(), line.split_once(": "))
        {
            alert.fields.insert(key.to_owned(), value.to_owned());
        }
    }
    alerts
}

/// What is recorded by a rule file.
pub fn recorded(rules: &str) -> BTreeSet<String> {
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    names.map(str::to_owned).collect()
}

/// Of the alerts that a file of tests speaks of: whether one fires, and whether one stays silent.
pub fn expected(tests: &str) -> BTreeMap<String, (bool, bool)> {
    let mut seen: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    let mut name = None;
    for line in tests.lines().map(str::trim) {
        if let Some(of) = line.strip_prefix("- alertname: ") {
            name = Some(of.to_owned());
        } else if let Some(expected) = line.strip_prefix("exp_alerts:")
            && let Some(name) = name.take()
        {
            let (fires, silent) = seen.entry(name).or_default();
            *(if expected.trim() == "[]" { silent } else { fires }) = true;
        }
    }
    seen
}

/// The anchors of a document's headings, as they are linked to.
pub fn anchors(document: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let text = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'));
        text.map(|text| {
            let kept = text.to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
    };
    document.lines().filter_map(heading).collect()
}

/// Words that may be names of metrics or of what is recorded of them.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = text.split(move |c| !part(c)).map(|word| word.trim_end_matches(':'));
    // A path of the crate has two colons.
    words.filter(|word| {
        (word.contains("holdfast_") || word.starts_with("holdfast:")) && !word.contains("::")
    })
}
