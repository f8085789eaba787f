//! The queue, pure: every transition of every task is decided here and leaves as effects, in the order to perform them.
//!
//! The caller commits all [`Effect::Save`] of a call to the store before it performs any other effect of it. If that fails it
//! throws this queue away and loads it again: the store is the truth, this is its working copy.

mod index;
mod retire;

use super::attempt::{Ended, Reason, Report};
use super::delivery::Stage;
use super::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use super::retry::{self, Next};
use super::task::{Placement, Target, Task, TaskState, TaskType};
use index::{Placed, Ready};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Commit to the store, before everything else.
    Save(Change),
    /// Tell the runner to run it. It answers "started"; the same attempt may be sent twice and is run once.
    Run {
        /// Which attempt, where.
        placement: Placement,
        /// Whether the instance may go on in the task's last session.
        resume: bool,
    },
    /// An attempt has ended, for those who count and tell. Once, but for a success that comes after the attempt was given up.
    Ended {
        /// The attempt.
        attempt: AttemptId,
        /// The instance.
        instance: InstanceName,
        /// The task's kind.
        kind: TaskType,
        /// What became of it.
        report: Box<Report>,
    },
    /// What an attempt has used, for those who count: its runner's word, never a guess.
    Used {
        /// The attempt.
        attempt: AttemptId,
        /// The instance.
        instance: InstanceName,
        /// The task's kind.
        kind: TaskType,
        /// When the task was accepted.
        created: Timestamp,
        /// The report on it.
        report: Box<Report>,
    },
    /// Tell the runner to end it.
    End {
        /// The instance.
        instance: InstanceName,
        /// The attempt.
        attempt: AttemptId,
    },
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The task's row: state, counters, home. Its cost is the sum over its reports, which the store adds up itself, so that
    /// one that comes twice costs once.
    Task(Box<Task>),
    /// A new attempt was given to an instance.
    Attempt(Placement),
    /// What became of an attempt, if it is one of that instance; a second report replaces the first.
    Report(AttemptId, InstanceName, Box<Report>),
}

/// An instance whose runner is connected.
#[derive(Clone, Debug)]
struct Link {
    invocation: InvocationId,
    account: String,
    busy: Option<AttemptId>,
    draining: bool,
}

/// What a runner says of itself when it connects.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The instance.
    pub instance: InstanceName,
    /// The start of its unit.
    pub invocation: InvocationId,
    /// Whose usage limit it works under.
    pub account: String,
    /// What it is running.
    pub current: Option<AttemptId>,
}

/// All tasks that have not ended, the instances that can take them, and what holds them back.
#[derive(Debug, Default)]
pub struct Queue {
    tasks: BTreeMap<TaskId, Task>,
    links: BTreeMap<InstanceName, Link>,
    ready: Ready,
    placed: Placed,
    /// Attempts that were closed without their runner's word, and where they were; it may still come, and with it their cost.
    unheard: BTreeMap<AttemptId, InstanceName>,
    delayed: BTreeSet<(Timestamp, TaskId)>,
    holds: BTreeMap<String, Timestamp>,
    jitter: u64,
}

impl Queue {
    /// The queue as the store has it: all tasks that have not ended, and the holds in force.
    pub fn load(tasks: impl IntoIterator<Item = Task>, holds: impl IntoIterator<Item = (String, Timestamp)>) -> Self {
        let mut queue = Self { holds: holds.into_iter().collect(), ..Self::default() };
        for task in tasks {
            queue.place(&task);
            queue.tasks.insert(task.id, task);
        }
        queue
    }

    /// A task that has not ended.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    /// All tasks that have not ended, in order of arrival.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// The usage limits in force: account and reset time.
    pub fn holds(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.holds.iter().map(|(account, until)| (account.as_str(), *until))
    }

    /// What the instance is running, as far as its runner is connected.
    pub fn busy(&self, name: &InstanceName) -> Option<AttemptId> {
        self.links.get(name).and_then(|link| link.busy)
    }

    /// What was given to the instance and has not ended, whether its runner is connected or not.
    pub fn attempt_on(&self, name: &InstanceName) -> Option<AttemptId> {
        self.placed_on(name).filter_map(|task| task.state.placement()).map(|placement| placement.attempt).next()
    }

    /// The start of its unit that the instance's runner belongs to, while it is connected.
    pub fn invocation(&self, name: &InstanceName) -> Option<&InvocationId> {
        self.links.get(name).map(|link| &link.invocation)
    }

    /// Whether the instance's runner is connected.
    pub fn is_linked(&self, name: &InstanceName) -> bool {
        self.links.contains_key(name)
    }

    /// When something will become possible without anyone saying so; call [`Queue::tick`] then.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        delayed.into_iter().chain(self.holds.values().copied()).min()
    }

    /// Takes a task that the store has just given a number.
    pub fn added(&mut self, task: Task) -> Vec<Effect> {
        self.place(&task);
        self.tasks.insert(task.id, task);
        self.dispatch()
    }

    /// Time has passed: what waited for it may go on.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        self.holds.retain(|_, until| *until > now);
        let mut effects = self.shorten(now);
        while let Some((at, id)) = self.delayed.first().copied() {
            if at > now {
                break;
            }
            self.delayed.remove(&(at, id));
            if let Some(task) = self.tasks.get_mut(&id) {
                task.state = TaskState::Pending { not_before: None };
                self.ready.add(task);
            }
        }
        effects.extend(self.dispatch());
        effects
    }

    /// A wait that is longer than any back-off was set before the clock was set back, and would last as long as the clock
    /// went. Usage limits are the service's own times, and stay.
    fn shorten(&mut self, now: Timestamp) -> Vec<Effect> {
        let Ok(latest) = now.checked_add(retry::LONGEST) else { return Vec::new() };
        let far = self.delayed.range((Bound::Excluded((latest, TaskId(i64::MAX))), Bound::Unbounded));
        let wrong: Vec<TaskId> = far.filter(|(at, _)| !self.holds.values().any(|until| until == at)).map(|(_, id)| *id).collect();
        wrong.into_iter().flat_map(|id| self.settle(id, TaskState::Pending { not_before: Some(latest) }, now)).collect()
    }

    /// A runner has connected, and its reports of before have been taken in with [`Queue::finished`].
    pub fn linked(&mut self, hello: Hello, now: Timestamp) -> Vec<Effect> {
        let Hello { instance, invocation, account, current } = hello;
        let mut effects = self.lost_unless(&instance, &invocation, now);
        let mut busy = None;
        let here: Vec<Task> = self.placed_on(&instance).cloned().collect();
        for task in here {
            match (&task.state, current) {
                (state, Some(running)) if state.placement().is_some_and(|p| p.attempt == running) => {
                    busy = Some(running);
                    if task.cancelling {
                        effects.push(Effect::End { instance: instance.clone(), attempt: running });
                    }
                    effects.extend(self.started(&instance, &invocation, running));
                }
                (TaskState::Assigned(p), None) => {
                    // It never reached the runner.
                    busy = Some(p.attempt);
                    if task.cancelling {
                        effects.extend(self.give_up(task.id, Ended::Cancelled, "cancelled before it began", now));
                        busy = None;
                    } else {
                        effects.push(Effect::Run { placement: p.clone(), resume: task.home.as_ref() == Some(&instance) });
                    }
                }
                (state, _) if state.placement().is_some() => {
                    let lost = Ended::Failed { reason: Reason::Lost, transient: true };
                    effects.extend(self.give_up(task.id, lost, "its runner does not know of it any more", now));
                }
                _ => {}
            }
        }
        if let Some(running) = current.filter(|r| busy != Some(*r)) {
            // Nobody waits for this one any more.
            effects.push(Effect::End { instance: instance.clone(), attempt: running });
            busy = Some(running);
        }
        self.links.insert(instance, Link { invocation, account, busy, draining: false });
        effects.extend(self.dispatch());
        effects
    }

    /// A runner's connection is gone. It goes on with what it does; nothing new is given to it.
    pub fn unlinked(&mut self, instance: &InstanceName, invocation: &InvocationId) {
        if self.links.get(instance).is_some_and(|link| link.invocation == *invocation) {
            self.links.remove(instance);
        }
    }

    /// The runner is about to stop and takes nothing more.
    pub fn draining(&mut self, instance: &InstanceName) {
        if let Some(link) = self.links.get_mut(instance) {
            link.draining = true;
        }
    }

    /// An invocation of an instance's unit is over: nothing of it runs any more.
    ///
    /// `orderly` says that it was stopped, not that it failed; then the task goes on later and nothing counts as a failure.
    pub fn invocation_over(&mut self, instance: &InstanceName, invocation: &InvocationId, orderly: bool, detail: &str, now: Timestamp) -> Vec<Effect> {
        self.unlinked(instance, invocation);
        let gone: Vec<TaskId> = self.placed_on(instance).filter(|t| t.state.placement().is_some_and(|p| p.invocation == *invocation)).map(|t| t.id).collect();
        let ended = if orderly { Ended::Interrupted } else { Ended::Failed { reason: Reason::Lost, transient: true } };
        let mut effects: Vec<Effect> = gone.into_iter().flat_map(|id| self.give_up(id, ended.clone(), detail, now)).collect();
        effects.extend(self.dispatch());
        effects
    }

    /// The runner says that the agent's process runs.
    pub fn started(&mut self, instance: &InstanceName, invocation: &InvocationId, attempt: AttemptId) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(&attempt.task) else { return Vec::new() };
        match &task.state {
            TaskState::Assigned(p) if p.attempt == attempt && p.instance == *instance && p.invocation == *invocation => {
                task.state = TaskState::Running(p.clone());
                task.home = Some(instance.clone());
                vec![Effect::Save(Change::Task(Box::new(task.clone())))]
            }
            _ => Vec::new(),
        }
    }

    /// The runner says that the attempt has come to another stage.
    pub fn entered(&mut self, instance: &InstanceName, invocation: &InvocationId, attempt: AttemptId, stage: Stage) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(&attempt.task) else { return Vec::new() };
        let Some(p) = task.state.placement().filter(|p| p.attempt == attempt && p.instance == *instance && p.invocation == *invocation) else {
            return Vec::new();
        };
        let state = match stage {
            Stage::Running => TaskState::Running(p.clone()),
            Stage::Verifying => TaskState::Verifying(p.clone()),
            Stage::Publishing => TaskState::Publishing(p.clone()),
        };
        if task.state == state {
            return Vec::new();
        }
        task.state = state;
        vec![Effect::Save(Change::Task(Box::new(task.clone())))]
    }

    /// The runner reports the end of an attempt. Reports may come twice, late, or from an invocation that is over. One that is
    /// on another instance's attempt changes nothing.
    ///
    /// `account` is whose usage limit the instance works under; it may not be linked yet.
    pub fn finished(&mut self, instance: &InstanceName, account: &str, attempt: AttemptId, report: &Report, now: Timestamp) -> Vec<Effect> {
        if let Some(link) = self.links.get_mut(instance)
            && link.busy == Some(attempt)
        {
            link.busy = None;
        }
        if let Some(at) = retry::reset(report).filter(|at| *at > now) {
            // An account may be at several limits; the last to reset holds it.
            let until = self.holds.entry(account.to_owned()).or_insert(at);
            *until = at.max(*until);
        }
        let placed = self.tasks.get(&attempt.task).map(|t| t.state.placement().is_some_and(|p| p.attempt == attempt && p.instance == *instance));
        let mut effects = match placed {
            Some(true) => {
                let used = self.used(instance, attempt, report);
                let mut effects = self.close(attempt.task, report, now);
                effects.extend(used);
                effects
            }
            Some(false) => self.late(instance, attempt, report, now),
            None => vec![Effect::Save(Change::Report(attempt, instance.clone(), Box::new(report.clone())))],
        };
        effects.extend(self.dispatch());
        effects
    }

    /// A person wants the task ended. `false` if it has ended already.
    pub fn cancel(&mut self, id: TaskId, now: Timestamp) -> (bool, Vec<Effect>) {
        let Some(task) = self.tasks.get_mut(&id) else { return (false, Vec::new()) };
        match task.state.placement().cloned() {
            Some(placement) => {
                task.cancelling = true;
                let mut effects = vec![Effect::Save(Change::Task(Box::new(task.clone())))];
                if self.links.contains_key(&placement.instance) {
                    effects.push(Effect::End { instance: placement.instance, attempt: placement.attempt });
                }
                (true, effects)
            }
            None => {
                let saved = self.settle(id, TaskState::Cancelled, now);
                (true, saved)
            }
        }
    }

    /// A person wants an ended task tried again. The caller has read it from the store.
    pub fn retry(&mut self, mut task: Task) -> Vec<Effect> {
        if self.tasks.contains_key(&task.id) {
            return Vec::new();
        }
        task.state = TaskState::Pending { not_before: None };
        task.failures = 0;
        task.cancelling = false;
        if task.target == Target::Any && task.home.as_ref().is_some_and(|home| !self.links.contains_key(home)) {
            task.home = None;
        }
        let mut effects = vec![Effect::Save(Change::Task(Box::new(task.clone())))];
        effects.extend(self.added(task));
        effects
    }

    /// A report on an attempt that was given up, or that another has followed. It is kept; a success that came in time counts.
    fn late(&mut self, instance: &InstanceName, attempt: AttemptId, report: &Report, now: Timestamp) -> Vec<Effect> {
        let mut effects = vec![Effect::Save(Change::Report(attempt, instance.clone(), Box::new(report.clone())))];
        let Some(task) = self.tasks.get_mut(&attempt.task) else { return effects };
        let unheard = self.unheard.get(&attempt) == Some(instance);
        // Whoever began the last attempt has its session.
        let last = task.attempts == attempt.number && (unheard || task.home.as_ref() == Some(instance));
        let waits = matches!(task.state, TaskState::Pending { .. });
        if unheard {
            self.unheard.remove(&attempt);
            task.cost += report.agent.cost;
            effects.extend(self.used(instance, attempt, report));
        }
        let Some(task) = self.tasks.get(&attempt.task) else { return effects };
        if waits && last && report.ended == Ended::Succeeded {
            effects.push(Effect::Ended { attempt, instance: instance.clone(), kind: task.kind.clone(), report: Box::new(report.clone()) });
            effects.extend(self.settle(attempt.task, TaskState::Succeeded, now));
        } else {
            effects.push(Effect::Save(Change::Task(Box::new(task.clone()))));
        }
        effects
    }

    /// The runner's word on an attempt at a task that has not ended.
    fn used(&self, instance: &InstanceName, attempt: AttemptId, report: &Report) -> Option<Effect> {
        let task = self.tasks.get(&attempt.task)?;
        let (kind, created) = (task.kind.clone(), task.created);
        Some(Effect::Used { attempt, instance: instance.clone(), kind, created, report: Box::new(report.clone()) })
    }

    /// Closes an attempt whose end nobody saw.
    fn give_up(&mut self, id: TaskId, ended: Ended, detail: &str, now: Timestamp) -> Vec<Effect> {
        let placement = self.tasks.get(&id).and_then(|task| task.state.placement()).cloned();
        let effects = self.close(id, &unseen(ended, detail, now), now);
        self.unheard.extend(placement.filter(|_| self.tasks.contains_key(&id)).map(|p| (p.attempt, p.instance)));
        effects
    }

    /// The end of the attempt that a task is placed in, and what follows for the task.
    fn close(&mut self, id: TaskId, report: &Report, now: Timestamp) -> Vec<Effect> {
        let jitter = self.next_jitter();
        let Some(task) = self.tasks.get_mut(&id) else { return Vec::new() };
        let Some(placement) = task.state.placement().cloned() else { return Vec::new() };
        let mut effects = vec![
            Effect::Save(Change::Report(placement.attempt, placement.instance.clone(), Box::new(report.clone()))),
            Effect::Ended { attempt: placement.attempt, instance: placement.instance, kind: task.kind.clone(), report: Box::new(report.clone()) },
        ];
        task.cost += report.agent.cost;
        let next = retry::after(&report.ended, task.failures, jitter);
        let broke = task.budget.is_some_and(|budget| task.cost >= budget);
        let state = match (&report.ended, next) {
            (Ended::Succeeded, _) => TaskState::Succeeded,
            (Ended::Cancelled, _) => TaskState::Cancelled,
            _ if task.cancelling => TaskState::Cancelled,
            (_, Next::Again(_) | Next::Resume) if broke => TaskState::Failed(Reason::Budget),
            (Ended::Failed { reason, .. }, Next::Final) => TaskState::Failed(*reason),
            (_, Next::Again(wait)) => {
                task.failures += 1;
                TaskState::Pending { not_before: now.checked_add(wait).ok() }
            }
            (Ended::Limited { .. }, _) => TaskState::Pending { not_before: retry::reset(report) },
            (_, Next::Resume | Next::Final) => TaskState::Pending { not_before: None },
        };
        effects.extend(self.settle(id, state, now));
        effects
    }

    /// Puts a task into a state, and out of the queue if that is final.
    fn settle(&mut self, id: TaskId, state: TaskState, now: Timestamp) -> Vec<Effect> {
        let Some(mut task) = self.tasks.remove(&id) else { return Vec::new() };
        self.ready.remove(&task);
        self.placed.remove(&task);
        if let TaskState::Pending { not_before: Some(at) } = task.state {
            self.delayed.remove(&(at, id));
        }
        task.state = match state {
            TaskState::Pending { not_before: Some(at) } if at <= now => TaskState::Pending { not_before: None },
            other => other,
        };
        let saved = Effect::Save(Change::Task(Box::new(task.clone())));
        if !task.state.is_final() {
            self.place(&task);
            self.tasks.insert(id, task);
        } else {
            self.unheard.retain(|attempt, _| attempt.task != id);
        }
        vec![saved]
    }

    /// Enters a task where it is looked for.
    fn place(&mut self, task: &Task) {
        match task.state {
            TaskState::Pending { not_before: None } => self.ready.add(task),
            TaskState::Pending { not_before: Some(at) } => {
                self.delayed.insert((at, task.id));
            }
            _ => self.placed.add(task),
        }
    }

    /// Gives every idle instance the oldest task that it may take.
    fn dispatch(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (name, link) in &mut self.links {
            if link.busy.is_some() || link.draining || self.holds.contains_key(&link.account) {
                continue;
            }
            let Some(task) = self.ready.first_for(name).and_then(|id| self.tasks.get_mut(&id)) else { continue };
            self.ready.remove(task);
            task.attempts += 1;
            let placement =
                Placement { attempt: AttemptId { task: task.id, number: task.attempts }, instance: name.clone(), invocation: link.invocation.clone() };
            link.busy = Some(placement.attempt);
            let resume = task.home.as_ref() == Some(name);
            task.state = TaskState::Assigned(placement.clone());
            self.placed.add(task);
            effects.push(Effect::Save(Change::Task(Box::new(task.clone()))));
            effects.push(Effect::Save(Change::Attempt(placement.clone())));
            effects.push(Effect::Run { placement, resume });
        }
        effects
    }

    /// Closes what was placed on other invocations of an instance than this one: they are over.
    fn lost_unless(&mut self, instance: &InstanceName, invocation: &InvocationId, now: Timestamp) -> Vec<Effect> {
        let gone: Vec<TaskId> = self.placed_on(instance).filter(|t| t.state.placement().is_some_and(|p| p.invocation != *invocation)).map(|t| t.id).collect();
        let lost = Ended::Failed { reason: Reason::Lost, transient: true };
        gone.into_iter().flat_map(|id| self.give_up(id, lost.clone(), "the instance was restarted while it ran", now)).collect()
    }

    fn placed_on<'a>(&'a self, instance: &'a InstanceName) -> impl Iterator<Item = &'a Task> {
        self.placed.on(instance).filter_map(|id| self.tasks.get(&id))
    }

    /// A fraction that differs from call to call. It only has to spread retries, so a Weyl sequence will do.
    fn next_jitter(&mut self) -> f64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are plenty")]
        {
            (self.jitter >> 11) as f64 / (1u64 << 53) as f64
        }
    }
}

/// The report on an attempt whose end nobody saw.
fn unseen(ended: Ended, detail: &str, now: Timestamp) -> Report {
    Report {
        ended,
        detail: detail.to_owned(),
        exit: None,
        session: None,
        started: now,
        finished: now,
        agent: super::usage::AgentUsage::default(),
        kernel: super::usage::KernelUsage::default(),
        text: String::new(),
        work: None,
    }
}

#[cfg(test)]
mod tests;
