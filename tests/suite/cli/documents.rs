//! Documents that must say what the program does.

use super::program::Program;
use super::usage;
use holdfast::config::{SETTINGS, Setting};
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
