//! The instances as their supervisor sees them, and what their starts, exits and restarts mean for the queue.

use super::turn::{Action, Turn};
use crate::core::ids::{InstanceName, InvocationId};
use crate::core::instance::{ActiveState, Mark, Observation, Transition, transitions};
use crate::core::limits::Limits;
use crate::core::queue::Queue;
use crate::platform::units::UnitEvent;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the instances.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    seen: BTreeMap<InstanceName, Observation>,
    /// Who was looked at since the supervisor was last out of reach.
    looked: BTreeSet<InstanceName>,
    /// What was told of the instances, as the store has it.
    marks: BTreeMap<InstanceName, Mark>,
    control_group: Option<String>,
    restarts: BTreeMap<InstanceName, u64>,
    problem: Option<String>,
    caught_up: bool,
}

impl Fleet {
    /// Nothing is seen yet.
    pub(super) fn new() -> Self {
        Self { problem: Some("the supervisor has not answered yet".to_owned()), ..Self::default() }
    }

    /// What the store knows of earlier looks: the restarts that were counted (instance, cause, how many), and what was told.
    pub(super) fn recall(&mut self, restarts: Vec<(InstanceName, String, u64)>, marks: Vec<(InstanceName, Mark)>) {
        self.restarts.clear();
        for (name, _, count) in restarts {
            *self.restarts.entry(name).or_default() += count;
        }
        self.marks = marks.into_iter().collect();
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

    /// The fleet's cgroup below the root of the hierarchy, if it has one.
    pub(super) fn control_group(&self) -> Option<&str> {
        self.control_group.as_deref()
    }

    /// Takes what the supervisor reports.
    pub(super) fn take(&mut self, event: UnitEvent, queue: &mut Queue, now: Timestamp, turn: &mut Turn) {
        match event {
            UnitEvent::Fleet(control_group) => self.control_group = Some(control_group),
            UnitEvent::Seen(look) => {
                let name = look.name.clone();
                let look = match self.seen.get(&name) {
                    Some(before) => look.after(before),
                    None => *look,
                };
                let was_active = self.seen.get(&name).filter(|before| before.active == ActiveState::Active && look.active == ActiveState::Active);
                if let Some(before) = was_active.filter(|before| before.limits != look.limits) {
                    turn.note("limits-changed", Some(&name), None, describe_change(&before.limits, &look.limits), None, now);
                }
                self.seen.insert(name.clone(), look);
                self.looked.insert(name.clone());
                self.tell(&name, queue, now, turn);
            }
            UnitEvent::Gone(name) => {
                self.seen.remove(&name);
                self.forget(&name, "success", "the instance was stopped", queue, now, turn);
            }
            UnitEvent::CaughtUp => {
                self.problem = None;
                self.caught_up = true;
                self.seen.retain(|name, _| self.looked.contains(name));
                self.settle(queue, now, turn);
            }
            UnitEvent::Disconnected(why) => {
                tracing::warn!("the supervisor is out of reach: {why}");
                self.problem = Some(format!("the supervisor is out of reach: {why}"));
                self.caught_up = false;
                self.looked.clear();
            }
        }
    }

    /// Tells what has happened to an instance since that was last told.
    fn tell(&mut self, name: &InstanceName, queue: &mut Queue, now: Timestamp, turn: &mut Turn) {
        let Some(look) = self.seen.get(name) else { return };
        let (before, after) = (self.marks.get(name), look.mark());
        if before == Some(&after) {
            return;
        }
        for transition in transitions(before, look) {
            match transition {
                Transition::Started(_) => {
                    turn.note("instance-started", Some(name), None, format!("runs as process {}", look.main_pid), None, now);
                }
                Transition::Ended(invocation, cause) => {
                    let orderly = cause.result == "success";
                    tracing::info!(instance = %name, cause = %cause.result, "{name} ended: {}", cause.detail);
                    turn.effects(queue.invocation_over(name, &invocation, orderly, &cause.detail, now), now);
                    turn.over.push((name.clone(), invocation));
                    turn.note("instance-ended", Some(name), None, cause.detail, Some(cause.result), now);
                }
                Transition::Restarted(cause) => {
                    *self.restarts.entry(name.clone()).or_default() += 1;
                    tracing::warn!(instance = %name, cause = %cause.result, "{name} restarted: {}", cause.detail);
                    turn.actions.push(Action::Restarted(name.clone(), cause.result.clone()));
                    turn.note("instance-restarted", Some(name), None, cause.detail, Some(cause.result), now);
                }
                Transition::GaveUp(cause) => {
                    tracing::error!(instance = %name, cause = %cause.result, "{name} given up: {}", cause.detail);
                    turn.note("instance-gave-up", Some(name), None, cause.detail, Some(cause.result), now);
                }
            }
        }
        turn.batch.marks.push((name.clone(), Some(after.clone())));
        self.marks.insert(name.clone(), after);
    }

    /// An instance is not loaded any more.
    fn forget(&mut self, name: &InstanceName, cause: &str, detail: &str, queue: &mut Queue, now: Timestamp, turn: &mut Turn) {
        let Some(mark) = self.marks.remove(name) else { return };
        turn.batch.marks.push((name.clone(), None));
        if let Some(invocation) = mark.running() {
            turn.effects(queue.invocation_over(name, invocation, cause == "success", detail, now), now);
            turn.over.push((name.clone(), invocation.clone()));
            turn.note("instance-ended", Some(name), None, detail.to_owned(), Some(cause.to_owned()), now);
        }
    }

    /// Tells what is not told yet, and closes what the queue believes to run in invocations that are over. Nothing is believed
    /// to be over before every instance has been seen, nor while its runner is connected: that it is, is newer than any look.
    pub(super) fn settle(&mut self, queue: &mut Queue, now: Timestamp, turn: &mut Turn) {
        for name in self.seen.keys().cloned().collect::<Vec<_>>() {
            self.tell(&name, queue, now, turn);
        }
        if !self.caught_up {
            return;
        }
        const DETAIL: &str = "the instance had ended before clauded looked again";
        let left: Vec<_> = self.marks.iter().filter(|(name, mark)| !self.seen.contains_key(*name) && !is_linked(queue, name, mark.running())).collect();
        for name in left.into_iter().map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.forget(&name, "unknown", DETAIL, queue, now, turn);
        }
        let gone: Vec<_> = queue
            .tasks()
            .filter_map(|task| task.state.rests_on())
            .filter(|(instance, invocation)| self.seen.get(*instance).and_then(Observation::running) != Some(invocation))
            .filter(|(instance, invocation)| !is_linked(queue, instance, Some(invocation)))
            .map(|(instance, invocation)| (instance.clone(), invocation.clone()))
            .collect();
        for (name, invocation) in gone {
            turn.effects(queue.invocation_over(&name, &invocation, false, DETAIL, now), now);
        }
    }
}

/// Whether the runner of that invocation is connected.
fn is_linked(queue: &Queue, name: &InstanceName, invocation: Option<&InvocationId>) -> bool {
    invocation.is_some() && queue.invocation(name) == invocation
}

/// `MemoryMax 4G → 6G`, for those that differ.
fn describe_change(before: &Limits, after: &Limits) -> String {
    let old: BTreeMap<_, _> = before.directives().into_iter().collect();
    let new: BTreeMap<_, _> = after.directives().into_iter().collect();
    let shown = |value: Option<&String>| value.filter(|v| !v.is_empty()).cloned().unwrap_or_else(|| "none".to_owned());
    let keys = old.keys().chain(new.keys()).collect::<BTreeSet<_>>();
    let changes: Vec<_> =
        keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).map(|key| format!("{key} {} → {}", shown(old.get(*key)), shown(new.get(*key)))).collect();
    changes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::core::ids::{AttemptId, TaskId};
    use crate::core::pool::Rules;
    use crate::core::queue::{Hello, Stored};
    use crate::core::task::{Placement, Target, Task, TaskState};

    /// A fleet with the queue that it tells.
    struct World {
        fleet: Fleet,
        queue: Queue,
    }

    fn name(text: &str) -> InstanceName {
        text.parse().expect("valid")
    }

    fn invocation(byte: u8) -> InvocationId {
        InvocationId::from_bytes(&[byte; 16]).expect("not zero")
    }

    fn look(text: &str, byte: u8, restarts: u32) -> Observation {
        Observation { restarts, ..Observation::running_in(name(text), invocation(byte)) }
    }

    fn failed(text: &str, byte: u8) -> Observation {
        Observation { active: ActiveState::Failed, sub: "failed".into(), result: "signal".into(), ..look(text, byte, 0) }
    }

    fn seen(look: Observation) -> UnitEvent {
        UnitEvent::Seen(Box::new(look))
    }

    impl World {
        /// With task 1 running on `a`, in its first invocation.
        fn new() -> Self {
            let placement = Placement { attempt: AttemptId { task: TaskId(1), number: 1 }, instance: name("a"), invocation: invocation(1) };
            let task = Task { state: TaskState::Running(placement), attempts: 1, home: Some(name("a")), ..Task::waiting(1, Target::Any) };
            let stored = Stored { tasks: vec![task], ..Stored::default() };
            Self { fleet: Fleet::new(), queue: Queue::load(stored, Rules::default()) }
        }

        /// What is told of that, as `KIND NAME` or `KIND NAME: CAUSE`.
        fn take(&mut self, event: UnitEvent) -> Vec<String> {
            let mut turn = Turn::default();
            self.fleet.take(event, &mut self.queue, Timestamp::UNIX_EPOCH, &mut turn);
            let told = turn.batch.events.into_iter().filter(|event| event.kind.starts_with("instance-"));
            told.map(|event| {
                let cause = event.cause.map_or_else(String::new, |cause| format!(": {cause}"));
                format!("{} {}{cause}", event.kind, event.instance.expect("an instance"))
            })
            .collect()
        }

        /// The next daemon: it has what the store has.
        fn restart(&mut self) {
            let restarts = self.fleet.restarts.iter().map(|(name, count)| (name.clone(), String::new(), *count)).collect();
            let marks = std::mem::take(&mut self.fleet.marks).into_iter().collect();
            self.fleet = Fleet::new();
            self.fleet.recall(restarts, marks);
        }

        fn task_runs(&self) -> bool {
            self.queue.task(TaskId(1)).is_some_and(|task| task.state.placement().is_some())
        }
    }

    #[test]
    fn a_new_daemon_tells_what_happened_while_none_was_there_and_nothing_else() {
        let mut world = World::new();
        for look in [look("a", 1, 0), look("b", 2, 1), failed("c", 3)] {
            world.take(seen(look));
        }
        world.restart();
        assert_eq!(world.take(seen(look("a", 1, 0))), [""; 0], "it went on");
        assert_eq!(world.take(seen(failed("c", 3))), [""; 0], "that was told");
        assert_eq!(world.take(seen(look("b", 4, 2))), ["instance-ended b: unknown", "instance-restarted b: unknown", "instance-started b"]);
        assert_eq!(world.take(UnitEvent::CaughtUp), [""; 0]);
        assert_eq!((world.fleet.restarts(&name("b")), world.task_runs()), (2, true));
    }

    #[test]
    fn who_is_not_found_again_has_ended_and_its_task_goes_on_elsewhere() {
        for restart in [true, false] {
            let mut world = World::new();
            world.take(seen(look("a", 1, 0)));
            world.take(seen(look("b", 2, 0)));
            world.take(UnitEvent::CaughtUp);
            if restart {
                world.restart();
            }
            world.take(UnitEvent::Disconnected("the bus went away".to_owned()));
            assert_eq!(world.take(seen(look("b", 2, 0))), [""; 0]);
            assert!(world.task_runs(), "not all have been looked at yet");
            assert_eq!(world.take(UnitEvent::CaughtUp), ["instance-ended a: unknown"]);
            assert!(!world.task_runs() && world.fleet.get(&name("a")).is_none() && world.fleet.get(&name("b")).is_some());
        }
    }

    #[test]
    fn a_connected_runner_is_newer_than_any_look() {
        let mut world = World::new();
        let stopped = Observation { active: ActiveState::Inactive, sub: "dead".into(), invocation: None, ..look("a", 9, 0) };
        world.take(seen(stopped));
        let current = Some(AttemptId { task: TaskId(1), number: 1 });
        world.queue.linked(Hello { instance: name("a"), invocation: invocation(1), account: String::new(), current }, Timestamp::UNIX_EPOCH);
        world.take(UnitEvent::CaughtUp);
        assert!(world.task_runs(), "its next look is on the way");
        world.queue.unlinked(&name("a"), &invocation(1));
        world.take(UnitEvent::CaughtUp);
        assert!(!world.task_runs());
    }

    #[test]
    fn what_could_not_be_stored_is_told_again() {
        let mut world = World::new();
        world.take(seen(look("a", 1, 0)));
        let marks: Vec<_> = world.fleet.marks.clone().into_iter().collect();
        world.take(seen(look("a", 2, 1)));
        world.fleet.recall(Vec::new(), marks);
        let mut turn = Turn::default();
        world.fleet.settle(&mut world.queue, Timestamp::UNIX_EPOCH, &mut turn);
        let told: Vec<_> = turn.batch.events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!((told, world.fleet.restarts(&name("a"))), (vec!["instance-ended", "instance-restarted", "instance-started"], 1));
    }

    #[test]
    fn a_change_of_limits_is_told_in_systemds_words() {
        let before = Limits { memory: "4G".parse().ok(), tasks: "100".parse().ok(), ..Limits::default() };
        let after = Limits { memory: "6G".parse().ok(), tasks: "100".parse().ok(), cpu: "50%".parse().ok(), ..Limits::default() };
        assert_eq!(describe_change(&before, &after), "CPUQuota none → 50%, MemoryMax 4G → 6G");
    }
}
