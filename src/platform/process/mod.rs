//! The process supervisor: runs the same runner without systemd, with the same restart policy. What it knows is on disk, so
//! that a new daemon takes over the runners of the one before.

mod actor;
mod groups;
mod machine;
mod notify;
mod record;
mod runner;
mod session;

use super::units::{Report, UnitError, UnitEvent, Units, outbox};
use crate::core::ids::InstanceName;
use crate::core::limits::Limits;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// How an instance is to be started; made anew from the configuration at each start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The runner's program and arguments; the instance's name is added as the last.
    pub program: Vec<String>,
    /// Its whole environment, but for what the supervisor adds: `INVOCATION_ID`, `NOTIFY_SOCKET`, `WATCHDOG_USEC`, and
    /// `CLAUDED_CGROUP` where it has a cgroup.
    pub environment: BTreeMap<String, String>,
    /// The instance's limits.
    pub limits: Limits,
    /// The groups around its own, outermost first, with the limits of each: a team's, a role's.
    pub around: Vec<(String, Limits)>,
}

/// When a runner is started again, and how long it may take: what the unit file says under systemd.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// `RestartSec=`
    pub restart_sec: Duration,
    /// `StartLimitBurst=`, `StartLimitIntervalSec=`: one start more within that time, and the instance is given up.
    pub start_limit: (usize, Duration),
    /// `TimeoutStartSec=`: for READY=1 to come.
    pub start_timeout: Duration,
    /// `TimeoutStopSec=`: from SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// `TimeoutAbortSec=`: from the watchdog's SIGABRT to SIGKILL.
    pub abort_timeout: Duration,
    /// `WatchdogSec=`: without WATCHDOG=1 for that long, the runner is ended and started again.
    pub watchdog: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart_sec: Duration::from_secs(10),
            start_limit: (5, Duration::from_secs(600)),
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(90),
            abort_timeout: Duration::from_secs(10),
            watchdog: Duration::from_secs(60),
        }
    }
}

/// The supervisor's settings.
pub struct Settings {
    /// Its own state: records of running runners, so that a new daemon adopts them, and their logs.
    pub state: PathBuf,
    /// Where its notify socket goes.
    pub runtime: PathBuf,
    /// How to start an instance now.
    pub launch: Box<dyn Fn(&InstanceName) -> Launch + Send + Sync>,
    /// The limits of all instances together now.
    pub fleet: Box<dyn Fn() -> Limits + Send + Sync>,
    /// When to start it again.
    pub policy: Policy,
}

/// Starts the adapter, which first adopts the runners of an earlier daemon.
pub fn spawn(settings: Settings, reports: mpsc::Sender<Report>) -> Units {
    let (units, mut commands) = Units::new("process");
    let reports = outbox(reports);
    tokio::spawn(async move {
        match actor::Supervisor::open(settings, reports.clone()) {
            Ok(supervisor) => supervisor.run(commands).await,
            Err(error) => {
                tracing::error!("the process supervisor cannot work: {error}");
                // Nobody may be listening.
                let _ = reports.send(Report::Event(UnitEvent::Disconnected(error.to_string())));
                while let Some(command) = commands.recv().await {
                    let (unit, method) = (command.unit(), command.method());
                    // Whoever asked may have gone.
                    let _ = command.reply().send(Err(UnitError::Refused { unit, method, message: error.to_string() }));
                }
            }
        }
    });
    units
}

/// Adds the verb and the path to an I/O error and keeps its kind.
fn named(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_that_of_the_unit() {
        let unit = include_str!("../../../units/claude-code@.service");
        let number = |key: &str| -> u64 {
            let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{key}= is no number of seconds in the unit"))
        };
        let seconds = |key| Duration::from_secs(number(key));
        let Policy { restart_sec, start_limit, start_timeout, stop_timeout, abort_timeout, watchdog } = Policy::default();
        assert_eq!(restart_sec, seconds("RestartSec"));
        assert_eq!(start_limit, (usize::try_from(number("StartLimitBurst")).expect("small"), seconds("StartLimitIntervalSec")));
        assert_eq!(start_timeout, seconds("TimeoutStartSec"));
        assert_eq!(stop_timeout, seconds("TimeoutStopSec"));
        assert_eq!(abort_timeout, seconds("TimeoutAbortSec"));
        assert_eq!(watchdog, seconds("WatchdogSec"));
    }
}
