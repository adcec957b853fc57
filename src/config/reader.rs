//! Texts of the layers into values, faults gathered.

use super::fault::{Fault, Faults};
use super::layers::{Layers, Sources};
use super::parse::Parsed;
use super::settings::{SETTINGS, Setting};
use super::{Config, Effective};

/// Hands out values by key. A value that is not allowed is noted and its default handed out
/// instead, so that reading goes on to the other faults; [`Reader::finish`] then refuses it all.
pub(super) struct Reader {
    layers: Layers,
    read: Vec<&'static str>,
}

impl Reader {
    pub fn new(sources: &Sources) -> Self {
        Self { layers: Layers::read(sources), read: Vec::new() }
    }

    /// The value of a setting that has a default.
    pub fn get<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Parsed<T>) -> T {
        self.get_optional(key, &parse).unwrap_or_else(|| {
            let default = setting(key).default.expect("the caller asks for one with a default");
            parse(default).unwrap_or_else(|_| panic!("the default of {key} is allowed"))
        })
    }

    /// The value of a setting that may be unset.
    pub fn get_optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        let setting = setting(key);
        self.read.push(setting.key);
        let text = self.layers.values.get(key)?.text.clone();
        match parse(&text) {
            Ok(value) => Some(value),
            Err(words) => {
                let allowed = format!("must be {}", setting.allowed);
                self.refuse(key, &words.unwrap_or(allowed));
                None
            }
        }
    }

    /// Whether somebody set it, default aside.
    pub fn is_given(&self, key: &str) -> bool {
        self.layers.values.get(key).is_some_and(|value| value.origin != "default")
    }

    /// Notes a fault of a setting's value.
    pub fn refuse(&mut self, key: &'static str, problem: &str) {
        let setting = setting(key);
        let value = self.layers.values.get(key);
        self.layers.faults.push(Fault {
            name: value.map_or_else(|| setting.env(), |value| value.name.clone()),
            value: value.map(|value| value.shown(setting)),
            problem: problem.to_owned(),
        });
    }

    /// All settings as they stand.
    pub fn effective(&self) -> Vec<Effective> {
        let line = |setting: &'static Setting| match self.layers.values.get(setting.key) {
            Some(value) => Effective {
                setting,
                value: Some(value.shown(setting)),
                origin: value.origin.clone(),
            },
            None => Effective { setting, value: None, origin: String::new() },
        };
        SETTINGS.iter().map(line).collect()
    }

    /// The configuration, or everything that was wrong.
    pub fn finish(self, config: Config) -> Result<Config, Faults> {
        assert_eq!(self.read.len(), SETTINGS.len(), "every setting is read once");
        if self.layers.faults.is_empty() { Ok(config) } else { Err(Faults(self.layers.faults)) }
    }
}

fn setting(key: &str) -> &'static Setting {
    Setting::by_key(key).unwrap_or_else(|| panic!("{key} is in the table"))
}
