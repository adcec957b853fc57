//! The layers of a configuration: defaults, names of the older system, the file, the environment,
//! flags; a later one wins. Here values are texts, each with its origin.

use super::fault::Fault;
use super::mask::{MASK, masked};
use super::old_names;
use super::settings::{SETTINGS, Secrecy, Setting};
use super::vault::{self, Reference, Vault};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file that is read where no other is named, if it exists.
pub const DEFAULT_FILE: &str = "holdfast.toml";

/// `HOLDFAST_…` names that belong to the tests and their services, not to the configuration.
const NOT_OURS: [&str; 2] = ["HOLDFAST_TEST_", "HOLDFAST_CACHE"];

/// A flag of the command line that stands for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The setting's key.
    pub key: &'static str,
    /// The flag's value.
    pub value: String,
}

/// Where a configuration is read from; nothing else is looked at.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; none for `holdfast.toml`, which may be missing.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Flags that stand for settings.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The process's environment, with this file and these flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, env, flags }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layered {
    /// As it was given.
    pub text: String,
    /// For messages: the name under which it was given.
    pub name: String,
    /// For the listing: `default`, `environment`, …
    pub origin: String,
    /// Whether no part of it is to be shown.
    hidden: bool,
}

impl Layered {
    /// The value as it may be shown.
    pub fn shown(&self, setting: &Setting) -> String {
        if self.hidden { MASK.to_owned() } else { masked(setting.secrecy, &self.text) }
    }
}

/// The winning texts by key, and what was wrong on the way.
#[derive(Default)]
pub(super) struct Layers {
    pub values: BTreeMap<&'static str, Layered>,
    pub faults: Vec<Fault>,
}

impl Layers {
    /// Reads all sources.
    pub fn read(sources: &Sources) -> Self {
        let mut layers = Self::default();
        layers.defaults();
        layers.old_names(&sources.env);
        layers.file(sources.file.as_deref());
        layers.environment(&sources.env);
        layers.flags(&sources.flags);
        layers.vault(&sources.env);
        layers
    }

    fn set(&mut self, setting: &'static Setting, text: &str, name: String, origin: String) {
        let text = text.trim().to_owned();
        self.values.insert(setting.key, Layered { text, name, origin, hidden: false });
    }

    fn fault(&mut self, name: impl Into<String>, problem: impl Into<String>) {
        self.faults.push(Fault { name: name.into(), value: None, problem: problem.into() });
    }

    fn defaults(&mut self) {
        for setting in SETTINGS {
            if let Some(text) = setting.default {
                self.set(setting, text, setting.env(), "default".to_owned());
            }
        }
    }

    fn old_names(&mut self, env: &BTreeMap<String, String>) {
        for old in old_names::read(env) {
            match old {
                Ok(old) => {
                    let setting = Setting::by_key(old.key).expect("old names stand for settings");
                    let origin = format!("environment {}", old.names);
                    self.set(setting, &old.text, old.names.to_owned(), origin);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    fn file(&mut self, named: Option<&Path>) {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.fault(shown, format!("cannot be read: {error}")),
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return self.fault(shown, syntax_words(&text, &error)),
        };
        for (key, value) in table {
            self.file_entry(&shown, &key, &value);
        }
    }

    fn file_entry(&mut self, file: &str, key: &str, value: &toml::Value) {
        let name = format!("{key} in {file}");
        let Some(text) = toml_text(value) else {
            return self.fault(name, "must be a string, a whole number, or a list of them");
        };
        match target(key) {
            Some(Target::Value(setting)) => {
                self.set(setting, &text, name, format!("file {file}"));
            }
            Some(Target::File(setting)) => self.secret_file(setting, &text, &name),
            None => self.unknown(&name, key, |setting| setting.key.to_owned()),
        }
    }

    fn environment(&mut self, env: &BTreeMap<String, String>) {
        for (name, text) in env.iter().filter(|(_, text)| !text.is_empty()) {
            let Some(key) = name.strip_prefix("HOLDFAST_") else { continue };
            if NOT_OURS.iter().any(|other| name.starts_with(other)) {
                continue;
            }
            match target(&key.to_ascii_lowercase()) {
                Some(target) if target.env() == *name => self.env_entry(env, &target, name, text),
                _ => self.unknown(name, &key.to_ascii_lowercase(), Setting::env),
            }
        }
    }

    fn env_entry(&mut self, env: &BTreeMap<String, String>, to: &Target, name: &str, text: &str) {
        match *to {
            Target::Value(setting) => {
                self.set(setting, text, name.to_owned(), "environment".to_owned());
            }
            Target::File(setting) if env.get(&setting.env()).is_some_and(|own| !own.is_empty()) => {
                self.fault(name, format!("{} is set too; set one of the two", setting.env()));
            }
            Target::File(setting) => self.secret_file(setting, text, name),
        }
    }

    fn secret_file(&mut self, setting: &'static Setting, path: &str, name: &str) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.set(setting, &text, name.to_owned(), format!("file {path}")),
            Err(error) => self.faults.push(Fault {
                name: name.to_owned(),
                value: Some(path.to_owned()),
                problem: format!("must be a file that can be read: {error}"),
            }),
        }
    }

    fn flags(&mut self, flags: &[Flag]) {
        for flag in flags {
            let setting = Setting::by_key(flag.key).expect("flags stand for settings");
            let name = setting.flag.expect("the table names the flag").to_owned();
            self.set(setting, &flag.value, name.clone(), format!("flag {name}"));
        }
    }

    /// Puts what Vault holds in the place of what refers to it. Only winning values are asked for.
    fn vault(&mut self, env: &BTreeMap<String, String>) {
        let refers = |(key, value): &(&&str, &Layered)| {
            let setting = Setting::by_key(key).expect("keys are of the table");
            setting.secrecy != Secrecy::Open && value.text.starts_with(vault::PREFIX)
        };
        let keys: Vec<_> = self.values.iter().filter(refers).map(|(key, _)| *key).collect();
        let taken = keys.into_iter().filter_map(|key| self.values.remove_entry(key));
        let referring: Vec<_> = taken.collect();
        if referring.is_empty() {
            return;
        }
        let vault = match Vault::of(env) {
            Ok(vault) => vault,
            Err(faults) => return self.faults.extend(faults),
        };
        let place = |value: &Layered| Reference::of(&value.text[vault::PREFIX.len()..]);
        let paths = referring.iter().filter_map(|(_, value)| Some(place(value)?.path));
        let held = vault.read(paths.collect());
        for (key, value) in referring {
            let found = match place(&value) {
                None => {
                    Err("must be vault:PATH#FIELD, such as vault:secret/data/holdfast#redis_url"
                        .to_owned())
                }
                Some(at) => field(&held[&at.path], &at).map(|text| (text, at.path)),
            };
            match found {
                Ok((text, path)) => {
                    let (text, origin) = (text.trim().to_owned(), format!("vault {path}"));
                    self.values.insert(key, Layered { text, origin, hidden: true, ..value });
                }
                Err(problem) => {
                    self.faults.push(Fault { name: value.name, value: Some(value.text), problem });
                }
            }
        }
    }

    fn unknown(&mut self, name: &str, key: &str, as_given: fn(&Setting) -> String) {
        let problem = match nearest(key) {
            Some(setting) => format!("is not known; did you mean {}?", as_given(setting)),
            None => "is not known; `holdfast config` lists all names".to_owned(),
        };
        self.fault(name, problem);
    }
}

/// The text of a field of what Vault holds.
fn field(held: &Result<serde_json::Value, String>, at: &Reference) -> Result<String, String> {
    let secret = held.as_ref().map_err(Clone::clone)?;
    match secret.get(&at.field) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("the field {} of {} in Vault is not a text", at.field, at.path)),
        None => Err(format!("{} in Vault has no field {}", at.path, at.field)),
    }
}

/// What a name in a file or the environment stands for.
enum Target {
    Value(&'static Setting),
    /// The name of a file that holds the value.
    File(&'static Setting),
}

impl Target {
    fn env(&self) -> String {
        match self {
            Self::Value(setting) => setting.env(),
            Self::File(setting) => format!("{}_FILE", setting.env()),
        }
    }
}

fn target(key: &str) -> Option<Target> {
    if let Some(setting) = Setting::by_key(key) {
        return Some(Target::Value(setting));
    }
    let setting = Setting::by_key(key.strip_suffix("_file")?)?;
    (setting.secrecy != Secrecy::Open).then_some(Target::File(setting))
}

/// A file's value as the text that the environment would hold.
fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Array(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(toml_text).collect();
            Some(parts?.join(","))
        }
        toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Table(_) => None,
    }
}

/// The parser's words and the line, but not the line's text: it may hold a secret.
fn syntax_words(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    let first = error.message().lines().next().unwrap_or("");
    format!("line {line} cannot be read as TOML: {first}")
}

/// The setting whose key differs from `key` in the fewest letters, if those are few.
fn nearest(key: &str) -> Option<&'static Setting> {
    let (distance, setting) = SETTINGS
        .iter()
        .map(|setting| (distance(key, setting.key), setting))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + key.len() / 5).then_some(setting)
}

/// Levenshtein's distance, by bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
