//! A small world around the queue: a store that has exactly what was saved, a daemon that crashes, and runners that behave as
//! `proto::link` says (they spool, reconnect, send again, and run an attempt once). It knows the truth, the queue only hears of it.

mod invariants;

use super::{at, name};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use crate::core::queue::{Change, Effect, Hello, Queue, unseen};
use crate::core::task::{Placement, Target, Task, TaskState, TaskType};
use crate::core::usage::Usd;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What happens in one step. Instances and tasks are chosen modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Add {
        target: Option<usize>,
        budget: Option<u64>,
    },
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
    CrashDaemon,
    StartDaemon,
    /// The next transaction fails, or the daemon dies right after it.
    Trouble(Trouble),
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
    // The truth.
    cancelled: BTreeSet<TaskId>,
    truth: BTreeMap<AttemptId, Report>,
}

impl World {
    pub(super) fn new() -> Self {
        let instances = ["a", "b", "c"].map(|text| (name(text), Instance::default())).into();
        let (queue, now) = (Some(Queue::default()), at(1_000_000));
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
            cancelled: BTreeSet::new(),
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
            Step::Add { target, budget } => self.add(target, budget),
            Step::Cancel(index) => self.cancel(index),
            Step::Retry(index) => {
                if let Some(task) = self.pick_task(index).and_then(|id| self.tasks.get(&id)).filter(|task| task.state.is_final()).cloned() {
                    let id = task.id;
                    if self.call(|queue, _| queue.retry(task)) {
                        self.cancelled.remove(&id);
                    }
                }
            }
            Step::Pass(seconds) => {
                self.now += SignedDuration::from_secs(seconds);
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
            Step::CrashDaemon => self.crash(),
            Step::StartDaemon => self.start_daemon(),
            Step::Trouble(trouble) => self.trouble = Some(trouble),
        }
        self.check();
    }

    /// One call of the daemon's: the queue decides, the store commits, then the rest is done. `true` if it was committed.
    fn call(&mut self, decide: impl FnOnce(&mut Queue, Timestamp) -> Vec<Effect>) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        let effects = decide(queue, self.now);
        let holds = queue.holds().map(|(account, until)| (account.to_owned(), until)).collect();
        let trouble = self.trouble.take();
        if trouble == Some(Trouble::BeforeCommit) {
            self.crash();
            return false;
        }
        self.holds = holds;
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
                Effect::Save(_) => {}
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
                *stored = Task { cost, ..(**task).clone() };
            }
            Change::Attempt(placement) => {
                assert!(!self.attempts.contains_key(&placement.attempt), "{placement:?} was given away before");
                self.attempts.insert(placement.attempt, (placement.clone(), None));
            }
            Change::Report(attempt, instance, report) => {
                assert_eq!(self.attempts[attempt].0.instance, *instance);
                self.attempts.get_mut(attempt).expect("a report on an attempt that is stored").1 = Some((**report).clone());
                let cost = self.attempts.range(all_of(attempt.task)).filter_map(|(_, (_, report))| report.as_ref()).map(|report| report.agent.cost.0).sum();
                self.tasks.get_mut(&attempt.task).expect("a report on a task that is stored").cost = Usd(cost);
            }
        }
    }

    fn tell(&mut self, instance: &InstanceName, message: FromDaemon) {
        let found = self.instances.iter_mut().find(|(name, _)| name == instance).expect("an instance");
        found.1.connection.as_mut().expect("the queue speaks to connected runners alone").to_runner.push_back(message);
    }

    fn add(&mut self, target: Option<usize>, budget: Option<u64>) {
        let target = target.map_or(Target::Any, |index| Target::Instance(self.instances[self.pick(index)].0.clone()));
        let id = TaskId(self.tasks.len() as i64 + 1);
        let state = TaskState::Pending { not_before: None };
        let kind = TaskType::default();
        let (created, budget) = (self.now, budget.map(Usd));
        let task = Task { id, target, kind, created, state, attempts: 0, failures: 0, home: None, cost: Usd(0), budget, cancelling: false };
        if self.queue.is_some() {
            // The store gives the number, so the task is stored before the queue has it.
            self.tasks.insert(id, task.clone());
            self.call(|queue, _| queue.added(task));
        }
    }

    fn cancel(&mut self, index: usize) {
        let Some(id) = self.pick_task(index) else { return };
        let live = !self.tasks[&id].state.is_final();
        let mut accepted = false;
        let committed = self.call(|queue, now| {
            let (answer, effects) = queue.cancel(id, now);
            accepted = answer;
            effects
        });
        if committed {
            assert_eq!(accepted, live);
        }
        if committed && live {
            self.cancelled.insert(id);
        }
    }

    fn start_unit(&mut self, index: usize, knows: bool) {
        self.reap(index);
        let instance = &mut self.instances[index].1;
        if instance.invocation.is_some() {
            return;
        }
        self.invocations += 1;
        instance.invocation = InvocationId::from_bytes(&[self.invocations; 16]);
        instance.draining = false;
        // A new runner reports what its predecessor left unfinished, unless it lost its records.
        let spooled = |attempt: &AttemptId| instance.spool.iter().any(|(_, event)| matches!(event, Event::Finished(other, _) if other == attempt));
        let unfinished: Vec<AttemptId> = instance.accepted.iter().filter(|a| !self.truth.contains_key(a) && !spooled(a)).copied().collect();
        if knows {
            for attempt in unfinished {
                let report = unseen(Ended::Failed { reason: Reason::Lost, transient: true }, "found by the next runner", self.now);
                self.truth.insert(attempt, report.clone());
                instance.say(Event::Finished(attempt, Box::new(report)));
            }
        }
    }

    /// The kernel and systemd see to it that nothing of an invocation is left before it is over.
    fn reap(&mut self, index: usize) {
        let (name, instance) = &mut self.instances[index];
        if let Some(invocation) = instance.orphaned.take() {
            instance.alive = None;
            self.unit_events.push_back((name.clone(), invocation, false));
        }
    }

    /// The first half of an orderly stop: the runner says that it takes nothing more.
    fn drain(&mut self, index: usize) {
        let instance = &mut self.instances[index].1;
        if instance.invocation.is_some() && !instance.draining {
            instance.draining = true;
            if let Some(connection) = &mut instance.connection {
                connection.to_daemon.push_back(FromRunner::Draining);
            }
        }
    }

    fn stop_unit(&mut self, index: usize) {
        self.finish(index, Ended::Interrupted, 1);
        let (name, instance) = &mut self.instances[index];
        let Some(invocation) = instance.invocation.take() else { return };
        self.unit_events.push_back((name.clone(), invocation, true));
        self.disconnect(index);
    }

    fn kill_runner(&mut self, index: usize) {
        let instance = &mut self.instances[index].1;
        if let Some(invocation) = instance.invocation.take() {
            instance.orphaned = Some(invocation);
            self.disconnect(index);
        }
    }

    fn connect(&mut self, index: usize) {
        let instance = &mut self.instances[index].1;
        if self.queue.is_none() || instance.invocation.is_none() || instance.connection.is_some() {
            return;
        }
        let mut connection = Connection::default();
        connection.to_daemon.push_back(FromRunner::Hello { current: instance.alive, spooled: instance.spool.len() });
        connection.to_daemon.extend(instance.spool.iter().map(|(seq, event)| FromRunner::Event(*seq, event.clone())));
        if instance.draining {
            connection.to_daemon.push_back(FromRunner::Draining);
        }
        instance.connection = Some(connection);
    }

    /// What was under way in the connection is lost.
    fn disconnect(&mut self, index: usize) {
        let (name, instance) = &mut self.instances[index];
        let last = instance.invocation.clone().or(instance.orphaned.clone()).or(self.unit_events.back().map(|event| event.1.clone()));
        if instance.connection.take().is_some()
            && let (Some(queue), Some(invocation)) = (&mut self.queue, last)
        {
            queue.unlinked(name, &invocation);
        }
    }

    fn daemon_hears(&mut self, index: usize) {
        let account = ["x", "y"][index % 2];
        let (name, instance) = &mut self.instances[index];
        let name = name.clone();
        let Some(invocation) = instance.invocation.clone() else { return };
        let Some(connection) = &mut instance.connection else { return };
        let mut seen = None;
        match connection.to_daemon.pop_front() {
            None => return,
            Some(FromRunner::Hello { current, spooled }) => connection.greeting = Some((current, spooled)),
            Some(FromRunner::Draining) => {
                self.call(|queue, _| {
                    queue.draining(&name);
                    Vec::new()
                });
                return;
            }
            Some(FromRunner::Event(seq, event)) => {
                if let Some((_, left)) = &mut connection.greeting {
                    *left -= 1;
                }
                seen = Some((seq, event));
            }
        }
        if let Some((seq, event)) = seen {
            let committed = self.call(|queue, now| match &event {
                Event::Started(attempt) => queue.started(&name, &invocation, *attempt),
                Event::Finished(attempt, report) => queue.finished(&name, account, *attempt, report, now),
            });
            if committed && self.instances[index].1.connection.is_some() {
                self.tell(&name, FromDaemon::Ack(seq));
            }
        }
        let connection = &mut self.instances[index].1.connection;
        if let Some(connection) = connection
            && let Some((current, 0)) = connection.greeting
        {
            connection.greeting = None;
            let hello = Hello { instance: name.clone(), invocation, account: account.to_owned(), current };
            self.call(|queue, now| queue.linked(hello, now));
        }
    }

    fn runner_hears(&mut self, index: usize) {
        let instance = &mut self.instances[index].1;
        let Some(message) = instance.connection.as_mut().and_then(|connection| connection.to_runner.pop_front()) else { return };
        match message {
            FromDaemon::Ack(seq) => instance.spool.retain(|(number, _)| *number > seq),
            FromDaemon::End(attempt) if instance.alive == Some(attempt) => self.finish(index, Ended::Cancelled, 1),
            FromDaemon::End(_) => {}
            FromDaemon::Run(attempt) if instance.alive == Some(attempt) => {}
            FromDaemon::Run(_) if instance.draining => {}
            FromDaemon::Run(attempt) => {
                assert_eq!(instance.alive, None, "an idle runner is given {attempt}");
                assert!(instance.accepted.insert(attempt), "{attempt} is run twice");
                instance.alive = Some(attempt);
                instance.say(Event::Started(attempt));
            }
        }
    }

    fn finish(&mut self, index: usize, ended: Ended, cost: u64) {
        let instance = &mut self.instances[index].1;
        // Processes whose runner is dead end without anyone's word.
        if instance.invocation.is_none() {
            return;
        }
        let Some(attempt) = instance.alive.take() else { return };
        let mut report = unseen(ended, "as it was", self.now);
        report.agent.cost = Usd(cost);
        self.truth.insert(attempt, report.clone());
        instance.say(Event::Finished(attempt, Box::new(report)));
    }

    fn unit_event(&mut self) {
        for index in 0..self.instances.len() {
            self.reap(index);
        }
        if self.queue.is_some()
            && let Some((name, invocation, orderly)) = self.unit_events.pop_front()
        {
            self.call(|queue, now| queue.invocation_over(&name, &invocation, orderly, "systemd says so", now));
        }
    }

    fn crash(&mut self) {
        self.queue = None;
        self.unit_events.clear();
        self.instances.iter_mut().for_each(|(_, instance)| instance.connection = None);
    }

    /// The daemon loads its store and looks at the units: what is placed in an invocation that is no more is over.
    fn start_daemon(&mut self) {
        if self.queue.is_some() {
            return;
        }
        let live = self.tasks.values().filter(|task| !task.state.is_final()).cloned();
        self.queue = Some(Queue::load(live, self.holds.clone()));
        let placed: Vec<Placement> = self.tasks.values().filter_map(|task| task.state.placement()).cloned().collect();
        for placement in placed {
            let (_, instance) = self.instances.iter().find(|(name, _)| *name == placement.instance).expect("an instance");
            if [&instance.invocation, &instance.orphaned].into_iter().flatten().all(|invocation| *invocation != placement.invocation) {
                self.unit_events.push_back((placement.instance, placement.invocation, false));
            }
        }
    }

    /// Lets everything connect and time pass, until nothing is left to do.
    pub(super) fn settle(&mut self) {
        self.trouble = None;
        for _ in 0..400 {
            self.step(Step::StartDaemon);
            for index in 0..self.instances.len() {
                if self.instances[index].1.draining {
                    self.step(Step::StopUnit(index));
                }
                self.step(Step::StartUnit(index, true));
                self.step(Step::Connect(index));
                while self.instances[index].1.connection.as_ref().is_some_and(|c| !c.to_daemon.is_empty() || !c.to_runner.is_empty()) {
                    self.step(Step::ToDaemon(index));
                    self.step(Step::ToRunner(index));
                }
                self.step(Step::Finish(index, Ended::Succeeded, 1));
            }
            while !self.unit_events.is_empty() {
                self.step(Step::UnitEvent);
            }
            if self.tasks.values().all(|task| task.state.is_final()) {
                return;
            }
            let wake = self.queue.as_ref().and_then(Queue::next_wake);
            self.step(Step::Pass(wake.map_or(0, |wake| wake.duration_since(self.now).as_secs().max(0) + 1)));
        }
        panic!("these never end: {:#?}\n{:#?}", self.tasks.values().filter(|task| !task.state.is_final()).collect::<Vec<_>>(), self.instances);
    }
}

fn all_of(task: TaskId) -> std::ops::RangeInclusive<AttemptId> {
    AttemptId { task, number: 0 }..=AttemptId { task, number: u32::MAX }
}
