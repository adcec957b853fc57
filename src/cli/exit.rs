//! How a command ends: exit code, and one sentence on stderr where it did not go well.

use crate::config::Faults;
use std::process::ExitCode;

/// A command that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Fine,
    /// Exit code 3: a check found something.
    Found,
}

/// Why a command did not.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 1: something failed while running.
    Running(anyhow::Error),
    /// Exit code 2: the command was used in a wrong way.
    Usage(String),
    /// Exit code 64: the configuration is bad.
    Configuration(Faults),
}

/// What every command returns.
pub type Ended = Result<Outcome, Failure>;

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into().downcast::<Faults>() {
            Ok(faults) => Self::Configuration(faults),
            Err(error) => Self::Running(error),
        }
    }
}

/// Says on stderr what went wrong, and chooses the exit code.
pub fn report(ended: Ended) -> ExitCode {
    match ended {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(3),
        Err(Failure::Running(error)) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(words)) => {
            eprintln!("holdfast: {words}");
            ExitCode::from(2)
        }
        Err(Failure::Configuration(faults)) => {
            eprintln!(
                "holdfast: the configuration is bad; `holdfast config` lists what is allowed"
            );
            for fault in faults.0 {
                eprintln!("  {fault}");
            }
            ExitCode::from(64)
        }
    }
}
