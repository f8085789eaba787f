//! Why a task waits: the first thing that keeps it, in the words that people read.

use super::dispatch::Taken;
use super::{Pause, Queue, Scope};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::task::{Target, Task, TaskState};
use crate::core::terms::Demand;
use jiff::Timestamp;
use std::fmt;

/// What keeps a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until that time, as a person has asked.
    Asked(Timestamp),
    /// Until that time: a back-off or a usage limit.
    Until(Timestamp),
    /// Others come first.
    After(Vec<TaskId>),
    /// Somebody has paused what it belongs to.
    Paused {
        /// What.
        scope: Scope,
        /// Who and why.
        pause: Pause,
    },
    /// A bound on what may run at once is reached.
    Full {
        /// What is full.
        what: String,
        /// Where the bound stands.
        key: String,
        /// The bound.
        most: u32,
    },
    /// The account is at its usage limit.
    Held {
        /// The account.
        account: String,
        /// When it resets.
        until: Timestamp,
    },
    /// The account's limit has reset, and its tasks come back one by one.
    Spread {
        /// The account.
        account: String,
    },
    /// A budget is used up.
    Budget(String),
    /// There is too little memory.
    Memory(String),
    /// Nobody brings what it demands.
    Nobody(Demand),
    /// The one instance that may take it does not run.
    NotRunning(InstanceName),
    /// That instance has another task.
    Busy(InstanceName),
    /// No instance runs.
    NoneRuns,
    /// None of those that could take it runs.
    NoneAble(Demand),
    /// All that could take it have other tasks.
    NoneFree,
}

impl Wait {
    /// The cause in one word, a label of the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Asked(_) => "not-before",
            Self::Until(_) => "back-off",
            Self::After(_) => "dependency",
            Self::Paused { .. } => "paused",
            Self::Full { .. } => "concurrency",
            Self::Held { .. } | Self::Spread { .. } => "usage-limit",
            Self::Budget(_) => "budget",
            Self::Memory(_) => "memory",
            Self::Nobody(_) | Self::NoneAble(_) | Self::NotRunning(_) | Self::NoneRuns => "no-instance",
            Self::Busy(_) | Self::NoneFree => "instance",
        }
    }

    /// All names.
    pub const NAMES: [&'static str; 10] =
        ["not-before", "back-off", "dependency", "paused", "concurrency", "usage-limit", "budget", "memory", "no-instance", "instance"];
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(at) | Self::Until(at) => write!(f, "waits until {at}"),
            Self::After(needed) => {
                let shown: Vec<String> = needed.iter().take(5).map(ToString::to_string).collect();
                let more = if needed.len() > shown.len() { format!(" and {} more", needed.len() - shown.len()) } else { String::new() };
                let what = if needed.len() == 1 { "task" } else { "tasks" };
                write!(f, "waits for {what} {}{more} to end", shown.join(", "))
            }
            Self::Paused { scope, pause } => {
                let why = if pause.why.is_empty() { String::new() } else { format!(": {}", pause.why) };
                write!(f, "waits while {scope} is paused (by {} at {}{why}); let it go on with: claudectl resume {}", pause.by, pause.since, scope.option())
            }
            Self::Full { what, key, most } => write!(f, "waits for a place: {what} runs at most {most} at once (max-concurrent-tasks of {key})"),
            Self::Held { account, until } => write!(f, "waits for the usage limit of {account} to reset at {until}"),
            Self::Spread { account } => write!(f, "waits for its turn: the usage limit of {account} has reset, and its tasks go on one by one"),
            Self::Budget(why) => write!(f, "waits: {why}"),
            Self::Memory(why) => write!(f, "waits for memory: {why}"),
            Self::Nobody(demand) => write!(f, "waits for an instance with {demand}; none is configured so"),
            Self::NotRunning(name) => write!(f, "waits for {name}, which does not run; start it with: claudectl start {name}"),
            Self::Busy(name) => write!(f, "waits for {name} to be free"),
            Self::NoneRuns => f.write_str("waits for an instance; none runs. Start one with: claudectl start NAME"),
            Self::NoneAble(demand) => write!(f, "waits for an instance with {demand}; none of those runs. Start one with: claudectl start NAME"),
            Self::NoneFree => f.write_str("waits for a free instance"),
        }
    }
}

impl Queue {
    /// Why a task waits; `None` if it does not.
    pub fn why(&self, task: &Task, now: Timestamp) -> Option<Wait> {
        self.why_with(task, &self.taken(), now)
    }

    /// How many tasks wait for what, by [`Wait::name`]. One look at each class stands for all that are in it.
    pub fn waiting(&self, now: Timestamp) -> std::collections::BTreeMap<&'static str, u64> {
        let taken = self.taken();
        let mut counts = std::collections::BTreeMap::new();
        let mut count = |name: &'static str, n: usize| *counts.entry(name).or_default() += u64::try_from(n).unwrap_or(u64::MAX);
        for (head, members) in self.ready.counted() {
            if let Some(wait) = self.tasks.get(&head.1).and_then(|task| self.why_with(task, &taken, now)) {
                count(wait.name(), members);
            }
        }
        for (at, id) in &self.delayed {
            let asked = self.tasks.get(id).is_some_and(|task| task.terms.not_before == Some(*at));
            count(if asked { "not-before" } else { "back-off" }, 1);
        }
        let pending = self.tasks.len() - self.placed.iter().count() - self.claimed.len();
        count("dependency", pending.saturating_sub(self.delayed.len() + self.ready.len()));
        counts
    }

    fn why_with(&self, task: &Task, taken: &Taken, now: Timestamp) -> Option<Wait> {
        let TaskState::Pending { not_before } = task.state else { return None };
        if let Some(at) = not_before {
            return Some(if task.terms.not_before == Some(at) { Wait::Asked(at) } else { Wait::Until(at) });
        }
        let needed: Vec<TaskId> = self.needs(task).collect();
        if !needed.is_empty() {
            return Some(Wait::After(needed));
        }
        if let Some(pause) = self.pauses.get(&Scope::All) {
            return Some(Wait::Paused { scope: Scope::All, pause: pause.clone() });
        }
        if let Some(wait) = self.group_wait(task.terms.group.as_ref(), taken) {
            return Some(wait);
        }
        let bound = task.bound_to();
        let demand = &task.terms.demand;
        let mut linked = self.links.keys().filter(|name| self.may_take(task, name)).peekable();
        if linked.peek().is_none() {
            return Some(match bound {
                Some(name) => {
                    self.pause_of(name, None).map_or_else(|| Wait::NotRunning(name.clone()), |(s, p)| Wait::Paused { scope: s.clone(), pause: p.clone() })
                }
                None if *demand == Demand::default() => Wait::NoneRuns,
                None if self.rules.members.values().chain([&self.rules.stranger]).any(|member| member.serves(demand)) => Wait::NoneAble(demand.clone()),
                None => Wait::Nobody(demand.clone()),
            });
        }
        // Somebody who is only busy says less than what keeps all the others.
        let mut free = None;
        let mut busy = None;
        for name in linked {
            match self.keeps(name, taken, now) {
                Some(wait @ (Wait::Busy(_) | Wait::NoneFree)) => busy = Some(wait),
                Some(wait) => free = free.or(Some(wait)),
                // Nothing keeps this one, but for memory.
                None if self.awaits_bounds(task.id, name) => {
                    return Some(Wait::Memory(format!("it needs more than the limit of {name}, which has not been seen yet")));
                }
                None => {
                    let kind = self.peaks.expected(&task.kind, self.rules.member(name).repository.as_ref());
                    return Some(self.shortage(kind, taken).map_or(Wait::NoneFree, Wait::Memory));
                }
            }
        }
        free.or(match (&task.target, bound) {
            (Target::Any, None) => busy.map(|_| Wait::NoneFree),
            _ => busy,
        })
    }

    /// What keeps a connected instance from taking anything.
    fn keeps(&self, name: &InstanceName, taken: &Taken, now: Timestamp) -> Option<Wait> {
        let link = self.links.get(name)?;
        if let Some((scope, pause)) = self.pause_of(name, Some(&link.account)) {
            return Some(Wait::Paused { scope: scope.clone(), pause: pause.clone() });
        }
        if let Some(until) = self.holds.get(&link.account) {
            return Some(Wait::Held { account: link.account.clone(), until: *until });
        }
        if let Some(why) = self.broke(name, now) {
            return Some(Wait::Budget(why));
        }
        if link.busy.is_some() || link.draining || self.is_reserved(name) {
            return Some(Wait::Busy(name.clone()));
        }
        if self.ramps.get(&link.account).is_some_and(|next| *next > now) {
            return Some(Wait::Spread { account: link.account.clone() });
        }
        self.crowded(name, taken)
    }
}
