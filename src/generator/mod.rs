//! Configuration to systemd drop-ins (systemd.generator(7)): at boot and at each daemon-reload, in milliseconds, without
//! daemon or D-Bus. A broken configuration never turns into defaults: the last good one stays, or nothing starts.

mod compile;
mod kept;
mod output;
mod syntax;
#[cfg(test)]
mod tests;

use crate::config::{Config, Paths, Problems};
use output::Output;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the generator reads and writes.
#[derive(Debug)]
struct Places {
    /// The configuration.
    paths: Paths,
    /// Output that lies between `/etc` and `/usr` in precedence.
    normal: PathBuf,
    /// What was compiled last, kept for the day when the configuration is broken.
    kept: PathBuf,
    /// The kernel's log: when generators run, no other is there yet.
    kmsg: PathBuf,
}

/// Why drop-ins were not written.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {path}: {source}", path = .path.display())]
struct WriteError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    fn new(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { verb, path, source }
    }
}

/// The program `clauded-generator NORMAL EARLY LATE`.
///
/// For tests, `CLAUDED_CONFIG` names another main file, `CLAUDED_GENERATOR_STATE` another place for what is kept than
/// `/run/clauded-generator`, and `CLAUDED_KMSG` another log than `/dev/kmsg`. systemd sets none of them.
pub fn run() -> ExitCode {
    let from_environment = |name, default: &str| std::env::var_os(name).unwrap_or_else(|| default.into()).into();
    let Some(normal) = std::env::args_os().nth(1).filter(|normal| !normal.is_empty()) else {
        log(Path::new("/dev/null"), 3, "usage: clauded-generator NORMAL-DIRECTORY [EARLY-DIRECTORY LATE-DIRECTORY]");
        return ExitCode::FAILURE;
    };
    let mut paths = Paths::system();
    paths.config = from_environment("CLAUDED_CONFIG", "/etc/clauded/clauded.toml");
    let places = Places {
        paths,
        normal: normal.into(),
        kept: from_environment("CLAUDED_GENERATOR_STATE", "/run/clauded-generator"),
        kmsg: from_environment("CLAUDED_KMSG", "/dev/kmsg"),
    };
    match generate(&places) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&places.kmsg, 3, &error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes what the configuration says; where it is broken, what it said last; where that is not known, that nothing starts.
fn generate(places: &Places) -> Result<(), WriteError> {
    match Config::load(&places.paths) {
        Ok(config) => {
            let outputs = compile::compile(&config, &compile::template());
            output::write(&places.normal, &outputs)?;
            kept::keep(&places.kept, &outputs)
        }
        Err(problems) => output::write(&places.normal, &instead(places, &problems)),
    }
}

fn instead(places: &Places, problems: &Problems) -> Vec<Output> {
    for problem in problems.all() {
        log(&places.kmsg, 3, &problem.to_string());
    }
    match kept::last(&places.kept) {
        Ok(Some(outputs)) => {
            log(&places.kmsg, 4, "the configuration is broken: the last good one stays in force; run: claudectl config check");
            outputs
        }
        last => {
            if let Err(error) = last {
                log(&places.kmsg, 4, &error.to_string());
            }
            log(&places.kmsg, 3, "the configuration is broken: no agent will start; run: claudectl config check");
            vec![compile::refusal(problems)]
        }
    }
}

/// Logs one line with a priority of syslog(3). A log that cannot be written is no reason to stop.
fn log(kmsg: &Path, priority: u8, message: &str) {
    let _ = writeln!(io::stderr(), "clauded-generator: {message}");
    if let Ok(mut kmsg) = OpenOptions::new().append(true).open(kmsg) {
        // The kernel takes a record of at most 976 bytes in a single write (printk: PRINTK_MESSAGE_MAX less its prefix).
        let message: String = message.chars().take(230).collect();
        let _ = kmsg.write_all(format!("<{priority}>clauded-generator: {message}\n").as_bytes());
    }
}
