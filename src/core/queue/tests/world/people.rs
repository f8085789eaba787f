//! What people and agents ask of the queue.

use super::{Wishes, World, label};
use crate::core::ids::TaskId;
use crate::core::task::{Claim, Target, Task, TaskState, TaskType};
use crate::core::terms::{AfterFailed, Demand, Priority, Terms};
use crate::core::usage::Usd;
use jiff::SignedDuration;
use std::sync::Arc;

impl World {
    pub(super) fn add(&mut self, target: Option<usize>, budget: Option<u64>, wishes: &Wishes) {
        let target = target.map_or(Target::Any, |index| Target::Instance(self.instances[self.pick(index)].0.clone()));
        let after = wishes.after.iter().filter_map(|index| self.pick_task(*index));
        // As the API has it: what has failed is not waited for.
        let after = after.filter(|needed| !matches!(self.tasks[needed].state, TaskState::Failed(_) | TaskState::Cancelled) || wishes.release).collect();
        let terms = Terms {
            priority: Priority::try_from(wishes.priority).expect("a priority"),
            group: wishes.group.then(|| label("g")),
            demand: Demand { specialty: wishes.special.then(|| label("s")), ..Demand::default() },
            after,
            after_failed: if wishes.release { AfterFailed::Release } else { AfterFailed::Fail },
            not_before: wishes.not_before.map(|seconds| self.now + SignedDuration::from_secs(seconds)),
            ..Terms::default()
        };
        let id = TaskId(self.tasks.len() as i64 + 1);
        let state = TaskState::Pending { not_before: terms.not_before };
        let (kind, terms) = (TaskType::default(), Arc::new(terms));
        let (created, budget, note) = (self.now, budget.map(Usd), String::new());
        let (attempts, failures, home, cost, cancelling, memory) = (0, 0, None, Usd(0), false, None);
        let task = Task { id, target, kind, created, state, attempts, failures, home, cost, budget, cancelling, terms, note, memory };
        if self.queue.is_some() {
            // The store gives the number, so the task is stored before the queue has it.
            self.tasks.insert(id, task.clone());
            self.call(|queue, now| queue.added(task, now));
        }
    }

    pub(super) fn claim(&mut self, index: usize, agent: Option<usize>) {
        let Some(id) = self.pick_task(index) else { return };
        let (since, mut agent_of) = (self.now, None);
        if let Some(index) = agent {
            let (name, instance) = &self.instances[self.pick(index)];
            // Whoever calls lives in a start of the unit.
            let Some(invocation) = &instance.invocation else { return };
            agent_of = Some((name.clone(), invocation.clone()));
        }
        let chosen = (!index.is_multiple_of(3)).then_some(id);
        self.call(|queue, now| queue.claim(chosen, Claim { by: "p".to_owned(), since, agent: agent_of }, now).map(|(_, effects)| effects).unwrap_or_default());
    }

    pub(super) fn complete(&mut self, index: usize, failed: bool) {
        let Some(id) = self.pick_task(index) else { return };
        let mut accepted = false;
        let committed = self.call(|queue, now| {
            let done = queue.complete(id, None, failed, String::new(), now);
            accepted = done.is_ok();
            done.map(|(_, effects)| effects).unwrap_or_default()
        });
        if committed && accepted {
            self.completed.insert(id, failed);
        }
    }

    pub(super) fn cancel(&mut self, index: usize) {
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
}
