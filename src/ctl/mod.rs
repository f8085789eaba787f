//! The command line, a client of the API: one file per family of verbs.

use std::process::ExitCode;

/// The program `claudectl`.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
