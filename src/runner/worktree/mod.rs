//! The instance's worktree: made, reused and repaired; a branch for each task; what is left is committed, rescued, sent on.
//!
//! All git runs here, as the instance's user, in the task's cgroup where there is a task.

mod branch;
mod disk;
mod git;
mod history;
mod job;
mod leave;
mod look;
mod merge;
mod prepare;
mod push;
mod rescue;
mod stale;
mod standing;
mod survey;

pub(super) use branch::{Begun, begin};
pub(super) use disk::usage as disk_usage;
pub(super) use git::Git;
pub(super) use history::history;
pub(super) use job::{look_at, remove, tidy};
pub(super) use leave::{Leave, Leaving, changed_files, deliver, salvage};
pub(super) use merge::merges;
pub(super) use prepare::{Prepared, prepare};
pub(super) use push::push;
pub(super) use survey::survey;

use crate::platform::durable::FileError;
use git::GitError;

/// Why a worktree cannot be used. It is then as it was, and says so.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorktreeError {
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It must not or cannot be used; what to do about it.
    #[error("{0}")]
    Refused(String),
    /// Somebody else holds the repository.
    #[error("{0}")]
    Held(String),
}

impl WorktreeError {
    /// Whether a later try may well succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Git(error) => error.is_transient(),
            // A full disk, mostly.
            Self::File(error) => error.source.kind() == std::io::ErrorKind::StorageFull,
            Self::Refused(_) => false,
            Self::Held(_) => true,
        }
    }
}
