//! CSV files for import: read as a stream, each line checked, every bad one counted and the first
//! ones kept with their numbers.

use anyhow::{Context as _, anyhow};
use csv::{Reader, StringRecord};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::path::{Path, PathBuf};

/// How many bad lines are named; all are counted.
const NAMED: usize = 100;

/// The columns of a kind of file.
#[derive(Clone, Copy)]
pub struct Columns {
    /// Those that must be there.
    pub required: &'static [&'static str],
    /// Those that may be.
    pub optional: &'static [&'static str],
}

/// One line: its fields by column.
pub struct Line<'a> {
    headings: &'a StringRecord,
    record: &'a StringRecord,
}

impl Line<'_> {
    /// A field that is there and not empty.
    pub fn get(&self, column: &str) -> Option<&str> {
        let place = self.headings.iter().position(|heading| heading == column)?;
        self.record.get(place).filter(|text| !text.is_empty())
    }

    /// A field that must be there.
    pub fn required(&self, column: &str) -> Result<&str, String> {
        self.get(column).ok_or_else(|| format!("{column} is empty"))
    }

    /// A field that must be there and read as `T`.
    pub fn parse<T: std::str::FromStr>(&self, column: &str) -> Result<T, String>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.required(column)?;
        text.parse().map_err(|error| format!("{column} is '{text}': {error}"))
    }
}

/// A file of a kind.
pub struct CsvFile {
    path: PathBuf,
    columns: Columns,
}

impl CsvFile {
    /// Names a file; it is read when asked for.
    pub fn new(path: &Path, columns: Columns) -> Self {
        Self { path: path.to_owned(), columns }
    }

    /// Its lines, from the first one after the headings.
    pub fn lines(&self) -> anyhow::Result<Lines> {
        let mut builder = csv::ReaderBuilder::new();
        builder.trim(csv::Trim::All);
        let opened = builder.from_path(&self.path);
        let mut reader = opened.with_context(|| format!("cannot open {}", self.path.display()))?;
        let headings = self.headings(&mut reader)?;
        Ok(Lines { reader, headings, record: StringRecord::new() })
    }

    fn headings(&self, reader: &mut Reader<File>) -> anyhow::Result<StringRecord> {
        let headings = reader.headers()?.clone();
        let Columns { required, optional } = self.columns;
        let missing = required.iter().any(|column| !headings.iter().any(|one| one == *column));
        let known = |one: &str| required.contains(&one) || optional.contains(&one);
        if !missing && headings.iter().all(known) {
            return Ok(headings);
        }
        let found = headings.iter().collect::<Vec<_>>().join(",");
        Err(anyhow!(
            "the first line of {} is '{found}'; it must name the columns {}, and may name {}",
            self.path.display(),
            required.join(","),
            optional.join(",")
        ))
    }

    /// Reads the whole file to see that every line is good, and returns how many there are. Bad
    /// lines are named on stderr.
    pub fn check<T>(&self, parse: fn(&Line) -> Result<T, String>) -> anyhow::Result<u64> {
        let (mut good, mut bad, mut lines) = (0, BadLines::default(), self.lines()?);
        while let Some((number, line)) = lines.next()? {
            match line.and_then(|line| parse(&line)) {
                Ok(_) => good += 1,
                Err(fault) => bad.add(number, &fault),
            }
        }
        match bad.report() {
            0 => Ok(good),
            count => Err(anyhow!(
                "{count} of {} lines of {} are bad and nothing was imported; correct them and import the file again",
                good + count,
                self.path.display()
            )),
        }
    }
}

/// The lines of a file, read one after the other.
pub struct Lines {
    reader: Reader<File>,
    headings: StringRecord,
    record: StringRecord,
}

impl Lines {
    /// The next line's number and its fields, or why it is no line of this file.
    fn next(&mut self) -> anyhow::Result<Option<(u64, Result<Line<'_>, String>)>> {
        let expected = self.reader.position().line();
        match self.reader.read_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let number = self.record.position().map_or(expected, csv::Position::line);
                let line = Line { headings: &self.headings, record: &self.record };
                Ok(Some((number, Ok(line))))
            }
            Err(error) if error.is_io_error() => Err(error.into()),
            Err(error) => {
                let number = error.position().map_or(expected, csv::Position::line);
                Ok(Some((number, Err(words(&error)))))
            }
        }
    }

    /// The next lines of a file that was checked, at most `most`, with their numbers; none at its
    /// end.
    pub fn batch<T>(
        &mut self,
        most: usize,
        parse: fn(&Line) -> Result<T, String>,
    ) -> anyhow::Result<Vec<(u64, T)>> {
        let mut batch = Vec::with_capacity(most);
        while batch.len() < most {
            let Some((number, line)) = self.next()? else { break };
            let changed =
                |fault| anyhow!("the file changed during the import: line {number}: {fault}");
            batch.push((number, line.and_then(|line| parse(&line)).map_err(changed)?));
        }
        Ok(batch)
    }
}

/// Lines that cannot be taken: the first ones by name, all of them by number.
#[derive(Default)]
pub struct BadLines {
    count: u64,
    named: Vec<String>,
}

impl BadLines {
    /// Notes one.
    pub fn add(&mut self, number: u64, fault: &str) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("line {number}: {fault}"));
        }
    }

    /// Prints them on stderr and returns how many there are.
    pub fn report(&self) -> u64 {
        for named in &self.named {
            eprintln!("{named}");
        }
        let more = self.count - self.named.len() as u64;
        if more > 0 {
            eprintln!("and {more} more lines");
        }
        self.count
    }
}

/// A bar on stderr; nothing where that is no terminal.
pub fn progress(lines: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} lines, {per_sec}");
    ProgressBar::new(lines).with_style(style.expect("the template is valid"))
}

fn words(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields, not {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}
