//! After an attempt: what is left is committed on the task's branch, and what came of it is told.

use super::branch::Begun;
use super::git::Git;
use super::rescue::{self, ADD};
use super::standing::Standing;
use super::{WorktreeError, look};
use crate::core::checkout::{Checkout, Origin};
use crate::core::delivery::{ChangedFile, Delivery, FILES_MAX, Trailers, message};
use crate::core::ids::{AttemptId, InstanceName, SessionId};
use std::path::Path;

/// What becomes of what is not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runner) enum Leave {
    /// It is the work, and is committed.
    Commit,
    /// It is no finished work: a rescue ref keeps it, and it stays where it is for another attempt.
    Keep,
}

/// An attempt that leaves its worktree.
#[derive(Debug)]
pub(in crate::runner) struct Leaving<'l> {
    /// Where and how it worked.
    pub(in crate::runner) checkout: &'l Checkout,
    /// What it began with.
    pub(in crate::runner) begun: &'l Begun,
    /// The instance.
    pub(in crate::runner) instance: &'l InstanceName,
    /// The attempt.
    pub(in crate::runner) attempt: AttemptId,
    /// The task's title.
    pub(in crate::runner) title: &'l str,
    /// The agent's last words.
    pub(in crate::runner) words: &'l str,
    /// Its conversation.
    pub(in crate::runner) session: Option<SessionId>,
}

/// Leaves the worktree so; what cannot be committed is kept on a rescue ref. Answers what there is now, and why the work is not
/// on its branch, if it is not.
pub(in crate::runner) async fn deliver(git: &Git<'_>, leaving: &Leaving<'_>, leave: Leave) -> (Delivery, Option<WorktreeError>) {
    // In a shared worktree what is uncommitted is the other members' too, and stays where it is.
    let shared = leaving.checkout.shared;
    let problem = if leave == Leave::Commit { commit_patiently(git, leaving).await.err() } else { None };
    let mut delivery = Delivery {
        repository: leaving.checkout.origin.name.clone(),
        branch: leaving.begun.branch.clone(),
        base: Some(leaving.begun.base.clone()),
        ..Delivery::default()
    };
    let lost = if (leave == Leave::Commit && problem.is_none()) || shared {
        None
    } else {
        match keep_patiently(git, leaving.instance, leaving.attempt).await {
            Ok(kept) => {
                delivery.rescue = kept;
                None
            }
            Err(error) => Some(error),
        }
    };
    look_back(git, &mut delivery).await;
    let problem = match (problem, lost) {
        (Some(problem), Some(lost)) => {
            let why = format!("{problem}; it could not be rescued either and stands in the worktree: {lost}");
            Some(if problem.is_transient() { WorktreeError::Held(why) } else { WorktreeError::Refused(why) })
        }
        (None, Some(lost)) => {
            tracing::warn!("what the attempt left uncommitted could not be rescued; it stays in the worktree: {lost}");
            None
        }
        (problem, None) => problem,
    };
    (delivery, problem)
}

/// How often a git that was stopped is called again: in a shared worktree another member's may hold the index for a moment; in one's
/// own it was killed.
struct Patience<'p> {
    git: &'p Git<'p>,
    shared: bool,
    left: u32,
}

impl<'p> Patience<'p> {
    fn new(git: &'p Git<'p>, shared: bool) -> Self {
        Self { git, shared, left: if shared { 9 } else { 2 } }
    }

    /// Whether what failed so is to be done again, now.
    async fn is_left(&mut self, error: &WorktreeError) -> bool {
        if self.left == 0 || !error.is_transient() {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        self.shared || super::stale::unlock(self.git, false).await.is_ok()
    }
}

async fn commit_patiently(git: &Git<'_>, leaving: &Leaving<'_>) -> Result<(), WorktreeError> {
    let mut patience = Patience::new(git, leaving.checkout.shared);
    loop {
        match commit(git, leaving).await {
            Err(error) if patience.is_left(&error).await => {}
            done => return done,
        }
    }
}

async fn keep_patiently(git: &Git<'_>, instance: &InstanceName, attempt: AttemptId) -> Result<Option<String>, WorktreeError> {
    let mut patience = Patience::new(git, false);
    loop {
        match rescue::keep(git, instance, attempt).await {
            Err(error) if patience.is_left(&error).await => {}
            done => return done,
        }
    }
}

async fn commit(git: &Git<'_>, leaving: &Leaving<'_>) -> Result<(), WorktreeError> {
    let own = look::git_directory(git).await?;
    let _held = match leaving.checkout.shared {
        true => Some(super::prepare::hold(&own).await?),
        false => None,
    };
    let branch = &leaving.begun.branch;
    let operation = look::operation(&own);
    match operation {
        None => {}
        Some("merge") => {
            let conflicts = look::conflicts(git).await?;
            if conflicts > 0 {
                return Err(WorktreeError::Refused(format!("the agent left a merge with {conflicts} files in conflict; nothing of it was committed")));
            }
        }
        Some(other) => return Err(WorktreeError::Refused(format!("the agent left a {other} half done; nothing of it was committed"))),
    }
    onto_branch(git, branch).await?;
    let status = look::status(git).await?;
    if !status.dirty && operation.is_none() {
        return Ok(());
    }
    let list = look::everything_but(&status.nested);
    git.call(&ADD).input(list).text().await?;
    if operation.is_none() && git.asks(&["diff", "--cached", "--quiet", "--no-ext-diff", "--ignore-submodules=none"]).await? {
        return Ok(());
    }
    let checkout = leaving.checkout;
    let trailers = Trailers { attempt: leaving.attempt, instance: leaving.instance, id: &checkout.id, session: leaving.session };
    let text = message(checkout.kind.as_str(), leaving.title, leaving.words, &trailers);
    let mut call = vec!["commit", "--quiet", "--file=-", "--cleanup=verbatim"];
    if !git.is_trusted() {
        call.extend(["--no-verify", "--no-gpg-sign"]);
    }
    let author = &checkout.author;
    let call = git.call(&call).input(text).with("GIT_AUTHOR_NAME", &author.name).with("GIT_AUTHOR_EMAIL", &author.email);
    call.with("GIT_COMMITTER_NAME", &author.name).with("GIT_COMMITTER_EMAIL", &author.email).text().await?;
    Ok(())
}

/// Brings HEAD back to the task's branch, with the commits that the agent made elsewhere if they follow on it.
async fn onto_branch(git: &Git<'_>, branch: &str) -> Result<(), WorktreeError> {
    let at = look::branch(git).await;
    if at.as_deref() == Some(branch) {
        return Ok(());
    }
    let full = format!("refs/heads/{branch}");
    let head = look::head(git).await?;
    let place = at.map_or_else(|| "a detached HEAD".to_owned(), |at| format!("branch {at}"));
    match look::commit(git, &full).await {
        Ok(tip) if tip == head || look::contains(git, &tip, &head).await? => {
            git.run(&["update-ref", "-m", "clauded: the agent went on elsewhere", &full, &head, &tip]).await?;
        }
        Ok(_) if !look::status(git).await?.dirty => {
            // It looked around, and has nothing there that is its own.
            git.write(&["switch", "--quiet", "--no-guess", branch]).await?;
            return Ok(());
        }
        Ok(_) => {
            return Err(WorktreeError::Refused(format!("the agent left its changes on {place} and not on {branch}; they were not committed there")));
        }
        // It was renamed or deleted.
        Err(_) => git.run(&["update-ref", "-m", "clauded: the branch was gone", &full, &head, &"0".repeat(head.len())]).await?,
    }
    git.run(&["symbolic-ref", "-m", "clauded: back on the task's branch", "HEAD", &full]).await?;
    Ok(())
}

/// The branch's tip, and what differs from the base. What cannot be told is left out.
async fn look_back(git: &Git<'_>, delivery: &mut Delivery) {
    let Some(base) = delivery.base.clone() else { return };
    let Ok(head) = look::commit(git, &format!("refs/heads/{}", delivery.branch)).await else { return };
    let range = format!("{base}..{head}");
    delivery.commits = git.maybe(&["rev-list", "--count", &range]).await.and_then(|count| count.parse().ok()).unwrap_or(0);
    let call = ["diff", "--name-status", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--end-of-options", &base, &head];
    if let Ok(answer) = git.call(&call).bytes().await {
        let mut parts = answer.split(|b| *b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let mut more = 0u32;
        while let (Some(status), Some(path)) = (parts.next().filter(|status| !status.is_empty()), parts.next()) {
            if delivery.files.len() < FILES_MAX {
                delivery.files.push(ChangedFile { status, path });
            } else {
                more = more.saturating_add(1);
            }
        }
        delivery.more_files = more;
    }
    delivery.head = Some(head);
}

/// What an attempt has left in its own worktree that nobody was there to hand in: its runner went away. Nothing, if it is not its
/// work that stands there.
///
/// # Errors
/// It cannot be kept, and stays in the worktree.
pub(in crate::runner) async fn salvage(
    git: &Git<'_>,
    origin: &Origin,
    instance: &InstanceName,
    state: &Path,
    attempt: AttemptId,
) -> Result<Option<Delivery>, WorktreeError> {
    let standing = Standing::read(state);
    let branch = standing.branches.get(&attempt.task).filter(|_| standing.last == Some(attempt) && !standing.shared);
    let (Some(branch), true) = (branch, git.directory().is_dir()) else { return Ok(None) };
    let (name, base) = (branch.name.clone(), Some(branch.base.clone()));
    let rescue = keep_patiently(git, instance, attempt).await?;
    let mut delivery = Delivery { repository: origin.name.clone(), branch: name, base, rescue, ..Delivery::default() };
    look_back(git, &mut delivery).await;
    Ok(Some(delivery))
}

/// The files that differ from what the task started from, committed or not.
///
/// # Errors
/// git cannot tell.
pub(in crate::runner) async fn changed_files(git: &Git<'_>, begun: &Begun) -> Result<Vec<String>, WorktreeError> {
    let tracked = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--end-of-options", &begun.base, "--"];
    let untracked = ["ls-files", "--others", "--exclude-standard", "-z", "--full-name", "--", ":/"];
    let mut files = Vec::new();
    for call in [&tracked[..], &untracked[..]] {
        let answer = git.call(call).bytes().await?;
        files.extend(answer.split(|b| *b == 0).filter(|path| !path.is_empty()).map(|path| String::from_utf8_lossy(path).into_owned()));
    }
    Ok(files)
}
