//! Paths that a file uses, and files that a document names.

use crate::source::Source;

/// Every path that begins with `crate` or `super`, and every path that is imported; groups are
/// written out. With the line on which it stands, from 0.
pub struct Uses {
    /// In tests too.
    pub all: Vec<(usize, String)>,
    /// Outside of tests.
    pub shipped: Vec<(usize, String)>,
}

impl Uses {
    pub fn of(source: &Source) -> Self {
        let code = source.code.join("\n");
        let mut all = imports(&code);
        for (at, line) in source.code.iter().enumerate() {
            let found = path_starts(line).map(|start| (at, path_at(&line[start..])));
            all.extend(found.filter(|(_, path)| !path.ends_with("::")));
        }
        all.sort();
        all.dedup();
        let shipped = all.iter().filter(|(at, _)| !source.test[*at]).cloned().collect();
        Self { all, shipped }
    }
}

/// Words of a line: letters, digits and underscores.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

/// Whether a line has a path that begins with this crate.
pub fn names_crate(line: &str, krate: &str) -> bool {
    let path = format!("{krate}::");
    let begins = |(at, _): (usize, &str)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    };
    line.match_indices(&path).any(begins) || line.contains(&format!("use {krate};"))
}

fn path_starts(line: &str) -> impl Iterator<Item = usize> {
    let begins = ["crate::", "super::"].into_iter().flat_map(|word| line.match_indices(word));
    begins
        .map(|(at, _)| at)
        .filter(|at| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

fn path_at(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    text[..end.unwrap_or(text.len())].to_owned()
}

/// What `use` declarations import.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut imports = Vec::new();
    let mut line = 0;
    for statement in code.split_inclusive(';') {
        let trimmed = statement.trim_end_matches(';');
        let begins = trimmed
            .rfind("use ")
            .filter(|at| trimmed[..*at].ends_with(|c: char| c.is_whitespace()) || *at == 0);
        if let Some(begins) = begins {
            let at = line + trimmed[..begins].matches('\n').count();
            let tree: String = trimmed[begins + 4..].chars().filter(|c| *c != '\n').collect();
            let mut paths = Vec::new();
            write_out("", tree.trim(), &mut paths);
            imports.extend(paths.into_iter().map(|path| (at, path)));
        }
        line += statement.matches('\n').count();
    }
    imports
}

fn write_out(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        if !path.is_empty() {
            paths.push(format!("{prefix}{path}"));
        }
        return;
    };
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let mut depth = 0;
    let mut begin = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                write_out(&prefix, inner[begin..at].trim(), paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
    write_out(&prefix, inner[begin..].trim(), paths);
}

/// Files and folders in backticks that begin with one of the project's folders.
pub fn files_named(text: &str) -> Vec<String> {
    const FOLDERS: [&str; 10] = [
        "src/",
        "tests/",
        "docs/",
        "schemas/",
        "scripts/",
        "load/",
        "migrations/",
        "examples/",
        ".ci/",
        "deploy/",
    ];
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .map(|span| span.split([' ', ':']).next().unwrap_or(span))
        .filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder)))
        .filter(|span| !span.contains(['*', '{', '<']))
        .map(str::to_owned)
        .collect()
}

/// Functions in backticks, written with their parentheses: `name()`.
pub fn functions_named(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let name = |span: &str| span.strip_suffix("()").map(str::to_owned);
    spans.filter_map(name).filter(|name| words(name).count() == 1).collect()
}
