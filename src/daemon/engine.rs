//! The loop that owns the queue: takes inputs in order, commits what follows from them, then acts on it.
//!
//! Inputs that wait together are taken together and share one commit. If a commit fails nothing of the turn is acted on: the
//! callers get the error, the runners' connections are closed (they come back and say everything again), and the queue is
//! loaded anew from the store, which is the truth.

use super::desk::{self, Desk};
use super::fleet::Fleet;
use super::jobs::{Asker, Jobs};
use super::mail::{self, Posted, Posting};
use super::turn::{Action, LockCount, Look, Turn};
use crate::config::Config;
use crate::core::audit::{Actor, Entry};
use crate::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use crate::core::instance::ActiveState;
use crate::core::message::{Effect, Post};
use crate::core::queue::{self, Queue};
use crate::core::task::{Task, TaskSpec, TaskState};
use crate::core::usage::Usd;
use crate::metrics::Metrics;
use crate::platform::store::{SqliteStore, StoreError, StoredEvent, StoredWorktree};
use crate::platform::units::UnitEvent;
use crate::proto::api;
use crate::proto::link::{Answer, Event, FromDaemon, Job, Progress, Work};
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::time::Instant;

/// Most inputs that share one commit.
const TURN_MAX: usize = 64;
/// How long to wait for the time of day: timers go on evenly when the clock is set, and what waits for a time should not.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);
/// How long to wait before a store that failed is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What the loop takes.
pub(super) enum Input {
    /// A new task, checked.
    Add(Box<TaskSpec>, oneshot::Sender<Result<TaskId, Arc<StoreError>>>),
    /// End a task; `false` comes back if the queue does not have it.
    Cancel(TaskId, oneshot::Sender<Result<bool, Arc<StoreError>>>),
    /// Try an ended task again; `false` comes back if it has not ended.
    Retry(Box<Task>, oneshot::Sender<Result<bool, Arc<StoreError>>>),
    /// A message to be sent.
    Post(Box<Posting>, Posted),
    /// A runner is connected, and the events that it had spooled have been sent in before this.
    Linked {
        /// Who it is, as the kernel says, and what it runs.
        hello: queue::Hello,
        /// The way to it.
        to: Outbox,
    },
    /// A spooled event of a runner.
    Runner {
        /// The instance, as the kernel says.
        instance: InstanceName,
        /// Whose usage limit it works under.
        account: String,
        /// The start of its unit.
        invocation: InvocationId,
        /// The event's number, for the acknowledgement.
        seq: u64,
        /// What happened.
        event: Event,
        /// The way to it.
        to: Outbox,
    },
    /// How a runner's attempt is doing.
    Progress(InstanceName, Progress),
    /// A runner takes no more tasks.
    Draining(InstanceName),
    /// An instance is stopped for good.
    Retired(InstanceName),
    /// That connection of a runner is gone.
    Unlinked(InstanceName, InvocationId, u64),
    /// Have an instance's runner do something with its worktree.
    Job(InstanceName, Job, Asker),
    /// What came of it, by the question's number.
    Answered(InstanceName, u64, Answer),
    /// Give an instance no task, or tasks again: it is started for its worktree's sake.
    Reserve(InstanceName, bool),
    /// What is known of an instance's worktree now; `None` if it is gone.
    Worktree(InstanceName, Option<StoredWorktree>),
    /// The supervisor saw something.
    Unit(UnitEvent),
    /// A new configuration, checked.
    Configure(Arc<Config>),
    /// Something to keep and show that was done elsewhere, and its row in the audit.
    Note(StoredEvent, Entry),
    /// That is whose input it is; others are clauded's own, a runner's or the supervisor's.
    By(Actor, Box<Input>),
    /// Something about locks.
    Lock(desk::Input),
    /// Look at the state.
    Ask(Look),
}

impl Input {
    /// The connection that it came by, if its order among others of it matters.
    fn connection(&self) -> Option<u64> {
        match self {
            Self::Linked { to, .. } | Self::Runner { to, .. } => Some(to.connection),
            _ => None,
        }
    }

    /// To whose account goes what follows from it.
    fn actor(&self) -> Actor {
        match self {
            Self::Linked { hello: queue::Hello { instance, .. }, .. } | Self::Runner { instance, .. } => Actor::runner(instance.clone()),
            Self::Unit(_) => Actor::supervisor(),
            _ => Actor::clauded(),
        }
    }
}

/// The way to one runner: its connection's number, what is written to it, and the cord to pull.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    /// Counts connections, so that an old one's end does not close a new one.
    pub(super) connection: u64,
    /// What is written to it, in order.
    pub(super) send: mpsc::Sender<FromDaemon>,
    /// Ends the connection; the runner comes back and says everything again.
    pub(super) hang_up: Arc<Notify>,
}

impl Outbox {
    /// Puts a message on the way. A runner that does not read is disconnected.
    pub(super) fn tell(&self, message: FromDaemon) {
        if self.send.try_send(message).is_err() {
            tracing::warn!(connection = self.connection, "a runner does not read what it is told; its connection is closed");
            self.hang_up.notify_one();
        }
    }
}

/// All that the loop knows.
pub(super) struct State {
    /// The queue.
    pub(super) queue: Queue,
    /// The messages that are on their way.
    pub(super) post: Post,
    /// The instances as their supervisor sees them.
    pub(super) fleet: Fleet,
    /// The locks, and who waits for one.
    pub(super) desk: Desk,
    /// The configuration in force.
    pub(super) config: Arc<Config>,
    /// How running attempts are doing.
    pub(super) progress: BTreeMap<InstanceName, Progress>,
    /// The worktrees, as their runners told of them last.
    pub(super) worktrees: BTreeMap<InstanceName, StoredWorktree>,
    /// What is wrong with the store, if anything.
    pub(super) store_problem: Option<String>,
}

impl State {
    /// Whether there is such an instance, configured, running or connected.
    pub(super) fn knows(&self, name: &InstanceName) -> bool {
        self.config.instances.contains_key(name) || self.fleet.get(name).is_some() || self.queue.is_linked(name)
    }

    /// Whether its unit is not at rest.
    pub(super) fn runs(&self, name: &InstanceName) -> bool {
        self.fleet.get(name).is_some_and(|seen| !matches!(seen.active, ActiveState::Inactive | ActiveState::Failed))
    }
}

/// Looks at the engine's state, after everything that was sent to it before; `None` if it is gone.
pub(super) async fn look<T: Send + 'static>(engine: &mpsc::Sender<Input>, look: impl FnOnce(&State) -> T + Send + 'static) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    engine.send(Input::Ask(Box::new(move |state| drop(reply.send(look(state)))))).await.ok()?;
    answer.await.ok()
}

/// The loop and what it acts through.
pub(super) struct Engine {
    state: State,
    store: SqliteStore,
    metrics: Arc<Metrics>,
    events: broadcast::Sender<api::Event>,
    logs: Arc<Notify>,
    watchdog: Option<Duration>,
    runners: BTreeMap<InstanceName, Outbox>,
    jobs: Jobs,
    /// Connections that were closed because a commit failed. What still comes by them is dropped: it follows what was lost.
    cut: BTreeSet<u64>,
    /// When its runner was told to run the attempt.
    given: BTreeMap<InstanceName, (AttemptId, Instant)>,
    last_event: i64,
    unsettled: bool,
}

impl Engine {
    /// Loads the queue.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn new(
        store: SqliteStore,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        events: broadcast::Sender<api::Event>,
        logs: Arc<Notify>,
        watchdog: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let mut fleet = Fleet::new();
        let (queue, post) = load(&store, &mut fleet).await?;
        let last_event = store.last_event().await?.map_or(0, |(id, _)| id);
        let desk = Desk::load(&store).await?;
        let worktrees = store.worktrees().await?.into_iter().collect();
        let state = State { queue, post, fleet, desk, config, progress: BTreeMap::new(), worktrees, store_problem: None };
        let (runners, cut, given) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Ok(Self { state, store, metrics, events, logs, watchdog, runners, jobs: Jobs::default(), cut, given, last_event, unsettled: false })
    }

    /// Runs until every sender of inputs is gone.
    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        loop {
            let now = Timestamp::now();
            let wakes = [self.state.queue.next_wake(), self.state.post.next_wake(), self.state.desk.next_wake()];
            let wake = wakes.into_iter().flatten().min().map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default().min(LOOK_AT_CLOCK));
            let retry = self.unsettled.then_some(STORE_PAUSE);
            let pause = [wake, retry, self.watchdog.map(|w| w / 2)].into_iter().flatten().min();
            let mut next = tokio::select! {
                input = inputs.recv() => match input { Some(input) => Some(input), None => return },
                () = sleep_for(pause) => None,
            };
            let (now, begun) = (Timestamp::now(), Instant::now());
            let mut turn = Turn::default();
            if std::mem::take(&mut self.unsettled) {
                self.state.fleet.settle(&mut self.state.queue, now, &mut turn);
            }
            turn.effects(self.state.queue.tick(now), now);
            desk::tick(&mut self.state, now, &mut turn);
            desk::follow(&mut self.state, now, &mut turn);
            let mut taken = 0;
            while let Some(input) = next.take() {
                self.take(input, now, &mut turn);
                desk::follow(&mut self.state, now, &mut turn);
                taken += 1;
                next = if taken < TURN_MAX { inputs.try_recv().ok() } else { None };
            }
            mail::settle(&mut self.state, now, &mut turn);
            if let Err(failed) = self.carry_out(turn, now, begun).await {
                self.start_over(failed).await;
            }
            self.alive();
        }
    }

    /// Decides on one input. Nothing is acted on yet.
    fn take(&mut self, input: Input, now: Timestamp, turn: &mut Turn) {
        if input.connection().is_some_and(|connection| self.cut.contains(&connection)) {
            return;
        }
        let (actor, input) = match input {
            Input::By(actor, input) => (actor, *input),
            input => (input.actor(), input),
        };
        turn.actor = actor;
        let state = &mut self.state;
        match input {
            // Nobody acts for another.
            Input::By(..) => {}
            Input::Add(spec, reply) => turn.add(*spec, now, reply),
            Input::Cancel(id, reply) => {
                let (found, effects) = state.queue.cancel(id, now);
                if found {
                    turn.note("task-cancelled", None, Some(id), "a person wants it ended".to_owned(), None, now);
                }
                turn.effects(effects, now);
                turn.reply(reply, found);
            }
            Input::Retry(task, reply) => {
                let ended = state.queue.task(task.id).is_none();
                if ended {
                    turn.audit("task-retried", now, |entry| entry.of_task(Some(task.id)));
                    turn.note("task-retried", None, Some(task.id), "put back into the queue".to_owned(), None, now);
                }
                turn.effects(state.queue.retry(*task), now);
                turn.reply(reply, ended);
            }
            Input::Post(posting, reply) => mail::post(state, *posting, reply, now, turn),
            Input::Linked { hello, to } => {
                state.post.linked(&hello.instance);
                if let Some(old) = self.runners.insert(hello.instance.clone(), to.clone()) {
                    old.hang_up.notify_one();
                }
                self.metrics.link(true);
                self.jobs.linked(&hello.instance, &to);
                turn.tell(to, FromDaemon::Welcome);
                turn.effects(state.queue.linked(hello, now), now);
            }
            Input::Runner { instance, account, invocation, seq, event, to } => {
                match event {
                    Event::Started { attempt, session, .. } => {
                        let effects = state.queue.started(&instance, &invocation, attempt);
                        // Else it is told a second time, or by who does not have it.
                        if !effects.is_empty() {
                            turn.effects(effects, now);
                            turn.batch.begun.push((attempt, now, session));
                            turn.note("task-started", Some(&instance), Some(attempt.task), format!("attempt {} runs", attempt.number), None, now);
                        }
                        if let Some((_, given)) = self.given.remove(&instance).filter(|(given, _)| *given == attempt) {
                            self.metrics.dispatch_latency(given.elapsed());
                        }
                    }
                    Event::Delivered { attempt, message } => {
                        if let Some(Effect::Save(change)) = state.post.delivered(&instance, attempt, message) {
                            mail::save(turn, change, now);
                        }
                    }
                    Event::Entered { attempt, stage } => turn.effects(state.queue.entered(&instance, &invocation, attempt, stage), now),
                    Event::Finished { attempt, report } => {
                        state.progress.remove(&instance);
                        if let Some(work) = &report.work {
                            let directory = state.config.instance(&instance).directory.display().to_string();
                            let seen = StoredWorktree {
                                repository: work.repository.clone(),
                                directory,
                                branch: Some(work.branch.clone()),
                                bytes: work.disk_bytes,
                                measured: Some(report.finished),
                            };
                            state.worktrees.insert(instance.clone(), seen.clone());
                            turn.batch.worktrees.push((instance.clone(), Some(seen)));
                        }
                        turn.effects(state.queue.finished(&instance, &account, attempt, &report, now), now);
                    }
                }
                turn.tell(to, FromDaemon::Ack { seq });
            }
            Input::Progress(instance, progress) => {
                state.progress.insert(instance, progress);
                self.logs.notify_waiters();
            }
            Input::Draining(instance) => state.queue.draining(&instance),
            Input::Retired(instance) => turn.effects(state.queue.retired(&instance), now),
            Input::Unlinked(instance, invocation, connection) => {
                self.cut.remove(&connection);
                if self.runners.get(&instance).is_some_and(|to| to.connection == connection) {
                    self.runners.remove(&instance);
                    self.jobs.forget(&instance);
                    state.queue.unlinked(&instance, &invocation);
                }
            }
            Input::Job(instance, job, asker) => self.jobs.ask(instance.clone(), job, asker, self.runners.get(&instance)),
            Input::Answered(instance, id, answer) => self.jobs.answered(&instance, id, answer),
            Input::Reserve(instance, on) => {
                if !on {
                    self.jobs.forget(&instance);
                }
                turn.effects(state.queue.reserve(&instance, on), now);
            }
            Input::Worktree(instance, seen) => {
                match &seen {
                    Some(seen) => drop(state.worktrees.insert(instance.clone(), seen.clone())),
                    None => drop(state.worktrees.remove(&instance)),
                }
                turn.batch.worktrees.push((instance, seen));
            }
            Input::Unit(event) => state.fleet.take(event, &mut state.queue, now, turn),
            Input::Configure(config) => {
                turn.note("config-reloaded", None, None, "a new configuration is in force".to_owned(), None, now);
                state.config = config;
            }
            Input::Note(event, row) => {
                turn.batch.events.push(event);
                turn.batch.audit.push(row);
            }
            Input::Lock(input) => desk::take(input, state, now, turn),
            Input::Ask(look) => turn.looks.push(look),
        }
    }

    /// Commits a turn, then acts on it. New tasks are given out by the commit that gives them their numbers.
    async fn carry_out(&mut self, mut turn: Turn, now: Timestamp, began: Instant) -> Result<(), Failed> {
        if !turn.batch.changes.is_empty() {
            turn.batch.holds = self.state.queue.holds().map(|(account, until)| (account.to_owned(), until)).collect();
        }
        let noted = !turn.batch.events.is_empty() || !turn.batch.add.is_empty();
        let mut second = Turn::default();
        if !turn.batch.is_empty() {
            let (begun, queue, post) = (Instant::now(), &mut self.state.queue, &mut self.state.post);
            let follow = |ids: &[TaskId]| {
                let mut adders = turn.adders.drain(..);
                for (id, (spec, at)) in ids.iter().zip(&turn.batch.add) {
                    second.actor = adders.next().unwrap_or_default();
                    let details = json!({"title": spec.title, "type": spec.kind.as_str()});
                    let target = spec.target.instance();
                    second.audit("task-added", now, |entry| entry.of_task(Some(*id)).of_instance(target).with(&details));
                    second.note("task-added", None, Some(*id), spec.title.clone(), None, now);
                    second.effects(queue.added(fresh(*id, spec, *at)), now);
                }
                mail::queued(post, &turn.errands, ids, now, &mut second);
                std::mem::take(&mut second.batch)
            };
            match self.store.commit_with(&turn.batch, follow).await {
                Ok(ids) => {
                    self.metrics.store_commit(begun.elapsed());
                    self.state.store_problem = None;
                    for (id, reply) in ids.into_iter().zip(turn.adds.drain(..)) {
                        let _ = reply.send(Ok(id));
                    }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    let (looks, part) = turn.fail(&error);
                    return Err(Failed { error, looks, part });
                }
            }
        }
        for reply in turn.replies.drain(..) {
            reply(Ok(()));
        }
        turn.actions.append(&mut second.actions);
        self.act(turn.actions, began).await;
        if noted {
            self.publish().await;
        }
        for look in turn.looks {
            look(&self.state);
        }
        Ok(())
    }

    /// Does what has been committed in the turn that began then.
    async fn act(&mut self, actions: Vec<Action>, began: Instant) {
        for action in actions {
            match action {
                Action::Tell(to, message) => to.tell(message),
                Action::Say(instance, message) => {
                    if let Some(to) = self.runners.get(&instance) {
                        to.tell(message);
                    }
                }
                Action::End(instance, attempt) => {
                    if let Some(to) = self.runners.get(&instance) {
                        to.tell(FromDaemon::End { attempt });
                    }
                }
                Action::Ended(instance, kind, ended) => {
                    self.metrics.task_ended(&instance, &kind, &ended);
                    self.logs.notify_waiters();
                }
                Action::Lock(LockCount::Waited(time, granted)) => self.metrics.lock_waited(time, granted),
                Action::Lock(LockCount::Refused(cause)) => self.metrics.lock_refused(cause),
                Action::Used(instance, kind, report, waited) => self.metrics.task_used(&instance, &kind, &report, waited),
                Action::Restarted(instance, cause) => self.metrics.restart(&instance, &cause),
                Action::Run { placement, resume } => {
                    let Some(to) = self.runners.get(&placement.instance) else { continue };
                    match self.work(placement.attempt, &placement.instance, resume).await {
                        Ok(work) => {
                            self.given.insert(placement.instance.clone(), (placement.attempt, began));
                            to.tell(FromDaemon::Run(Box::new(work)));
                        }
                        Err(error) => {
                            // It stays assigned, and is given out again when the runner comes back.
                            tracing::error!(task = placement.attempt.task.0, "cannot give task {} out: {error}", placement.attempt.task);
                            to.hang_up.notify_one();
                        }
                    }
                }
            }
        }
    }

    /// All that the runner needs to run an attempt.
    async fn work(&self, attempt: AttemptId, instance: &InstanceName, resume: bool) -> anyhow::Result<Work> {
        let stored = self.store.task(attempt.task).await?.ok_or_else(|| anyhow::anyhow!("it is not in the store"))?;
        let resume = if resume { self.store.last_session(attempt.task, instance).await? } else { None };
        let config = &self.state.config;
        let profile = config.profile_of(instance).ok_or_else(|| anyhow::anyhow!("there is no profile {:?}", config.instance(instance).profile))?;
        let title = stored.spec.title;
        Ok(Work {
            attempt,
            prompt: stored.spec.prompt,
            resume,
            timeout: stored.spec.timeout.unwrap_or(config.defaults.task_timeout),
            budget: stored.spec.budget.map(|b| b - stored.task.cost),
            max_turns: stored.spec.max_turns,
            schema: stored.spec.schema,
            profile,
            checkout: super::checkout::of(config, instance, attempt.task, &stored.task.kind, &title).map(Box::new),
            title,
        })
    }

    /// Tells the listeners what was stored, with the numbers that the store gave.
    async fn publish(&mut self) {
        match self.store.events_after(self.last_event, 1000).await {
            Ok(events) => {
                for event in events {
                    self.last_event = event.id;
                    // Nobody may be listening.
                    let _ = self.events.send(super::view::event(event));
                }
            }
            Err(error) => tracing::warn!("cannot read events back: {error}"),
        }
    }

    /// After a commit that failed: the store is the truth, everyone says everything again.
    async fn start_over(&mut self, Failed { error, looks, part }: Failed) {
        tracing::error!("nothing was stored: {error}");
        self.state.store_problem = Some(error.to_string());
        // Those too that are not linked yet: an acknowledgement of what follows would acknowledge what was lost.
        for to in std::mem::take(&mut self.runners).into_values().chain(part) {
            to.hang_up.notify_one();
            self.cut.insert(to.connection);
        }
        self.state.desk.give_up(&error);
        ((self.state.queue, self.state.post), self.state.desk) = loop {
            let loaded = async { Ok((load(&self.store, &mut self.state.fleet).await?, Desk::load(&self.store).await?)) };
            match loaded.await {
                Ok(loaded) => break loaded,
                Err(error) => {
                    let error: StoreError = error;
                    tracing::error!("cannot load the queue: {error}");
                    self.alive();
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        };
        self.unsettled = true;
        for look in looks {
            look(&self.state);
        }
    }

    /// Tells the service manager that the loop goes round (sd_notify(3), WATCHDOG=1).
    fn alive(&self) {
        if self.watchdog.is_some() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// A turn that could not be committed.
struct Failed {
    error: Arc<StoreError>,
    looks: Vec<Look>,
    /// The ways to the runners that took part in it.
    part: Vec<Outbox>,
}

/// The queue and the post as the store has them; the fleet is told what was told of it.
async fn load(store: &SqliteStore, fleet: &mut Fleet) -> Result<(Queue, Post), StoreError> {
    fleet.recall(store.restarts().await?, store.marks().await?);
    Ok((Queue::load(store.live_tasks().await?, store.holds().await?), store.post().await?))
}

async fn sleep_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// A task as it enters the queue.
fn fresh(id: TaskId, spec: &TaskSpec, now: Timestamp) -> Task {
    Task {
        id,
        target: spec.target.clone(),
        kind: spec.kind.clone(),
        created: now,
        state: TaskState::Pending { not_before: None },
        attempts: 0,
        failures: 0,
        home: None,
        cost: Usd::default(),
        budget: spec.budget,
        cancelling: false,
    }
}

#[cfg(test)]
mod tests;
