//! Encryption at rest as operators have it: no file tells what callers wrote, and keys come and go.

use super::embedded::start;
use super::program::Program;
use std::path::Path;

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const SETTING: &str = "HOLDFAST_ENCRYPTION_KEYS";
/// A part of every text that is looked for.
const PLANTED: &str = "planted";

/// Files in and under a directory that contain the text.
fn telling(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(telling(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(PLANTED.len()).any(|part| part == PLANTED.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn pay(program: &Program, key: &str) -> serde_json::Value {
    let terms = ["transfer", "create", "--source", "bank", "--destination", "alice"];
    let money = ["--amount", "1.00", "--currency", "USD", "--key", key, "--wait", "30s"];
    let words = ["--description", "planted words", "--reference", "planted-7"];
    let more = ["--metadata", "planted-name=planted value"];
    program.json(&[&terms[..], &money, &words, &more].concat())
}

fn fund(program: &Program) {
    program.json(&["account", "create", "bank", "--currency", "USD", "--kind", "external"]);
    let alice = ["account", "create", "alice", "--currency", "USD", "--metadata", "note=planted"];
    program.json(&alice);
}

fn assert_reads(program: &Program, id: &str) {
    let shown = program.json(&["transfer", "show", id]);
    let shown = if shown.get("transfer").is_some() { &shown["transfer"] } else { &shown };
    assert_eq!(shown["description"], "planted words", "{shown}");
    assert_eq!(shown["metadata"]["planted-name"], "planted value", "{shown}");
}

/// Tables, indices, write-ahead logs, and the log of events; the search finds what is not encrypted.
#[test]
fn no_file_tells_what_a_caller_wrote() {
    let dev = start(Program::new());
    fund(&dev.program);
    pay(&dev.program, "plain");
    let (program, _) = dev.stop("TERM");
    let told = telling(program.dir());
    assert!(told.iter().any(|file| file.contains("log")), "{told:?}");
    assert!(told.iter().any(|file| file.contains("shard-")), "{told:?}");

    let dev = start(Program::new().with(SETTING, OLD));
    fund(&dev.program);
    let paid = pay(&dev.program, "sealed");
    assert_eq!(paid["status"], "committed", "{paid}");
    assert_reads(&dev.program, paid["id"].as_str().unwrap());
    let found = ["transfer", "list", "--account", "bank", "--reference", "planted-7"];
    assert_eq!(dev.program.json(&found)["data"].as_array().unwrap().len(), 1);
    let checked = dev.program.run(&["reconcile", "check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let (program, _) = dev.stop("KILL");
    assert_eq!(telling(program.dir()), Vec::<String>::new());
}

/// The way of docs/OPERATIONS.md: add the new key, rewrap, take the old one out.
#[test]
fn a_key_is_replaced_as_the_manual_says() {
    let dev = start(Program::new().with(SETTING, OLD));
    fund(&dev.program);
    let id = pay(&dev.program, "one")["id"].as_str().unwrap().to_owned();
    let (program, _) = dev.stop("TERM");
    let status = program.json(&["encryption", "status"]);
    assert_eq!(status["wraps"], "old");
    let keys = status["data_keys"].as_array().unwrap().clone();
    assert!(!keys.is_empty() && keys.iter().all(|key| key["wrapped_by"] == "old"), "{status}");

    // Taken out too early: told, and nothing is lost.
    let program = program.with(SETTING, NEW);
    let status = program.run(&["encryption", "status"]);
    assert_eq!(status.code, Some(3), "{status:?}");
    assert!(status.stdout.contains("wrapped by 'old', which is not among"), "{status:?}");
    let failed = program.run(&["encryption", "rewrap"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("configure it again"), "{failed:?}");

    let program = program.with(SETTING, &format!("{NEW},{OLD}"));
    let rotated = program.json(&["encryption", "rotate", "--older-than", "0s"]);
    assert!(rotated[0]["data_key"].is_number(), "{rotated}");
    let again = program.json(&["encryption", "rotate"]);
    assert!(again[0]["data_key"].is_null() && again[1]["data_key"].is_null(), "{again}");
    program.succeed(&["encryption", "rewrap", "--reason", "the old one is taken out"]);
    let program = program.with(SETTING, NEW);
    let status = program.json(&["encryption", "status"]);
    let keys = status["data_keys"].as_array().unwrap();
    assert!(
        keys.iter().all(|key| key["wrapped_by"] == "new" && key["fault"].is_null()),
        "{status}"
    );
    assert_reads(&program, &id);
    let acts = program.json(&["audit", "list", "--action", "encryption.rewrap"]);
    assert_eq!(acts["data"][0]["reason"], "the old one is taken out", "{acts}");
    program.succeed(&["audit", "verify"]);
}

#[test]
fn a_bad_key_is_told_without_being_shown() {
    for (value, words) in [
        ("k:c2VjcmV0", "the key k has 6 bytes and must have 32"),
        ("c2VjcmV0", "is not name:base64"),
        (&format!("{OLD},{OLD}"), "two keys have the name old"),
    ] {
        let output = Program::new().with(SETTING, value).run(&["config", "--check"]);
        assert_eq!(output.code, Some(64), "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
        assert!(!format!("{output:?}").contains("c2VjcmV0"), "{output:?}");
    }
    let shown = Program::new().with(SETTING, OLD).succeed(&["config"]);
    assert!(!shown.stdout.contains("AAAA"), "{shown:?}");
}
