//! A Rust file taken apart as far as the rules need it: code, literals and comments, each with its
//! line, and which lines are tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are no part of the sources.
const LEFT_OUT: [&str; 6] = ["target", ".git", ".cache", "holdfast-data", "node_modules", "fuzz"];

/// A file of the project.
pub struct Source {
    /// From the root, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Its lines with comments and the insides of literals blanked out.
    pub code: Vec<String>,
    /// String literals and the lines on which they begin, from 0.
    pub literals: Vec<(usize, String)>,
    /// For each line, whether it is compiled for tests alone.
    pub test: Vec<bool>,
}

/// Where the project is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder of the project, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let left_out = |path: &PathBuf| {
        path.file_name().is_some_and(|name| LEFT_OUT.iter().any(|left_out| name == *left_out))
    };
    paths.retain(|path| !left_out(path));
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    paths.into_iter().flat_map(below).collect()
}

/// A file's path from the root, with slashes.
pub fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// All Rust files of `src` and `tests`.
pub fn sources() -> Vec<Source> {
    let paths: Vec<PathBuf> = ["src", "tests"]
        .iter()
        .flat_map(|folder| files(&root().join(folder)))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    let mut sources: Vec<Source> = paths.iter().map(|path| Source::read(path)).collect();
    let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let in_module = |module: &String| {
            source.path == format!("{module}.rs") || source.path.starts_with(&format!("{module}/"))
        };
        if source.path.starts_with("tests/") || test_modules.iter().any(in_module) {
            source.test.fill(true);
        }
    }
    sources
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (code, literals) = take_apart(&text);
        let code: Vec<String> = code.lines().map(str::to_owned).collect();
        let test = test_lines(&code);
        Self { path: name(path), text, code, literals, test }
    }

    /// Lines of code that are not for tests alone, with their numbers from 0.
    pub fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.test[*at])
            .map(|(at, line)| (at, &**line))
    }

    /// String literals outside of tests.
    pub fn shipped_literals(&self) -> impl Iterator<Item = &(usize, String)> {
        self.literals.iter().filter(|(at, _)| !self.test[*at])
    }

    /// `path:line`, for messages.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{}", self.path, line + 1)
    }

    /// Modules in files of their own that are declared for tests alone, as paths without `.rs`.
    fn test_modules(&self) -> Vec<String> {
        let folder = match self.path.strip_suffix("/mod.rs") {
            Some(folder) => folder.to_owned(),
            None if self.path == "src/lib.rs" || self.path == "src/main.rs" => "src".to_owned(),
            None => self.path.trim_end_matches(".rs").to_owned(),
        };
        let beside = self.path.rsplit_once('/').map_or("", |(beside, _)| beside);
        let mut modules = Vec::new();
        for (at, line) in self.code.iter().enumerate().filter(|(at, _)| self.test[*at]) {
            let declared = line.trim().trim_start_matches("pub ").strip_prefix("mod ");
            let Some(module) = declared.and_then(|rest| rest.strip_suffix(';')) else { continue };
            let given = self.literals.iter().find(|(line, _)| *line + 1 == at);
            let attribute = at > 0 && self.code[at - 1].trim().starts_with("#[path");
            modules.push(match given {
                Some((_, file)) if attribute => {
                    format!("{beside}/{}", file.trim_end_matches(".rs"))
                }
                _ => format!("{folder}/{module}"),
            });
        }
        modules
    }
}

/// Lines that belong to an item under `#[cfg(test)]`.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut test = vec![false; code.len()];
    let mut at = 0;
    while at < code.len() {
        if !code[at].trim().starts_with("#[cfg(test)]") {
            at += 1;
            continue;
        }
        let mut depth = 0_i32;
        let mut opened = false;
        while at < code.len() {
            test[at] = true;
            let line = &code[at];
            depth += line.matches('{').count() as i32 - line.matches('}').count() as i32;
            opened |= line.contains('{');
            at += 1;
            let ended = if opened { depth == 0 } else { line.trim_end().ends_with(';') };
            if ended {
                break;
            }
        }
    }
    test
}

/// The code with comments and the insides of literals blanked out, and the string literals.
fn take_apart(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut at = 0;
    let mut line = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if next(&chars, at) == Some('/') => line_comment(&chars, at),
            '/' if next(&chars, at) == Some('*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            'r' if !is_word(before(&chars, at)) => raw_string(&chars, at).unwrap_or(at + 1),
            '\'' => character(&chars, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if end == at + 1 {
            code.push(chars[at]);
            line += usize::from(chars[at] == '\n');
        } else {
            let taken: String = chars[at..end].iter().collect();
            if taken.ends_with(['"', '#']) {
                literals.push((line, taken.trim_matches(['r', '#', '"']).to_owned()));
            }
            line += taken.matches('\n').count();
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        at = end;
    }
    (code, literals)
}

fn next(chars: &[char], at: usize) -> Option<char> {
    chars.get(at + 1).copied()
}

fn before(chars: &[char], at: usize) -> Option<char> {
    at.checked_sub(1).map(|at| chars[at])
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

fn line_comment(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len())
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], next(chars, at)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |at: &usize| {
        chars[*at] == '"'
            && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (open + 1..chars.len()).find(closes).map(|at| at + 1 + hashes)
}

/// The end of a character literal; none for a lifetime.
fn character(chars: &[char], start: usize) -> Option<usize> {
    match next(chars, start)? {
        '\\' => (start + 3..chars.len()).find(|at| chars[*at] == '\'').map(|at| at + 1),
        _ => (chars.get(start + 2) == Some(&'\'')).then_some(start + 3),
    }
}
