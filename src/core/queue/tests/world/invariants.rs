//! What must hold after every step, whatever happens.

use super::{World, all_of, name, rules};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::ids::AttemptId;
use crate::core::queue::Scope;
use crate::core::retry::{self, Next};
use crate::core::task::{Placement, Target, Task, TaskState};
use crate::core::terms::AfterFailed;
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
            queue.check_indexes(self.now);
            // What was due once is not again when the clock is set back; the store does not know of that.
            queue.check_reload(self.stored(), self.latest);
        }
        self.check_bounds();
    }

    /// No more runs at once than may.
    fn check_bounds(&self) {
        let at_work = |task: &&Task| task.state.placement().is_some() || matches!(task.state, TaskState::Claimed(_));
        let in_group = self.tasks.values().filter(at_work).filter(|task| task.terms.group.is_some()).count();
        assert!(in_group <= 1, "{in_group} of the group are at work");
        let rules = rules();
        let places = self.tasks.values().filter_map(|task| task.state.placement());
        let on_repository = places.filter(|placement| rules.member(&placement.instance).repository.is_some()).count();
        assert!(on_repository <= 1, "{on_repository} are on the repository");
    }

    /// An attempt that is given out was free to start.
    pub(super) fn check_start(&self, placement: &Placement) {
        let task = &self.tasks[&placement.attempt.task];
        for needed in &task.terms.after {
            assert!(self.tasks[needed].state.is_final(), "{task:?} starts before {needed} has ended");
        }
        assert!(task.terms.not_before.is_none_or(|then| then <= self.latest), "{task:?} starts before its time");
        assert!(
            task.home.is_some() || task.target != Target::Any || rules().member(&placement.instance).serves(&task.terms.demand),
            "{task:?} is on {placement:?}"
        );
        let account = ["x", "y"][usize::from(placement.instance == name("b"))];
        let scopes = [Scope::All, Scope::Instance(placement.instance.clone()), Scope::Account(account.to_owned())];
        let paused = scopes.into_iter().chain(task.terms.group.clone().map(Scope::Group)).find(|scope| self.pauses.contains_key(scope));
        assert_eq!(paused, None, "{task:?} starts on {placement:?}");
    }

    /// Every final state has a reason in what really happened.
    fn justified(&self, task: &Task) {
        // What clauded ended to keep a budget is called so by it alone.
        let same = |truth: &Report, report: &Report| {
            // A failure for want of memory is told with what follows from it.
            let told = Report { detail: truth.detail.clone(), ..report.clone() };
            (*truth == told && report.detail.starts_with(&truth.detail))
                || (truth.ended == Ended::Cancelled && report.ended == Ended::Interrupted && truth.agent == report.agent)
        };
        let reports = || self.attempts.range(all_of(task.id)).filter_map(|(attempt, (_, report))| Some((attempt, report.as_ref()?)));
        match &task.state {
            TaskState::Succeeded => {
                let succeeded = |(attempt, report): (&AttemptId, &Report)| report.ended == Ended::Succeeded && self.truth.get(attempt) == Some(report);
                assert!(reports().any(succeeded) || self.completed.get(&task.id) == Some(&false), "{task:?} has not succeeded");
            }
            TaskState::Cancelled => assert!(self.cancelled.contains(&task.id), "nobody cancelled {task:?}"),
            TaskState::Failed(Reason::Reported) => assert_eq!(self.completed.get(&task.id), Some(&true), "nobody said so of {task:?}"),
            TaskState::Failed(Reason::Dependency) => {
                let after = &task.terms.after;
                assert!(task.terms.after_failed == AfterFailed::Fail && after.iter().any(|needed| self.failed.contains(needed)), "{task:?}");
            }
            TaskState::Failed(Reason::Budget) if task.budget.is_some_and(|budget| task.cost >= budget) => {}
            TaskState::Failed(reason) => {
                // The verdict was made on the last attempt; what its runner says of it later is kept, but does not undo it.
                let final_after = |ended: &Ended| ended.reason() == Some(*reason) && retry::after(ended, task.failures, 0.0) == Next::Final;
                let (last, report) = reports().next_back().expect("a report");
                assert!(final_after(&report.ended) || (*reason == Reason::Lost && self.truth.get(last) == Some(report)), "{task:?} after {report:?}");
            }
            TaskState::Pending { .. }
            | TaskState::Assigned(_)
            | TaskState::Running(_)
            | TaskState::Verifying(_)
            | TaskState::Publishing(_)
            | TaskState::Claimed(_) => {}
        }
        let spent: u64 =
            reports().map(|(attempt, report)| self.truth.get(attempt).filter(|truth| same(truth, report)).map_or(0, |truth| truth.agent.cost.0)).sum();
        assert_eq!(task.cost.0, spent, "{task:?}");
    }
}
