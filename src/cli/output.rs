//! What commands print on stdout: an aligned table for people, or JSON.

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// `--format`, on every command that prints data.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// One JSON document
    Json,
}

/// Rows under headings. Columns whose heading begins with `>` are aligned to the right.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one text a column.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.headings.len(), "one text a column");
        self.rows.push(cells);
    }

    /// The text, with a line break at the end of each line and no spaces before it.
    pub fn render(&self) -> String {
        let title = |heading: &&str| heading.trim_start_matches('>').to_uppercase();
        let titles: Vec<String> = self.headings.iter().map(title).collect();
        let width = |column: usize| {
            let lengths = self.rows.iter().map(|row| row[column].chars().count());
            lengths.chain([titles[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            text.push_str(self.line(row, &widths).trim_end());
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cell = |(column, text): (usize, &String)| {
            let width = widths[column];
            if self.headings[column].starts_with('>') {
                format!("{text:>width$}")
            } else {
                format!("{text:<width$}")
            }
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ")
    }
}

/// What the API would answer.
pub fn value(answer: impl Serialize) -> Value {
    serde_json::to_value(answer).expect("answers are objects of strings and numbers")
}

/// One object, a field a line, `first` ones first; what is null is left out.
pub fn fields(first: &[&str], object: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", object, &mut rows);
    let place = |name: &str| first.iter().position(|one| *one == name).unwrap_or(first.len());
    rows.sort_by_key(|(name, _)| place(name));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, text)| format!("{name:<width$}  {text}\n")).collect()
}

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, rows);
            }
        }
        Value::Null => {}
        other => rows.push((prefix.to_owned(), text(other))),
    }
}

/// Objects as a table of these fields, and how to get at the rest.
pub fn list(columns: &[&'static str], objects: &[Value], next_cursor: Option<&str>) -> String {
    let mut table = Table::new(columns);
    for object in objects {
        table.row(columns.iter().map(|column| text(&object[column.trim_start_matches('>')])));
    }
    let more = next_cursor.map(|cursor| format!("\nMore follow: --cursor {cursor}\n"));
    table.render() + &more.unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prints in the chosen format; only that one is made.
pub fn print(format: Format, table: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
    match format {
        Format::Table => write(&table()),
        Format::Json => write(&format!("{:#}\n", json())),
    }
}

/// Writes to stdout. A reader that has gone away (`holdfast … | head`) ends the process quietly.
pub fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    if error.kind() != ErrorKind::BrokenPipe {
        eprintln!("holdfast: cannot write to stdout: {error}");
    }
    std::process::exit(i32::from(error.kind() != ErrorKind::BrokenPipe));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", ">AMOUNT"]);
        table.row(["alice", "5.00"]);
        table.row(["b", "1000.00"]);
        assert_eq!(table.render(), "NAME    AMOUNT\nalice     5.00\nb      1000.00\n");
    }
}
