//! What clauded asks of a worktree while there is no task: what is in it, and that it goes.

use super::git::Git;
use super::{WorktreeError, branch, disk_usage, look};
use crate::core::checkout::Origin;
use crate::core::worktree::Facts;
use std::fs;
use std::time::Duration;

/// Longest time for counting what it takes on disk.
const MEASURING: Duration = Duration::from_secs(60);

/// What there is to see of a worktree.
///
/// # Errors
/// It is none, or git cannot tell.
pub(in crate::runner) async fn look_at(git: &Git<'_>, origin: &Origin) -> Result<Facts, WorktreeError> {
    let own = look::git_directory(git).await?;
    let status = look::status(git).await?;
    let head = look::head(git).await?;
    let base = branch::base(git, origin, true).await;
    let merged = match &base {
        Ok(base) => look::contains(git, &head, base).await?,
        Err(error) => {
            tracing::warn!("nobody knows whether the worktree's branch is merged: {error}");
            false
        }
    };
    let directory = git.directory().to_owned();
    let bytes = tokio::task::spawn_blocking(move || disk_usage(&directory, MEASURING)).await.ok().flatten();
    Ok(Facts {
        branch: look::branch(git).await,
        dirty: status.dirty || !status.nested.is_empty(),
        half_done: look::operation(&own).map(str::to_owned),
        kept: !git.text(&["for-each-ref", "--count=1", "--contains", &head, "--format=%(refname)"]).await?.is_empty(),
        merged,
        locked: fs::read_to_string(own.join("locked")).ok().map(|why| why.trim().to_owned()),
        bytes,
    })
}

/// Removes the worktree, if nothing is lost with it. Its branches stay in the repository; ignored files go.
///
/// # Errors
/// Why it stays.
pub(in crate::runner) async fn remove(git: &Git<'_>, origin: &Origin) -> Result<(), WorktreeError> {
    if let Some(obstacle) = look_at(git, origin).await?.obstacle() {
        return Err(WorktreeError::Refused(obstacle));
    }
    let common = git.directory().join(git.text(&["rev-parse", "--git-common-dir"]).await?);
    let directory = git.directory().to_string_lossy().into_owned();
    // From outside; git itself looks once more whether it is clean.
    Ok(git.at(&common).run(&["worktree", "remove", "--", &directory]).await?)
}
