//! What cannot be committed is kept on a ref: a commit made with plumbing and an index of its own, while nothing in the worktree
//! changes. Only when that ref exists is anything cleaned.

use super::git::{Git, GitError};
use super::{WorktreeError, look};
use crate::core::delivery::rescue_ref;
use crate::core::ids::{AttemptId, InstanceName};
use crate::platform::durable::FileError;
use std::fs;
use std::path::Path;

/// Puts what is not committed on a rescue ref, if there is anything; answers the ref. The worktree stays as it is.
///
/// # Errors
/// Nothing is kept then.
pub(in crate::runner) async fn keep(git: &Git<'_>, instance: &InstanceName, attempt: AttemptId) -> Result<Option<String>, WorktreeError> {
    let own = look::git_directory(git).await?;
    let index = own.join("clauded.index");
    let lock = index.with_extension("index.lock");
    // Nobody else has this index: what is there is of a git that was killed.
    let _ = fs::remove_file(&lock);
    let kept = Keeper { git, index: &index, own: &own }.keep(instance, attempt).await;
    // It is only a draft.
    let _ = fs::remove_file(&index);
    let _ = fs::remove_file(&lock);
    kept
}

struct Keeper<'k, 'g> {
    git: &'k Git<'g>,
    index: &'k Path,
    own: &'k Path,
}

impl Keeper<'_, '_> {
    async fn keep(&self, instance: &InstanceName, attempt: AttemptId) -> Result<Option<String>, WorktreeError> {
        let git = self.git;
        let head = look::head(git).await?;
        let of_head = git.text(&["rev-parse", "--verify", "--quiet", "HEAD^{tree}"]).await?;
        // What was staged may differ from what stands in the files. A merge in conflict has no tree of its index.
        let off = look::filters_off(git).await;
        let staged = self.begin().await?.then_some(self.with_index(&["write-tree"], Vec::new(), &off).await.ok()).flatten();
        let tree = self.tree(&off).await?;
        let adrift = look::branch(git).await.is_none() && !look::is_reachable(git, &head).await?;
        let staged = staged.filter(|staged| *staged != tree && *staged != of_head);
        if tree == of_head && staged.is_none() && !adrift {
            return Ok(None);
        }
        let message = format!("Rescued: what attempt {attempt} left uncommitted on {instance}\n");
        let mut parents = vec![head.clone()];
        if let Some(staged) = staged {
            parents.push(self.commit(&staged, std::slice::from_ref(&head), "What was staged\n").await?);
        }
        let name = rescue_ref(instance, attempt);
        let before = look::commit(git, &name).await.ok();
        if let Some(before) = &before {
            // Kept before: the same again needs no other commit, and what differs goes on top of it.
            let same = git.maybe(&["rev-parse", "--verify", "--quiet", &format!("{before}^{{tree}}")]).await.as_ref() == Some(&tree);
            if same && parents.len() == 1 && git.maybe(&["rev-parse", "--verify", "--quiet", &format!("{before}^1")]).await.as_ref() == Some(&head) {
                return Ok(Some(name));
            }
            parents.push(before.clone());
        }
        let commit = self.commit(&tree, &parents, &message).await?;
        // Only if nobody has moved it meanwhile.
        let old = before.unwrap_or_else(|| "0".repeat(commit.len()));
        git.run(&["update-ref", "--create-reflog", "-m", "clauded: rescue", &name, &commit, &old]).await?;
        Ok(Some(name))
    }

    async fn commit(&self, tree: &str, parents: &[String], message: &str) -> Result<String, GitError> {
        let mut arguments = vec!["commit-tree", "--no-gpg-sign"];
        arguments.extend(parents.iter().flat_map(|parent| ["-p", parent.as_str()]));
        arguments.extend(["-F", "-", tree]);
        let call = self.git.call(&arguments).input(message).with("GIT_AUTHOR_NAME", "clauded").with("GIT_AUTHOR_EMAIL", "rescue@clauded.invalid");
        call.with("GIT_COMMITTER_NAME", "clauded").with("GIT_COMMITTER_EMAIL", "rescue@clauded.invalid").text().await
    }

    /// Begins an index of its own from the present one, which knows which files need not be read again. Whether there was one.
    async fn begin(&self) -> Result<bool, WorktreeError> {
        let copied = look::copy_index(self.own, self.index).is_ok();
        if !copied {
            self.with_index(&["read-tree", "HEAD"], Vec::new(), &[]).await?;
        }
        Ok(copied)
    }

    /// The tree of all that stands in the files, those that are not tracked included, those that are ignored not.
    async fn tree(&self, filters_off: &[String]) -> Result<String, WorktreeError> {
        let list = look::everything_but(&look::status(self.git).await?.nested);
        if let Err(error) = self.with_index(&ADD, list.clone(), &[]).await {
            // A filter that fails (git-lfs is not installed, say): then the files as they are.
            if filters_off.is_empty() {
                return Err(error.into());
            }
            tracing::warn!("a filter of the repository fails, and the files are kept as they are: {error}");
            self.with_index(&ADD, list, filters_off).await?;
        }
        // git reads files whose times tell too little once more, through their filters.
        Ok(self.with_index(&["write-tree"], Vec::new(), filters_off).await?)
    }

    async fn with_index(&self, arguments: &[&str], input: Vec<u8>, settings: &[String]) -> Result<String, GitError> {
        self.git.call(arguments).input(input).settings(settings).with("GIT_INDEX_FILE", self.index).text().await
    }
}

/// Adds everything that a list names.
pub(super) const ADD: [&str; 4] = ["add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul"];

/// Makes the worktree clean for another task: what is not committed is kept first, half-done operations are given up, untracked
/// files go; ignored ones and repositories within it stay.
///
/// # Errors
/// What cannot be kept or cleaned. The next task is then refused.
pub(super) async fn clear(git: &Git<'_>, instance: &InstanceName, attempt: AttemptId) -> Result<Option<String>, WorktreeError> {
    let own = look::git_directory(git).await?;
    let half_done = look::operation(&own);
    let adrift = look::branch(git).await.is_none();
    if half_done.is_none() && !adrift && !look::status(git).await?.dirty {
        return Ok(None);
    }
    let kept = keep(git, instance, attempt).await.map_err(|error| {
        let why = format!("what stands uncommitted in {} cannot be rescued, and nothing of it is touched: {error}", git.directory().display());
        if error.is_transient() { WorktreeError::Held(why) } else { WorktreeError::Refused(why) }
    })?;
    if let Some(kept) = &kept {
        tracing::warn!("what attempt {attempt} left uncommitted is on {kept}");
    }
    // Each gives up its own operation alone, and complains if it has none.
    for quit in [["rebase", "--quit"], ["am", "--quit"], ["cherry-pick", "--quit"], ["revert", "--quit"]] {
        let _ = git.run(&quit).await;
    }
    if half_done == Some("bisect") {
        git.run(&["bisect", "reset", "--quiet", "HEAD"]).await.or_else(|_| forget_bisect(&own))?;
    }
    git.write(&["reset", "--quiet", "--hard"]).await?;
    // Once: a directory with a repository in it stays.
    git.run(&["clean", "-d", "--force", "--quiet"]).await?;
    match look::status(git).await? {
        status if status.dirty => Err(WorktreeError::Refused(format!(
            "{} cannot be made clean (git status there says what is left){}",
            git.directory().display(),
            kept.map(|kept| format!("; what was uncommitted is on {kept}")).unwrap_or_default()
        ))),
        _ => Ok(kept),
    }
}

/// Puts what a rescue ref keeps back into the files, for the task that goes on. Only on the commit that it was left on: elsewhere
/// it would undo what has come since.
///
/// # Errors
/// It cannot be now, and the worktree is clean again.
pub(super) async fn bring_back(git: &Git<'_>, name: &str) -> Result<(), WorktreeError> {
    let Ok(under) = look::commit(git, &format!("{name}^1")).await else {
        tracing::warn!("{name} is gone, and with it what the task had left uncommitted");
        return Ok(());
    };
    if look::head(git).await? != under {
        tracing::warn!("the branch has moved since; what the task had left uncommitted stays on {name}");
        return Ok(());
    }
    let source = format!("--source={name}");
    let Err(error) = git.write(&["restore", "--quiet", "--worktree", &source, "--", ":/"]).await else { return Ok(()) };
    git.write(&["reset", "--quiet", "--hard"]).await?;
    git.run(&["clean", "-d", "--force", "--quiet"]).await?;
    if error.is_transient() {
        return Err(error.into());
    }
    tracing::warn!("what the task had left uncommitted stays on {name}: {error}");
    Ok(())
}

fn forget_bisect(own: &Path) -> Result<(), WorktreeError> {
    let names = fs::read_dir(own).map_err(FileError::of("read directory", own))?.filter_map(Result::ok).map(|entry| entry.path());
    for path in names.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("BISECT_"))) {
        fs::remove_file(&path).map_err(FileError::of("remove", &path))?;
    }
    Ok(())
}
