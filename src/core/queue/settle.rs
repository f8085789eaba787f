//! What people ask of a task, and how a task gets into a state: the one place where the indexes and the dependants follow.

use super::{Change, Effect, Queue};
use crate::core::attempt::{Ended, Reason};
use crate::core::ids::TaskId;
use crate::core::task::{Target, Task, TaskState};
use crate::core::terms::AfterFailed;
use jiff::Timestamp;

impl Queue {
    /// A person wants the task ended. `false` if it has ended already.
    pub fn cancel(&mut self, id: TaskId, now: Timestamp) -> (bool, Vec<Effect>) {
        let placement = self.tasks.get(&id).and_then(|task| task.state.placement());
        // Of a runner that is not connected nobody knows what it has.
        let awaits = placement.is_some_and(|placement| self.awaits_limit(placement.attempt) && self.links.contains_key(&placement.instance));
        let Some(task) = self.tasks.get_mut(&id) else { return (false, Vec::new()) };
        match task.state.placement().cloned() {
            Some(_) if awaits => {
                task.cancelling = true;
                (true, self.called_off(id, Ended::Cancelled, "cancelled before it began", now))
            }
            Some(placement) => {
                task.cancelling = true;
                let mut effects = vec![Effect::Save(Change::Task(Box::new(task.clone())))];
                if self.links.contains_key(&placement.instance) {
                    effects.push(Effect::End { instance: placement.instance, attempt: placement.attempt });
                }
                (true, effects)
            }
            None => {
                let mut effects = self.settle(id, TaskState::Cancelled, now);
                effects.extend(self.dispatch(now));
                (true, effects)
            }
        }
    }

    /// A person wants an ended task tried again. The caller has read it from the store. Of what it comes after it waits for those
    /// that are in the queue; those that have ended do not keep it any more, however they ended. Who comes after it and has not
    /// begun waits for it again.
    pub fn retry(&mut self, mut task: Task, now: Timestamp) -> Vec<Effect> {
        if self.tasks.contains_key(&task.id) {
            return Vec::new();
        }
        self.ended.remove(&task.id);
        task.state = TaskState::Pending { not_before: task.terms.not_before.filter(|at| *at > now) };
        task.failures = 0;
        task.cancelling = false;
        task.note.clear();
        task.memory = None;
        if task.target == Target::Any && task.home.as_ref().is_some_and(|home| !self.links.contains_key(home)) {
            task.home = None;
        }
        for id in self.dependants.of(task.id) {
            if let Some(dependant) = self.tasks.get(&id) {
                self.ready.remove(dependant, self.rules.ageing);
            }
        }
        let mut effects = vec![Effect::Save(Change::Task(Box::new(task.clone())))];
        effects.extend(self.added(task, now));
        effects
    }

    /// Takes a task in. What it comes after may have ended while it was on its way.
    pub(super) fn enter(&mut self, mut task: Task, now: Timestamp) -> Vec<Effect> {
        if let TaskState::Pending { not_before: Some(at) } = task.state
            && at <= now
        {
            task.state = TaskState::Pending { not_before: None };
        }
        let broken = |needed: &TaskId| self.ended.get(needed).filter(|state| **state != TaskState::Succeeded).map(|state| why(*needed, state));
        let failed = if task.terms.after_failed == AfterFailed::Fail { task.terms.after.iter().find_map(broken) } else { None };
        let id = task.id;
        self.place(&task);
        self.tasks.insert(id, task);
        match failed {
            Some(why) => self.fail(id, why, now),
            None => Vec::new(),
        }
    }

    /// Puts a task into a state, and out of the queue if that is final; then those that come after it follow.
    pub(super) fn settle(&mut self, id: TaskId, state: TaskState, now: Timestamp) -> Vec<Effect> {
        let (mut effects, mut ended) = (Vec::new(), Vec::new());
        self.settle_one(id, state, now, &mut effects, &mut ended);
        // A list and no recursion: a chain may be as long as the queue.
        while let Some((id, state)) = ended.pop() {
            for dependant in self.dependants.of(id) {
                let Some(task) = self.tasks.get_mut(&dependant) else { continue };
                if !matches!(task.state, TaskState::Pending { .. }) {
                    continue;
                }
                if state == TaskState::Succeeded || task.terms.after_failed == AfterFailed::Release {
                    let task = task.clone();
                    if self.is_ready(&task) {
                        self.ready.add(&task, self.rules.ageing);
                    }
                } else {
                    task.note = why(id, &state);
                    self.settle_one(dependant, TaskState::Failed(Reason::Dependency), now, &mut effects, &mut ended);
                }
            }
        }
        effects
    }

    /// Ends a task because of another.
    fn fail(&mut self, id: TaskId, why: String, now: Timestamp) -> Vec<Effect> {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.note = why;
        }
        self.settle(id, TaskState::Failed(Reason::Dependency), now)
    }

    fn settle_one(&mut self, id: TaskId, state: TaskState, now: Timestamp, effects: &mut Vec<Effect>, ended: &mut Vec<(TaskId, TaskState)>) {
        let Some(mut task) = self.tasks.remove(&id) else { return };
        self.ready.remove(&task, self.rules.ageing);
        self.placed.remove(&task);
        self.claimed.remove(&id);
        self.grown.remove(&id);
        self.dependants.remove(&task);
        if let TaskState::Pending { not_before: Some(at) } = task.state {
            self.delayed.remove(&(at, id));
        }
        task.state = match state {
            TaskState::Pending { not_before: Some(at) } if at <= now => TaskState::Pending { not_before: None },
            other => other,
        };
        effects.push(Effect::Save(Change::Task(Box::new(task.clone()))));
        if task.state.is_final() {
            if task.state == TaskState::Failed(Reason::Dependency) {
                effects.push(Effect::Tell { kind: "task-failed", instance: None, task: Some(id), message: task.note.clone() });
            }
            self.unheard.retain(|attempt, _| attempt.task != id);
            self.ended.insert(id, task.state.clone());
            ended.push((id, task.state));
        } else {
            self.place(&task);
            self.tasks.insert(id, task);
        }
    }

    /// Whether a task could start now, if somebody takes it.
    pub(super) fn is_ready(&self, task: &Task) -> bool {
        task.state == TaskState::Pending { not_before: None } && self.needs(task).next().is_none()
    }

    /// What a task comes after and is still in the queue.
    pub(super) fn needs<'a>(&'a self, task: &'a Task) -> impl Iterator<Item = TaskId> + 'a {
        task.terms.after.iter().copied().filter(|needed| self.tasks.contains_key(needed))
    }

    /// Enters a task where it is looked for.
    pub(super) fn place(&mut self, task: &Task) {
        self.dependants.add(task);
        if task.memory.is_some() {
            self.grown.insert(task.id);
        }
        match task.state {
            TaskState::Pending { not_before: None } => {
                if self.is_ready(task) {
                    self.ready.add(task, self.rules.ageing);
                }
            }
            TaskState::Pending { not_before: Some(at) } => {
                self.delayed.insert((at, task.id));
            }
            TaskState::Claimed(_) => {
                self.claimed.insert(task.id);
            }
            _ => self.placed.add(task),
        }
    }
}

fn why(needed: TaskId, state: &TaskState) -> String {
    let how = if *state == TaskState::Cancelled { "was cancelled" } else { "failed" };
    format!("task {needed}, which it comes after, {how}")
}
