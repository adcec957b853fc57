//! Help and wrong usage.

use super::program::Program;

/// Every command, subcommands included, as words.
pub fn commands(program: &Program) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut ahead = vec![Vec::new()];
    while let Some(words) = ahead.pop() {
        let help = help(program, &words);
        for name in subcommands(&help) {
            let mut deeper = words.clone();
            deeper.push(name);
            ahead.push(deeper);
        }
        found.push(words);
    }
    found
}

fn help(program: &Program, words: &[String]) -> String {
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    args.push("--help");
    let output = program.run(&args);
    assert_eq!(output.code, Some(0), "{words:?}: {output:?}");
    output.stdout
}

fn subcommands(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let entries = list.lines().take_while(|line| !line.is_empty());
    let named = entries.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_an_example_of_itself() {
    let program = Program::new();
    let commands = commands(&program);
    assert!(commands.len() > 20, "{commands:?}");
    for words in commands {
        let help = help(&program, &words);
        let example = format!("  holdfast {}", words.join(" "));
        let shown = help.split_once("\nExamples:\n").map_or("", |(_, examples)| examples);
        assert!(shown.contains(example.trim_end()), "{words:?} has no example:\n{help}");
    }
}

#[test]
fn without_a_command_it_prints_help() {
    let output = Program::new().run(&[]);
    assert_eq!(output.code, Some(0));
    assert!(output.stdout.contains("Examples:") && output.stdout.contains("holdfast dev"));
}

#[test]
fn wrong_usage_exits_with_2() {
    let program = Program::new();
    let transfer = ["transfer", "create", "--source", "a", "--destination", "b", "--key", "k"];
    for (more, args) in [
        (&[][..], &["nonsense"][..]),
        (&[], &["serve", "--nonsense"]),
        (&[], &["account", "create", "a b", "--currency", "USD"]),
        (&[], &["account", "create", "a", "--currency", "XXX"]),
        (&[], &["account", "create", "a", "--currency", "JPY", "--overdraft-limit", "0.5"]),
        (&[], &["transfer", "show", "not-an-id"]),
        (&[], &["account", "list", "--cursor", "rubbish"]),
        (&transfer, &["--amount", "1.234", "--currency", "USD"]),
        (&transfer, &["--amount", "0", "--currency", "USD"]),
    ] {
        let args = [more, args].concat();
        let output = program.run(&args);
        assert_eq!(output.code, Some(2), "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
    }
}
