//! What must hold after every step, whatever happens.

use super::{World, all_of};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::ids::AttemptId;
use crate::core::retry::{self, Next};
use crate::core::task::{Task, TaskState};
use std::collections::BTreeSet;

impl World {
    /// What must hold after every step.
    pub(super) fn check(&self) {
        let mut placed = BTreeSet::new();
        for task in self.tasks.values() {
            if let Some(placement) = task.state.placement() {
                assert!(placed.insert(&placement.instance), "two tasks on {}", placement.instance);
                assert_eq!(placement.attempt, AttemptId { task: task.id, number: task.attempts });
            }
            if let Some(queue) = &self.queue {
                let known = queue.task(task.id);
                assert_eq!(known.is_some(), !task.state.is_final(), "{task:?} is lost or kept");
                let same = |known: &Task| match (&known.state, &task.state) {
                    (TaskState::Pending { .. }, TaskState::Pending { .. }) => true,
                    (known, stored) => known == stored,
                };
                assert!(known.is_none_or(|known| known.cost <= task.cost), "{known:?} counts more than was spent, {:?}", task.cost);
                assert!(known.is_none_or(same), "the queue has {known:?}, the store {task:?}");
            }
            self.justified(task);
        }
        let mut alive = BTreeSet::new();
        for (name, instance) in &self.instances {
            let Some(attempt) = instance.alive else { continue };
            assert!(alive.insert(attempt.task), "{} runs twice", attempt.task);
            let believed = self.tasks[&attempt.task].state.placement();
            assert!(believed.is_some_and(|p| p.attempt == attempt && p.instance == *name), "{attempt} runs on {name}, but the store has {believed:?}");
        }
        if let Some(queue) = &self.queue {
            queue.check_indexes();
        }
    }

    /// Every final state has a reason in what really happened.
    fn justified(&self, task: &Task) {
        let reports = || self.attempts.range(all_of(task.id)).filter_map(|(attempt, (_, report))| Some((attempt, report.as_ref()?)));
        match &task.state {
            TaskState::Succeeded => {
                let succeeded = |(attempt, report): (&AttemptId, &Report)| report.ended == Ended::Succeeded && self.truth.get(attempt) == Some(report);
                assert!(reports().any(succeeded), "{task:?} has not succeeded");
            }
            TaskState::Cancelled => assert!(self.cancelled.contains(&task.id), "nobody cancelled {task:?}"),
            TaskState::Failed(Reason::Budget) if task.budget.is_some_and(|budget| task.cost >= budget) => {}
            TaskState::Failed(reason) => {
                // The verdict was made on the last attempt; what its runner says of it later is kept, but does not undo it.
                let final_after = |ended: &Ended| ended.reason() == Some(*reason) && retry::after(ended, task.failures, 0.0) == Next::Final;
                let (last, report) = reports().next_back().expect("a report");
                assert!(final_after(&report.ended) || (*reason == Reason::Lost && self.truth.get(last) == Some(report)), "{task:?} after {report:?}");
            }
            TaskState::Pending { .. } | TaskState::Assigned(_) | TaskState::Running(_) | TaskState::Verifying(_) | TaskState::Publishing(_) => {}
        }
        let spent: u64 =
            reports().map(|(attempt, report)| self.truth.get(attempt).filter(|truth| *truth == report).map_or(0, |truth| truth.agent.cost.0)).sum();
        assert_eq!(task.cost.0, spent, "{task:?}");
    }
}
