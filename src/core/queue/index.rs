//! The ways into the queue's tasks that spare looking at all of them: who may take which, and who has which.

use super::{InstanceName, Target, Task, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// The tasks that could start now, by who may take them, oldest first.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Ready {
    any: BTreeSet<TaskId>,
    bound: BTreeMap<InstanceName, BTreeSet<TaskId>>,
}

impl Ready {
    pub(super) fn add(&mut self, task: &Task) {
        match bound_to(task) {
            Some(name) => self.bound.entry(name.clone()).or_default().insert(task.id),
            None => self.any.insert(task.id),
        };
    }

    pub(super) fn remove(&mut self, task: &Task) {
        self.any.remove(&task.id);
        if let Some(name) = bound_to(task)
            && let Some(set) = self.bound.get_mut(name)
        {
            set.remove(&task.id);
            if set.is_empty() {
                self.bound.remove(name);
            }
        }
    }

    pub(super) fn first_for(&self, name: &InstanceName) -> Option<TaskId> {
        let bound = self.bound.get(name).and_then(|set| set.first());
        bound.into_iter().chain(self.any.first()).min().copied()
    }
}

/// The one instance that may take the task, if it is bound: as asked for, or because its session lives there.
fn bound_to(task: &Task) -> Option<&InstanceName> {
    match &task.target {
        Target::Instance(name) => Some(name),
        Target::Any => task.home.as_ref(),
    }
}

/// The tasks that are assigned to an instance or run there. At most one each, but the queue does not rely on it.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Placed(BTreeMap<InstanceName, BTreeSet<TaskId>>);

impl Placed {
    pub(super) fn add(&mut self, task: &Task) {
        if let Some(placement) = task.state.placement() {
            self.0.entry(placement.instance.clone()).or_default().insert(task.id);
        }
    }

    pub(super) fn remove(&mut self, task: &Task) {
        if let Some(placement) = task.state.placement()
            && let Some(set) = self.0.get_mut(&placement.instance)
        {
            set.remove(&task.id);
            if set.is_empty() {
                self.0.remove(&placement.instance);
            }
        }
    }

    pub(super) fn on(&self, name: &InstanceName) -> impl Iterator<Item = TaskId> {
        self.0.get(name).into_iter().flatten().copied()
    }
}
