//! The types of `/api/v1/worktrees`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An instance's worktree, as its runner told of it last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worktree {
    /// The instance.
    pub instance: String,
    /// Its repository in the configuration.
    pub repository: String,
    /// Where it is.
    pub directory: String,
    /// The branch that is checked out; absent before its first task.
    pub branch: Option<String>,
    /// What it takes on disk, once it was measured.
    pub disk_bytes: Option<u64>,
    /// When that was told.
    pub measured: Option<String>,
    /// systemd's `ActiveState` of the instance.
    pub active: String,
    /// The task that is worked on in it.
    pub task: Option<i64>,
}

/// A request for a worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddWorktree {
    /// The repository's name in the configuration.
    pub repository: String,
}

/// A request to remove the worktrees that are done with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectWorktrees {
    /// Only say what would be removed.
    #[serde(default)]
    pub dry_run: bool,
}

/// What becomes of a worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorktreeFate {
    /// The instance.
    pub instance: String,
    /// Where it is.
    pub directory: String,
    /// Whether it goes; with a dry run, whether it would.
    pub goes: bool,
    /// Why.
    pub why: String,
    /// What it takes on disk.
    pub disk_bytes: Option<u64>,
}
