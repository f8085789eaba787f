//! The port to the durable store, and its rules: every method is one transaction, committed and on disk when it returns.

#[cfg(test)]
mod contract;
pub mod sqlite;

use crate::core::attempt::Report;
use crate::core::audit::{Broken, Chain, Entry};
use crate::core::ids::{AttemptId, InstanceName, InvocationId, SessionId, TaskId};
use crate::core::instance::Mark;
use crate::core::label::Label;
use crate::core::lock;
use crate::core::message::{self, Letter, Message, MessageId};
use crate::core::plan;
use crate::core::queue::Change;
use crate::core::schedule::Schedule;
use crate::core::task::{Task, TaskSpec};
use jiff::Timestamp;
use std::path::PathBuf;

pub use sqlite::SqliteStore;

/// Why the store did not do as asked. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is from a newer clauded. It was not touched.
    #[error("{path}: written by a newer clauded (schema {found}, this one knows {known}); install that version again, or set [store] path to another file")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file is no SQLite database, truncated or damaged. It was not touched.
    #[error("{path}: not a usable database ({detail}); nothing was changed. Restore it from a backup, or move it away to begin with an empty queue")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        detail: String,
    },
    /// The disk is full.
    #[error("{path}: no space left on the device; nothing was changed. Free some space, the queue goes on by itself")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{path}: {verb}: {detail}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What was being done.
        verb: &'static str,
        /// SQLite's words.
        detail: String,
    },
}

/// A task as it is read back, with what the queue does not keep.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTask {
    /// What the queue works with.
    pub task: Task,
    /// What was asked for.
    pub spec: TaskSpec,
    /// The outcome of its last attempt in a sentence, empty if there is none.
    pub detail: String,
    /// When it reached its final state.
    pub finished: Option<Timestamp>,
}

/// An attempt as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// Where.
    pub instance: InstanceName,
    /// In which start of the instance's unit.
    pub invocation: InvocationId,
    /// When it was assigned.
    pub assigned: Timestamp,
    /// When its agent was started, once known.
    pub started: Option<Timestamp>,
    /// The session, once known.
    pub session: Option<SessionId>,
    /// The end, once there is one.
    pub report: Option<Report>,
}

/// Something that happened, for `claudectl events` and `claudectl status NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What: `task-added`, `task-started`, `task-finished`, `instance-started`, `instance-ended`, `instance-restarted`,
    /// `instance-gave-up`, `limits-changed`, `usage-limit`, …
    pub kind: String,
    /// On which instance.
    pub instance: Option<InstanceName>,
    /// On which task.
    pub task: Option<TaskId>,
    /// A sentence for people; for a restart or exit, the cause's detail.
    pub message: String,
    /// The cause in one word where there is one: systemd's `Result`, a task's reason.
    pub cause: Option<String>,
}

/// What is known of an instance's worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredWorktree {
    /// Its repository in the configuration.
    pub repository: String,
    /// Where it is.
    pub directory: String,
    /// The branch that is checked out.
    pub branch: Option<String>,
    /// What it takes on disk, once measured.
    pub bytes: Option<u64>,
    /// When its runner told of it last.
    pub measured: Option<Timestamp>,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only in this state (by [`crate::core::task::TaskState::name`]).
    pub state: Option<String>,
    /// Only for or on this instance.
    pub instance: Option<InstanceName>,
    /// Only of this group.
    pub group: Option<Label>,
    /// Only with a smaller number than this: for paging, newest first.
    pub before: Option<TaskId>,
    /// At most this many.
    pub limit: u32,
}

/// What changes of a schedule.
#[derive(Clone, Debug)]
pub enum ScheduleChange {
    /// It is new.
    Put(Schedule),
    /// It is gone.
    Remove(Label),
    /// It was due, and has added the task at that place of the batch's new ones; `None` if it was passed over.
    Ran {
        /// Which.
        name: Label,
        /// When.
        at: Timestamp,
        /// Where its task stands in [`Batch::add`].
        place: Option<usize>,
    },
}

/// A message as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// The message; in lists a long text is cut.
    pub message: Message,
    /// How long the text is.
    pub bytes: u64,
    /// Of a call for help: the task that is to answer it.
    pub task: Option<TaskId>,
    /// Its letters, by recipient.
    pub letters: Vec<StoredLetter>,
    /// What was sent in answer to it.
    pub answers: Vec<MessageId>,
}

/// A letter as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// How far it has come.
    pub letter: Letter,
    /// Since when.
    pub moved: Timestamp,
}

/// A row of the audit as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number.
    pub seq: i64,
    /// What it says.
    pub entry: Entry,
    /// Its hash, as stored.
    pub hash: String,
}

/// What came of computing all hashes of the audit anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditCheck {
    /// The number that the first row has, or would have.
    pub first: i64,
    /// How many rows fit.
    pub rows: u64,
    /// The last that fits.
    pub last: Chain,
    /// What does not fit: all that rows tell of, then the first row that does not.
    pub broken: Vec<Broken>,
    /// Whether the head that was kept apart is of a row that is still there, if there is one.
    pub head_compared: bool,
}

/// One unit of durable work: all of it is on disk, or none.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New tasks; their numbers come back in this order.
    pub add: Vec<(TaskSpec, Timestamp)>,
    /// Which of them come after which others of them: the place of the later one, of the earlier one.
    pub links: Vec<(usize, usize)>,
    /// The queue's decisions, in order.
    pub changes: Vec<Change>,
    /// Attempts whose agent has been started: when, and in which session if it has one.
    pub begun: Vec<(AttemptId, Timestamp, Option<SessionId>)>,
    /// Usage limits now in force: account and reset time.
    pub holds: Vec<(String, Timestamp)>,
    /// What is kept of looks at instances; `None` where the instance is no longer loaded.
    pub marks: Vec<(InstanceName, Option<Mark>)>,
    /// What changes of schedules.
    pub schedules: Vec<ScheduleChange>,
    /// Locks taken, changed and given back, in order.
    pub locks: Vec<lock::Change>,
    /// Events to keep (their `id` is given by the store).
    pub events: Vec<StoredEvent>,
    /// What is known of worktrees now; `None` where one is gone.
    pub worktrees: Vec<(InstanceName, Option<StoredWorktree>)>,
    /// What becomes of messages, in order.
    pub mail: Vec<message::Change>,
    /// What becomes of plans, in order.
    pub plans: Vec<plan::Change>,
    /// Rows of the audit, about all of this.
    pub audit: Vec<Entry>,
}

impl Batch {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        let Self { add, links: _, changes, begun, holds, marks, schedules, locks, events, worktrees, mail, plans, audit } = self;
        let queue = add.is_empty() && changes.is_empty() && begun.is_empty() && holds.is_empty() && schedules.is_empty();
        let beside = marks.is_empty() && locks.is_empty() && worktrees.is_empty() && mail.is_empty() && plans.is_empty();
        queue && beside && events.is_empty() && audit.is_empty()
    }
}
