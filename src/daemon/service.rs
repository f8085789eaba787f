//! The API's verbs, carried out: checked here, decided by the engine, answered when durable.

use super::engine::{Input, State};
use super::identity::Identity;
use super::log::Logs;
use super::{scrape, view};
use crate::config::{self, Config, Paths, PersistError};
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use crate::core::limits::{InvalidLimit, Limits, MemoryLimit};
use crate::core::task::{Target, TaskSpec, TaskType};
use crate::core::usage::Usd;
use crate::http::service::{Answer, Caller, Service, ServiceError, TaskQuery};
use crate::metrics::Metrics;
use crate::platform::store::{SqliteStore, StoreError, StoredEvent, StoredTask, TaskFilter};
use crate::platform::units::{Done, UnitError, Units};
use crate::proto::api;
use jiff::Timestamp;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

/// How many of an instance's last events `claudectl status NAME` shows.
const HISTORY: u32 = 20;

/// What the verbs work with.
pub(super) struct Verbs {
    pub(super) engine: mpsc::Sender<Input>,
    pub(super) units: Units,
    pub(super) store: SqliteStore,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: broadcast::Sender<api::Event>,
    pub(super) logs: Logs,
    pub(super) log_grew: Arc<Notify>,
    pub(super) paths: Paths,
    pub(super) cgroups: Option<PathBuf>,
    pub(super) identity: Arc<Identity>,
    /// Held while the configuration is written: the file is read, changed and replaced.
    pub(super) persisting: tokio::sync::Mutex<()>,
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
        let (reply, answer) = oneshot::channel();
        self.engine.send(Input::Ask(Box::new(move |state| drop(reply.send(look(state)))))).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// Has the engine decide something, and waits until that is durable.
    async fn decide<T>(&self, input: impl FnOnce(oneshot::Sender<Result<T, Arc<StoreError>>>) -> Input) -> Result<T, ServiceError> {
        let (reply, answer) = oneshot::channel();
        self.engine.send(input(reply)).await.map_err(|_| stopping())?;
        Ok(answer.await.map_err(|_| stopping())??)
    }

    async fn stored(&self, id: TaskId) -> Result<StoredTask, ServiceError> {
        self.store.task(id).await?.ok_or_else(|| no_such_task(id))
    }

    async fn shown(&self, stored: StoredTask) -> Result<api::Task, ServiceError> {
        self.look(move |state| view::task(&stored, view::detail(state, &stored))).await
    }

    /// Keeps a note of who did what.
    async fn note(&self, kind: &str, name: &InstanceName, message: String) -> Result<(), ServiceError> {
        let event = StoredEvent { id: 0, at: Timestamp::now(), kind: kind.to_owned(), instance: Some(name.clone()), task: None, message, cause: None };
        self.engine.send(Input::Note(event)).await.map_err(|_| stopping())
    }

    async fn verb(&self, caller: &Caller, name: &InstanceName, verb: &str, done: Result<Done, UnitError>) -> Result<api::Outcome, ServiceError> {
        let done = done?;
        tracing::info!(instance = %name, by = %caller.description, "{verb} {name} ({done:?}), asked by {}", caller.description);
        if done != Done::Unchanged {
            self.note("instance-asked", name, format!("{verb} by {}", caller.description)).await?;
        }
        let result = match done {
            Done::Created => "created",
            Done::Changed => "changed",
            Done::Unchanged => "unchanged",
        };
        let message = if done == Done::Unchanged { "nothing to do".to_owned() } else { String::new() };
        Ok(api::Outcome { result: result.to_owned(), message })
    }

    fn add_cgroup(&self, instance: &mut api::Instance, control_group: &str) -> Vec<api::Cap> {
        let Some(mount) = self.cgroups.as_deref().filter(|_| !control_group.is_empty()) else { return Vec::new() };
        let caps = view::caps(mount, control_group);
        view::add_usage(instance, &scrape::instance_group(mount, control_group), &caps);
        caps
    }

    /// Checks what is asked for, and whether there is anyone to do it.
    async fn spec(&self, new: api::NewTask) -> Result<TaskSpec, ServiceError> {
        let invalid = |field: &str, why: String| refused(422, "invalid-task", format!("{field}: {why}"));
        let target = match new.instance.as_deref() {
            None => Target::Any,
            Some(text) => {
                let name: InstanceName = text.parse().map_err(|e: crate::core::ids::InvalidName| refused(400, "invalid-name", e.to_string()))?;
                let asked = name.clone();
                let known =
                    self.look(move |state| state.config.instances.contains_key(&asked) || state.fleet.get(&asked).is_some() || state.queue.is_linked(&asked));
                if !known.await? {
                    let hint = format!("there is no instance {name}, neither running nor configured; start it first: claudectl start {name}");
                    return Err(refused(404, "no-such-instance", hint));
                }
                Target::Instance(name)
            }
        };
        let kind = new.kind.as_deref().map(TaskType::from_str).transpose().map_err(|e| invalid("type", e.to_string()))?;
        let budget = match new.budget_usd {
            Some(dollars) if !dollars.is_finite() || dollars <= 0.0 => return Err(invalid("budget_usd", "it is a number above 0".to_owned())),
            other => other.map(Usd::from_dollars),
        };
        if new.timeout_seconds == Some(0) {
            return Err(invalid("timeout_seconds", "it is at least 1".to_owned()));
        }
        let spec = TaskSpec {
            target,
            kind: kind.unwrap_or_default(),
            title: new.title.unwrap_or_default(),
            prompt: new.prompt,
            timeout: new.timeout_seconds.map(Duration::from_secs),
            budget,
            max_turns: new.max_turns,
        };
        spec.validated().map_err(|e| refused(422, "invalid-task", e.to_string()))
    }
}

impl Service for Verbs {
    fn instances(&self) -> Answer<'_, Vec<api::Instance>> {
        Box::pin(async {
            let found = self.look(|state| {
                let names = state.config.instances.keys().chain(state.fleet.iter().map(|seen| &seen.name));
                let names: std::collections::BTreeSet<_> = names.collect();
                let group = |name| state.fleet.get(name).map(|s| s.control_group.clone()).unwrap_or_default();
                names.into_iter().map(|name| (view::instance(state, name), group(name))).collect::<Vec<_>>()
            });
            let mut instances = Vec::new();
            for (mut instance, group) in found.await? {
                self.add_cgroup(&mut instance, &group);
                instances.push(instance);
            }
            Ok(instances)
        })
    }

    fn instance(&self, name: InstanceName) -> Answer<'_, api::InstanceDetail> {
        Box::pin(async move {
            let asked = name.clone();
            let found = self.look(move |state| {
                let seen = state.fleet.get(&asked);
                let known = seen.is_some() || state.config.instances.contains_key(&asked);
                let config = state.config.instance(&asked);
                let detail = api::InstanceDetail {
                    instance: view::instance(state, &asked),
                    unit: asked.unit(),
                    directory: config.directory.display().to_string(),
                    profile: config.profile,
                    user: config.user,
                    invocation: seen.and_then(|s| s.invocation.as_ref()).map(ToString::to_string),
                    main_pid: seen.map(|s| s.main_pid).filter(|pid| *pid != 0),
                    ..api::InstanceDetail::default()
                };
                known.then(|| (detail, seen.map(|s| s.control_group.clone()).unwrap_or_default()))
            });
            let (mut detail, group) = found.await?.ok_or_else(|| {
                refused(404, "no-such-instance", format!("there is no instance {name}, neither running nor configured; start it with: claudectl start {name}"))
            })?;
            detail.caps = self.add_cgroup(&mut detail.instance, &group);
            detail.history = self.store.instance_history(&name, HISTORY).await?.into_iter().map(view::event).collect();
            Ok(detail)
        })
    }

    fn start(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move { self.verb(&caller, &name, "start", self.units.start(&name).await).await })
    }

    fn stop(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move { self.verb(&caller, &name, "stop", self.units.stop(&name).await).await })
    }

    fn restart(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move { self.verb(&caller, &name, "restart", self.units.restart(&name).await).await })
    }

    fn set_limits(&self, caller: Caller, name: InstanceName, wanted: api::SetLimits) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let limits = limits(&wanted)?;
            if limits.is_empty() {
                return Err(refused(400, "no-limits", "no limit is given; say for example memory=6G"));
            }
            if wanted.persist {
                let _alone = self.persisting.lock().await;
                // First what may be refused without a trace, then what takes effect.
                let persisted = config::persist_limits(&self.paths, &name, &limits)?;
                if persisted {
                    let config = Arc::new(Config::load(&self.paths).map_err(|e| refused(422, "config", e.to_string()))?);
                    self.identity.configure(config.clone());
                    self.engine.send(Input::Configure(config)).await.map_err(|_| stopping())?;
                }
            }
            self.verb(&caller, &name, "limit", self.units.set_limits(&name, limits).await).await
        })
    }

    fn add_task(&self, caller: Caller, task: api::NewTask) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let spec = self.spec(task).await?;
            let id = self.decide(|reply| Input::Add(Box::new(spec), reply)).await?;
            tracing::info!(task = id.0, by = %caller.description, "task {id} accepted, asked by {}", caller.description);
            self.shown(self.stored(id).await?).await
        })
    }

    fn tasks(&self, query: TaskQuery) -> Answer<'_, Vec<api::Task>> {
        Box::pin(async move {
            let filter = TaskFilter { state: query.state, instance: query.instance, before: query.before, limit: query.limit };
            let stored = self.store.tasks(&filter).await?;
            self.look(move |state| stored.iter().map(|s| view::task(s, view::detail(state, s))).collect()).await
        })
    }

    fn task(&self, id: TaskId) -> Answer<'_, api::TaskDetail> {
        Box::pin(async move {
            let stored = self.stored(id).await?;
            let history = self.store.attempts(id).await?.iter().map(view::attempt).collect();
            let spec = stored.spec.clone();
            Ok(api::TaskDetail {
                task: self.shown(stored).await?,
                prompt: spec.prompt,
                timeout_seconds: spec.timeout.map(|t| t.as_secs()),
                budget_usd: spec.budget.map(Usd::dollars),
                max_turns: spec.max_turns,
                history,
            })
        })
    }

    fn cancel(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let found = self.decide(|reply| Input::Cancel(id, reply)).await?;
            let stored = self.stored(id).await?;
            if !found {
                return Err(refused(409, "task-ended", format!("task {id} has ended already: {}", stored.task.state.name())));
            }
            tracing::info!(task = id.0, by = %caller.description, "task {id} cancelled, asked by {}", caller.description);
            self.shown(stored).await
        })
    }

    fn retry(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let stored = self.stored(id).await?;
            let ended = self.decide(|reply| Input::Retry(Box::new(stored.task), reply)).await?;
            if !ended {
                return Err(refused(409, "task-not-ended", format!("task {id} has not ended; cancel it first: claudectl task cancel {id}")));
            }
            tracing::info!(task = id.0, by = %caller.description, "task {id} retried, asked by {}", caller.description);
            self.shown(self.stored(id).await?).await
        })
    }

    fn log(&self, id: TaskId, attempt: Option<u32>, offset: u64, wait: bool) -> Answer<'_, api::LogChunk> {
        Box::pin(async move {
            loop {
                // Armed before looking, so that nothing that grows in between is missed.
                let grew = self.log_grew.notified();
                tokio::pin!(grew);
                grew.as_mut().enable();
                let stored = self.stored(id).await?;
                let attempts = self.store.attempts(id).await?;
                let found = match attempt {
                    Some(number) => attempts.iter().find(|a| a.attempt.number == number),
                    None => attempts.last(),
                };
                let Some(found) = found else {
                    if let Some(number) = attempt {
                        return Err(refused(404, "no-such-attempt", format!("task {id} has no attempt {number}")));
                    }
                    let complete = stored.task.state.is_final();
                    if wait && !complete {
                        grew.await;
                        continue;
                    }
                    return Ok(api::LogChunk { offset, next: offset, complete, ..api::LogChunk::default() });
                };
                let (logs, name) = (self.logs.clone(), found.instance.clone());
                let which = AttemptId { task: id, number: found.attempt.number };
                let ended = found.report.is_some();
                let piece = tokio::task::spawn_blocking(move || logs.read(&name, which, offset)).await;
                let piece = piece.map_err(|e| refused(500, "log", e.to_string()))?.map_err(|e| refused(500, "log", e.to_string()))?;
                if piece.bytes.is_empty() && wait && !ended {
                    grew.await;
                    continue;
                }
                // A character that is cut in half stays for the next piece, unless nothing will follow it.
                let whole = if ended { piece.bytes.len() } else { whole_characters(&piece.bytes) };
                let bytes = piece.bytes.get(..whole).unwrap_or_default();
                let next = piece.offset + u64::try_from(bytes.len()).unwrap_or_default();
                let complete = ended && piece.bytes.is_empty();
                return Ok(api::LogChunk { attempt: which.number, offset: piece.offset, next, text: String::from_utf8_lossy(bytes).into_owned(), complete });
            }
        })
    }

    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<api::Event>> {
        Box::pin(async move { Ok(self.store.events_after(after, limit).await?.into_iter().map(view::event).collect()) })
    }

    fn subscribe(&self) -> broadcast::Receiver<api::Event> {
        self.events.subscribe()
    }

    fn health(&self) -> Answer<'_, api::Health> {
        Box::pin(async {
            let supervisor = self.units.supervisor().to_owned();
            self.look(move |state| {
                let mut tasks = std::collections::BTreeMap::new();
                for task in state.queue.tasks() {
                    *tasks.entry(task.state.name().to_owned()).or_default() += 1;
                }
                let problems: Vec<_> = state.store_problem.iter().cloned().chain(state.fleet.problem().map(ToOwned::to_owned)).collect();
                api::Health {
                    status: if problems.is_empty() { "ok" } else { "degraded" }.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    supervisor,
                    problems,
                    tasks,
                    connected: state.fleet.iter().filter(|s| state.queue.is_linked(&s.name)).count().try_into().unwrap_or_default(),
                    holds: state.queue.holds().map(|(account, until)| (account.to_owned(), until.to_string())).collect(),
                }
            })
            .await
        })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async {
            let (mount, supervisor) = (self.cgroups.clone(), self.units.supervisor());
            let mut snapshot = self.look(move |state| scrape::snapshot(state, mount.as_deref(), supervisor)).await?;
            scrape::add_ended(&mut snapshot, self.store.task_counts().await?);
            self.metrics.scrape(snapshot).await.map_err(|e| refused(500, "metrics", e.to_string()))
        })
    }

    fn count_request(&self, route: &str, method: &str, status: u16) {
        self.metrics.request(route, method, status);
    }
}

/// The limits that a request names.
fn limits(wanted: &api::SetLimits) -> Result<Limits, ServiceError> {
    fn parsed<T: FromStr<Err = InvalidLimit>>(field: &str, text: Option<&String>) -> Result<Option<T>, ServiceError> {
        text.map(|t| t.parse()).transpose().map_err(|e: InvalidLimit| refused(422, "invalid-limit", format!("{field}: {e}")))
    }
    let limits = Limits {
        memory: parsed("memory", wanted.memory.as_ref())?,
        memory_high: parsed("memory_high", wanted.memory_high.as_ref())?,
        swap: wanted.swap.as_deref().map(MemoryLimit::from_swap).transpose().map_err(|e| refused(422, "invalid-limit", format!("swap: {e}")))?,
        cpu: parsed("cpu", wanted.cpu.as_ref())?,
        cpu_weight: parsed("cpu_weight", wanted.cpu_weight.as_ref())?,
        io_weight: parsed("io_weight", wanted.io_weight.as_ref())?,
        tasks: parsed("tasks", wanted.tasks.as_ref())?,
    };
    // A lower maximum must not stay under an old, higher threshold.
    Ok(limits.with_memory_high())
}

/// The length of the longest beginning that does not end within a character.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_character_waits() {
        assert_eq!(whole_characters("aé".as_bytes()), 3);
        assert_eq!(whole_characters(b"a\xc3"), 1);
        assert_eq!(whole_characters(b"\xc3"), 1);
        assert_eq!(whole_characters(b"a\xff\xffb"), 4);
    }

    #[test]
    fn a_wrong_limit_names_its_field() {
        let error = limits(&api::SetLimits { memory: Some("6 gigs".into()), ..api::SetLimits::default() }).expect_err("wrong");
        assert_eq!((error.status, error.code), (422, "invalid-limit"));
        assert!(error.detail.starts_with("memory: \"6 gigs\" is not an amount"), "{}", error.detail);
    }
}
