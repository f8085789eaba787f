//! The instances as their supervisor sees them, and what their starts, exits and restarts mean for the queue.

use super::turn::Turn;
use crate::core::ids::{InstanceName, InvocationId};
use crate::core::instance::{ActiveState, Observation, Transition, transitions};
use crate::core::limits::Limits;
use crate::core::queue::Queue;
use crate::metrics::Metrics;
use crate::platform::units::UnitEvent;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What is known of the instances.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    seen: BTreeMap<InstanceName, Observation>,
    restarts: BTreeMap<InstanceName, u64>,
    problem: Option<String>,
    caught_up: bool,
}

impl Fleet {
    /// With the restarts that were counted before: instance, cause, how many.
    pub(super) fn new(restarts: Vec<(InstanceName, String, u64)>) -> Self {
        let mut fleet = Self { problem: Some("the supervisor has not answered yet".to_owned()), ..Self::default() };
        for (name, _, count) in restarts {
            *fleet.restarts.entry(name).or_default() += count;
        }
        fleet
    }

    /// The last look at an instance.
    pub(super) fn get(&self, name: &InstanceName) -> Option<&Observation> {
        self.seen.get(name)
    }

    /// The last look at every instance that is loaded.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.seen.values()
    }

    /// Automatic restarts that clauded has seen.
    pub(super) fn restarts(&self, name: &InstanceName) -> u64 {
        self.restarts.get(name).copied().unwrap_or_default()
    }

    /// Why the instances cannot be seen now, if they cannot.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The instance whose runner that process is.
    pub(super) fn with_main_pid(&self, pid: u32) -> Option<&InstanceName> {
        self.seen.values().find(|o| o.main_pid == pid && pid != 0).map(|o| &o.name)
    }

    /// Takes what the supervisor reports.
    pub(super) fn take(&mut self, event: UnitEvent, queue: &mut Queue, metrics: &Metrics, now: Timestamp, turn: &mut Turn) {
        match event {
            UnitEvent::Seen(now_seen) => self.see(*now_seen, queue, metrics, now, turn),
            UnitEvent::Gone(name) => {
                if let Some(before) = self.seen.remove(&name)
                    && let Some(invocation) = running(&before)
                {
                    turn.effects(queue.invocation_over(&name, invocation, true, "the instance was stopped", now), now);
                    turn.note("instance-ended", Some(&name), None, "stopped".to_owned(), Some("success".to_owned()), now);
                }
            }
            UnitEvent::CaughtUp => {
                self.problem = None;
                self.caught_up = true;
                self.settle(queue, now, turn);
            }
            UnitEvent::Disconnected(why) => {
                tracing::warn!("the supervisor is out of reach: {why}");
                self.problem = Some(format!("the supervisor is out of reach: {why}"));
                self.caught_up = false;
            }
        }
    }

    fn see(&mut self, look: Observation, queue: &mut Queue, metrics: &Metrics, now: Timestamp, turn: &mut Turn) {
        let name = look.name.clone();
        let before = self.seen.get(&name);
        for transition in transitions(before, &look) {
            match transition {
                Transition::Started(_) => {
                    turn.note("instance-started", Some(&name), None, format!("runs as process {}", look.main_pid), None, now);
                }
                Transition::Ended(invocation, cause) => {
                    let orderly = cause.result == "success";
                    tracing::info!(instance = %name, cause = %cause.result, "{name} ended: {}", cause.detail);
                    turn.effects(queue.invocation_over(&name, &invocation, orderly, &cause.detail, now), now);
                    turn.note("instance-ended", Some(&name), None, cause.detail, Some(cause.result), now);
                }
                Transition::Restarted(cause) => {
                    *self.restarts.entry(name.clone()).or_default() += 1;
                    metrics.restart(&name, &cause.result);
                    tracing::warn!(instance = %name, cause = %cause.result, "{name} restarted: {}", cause.detail);
                    turn.note("instance-restarted", Some(&name), None, cause.detail, Some(cause.result), now);
                }
                Transition::GaveUp(cause) => {
                    tracing::error!(instance = %name, cause = %cause.result, "{name} given up: {}", cause.detail);
                    turn.note("instance-gave-up", Some(&name), None, cause.detail, Some(cause.result), now);
                }
            }
        }
        if let Some(before) = before.filter(|b| b.limits != look.limits && look.active == ActiveState::Active && b.active == ActiveState::Active) {
            let message = describe_change(&before.limits, &look.limits);
            turn.note("limits-changed", Some(&name), None, message, None, now);
        }
        self.seen.insert(name, look);
    }

    /// Closes what the queue believes to run in invocations that are over. Only once every instance has been seen.
    pub(super) fn settle(&self, queue: &mut Queue, now: Timestamp, turn: &mut Turn) {
        if !self.caught_up {
            return;
        }
        let gone: Vec<_> = queue
            .tasks()
            .filter_map(|task| task.state.placement())
            .filter(|placement| self.seen.get(&placement.instance).and_then(running) != Some(&placement.invocation))
            .map(|placement| (placement.instance.clone(), placement.invocation.clone()))
            .collect();
        for (name, invocation) in gone {
            let detail = "its instance had ended before clauded looked again";
            turn.effects(queue.invocation_over(&name, &invocation, false, detail, now), now);
        }
    }
}

/// The invocation that runs, if one does.
fn running(look: &Observation) -> Option<&InvocationId> {
    let over = matches!(look.active, ActiveState::Failed | ActiveState::Inactive) || look.sub.starts_with("auto-restart");
    look.invocation.as_ref().filter(|_| !over)
}

/// `MemoryMax 4G → 6G`, for those that differ.
fn describe_change(before: &Limits, after: &Limits) -> String {
    let old: BTreeMap<_, _> = before.directives().into_iter().collect();
    let new: BTreeMap<_, _> = after.directives().into_iter().collect();
    let shown = |value: Option<&String>| value.filter(|v| !v.is_empty()).cloned().unwrap_or_else(|| "none".to_owned());
    let keys = old.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>();
    let changes: Vec<_> =
        keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).map(|key| format!("{key} {} → {}", shown(old.get(*key)), shown(new.get(*key)))).collect();
    changes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_limits_is_told_in_systemds_words() {
        let before = Limits { memory: "4G".parse().ok(), tasks: "100".parse().ok(), ..Limits::default() };
        let after = Limits { memory: "6G".parse().ok(), tasks: "100".parse().ok(), cpu: "50%".parse().ok(), ..Limits::default() };
        assert_eq!(describe_change(&before, &after), "CPUQuota none → 50%, MemoryMax 4G → 6G");
    }
}
