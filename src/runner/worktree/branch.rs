//! A task's branch: from the freshly fetched base for a new task, as it was left for one that goes on.

use super::git::Git;
use super::prepare::hold;
use super::standing::{Branch, Standing};
use super::{WorktreeError, look, prepare, rescue, stale};
use crate::core::checkout::{Checkout, Origin, Source};
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use std::path::Path;

/// What an attempt begins with.
#[derive(Clone, Debug)]
pub(in crate::runner) struct Begun {
    /// The task's branch.
    pub(in crate::runner) branch: String,
    /// The commit that it started from.
    pub(in crate::runner) base: String,
    /// The ref that keeps what another task had left uncommitted.
    pub(in crate::runner) rescued: Option<String>,
}

/// Makes the worktree ready for an attempt.
///
/// # Errors
/// Why it cannot be; what stands in it is then untouched, or safe on a rescue ref.
pub(in crate::runner) async fn begin(
    git: &Git<'_>,
    checkout: &Checkout,
    instance: &InstanceName,
    state: &Path,
    attempt: AttemptId,
) -> Result<Begun, WorktreeError> {
    prepare::prepare(git, &checkout.origin).await?;
    stale::unlock(git, checkout.shared).await?;
    let mut standing = Standing::read(state);
    // A task's first attempt has no past, whatever an earlier clauded has called by its number.
    let known = (attempt.number > 1).then(|| standing.branches.get(&attempt.task).cloned()).flatten();
    if let Some(branch) = &known
        && standing.last.is_some_and(|last| last.task == attempt.task)
    {
        // It goes on in the tree as that is, whatever the agent has done with it.
        let begun = Begun { branch: branch.name.clone(), base: branch.base.clone(), rescued: None };
        standing.last = Some(attempt);
        standing.write(state)?;
        return Ok(begun);
    }
    let (branch, rescued) = match checkout.shared {
        true => (shared(git, checkout).await?, None),
        false => {
            let last = standing.last.unwrap_or(NOBODY);
            let rescued = rescue::clear(git, instance, last).await?;
            if let (Some(kept), Some(branch)) = (&rescued, standing.branches.get_mut(&last.task)) {
                branch.left = Some(kept.clone());
                standing.write(state)?;
            }
            (own(git, checkout, attempt, known).await?, rescued)
        }
    };
    standing.last = Some(attempt);
    standing.shared = checkout.shared;
    standing.branches.insert(attempt.task, branch.clone());
    standing.write(state)?;
    Ok(Begun { branch: branch.name, base: branch.base, rescued })
}

/// Whose work it is that nobody of ours began.
const NOBODY: AttemptId = AttemptId { task: TaskId(0), number: 0 };

async fn own(git: &Git<'_>, checkout: &Checkout, attempt: AttemptId, known: Option<Branch>) -> Result<Branch, WorktreeError> {
    if let Some(known) = known
        && look::has_branch(git, &known.name).await?
    {
        git.write(&["switch", "--quiet", "--no-guess", &known.name]).await?;
        if let Some(left) = &known.left {
            rescue::bring_back(git, left).await?;
        }
        return Ok(Branch { left: None, ..known });
    }
    let base = base(git, &checkout.origin, true).await?;
    let wanted = &checkout.branch;
    // A branch of that name is another task's, or a person's.
    for name in [wanted.clone(), format!("{wanted}-{}", attempt.task), format!("{wanted}-{attempt}")] {
        if !look::has_branch(git, &name).await? {
            let (branch, head) = (look::branch(git).await, look::head(git).await?);
            if let Err(error) = git.write(&["switch", "--quiet", "--no-guess", "--no-track", "--create", &name, &base]).await {
                undo(git, &name, &base, branch.as_deref(), &head).await;
                return Err(error.into());
            }
            return Ok(Branch { name, base, left: None });
        }
    }
    Err(WorktreeError::Refused(format!("the branches {wanted}, {wanted}-{} and {wanted}-{attempt} all exist; delete those that are not needed", attempt.task)))
}

/// After a checkout that was not finished, on a full disk mostly: back to where it was. Nothing uncommitted stood there. What
/// cannot be undone is rescued and cleaned by the next attempt like everything that nobody expects.
async fn undo(git: &Git<'_>, name: &str, base: &str, branch: Option<&str>, head: &str) {
    let back = match branch {
        Some(branch) => git.run(&["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")]).await,
        None => git.run(&["update-ref", "--no-deref", "HEAD", head]).await,
    };
    let undone = async {
        back?;
        git.run(&["update-ref", "-d", &format!("refs/heads/{name}"), base]).await?;
        // First what the new tree brought, so that there is room for the old one.
        git.run(&["reset", "--quiet"]).await?;
        git.run(&["clean", "-d", "--force", "--quiet"]).await?;
        git.write(&["reset", "--quiet", "--hard"]).await
    };
    if let Err(error) = undone.await {
        tracing::warn!("a checkout that failed is not undone: {error}");
    }
}

/// The one branch of a worktree that several members share. Another member's work is never touched.
async fn shared(git: &Git<'_>, checkout: &Checkout) -> Result<Branch, WorktreeError> {
    let name = checkout.branch.clone();
    let own = look::git_directory(git).await?;
    let _held = hold(&own).await?;
    if look::branch(git).await.as_deref() != Some(&name) {
        if look::status(git).await?.dirty {
            let why = format!("the shared worktree {} is not on {name} and has uncommitted changes; commit or move them", git.directory().display());
            return Err(WorktreeError::Refused(why));
        }
        if look::has_branch(git, &name).await? {
            git.write(&["switch", "--quiet", "--no-guess", &name]).await?;
        } else {
            let base = base(git, &checkout.origin, true).await?;
            git.write(&["switch", "--quiet", "--no-guess", "--no-track", "--create", &name, &base]).await?;
        }
    }
    Ok(Branch { base: look::head(git).await?, name, left: None })
}

/// What gives at the other end of a fetch.
const UPLOAD: &str = "--upload-pack=git-upload-pack";

/// The commit that new work starts from, freshly fetched if asked for.
///
/// # Errors
/// The base is gone, or cannot be fetched.
pub(super) async fn base(git: &Git<'_>, origin: &Origin, fresh: bool) -> Result<String, WorktreeError> {
    match &origin.source {
        Source::Url(url) => of_remote(&git.at(&origin.store), origin, url, fresh).await,
        Source::Path(path) => of_path(&git.at(path), origin, fresh).await,
    }
}

fn gone(origin: &Origin, branch: &str) -> WorktreeError {
    let set = format!("create it, or set [repositories.{}] default-branch", origin.name);
    WorktreeError::Refused(format!("the base branch {branch:?} is not in {}; {set}", origin.source))
}

async fn of_remote(git: &Git<'_>, origin: &Origin, url: &str, fresh: bool) -> Result<String, WorktreeError> {
    if fresh {
        let _held = hold(&origin.store).await?;
        let mut call = vec!["fetch", "--progress", "--prune", "--no-tags"];
        call.extend(git.other_end(UPLOAD));
        call.push("origin");
        git.call(&call).network().bytes().await?;
    }
    let name = match &origin.base {
        Some(name) => name.clone(),
        None => {
            let head = match git.maybe(&["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]).await {
                Some(head) => Some(head),
                None => {
                    let _ = git.call(&["remote", "set-head", "origin", "--auto"]).network().bytes().await;
                    git.maybe(&["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]).await
                }
            };
            let unknown = || WorktreeError::Refused(format!("{url} does not say its default branch; set [repositories.{}] default-branch", origin.name));
            head.as_deref().and_then(|head| head.strip_prefix("refs/remotes/origin/")).map(str::to_owned).ok_or_else(unknown)?
        }
    };
    look::commit(git, &format!("refs/remotes/origin/{name}")).await.map_err(|_| gone(origin, &name))
}

async fn of_path(git: &Git<'_>, origin: &Origin, fresh: bool) -> Result<String, WorktreeError> {
    let name = match &origin.base {
        Some(name) => name.clone(),
        None => look::branch(git).await.ok_or_else(|| {
            WorktreeError::Refused(format!("{} has no branch checked out to start from; set [repositories.{}] default-branch", origin.source, origin.name))
        })?,
    };
    let upstream = git.maybe(&["config", "--get", &format!("branch.{name}.remote")]).await.filter(|remote| remote != ".");
    let tracked = git.maybe(&["config", "--get", &format!("branch.{name}.merge")]).await;
    let upstream = upstream.zip(tracked.as_deref().and_then(|tracked| tracked.strip_prefix("refs/heads/")));
    let there = match &upstream {
        Some((remote, branch)) => {
            let target = format!("refs/remotes/{remote}/{branch}");
            if fresh {
                let common = look::common_directory(git).await?;
                let _held = hold(&common).await?;
                let refspec = format!("+refs/heads/{branch}:{target}");
                let mut call = vec!["fetch", "--no-tags", "--quiet"];
                call.extend(git.other_end(UPLOAD));
                call.extend(["--end-of-options", remote, &refspec]);
                // Its owner may work on a train: what is there is then the base.
                if let Err(error) = git.call(&call).network().bytes().await {
                    tracing::warn!("the base is not fetched, and what is known of it is taken: {error}");
                }
            }
            look::commit(git, &target).await.ok()
        }
        None => None,
    };
    let here = look::commit(git, &format!("refs/heads/{name}")).await.ok();
    match (here, there) {
        // The upstream where it has gone on, the owner's own branch where that has.
        (Some(here), Some(there)) => Ok(if look::contains(git, &here, &there).await? { there } else { here }),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Err(gone(origin, &name)),
    }
}

#[cfg(test)]
mod tests {
    use crate::core::refname::check_branch;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_taken_as_a_branch_git_takes_too(name in "[-a-z./@{~^:?*\\[\\\\ HEADlock]{0,12}") {
            if check_branch(&name).is_ok() {
                let status = std::process::Command::new("git").args(["check-ref-format", "--branch", &name]).output().expect("git runs").status;
                prop_assert!(status.success(), "{:?}", name);
            }
        }
    }
}
