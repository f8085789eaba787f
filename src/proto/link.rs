//! The runner link: newline-delimited JSON over a Unix stream socket, the runner being the client.
//!
//! The daemon knows who is calling from the kernel (`SO_PEERCRED`, then `/proc/PID/cgroup`), never from what is said here.
//! What must not be lost (`Started`, `Finished`) carries a sequence number, stays in the runner's spool until the daemon
//! acknowledges it, and is sent again after a reconnection. `Progress` is sent as it comes and may be lost.

use crate::core::attempt::Report;
use crate::core::checkout::Checkout;
use crate::core::delivery::Stage;
use crate::core::forecast::{Merge, Oid, Survey};
use crate::core::ids::{AttemptId, InstanceName, InvocationId, SessionId};
use crate::core::lock::Uncovered;
use crate::core::message::MessageId;
use crate::core::profile::Profile;
use crate::core::usage::{AgentUsage, Usd};
use crate::core::worktree::Facts;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// Version of this protocol; a daemon refuses a newer major than its own and says so.
pub const VERSION: u32 = 1;
/// Longest line either side sends or takes, in bytes: a prompt of one megabyte, escaped, fits.
pub const LINE_MAX: usize = 8 << 20;

/// What the runner says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromRunner {
    /// First of all.
    Hello(Hello),
    /// An event that must not be lost.
    Event {
        /// Counts up over the life of the spool, restarts included.
        seq: u64,
        /// What happened.
        event: Event,
    },
    /// The answer to [`FromDaemon::Ask`].
    Answer {
        /// The question's number.
        id: u64,
        /// What there is to say.
        answer: Answer,
    },
    /// How the running attempt is doing; at most four a second.
    Progress(Progress),
    /// Whether an attempt has a lock on each of the files that it has changed; answered by [`FromDaemon::Locks`].
    Locks {
        /// The attempt.
        attempt: AttemptId,
        /// From the root of the worktree.
        files: Vec<String>,
    },
    /// It has been told to stop and takes no more tasks.
    Draining,
}

/// The runner's first words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// The program's version, for `claudectl status`.
    pub program: String,
    /// Who it thinks it is; the kernel's answer decides.
    pub instance: InstanceName,
    /// `$INVOCATION_ID`.
    pub invocation: InvocationId,
    /// The instance's working directory.
    pub directory: PathBuf,
    /// The attempt that it is running.
    pub current: Option<AttemptId>,
    /// How many spooled events follow at once, before it counts as ready for work.
    pub spooled: usize,
}

/// What must reach the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Event {
    /// The agent's process runs.
    Started {
        /// The attempt.
        attempt: AttemptId,
        /// The session that it works in, if the agent has sessions.
        session: Option<SessionId>,
        /// The agent's process.
        pid: u32,
        /// The task's cgroup below the instance's, empty where there is none.
        cgroup: String,
    },
    /// The agent has taken a message: it will be in what the model reads next.
    Delivered {
        /// The attempt.
        attempt: AttemptId,
        /// The message.
        message: MessageId,
    },
    /// The attempt has come to another stage.
    Entered {
        /// The attempt.
        attempt: AttemptId,
        /// Which.
        stage: Stage,
    },
    /// The attempt is over and no process of it is left.
    Finished {
        /// The attempt.
        attempt: AttemptId,
        /// How it went.
        report: Box<Report>,
    },
}

/// How the running attempt is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The attempt.
    pub attempt: AttemptId,
    /// What the agent is doing, in a few words: `Bash`, `thinking`, `throttled (429)`.
    pub doing: String,
    /// Whether the agent waits for its server's permission to go on (`system/api_retry`).
    pub throttled: bool,
    /// So far.
    pub usage: AgentUsage,
    /// Bytes of the attempt's log so far.
    pub log_bytes: u64,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromDaemon {
    /// The answer to Hello.
    Welcome,
    /// Everything up to and with that event is stored; the runner may forget it.
    Ack {
        /// The event's number.
        seq: u64,
    },
    /// Run this attempt. One that is already running or spooled is not run again.
    Run(Box<Work>),
    /// Give that to the attempt's agent, at its next tool boundary. It may come twice, and is given once.
    Message {
        /// The attempt; another one is not given it.
        attempt: AttemptId,
        /// The message.
        id: MessageId,
        /// The number by which the agent's own program knows it.
        uuid: Uuid,
        /// What the agent is told.
        text: String,
    },
    /// End that attempt because a person cancelled it.
    End {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The answer to [`FromRunner::Locks`].
    Locks {
        /// The attempt.
        attempt: AttemptId,
        /// The files that it has no lock on.
        uncovered: Vec<Uncovered>,
    },
    /// Do something with the worktree, and answer.
    Ask {
        /// The question's number.
        id: u64,
        /// What.
        job: Job,
    },
    /// The caller is not who may speak here; the connection ends.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// What is to be done with a worktree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Say what is in it.
    Look,
    /// Remove it, if nothing is lost with it.
    Remove,
    /// Tidy the repository's object store, if git finds that it is time to.
    Tidy,
    /// Say what it changes, while a task runs in it too.
    Survey,
    /// Say whether that commit merges with each of these, while a task runs too.
    Merge {
        /// The commit.
        ours: Oid,
        /// The others.
        with: Vec<Oid>,
    },
    /// Say which files the last commits of the base have changed together, while a task runs too.
    History,
}

impl Job {
    /// Whether it changes nothing in the worktree and can be done while a task runs in it.
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Survey | Self::Merge { .. } | Self::History)
    }
}

/// What came of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "what")]
pub enum Answer {
    /// What is in the worktree.
    Facts(Box<Facts>),
    /// It is removed.
    Removed,
    /// It is tidied, or did not need it.
    Tidied,
    /// What it changes.
    Survey(Box<Survey>),
    /// Whether they merge, in the order of the question.
    Merges(Vec<Merge>),
    /// The files of each commit, the newest first.
    History(Vec<Vec<String>>),
    /// It was not done, and why.
    Refused(String),
}

/// All that the runner needs to run one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The attempt.
    pub attempt: AttemptId,
    /// For the log and the status line.
    pub title: String,
    /// What the agent is told.
    pub prompt: String,
    /// The session to go on with, if there is one.
    pub resume: Option<SessionId>,
    /// The prompt is new in that session: another task's work in it has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub afresh: bool,
    /// Longest time of this attempt.
    pub timeout: Duration,
    /// What is left of the task's budget.
    pub budget: Option<Usd>,
    /// Most model turns.
    pub max_turns: Option<u32>,
    /// The JSON schema that the result has to fit; the report's text is then that JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
    /// Which agent, and how.
    pub profile: Profile,
    /// The repository to work in; without one it works in the instance's directory as that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<Box<Checkout>>,
}
