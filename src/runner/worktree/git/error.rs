//! What git could not do, and whether the same may work later.

use std::path::PathBuf;

/// What git says where the same may work later: the network, a lock that another git holds, a full disk.
const PASSING: [&str; 20] = [
    "Could not resolve host",
    "Could not read from remote repository",
    "Connection",
    "connection",
    "timed out",
    "early EOF",
    "hung up",
    "The requested URL returned error: 5",
    "The requested URL returned error: 429",
    "unable to access",
    "File exists",
    "cannot lock ref",
    "No space left on device",
    "Disk quota exceeded",
    "unable to write file",
    // Of a helper of git's that was killed.
    "died of signal",
    "abnormal exit",
    "unexpected disconnect",
    // The other end's word for a helper that broke off there.
    "unpacker error",
    "missing necessary objects",
];
/// What git says where the other end cannot be had as it is set, or has answered no. In all else that goes wrong between two ends
/// (one is killed in the middle of a sentence, a proxy says something of its own) the same may work later.
const SETTLED: [&str; 10] = [
    "failed to push some refs",
    "couldn't find remote ref",
    "does not appear to be a git repository",
    "not found",
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "Permission denied",
    "not allowed",
    "Unable to find remote helper",
];

/// Why git did not do as asked.
#[derive(Debug, thiserror::Error)]
#[error("git {command} in {directory}: {why}", directory = .directory.display())]
pub(in crate::runner) struct GitError {
    pub(super) command: String,
    pub(super) directory: PathBuf,
    pub(super) why: String,
    /// Its exit status, if it had one.
    pub(in crate::runner) code: Option<i32>,
    /// Whether a signal ended it, which is none of its own doing.
    pub(super) killed: bool,
    /// Whether it was to talk with another end.
    pub(super) network: bool,
}

impl GitError {
    /// Whether the same call may well succeed later.
    pub(in crate::runner) fn is_transient(&self) -> bool {
        let said = |words: &[&str]| words.iter().any(|words| self.why.contains(words));
        self.killed || said(&PASSING) || (self.network && !said(&SETTLED))
    }

    /// What git said.
    pub(in crate::runner::worktree) fn words(&self) -> &str {
        &self.why
    }
}
