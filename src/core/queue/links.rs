//! Runners that connect, go, and drain; and starts of units that are over.

use super::{Effect, Hello, Link, Queue};
use crate::core::attempt::{Ended, Reason};
use crate::core::ids::{InstanceName, InvocationId, TaskId};
use crate::core::task::{Task, TaskState};
use jiff::Timestamp;

impl Queue {
    /// A runner has connected, and its reports of before have been taken in with [`Queue::finished`].
    pub fn linked(&mut self, hello: Hello, now: Timestamp) -> Vec<Effect> {
        let Hello { instance, invocation, account, current } = hello;
        let lost = Ended::Failed { reason: Reason::Lost, transient: true };
        let mut effects = self.close_where(&instance, |other| *other != invocation, &lost, "the instance was restarted while it ran", now);
        let mut busy = None;
        let here: Vec<Task> = self.placed_on(&instance).cloned().collect();
        for task in here {
            match (&task.state, current) {
                (state, Some(running)) if state.placement().is_some_and(|p| p.attempt == running) => {
                    busy = Some(running);
                    self.has_begun(running);
                    if task.cancelling {
                        effects.push(Effect::End { instance: instance.clone(), attempt: running });
                    }
                }
                (TaskState::Assigned(p), None) => {
                    // It never reached the runner.
                    busy = Some(p.attempt);
                    if task.cancelling {
                        effects.extend(self.give_up(task.id, Ended::Cancelled, "cancelled before it began", now));
                        busy = None;
                    } else {
                        effects.push(self.give_again(p, task.home.as_ref() == Some(&instance)));
                    }
                }
                (state, _) if state.placement().is_some() => {
                    effects.extend(self.give_up(task.id, lost.clone(), "its runner does not know of it any more", now));
                }
                _ => {}
            }
        }
        if let Some(running) = current.filter(|r| busy != Some(*r)) {
            // Nobody waits for this one any more.
            effects.push(Effect::End { instance: instance.clone(), attempt: running });
            busy = Some(running);
        }
        let given = self.links.get(&instance).map_or(0, |link| link.given);
        self.links.insert(instance, Link { invocation, account, busy, draining: false, given });
        effects.extend(self.dispatch(now));
        effects
    }

    /// A runner's connection is gone. It goes on with what it does; nothing new is given to it.
    pub fn unlinked(&mut self, instance: &InstanceName, invocation: &InvocationId) {
        if self.links.get(instance).is_some_and(|link| link.invocation == *invocation) {
            self.links.remove(instance);
        }
    }

    /// The runner is about to stop and takes nothing more.
    pub fn draining(&mut self, instance: &InstanceName) {
        if let Some(link) = self.links.get_mut(instance) {
            link.draining = true;
        }
    }

    /// An invocation of an instance's unit is over: nothing of it runs any more.
    ///
    /// `orderly` says that it was stopped, not that it failed; then the task goes on later and nothing counts as a failure.
    pub fn invocation_over(&mut self, instance: &InstanceName, invocation: &InvocationId, orderly: bool, detail: &str, now: Timestamp) -> Vec<Effect> {
        self.unlinked(instance, invocation);
        let ended = if orderly { Ended::Interrupted } else { Ended::Failed { reason: Reason::Lost, transient: true } };
        let mut effects = self.close_where(instance, |other| other == invocation, &ended, detail, now);
        effects.extend(self.dispatch(now));
        effects
    }

    /// Closes what was placed on those invocations of an instance that are over, and gives back what was claimed in them.
    fn close_where(&mut self, instance: &InstanceName, over: impl Fn(&InvocationId) -> bool, ended: &Ended, detail: &str, now: Timestamp) -> Vec<Effect> {
        let gone: Vec<TaskId> = self.placed_on(instance).filter(|t| t.state.placement().is_some_and(|p| over(&p.invocation))).map(|t| t.id).collect();
        let mut effects: Vec<Effect> = gone.into_iter().flat_map(|id| self.give_up(id, ended.clone(), detail, now)).collect();
        effects.extend(self.give_claims_back(instance, over, now));
        effects
    }

    pub(super) fn placed_on<'a>(&'a self, instance: &'a InstanceName) -> impl Iterator<Item = &'a Task> {
        self.placed.on(instance).filter_map(|id| self.tasks.get(&id))
    }
}
