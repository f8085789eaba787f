//! What stands in the worktree, on disk in the instance's state: whose work it is, and which branch each task has.

use crate::core::ids::{AttemptId, TaskId};
use crate::platform::durable::{self, FileError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How many tasks' branches are remembered.
const REMEMBERED: usize = 500;

/// A task's branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Branch {
    /// Its name.
    pub(super) name: String,
    /// The commit that it started from.
    pub(super) base: String,
    /// The ref that keeps what the task had left uncommitted when another one began.
    #[serde(default)]
    pub(super) left: Option<String>,
}

/// What stands in the worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// The last attempt that worked in it.
    pub(super) last: Option<AttemptId>,
    /// Whether others work in it too.
    #[serde(default)]
    pub(super) shared: bool,
    /// The branches of tasks, those with the greatest numbers.
    pub(super) branches: BTreeMap<TaskId, Branch>,
}

impl Standing {
    /// What is on record in that state directory; nothing, if it cannot be read: the worktree itself then tells what there is.
    pub(super) fn read(state: &Path) -> Self {
        std::fs::read(state.join("worktree.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Puts it on record.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn write(&mut self, state: &Path) -> Result<(), FileError> {
        while self.branches.len() > REMEMBERED {
            self.branches.pop_first();
        }
        let path = state.join("worktree.json");
        let bytes = serde_json::to_vec(self).map_err(|error| FileError::of("encode", &path)(error.into()))?;
        durable::write(&path, &bytes)
    }
}
