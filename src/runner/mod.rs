//! Supervises one instance: one task at a time, in its own sub-cgroup, reported through the link, spooled while nobody listens.

mod agent;
mod check;
mod confine;
mod descendants;
mod doorbell;
mod drain;
mod environment;
mod hooks;
mod largest;
mod leftovers;
mod link;
mod log;
mod process;
mod records;
mod sessions;
mod settings;
mod spool;
mod status;
mod supervisor;
mod task;
mod watch;
mod worktree;

use crate::platform::durable::FileError;
use crate::platform::journal;
use settings::{Settings, SettingsError};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What a restart cannot mend (sysexits.h(3head) `EX_CONFIG`; the unit has it in `RestartPreventExitStatus=`).
const EX_CONFIG: u8 = 78;

/// Another runner has the instance's state (`EX_TEMPFAIL`): a restart mends it once that one has ended.
const EX_TEMPFAIL: u8 = 75;

/// What ends the runner before its time.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error("no signal handler: {0}")]
    Signals(io::Error),
    #[error("another runner works on {path}; it has to end first (fuser {path}/lock names it)", path = .0.display())]
    Occupied(PathBuf),
    #[error("the runner's cgroup cannot be used: {0}")]
    Confinement(io::Error),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Leftover(#[from] leftovers::LeftoverError),
    #[error("the supervision of a task failed: {0}")]
    Task(String),
    #[error("no event loop: {0}")]
    Runtime(io::Error),
}

/// The program `clauded-runner [--user] NAME`. Exit status 0 after an orderly stop, 78 for what a restart cannot mend, 75 while another runner has the instance's state,
/// else 1.
pub fn run() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let settings = match Settings::load(&arguments, |key| std::env::var_os(key)) {
        Ok(settings) => settings,
        Err(error) => {
            let code = if matches!(error, SettingsError::File(_)) { 1 } else { EX_CONFIG };
            return give_up(&error.to_string(), code);
        }
    };
    start_logging();
    let span = tracing::info_span!("runner", instance = %settings.name);
    let _entered = span.enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fatal::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(supervisor::run(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => give_up(&error.to_string(), if matches!(error, Fatal::Occupied(_)) { EX_TEMPFAIL } else { 1 }),
    }
}

/// Says why, in one line, where people look: the journal and the unit's status.
fn give_up(why: &str, code: u8) -> ExitCode {
    let line: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    eprintln!("clauded-runner: {line}");
    status::Status::default().show(&line);
    ExitCode::from(code)
}

/// To the journal with true priorities under systemd, else to standard error.
fn start_logging() {
    let level = std::env::var("CLAUDED_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(tracing::level_filters::LevelFilter::INFO);
    let registry = tracing_subscriber::registry().with(level);
    // A second initialization can only come from a test in the same process.
    let _ = match journal::layer() {
        Some(journal) => registry.with(journal).try_init(),
        None => registry.with(tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(false)).try_init(),
    };
}
