//! The verbs: each asks systemd for a job and has its answer when that job is over.

use super::calls::{Systemd, is_away};
use super::properties::{Properties, observation, settings};
use crate::core::ids::InstanceName;
use crate::core::instance::ActiveState;
use crate::core::limits::Limits;
use crate::platform::cgroup::host_memory;
use crate::platform::units::{Answer, Command, Done, UnitError};
use backon::{ExponentialBuilder, Retryable};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use zbus::OwnedObjectPath;

/// What the verbs that wait are told.
#[derive(Clone, Debug)]
pub(super) enum JobEnd {
    /// systemd is done with a job (`JobRemoved`).
    Removed {
        /// The job's object path.
        path: String,
        /// `done`, `failed`, `timeout`, …
        result: String,
    },
    /// Jobs may have ended unheard.
    Unknown,
}

/// The verbs that wait for a job. Each listens from before its call, so that a job that ends before the call is answered
/// is heard too.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<Vec<mpsc::UnboundedSender<JobEnd>>>>);

impl Listeners {
    fn listen(&self) -> mpsc::UnboundedReceiver<JobEnd> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    pub(super) fn tell(&self, end: &JobEnd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|listener| listener.send(end.clone()).is_ok());
    }

    /// The connection is over: whoever waits is to learn it.
    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Why a verb failed, before it has the names of unit and method.
enum Failure {
    Bus(zbus::Error),
    Disconnected,
    Job { result: String, hint: String },
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        Self::Bus(error)
    }
}

/// Carries out one command; answers the instance that it touched, if it was about one, and what it came to.
pub(super) async fn perform(systemd: Systemd, supervisor: &'static str, listeners: Listeners, command: Command) -> (Option<InstanceName>, Answer) {
    let (unit, method) = (command.unit(), command.method());
    // A call that systemd missed while it executed itself anew is made again: what it asks for is a state, not a step.
    let delays = ExponentialBuilder::default().with_min_delay(Duration::from_millis(20)).with_max_delay(Duration::from_millis(500)).without_max_times();
    let outcome = (|| attempt(&systemd, &listeners, &command))
        .retry(delays.with_total_delay(Some(ABSENCE)))
        .when(|failure| matches!(failure, Failure::Bus(error) if is_away(error)))
        .await;
    let outcome = outcome.map_err(|failure| match failure {
        Failure::Disconnected => UnitError::Disconnected { unit, method, supervisor },
        Failure::Bus(error) if is_away(&error) || matches!(error, zbus::Error::InputOutput(_)) => UnitError::Disconnected { unit, method, supervisor },
        Failure::Bus(zbus::Error::MethodError(_, Some(message), _)) => UnitError::Refused { unit, method, message },
        Failure::Bus(error) => UnitError::Refused { unit, method, message: error.to_string() },
        Failure::Job { result, hint } => UnitError::Job { unit, method, result, hint },
    });
    (command.instance().cloned(), Answer { outcome, reply: command.reply() })
}

/// How long a verb waits for a systemd that has left the bus to execute itself anew.
const ABSENCE: Duration = Duration::from_secs(10);

async fn attempt(systemd: &Systemd, listeners: &Listeners, command: &Command) -> Result<Done, Failure> {
    match command {
        Command::Start(name, _) => start(systemd, listeners, name).await,
        Command::Stop(name, _) => stop(systemd, listeners, name).await,
        Command::Restart(name, _) => restart(systemd, listeners, name).await,
        Command::SetLimits(name, limits, _) => set_limits(systemd, name, limits).await,
        Command::Target { team, up, .. } => target(systemd, listeners, &team.target(), *up).await,
        Command::Reload(_) => systemd.call(systemd.manager.reload()).await.map(|()| Done::Changed).map_err(Failure::Bus),
    }
}

async fn start(systemd: &Systemd, listeners: &Listeners, name: &InstanceName) -> Result<Done, Failure> {
    let before = systemd.unit(&name.unit()).await?.unwrap_or_default();
    if matches!(before.active(), ActiveState::Active | ActiveState::Reloading) && !before.has_job() {
        return Ok(Done::Unchanged);
    }
    forgive(systemd, name, &before).await?;
    let ends = listeners.listen();
    let job = systemd.call(systemd.manager.start_unit(name.unit(), "replace".to_owned())).await?;
    finish(systemd, name, job, ends).await
}

async fn stop(systemd: &Systemd, listeners: &Listeners, name: &InstanceName) -> Result<Done, Failure> {
    match systemd.unit(&name.unit()).await? {
        None => return Ok(Done::Unchanged),
        Some(unit) if matches!(unit.active(), ActiveState::Inactive | ActiveState::Failed) && !unit.has_job() => return Ok(Done::Unchanged),
        Some(_) => {}
    }
    let ends = listeners.listen();
    let job = systemd.call(systemd.manager.stop_unit(name.unit(), "replace".to_owned())).await?;
    finish(systemd, name, job, ends).await
}

async fn restart(systemd: &Systemd, listeners: &Listeners, name: &InstanceName) -> Result<Done, Failure> {
    let before = systemd.unit(&name.unit()).await?.unwrap_or_default();
    forgive(systemd, name, &before).await?;
    let ends = listeners.listen();
    let job = systemd.call(systemd.manager.restart_unit(name.unit(), "replace".to_owned())).await?;
    finish(systemd, name, job, ends).await
}

/// A team's target. Its members have been asked before, and those that could not start are not to be asked again.
async fn target(systemd: &Systemd, listeners: &Listeners, unit: &str, up: bool) -> Result<Done, Failure> {
    let before = systemd.loaded(unit).await?;
    if (before.active() == ActiveState::Active) == up && !before.has_job() {
        return Ok(Done::Unchanged);
    }
    let mut ends = listeners.listen();
    let job = match up {
        true => systemd.call(systemd.manager.start_unit(unit.to_owned(), "ignore-dependencies".to_owned())).await?,
        false => systemd.call(systemd.manager.stop_unit(unit.to_owned(), "replace".to_owned())).await?,
    };
    loop {
        match ends.recv().await.ok_or(Failure::Disconnected)? {
            JobEnd::Removed { path, result } if path == job.as_str() => {
                return if result == "done" { Ok(Done::Changed) } else { Err(Failure::Job { result, hint: format!("; see systemctl status {unit}") }) };
            }
            JobEnd::Removed { .. } => {}
            JobEnd::Unknown if systemd.loaded(unit).await?.has_job() => {}
            JobEnd::Unknown => return Ok(Done::Changed),
        }
    }
}

/// A unit that was given up for restarting too often would refuse; who asks by hand wants it started.
async fn forgive(systemd: &Systemd, name: &InstanceName, unit: &Properties) -> Result<(), Failure> {
    if unit.active() == ActiveState::Failed {
        systemd.call(systemd.manager.reset_failed_unit(name.unit())).await?;
    }
    Ok(())
}

/// Waits for the end of a job.
async fn finish(systemd: &Systemd, name: &InstanceName, job: OwnedObjectPath, mut ends: mpsc::UnboundedReceiver<JobEnd>) -> Result<Done, Failure> {
    let result = loop {
        match ends.recv().await.ok_or(Failure::Disconnected)? {
            JobEnd::Removed { path, result } if path == job.as_str() => break result,
            JobEnd::Removed { .. } => {}
            JobEnd::Unknown => {
                let unit = systemd.unit(&name.unit()).await?.unwrap_or_default();
                if !unit.has_job() {
                    // It ended while nobody listened: the unit itself says how.
                    break if unit.active() == ActiveState::Failed { "failed" } else { "done" }.to_owned();
                }
            }
        }
    };
    if result == "done" {
        return Ok(Done::Changed);
    }
    let unit = systemd.unit(&name.unit()).await?.unwrap_or_default();
    let cause = observation(name.clone(), &unit, &Properties::default()).cause();
    let said = if cause.result == "success" || cause.result.is_empty() { String::new() } else { format!(": {}", cause.detail) };
    Err(Failure::Job { result, hint: format!("{said}; see journalctl -u {}", name.unit()) })
}

async fn set_limits(systemd: &Systemd, name: &InstanceName, limits: &Limits) -> Result<Done, Failure> {
    let settings = settings(limits, host_memory());
    let slice = systemd.loaded(&name.slice()).await?;
    let new: Vec<_> = settings.iter().copied().filter(|(property, value)| slice.number(property) != Some(*value)).collect();
    // An instance without configuration has its default limits on the service, inside the slice: they would still bind.
    let service = systemd.loaded(&name.unit()).await?;
    let is_weight = |property: &str| property.ends_with("Weight");
    let lifted: Vec<_> = settings
        .iter()
        .filter(|(property, _)| !is_weight(property) && service.number(property).is_some_and(|value| value != u64::MAX))
        .map(|(property, _)| (*property, u64::MAX))
        .collect();
    if new.is_empty() && lifted.is_empty() {
        return Ok(Done::Unchanged);
    }
    if !new.is_empty() {
        systemd.set(name.slice(), &new).await?;
    }
    if !lifted.is_empty() {
        systemd.set(name.unit(), &lifted).await?;
    }
    Ok(Done::Changed)
}
