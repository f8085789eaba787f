//! What clauded asks of a worktree while there is no task: what is in it, and that it goes.

use super::git::Git;
use super::prepare::hold;
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
        kept: look::is_reachable(git, &head).await?,
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
    let common = look::common_directory(git).await?;
    let directory = git.directory().to_string_lossy().into_owned();
    // From outside; git itself looks once more whether it is clean.
    Ok(git.at(&common).run(&["worktree", "remove", "--", &directory]).await?)
}

/// How many loose objects are too many for git where the repository does not say (git-config(1), `gc.auto`).
const GC_AUTO: &str = "6700";
/// A worktree that is not there may be on a disk that is not mounted (git-config(1), `gc.worktreePruneExpire`).
const GONE_FOR: &str = "--expire=3.months.ago";

/// Tidies the repository's object store if git finds that it is time to, and forgets worktrees that have been gone for long.
///
/// # Errors
/// git fails; nothing is lost then.
pub(in crate::runner) async fn tidy(git: &Git<'_>) -> Result<(), WorktreeError> {
    let common = look::common_directory(git).await?;
    let git = git.at(&common);
    {
        // Not while another is half made.
        let _held = hold(&common).await?;
        git.run(&["worktree", "prune", GONE_FOR]).await?;
    }
    // Every call of ours turns it off, so that it comes at no bad moment: the value before ours is the repository's.
    let said = git.maybe(&["config", "--get-all", "gc.auto"]).await.unwrap_or_default();
    let auto = said.lines().rev().nth(1).unwrap_or(GC_AUTO);
    let settings = [format!("gc.auto={auto}"), "gc.autoDetach=false".to_owned()];
    git.call(&["gc", "--auto", "--quiet"]).settings(&settings).network().bytes().await?;
    Ok(())
}
