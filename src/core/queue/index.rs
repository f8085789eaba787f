//! The ways into the queue's tasks that spare looking at all of them: who may take which, and who has which.

use super::{InstanceName, Task, TaskId};
use crate::core::label::Label;
use crate::core::task::TaskType;
use crate::core::terms::Demand;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// A task's place in the queue: its rank, then its number. It never changes while the task waits.
pub(super) type Key = (i64, TaskId);

/// Tasks that are alike in all that decides where and whether they can start: if the first of them cannot, none can.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    /// The one instance that may take them.
    pub(super) bound: Option<InstanceName>,
    /// What an instance must bring to take them.
    pub(super) demand: Demand,
    /// What they count with.
    pub(super) group: Option<Label>,
    /// How much memory they will need is known by their kind.
    pub(super) kind: TaskType,
}

impl Class {
    fn of(task: &Task) -> Self {
        Self { bound: task.bound_to().cloned(), demand: task.terms.demand.clone(), group: task.terms.group.clone(), kind: task.kind.clone() }
    }
}

/// The tasks that could start now, by class, the most urgent first.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Ready {
    classes: BTreeMap<Arc<Class>, BTreeSet<Key>>,
    /// The first of each class.
    heads: BTreeMap<Key, Arc<Class>>,
}

impl Ready {
    pub(super) fn add(&mut self, task: &Task, ageing: Duration) {
        let key = key(task, ageing);
        let class = Class::of(task);
        let shared = match self.classes.get_key_value(&class) {
            Some((shared, _)) => shared.clone(),
            None => Arc::new(class),
        };
        let members = self.classes.entry(shared.clone()).or_default();
        let head = members.first().copied();
        members.insert(key);
        if head.is_none_or(|head| key < head) {
            if let Some(head) = head {
                self.heads.remove(&head);
            }
            self.heads.insert(key, shared);
        }
    }

    pub(super) fn remove(&mut self, task: &Task, ageing: Duration) {
        let key = key(task, ageing);
        let class = Class::of(task);
        let Some(members) = self.classes.get_mut(&class) else { return };
        if !members.remove(&key) {
            return;
        }
        let next = members.first().copied();
        if let Some(shared) = self.heads.remove(&key)
            && let Some(next) = next
        {
            self.heads.insert(next, shared);
        }
        if next.is_none() {
            self.classes.remove(&class);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The first task of a class that comes after that place, of the first class that has one: classes that were passed over
    /// are not met again.
    pub(super) fn head_after(&self, place: Option<Key>) -> Option<(Key, &Arc<Class>)> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.heads.range((from, Bound::Unbounded)).next().map(|(key, class)| (*key, class))
    }

    /// How many tasks there are.
    pub(super) fn len(&self) -> usize {
        self.classes.values().map(BTreeSet::len).sum()
    }

    /// The first task of every class, and how many are in it.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Key, usize)> {
        self.classes.values().filter_map(|members| Some((*members.first()?, members.len())))
    }

    /// The first tasks of every class, at most `each` of one.
    pub(super) fn sample(&self, each: usize) -> impl Iterator<Item = Key> {
        self.classes.values().flat_map(move |members| members.iter().take(each).copied())
    }
}

/// A task's place in the queue.
pub(super) fn key(task: &Task, ageing: Duration) -> Key {
    (task.terms.priority.rank(task.created, ageing), task.id)
}

/// The tasks that are assigned to an instance or run there. At most one each, but the queue does not rely on it.
#[derive(Clone, Debug, Default)]
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

    pub(super) fn iter(&self) -> impl Iterator<Item = (&InstanceName, TaskId)> {
        self.0.iter().flat_map(|(name, tasks)| tasks.iter().map(move |id| (name, *id)))
    }
}

/// Who comes after a task, of those in the queue.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Dependants(BTreeSet<(TaskId, TaskId)>);

impl Dependants {
    pub(super) fn add(&mut self, task: &Task) {
        self.0.extend(task.terms.after.iter().map(|needed| (*needed, task.id)));
    }

    pub(super) fn remove(&mut self, task: &Task) {
        for needed in &task.terms.after {
            self.0.remove(&(*needed, task.id));
        }
    }

    pub(super) fn of(&self, needed: TaskId) -> Vec<TaskId> {
        self.0.range((needed, TaskId(i64::MIN))..=(needed, TaskId(i64::MAX))).map(|(_, id)| *id).collect()
    }
}
