//! Supervises one instance: one task at a time, in its own sub-cgroup, reported through the link, spooled while nobody listens.

use std::process::ExitCode;

/// The program `clauded-runner NAME`.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
