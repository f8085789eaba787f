//! The audit: which state changed, when, by whom and from where; and the chain of hashes over its rows.
//!
//! A row's hash covers the hash of the row before it, so that one that is changed, removed or moved shows. It says so to
//! whoever compares; it stops nobody who can write the file and makes all later hashes anew, but for the head that is kept apart.

mod chain;
mod change;
#[cfg(test)]
mod tests;

pub use chain::{Broken, Chain, Digest, Trimmed};

use super::ids::{InstanceName, TaskId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// What a row says when the oldest rows were removed; its details are a [`Trimmed`].
pub const TRIMMED: &str = "audit-trimmed";
/// What a row says when the head that was kept apart is not the chain's.
pub const MISMATCH: &str = "audit-mismatch";

/// Who made a state change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// clauded itself: time has passed, or a rule says so.
    Clauded,
    /// A process outside of all instances, as the kernel says.
    User {
        /// Its effective user.
        uid: u32,
        /// The user's name, if there is one.
        name: Option<String>,
        /// The process.
        pid: u32,
    },
    /// A process of an instance, as the kernel says.
    Agent {
        /// The instance.
        instance: InstanceName,
        /// The task whose cgroup the process is in.
        task: Option<TaskId>,
        /// Its effective user.
        uid: u32,
        /// The process.
        pid: u32,
    },
    /// The runner of an instance, over its link.
    Runner(InstanceName),
    /// Whoever shows the API's token.
    Token,
    /// Nobody in particular, as over TCP without a token.
    Anyone,
    /// systemd, or what stands in for it: what was seen of it.
    Supervisor,
}

/// Who, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// From where: `unix`, `tcp ADDRESS`, `link`, `supervisor`, `clauded`.
    pub origin: String,
}

impl Default for Actor {
    fn default() -> Self {
        Self::clauded()
    }
}

impl Actor {
    /// clauded itself.
    pub fn clauded() -> Self {
        Self { who: Who::Clauded, origin: "clauded".to_owned() }
    }

    /// An instance's runner.
    pub fn runner(instance: InstanceName) -> Self {
        Self { who: Who::Runner(instance), origin: "link".to_owned() }
    }

    /// The supervisor of the instances.
    pub fn supervisor() -> Self {
        Self { who: Who::Supervisor, origin: "supervisor".to_owned() }
    }

    /// The signal that a service manager or an operator sends, whose sender the kernel does not tell.
    pub fn signal() -> Self {
        Self { who: Who::Clauded, origin: "signal".to_owned() }
    }

    /// A process at the other end of the Unix socket.
    pub fn local(who: Who) -> Self {
        Self { who, origin: "unix".to_owned() }
    }

    /// Whoever calls over TCP from that address.
    pub fn tcp(who: Who, from: impl fmt::Display) -> Self {
        Self { who, origin: format!("tcp {from}") }
    }

    /// Its effective user, where the kernel says it.
    pub fn uid(&self) -> Option<u32> {
        match &self.who {
            Who::User { uid, .. } | Who::Agent { uid, .. } => Some(*uid),
            Who::Clauded | Who::Runner(_) | Who::Token | Who::Anyone | Who::Supervisor => None,
        }
    }

    /// A row about something that it did.
    pub fn did(&self, what: impl Into<String>, at: Timestamp) -> Entry {
        let (uid, pid, acting) = match &self.who {
            Who::User { uid, pid, .. } => (Some(*uid), Some(*pid), None),
            Who::Agent { uid, pid, task, .. } => (Some(*uid), Some(*pid), task.map(|task| task.0)),
            Who::Clauded | Who::Runner(_) | Who::Token | Who::Anyone | Who::Supervisor => (None, None, None),
        };
        Entry {
            at: at.as_microsecond(),
            who: self.who.to_string(),
            uid,
            pid,
            acting,
            origin: self.origin.clone(),
            what: what.into(),
            instance: None,
            task: None,
            subject: None,
            details: "{}".to_owned(),
        }
    }
}

impl Who {
    /// What a person who asks for that one means: a name alone is a user's.
    pub fn asked_for(text: &str) -> String {
        let whole = text.contains(':') || ["clauded", "token", "anyone", "supervisor"].contains(&text);
        if whole { text.to_owned() } else { format!("user:{text}") }
    }
}

/// As the audit's column and its filter have it. A user without a name goes by number.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clauded => f.write_str("clauded"),
            Self::User { name: Some(name), .. } => write!(f, "user:{name}"),
            Self::User { uid, name: None, .. } => write!(f, "user:{uid}"),
            Self::Agent { instance, .. } => write!(f, "instance:{instance}"),
            Self::Runner(instance) => write!(f, "runner:{instance}"),
            Self::Token => f.write_str("token"),
            Self::Anyone => f.write_str("anyone"),
            Self::Supervisor => f.write_str("supervisor"),
        }
    }
}

/// Which rows to list: all that fit every bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only about this instance.
    pub instance: Option<InstanceName>,
    /// Only about this task.
    pub task: Option<TaskId>,
    /// Only of this one, a [`Who`] in words.
    pub who: Option<String>,
    /// Only of this kind.
    pub what: Option<String>,
    /// Not before that time.
    pub since: Option<Timestamp>,
    /// Before that time.
    pub until: Option<Timestamp>,
    /// Only with a smaller number, newest first.
    pub before: Option<i64>,
    /// Only with a greater number, oldest first.
    pub after: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

/// A row of the audit, but for its number and its hash. Serialized it is what the hash covers, so that the order of the fields
/// must stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When, microseconds since 1970 UTC.
    pub at: i64,
    /// Who: a [`Who`] in words.
    pub who: String,
    /// The process's user.
    pub uid: Option<u32>,
    /// The process.
    pub pid: Option<u32>,
    /// The task in which an agent was acting.
    pub acting: Option<i64>,
    /// From where.
    pub origin: String,
    /// What: `task-assigned`, `instance-start`, `config-reloaded`, …
    pub what: String,
    /// To which instance.
    pub instance: Option<String>,
    /// To which task.
    pub task: Option<i64>,
    /// To what else: a lock, a message.
    pub subject: Option<String>,
    /// More, a JSON object. Never a prompt or a secret.
    pub details: String,
}

impl Entry {
    /// …to that instance.
    #[must_use]
    pub fn of_instance(mut self, instance: Option<&InstanceName>) -> Self {
        self.instance = instance.map(ToString::to_string);
        self
    }

    /// …to that task.
    #[must_use]
    pub fn of_task(mut self, task: Option<TaskId>) -> Self {
        self.task = task.map(|task| task.0);
        self
    }

    /// …to that lock, message or whatever has a name.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// …with these details, a JSON object.
    #[must_use]
    pub fn with(mut self, details: &Value) -> Self {
        self.details = details.to_string();
        self
    }
}
