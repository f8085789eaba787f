//! Locks, as the API has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A lock that is asked for. Exactly one of `path`, `glob`, `feature` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLock {
    /// A file, from the root of the worktree; with a slash at the end a directory with all that is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A glob: `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` for any number of directories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// A name that `[repositories.NAME] features` binds to globs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The repository's name, or an absolute directory. Agents leave it out: they lock files of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Where `place` is a worktree: the directory of the repository that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Whether others may share it, to read in peace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Why, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how long, if it is not renewed; `[locks] ttl` if absent. The locks of a running task are renewed by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Wait at most so long for it, in order of arrival. Hanging up leaves the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
    /// A number of the caller's own making, by which it asks for its place in line meanwhile (`GET /api/v1/locks?ticket=…`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub ticket: Option<Uuid>,
}

/// A lock that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lock {
    /// Its number.
    pub id: i64,
    /// The repository's name, or the directory.
    pub place: String,
    /// `path`, `glob` or `feature`.
    pub kind: String,
    /// The path, the glob, or the feature's name.
    pub pattern: String,
    /// `shared` or `exclusive`.
    pub mode: String,
    /// Whose it is, in words.
    pub owner: String,
    /// The instance whose it is.
    pub instance: Option<String>,
    /// The task for which it was taken.
    pub task: Option<i64>,
    /// The user whose it is, if it is no instance's.
    pub person: Option<String>,
    /// Why; may be empty.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// When it ends if it is not renewed.
    pub expires: String,
}

/// A lock as it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GivenLock {
    /// `created`, `changed` or `unchanged`.
    pub result: String,
    /// The lock.
    #[serde(flatten)]
    pub lock: Lock,
}

/// A request that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockWait {
    /// The repository's name, or the directory.
    pub place: String,
    /// `path`, `glob` or `feature`.
    pub kind: String,
    /// The path, the glob, or the feature's name.
    pub pattern: String,
    /// `shared` or `exclusive`.
    pub mode: String,
    /// Who waits.
    pub owner: String,
    /// The instance that waits.
    pub instance: Option<String>,
    /// Since when.
    pub since: String,
    /// 1 for who comes first.
    pub position: usize,
    /// Who stands in the way, in a sentence.
    pub waits_for: String,
}

/// All locks, and all who wait for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LockTable {
    /// Those that are held, the oldest first.
    pub locks: Vec<Lock>,
    /// Those who wait, in order of arrival.
    pub waiting: Vec<LockWait>,
}

/// Which locks to give back: one by its number, one by what it is on, or with none of these all of the caller's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseLocks {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// As it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// As it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// As it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// As it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// As it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Another's too; for operators.
    #[serde(default)]
    pub force: bool,
}

/// To whom a lock is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferLock {
    /// The instance; the task that it has takes the lock over.
    pub instance: String,
    /// Another's too; for operators.
    #[serde(default)]
    pub force: bool,
}
