//! Locks, pure: who may change which paths. Every decision is made here and leaves as effects, in the order to perform them.
//!
//! The caller commits all [`Effect::Save`] before it performs any other effect, and loads the table again if that fails. Those
//! who wait are not stored: their callers ask again.

mod graph;
mod index;
mod pattern;
mod table;

pub use pattern::{GLOBS_MAX, InvalidPattern, Kind, Pattern};
pub use table::Locks;

use super::ids::{InstanceName, InvocationId, TaskId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Longest time that a lock may be given without being renewed.
pub const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest reason, in bytes.
pub const REASON_MAX: usize = 200;
/// Most locks of one owner; one lock on a directory does what more would.
pub const OWN_MAX: usize = 10_000;
/// Most requests that wait.
pub const WAITS_MAX: usize = 1000;

/// A lock's number; counts up, never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockId(pub i64);

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A waiting request; later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitId(pub u64);

/// Where, and which paths there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The repository's name, or the directory's path where there is none: worktrees of one repository are one place.
    pub place: String,
    /// The paths, from the root of the worktree.
    pub pattern: Pattern,
}

impl Scope {
    fn meets(&self, other: &Self) -> bool {
        self.place == other.place && self.pattern.overlaps(&other.pattern)
    }

    fn covers(&self, other: &Self) -> bool {
        self.place == other.place && self.pattern.covers(&other.pattern)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.pattern, self.place)
    }
}

/// How many may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Any number, to read in peace.
    Shared,
    /// One, to write.
    Exclusive,
}

impl Mode {
    /// The name in the API and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        }
    }

    fn conflicts(self, other: Self) -> bool {
        self == Self::Exclusive || other == Self::Exclusive
    }
}

/// Who holds or wants a lock, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// What runs in an instance.
    Agent {
        /// The instance.
        instance: InstanceName,
        /// Its task, all attempts of it; `None` for what a person runs there.
        task: Option<TaskId>,
    },
    /// Anyone else who may.
    Person {
        /// The user; `None` for who came with a token.
        uid: Option<u32>,
        /// Its name.
        name: String,
    },
}

impl Owner {
    /// The instance, if it is one's.
    pub fn instance(&self) -> Option<&InstanceName> {
        match self {
            Self::Agent { instance, .. } => Some(instance),
            Self::Person { .. } => None,
        }
    }

    /// The task, if it has one.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::Agent { task, .. } => *task,
            Self::Person { .. } => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { instance, task: Some(task) } => write!(f, "{instance} (task {task})"),
            Self::Agent { instance, task: None } => write!(f, "{instance}"),
            Self::Person { name, .. } => write!(f, "{name}"),
        }
    }
}

/// What an owner's life hangs on, beside its task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bond {
    /// The number of the attempt that took it.
    pub attempt: Option<u32>,
    /// The start of the instance's unit that took it.
    pub invocation: Option<InvocationId>,
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its number.
    pub id: LockId,
    /// What it is on.
    pub scope: Scope,
    /// How.
    pub mode: Mode,
    /// Whose it is.
    pub owner: Owner,
    /// What took it.
    pub bond: Bond,
    /// Why, in the owner's words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// For how long it is given, and renewed.
    pub ttl: Duration,
    /// When it ends if it is not renewed.
    pub expires: Timestamp,
}

/// What is done about files that a task has changed without a lock on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// It is told, and that is all.
    #[default]
    Warn,
    /// The task fails, and its work is kept on a rescue ref.
    Refuse,
}

/// A file that was changed without a lock on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncovered {
    /// From the root of the worktree.
    pub path: String,
    /// Who has the lock.
    pub holder: Option<String>,
}

/// Which of the files that a task has changed it had no lock on, in a few words; empty where it had them all.
pub fn describe(uncovered: &[Uncovered]) -> String {
    const NAMED: usize = 5;
    let one = |file: &Uncovered| match &file.holder {
        Some(holder) => format!("{} (held by {holder})", file.path.escape_debug()),
        None => file.path.escape_debug().to_string(),
    };
    let mut names: Vec<String> = uncovered.iter().take(NAMED).map(one).collect();
    if uncovered.len() > NAMED {
        names.push(format!("and {} more", uncovered.len() - NAMED));
    }
    names.join(", ")
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is on.
    pub scope: Scope,
    /// How.
    pub mode: Mode,
    /// For whom.
    pub owner: Owner,
    /// What asks.
    pub bond: Bond,
    /// Why.
    pub reason: String,
    /// For how long.
    pub ttl: Duration,
    /// In a circle of those who wait, the lowest is refused; among equals the youngest.
    pub priority: i32,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for.
    pub request: Request,
    /// Since when.
    pub since: Timestamp,
}

/// Who stands in the way of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// Who holds something that meets it.
    Holder(LockId),
    /// Who has waited longer for something that meets it.
    Before(WaitId),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is held, newly.
    Created(LockId),
    /// A shared one has become exclusive.
    Changed(LockId),
    /// It was held already.
    Unchanged(LockId),
    /// It waits; the answer comes as [`Effect::Answer`], maybe among the effects of the same call.
    Waits(WaitId),
    /// Others stand in the way.
    Blocked(Vec<Blocker>),
    /// The owner has [`OWN_MAX`] locks, or [`WAITS_MAX`] requests wait.
    TooMany,
}

/// What became of a request that waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is held now.
    Granted(LockId),
    /// It would have waited for itself: the owners in a circle, each waiting for the next, the last for the first.
    Deadlock(Vec<Owner>),
    /// Its task or unit has ended.
    OwnerEnded,
}

/// Why something could not be done to a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    NoSuchLock,
    /// It is that owner's.
    NotYours(Owner),
    /// That owner holds something that it conflicts with.
    Conflict(Owner),
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The lock is held so.
    Held(Box<Lock>),
    /// It is not held any more.
    Gone(LockId),
}

/// Something that those concerned are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `lock-acquired`, `lock-released`, `lock-stolen`, `lock-transferred`, `lock-refused`, `lock-deadlock`.
    pub kind: &'static str,
    /// Whom it concerns.
    pub owner: Owner,
    /// A sentence.
    pub message: String,
    /// Why, in a word.
    pub cause: Option<&'static str>,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Commit to the store, before everything else.
    Save(Change),
    /// Answer a request that waited; it has waited that long.
    Answer(WaitId, Answer, Duration),
    /// Keep and show it.
    Tell(Notice),
}

#[cfg(test)]
mod tests;
