//! One execution of a task: how it ended, why, and what it used.

use super::delivery::Delivery;
use super::ids::SessionId;
use super::usage::{AgentUsage, KernelUsage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why an attempt failed. The names are those of the API, the store and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The agent said so, or exited with an error.
    AgentError,
    /// The kernel killed it at its memory limit.
    Oom,
    /// It stood still at its memory limit without being killed.
    MemoryPressure,
    /// It ran past its time.
    Timeout,
    /// It printed nothing for too long.
    Stalled,
    /// The agent is not logged in, or its account does not pay.
    Auth,
    /// It would have cost more than it may.
    Budget,
    /// Its process, its runner or its host went away.
    Lost,
    /// The agent's program could not be started.
    Spawn,
    /// The work did not pass its check.
    VerifyFailed,
    /// The worktree, its branch or its base cannot be used, or the work in it could not be committed.
    Worktree,
    /// The work is committed, and its branch could not be pushed.
    Publish,
    /// It has changed files without a lock on them, and the repository does not allow that.
    Locks,
    /// A task that it comes after failed or was cancelled.
    Dependency,
    /// Whoever had claimed it says that it failed.
    Reported,
}

impl Reason {
    /// All of them, for metrics that start at zero.
    pub const ALL: [Self; 15] = [
        Self::AgentError,
        Self::Oom,
        Self::MemoryPressure,
        Self::Timeout,
        Self::Stalled,
        Self::Auth,
        Self::Budget,
        Self::Lost,
        Self::Spawn,
        Self::VerifyFailed,
        Self::Worktree,
        Self::Publish,
        Self::Locks,
        Self::Dependency,
        Self::Reported,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AgentError => "agent-error",
            Self::Oom => "oom",
            Self::MemoryPressure => "memory-pressure",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::Auth => "auth",
            Self::Budget => "budget",
            Self::Lost => "lost",
            Self::Spawn => "spawn",
            Self::VerifyFailed => "verify-failed",
            Self::Worktree => "worktree",
            Self::Publish => "publish",
            Self::Locks => "locks",
            Self::Dependency => "dependency",
            Self::Reported => "reported",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Reason {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|r| r.name() == text).ok_or("not a reason")
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Ended {
    /// The agent did what it was asked.
    Succeeded,
    /// It did not.
    Failed {
        /// Why.
        reason: Reason,
        /// Whether the same attempt may well succeed later (an overloaded server, a dropped connection).
        transient: bool,
    },
    /// A person ended it.
    Cancelled,
    /// The account's usage limit is reached: no failure, the task waits.
    Limited {
        /// When the limit resets, where the agent said so.
        until: Option<Timestamp>,
    },
    /// The instance was stopped in order while it ran; the task goes on in the same session.
    Interrupted,
}

impl Ended {
    /// The stable name of the outcome.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Limited { .. } => "limited",
            Self::Interrupted => "interrupted",
        }
    }

    /// The reason of a failure.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Failed { reason, .. } => Some(*reason),
            _ => None,
        }
    }
}

/// How a process ended (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It exited with that status.
    Code(i32),
    /// That signal killed it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// All that is known of an attempt once it has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub ended: Ended,
    /// One sentence for people: what happened, and what to do where that is known.
    pub detail: String,
    /// How the agent's process ended; `None` if it never started or nobody saw it.
    pub exit: Option<Exit>,
    /// The agent's conversation, if it has one.
    pub session: Option<SessionId>,
    /// When the agent was started.
    pub started: Timestamp,
    /// When the last of its processes was gone.
    pub finished: Timestamp,
    /// What the agent says it used.
    pub agent: AgentUsage,
    /// What the kernel says it used.
    pub kernel: KernelUsage,
    /// The agent's last words, cut to a bound.
    pub text: String,
    /// What it left in its repository, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Box<Delivery>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_their_names() {
        for reason in Reason::ALL {
            assert_eq!(reason.name().parse(), Ok(reason));
            assert_eq!(serde_json::to_string(&reason).ok(), Some(format!("\"{reason}\"")));
        }
    }
}
