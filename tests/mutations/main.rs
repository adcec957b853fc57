//! Whether the simulation finds bugs: careless versions of lines of the product, planted into a copy
//! of it, one at a time. Each must be caught by the histories or the scenario that the table names.
//!
//! All are built into one copy, behind a switch, so that it is compiled once. A line of the product
//! that changes takes its planted version with it: the table names lines by their text.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use table::{Caught, Change, MUTATIONS, Mutation};

/// Histories in which nothing may be found as long as nothing is planted.
const SOUND: u64 = 50;

/// The switch, in the copy.
const SWITCH: &str = r#"
#[doc(hidden)]
pub mod planted {
    /// Whether a bug is to be there.
    pub fn is(name: &str) -> bool {
        static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        NAME.get_or_init(|| std::env::var("PLANTED").ok()).as_deref() == Some(name)
    }
}
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Mutation {
    /// The file with the careless version beside the original.
    fn plant(&self, text: &str) -> Result<String, String> {
        let found = text.matches(self.original).count();
        if found != 1 {
            return Err(format!(
                "{}: {} stands in {} {found} times",
                self.name, self.original, self.file
            ));
        }
        let (on, original) = (format!("crate::planted::is(\"{}\")", self.name), self.original);
        let planted = match self.change {
            Change::Expression(other) => format!("(if {on} {{ {other} }} else {{ {original} }})"),
            Change::Statements(other) => format!("if {on} {{ {other} }} else {{ {original} }}"),
            Change::Text(other) => other.replace("planted!()", &on),
        };
        Ok(text.replacen(self.original, &planted, 1))
    }
}

/// Copies the product and its simulation, without its programs.
fn copy() -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    for folder in ["src", "migrations", "schemas", "tests/simulation"] {
        let _ = fs::remove_dir_all(copy.join(folder));
        copy_folder(&root().join(folder), &copy.join(folder));
    }
    fs::remove_file(copy.join("src/main.rs")).expect("the program's file");
    let manifest = read("Cargo.toml");
    let (before, bin) = manifest.split_once("[[bin]]").expect("the manifest has a program");
    let (_, after) = bin.split_once("\n\n").expect("something follows it");
    // Optimised a little, as opposed to its dependencies, which are there already as they are.
    let manifest = format!("{before}{after}\n[workspace]\n")
        .replacen("[profile.dev]\n", "[profile.dev]\nopt-level = 1\n", 1)
        .replacen(
            "[profile.dev.package.\"*\"]\n",
            "[profile.dev.package.\"*\"]\nopt-level = 0\n",
            1,
        )
        .replacen("name = \"holdfast\"", "name = \"holdfast-mutants\"", 1)
        .replace("default-run = \"holdfast\"\n", "");
    write(&copy.join("Cargo.toml"), &manifest);
    let lock = read("Cargo.lock").replace("name = \"holdfast\"\n", "name = \"holdfast-mutants\"\n");
    write(&copy.join("Cargo.lock"), &lock);
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder under target");
    for entry in fs::read_dir(from).expect("a folder of the project") {
        let path = entry.expect("a file of the project").path();
        let copied = to.join(path.file_name().expect("a file has a name"));
        if path.is_dir() {
            copy_folder(&path, &copied);
        } else {
            fs::copy(&path, &copied).expect("a file under target");
        }
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Plants every bug behind its switch.
fn plant(copy: &Path) {
    let mut faults = Vec::new();
    for mutation in MUTATIONS {
        let path = copy.join(mutation.file);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", mutation.file));
        match mutation.plant(&text) {
            Ok(planted) => write(&path, &planted),
            Err(fault) => faults.push(fault),
        }
    }
    assert!(faults.is_empty(), "lines that the table names have changed:\n{}", faults.join("\n"));
    let library = copy.join("src/lib.rs");
    let text = fs::read_to_string(&library).expect("the library");
    write(&library, &format!("{text}{SWITCH}"));
}

/// Compiles the copy beside the original, so that its dependencies are there already.
fn build(copy: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--locked", "--offline", "--no-run", "--test", "simulation"]);
    command.args(["--message-format", "json", "--target-dir"]).arg(target).current_dir(copy);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stderr));
    let executable = said.lines().rev().find_map(|line| {
        let (_, path) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(path.split('"').next()?))
    });
    executable.expect("cargo names the program that it built")
}

/// Runs tests of the simulation with a bug, or without.
fn run(simulation: &Path, planted: Option<&Mutation>, tests: &str, histories: u64) -> Output {
    let mut command = Command::new(simulation);
    command.args([tests, "--nocapture"]).current_dir(root());
    command.env("HOLDFAST_SIMULATION_HISTORIES", histories.to_string());
    command.env("RUST_BACKTRACE", "0");
    if let Some(mutation) = planted {
        command.env("PLANTED", mutation.name);
    }
    command.output().expect("the simulation runs")
}

/// How it was caught; none where it was not.
fn caught(simulation: &Path, mutation: &Mutation) -> Option<String> {
    let (tests, histories) = match mutation.caught {
        Caught::Histories(most) => ("no_history_breaks_an_invariant", most),
        Caught::Scenario(name) => (name, 1),
    };
    let output = run(simulation, Some(mutation), tests, histories);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("running 0 tests"), "no scenario is called {tests}");
    if output.status.success() {
        return None;
    }
    let after =
        said.lines().find_map(|line| line.strip_suffix(" of this run is the first that failed"));
    Some(after.map_or_else(|| format!("scenario {tests}"), str::to_owned))
}

#[test]
fn the_simulation_finds_every_planted_bug() {
    let copy = copy();
    plant(&copy);
    let simulation = build(&copy);
    let sound = run(&simulation, None, "", SOUND);
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
    let mut missed = Vec::new();
    for mutation in MUTATIONS {
        match caught(&simulation, mutation) {
            Some(by) => println!("{} (hazard {}): {by}", mutation.name, mutation.hazard),
            None => missed.push(mutation.name),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
