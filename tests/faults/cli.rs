//! The program, as the suite runs it.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/cli/program.rs"]
pub mod program;
