//! What systemd says of an instance's unit, and which starts, exits and restarts follow from two such looks.

use super::ids::{InstanceName, InvocationId};
use super::limits::Limits;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The sub-cgroup of an instance's service in which its runner lives, alone.
pub const RUNNER_GROUP: &str = "runner";

/// A unit's `ActiveState` (org.freedesktop.systemd1(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    /// Running.
    Active,
    /// Starting, or waiting for its restart.
    Activating,
    /// Stopping.
    Deactivating,
    /// Given up.
    Failed,
    /// Reading its configuration again.
    Reloading,
    /// Not running.
    #[default]
    Inactive,
}

impl ActiveState {
    /// All of them, for metrics that name each state.
    pub const ALL: [Self; 6] = [Self::Active, Self::Activating, Self::Deactivating, Self::Failed, Self::Reloading, Self::Inactive];

    /// systemd's name; an unknown one counts as `inactive`.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|s| s.name() == name).unwrap_or_default()
    }

    /// systemd's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Failed => "failed",
            Self::Reloading => "reloading",
            Self::Inactive => "inactive",
        }
    }
}

impl fmt::Display for ActiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One look at an instance's service, as its supervisor sees it. The names are systemd's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The instance.
    pub name: InstanceName,
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`: `running`, `auto-restart`, `dead`, …
    pub sub: String,
    /// `Result`: `success`, `exit-code`, `signal`, `core-dump`, `watchdog`, `timeout`, `oom-kill`, `start-limit-hit`, …
    pub result: String,
    /// `NRestarts`: automatic restarts since the last start by hand.
    pub restarts: u32,
    /// `MainPID`; 0 if there is none.
    pub main_pid: u32,
    /// `ExecMainCode`: 1 exited, 2 killed, 3 dumped core; 0 if it has not ended (`CLD_*` of sigaction(2)).
    pub exec_main_code: i32,
    /// `ExecMainStatus`: the exit status, or the signal.
    pub exec_main_status: i32,
    /// `InvocationID`.
    pub invocation: Option<InvocationId>,
    /// `StatusText`: what the runner says it is doing.
    pub status_text: String,
    /// `ControlGroup`: the service's path below the cgroup root; empty if it has none.
    pub control_group: String,
    /// `ActiveEnterTimestamp`: when it became active.
    pub since: Option<Timestamp>,
    /// The limits in force on the instance's slice, as its supervisor states them.
    pub limits: Limits,
    /// `memory.events` `oom_kill` of the slice, which outlives the service; `None` where nobody counts.
    pub oom_kills: Option<u64>,
    /// Those of them that were not the runner; `None` while its own cgroup is not there.
    pub oom_kills_of_tasks: Option<u64>,
}

/// Why a service's process ended, in one word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitCause {
    /// systemd's `Result`, the metrics' label.
    pub result: String,
    /// The sentence.
    pub detail: String,
}

/// What is kept of a look, so that a later one tells what has happened since. The store keeps it too: what happened while
/// clauded was away is told like everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// `ActiveState`.
    pub active: ActiveState,
    /// `NRestarts`.
    pub restarts: u32,
    /// `InvocationID`.
    pub invocation: Option<InvocationId>,
    /// Why that invocation ended; `None` while it goes on.
    pub ended: Option<ExitCause>,
}

impl Mark {
    /// The invocation that runs, if one does.
    pub fn running(&self) -> Option<&InvocationId> {
        self.invocation.as_ref().filter(|_| self.ended.is_none())
    }
}

/// What happened between two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A new invocation runs.
    Started(InvocationId),
    /// An invocation has ended; whoever ran in it is gone.
    Ended(InvocationId, ExitCause),
    /// It was started again by its supervisor, because of that.
    Restarted(ExitCause),
    /// It was given up.
    GaveUp(ExitCause),
}

impl Observation {
    /// This look, with the result that systemd does not tell after `OOMPolicy=continue`: it says `signal` of a main process that
    /// the kernel killed for want of memory. The kernel counts a kill before it kills, and the kill of a task's process is
    /// behind the look that came of the status at the task's end: what is counted beyond those of tasks was the main process.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        const SIGKILL: (i32, i32) = (2, 9);
        let goes_on = self.invocation == before.invocation;
        // Before the runner has its cgroup, all that was counted was of the invocations before; a slice without processes has no count.
        let of_tasks = if goes_on { before.oom_kills_of_tasks } else { Some(before.oom_kills.unwrap_or(0)) };
        let killed = goes_on && self.result == "signal" && (self.exec_main_code, self.exec_main_status) == SIGKILL;
        if killed && (before.result == "oom-kill" || of_tasks.is_some_and(|count| self.oom_kills > Some(count))) {
            "oom-kill".clone_into(&mut self.result);
        }
        self.oom_kills_of_tasks = self.oom_kills_of_tasks.or(of_tasks);
        self
    }

    /// Why the last process of the service ended, from `Result`, `ExecMainCode` and `ExecMainStatus`.
    pub fn cause(&self) -> ExitCause {
        let exit = match self.exec_main_code {
            1 => format!("exit status {}", self.exec_main_status),
            2 => format!("signal {}", self.exec_main_status),
            3 => format!("signal {}, core dumped", self.exec_main_status),
            _ => String::new(),
        };
        let what = match self.result.as_str() {
            "success" => "ended in order",
            "exit-code" => "the runner failed",
            "signal" | "core-dump" => "the runner was killed",
            "watchdog" => "the runner did not answer its watchdog",
            "timeout" => "starting or stopping took too long",
            "oom-kill" => "the kernel killed the runner for want of memory",
            "start-limit-hit" => "it was restarted too often",
            "resources" => "systemd could not set up the service",
            other => other,
        };
        let detail = match (exit.is_empty(), self.status_text.is_empty() || self.result == "success") {
            (true, true) => what.to_owned(),
            (false, true) => format!("{what} ({exit})"),
            (true, false) => format!("{what}: {}", self.status_text),
            (false, false) => format!("{what} ({exit}): {}", self.status_text),
        };
        ExitCause { result: self.result.clone(), detail }
    }

    /// What is kept of this look.
    pub fn mark(&self) -> Mark {
        Mark { active: self.active, restarts: self.restarts, invocation: self.invocation.clone(), ended: self.is_over().then(|| self.cause()) }
    }

    /// The invocation that runs, if one does.
    pub fn running(&self) -> Option<&InvocationId> {
        self.invocation.as_ref().filter(|_| !self.is_over())
    }

    /// Whether the invocation is over: its process is gone and will not come back under the same ID.
    fn is_over(&self) -> bool {
        matches!(self.active, ActiveState::Failed | ActiveState::Inactive) || self.sub.starts_with("auto-restart")
    }
}

/// What happened to an instance between an earlier look (if any) and `now`.
///
/// systemd may coalesce signals, and clauded may have been away, so a restart is told from `NRestarts` and `InvocationID`, not
/// from having seen the state in between; the cause then comes from what the unit still says about its last exit.
pub fn transitions(before: Option<&Mark>, now: &Observation) -> Vec<Transition> {
    let mut seen = Vec::new();
    let old = before.and_then(Mark::running);
    let running = now.running();
    if let Some(old) = old
        && running != Some(old)
    {
        // With a new invocation already running, the exit fields are the new one's: what is left is that it ended.
        let cause = if running.is_none() { now.cause() } else { before_restart(now) };
        seen.push(Transition::Ended(old.clone(), cause));
    }
    // Fewer than before means that a start by hand has set the count to zero in between.
    let counted = before.map(|b| b.restarts).filter(|counted| *counted <= now.restarts).unwrap_or_default();
    if now.restarts > counted {
        let cause = match before.and_then(|b| b.ended.clone()) {
            Some(cause) => cause,
            None if now.is_over() => now.cause(),
            None => before_restart(now),
        };
        seen.extend((counted..now.restarts).map(|_| Transition::Restarted(cause.clone())));
    }
    if let Some(new) = running
        && old != Some(new)
    {
        seen.push(Transition::Started(new.clone()));
    }
    if now.active == ActiveState::Failed && before.is_none_or(|b| b.active != ActiveState::Failed) {
        seen.push(Transition::GaveUp(now.cause()));
    }
    seen
}

/// The cause of an exit whose own state was never seen.
fn before_restart(now: &Observation) -> ExitCause {
    match now.exec_main_code {
        0 => ExitCause { result: "unknown".to_owned(), detail: "it was started again before anyone saw why it ended".to_owned() },
        _ => now.cause(),
    }
}

#[cfg(test)]
impl Observation {
    /// A service that runs, for tests.
    pub fn running_in(name: InstanceName, invocation: InvocationId) -> Self {
        Self {
            name,
            active: ActiveState::Active,
            sub: "running".into(),
            result: "success".into(),
            restarts: 0,
            main_pid: 7,
            exec_main_code: 0,
            exec_main_status: 0,
            invocation: Some(invocation),
            status_text: String::new(),
            control_group: String::new(),
            since: None,
            limits: Limits::default(),
            oom_kills: None,
            oom_kills_of_tasks: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> InvocationId {
        InvocationId::from_bytes(&[n; 16]).expect("not zero")
    }

    fn running(n: u8, restarts: u32) -> Observation {
        Observation { restarts, ..Observation::running_in("a".parse().expect("valid"), id(n)) }
    }

    fn waiting(n: u8, restarts: u32) -> Observation {
        Observation {
            active: ActiveState::Activating,
            sub: "auto-restart".into(),
            result: "oom-kill".into(),
            exec_main_code: 2,
            exec_main_status: 9,
            main_pid: 0,
            ..running(n, restarts)
        }
    }

    #[test]
    fn a_first_look_at_a_running_instance_adopts_it_with_the_restarts_that_nobody_counted() {
        assert_eq!(transitions(None, &running(1, 0)), [Transition::Started(id(1))]);
        let seen = transitions(None, &running(1, 1));
        assert!(matches!(seen.as_slice(), [Transition::Restarted(c), Transition::Started(_)] if c.result == "unknown"), "{seen:?}");
    }

    #[test]
    fn a_restart_seen_step_by_step_is_counted_once_with_its_cause() {
        let ended = transitions(Some(&running(1, 0).mark()), &waiting(1, 0));
        assert!(matches!(ended.as_slice(), [Transition::Ended(i, c)] if *i == id(1) && c.result == "oom-kill"), "{ended:?}");
        let again = transitions(Some(&waiting(1, 0).mark()), &running(2, 1));
        assert!(matches!(again.as_slice(), [Transition::Restarted(c), Transition::Started(i)] if c.result == "oom-kill" && *i == id(2)), "{again:?}");
        assert_eq!(transitions(Some(&running(2, 1).mark()), &running(2, 1)), []);
    }

    #[test]
    fn a_kill_beyond_those_of_tasks_was_the_runner() {
        let alive = |invocation, all, of_tasks| Observation { oom_kills: all, oom_kills_of_tasks: of_tasks, ..running(invocation, 0) };
        let killed = |all| Observation { result: "signal".into(), oom_kills: all, ..waiting(1, 0) };
        let result = |before, now: Observation| now.after(&before).result;
        assert_eq!(result(alive(1, Some(3), Some(3)), killed(Some(4))), "oom-kill");
        assert_eq!(result(alive(1, Some(4), Some(3)), killed(Some(4))), "oom-kill", "counted before systemd knew, and a look between");
        assert_eq!(result(alive(1, Some(4), Some(4)), killed(Some(4))), "signal", "a task's kill that was told, then kill -9");
        assert_eq!(result(alive(1, None, None), killed(Some(4))), "signal", "nobody knows whose kills these are");
        assert_eq!(result(alive(2, Some(3), Some(3)), killed(Some(4))), "signal", "of another invocation");
        let told = Observation { oom_kills: Some(4), ..waiting(1, 0) };
        assert_eq!(result(told, killed(Some(4))), "oom-kill", "a later look at the same end");
        let other = Observation { exec_main_status: 11, ..killed(Some(4)) };
        assert_eq!(result(alive(1, Some(3), Some(3)), other), "signal", "its own fault");
        // Its cgroup is not there yet, or not any more.
        let early = alive(1, Some(5), None).after(&alive(2, Some(4), Some(4)));
        assert_eq!(result(early.clone(), killed(Some(5))), "oom-kill", "killed while it starts");
        assert_eq!(result(early, killed(Some(4))), "signal");
        let late = alive(1, Some(4), None).after(&alive(1, Some(3), Some(3)));
        assert_eq!(result(late, killed(Some(4))), "oom-kill", "its cgroup went before systemd said why");
        let first = alive(1, Some(1), None).after(&Observation { invocation: None, ..running(1, 0) });
        assert_eq!(result(first, killed(Some(1))), "oom-kill", "the first start");
    }

    #[test]
    fn a_restart_that_nobody_saw_is_still_counted() {
        let seen = transitions(Some(&running(1, 0).mark()), &running(2, 1));
        assert!(matches!(seen.as_slice(), [Transition::Ended(..), Transition::Restarted(c), Transition::Started(_)] if c.result == "unknown"), "{seen:?}");
    }

    #[test]
    fn a_restart_by_hand_is_a_new_start_and_no_automatic_restart() {
        let seen = transitions(Some(&running(1, 2).mark()), &running(2, 0));
        assert!(matches!(seen.as_slice(), [Transition::Ended(..), Transition::Started(_)]), "{seen:?}");
        let seen = transitions(Some(&running(1, 2).mark()), &running(3, 1));
        assert!(matches!(seen.as_slice(), [Transition::Ended(..), Transition::Restarted(_), Transition::Started(_)]), "one more after it: {seen:?}");
    }

    #[test]
    fn giving_up_is_told_once_with_the_runners_own_words() {
        let failed = Observation {
            active: ActiveState::Failed,
            sub: "failed".into(),
            result: "exit-code".into(),
            exec_main_code: 1,
            exec_main_status: 78,
            status_text: "no such directory: /x".into(),
            ..running(1, 0)
        };
        let seen = transitions(Some(&running(1, 0).mark()), &failed);
        assert!(
            matches!(seen.as_slice(), [Transition::Ended(..), Transition::GaveUp(c)] if c.detail == "the runner failed (exit status 78): no such directory: /x"),
            "{seen:?}"
        );
        assert_eq!(transitions(Some(&failed.mark()), &failed), []);
    }
}
