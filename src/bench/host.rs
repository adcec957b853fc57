//! The machine and the command of a run, for its report: what a figure depends on, no names.

use serde::Serialize;
use std::fs;

/// What a run was made on, and how it was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// Version of Holdfast.
    pub holdfast: &'static str,
    /// Whether the generator was built with optimisation.
    pub optimised: bool,
    /// Processors that this process may use.
    pub cores: usize,
    /// Their model.
    pub cpu: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// The kernel.
    pub kernel: Option<String>,
    /// The command line; passwords in addresses are left out.
    pub command: String,
    /// When the run ended, RFC 3339.
    pub at: String,
}

impl Host {
    /// This machine and command.
    pub fn of_this() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let field = |text: String, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = read("/proc/meminfo").and_then(|text| field(text, "MemTotal"));
        let kibibytes = memory.and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok());
        let kernel = read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
        Self {
            holdfast: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: read("/proc/cpuinfo").and_then(|text| field(text, "model name")),
            memory_bytes: kibibytes.map(|kibibytes| kibibytes * 1024),
            kernel,
            command: command(std::env::args()),
            at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        }
    }
}

/// The command line, the program by its name alone.
fn command(mut args: impl Iterator<Item = String>) -> String {
    args.next();
    let shown = args.map(|arg| without_password(&arg));
    std::iter::once("holdfast".to_owned()).chain(shown).collect::<Vec<_>>().join(" ")
}

/// `mysql://user:password@host` as `mysql://user:***@host`.
fn without_password(arg: &str) -> String {
    let Some((before, rest)) = arg.split_once("://") else { return arg.to_owned() };
    let Some((credentials, after)) = rest.rsplit_once('@') else { return arg.to_owned() };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{before}://{user}:***@{after}"),
        None => arg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_without_passwords_and_without_where_the_program_is() {
        let args = ["/opt/bin/holdfast", "bench", "ceiling", "--mysql=mysql://me:s@cret@db:1/x"];
        let shown = command(args.into_iter().map(str::to_owned));
        assert_eq!(shown, "holdfast bench ceiling --mysql=mysql://me:***@db:1/x");
        assert_eq!(without_password("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(without_password("mysql://root@db:3306"), "mysql://root@db:3306");
    }
}
