//! The queue, pure: every transition of every task is decided here and leaves as effects, in the order to perform them.
//!
//! The caller commits all [`Effect::Save`] of a call to the store before it performs any other effect of it. If that fails it
//! throws this queue away and loads it again: the store is the truth, this is its working copy.

mod attempts;
mod claims;
mod dispatch;
mod index;
mod links;
mod memory;
mod pauses;
mod retire;
mod settle;
mod sizes;
mod spend;
mod waits;

pub use claims::ClaimRefused;
pub use memory::{Capacity, Peak};
pub use pauses::{Pause, Scope};
pub use spend::Spent;
pub use waits::Wait;

use super::attempt::Report;
use super::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use super::pool::Rules;
use super::retry;
use super::size::{Bounds, Raise};
use super::task::{Placement, Task, TaskState, TaskType};
use super::usage::Usd;
use index::{Dependants, Placed, Ready};
use jiff::Timestamp;
use jiff::civil::Date;
use memory::Peaks;
use spend::Ledger;
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
    /// Raise the memory limit of an instance for an attempt, or set it back, and answer with [`Queue::limited`].
    Limit {
        /// The instance.
        instance: InstanceName,
        /// From what to what.
        raise: Raise,
        /// Set it back.
        back: bool,
    },
    /// Something that people should be told of: its kind, the instance and the task that it is about, a sentence.
    Tell {
        /// The event's kind.
        kind: &'static str,
        /// On which instance.
        instance: Option<InstanceName>,
        /// On which task.
        task: Option<TaskId>,
        /// The sentence.
        message: String,
    },
}

impl Effect {
    /// The task that it is about.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::Save(Change::Task(task)) => Some(task.id),
            Self::Save(Change::Attempt(placement)) | Self::Run { placement, .. } => Some(placement.attempt.task),
            Self::Save(Change::Report(attempt, ..)) | Self::Ended { attempt, .. } | Self::Used { attempt, .. } | Self::End { attempt, .. } => {
                Some(attempt.task)
            }
            Self::Save(Change::Raise(_, Some(raise))) | Self::Limit { raise, .. } => Some(raise.attempt.task),
            Self::Save(Change::Pause(..) | Change::Spend(..) | Change::Raise(_, None)) => None,
            Self::Tell { task, .. } => *task,
        }
    }
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
    /// Something is paused, or goes on.
    Pause(Scope, Option<Pause>),
    /// What an instance has spent on that day more than is stored.
    Spend(Date, InstanceName, Usd),
    /// The memory limit of an instance is about to be raised for an attempt; or it has its own again.
    Raise(InstanceName, Option<Raise>),
}

/// An instance whose runner is connected.
#[derive(Clone, Debug)]
struct Link {
    invocation: InvocationId,
    account: String,
    busy: Option<AttemptId>,
    draining: bool,
    /// When it was last given something, counted in tasks given.
    given: u64,
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

/// The queue as a store has it.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// All tasks that have not ended.
    pub tasks: Vec<Task>,
    /// The usage limits: account and reset time.
    pub holds: Vec<(String, Timestamp)>,
    /// What is paused.
    pub pauses: Vec<(Scope, Pause)>,
    /// What the last days have cost, and everything before.
    pub spent: Vec<Spent>,
    /// What attempts have needed of memory, the last one last.
    pub peaks: Vec<Peak>,
    /// The memory limits that are raised.
    pub raises: Vec<(InstanceName, Raise)>,
}

/// All tasks that have not ended, the instances that can take them, and what holds them back.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    tasks: BTreeMap<TaskId, Task>,
    links: BTreeMap<InstanceName, Link>,
    ready: Ready,
    placed: Placed,
    dependants: Dependants,
    claimed: BTreeSet<TaskId>,
    /// Attempts that were closed without their runner's word, and where they were; it may still come, and with it their cost.
    unheard: BTreeMap<AttemptId, InstanceName>,
    delayed: BTreeSet<(Timestamp, TaskId)>,
    /// Instances that run, and are to have no task: for how many who want that.
    reserved: BTreeMap<InstanceName, usize>,
    holds: BTreeMap<String, Timestamp>,
    /// Accounts whose usage limit has reset lately, and when the next task may start on each: they come back one by one.
    ramps: BTreeMap<String, Timestamp>,
    pauses: BTreeMap<Scope, Pause>,
    ledger: Ledger,
    peaks: Peaks,
    capacity: Option<Capacity>,
    /// Tasks that are tried with more memory than their instance has.
    grown: BTreeSet<TaskId>,
    /// What bounds the memory of instances, as far as it was asked for.
    bounds: BTreeMap<InstanceName, Bounds>,
    raises: BTreeMap<InstanceName, sizes::Raised>,
    /// How loaded the slices of instances are, as far as a policy asks: the lowest takes the next task.
    loads: BTreeMap<InstanceName, u64>,
    /// What cannot start for want of memory waits for others to end, and for the next look at it.
    short_of_memory: bool,
    rules: Rules,
    /// How tasks ended since the last [`Queue::committed`], for those that are added to come after them.
    ended: BTreeMap<TaskId, TaskState>,
    given: u64,
    jitter: u64,
}

impl Queue {
    /// The queue as the store has it.
    pub fn load(stored: Stored, rules: Rules) -> Self {
        let Stored { tasks, holds, pauses, spent, peaks, raises } = stored;
        let mut queue = Self {
            holds: holds.into_iter().collect(),
            pauses: pauses.into_iter().collect(),
            ledger: Ledger::new(spent),
            peaks: Peaks::new(peaks, &rules),
            rules,
            ..Self::default()
        };
        // What a task waits for is told from who is there.
        queue.tasks = tasks.into_iter().map(|task| (task.id, task)).collect();
        queue.raises = sizes::stored(raises, &queue.tasks);
        let all: Vec<Task> = queue.tasks.values().cloned().collect();
        all.iter().for_each(|task| queue.place(task));
        queue
    }

    /// A new configuration.
    pub fn configure(&mut self, rules: Rules, now: Timestamp) -> Vec<Effect> {
        if rules.ageing != self.rules.ageing {
            // Places in the queue depend on it.
            let ready: Vec<Task> = self.tasks.values().filter(|task| self.is_ready(task)).cloned().collect();
            ready.iter().for_each(|task| self.ready.remove(task, self.rules.ageing));
            ready.iter().for_each(|task| self.ready.add(task, rules.ageing));
        }
        self.rules = rules;
        self.dispatch(now)
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

    /// What is paused.
    pub fn pauses(&self) -> impl Iterator<Item = (&Scope, &Pause)> {
        self.pauses.iter()
    }

    /// What the instance is running, as far as its runner is connected.
    pub fn busy(&self, name: &InstanceName) -> Option<AttemptId> {
        self.links.get(name).and_then(|link| link.busy)
    }

    /// What was given to the instance and has not ended, whether its runner is connected or not.
    pub fn attempt_on(&self, name: &InstanceName) -> Option<AttemptId> {
        self.placed_on(name).filter_map(|task| task.state.placement()).map(|placement| placement.attempt).next()
    }

    /// Which instance has which task, whether its runner is connected or not.
    pub fn at_work(&self) -> impl Iterator<Item = (&InstanceName, &Task)> {
        self.placed.iter().filter_map(|(name, id)| Some((name, self.tasks.get(&id)?)))
    }

    /// The tasks that could start now, if somebody is free to take them: those that fit, the most urgent first, at most so many,
    /// and how many there are.
    pub fn free(&self, most: usize, fits: impl Fn(&Task) -> bool) -> (Vec<&Task>, usize) {
        let mut keys: Vec<_> = self.ready.sample(usize::MAX).filter(|(_, id)| self.tasks.get(id).is_some_and(&fits)).collect();
        let all = keys.len();
        keys.sort_unstable();
        (keys.into_iter().take(most).filter_map(|(_, id)| self.tasks.get(&id)).collect(), all)
    }

    /// The start of its unit that the instance's runner belongs to, while it is connected.
    pub fn invocation(&self, name: &InstanceName) -> Option<&InvocationId> {
        self.links.get(name).map(|link| &link.invocation)
    }

    /// Whether the instance's runner is connected.
    pub fn is_linked(&self, name: &InstanceName) -> bool {
        self.links.contains_key(name)
    }

    /// What the configuration says.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// When something will become possible without anyone saying so; call [`Queue::tick`] then.
    pub fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let ramps = if self.ready.is_empty() { None } else { self.ramps.values().min().copied() };
        let day = if self.ready.is_empty() { None } else { self.next_day(now) };
        let memory = if self.short_of_memory { self.capacity.and_then(|seen| seen.at.checked_add(memory::LOOK_AGAIN).ok()) } else { None };
        [delayed, ramps, day, memory].into_iter().flatten().chain(self.holds.values().copied()).min()
    }

    /// Takes a task that the store has just given a number.
    pub fn added(&mut self, task: Task, now: Timestamp) -> Vec<Effect> {
        let mut effects = self.enter(task, now);
        effects.extend(self.dispatch(now));
        effects
    }

    /// Takes tasks that the store has just given their numbers.
    pub fn added_many(&mut self, tasks: Vec<Task>, now: Timestamp) -> Vec<Effect> {
        // All of them are there before any is looked at: they may come after each other.
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        self.tasks.extend(tasks.into_iter().map(|task| (task.id, task)));
        let mut effects = Vec::new();
        for id in ids {
            if let Some(task) = self.tasks.remove(&id) {
                effects.extend(self.enter(task, now));
            }
        }
        effects.extend(self.dispatch(now));
        effects
    }

    /// Gives an instance no task, or tasks again once all who wanted none say so.
    pub fn reserve(&mut self, instance: &InstanceName, on: bool, now: Timestamp) -> Vec<Effect> {
        if on {
            *self.reserved.entry(instance.clone()).or_default() += 1;
        } else if let Some(count) = self.reserved.get_mut(instance) {
            *count -= 1;
            if *count == 0 {
                self.reserved.remove(instance);
            }
        }
        self.dispatch(now)
    }

    /// Whether an instance is to have no task.
    pub fn is_reserved(&self, instance: &InstanceName) -> bool {
        self.reserved.contains_key(instance)
    }

    /// Takes over the reservations of the queue that this one was loaded in the place of: no store has them, since they end
    /// with the daemon, and who has made them goes on.
    #[must_use]
    pub fn in_place_of(mut self, other: &Self) -> Self {
        self.reserved.clone_from(&other.reserved);
        self
    }

    /// What was decided is stored.
    pub fn committed(&mut self) {
        self.ended.clear();
    }

    /// Whether a task is in the queue, or has been until what was decided last.
    pub fn knows(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id) || self.ended.contains_key(&id)
    }

    /// Time has passed: what waited for it may go on.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        self.let_go_of_holds(now);
        self.ledger.forget_old(self.day(now));
        let mut effects = self.shorten(now);
        while let Some((at, id)) = self.delayed.first().copied() {
            if at > now {
                break;
            }
            self.delayed.remove(&(at, id));
            if let Some(task) = self.tasks.get_mut(&id) {
                task.state = TaskState::Pending { not_before: None };
                let task = task.clone();
                self.place(&task);
            }
        }
        effects.extend(self.dispatch(now));
        effects
    }

    /// A wait that is longer than any back-off was set before the clock was set back, and would last as long as the clock
    /// went. Usage limits are the service's own times, and stay; so does what a person has asked for.
    fn shorten(&mut self, now: Timestamp) -> Vec<Effect> {
        let Ok(latest) = now.checked_add(retry::LONGEST) else { return Vec::new() };
        let far = self.delayed.range((Bound::Excluded((latest, TaskId(i64::MAX))), Bound::Unbounded));
        let asked = |at: &Timestamp, id: &TaskId| self.tasks.get(id).is_some_and(|task| task.terms.not_before == Some(*at));
        let wrong = far.filter(|(at, id)| !self.holds.values().any(|until| until == at) && !asked(at, id));
        let wrong: Vec<TaskId> = wrong.map(|(_, id)| *id).collect();
        wrong.into_iter().flat_map(|id| self.settle(id, TaskState::Pending { not_before: Some(latest) }, now)).collect()
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

#[cfg(test)]
mod tests;
