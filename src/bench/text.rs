//! Reports as text for a person.

use std::fmt::Write as _;

/// Lines, of which some are a name and a value.
#[derive(Debug, Default)]
pub struct Lines(String);

impl Lines {
    /// Adds a line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref().trim_end());
        self.0.push('\n');
    }

    /// Adds a name and its value.
    pub fn field(&mut self, name: &str, value: impl AsRef<str>) {
        let _ = writeln!(self.0, "{name:<12} {}", value.as_ref().trim_end());
    }

    /// Adds an empty line.
    pub fn empty(&mut self) {
        self.0.push('\n');
    }

    /// All of them.
    pub fn text(self) -> String {
        self.0
    }
}
