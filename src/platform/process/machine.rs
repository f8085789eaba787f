//! One instance's life, pure: what follows from a command, a message of the runner, its end, or a deadline. The states and
//! results are those of systemd's services (org.freedesktop.systemd1(5)), so that nobody need know who supervises.

use super::Policy;
use crate::core::ids::InvocationId;
use crate::core::instance::ActiveState;
use crate::platform::units::Done;
use std::collections::VecDeque;
use std::time::Instant;

/// `EX_CONFIG`: what a restart cannot mend (`RestartPreventExitStatus=78`).
const EX_CONFIG: i32 = 78;

/// Signals that end a service in order (systemd.service(5), `SuccessExitStatus=`): HUP, INT, PIPE, TERM.
const ORDERLY_SIGNALS: [i32; 4] = [1, 2, 13, 15];

/// How a runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With that status.
    Status(i32),
    /// By that signal; whether it dumped core.
    Signal(i32, bool),
    /// It was no child of this daemon, so nobody told how.
    Unknown,
    /// It never ran.
    NotStarted,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Start a runner.
    Launch,
    /// Ask the runner to end.
    Terminate,
    /// End it for want of a sign of life, with a core to look at.
    Abort,
    /// End it and all it started.
    Kill,
    /// Answer those who asked for a start.
    Started(Outcome),
    /// Answer those who asked for a stop.
    Stopped(Outcome),
}

/// The answer to a verb: done, or how the job failed in systemd's word.
pub(super) type Outcome = Result<Done, &'static str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dead,
    Failed,
    Starting { until: Instant },
    Running { alive_until: Instant },
    Stopping { until: Instant, killed: bool },
    Waiting { until: Instant },
}

/// One instance.
#[derive(Debug)]
pub(super) struct Machine {
    policy: Policy,
    phase: Phase,
    /// `Result`.
    pub(super) result: &'static str,
    /// `NRestarts`.
    pub(super) restarts: u32,
    /// `ExecMainCode`, `ExecMainStatus`.
    pub(super) exec_main: (i32, i32),
    /// `StatusText`.
    pub(super) status_text: String,
    /// `InvocationID`.
    pub(super) invocation: Option<InvocationId>,
    starts: VecDeque<Instant>,
    /// The result to report when the runner that is being ended has ended.
    verdict: Option<&'static str>,
    /// Somebody asked for the end that is awaited.
    stop_wanted: bool,
    /// Somebody asked for a start after the end that is awaited.
    start_wanted: bool,
    /// The runner said STOPPING=1.
    leaving: bool,
}

impl Machine {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            phase: Phase::Dead,
            result: "success",
            restarts: 0,
            exec_main: (0, 0),
            status_text: String::new(),
            invocation: None,
            starts: VecDeque::new(),
            verdict: None,
            stop_wanted: false,
            start_wanted: false,
            leaving: false,
        }
    }

    /// An instance that an earlier daemon started and that still runs. Its READY=1 may have come when nobody listened.
    pub(super) fn adopted(policy: Policy, invocation: InvocationId, restarts: u32, now: Instant) -> Self {
        Self { invocation: Some(invocation), restarts, phase: Phase::Running { alive_until: now + policy.watchdog }, ..Self::new(policy) }
    }

    /// An instance that an earlier daemon was about to start again.
    pub(super) fn waiting(policy: Policy, restarts: u32, now: Instant) -> Self {
        Self { restarts, phase: Phase::Waiting { until: now + policy.restart_sec }, ..Self::new(policy) }
    }

    /// Whether the end that is awaited was asked for.
    pub(super) fn is_stop_wanted(&self) -> bool {
        self.stop_wanted && !self.start_wanted
    }

    /// `ActiveState`, `SubState`.
    pub(super) fn state(&self) -> (ActiveState, &'static str) {
        match self.phase {
            Phase::Dead => (ActiveState::Inactive, "dead"),
            Phase::Failed => (ActiveState::Failed, "failed"),
            Phase::Starting { .. } => (ActiveState::Activating, "start"),
            Phase::Running { .. } => (ActiveState::Active, "running"),
            Phase::Stopping { killed: true, .. } => (ActiveState::Deactivating, "stop-sigkill"),
            Phase::Stopping { .. } if self.verdict == Some("watchdog") => (ActiveState::Deactivating, "stop-watchdog"),
            Phase::Stopping { .. } => (ActiveState::Deactivating, "stop-sigterm"),
            Phase::Waiting { .. } => (ActiveState::Activating, "auto-restart"),
        }
    }

    /// When [`Self::due`] is to be called if nothing else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Dead | Phase::Failed | Phase::Stopping { killed: true, .. } => None,
            Phase::Starting { until } | Phase::Stopping { until, .. } | Phase::Waiting { until } => Some(until),
            Phase::Running { alive_until } => Some(alive_until),
        }
    }

    /// Start it.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Effect> {
        match self.phase {
            Phase::Running { .. } => vec![Effect::Started(Ok(Done::Unchanged))],
            Phase::Starting { .. } => Vec::new(),
            Phase::Stopping { .. } => {
                self.start_wanted = true;
                Vec::new()
            }
            Phase::Dead | Phase::Failed | Phase::Waiting { .. } => self.start_by_hand(now),
        }
    }

    /// Stop it if it runs, then start it.
    pub(super) fn restart(&mut self, now: Instant) -> Vec<Effect> {
        match self.phase {
            Phase::Running { .. } | Phase::Starting { .. } => {
                let effects = self.end(now, Effect::Terminate, None);
                (self.stop_wanted, self.start_wanted) = (true, true);
                effects
            }
            _ => self.start(now),
        }
    }

    /// Stop it.
    pub(super) fn stop(&mut self, now: Instant) -> Vec<Effect> {
        match self.phase {
            Phase::Dead | Phase::Failed => vec![Effect::Stopped(Ok(Done::Unchanged))],
            Phase::Waiting { .. } => {
                (self.phase, self.restarts) = (Phase::Dead, 0);
                vec![Effect::Stopped(Ok(Done::Changed))]
            }
            Phase::Stopping { .. } => {
                (self.stop_wanted, self.start_wanted) = (true, false);
                vec![Effect::Started(Err("canceled"))]
            }
            Phase::Starting { .. } | Phase::Running { .. } => {
                let mut effects = vec![Effect::Started(Err("canceled"))];
                effects.extend(self.end(now, Effect::Terminate, None));
                (self.stop_wanted, self.start_wanted) = (true, false);
                effects
            }
        }
    }

    /// Who asks by hand wants it started: earlier failures do not count.
    fn start_by_hand(&mut self, now: Instant) -> Vec<Effect> {
        if self.phase == Phase::Failed {
            self.starts.clear();
        }
        self.restarts = 0;
        self.launch(now)
    }

    fn launch(&mut self, now: Instant) -> Vec<Effect> {
        let (burst, interval) = self.policy.start_limit;
        self.starts.retain(|start| now.duration_since(*start) < interval);
        if self.starts.len() >= burst {
            (self.phase, self.result) = (Phase::Failed, "start-limit-hit");
            return vec![Effect::Started(Err("failed"))];
        }
        self.starts.push_back(now);
        self.phase = Phase::Starting { until: now + self.policy.start_timeout };
        (self.result, self.exec_main) = ("success", (0, 0));
        (self.verdict, self.stop_wanted, self.start_wanted, self.leaving) = (None, false, false, false);
        self.status_text.clear();
        vec![Effect::Launch]
    }

    /// Begins to end the runner.
    fn end(&mut self, now: Instant, how: Effect, verdict: Option<&'static str>) -> Vec<Effect> {
        self.verdict = verdict;
        let patience = if how == Effect::Abort { self.policy.abort_timeout } else { self.policy.stop_timeout };
        self.phase = Phase::Stopping { until: now + patience, killed: false };
        vec![how]
    }

    /// A runner has been started.
    pub(super) fn launched(&mut self, invocation: InvocationId) {
        self.invocation = Some(invocation);
    }

    /// The runner said something (sd_notify(3)): lines `KEY=VALUE`.
    pub(super) fn said(&mut self, message: &str, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        for line in message.lines() {
            match (line.split_once('='), self.phase) {
                (Some(("STATUS", text)), _) => self.status_text = text.to_owned(),
                (Some(("READY", "1")), Phase::Starting { .. }) => {
                    self.phase = Phase::Running { alive_until: now + self.policy.watchdog };
                    effects.push(Effect::Started(Ok(Done::Changed)));
                }
                (Some(("WATCHDOG", "1")), Phase::Running { .. }) => self.phase = Phase::Running { alive_until: now + self.policy.watchdog },
                (Some(("STOPPING", "1")), _) => self.leaving = true,
                _ => {}
            }
        }
        effects
    }

    /// A deadline has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Effect> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        match self.phase {
            Phase::Starting { .. } => self.end(now, Effect::Terminate, Some("timeout")),
            Phase::Running { .. } => self.end(now, Effect::Abort, Some("watchdog")),
            Phase::Stopping { until, .. } => {
                self.phase = Phase::Stopping { until, killed: true };
                self.verdict = self.verdict.or(Some("timeout"));
                vec![Effect::Kill]
            }
            Phase::Waiting { .. } => {
                self.restarts += 1;
                self.launch(now)
            }
            Phase::Dead | Phase::Failed => Vec::new(),
        }
    }

    /// The runner and all it started are gone.
    pub(super) fn ended(&mut self, exit: Exit, now: Instant) -> Vec<Effect> {
        self.exec_main = match exit {
            Exit::Status(status) => (1, status),
            Exit::Signal(signal, false) => (2, signal),
            Exit::Signal(signal, true) => (3, signal),
            Exit::Unknown | Exit::NotStarted => (0, 0),
        };
        let own = match exit {
            Exit::Status(0) => "success",
            Exit::Status(_) => "exit-code",
            Exit::Signal(signal, _) if ORDERLY_SIGNALS.contains(&signal) => "success",
            Exit::Signal(_, true) => "core-dump",
            Exit::Signal(_, false) => "signal",
            Exit::Unknown if self.stop_wanted || self.leaving => "success",
            Exit::Unknown => "unknown",
            Exit::NotStarted => "resources",
        };
        self.result = self.verdict.take().unwrap_or(own);
        let was_starting = matches!(self.phase, Phase::Starting { .. }) || self.result == "timeout" && !self.stop_wanted;
        let mut effects = Vec::new();
        if self.start_wanted {
            effects.push(Effect::Stopped(Ok(Done::Changed)));
            self.restarts = 0;
            effects.extend(self.launch(now));
            return effects;
        }
        if was_starting {
            effects.push(Effect::Started(Err(if self.result == "timeout" { "timeout" } else { "failed" })));
        }
        let failed = self.result != "success";
        self.phase = if failed && !self.stop_wanted && exit != Exit::Status(EX_CONFIG) {
            Phase::Waiting { until: now + self.policy.restart_sec }
        } else if failed {
            Phase::Failed
        } else {
            self.restarts = 0;
            Phase::Dead
        };
        effects.push(Effect::Stopped(Ok(Done::Changed)));
        effects
    }
}

#[cfg(test)]
mod tests;
