//! Admission by memory: what the fleet's slice has left, and what a task is expected to need, learned from the last of its kind.

use super::dispatch::Taken;
use super::{Effect, Queue};
use crate::core::ids::InstanceName;
use crate::core::label::Label;
use crate::core::pool::{Policy, Rules};
use crate::core::task::TaskType;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How often the slice is looked at while something waits for its memory.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Tasks behind one that waits for memory may pass it until it has waited that long; then it comes first, whatever else would fit.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Attempts of a kind that are remembered.
const REMEMBERED: usize = 20;
/// Fewer say nothing yet.
const ENOUGH: usize = 3;
/// Share of the last ten seconds that some task of the slice waited for memory (cgroup-v2, memory.pressure `some avg10`) above which
/// nothing starts.
const PRESSURE_MAX: f64 = 10.0;

/// What the fleet's slice has, at the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// When it was looked at.
    pub at: Timestamp,
    /// What it may use, in bytes: the lowest of `memory.high` and `memory.max` on its way to the root. `None` where nothing bounds it.
    pub limit: Option<u64>,
    /// What it uses that cannot be given back easily, in bytes.
    pub used: u64,
    /// `memory.pressure` `some avg10`, per cent.
    pub pressure: f64,
}

/// What one attempt has needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peak {
    /// The task's kind.
    pub kind: TaskType,
    /// The instance.
    pub instance: InstanceName,
    /// `memory.peak` of its cgroup, in bytes.
    pub bytes: u64,
}

/// Whether a task may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    /// Not now; others may.
    No,
    /// Not now, and what comes after it must not take its place again and again.
    NorAnythingElse,
}

/// The last attempts of each kind on each repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Peaks(BTreeMap<(TaskType, Option<Label>), VecDeque<u64>>);

impl Peaks {
    pub(super) fn new(peaks: Vec<Peak>, rules: &Rules) -> Self {
        let mut all = Self::default();
        for Peak { kind, instance, bytes } in peaks {
            all.learn(kind, rules.member(&instance).repository.clone(), bytes);
        }
        all
    }

    pub(super) fn learn(&mut self, kind: TaskType, repository: Option<Label>, bytes: u64) {
        let last = self.0.entry((kind, repository)).or_default();
        last.push_back(bytes);
        if last.len() > REMEMBERED {
            last.pop_front();
        }
    }

    /// What nine of ten attempts of that kind stay below; `None` while too few are known.
    pub(super) fn expected(&self, kind: &TaskType, repository: Option<&Label>) -> Option<u64> {
        let last = self.0.get(&(kind.clone(), repository.cloned())).filter(|last| last.len() >= ENOUGH)?;
        let mut sorted: Vec<u64> = last.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 9).div_ceil(10).saturating_sub(1)).copied()
    }
}

impl Queue {
    /// Whether the slice has to be looked at before something is decided.
    pub fn wants_capacity(&self, now: Timestamp) -> bool {
        let old = self.capacity.is_none_or(|seen| now < seen.at || seen.at.checked_add(LOOK_AGAIN).is_ok_and(|then| then <= now));
        old && self.links.values().any(|link| link.busy.is_none() && !link.draining)
    }

    /// What the fleet's slice has; `None` where nobody can tell, and then nothing waits for it.
    pub fn capacity(&mut self, seen: Option<Capacity>) {
        self.capacity = seen;
    }

    /// Whose load a policy asks for: of those that are busy too, which may be free before the next look.
    pub fn wants_loads(&self) -> Vec<InstanceName> {
        let asked = |team: &Label| self.rules.teams.get(team).is_some_and(|team| team.policy == Policy::LeastLoaded);
        self.links.keys().filter(|name| self.rules.member(name).team.as_ref().is_some_and(asked)).cloned().collect()
    }

    /// How loaded instances are, in any unit.
    pub fn loads(&mut self, loads: BTreeMap<InstanceName, u64>) {
        self.loads = loads;
    }

    /// What was waiting for memory may go on.
    pub fn look_again(&mut self, now: Timestamp) -> Vec<Effect> {
        if self.short_of_memory { self.dispatch(now) } else { Vec::new() }
    }

    /// Why nothing or not this one may start for want of memory.
    pub(super) fn shortage(&self, needed: Option<u64>, taken: &Taken) -> Option<String> {
        let Capacity { limit, used, pressure, .. } = self.capacity?;
        if pressure > PRESSURE_MAX {
            return Some(format!("the fleet is under memory pressure (its tasks waited for memory {pressure:.0} % of the last ten seconds)"));
        }
        // Alone it may have all there is: it would wait for ever else.
        let (needed, limit) = (needed.filter(|_| taken.tasks > 0)?, limit?);
        let free = limit.saturating_sub(used.max(taken.memory));
        let mega = |bytes: u64| bytes >> 20;
        (needed > free).then(|| format!("tasks like it need {} MiB, and the fleet has {} MiB left of {} MiB", mega(needed), mega(free), mega(limit)))
    }

    /// Whether one that needs this much may start.
    pub(super) fn fits(&self, needed: Option<u64>, taken: &Taken, created: Option<Timestamp>, now: Timestamp) -> Fit {
        let patient = |created: Timestamp| created.checked_add(PATIENCE).is_ok_and(|end| now < end);
        match self.shortage(needed, taken) {
            None => Fit::Yes,
            Some(_) if created.is_none_or(patient) => Fit::No,
            Some(_) => Fit::NorAnythingElse,
        }
    }
}
