//! `claudectl config check`: local, so that a change can be checked before clauded sees it.

use super::args::Global;
use super::failure::{Failure, Outcome};
use super::output::{Screen, Tone};
use super::quantity::clean;
use crate::config::{Config, Paths};
use std::path::{Path, PathBuf};

/// Where the configuration is that the daemon would read.
pub(super) fn paths(global: &Global, file: Option<&Path>) -> Result<Paths, Failure> {
    let usual = if global.user { Paths::user() } else { Paths::system() };
    let file = file.map(std::path::absolute).transpose().map_err(|error| Failure::Read { path: PathBuf::from("."), error })?;
    Ok(Paths { config: file.unwrap_or_else(|| usual.config.clone()), ..usual })
}

/// `claudectl config check`
pub(super) fn check(screen: &Screen, global: &Global, file: Option<&Path>) -> Result<Outcome, Failure> {
    let paths = paths(global, file)?;
    // No file at all means all defaults to the daemon, but whoever names one expects it to be there.
    if let Some(file) = file {
        std::fs::metadata(file).map_err(|error| Failure::Read { path: file.to_owned(), error })?;
    }
    let problems: Vec<String> = match Config::load(&paths) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    };
    if screen.data() {
        screen.value(&serde_json::json!({ "file": paths.config, "problems": problems }))?;
    } else if problems.is_empty() {
        let there = if paths.config.exists() { "no problems" } else { "does not exist: defaults apply" };
        screen.print(&format!("{}: {there}\n", paths.config.display()))?;
    } else {
        let lines: String = problems.iter().map(|p| format!("{}\n", clean(p))).collect();
        let count = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
        screen.print(&format!("{lines}{}\n", screen.style().paint(Tone::Bad, &count)))?;
    }
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::Negative })
}
