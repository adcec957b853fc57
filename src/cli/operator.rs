//! Who acts and why, on every command that leaves a row in the audit log.

use super::exit::Failure;
use super::output::OutputArgs;
use super::target::TargetArgs;
use crate::store::Actor;
use clap::Args;
use std::os::unix::fs::MetadataExt;

/// `--operator` and `--reason`.
#[derive(Args, Clone, Debug)]
pub struct OperatorArgs {
    /// Who acts, for the audit log [default: the user of the operating system]
    #[arg(long, value_name = "NAME", value_parser = sentence::<128>)]
    operator: Option<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", value_parser = sentence::<1024>)]
    reason: Option<String>,
}

/// What every command takes that acts.
#[derive(Args, Debug)]
pub struct ActingArgs {
    /// Who acts.
    #[command(flatten)]
    pub operator: OperatorArgs,
    /// On what.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How it is told.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl OperatorArgs {
    /// Who acts. What one command does has one request id.
    pub fn actor(&self) -> Actor {
        Actor {
            operator: self.operator.clone().unwrap_or_else(user),
            reason: self.reason.clone(),
            request: Some(format!("cli-{:016x}", rand::random::<u64>())),
        }
    }

    /// The same for what must have a reason.
    pub fn actor_with_reason(&self) -> Result<Actor, Failure> {
        if self.reason.is_none() {
            let words = "--reason: say why; it is kept in the audit log";
            return Err(Failure::Usage(words.to_owned()));
        }
        Ok(self.actor())
    }
}

/// Some text, and not too much of it.
fn sentence<const MOST: usize>(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MOST {
        return Err(format!("must have 1 to {MOST} characters"));
    }
    Ok(text.to_owned())
}

/// The user's name by the system's table of users; its number where it is not in there.
fn user() -> String {
    let Ok(process) = std::fs::metadata("/proc/self") else {
        return std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    };
    let number = process.uid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id == number).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid-{number}"))
}
