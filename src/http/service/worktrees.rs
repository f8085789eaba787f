//! The verbs on worktrees.

use super::{Answer, Caller};
use crate::core::ids::InstanceName;
use crate::proto::api;

/// The verbs on worktrees. Their runners perform them, as their users.
pub trait Worktrees: Send + Sync {
    /// All that are known.
    fn worktrees(&self) -> Answer<'_, Vec<api::Worktree>>;
    /// Gives an instance a repository and makes its worktree.
    fn add_worktree(&self, caller: Caller, name: InstanceName, repository: String) -> Answer<'_, api::Outcome>;
    /// Removes one, if nothing is lost with it.
    fn remove_worktree(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome>;
    /// Removes those that are done with.
    fn collect_worktrees(&self, caller: Caller, dry_run: bool) -> Answer<'_, Vec<api::WorktreeFate>>;
}
