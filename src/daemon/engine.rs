//! The loop that owns the queue: takes inputs in order, commits what follows from them, then acts on it.
//!
//! Inputs that wait together are taken together and share one commit. If a commit fails nothing of the turn is acted on: the
//! callers get the error, the runners' connections are closed (they come back and say everything again), and the queue is
//! loaded anew from the store, which is the truth.

mod act;
mod input;

pub(super) use input::{Input, Outbox};

use super::desk::{self, Desk};
use super::fleet::Fleet;
use super::headway::Headway;
use super::jobs::Jobs;
use super::mail;
use super::plans;
use super::rules;
use super::schedules::{self, Schedules};
use super::sizes;
use super::turn::{Look, Turn};
use crate::config::Config;
use crate::core::attempt::Reason;
use crate::core::audit::Actor;
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use crate::core::instance::ActiveState;
use crate::core::message::{Effect, Post};
use crate::core::plan::Plans;
use crate::core::queue::Queue;
use crate::metrics::Metrics;
use crate::platform::cgroup;
use crate::platform::store::{SqliteStore, StoreError, StoredWorktree};
use crate::platform::units::UnitEvent;
use crate::proto::api;
use crate::proto::link::{Event, FromDaemon, Progress};
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
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

/// All that the loop knows.
pub(super) struct State {
    /// The queue.
    pub(super) queue: Queue,
    /// The messages that are on their way.
    pub(super) post: Post,
    /// The plans that are not over.
    pub(super) plans: Plans,
    /// The instances as their supervisor sees them.
    pub(super) fleet: Fleet,
    /// The locks, and who waits for one.
    pub(super) desk: Desk,
    /// The configuration in force.
    pub(super) config: Arc<Config>,
    /// What agents say of how they get on.
    pub(super) headway: Headway,
    /// How running attempts are doing.
    pub(super) progress: BTreeMap<InstanceName, Progress>,
    /// The worktrees, as their runners told of them last.
    pub(super) worktrees: BTreeMap<InstanceName, StoredWorktree>,
    /// What is wrong with the store, if anything.
    pub(super) store_problem: Option<String>,
    /// The schedules.
    pub(super) schedules: Schedules,
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
    /// Where cgroup v2 is mounted.
    cgroups: Option<PathBuf>,
    /// To the loop that sets limits.
    limits: mpsc::UnboundedSender<sizes::Order>,
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
        limits: mpsc::UnboundedSender<sizes::Order>,
    ) -> Result<Self, StoreError> {
        let mut fleet = Fleet::new();
        let (queue, post, plans) = load(&store, &config, &mut fleet).await?;
        let last_event = store.last_event().await?.map_or(0, |(id, _)| id);
        let desk = Desk::load(&store).await?;
        let worktrees = store.worktrees().await?.into_iter().collect();
        let schedules = Schedules::load(store.schedules().await?, Timestamp::now());
        let state = State {
            queue,
            post,
            plans,
            fleet,
            desk,
            config,
            headway: Headway::default(),
            progress: BTreeMap::new(),
            worktrees,
            store_problem: None,
            schedules,
        };
        let (runners, cut, given) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let (jobs, cgroups) = (Jobs::default(), cgroup::mount());
        Ok(Self { state, store, metrics, events, logs, watchdog, runners, jobs, cut, given, last_event, unsettled: false, cgroups, limits })
    }

    /// Runs until every sender of inputs is gone.
    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        loop {
            let now = Timestamp::now();
            let wakes = [self.state.queue.next_wake(now), self.state.post.next_wake(), self.state.desk.next_wake(), self.state.schedules.next()];
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
                turn.effects(self.state.queue.limits(), now);
            }
            sizes::look(&mut self.state, self.cgroups.as_deref());
            super::capacity::look(&mut self.state, self.cgroups.as_deref(), now);
            turn.effects(self.state.queue.tick(now), now);
            schedules::run_due(&mut self.state, now, &mut turn);
            desk::tick(&mut self.state, now, &mut turn);
            desk::follow(&mut self.state, now, &mut turn);
            let mut taken = 0;
            while let Some(input) = next.take() {
                self.take(input, now, &mut turn);
                desk::follow(&mut self.state, now, &mut turn);
                taken += 1;
                next = if taken < TURN_MAX { inputs.try_recv().ok() } else { None };
            }
            plans::settle(&mut self.state, now, &mut turn);
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
            Input::Add(additions, reply) => {
                let mut after = additions.specs.iter().flat_map(|(spec, _)| &spec.terms.after);
                if after.all(|needed| state.queue.knows(*needed) || additions.ended.contains(needed)) {
                    turn.add(*additions, now, reply);
                } else {
                    turn.reply(reply, None);
                }
            }
            Input::Decide(decide) => decide(state, now, turn),
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
                turn.effects(state.queue.retry(*task, now), now);
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
                        if matches!(report.ended.reason(), Some(Reason::Oom | Reason::MemoryPressure)) {
                            sizes::look_at(state, self.cgroups.as_deref(), &instance);
                        }
                        turn.effects(state.queue.finished(&instance, &account, attempt, &report, now), now);
                    }
                }
                turn.tell(to, FromDaemon::Ack { seq });
            }
            Input::Progress(instance, progress) => {
                turn.effects(state.queue.costs(&instance, progress.attempt, progress.usage.cost, now), now);
                state.progress.insert(instance, progress);
                self.logs.notify_waiters();
            }
            Input::Draining(instance) => state.queue.draining(&instance),
            Input::Retired(instance) => turn.effects(state.queue.retired(&instance, now), now),
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
                turn.effects(state.queue.reserve(&instance, on, now), now);
                if !state.queue.is_reserved(&instance) {
                    self.jobs.forget(&instance);
                }
            }
            Input::Worktree(instance, seen) => {
                match &seen {
                    Some(seen) => drop(state.worktrees.insert(instance.clone(), seen.clone())),
                    None => drop(state.worktrees.remove(&instance)),
                }
                turn.batch.worktrees.push((instance, seen));
            }
            Input::Unit(event) => {
                let all_seen = event == UnitEvent::CaughtUp;
                state.fleet.take(event, &mut state.queue, now, turn);
                sizes::look(state, self.cgroups.as_deref());
                turn.effects(state.queue.look_again(now), now);
                if all_seen {
                    // What was under way when clauded ended, or when the supervisor was out of reach.
                    turn.effects(state.queue.limits(), now);
                }
            }
            Input::Limited(instance, attempt, back, outcome) => turn.effects(state.queue.limited(&instance, attempt, back, &outcome, now), now),
            Input::Configure(config) => {
                turn.note("config-reloaded", None, None, "a new configuration is in force".to_owned(), None, now);
                turn.effects(state.queue.configure(rules::of(&config), now), now);
                state.config = config;
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
            let (begun, State { queue, post, plans, .. }) = (Instant::now(), &mut self.state);
            let follow = |ids: &[TaskId]| {
                let adders: BTreeMap<TaskId, Actor> = ids.iter().copied().zip(turn.adders.drain(..)).collect();
                for (id, (spec, _)) in ids.iter().zip(&turn.batch.add) {
                    second.actor = adders.get(id).cloned().unwrap_or_default();
                    let details = json!({"title": spec.title, "type": spec.kind.as_str()});
                    let target = spec.target.instance();
                    second.audit("task-added", now, |entry| entry.of_task(Some(*id)).of_instance(target).with(&details));
                    second.note("task-added", None, Some(*id), spec.title.clone(), None, now);
                }
                for effect in queue.added_many(Turn::fresh(&turn.batch, ids), now) {
                    second.actor = effect.task().and_then(|id| adders.get(&id)).cloned().unwrap_or_default();
                    second.effects(vec![effect], now);
                }
                mail::queued(post, &turn.errands, ids, now, &mut second);
                plans::numbered(plans, queue, &turn.planned, ids, now, &mut second);
                std::mem::take(&mut second.batch)
            };
            match self.store.commit_with(&turn.batch, follow).await {
                Ok(ids) => {
                    self.metrics.store_commit(begun.elapsed());
                    self.state.store_problem = None;
                    for (name, place) in &turn.scheduled {
                        ids.get(*place).into_iter().for_each(|id| self.state.schedules.ran(name, *id));
                    }
                    let mut ids = ids.into_iter();
                    for (count, reply) in turn.adds.drain(..) {
                        let _ = reply.send(Ok(Some(ids.by_ref().take(count).collect())));
                    }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    let (looks, part) = turn.fail(&error);
                    return Err(Failed { error, looks, part });
                }
            }
        }
        self.state.queue.committed();
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
        ((self.state.queue, self.state.post, self.state.plans), self.state.desk, self.state.schedules) = loop {
            let loaded = async {
                let (queue, post, plans) = load(&self.store, &self.state.config, &mut self.state.fleet).await?;
                // The verbs that have reserved an instance know nothing of this, and go on.
                Ok((
                    (queue.in_place_of(&self.state.queue), post, plans),
                    Desk::load(&self.store).await?,
                    Schedules::load(self.store.schedules().await?, Timestamp::now()),
                ))
            };
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

/// The queue, the post and the plans as the store has them; the fleet is told what was told of it.
async fn load(store: &SqliteStore, config: &Config, fleet: &mut Fleet) -> Result<(Queue, Post, Plans), StoreError> {
    fleet.recall(store.restarts().await?, store.marks().await?);
    let (last, plans) = store.live_plans().await?;
    Ok((Queue::load(store.queue().await?, rules::of(config)), store.post().await?, Plans::load(last, plans)))
}

async fn sleep_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
