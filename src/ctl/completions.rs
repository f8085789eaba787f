//! `claudectl completions SHELL`.

use super::args::Cli;
use super::failure::{Failure, Outcome};
use super::output::Screen;
use clap::CommandFactory;

/// Prints the script. It is made in memory first: the generator itself panics if standard output is closed.
pub(super) fn run(screen: &Screen, shell: clap_complete::Shell) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "claudectl", &mut script);
    screen.print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
