//! The daemon: start-up, the engine that owns the queue, the link to the runners, the API's verbs.

pub mod args;

use std::process::ExitCode;

/// The program `clauded`.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
