//! A small world around the queue: a store that has exactly what was saved, a daemon that crashes, and runners that behave as
//! `proto::link` says (they spool, reconnect, send again, and run an attempt once). It knows the truth, the queue only hears of it.

mod daemon;
mod invariants;
mod people;
mod runners;

use super::{at, name};
use crate::core::attempt::{Ended, Report};
use crate::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use crate::core::label::Label;
use crate::core::pool::{Budget, Member, Rules};
use crate::core::queue::{Change, Effect, Pause, Queue, Scope, Spent, Stored};
use crate::core::size::{Bounds, Raise};
use crate::core::task::{Placement, Task, TaskState};
use crate::core::usage::Usd;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What happens in one step. Instances and tasks are chosen modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Add {
        target: Option<usize>,
        budget: Option<u64>,
        wishes: Wishes,
    },
    /// A person claims it, or the agent of an instance.
    Claim(usize, Option<usize>),
    Complete(usize, bool),
    Release(usize),
    Pause(usize),
    Resume(usize),
    /// What an instance's attempt has cost so far.
    Costs(usize, u64),
    Cancel(usize),
    Retry(usize),
    /// Time passes, or the clock is set back.
    Pass(i64),
    StartUnit(usize, bool),
    Drain(usize),
    StopUnit(usize),
    KillRunner(usize),
    Connect(usize),
    Disconnect(usize),
    ToDaemon(usize),
    ToRunner(usize),
    Finish(usize, Ended, u64),
    UnitEvent,
    /// The supervisor sets the next limit that it was asked for, or refuses to raise it.
    SetLimit(bool),
    CrashDaemon,
    StartDaemon,
    /// The next transaction fails, or the daemon dies right after it.
    Trouble(Trouble),
}

/// The memory limit of every instance.
const LIMIT: u64 = 1 << 30;

/// On which terms a task is added.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    pub(super) priority: i64,
    pub(super) after: Vec<usize>,
    pub(super) release: bool,
    pub(super) group: bool,
    pub(super) special: bool,
    pub(super) not_before: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    BeforeCommit,
    AfterCommit,
}

#[derive(Clone, Debug)]
enum Event {
    Started(AttemptId),
    Finished(AttemptId, Box<Report>),
}

#[derive(Clone, Debug)]
enum FromRunner {
    Hello { current: Option<AttemptId>, spooled: usize },
    Event(u64, Event),
    Draining,
}

#[derive(Clone, Debug)]
enum FromDaemon {
    Run(AttemptId),
    End(AttemptId),
    Ack(u64),
}

/// A connection between a runner and the daemon, with what is under way in it.
#[derive(Debug, Default)]
struct Connection {
    to_daemon: VecDeque<FromRunner>,
    to_runner: VecDeque<FromDaemon>,
    /// The runner's hello and how many of its spooled events the daemon still waits for.
    greeting: Option<(Option<AttemptId>, usize)>,
}

/// An instance as it really is.
#[derive(Debug, Default)]
struct Instance {
    invocation: Option<InvocationId>,
    /// The attempt whose processes live.
    alive: Option<AttemptId>,
    /// The invocation whose runner was killed while its processes may go on: the unit is not over before they are gone.
    orphaned: Option<InvocationId>,
    draining: bool,
    connection: Option<Connection>,
    // On disk.
    spool: VecDeque<(u64, Event)>,
    sequence: u64,
    accepted: BTreeSet<AttemptId>,
}

impl Instance {
    fn say(&mut self, event: Event) {
        self.sequence += 1;
        self.spool.push_back((self.sequence, event.clone()));
        if let Some(connection) = &mut self.connection {
            connection.to_daemon.push_back(FromRunner::Event(self.sequence, event));
        }
    }
}

#[derive(Debug)]
pub(super) struct World {
    now: Timestamp,
    pub(super) queue: Option<Queue>,
    instances: Vec<(InstanceName, Instance)>,
    invocations: u8,
    unit_events: VecDeque<(InstanceName, InvocationId, bool)>,
    trouble: Option<Trouble>,
    // The store.
    pub(super) tasks: BTreeMap<TaskId, Task>,
    attempts: BTreeMap<AttemptId, (Placement, Option<Report>)>,
    holds: BTreeMap<String, Timestamp>,
    pauses: BTreeMap<Scope, Pause>,
    spent: Vec<Spent>,
    raises: BTreeMap<InstanceName, Raise>,
    /// On their way from the daemon to the supervisor.
    orders: VecDeque<(InstanceName, Raise, bool)>,
    // The truth.
    /// The memory limits of the instances that have not their own.
    limits: BTreeMap<InstanceName, u64>,
    cancelled: BTreeSet<TaskId>,
    /// Those that have failed or were cancelled at some time.
    failed: BTreeSet<TaskId>,
    completed: BTreeMap<TaskId, bool>,
    /// The latest that it has been.
    latest: Timestamp,
    truth: BTreeMap<AttemptId, Report>,
}

impl World {
    pub(super) fn new() -> Self {
        let instances = ["a", "b", "c"].map(|text| (name(text), Instance::default())).into();
        let (queue, now) = (Some(Queue::load(Stored::default(), rules())), at(1_000_000));
        Self {
            now,
            queue,
            instances,
            invocations: 0,
            unit_events: VecDeque::new(),
            trouble: None,
            tasks: BTreeMap::new(),
            attempts: BTreeMap::new(),
            holds: BTreeMap::new(),
            pauses: BTreeMap::new(),
            spent: Vec::new(),
            raises: BTreeMap::new(),
            orders: VecDeque::new(),
            limits: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            failed: BTreeSet::new(),
            completed: BTreeMap::new(),
            latest: now,
            truth: BTreeMap::new(),
        }
    }

    fn pick(&self, index: usize) -> usize {
        index % self.instances.len()
    }

    fn pick_task(&self, index: usize) -> Option<TaskId> {
        self.tasks.keys().nth(index % self.tasks.len().max(1)).copied()
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Add { target, budget, wishes } => self.add(target, budget, &wishes),
            Step::Claim(index, agent) => self.claim(index, agent),
            Step::Complete(index, failed) => self.complete(index, failed),
            Step::Release(index) => {
                if let Some(id) = self.pick_task(index) {
                    self.call(|queue, now| queue.release(id, None, now).unwrap_or_default());
                }
            }
            Step::Pause(index) => {
                let pause = Pause { by: "p".to_owned(), why: String::new(), since: self.now };
                self.call(|queue, _| queue.pause(scope(index), pause).1);
            }
            Step::Resume(index) => {
                self.call(|queue, now| queue.resume(scope(index), "p", now).1);
            }
            Step::Costs(index, cost) => {
                let (name, instance) = &self.instances[self.pick(index)];
                if let (name, Some(attempt), true) = (name.clone(), instance.alive, instance.connection.is_some()) {
                    self.call(|queue, now| queue.costs(&name, attempt, Usd(cost), now));
                }
            }
            Step::Cancel(index) => self.cancel(index),
            Step::Retry(index) => {
                if let Some(task) = self.pick_task(index).and_then(|id| self.tasks.get(&id)).filter(|task| task.state.is_final()).cloned() {
                    let id = task.id;
                    if self.call(|queue, now| queue.retry(task, now)) {
                        self.cancelled.remove(&id);
                        self.completed.remove(&id);
                    }
                }
            }
            Step::Pass(seconds) => {
                self.now += SignedDuration::from_secs(seconds);
                self.latest = self.latest.max(self.now);
                if self.call(|queue, now| queue.tick(now))
                    && let Some(queue) = &self.queue
                {
                    queue.check_delays(self.now);
                }
            }
            Step::StartUnit(index, knows) => self.start_unit(self.pick(index), knows),
            Step::Drain(index) => self.drain(self.pick(index)),
            Step::StopUnit(index) => self.stop_unit(self.pick(index)),
            Step::KillRunner(index) => self.kill_runner(self.pick(index)),
            Step::Connect(index) => self.connect(self.pick(index)),
            Step::Disconnect(index) => self.disconnect(self.pick(index)),
            Step::ToDaemon(index) => self.daemon_hears(self.pick(index)),
            Step::ToRunner(index) => self.runner_hears(self.pick(index)),
            Step::Finish(index, ended, cost) => self.finish(self.pick(index), ended, cost),
            Step::UnitEvent => self.unit_event(),
            Step::SetLimit(granted) => self.set_limit(granted),
            Step::CrashDaemon => self.crash(),
            Step::StartDaemon => self.start_daemon(),
            Step::Trouble(trouble) => self.trouble = Some(trouble),
        }
        self.check();
    }

    /// One call of the daemon's: the queue decides, the store commits, then the rest is done. `true` if it was committed.
    fn call(&mut self, decide: impl FnOnce(&mut Queue, Timestamp) -> Vec<Effect>) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        // As the engine does: what bounds those whose limits may have to be raised is looked at before.
        for (name, _) in &self.instances {
            let max = self.limits.get(name).copied().unwrap_or(LIMIT);
            queue.memory_bounds(name, Some(Bounds { max: Some(max), ..Bounds::default() }));
        }
        let effects = decide(queue, self.now);
        let holds = queue.holds().map(|(account, until)| (account.to_owned(), until)).collect();
        let trouble = self.trouble.take();
        if trouble == Some(Trouble::BeforeCommit) {
            self.crash();
            return false;
        }
        self.holds = holds;
        if let Some(queue) = &mut self.queue {
            queue.committed();
        }
        for effect in &effects {
            if let Effect::Save(change) = effect {
                self.save(change);
            }
        }
        if trouble == Some(Trouble::AfterCommit) {
            self.crash();
            return true;
        }
        for effect in effects {
            match effect {
                Effect::Save(_) | Effect::Tell { .. } => {}
                Effect::Run { placement, resume } => {
                    let task = &self.tasks[&placement.attempt.task];
                    assert_eq!(task.state.placement(), Some(&placement), "committed before it is acted on");
                    assert_eq!(self.attempts[&placement.attempt].0, placement);
                    assert!(self.attempts[&placement.attempt].1.is_none(), "{placement:?} is over");
                    assert_eq!(resume, task.home.as_ref() == Some(&placement.instance));
                    self.tell(&placement.instance, FromDaemon::Run(placement.attempt));
                }
                Effect::Ended { attempt, .. } | Effect::Used { attempt, .. } => {
                    assert!(self.attempts[&attempt].1.is_some(), "{attempt} is counted and not saved")
                }
                Effect::Limit { instance, raise, back } => {
                    assert_eq!(self.raises.get(&instance), Some(&raise), "what the limit was is on disk before it changes");
                    self.orders.push_back((instance, raise, back));
                }
                Effect::End { instance, attempt } => self.tell(&instance, FromDaemon::End(attempt)),
            }
        }
        true
    }

    fn save(&mut self, change: &Change) {
        match change {
            Change::Task(task) => {
                let stored = self.tasks.get_mut(&task.id).expect("a change of a task that is stored");
                let cost = stored.cost;
                if matches!(task.state, TaskState::Failed(_) | TaskState::Cancelled) {
                    self.failed.insert(task.id);
                }
                *stored = Task { cost, ..(**task).clone() };
            }
            Change::Attempt(placement) => {
                assert!(!self.attempts.contains_key(&placement.attempt), "{placement:?} was given away before");
                self.attempts.insert(placement.attempt, (placement.clone(), None));
                self.check_start(placement);
            }
            Change::Report(attempt, instance, report) => {
                assert_eq!(self.attempts[attempt].0.instance, *instance);
                self.attempts.get_mut(attempt).expect("a report on an attempt that is stored").1 = Some((**report).clone());
                let cost = self.attempts.range(all_of(attempt.task)).filter_map(|(_, (_, report))| report.as_ref()).map(|report| report.agent.cost.0).sum();
                self.tasks.get_mut(&attempt.task).expect("a report on a task that is stored").cost = Usd(cost);
            }
            Change::Pause(scope, Some(pause)) => {
                self.pauses.insert(scope.clone(), pause.clone());
            }
            Change::Pause(scope, None) => {
                self.pauses.remove(scope);
            }
            Change::Raise(instance, Some(raise)) => {
                assert_eq!(raise.max, LIMIT, "what an instance gets back is its own limit");
                self.raises.insert(instance.clone(), raise.clone());
            }
            Change::Raise(instance, None) => {
                assert_eq!(self.limits.get(instance), None, "{instance} has its own limit again");
                self.raises.remove(instance);
            }
            Change::Spend(day, instance, cost) => self.spent.push(Spent { day: *day, instance: instance.clone(), cost: *cost }),
        }
    }

    fn tell(&mut self, instance: &InstanceName, message: FromDaemon) {
        let found = self.instances.iter_mut().find(|(name, _)| name == instance).expect("an instance");
        found.1.connection.as_mut().expect("the queue speaks to connected runners alone").to_runner.push_back(message);
    }
}

/// What the instances bring, and how much may run at once.
fn rules() -> Rules {
    let special = |name: &str| {
        let specialties = if name == "c" { BTreeSet::new() } else { [label("s")].into() };
        let day = (name == "b").then_some(Usd(20));
        Member { specialties, repository: (name != "a").then(|| label("r")), budget: Budget { total: None, day }, ..Member::default() }
    };
    Rules {
        size_classes: vec![LIMIT, 2 * LIMIT],
        members: ["a", "b", "c"].map(|text| (name(text), special(text))).into(),
        groups: [(label("g"), 1)].into(),
        repositories: [(label("r"), 1)].into(),
        ..Rules::default()
    }
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

/// One of those that can be paused.
fn scope(index: usize) -> Scope {
    [Scope::All, Scope::Instance(name("a")), Scope::Group(label("g")), Scope::Account("x".to_owned())].into_iter().nth(index % 4).expect("one")
}

fn all_of(task: TaskId) -> std::ops::RangeInclusive<AttemptId> {
    AttemptId { task, number: 0 }..=AttemptId { task, number: u32::MAX }
}
