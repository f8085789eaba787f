//! The API's verbs, carried out: checked here, decided by the engine, answered when durable. One file a resource.

mod audit;
mod checks;
mod feeds;
mod headway;
mod import;
mod instances;
mod locks;
mod messages;
mod plans;
pub(super) mod queue;
mod repositories;
mod schedules;
pub(super) mod spec;
mod tasks;
mod teams;
mod worktrees;

use super::engine::{self, Input, State};
use super::forecast::Forecasts;
use super::identity::Identity;
use super::log::Logs;
use crate::config::{Config, Paths, PersistError};
use crate::core::audit::Entry;
use crate::core::ids::{InstanceName, TaskId};
use crate::http::service::{Caller, ServiceError};
use crate::metrics::Metrics;
use crate::platform::store::{SqliteStore, StoreError, StoredEvent, StoredTask};
use crate::platform::units::{UnitError, Units};
use crate::proto::api;
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

/// What the verbs work with.
pub(in crate::daemon) struct Verbs {
    pub(in crate::daemon) engine: mpsc::Sender<Input>,
    pub(in crate::daemon) units: Units,
    pub(in crate::daemon) store: SqliteStore,
    pub(in crate::daemon) metrics: Arc<Metrics>,
    pub(in crate::daemon) events: broadcast::Sender<api::Event>,
    pub(in crate::daemon) logs: Logs,
    pub(in crate::daemon) log_grew: Arc<Notify>,
    pub(in crate::daemon) paths: Paths,
    pub(in crate::daemon) cgroups: Option<PathBuf>,
    pub(in crate::daemon) identity: Arc<Identity>,
    /// Held while the configuration is written: the file is read, changed and replaced.
    pub(in crate::daemon) persisting: tokio::sync::Mutex<()>,
    /// What the running tasks change, as it was seen last.
    pub(in crate::daemon) forecasts: Forecasts,
}

fn refused(status: u16, code: &'static str, detail: impl Into<String>) -> ServiceError {
    ServiceError { status, code, detail: detail.into() }
}

fn stopping() -> ServiceError {
    refused(503, "stopping", "clauded is stopping; try again in a moment")
}

fn no_such_task(id: TaskId) -> ServiceError {
    refused(404, "no-such-task", format!("there is no task {id}; list them with: claudectl task list --all"))
}

impl From<&StoreError> for ServiceError {
    fn from(error: &StoreError) -> Self {
        let (status, code) = match error {
            StoreError::Full { .. } => (507, "store-full"),
            _ => (500, "store"),
        };
        refused(status, code, error.to_string())
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<Arc<StoreError>> for ServiceError {
    fn from(error: Arc<StoreError>) -> Self {
        Self::from(&*error)
    }
}

impl From<PersistError> for ServiceError {
    fn from(error: PersistError) -> Self {
        let status = if matches!(error, PersistError::Io { .. }) { 500 } else { 422 };
        refused(status, "config", error.to_string())
    }
}

impl From<UnitError> for ServiceError {
    fn from(error: UnitError) -> Self {
        let (status, code) = match error {
            UnitError::Disconnected { .. } => (503, "supervisor-away"),
            UnitError::Refused { .. } => (502, "supervisor-refused"),
            UnitError::Job { .. } => (409, "job-failed"),
        };
        refused(status, code, error.to_string())
    }
}

impl Verbs {
    /// Looks at the engine's state, after everything that was sent to it before.
    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&State) -> T + Send + 'static) -> Result<T, ServiceError> {
        engine::look(&self.engine, look).await.ok_or_else(stopping)
    }

    /// Puts the configuration that is on disk in force.
    async fn put_in_force(&self, caller: &Caller) -> Result<Arc<Config>, ServiceError> {
        let config = Arc::new(Config::load(&self.paths).map_err(|e| refused(422, "config", e.to_string()))?);
        self.identity.configure(config.clone());
        self.engine.send(Input::By(caller.actor.clone(), Box::new(Input::Configure(config.clone())))).await.map_err(|_| stopping())?;
        Ok(config)
    }

    /// The same, and has the supervisor read what follows from it for units.
    async fn apply(&self, caller: &Caller) -> Result<Arc<Config>, ServiceError> {
        let config = self.put_in_force(caller).await?;
        self.units.reload().await?;
        Ok(config)
    }

    /// Has the engine decide something for that caller, and waits until that is durable.
    async fn decide<T>(&self, caller: &Caller, input: impl FnOnce(oneshot::Sender<Result<T, Arc<StoreError>>>) -> Input) -> Result<T, ServiceError> {
        let (reply, answer) = oneshot::channel();
        self.engine.send(Input::By(caller.actor.clone(), Box::new(input(reply)))).await.map_err(|_| stopping())?;
        Ok(answer.await.map_err(|_| stopping())??)
    }

    async fn stored(&self, id: TaskId) -> Result<StoredTask, ServiceError> {
        self.store.task(id).await?.ok_or_else(|| no_such_task(id))
    }

    /// Puts on record what a caller has done, to an instance or beside them all, with its row of the audit: it is answered when that
    /// is durable.
    async fn note(&self, kind: &str, instance: Option<&InstanceName>, message: String, row: Entry) -> Result<(), ServiceError> {
        let event = StoredEvent { id: 0, at: Timestamp::now(), kind: kind.to_owned(), instance: instance.cloned(), task: None, message, cause: None };
        let (reply, answer) = oneshot::channel::<Result<(), Arc<StoreError>>>();
        let keep = Input::Decide(Box::new(move |_, _, turn| {
            turn.batch.events.push(event);
            turn.batch.audit.push(row);
            turn.reply(reply, ());
        }));
        self.engine.send(keep).await.map_err(|_| stopping())?;
        let unkept = |error: Arc<StoreError>| {
            let error = ServiceError::from(error);
            ServiceError { detail: format!("it is done, but is not on record: {}", error.detail), ..error }
        };
        answer.await.map_err(|_| stopping())?.map_err(unkept)
    }
}
