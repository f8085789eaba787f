//! The verdict on an attempt, from what the runner, the kernel and the agent each saw.

use super::attempt::{Ended, Exit, Reason};
use super::profile::credential_advice;
use jiff::Timestamp;

/// Why the runner itself ended the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// A person cancelled the task.
    Cancelled,
    /// The attempt ran past its time.
    Timeout,
    /// The agent printed nothing for too long.
    Stalled,
    /// The cgroup stood still for want of memory.
    MemoryPressure,
    /// The cost passed the budget.
    Budget,
    /// The instance is being stopped.
    Shutdown,
}

/// What the agent's adapter made of its output and exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentVerdict {
    /// It says that it has done the work.
    Success,
    /// It says that it failed.
    Error {
        /// Which of our reasons it is.
        reason: Reason,
        /// Whether it may well succeed later.
        transient: bool,
        /// Its words.
        text: String,
    },
    /// Its account is at its usage limit.
    Limited {
        /// When the limit resets.
        until: Option<Timestamp>,
        /// Its words.
        text: String,
    },
    /// It ended without saying how it went.
    Silent,
}

/// All that was seen of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The error of starting the program, if it did not start.
    pub spawn_error: Option<String>,
    /// Why the runner ended it, if it did.
    pub stop: Option<StopCause>,
    /// Processes of the task that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// How the agent's process ended.
    pub exit: Option<Exit>,
    /// What the adapter says.
    pub agent: AgentVerdict,
}

/// The verdict and a sentence on it.
///
/// The kernel's word goes before the runner's, the runner's before the agent's; but an agent that said success and exited
/// with 0 has succeeded, whatever was about to happen to it.
pub fn judge(facts: &Facts) -> (Ended, String) {
    let failed = |reason, transient, detail: String| (Ended::Failed { reason, transient }, detail);
    if let Some(error) = &facts.spawn_error {
        return failed(Reason::Spawn, false, format!("the agent could not be started: {error}"));
    }
    if facts.agent == AgentVerdict::Success && facts.exit == Some(Exit::Code(0)) {
        return (Ended::Succeeded, String::new());
    }
    if facts.stop == Some(StopCause::Cancelled) {
        return (Ended::Cancelled, "cancelled".to_owned());
    }
    if facts.oom_kills > 0 {
        return failed(Reason::Oom, false, "the kernel killed it at its memory limit; raise the limit or make the task smaller".to_owned());
    }
    match facts.stop {
        Some(StopCause::Timeout) => return failed(Reason::Timeout, false, "it ran past its time limit and was ended".to_owned()),
        Some(StopCause::Stalled) => return failed(Reason::Stalled, true, "it printed nothing for too long and was ended".to_owned()),
        Some(StopCause::MemoryPressure) => {
            return failed(Reason::MemoryPressure, false, "it stood still at its memory limit and was ended; raise the limit".to_owned());
        }
        Some(StopCause::Budget) => return failed(Reason::Budget, false, "it passed its budget and was ended".to_owned()),
        Some(StopCause::Shutdown) => return (Ended::Interrupted, "the instance was stopped; the task goes on in the same session".to_owned()),
        Some(StopCause::Cancelled) | None => {}
    }
    match (&facts.agent, facts.exit) {
        (AgentVerdict::Limited { until, text }, _) => (Ended::Limited { until: *until }, text.clone()),
        (AgentVerdict::Error { reason: Reason::Auth, transient, text }, _) => {
            let advice = credential_advice("NAME");
            failed(Reason::Auth, *transient, format!("{text}; {advice}, reload clauded and restart the instance"))
        }
        (AgentVerdict::Error { reason, transient, text }, _) => failed(*reason, *transient, text.clone()),
        (_, Some(Exit::Signal(number))) => failed(Reason::Lost, true, format!("signal {number} killed the agent from outside")),
        (AgentVerdict::Success, Some(Exit::Code(code))) => {
            failed(Reason::AgentError, false, format!("the agent reported success but exited with status {code}"))
        }
        (_, Some(Exit::Code(code))) => failed(Reason::AgentError, false, format!("the agent exited with status {code} without a result")),
        (_, None) => failed(Reason::Lost, true, "nobody saw how the agent ended".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { spawn_error: None, stop: None, oom_kills: 0, exit: Some(Exit::Code(0)), agent: AgentVerdict::Success }
    }

    fn reason(facts: &Facts) -> Option<Reason> {
        judge(facts).0.reason()
    }

    #[test]
    fn success_needs_both_the_word_and_the_exit_status() {
        assert_eq!(judge(&facts()).0, Ended::Succeeded);
        assert_eq!(reason(&Facts { exit: Some(Exit::Code(1)), ..facts() }), Some(Reason::AgentError));
        assert_eq!(reason(&Facts { agent: AgentVerdict::Silent, ..facts() }), Some(Reason::AgentError));
    }

    #[test]
    fn a_success_just_before_the_end_counts() {
        assert_eq!(judge(&Facts { stop: Some(StopCause::Timeout), ..facts() }).0, Ended::Succeeded);
    }

    #[test]
    fn the_kernel_goes_before_the_runner_and_the_runner_before_the_agent() {
        let killed = Facts { exit: Some(Exit::Signal(9)), agent: AgentVerdict::Silent, ..facts() };
        assert_eq!(reason(&Facts { oom_kills: 1, stop: Some(StopCause::Timeout), ..killed.clone() }), Some(Reason::Oom));
        assert_eq!(reason(&Facts { stop: Some(StopCause::Stalled), ..killed.clone() }), Some(Reason::Stalled));
        assert_eq!(judge(&Facts { stop: Some(StopCause::Shutdown), ..killed.clone() }).0, Ended::Interrupted);
        assert_eq!(judge(&Facts { stop: Some(StopCause::Cancelled), oom_kills: 1, ..killed.clone() }).0, Ended::Cancelled);
        assert_eq!(judge(&killed).0, Ended::Failed { reason: Reason::Lost, transient: true });
    }

    #[test]
    fn a_usage_limit_is_no_failure() {
        let until = Some(Timestamp::UNIX_EPOCH);
        let limited = Facts { exit: Some(Exit::Code(1)), agent: AgentVerdict::Limited { until, text: "limit".into() }, ..facts() };
        assert_eq!(judge(&limited), (Ended::Limited { until }, "limit".to_owned()));
    }

    #[test]
    fn who_has_no_login_is_told_how_agents_get_one() {
        let agent = AgentVerdict::Error { reason: Reason::Auth, transient: false, text: "Not logged in".into() };
        let (ended, detail) = judge(&Facts { exit: Some(Exit::Code(1)), agent, ..facts() });
        assert_eq!(ended.reason(), Some(Reason::Auth));
        assert!(detail.starts_with("Not logged in; put an API key") && detail.contains("claude setup-token") && detail.contains("credential-file"), "{detail}");
    }

    #[test]
    fn a_program_that_does_not_start_is_named() {
        let (ended, detail) =
            judge(&Facts { spawn_error: Some("/usr/bin/claude: No such file or directory".into()), exit: None, agent: AgentVerdict::Silent, ..facts() });
        assert_eq!(ended.reason(), Some(Reason::Spawn));
        assert!(detail.contains("/usr/bin/claude"));
    }
}
