//! Looks at a worktree: where HEAD is, what is half done, what is not committed.

use super::git::{Git, GitError};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// An operation that git has begun and not ended, and the file that tells of it.
const OPERATIONS: [(&str, &str); 6] = [
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("MERGE_HEAD", "merge"),
    ("BISECT_LOG", "bisect"),
];

/// The worktree's own part of the repository (gitrepository-layout(5), `$GIT_DIR`).
///
/// # Errors
/// It is no worktree.
pub(super) async fn git_directory(git: &Git<'_>) -> Result<PathBuf, GitError> {
    Ok(git.text(&["rev-parse", "--absolute-git-dir"]).await?.into())
}

/// Copies a worktree's index, to make another of it, with its time: a file that has changed in the second in which the index was
/// written looks to git as it did, and only that time tells git to read it (racy-git.txt of its technical documentation).
pub(super) fn copy_index(own: &Path, to: &Path) -> io::Result<()> {
    let index = own.join("index");
    // Before its bytes: with a time that is too early git reads more than it need, with one that is too late it misses changes.
    let written = fs::metadata(&index)?.modified()?;
    fs::copy(&index, to)?;
    File::options().write(true).open(to)?.set_modified(written)
}

/// What all worktrees of the repository share (gitrepository-layout(5), `$GIT_COMMON_DIR`), without symbolic links.
///
/// # Errors
/// It is no repository.
pub(super) async fn common_directory(git: &Git<'_>) -> Result<PathBuf, GitError> {
    let path = git.directory().join(git.text(&["rev-parse", "--git-common-dir"]).await?);
    Ok(fs::canonicalize(&path).unwrap_or(path))
}

/// The commit that is checked out.
///
/// # Errors
/// There is none.
pub(super) async fn head(git: &Git<'_>) -> Result<String, GitError> {
    commit(git, "HEAD").await
}

/// The commit that a name stands for.
///
/// # Errors
/// It stands for none.
pub(super) async fn commit(git: &Git<'_>, name: &str) -> Result<String, GitError> {
    git.text(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")]).await
}

/// The branch that HEAD is on; `None` if it is detached.
pub(super) async fn branch(git: &Git<'_>) -> Option<String> {
    let name = git.maybe(&["symbolic-ref", "--quiet", "HEAD"]).await?;
    name.strip_prefix("refs/heads/").map(str::to_owned)
}

/// Whether that branch exists.
///
/// # Errors
/// git cannot tell.
pub(super) async fn has_branch(git: &Git<'_>, name: &str) -> Result<bool, GitError> {
    git.asks(&["show-ref", "--verify", "--quiet", &format!("refs/heads/{name}")]).await
}

/// Whether the first commit is contained in the second.
///
/// # Errors
/// git cannot tell.
pub(super) async fn contains(git: &Git<'_>, first: &str, second: &str) -> Result<bool, GitError> {
    git.asks(&["merge-base", "--is-ancestor", first, second]).await
}

/// Whether any reference holds that commit, so that it is not lost with HEAD.
///
/// # Errors
/// git cannot tell.
pub(super) async fn is_reachable(git: &Git<'_>, commit: &str) -> Result<bool, GitError> {
    Ok(!git.text(&["for-each-ref", "--count=1", "--contains", commit, "--format=%(refname)"]).await?.is_empty())
}

/// What is half done, if anything.
pub(super) fn operation(git_directory: &Path) -> Option<&'static str> {
    OPERATIONS.iter().find(|(file, _)| git_directory.join(file).exists()).map(|(_, name)| *name)
}

/// How many paths a merge has left in conflict.
///
/// # Errors
/// The index cannot be read.
pub(super) async fn conflicts(git: &Git<'_>) -> Result<usize, GitError> {
    let answer = git.call(&["diff", "--name-only", "--diff-filter=U", "-z", "--no-ext-diff"]).bytes().await?;
    Ok(answer.iter().filter(|b| **b == 0).count())
}

/// What is not committed.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Whether a tracked file differs, or one is not tracked and not ignored.
    pub(super) dirty: bool,
    /// Repositories in the worktree that are not submodules: git takes nothing of them, and neither do we.
    pub(super) nested: Vec<Vec<u8>>,
}

/// What is not committed.
///
/// # Errors
/// git cannot tell.
pub(super) async fn status(git: &Git<'_>) -> Result<Status, GitError> {
    let call = ["status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=dirty", "--no-renames"];
    let answer = match git.call(&call).bytes().await {
        Ok(answer) => answer,
        // Of a filter that fails, perhaps: what it would have said is then not known, and the file counts as changed.
        Err(error) => match filters_off(git).await {
            off if off.is_empty() => return Err(error),
            off => git.call(&call).settings(&off).bytes().await?,
        },
    };
    let mut status = Status::default();
    for entry in answer.split(|b| *b == 0).filter(|entry| !entry.is_empty()) {
        // With all untracked files listed one by one, a directory can only be a repository of its own.
        match entry.strip_prefix(b"? ") {
            Some(path) if path.ends_with(b"/") => status.nested.push(path.to_vec()),
            _ => status.dirty = true,
        }
    }
    Ok(status)
}

/// Settings under which no content filter runs.
pub(super) async fn filters_off(git: &Git<'_>) -> Vec<String> {
    let names = git.maybe(&["config", "--name-only", "--get-regexp", r"^filter\..*\.(clean|smudge|process|required)$"]).await.unwrap_or_default();
    let off = |name: &str| if name.ends_with(".required") { format!("{name}=false") } else { format!("{name}=") };
    names.lines().map(off).collect()
}

/// Everything but the nested repositories, as a list of paths for `--pathspec-from-file=- --pathspec-file-nul`.
pub(super) fn everything_but(nested: &[Vec<u8>]) -> Vec<u8> {
    let mut list = b":/\0".to_vec();
    for path in nested {
        list.extend_from_slice(b":(top,exclude,literal)");
        list.extend_from_slice(path.strip_suffix(b"/").unwrap_or(path));
        list.push(0);
    }
    list
}
