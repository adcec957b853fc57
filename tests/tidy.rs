//! The rules of the layout, held mechanically, so that nobody has to remember them.
//!
//! `docs/ARCHITECTURE.md` says what they are for. A rule that is in the way is argued about there,
//! not worked around here.

#[path = "tidy/alerts.rs"]
mod alerts;
#[path = "tidy/deployment.rs"]
mod deployment;
#[path = "tidy/hazards.rs"]
mod hazards;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/schemas.rs"]
mod schemas;
#[path = "tidy/source.rs"]
mod source;

use holdfast::meters::{Kind, table};
use paths::Uses;
use source::{Source, files, name, root, sources};
use std::collections::BTreeSet;
use std::fs;

const ROLES: [&str; 7] =
    ["ingress", "relay", "hold", "credit", "commit", "projector", "reconciler"];
const LONGEST_FILE: usize = 500;

/// Where SQL is: the store, and a benchmark's yardstick that is not the product's.
const SQL: [&str; 2] = ["src/store/", "src/bench/mysql/"];

/// What a decision may use beyond `domain`: plain data and pure functions, each with its reason.
const BEYOND_DOMAIN: [(&str, &str, &str); 2] = [
    (
        "src/ingress/decide.rs",
        "super",
        "the request and the version of its fingerprint: plain data of its own role",
    ),
    (
        "src/ingress/decide.rs",
        "crate::routing",
        "an id carries its source's slot: a pure function, pinned by golden tests",
    ),
];

/// Fails with every fault at once.
fn none_of(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn faults(of: impl Fn(&Source) -> Vec<String>) {
    none_of(&sources().iter().flat_map(of).collect::<Vec<_>>());
}

/// Where shipped code that is not under one of `allowed` names a crate.
fn named_outside(source: &Source, krate: &str, allowed: &[&str]) -> Vec<String> {
    if allowed.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    source
        .shipped()
        .filter(|(_, line)| paths::names_crate(line, krate))
        .map(|(at, _)| format!("{}: only {} may name {krate}", source.at(at), allowed.join(", ")))
        .collect()
}

#[test]
fn domain_imports_nothing_of_ours() {
    faults(|source| {
        if !source.path.starts_with("src/domain/") {
            return Vec::new();
        }
        let uses = Uses::of(source);
        let ours = |path: &&(usize, String)| {
            path.1.starts_with("crate::") && !path.1.starts_with("crate::domain")
                || path.1.starts_with("super::super")
        };
        let fault =
            |(at, path): &(usize, String)| format!("{}: domain uses {path}", source.at(*at));
        uses.shipped.iter().filter(ours).map(fault).collect()
    });
}

#[test]
fn decisions_import_only_the_domain() {
    faults(|source| {
        if !source.path.ends_with("/decide.rs") {
            return Vec::new();
        }
        let allowed = |path: &str| {
            let reasoned = BEYOND_DOMAIN.iter().any(|(file, prefix, _)| {
                *file == source.path && path.starts_with(&format!("{prefix}::"))
            });
            path.starts_with("std::") || path.starts_with("crate::domain::") || reasoned
        };
        Uses::of(source)
            .shipped
            .iter()
            .filter(|(_, path)| !allowed(path))
            .map(|(at, path)| format!("{}: a decision uses {path}", source.at(*at)))
            .collect()
    });
}

#[test]
fn roles_never_import_each_other() {
    faults(|source| {
        let folder = source.path.strip_prefix("src/").and_then(|path| path.split('/').next());
        let Some(role) = ROLES.into_iter().find(|role| Some(*role) == folder) else {
            return Vec::new();
        };
        let other = |path: &str| {
            let first = path.strip_prefix("crate::").and_then(|path| path.split("::").next());
            // What stays on a shard goes on from its hold to the decisions of the two other steps.
            if source.path.starts_with("src/hold/onward")
                && matches!(first, Some("credit" | "commit"))
            {
                return false;
            }
            ROLES.into_iter().any(|other| other != role && Some(other) == first)
        };
        Uses::of(source)
            .all
            .iter()
            .filter(|(_, path)| other(path))
            .map(|(at, path)| format!("{}: {role} uses {path}", source.at(*at)))
            .collect()
    });
}

#[test]
fn only_the_store_and_a_yardstick_have_sql() {
    faults(|source| {
        if SQL.iter().any(|folder| source.path.starts_with(folder)) {
            return Vec::new();
        }
        let statement = |text: &str| {
            ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|word| text.contains(word))
        };
        let sql = source.shipped_literals().filter(|(_, text)| statement(text));
        sql.map(|(at, _)| format!("{}: SQL outside of {SQL:?}", source.at(*at)))
            .chain(named_outside(source, "sqlx", &SQL))
            .collect()
    });
}

#[test]
fn each_client_library_is_named_in_one_place() {
    faults(|source| {
        [
            named_outside(source, "rdkafka", &["src/broker/kafka"]),
            named_outside(source, "axum", &["src/ingress/http", "src/runtime"]),
            named_outside(source, "utoipa", &["src/ingress/http"]),
            named_outside(source, "redis", &["src/cache", "src/config"]),
            // Everything that is counted is in the one table.
            named_outside(source, "metrics", &["src/meters"]),
        ]
        .concat()
    });
}

#[test]
fn what_is_shipped_does_not_unwrap() {
    faults(|source| {
        let unwraps = source.shipped().filter(|(_, line)| line.contains(".unwrap()"));
        unwraps
            .map(|(at, _)| format!("{}: use expect, with the reason it cannot fail", source.at(at)))
            .collect()
    });
}

#[test]
fn nothing_is_left_to_be_done_and_no_test_is_left_out() {
    faults(|source| {
        let unfinished = |line: &str| {
            ["todo!", "unimplemented!", "#[ignore", "dbg!"].iter().any(|word| line.contains(word))
        };
        let lines = source.code.iter().enumerate().filter(|(_, line)| unfinished(line));
        lines.map(|(at, line)| format!("{}: {}", source.at(at), line.trim())).collect()
    });
}

/// What a seed did can be repeated: no choice is left to the runtime, and what is random is drawn in
/// one place. HTTP is not simulated, and a cluster is named once.
#[test]
fn nothing_but_a_seed_decides_what_happens() {
    faults(|source| {
        let lines: Vec<(usize, &str)> = source.shipped().collect();
        let unbiased = lines
            .windows(2)
            .filter(|pair| pair[0].1.contains("select! {") && pair[1].1.trim() != "biased;");
        let unbiased =
            unbiased.map(|pair| format!("{}: begin with `biased;`", source.at(pair[0].0)));
        let drawn = named_outside(
            source,
            "rand",
            &[
                "src/random.rs",
                // A key must never follow from a seed.
                "src/access/key.rs",
                "src/ingress/http",
                "src/store/sql/migrate.rs",
                "src/bench",
                "src/cli",
            ],
        );
        unbiased.chain(drawn).collect()
    });
}

/// A test waits for a condition, and says for how long at most: a sleep stands only in a function
/// that has a deadline.
#[test]
fn tests_wait_for_conditions_and_not_for_time() {
    faults(|source| {
        let mut bounded = false;
        let mut faults = Vec::new();
        for (at, line) in source.code.iter().enumerate() {
            if paths::words(line).any(|word| word == "fn") {
                bounded = false;
            }
            bounded |= line.to_lowercase().contains("deadline");
            if source.test[at] && line.contains("sleep(") && !bounded {
                faults.push(format!("{}: a sleep without a deadline", source.at(at)));
            }
        }
        faults
    });
}

#[test]
fn files_have_one_subject_and_say_it_first() {
    faults(|source| {
        let mut faults = Vec::new();
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            faults.push(format!("{}: {lines} lines, over {LONGEST_FILE}", source.path));
        }
        if !source.text.starts_with("//!") {
            faults.push(format!("{}: does not begin with a doc comment", source.path));
        }
        faults
    });
}

/// What callers wrote, and whose account it is, has no place in the log.
#[test]
fn the_log_names_no_account_and_nothing_that_callers_wrote() {
    const KEPT_OUT: [&str; 9] = [
        "account",
        "source",
        "destination",
        "counterparty",
        "key",
        "description",
        "reference",
        "metadata",
        "idempotency_key",
    ];
    faults(|source| {
        let mut faults = Vec::new();
        let mut statement: Option<(usize, String)> = None;
        for (at, line) in source.shipped() {
            let begins = ["info!(", "warn!(", "error!("]
                .iter()
                .any(|word| line.contains(&format!("tracing::{word}")));
            if begins {
                statement = Some((at, String::new()));
            }
            let Some((begun, text)) = &mut statement else { continue };
            text.push_str(line);
            if text.matches('(').count() > text.matches(')').count() {
                continue;
            }
            let (begun, text) = (*begun, std::mem::take(text));
            statement = None;
            let named = paths::words(&text).find(|word| KEPT_OUT.contains(word));
            if let Some(word) = named
                && !text.contains("masked")
            {
                faults.push(format!("{}: the log is told of {word}", source.at(begun)));
            }
        }
        faults
    });
}

/// Forbidden for a package is forbidden for all its targets, tests and fuzz targets included.
#[test]
fn no_manifest_allows_unsafe_code() {
    let mut faults = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        let lints = text.split("[lints.rust]").nth(1).unwrap_or_default();
        let lints = lints.split("\n[").next().unwrap_or_default();
        if !lints.lines().any(|line| line == "unsafe_code = \"forbid\"") {
            faults.push(format!("{manifest}: does not forbid unsafe code"));
        }
    }
    none_of(&faults);
}

/// Hosts of registries and paths of one machine have no place in anything that is published.
#[test]
fn nothing_names_a_machine_or_a_registry() {
    let hosts = [
        concat!("deb.", "debian.org"),
        concat!("proxy.", "golang.org"),
        concat!("repo1.", "maven"),
        concat!("repo.", "maven"),
        concat!("registry.", "npmjs"),
        concat!("files.", "pythonhosted"),
        concat!("static.", "crates.io"),
        concat!("index.", "crates.io"),
    ];
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/tmp/", "wt"),
    ];
    let mut faults = Vec::new();
    for path in files(root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if path.ends_with("Cargo.lock") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            if hosts.iter().chain(&places).any(|word| line.contains(word)) {
                faults.push(format!("{}:{}: {}", name(&path), at + 1, line.trim()));
            }
        }
    }
    none_of(&faults);
}

/// Files that the documents name are there.
#[test]
fn documents_name_files_that_exist() {
    let mut faults = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for named in paths::files_named(&text) {
            if !root().join(&named).exists() {
                faults.push(format!("{}: {named} does not exist", name(&path)));
            }
        }
    }
    none_of(&faults);
}

/// Functions that the documents name, as `name()`, are there.
#[test]
fn documents_name_functions_that_exist() {
    let code: Vec<String> = sources().iter().map(|source| source.code.join("\n")).collect();
    let mut faults = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for function in paths::functions_named(&text) {
            let declared = [format!("fn {function}("), format!("fn {function}<")];
            if !code.iter().any(|code| declared.iter().any(|declared| code.contains(declared))) {
                faults.push(format!("{}: there is no function {function}", name(&path)));
            }
        }
    }
    none_of(&faults);
}

fn documents() -> Vec<std::path::PathBuf> {
    let mut paths = files(root());
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths
}

/// What `docs/HAZARDS.md` says of who holds which history is what the tests say themselves.
#[test]
fn every_hazard_is_listed_with_the_tests_that_hold_it() {
    let text = fs::read_to_string(root().join("docs/HAZARDS.md")).unwrap();
    let (listed, held) = (hazards::listed(&text), hazards::held(&sources()));
    let row = |(number, tests): (&u32, &BTreeSet<String>)| {
        let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        format!("docs/HAZARDS.md: {number} is held by {}", tests.join(", "))
    };
    let differs = |(number, _): &(&u32, _)| listed.get(number) != held.get(number);
    let mut faults: Vec<String> = held.iter().filter(differs).map(row).collect();
    let stale = |(number, tests): &(&u32, &BTreeSet<String>)| {
        !tests.is_empty() && !held.contains_key(number)
    };
    let none = |(number, _)| format!("docs/HAZARDS.md: {number} is held by no test");
    faults.extend(listed.iter().filter(stale).map(none));
    none_of(&faults);
}

/// Histories that this release must survive.
#[test]
fn every_hazard_that_is_due_has_a_test() {
    let held = hazards::held(&sources());
    let missing = hazards::DUE.iter().filter(|number| !held.contains_key(number));
    let fault = |number| format!("no test says that it holds hazard {number}");
    none_of(&missing.map(fault).collect::<Vec<_>>());
}

/// What a name of a metric may be that is none: prefixes of databases and of names.
const NO_METRICS: [&str; 3] = ["holdfast_", "holdfast_alter", "holdfast_bench_"];

/// A name that somebody asks for is one that is shown, or that a rule records.
#[test]
fn every_metric_that_is_named_is_in_the_table() {
    let rules = fs::read_to_string(root().join("deploy/prometheus/holdfast.rules.yaml")).unwrap();
    let recorded = alerts::recorded(&rules);
    let known = |name: &str| {
        let shown = |metric: &holdfast::meters::Metric| {
            let suffix = name.strip_prefix(metric.name);
            let histogram = matches!(metric.kind, Kind::Histogram(_));
            suffix == Some("") || histogram && matches!(suffix, Some("_bucket" | "_sum" | "_count"))
        };
        NO_METRICS.contains(&name) || recorded.contains(name) || table::all().any(shown)
    };
    let mut faults = Vec::new();
    for path in files(root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if path.ends_with("tests/tidy/alerts.rs") || path.ends_with("tests/tidy.rs") {
            continue;
        }
        // What rules record is asked for there alone; elsewhere a colon means something else.
        let of_rules = ["deploy/prometheus/", "deploy/grafana/"];
        let rules = of_rules.iter().any(|folder| name(&path).starts_with(folder));
        for (at, line) in text.lines().enumerate() {
            let asked = |name: &&str| rules || !name.contains(':');
            let unknown = alerts::names(line).filter(asked).filter(|name| !known(name));
            faults.extend(unknown.map(|word| format!("{}:{}: {word}", name(&path), at + 1)));
        }
    }
    none_of(&faults);
}

/// Whoever is woken finds out what for and what to do; and it was tried that the alert wakes them,
/// and that it does not for what is everyday.
#[test]
fn every_alert_is_tried_and_leads_to_the_runbook() {
    let folder = root().join("deploy/prometheus");
    let rules = fs::read_to_string(folder.join("holdfast.rules.yaml")).unwrap();
    let runbook = fs::read_to_string(root().join("docs/RUNBOOK.md")).unwrap();
    let anchors = alerts::anchors(&runbook);
    let mut tried = std::collections::BTreeMap::new();
    for path in files(&folder.join("tests")) {
        for (alert, (fires, silent)) in alerts::expected(&fs::read_to_string(path).unwrap()) {
            let seen = tried.entry(alert).or_insert((false, false));
            *seen = (seen.0 || fires, seen.1 || silent);
        }
    }
    let all = alerts::alerts(&rules);
    assert!(all.len() >= 20, "the rules are not read as they are written");
    let mut faults = Vec::new();
    for alert in &all {
        let mut fault = |what: &str| faults.push(format!("{}: {what}", alert.name));
        let field = |name: &str| alert.fields.get(name).map_or("", String::as_str);
        if !["critical", "warning"].contains(&field("severity")) {
            fault("no severity");
        }
        if field("summary").is_empty() {
            fault("no summary");
        }
        // One of them is fed by nothing but a value.
        if !field("description").contains("{{") {
            fault("no description that says of what, or how much");
        }
        match field("runbook_url").strip_prefix("docs/RUNBOOK.md#") {
            Some(anchor) if anchors.contains(anchor) => {}
            _ => fault("no entry in docs/RUNBOOK.md"),
        }
        match tried.get(&alert.name) {
            Some((true, true)) => {}
            _ => fault("no test in which it fires, or none in which it is silent"),
        }
    }
    none_of(&faults);
}
