//! What happened in a history: a hash of all of it, and on demand a text that a person can read.

use std::time::Duration;

/// The hash is always kept; the text only where a history is to be shown.
#[derive(Default)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub fn new(readable: bool) -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, lines: readable.then(Vec::new) }
    }

    /// Takes a happening into the hash.
    pub fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
    }

    pub fn mix_text(&mut self, text: &str) {
        for part in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// Writes a line down where the history is to be read.
    pub fn say(&mut self, at: Duration, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:9.3} s  {}", at.as_secs_f64(), line()));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}
