//! Which tests hold which histories, by their own doc comments and by the document's table.

use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// Tests by the number of the history that they hold.
pub type Tests = BTreeMap<u32, BTreeSet<String>>;

/// Histories that this release must survive.
pub const DUE: [u32; 43] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
    27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
];

/// What doc comments of test functions say.
pub fn held(sources: &[Source]) -> Tests {
    let mut tests = Tests::new();
    for source in sources {
        let mut comment = String::new();
        for (at, line) in source.text.lines().enumerate().filter(|(at, _)| source.test[*at]) {
            let line = line.trim();
            if let Some(text) = line.strip_prefix("///") {
                comment.push_str(text);
            } else if let Some(function) = function(line) {
                for number in numbers(&comment) {
                    tests.entry(number).or_default().insert(function.to_owned());
                }
                comment.clear();
            } else if !line.starts_with("#[") && !source.code[at].trim().is_empty() {
                comment.clear();
            }
        }
    }
    tests
}

/// What the table says: its first column is the number, its last the tests in backticks.
pub fn listed(text: &str) -> Tests {
    let mut tests = Tests::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, column] = cells[..] else { continue };
        let Ok(number) = number.parse() else { continue };
        tests.insert(number, column.split('`').skip(1).step_by(2).map(str::to_owned).collect());
    }
    tests
}

fn function(line: &str) -> Option<&str> {
    let declared = line.trim_start_matches("pub ").trim_start_matches("async ");
    let rest = declared.strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

/// The numbers after each "hazard".
fn numbers(comment: &str) -> Vec<u32> {
    let lower = comment.to_lowercase();
    let after = lower.match_indices("hazard ").map(|(at, word)| &lower[at + word.len()..]);
    after
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        })
        .collect()
}
