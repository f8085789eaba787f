//! Attempts that start and end, and what follows for their tasks.

use super::{Change, Effect, Pause, Queue, Scope, sizes};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::delivery::Stage;
use crate::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use crate::core::retry::{self, Next};
use crate::core::task::TaskState;
use crate::core::usage::{AgentUsage, KernelUsage};
use jiff::Timestamp;
use std::borrow::Cow;

impl Queue {
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
        let why = self.ledger.ended(attempt);
        if let Some(at) = retry::reset(report).filter(|at| *at > now) {
            // An account may be at several limits; the last to reset holds it.
            let until = self.holds.entry(account.to_owned()).or_insert(at);
            *until = at.max(*until);
        }
        let placed = self.tasks.get(&attempt.task).map(|t| t.state.placement().is_some_and(|p| p.attempt == attempt && p.instance == *instance));
        let mut effects = match placed {
            Some(true) => {
                let report = &*self.as_it_was(attempt, report, why);
                let used = self.used(instance, attempt, report, now);
                let mut effects = self.pause_account(instance, account, attempt, report, now);
                effects.extend(self.close(attempt.task, report, now));
                effects.extend(used);
                effects
            }
            Some(false) => self.late(instance, attempt, report, now),
            None => vec![Effect::Save(Change::Report(attempt, instance.clone(), Box::new(report.clone())))],
        };
        effects.extend(self.dispatch(now));
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
            effects.extend(self.used(instance, attempt, report, now));
        }
        let Some(task) = self.tasks.get(&attempt.task) else { return effects };
        if waits && last && report.ended == Ended::Succeeded {
            effects.push(Effect::Ended { attempt, instance: instance.clone(), kind: task.kind.clone(), report: Box::new(report.clone()) });
            effects.extend(self.settle(attempt.task, TaskState::Succeeded, now));
        }
        effects
    }

    /// A runner says of every attempt that it was told to end that a person cancelled it. Where none did, clauded ended it to
    /// keep a budget, and the task goes on later.
    fn as_it_was<'r>(&self, attempt: AttemptId, report: &'r Report, why: Option<String>) -> Cow<'r, Report> {
        let cancelling = self.tasks.get(&attempt.task).is_some_and(|task| task.cancelling);
        if report.ended != Ended::Cancelled || cancelling {
            return Cow::Borrowed(report);
        }
        let detail = why.unwrap_or_else(|| "clauded ended it to keep a budget".to_owned());
        Cow::Owned(Report { ended: Ended::Interrupted, detail, ..report.clone() })
    }

    /// Without a login nothing of that account will do better: it is paused, and the task waits for the person who mends it.
    fn pause_account(&mut self, instance: &InstanceName, account: &str, attempt: AttemptId, report: &Report, now: Timestamp) -> Vec<Effect> {
        let scope = Scope::Account(account.to_owned());
        if report.ended.reason() != Some(Reason::Auth) || self.pauses.contains_key(&scope) {
            return Vec::new();
        }
        let pause = Pause { by: "clauded".to_owned(), why: report.detail.clone(), since: now };
        let message = format!("the account {account} is paused: {}; then: claudectl resume --account {account}", report.detail);
        self.pauses.insert(scope.clone(), pause.clone());
        vec![
            Effect::Save(Change::Pause(scope, Some(pause))),
            Effect::Tell { kind: "account-paused", instance: Some(instance.clone()), task: Some(attempt.task), message },
        ]
    }

    /// The runner's word on an attempt at a task that has not ended: what it has cost and needed.
    fn used(&mut self, instance: &InstanceName, attempt: AttemptId, report: &Report, now: Timestamp) -> Vec<Effect> {
        let Some(task) = self.tasks.get(&attempt.task) else { return Vec::new() };
        let (kind, created) = (task.kind.clone(), task.created);
        let mut effects = Vec::new();
        if report.agent.cost.0 > 0 {
            let day = self.day(now);
            self.ledger.spend(day, instance, report.agent.cost);
            effects.push(Effect::Save(Change::Spend(day, instance.clone(), report.agent.cost)));
        }
        if let Some(bytes) = report.kernel.memory_peak {
            self.peaks.learn(kind.clone(), self.rules.member(instance).repository.clone(), bytes);
        }
        effects.push(Effect::Used { attempt, instance: instance.clone(), kind, created, report: Box::new(report.clone()) });
        effects
    }

    /// Closes an attempt whose end nobody saw.
    pub(super) fn give_up(&mut self, id: TaskId, ended: Ended, detail: &str, now: Timestamp) -> Vec<Effect> {
        let placement = self.tasks.get(&id).and_then(|task| task.state.placement()).cloned();
        if let Some(placement) = &placement {
            let _forgotten = self.ledger.ended(placement.attempt);
        }
        let effects = self.close(id, &unseen(ended, detail, now), now);
        self.unheard.extend(placement.filter(|_| self.tasks.contains_key(&id)).map(|p| (p.attempt, p.instance)));
        effects
    }

    /// The end of the attempt that a task is placed in, and what follows for the task.
    pub(super) fn close(&mut self, id: TaskId, report: &Report, now: Timestamp) -> Vec<Effect> {
        let jitter = self.next_jitter();
        let instance = self.tasks.get(&id).and_then(|task| task.state.placement()).map(|placement| placement.instance.clone());
        let waits_for_budget = instance.as_ref().is_some_and(|instance| self.broke(instance, now).is_some());
        let more = self.tasks.get(&id).zip(instance.as_ref()).and_then(|(task, instance)| self.more_memory(task, instance, report));
        let Some(task) = self.tasks.get_mut(&id) else { return Vec::new() };
        let Some(placement) = task.state.placement().cloned() else { return Vec::new() };
        task.cost += report.agent.cost;
        let next = retry::after(&report.ended, task.failures, jitter);
        let broke = task.budget.is_some_and(|budget| task.cost >= budget);
        let more = if broke { None } else { more };
        let report = &*sizes::with_consequence(report, more.as_ref());
        let mut effects = vec![
            Effect::Save(Change::Report(placement.attempt, placement.instance.clone(), Box::new(report.clone()))),
            Effect::Ended { attempt: placement.attempt, instance: placement.instance.clone(), kind: task.kind.clone(), report: Box::new(report.clone()) },
        ];
        // The agent may not spend more than what is left of the day either; where that ended it, the task's own is not used up.
        let of_day = !broke && !task.cancelling && report.ended.reason() == Some(Reason::Budget);
        let memory = more.and_then(Result::ok);
        let state = match (&report.ended, next) {
            (Ended::Succeeded, _) => TaskState::Succeeded,
            (Ended::Cancelled, _) => TaskState::Cancelled,
            _ if task.cancelling => TaskState::Cancelled,
            (_, Next::Again(_) | Next::Resume) if broke => TaskState::Failed(Reason::Budget),
            (Ended::Failed { .. }, Next::Final) if memory.is_some() => {
                task.memory = memory;
                // Its limit is the one that was too low.
                task.home.get_or_insert_with(|| placement.instance.clone());
                TaskState::Pending { not_before: None }
            }
            _ if of_day && waits_for_budget => TaskState::Pending { not_before: None },
            (Ended::Failed { reason, .. }, Next::Final) => TaskState::Failed(*reason),
            (_, Next::Again(wait)) => {
                task.failures += 1;
                TaskState::Pending { not_before: now.checked_add(wait).ok() }
            }
            (Ended::Limited { .. }, _) => TaskState::Pending { not_before: retry::reset(report) },
            (_, Next::Resume | Next::Final) => TaskState::Pending { not_before: None },
        };
        effects.extend(self.settle(id, state, now));
        effects.extend(self.lower(&placement));
        effects
    }
}

/// The report on an attempt whose end nobody saw.
pub(super) fn unseen(ended: Ended, detail: &str, now: Timestamp) -> Report {
    Report {
        ended,
        detail: detail.to_owned(),
        exit: None,
        session: None,
        started: now,
        finished: now,
        agent: AgentUsage::default(),
        kernel: KernelUsage::default(),
        text: String::new(),
        work: None,
    }
}
