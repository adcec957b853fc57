//! Documents that must say what the program does.

use super::program::Program;
use super::usage;
use holdfast::config::{SETTINGS, Setting};
use holdfast::meters::{Kind, Metric, table};
use std::fmt::Write;
use std::path::Path;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn row(setting: &Setting) -> String {
    let default = match setting.default {
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
        None => "unset".to_owned(),
    };
    format!(
        "| `{}` | `{}` | {default} | {} | {} |\n",
        setting.env(),
        setting.key,
        setting.allowed.replace('|', "\\|"),
        setting.purpose
    )
}

#[test]
fn the_table_of_settings_is_the_programs() {
    let head = "| environment | holdfast.toml | default | allowed | what it is for |\n|---|---|---|---|---|\n";
    let rows: String = SETTINGS.iter().map(row).collect();
    let expected = format!("<!-- settings -->\n{head}{rows}<!-- end of settings -->");
    let document = document("CONFIGURATION.md");
    assert!(document.contains(&expected), "docs/CONFIGURATION.md should contain:\n{expected}");
}

fn metric(metric: &Metric) -> String {
    let label = |label: &holdfast::meters::Label| {
        let values = label.values.describe();
        let said = if values.is_empty() { String::new() } else { format!(": {values}") };
        format!("`{}`{said}", label.name)
    };
    let labels: Vec<String> = metric.labels.iter().map(label).collect();
    format!(
        "| `{}` | {} | {} | {} | {} | {} |\n",
        metric.name,
        metric.kind.as_str(),
        metric.unit.as_str(),
        labels.join("; "),
        metric.help,
        metric.look
    )
}

/// The bounds of histograms, one line each.
fn bounds() -> String {
    let mut text = String::new();
    for metric in table::all() {
        let Kind::Histogram(bounds) = metric.kind else { continue };
        let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
        writeln!(text, "- `{}`: {}", metric.name, bounds.join(", ")).unwrap();
    }
    text
}

/// `HOLDFAST_TEST_WRITE=true` writes the page anew.
#[test]
fn the_table_of_metrics_is_the_programs() {
    const HEAD: &str = "| metric | kind | unit | labels | what it is | look when |\n\
        |---|---|---|---|---|---|\n";
    let mut expected = "<!-- metrics -->\n".to_owned();
    for (area, metrics) in table::AREAS {
        let rows: String = metrics.iter().map(|one| metric(one)).collect();
        write!(expected, "\n## {area}\n\n{HEAD}{rows}").unwrap();
    }
    let end = "<!-- end of metrics -->";
    write!(expected, "\n## Bounds of histograms\n\n{}\n{end}", bounds()).unwrap();
    let page = document("METRICS.md");
    if std::env::var_os("HOLDFAST_TEST_WRITE").is_some() {
        let (before, rest) = page.split_once("<!-- metrics -->").unwrap();
        let after = rest.split_once(end).unwrap().1;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
        std::fs::write(path, format!("{before}{expected}{after}")).unwrap();
    } else {
        assert!(page.contains(&expected), "docs/METRICS.md should contain:\n{expected}");
    }
}

#[test]
fn every_command_is_in_the_document() {
    let document = document("CLI.md");
    for words in usage::commands(&Program::new()) {
        let group = matches!(
            words.join(" ").as_str(),
            "" | "account"
                | "transfer"
                | "reconcile"
                | "audit"
                | "dlq"
                | "key"
                | "encryption"
                | "proposal"
                | "proposal create"
        );
        let row = format!("\n| `{}` |", words.join(" "));
        assert!(group || document.contains(&row), "docs/CLI.md does not have {row}");
    }
}
