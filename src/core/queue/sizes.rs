//! Tasks that have run out of memory: tried once more where the instance's limit can be raised for it. The limit is raised before
//! the attempt begins and set back after it has ended; what it was is stored before it changes.

use super::attempts::unseen;
use super::{Change, Effect, Queue};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use crate::core::limits::MemoryLimit;
use crate::core::size::{self, Bounds, Outcome, Raise};
use crate::core::task::{Placement, Task, TaskState};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// A raised limit, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raised {
    pub(super) raise: Raise,
    /// The attempt may begin: the limit is in force, or its runner has the attempt already.
    ready: bool,
    /// The attempt has ended, and the limit is being set back.
    over: bool,
}

impl Queue {
    /// Whose bounds have to be known before something is decided: of those that the next attempts with more memory are bound to.
    pub fn wants_bounds(&self) -> BTreeSet<InstanceName> {
        let waiting = self.grown.iter().filter_map(|id| self.tasks.get(id)).filter(|task| matches!(task.state, TaskState::Pending { .. }));
        waiting.filter_map(Task::bound_to).cloned().collect()
    }

    /// What bounds an instance's memory; `None` while that is not seen yet, and then what needs more than its limit waits.
    pub fn memory_bounds(&mut self, instance: &InstanceName, bounds: Option<Bounds>) {
        match bounds {
            Some(bounds) => drop(self.bounds.insert(instance.clone(), bounds)),
            None => drop(self.bounds.remove(instance)),
        }
    }

    /// Every raised limit once more: what was under way when clauded ended, or when nothing could be stored.
    pub fn limits(&self) -> Vec<Effect> {
        self.raises.iter().map(|(instance, raised)| set(instance, raised)).collect()
    }

    /// Whether a task that has ended so is tried once more, and with how much memory. `None` if memory is not what it wants, or it
    /// has had its try.
    pub(super) fn more_memory(&self, task: &Task, instance: &InstanceName, report: &Report) -> Option<Result<u64, String>> {
        let wanted = matches!(report.ended.reason(), Some(Reason::Oom | Reason::MemoryPressure)) && !self.rules.size_classes.is_empty();
        if !wanted || task.cancelling {
            return None;
        }
        match task.memory {
            // It has had what it was raised to, unless the limit could not be raised.
            Some(memory) => Some(Err(format!("it has been tried with {} already", MemoryLimit::Bytes(memory)))),
            None => Some(size::larger(&self.rules.size_classes, self.bounds.get(instance)?)),
        }
    }

    /// Whether a task needs more than its instance's limit, and that is not seen yet.
    pub(super) fn awaits_bounds(&self, id: TaskId, instance: &InstanceName) -> bool {
        self.grown.contains(&id) && !self.bounds.contains_key(instance)
    }

    /// What is to be done to begin an attempt that needs more memory than its instance has. `None` if nothing is.
    pub(super) fn raise(&mut self, placement: &Placement) -> Option<Vec<Effect>> {
        let memory = self.tasks.get(&placement.attempt.task)?.memory?;
        let raise = match self.raises.get(&placement.instance) {
            // What the instance had before it was raised is what it gets back, whoever raised it.
            Some(raised) => Raise { attempt: placement.attempt, memory, ..raised.raise.clone() },
            None => {
                let bounds = self.bounds.get(&placement.instance)?;
                Raise { attempt: placement.attempt, memory, max: bounds.max?, high: bounds.high }
            }
        };
        if raise.max >= memory {
            return None;
        }
        let raised = Raised { raise: raise.clone(), ready: false, over: false };
        let effects = vec![Effect::Save(Change::Raise(placement.instance.clone(), Some(raise))), set(&placement.instance, &raised)];
        self.raises.insert(placement.instance.clone(), raised);
        Some(effects)
    }

    /// What gives an attempt to its runner that was assigned before: its limit first, if that is not raised yet.
    pub(super) fn give_again(&self, placement: &Placement, resume: bool) -> Effect {
        match self.raises.get(&placement.instance).filter(|raised| raised.raise.attempt == placement.attempt && !raised.ready) {
            Some(raised) => set(&placement.instance, raised),
            None => Effect::Run { placement: placement.clone(), resume },
        }
    }

    /// A runner has that attempt: it was given to it under an earlier clauded, with its limit.
    pub(super) fn has_begun(&mut self, attempt: AttemptId) {
        self.raises.values_mut().filter(|raised| raised.raise.attempt == attempt).for_each(|raised| raised.ready = true);
    }

    /// Whether an attempt waits for its limit, so that its runner has not been told of it.
    pub(super) fn awaits_limit(&self, attempt: AttemptId) -> bool {
        self.raises.values().any(|raised| raised.raise.attempt == attempt && !raised.ready && !raised.over)
    }

    /// An attempt has ended: its instance gets its own limit back.
    pub(super) fn lower(&mut self, placement: &Placement) -> Vec<Effect> {
        match self.raises.get_mut(&placement.instance).filter(|raised| raised.raise.attempt == placement.attempt && !raised.over) {
            Some(raised) => {
                raised.over = true;
                vec![set(&placement.instance, raised)]
            }
            None => Vec::new(),
        }
    }

    /// The limits of an instance were set, or could not be, as [`Effect::Limit`] asked for that attempt.
    pub fn limited(&mut self, instance: &InstanceName, attempt: AttemptId, back: bool, outcome: &Outcome, now: Timestamp) -> Vec<Effect> {
        let Some(raised) = self.raises.get_mut(instance).filter(|raised| raised.raise.attempt == attempt && raised.over == back) else {
            return Vec::new();
        };
        let (was, is) = (MemoryLimit::Bytes(raised.raise.max), MemoryLimit::Bytes(raised.raise.memory));
        if back {
            self.raises.remove(instance);
            let (kind, message) = match outcome {
                Outcome::Done => ("limits-restored", format!("MemoryMax {is} → {was}: task {} has ended", attempt.task)),
                Outcome::Left(None) => ("limits-left", format!("MemoryMax stays infinity, which somebody has set while task {} had {is}", attempt.task)),
                Outcome::Left(Some(now)) => {
                    ("limits-left", format!("MemoryMax stays {}, which somebody has set while task {} had {is}", MemoryLimit::Bytes(*now), attempt.task))
                }
                Outcome::Failed(why) => {
                    ("limits-stuck", format!("MemoryMax stays {is} and should be {was} again: {why}; set it with: claudectl limit {instance} --memory {was}"))
                }
            };
            let tell = Effect::Tell { kind, instance: Some(instance.clone()), task: Some(attempt.task), message };
            return vec![Effect::Save(Change::Raise(instance.clone(), None)), tell];
        }
        if raised.ready {
            return Vec::new();
        }
        if let Outcome::Failed(why) = outcome {
            if !self.links.contains_key(instance) {
                // Its runner may have it, from an earlier clauded; when it is connected, this is asked again or needs no answer.
                return Vec::new();
            }
            let detail = format!("its memory limit could not be raised to {is}: {why}");
            return self.called_off(attempt.task, Ended::Failed { reason: Reason::Oom, transient: false }, &detail, now);
        }
        raised.ready = true;
        let message = format!("MemoryMax {was} → {is} for task {}, which has run out of memory", attempt.task);
        let Some(task) = self.tasks.get(&attempt.task) else { return Vec::new() };
        let TaskState::Assigned(placement) = &task.state else { return Vec::new() };
        let mut effects = vec![Effect::Tell { kind: "limits-raised", instance: Some(instance.clone()), task: Some(attempt.task), message }];
        if self.links.get(instance).is_some_and(|link| link.invocation == placement.invocation) {
            effects.push(Effect::Run { placement: placement.clone(), resume: task.home.as_ref() == Some(instance) });
        }
        effects
    }

    /// Ends an attempt that its runner has not been told of.
    pub(super) fn called_off(&mut self, id: TaskId, ended: Ended, detail: &str, now: Timestamp) -> Vec<Effect> {
        let Some(placement) = self.tasks.get(&id).and_then(|task| task.state.placement()).cloned() else { return Vec::new() };
        if let Some(link) = self.links.get_mut(&placement.instance).filter(|link| link.busy == Some(placement.attempt)) {
            link.busy = None;
        }
        let mut effects = self.close(id, &unseen(ended, detail, now), now);
        effects.extend(self.dispatch(now));
        effects
    }
}

/// The report on an attempt, with what follows from the memory that it wanted.
pub(super) fn with_consequence<'r>(report: &'r Report, more: Option<&Result<u64, String>>) -> Cow<'r, Report> {
    let what = match more {
        None => return Cow::Borrowed(report),
        Some(Ok(memory)) => format!("tried again with {}", MemoryLimit::Bytes(*memory)),
        Some(Err(why)) => format!("not tried again with more memory: {why}"),
    };
    Cow::Owned(Report { detail: format!("{}; {what}", report.detail), ..report.clone() })
}

fn set(instance: &InstanceName, raised: &Raised) -> Effect {
    Effect::Limit { instance: instance.clone(), raise: raised.raise.clone(), back: raised.over }
}

/// Those of a store; what belongs to attempts that are over is to be set back. Of those that are not, one whose agent has run has
/// begun.
pub(super) fn stored(raises: Vec<(InstanceName, Raise)>, tasks: &std::collections::BTreeMap<TaskId, Task>) -> std::collections::BTreeMap<InstanceName, Raised> {
    let raised = |name: &InstanceName, raise: Raise| {
        let state = tasks.get(&raise.attempt.task).map(|task| &task.state);
        let placement = state.and_then(TaskState::placement);
        let over = placement.is_none_or(|placement| placement.attempt != raise.attempt || placement.instance != *name);
        Raised { over, ready: !over && !matches!(state, Some(TaskState::Assigned(_))), raise }
    };
    raises.into_iter().map(|(name, raise)| (name.clone(), raised(&name, raise))).collect()
}
