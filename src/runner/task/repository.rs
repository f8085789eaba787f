//! An attempt's part in its repository: its branch before the agent starts; the check, the commit and the push when it is done.

use super::{Attempt, Note, Place};
use crate::core::attempt::{Ended, Exit, Reason};
use crate::core::checkout::Origin;
use crate::core::delivery::{Delivery, Stage, Verification};
use crate::core::lock::{Policy, Uncovered, describe};
use crate::core::verdict::{AgentVerdict, Facts, StopCause, judge};
use crate::proto::link::{Answer, Job};
use crate::runner::worktree::{self, Git, Leave, Leaving, Prepared, WorktreeError};
use crate::runner::{check, environment};
use std::future::Future;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// Most bytes of a check's output that go back to the agent.
const FEEDBACK_MAX: usize = 16 << 10;
/// How long what is left of preparing may take to die.
const ENDING: Duration = Duration::from_secs(10);
/// How long clauded may take to say what was locked, where that changes nothing.
const ASKING: Duration = Duration::from_secs(5);
/// Most files that clauded is asked about at once.
const PAGE_FILES: usize = 10_000;
/// Most bytes of their names: in JSON one may be six times as long, and the answer names the holders too.
const PAGE_BYTES: usize = 512 << 10;
/// Longest time for counting what the worktree takes on disk.
const MEASURING: Duration = Duration::from_secs(5);
/// Longest time for a look into the worktree while a task runs.
const LOOKING: Duration = Duration::from_secs(20);

impl Attempt {
    /// How an attempt ends that is stopped before its agent has started.
    pub(super) fn stopped_early(&self) -> (Ended, String) {
        judge(&Facts { spawn_error: None, stop: self.stop, oom_kills: 0, exit: None, agent: AgentVerdict::Silent })
    }

    /// The same, where that order has come; the first one counts.
    pub(super) fn stopped_by(&mut self, cause: StopCause) -> (Ended, String) {
        self.stop = self.stop.or(Some(cause));
        self.stopped_early()
    }

    async fn enter(&mut self, stage: Stage) {
        if self.stage != stage {
            self.stage = stage;
            let _ = self.notes.send(Note::Entered(stage)).await;
        }
    }

    /// git in the worktree, in the attempt's cell, telling its progress to the runner.
    fn git(&self, origin: &Origin) -> Result<Git<'static>, WorktreeError> {
        let settings = &self.place.settings;
        let marks = environment::marks(settings, self.work.attempt);
        let git = Git::new(settings, origin, &marks, self.work.profile.trust_repository).map_err(WorktreeError::Refused)?;
        let (progress, mut told) = mpsc::unbounded_channel();
        let notes = self.notes.clone();
        tokio::spawn(async move {
            while let Some(words) = told.recv().await {
                // A runner that has no time for it now gets the next one.
                let _ = notes.try_send(Note::Doing(words));
            }
        });
        Ok(git.telling(progress))
    }

    /// Makes the worktree ready, on the task's branch. Without a repository the directory is taken as it is.
    pub(super) async fn check_out(&mut self) -> Result<(), (Ended, String)> {
        let Some(checkout) = self.work.checkout.clone() else { return Ok(()) };
        let _ = self.notes.try_send(Note::Doing("checking out".to_owned()));
        let (settings, attempt) = (std::sync::Arc::clone(&self.place.settings), self.work.attempt);
        let begun = match self.git(&checkout.origin) {
            Ok(git) => {
                let git = git.within(&self.cell);
                let work = worktree::begin(&git, &checkout, &settings.name, &settings.state, attempt);
                unless_stopped(&mut self.inbox.orders, work).await
            }
            Err(error) => Ok(Err(error)),
        };
        match begun {
            Ok(Ok(begun)) => {
                if let Some(kept) = &begun.rescued {
                    self.log.note(&format!("what another task had left uncommitted is on {kept}"));
                }
                self.log.note(&format!("works on branch {} from {}", begun.branch, begun.base));
                self.begun = Some(begun);
                // The time of a clone is not the agent's.
                self.watch = super::Watch::new(&self.work.profile, self.work.timeout, Instant::now());
                Ok(())
            }
            Ok(Err(error)) => Err((Ended::Failed { reason: Reason::Worktree, transient: error.is_transient() }, error.to_string())),
            Err(cause) => Err(self.stopped_by(cause)),
        }
    }

    /// Whether the attempt is over: its work passes its check, or has none, or there is no use in another try. If not, the agent
    /// knows what is wrong with it.
    pub(super) async fn passes(&mut self, exit: Exit) -> bool {
        let Some(checkout) = self.work.checkout.clone() else { return true };
        let Some(verify) = &checkout.verify else { return true };
        // One that ended by itself while it passed its budget has done its work.
        if self.stop.is_some_and(|cause| cause != StopCause::Budget) || self.judged(exit).0 != Ended::Succeeded {
            return true;
        }
        self.enter(Stage::Verifying).await;
        let runs = self.check.as_ref().map_or(0, |check| check.runs) + 1;
        let settings = std::sync::Arc::clone(&self.place.settings);
        let cell = match self.place.confinement.check(self.work.attempt, verify.memory) {
            Ok(cell) => cell,
            Err(error) => {
                self.check = Some(Verification { passed: false, runs, ended: format!("it could not be started: its cgroup: {error}"), output: String::new() });
                return true;
            }
        };
        self.log.note(&format!("the work is checked: {}", verify.command.join(" ")));
        let checked = {
            let work = check::run(verify, &settings, &self.work, &cell, &mut self.log);
            unless_stopped(&mut self.inbox.orders, work).await
        };
        self.end_all(&cell).await;
        cell.remove();
        let check = match checked {
            Ok(Ok(checked)) => Verification { passed: checked.passed, runs, ended: checked.ended, output: checked.output },
            Ok(Err(error)) => {
                self.check = Some(Verification { passed: false, runs, ended: format!("it could not be started: {error}"), output: String::new() });
                return true;
            }
            Err(cause) => {
                self.stop = Some(cause);
                Verification { passed: false, runs, ended: "it was stopped".to_owned(), output: String::new() }
            }
        };
        self.log.note(&format!("the check ended: {}", check.ended));
        let over = check.passed || self.stop.is_some() || runs > checkout.verify_attempts || self.is_out_of_budget();
        if !over {
            self.agent.follow_up(feedback(&verify.command, &check));
            self.enter(Stage::Running).await;
        }
        self.check = Some(check);
        over
    }

    fn is_out_of_budget(&self) -> bool {
        self.work.budget.is_some_and(|most| self.agent.condition().usage.cost >= most)
    }

    /// The verdict on the attempt: the agent's, and then that of the check.
    pub(super) fn verdict(&self, exit: Exit) -> (Ended, String) {
        let (ended, detail) = self.judged(exit);
        match &self.check {
            Some(check) if ended == Ended::Succeeded && !check.passed => {
                if self.stop.is_some() {
                    return self.stopped_early();
                }
                let times = if check.runs == 1 { String::new() } else { format!(" (run {} times)", check.runs) };
                let last = check.output.lines().rev().find(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim())).unwrap_or_default();
                let detail = format!("its work does not pass its check{times}: {}{last}", check.ended);
                (Ended::Failed { reason: Reason::VerifyFailed, transient: false }, detail.chars().filter(|c| !c.is_control()).take(600).collect())
            }
            None if ended == Ended::Succeeded && self.stop.is_some() && self.work.checkout.as_ref().is_some_and(|checkout| checkout.verify.is_some()) => {
                self.stopped_early()
            }
            _ => (ended, detail),
        }
    }

    /// Commits what is left, or keeps it; pushes the branch. What goes wrong is the attempt's end.
    pub(super) async fn hand_in(&mut self, ended: &mut Ended, detail: &mut String) -> Option<Box<Delivery>> {
        let (begun, checkout) = (self.begun.clone()?, self.work.checkout.clone()?);
        let mut leave = match ended {
            Ended::Succeeded => Leave::Commit,
            // It goes on in the tree as that is, unless another task begins there first.
            Ended::Failed { .. } | Ended::Cancelled | Ended::Limited { .. } | Ended::Interrupted => Leave::Keep,
        };
        if leave == Leave::Commit {
            self.enter(Stage::Publishing).await;
        }
        let git = match self.git(&checkout.origin) {
            Ok(git) => git,
            Err(error) => {
                *ended = Ended::Failed { reason: Reason::Worktree, transient: false };
                *detail = error.to_string();
                return None;
            }
        };
        let git = git.within(&self.cell);
        if leave == Leave::Commit
            && let Some(policy) = checkout.locks
            && let Some(refused) = locks_refused(&git, &begun, policy, &self.notes, &mut self.inbox.orders).await
        {
            (*ended, *detail) = match refused {
                Ok(refused) => refused,
                Err(cause) => {
                    self.stop = self.stop.or(Some(cause));
                    self.stopped_early()
                }
            };
            leave = Leave::Keep;
        }
        let words = self.agent.last_words();
        let settings = std::sync::Arc::clone(&self.place.settings);
        let leaving = Leaving {
            checkout: &checkout,
            begun: &begun,
            instance: &settings.name,
            attempt: self.work.attempt,
            title: &self.work.title,
            words: &words,
            session: self.agent.session(),
        };
        let (mut delivery, problem) = worktree::deliver(&git, &leaving, leave).await;
        if let (Ended::Failed { reason: Reason::Locks, .. }, Some(kept)) = (&*ended, &delivery.rescue) {
            detail.push_str(&format!("; the work is kept on {kept}"));
        }
        if let Some(problem) = problem {
            let kept = delivery.rescue.as_ref().map(|kept| format!("; it is kept on {kept}")).unwrap_or_default();
            *ended = Ended::Failed { reason: Reason::Worktree, transient: problem.is_transient() };
            *detail = format!("the work could not be committed: {problem}{kept}");
        } else if let (Leave::Commit, Some(remote), 1..) = (leave, &checkout.push, delivery.commits) {
            match unless_stopped(&mut self.inbox.orders, worktree::push(&git, remote, &begun.branch)).await {
                Ok(push) => {
                    if let Some(why) = &push.refused {
                        *ended = Ended::Failed { reason: Reason::Publish, transient: false };
                        let place = settings.directory.display();
                        *detail = format!(
                            "the work is committed on {0}, and {remote} did not take it: {why}; push it with git -C {place} push {remote} {0}, or retry the task",
                            begun.branch
                        );
                    }
                    delivery.push = Some(push);
                }
                // The next attempt pushes it.
                Err(cause) => {
                    (*ended, *detail) = self.stopped_by(cause);
                    detail.push_str(&format!("; the work is committed on {}, and not pushed to {remote}", begun.branch));
                }
            }
        }
        delivery.verify = self.check.take();
        let directory = settings.directory.clone();
        let measured = timeout(MEASURING, tokio::task::spawn_blocking(move || worktree::disk_usage(&directory, MEASURING))).await;
        delivery.disk_bytes = measured.ok().and_then(Result::ok).flatten();
        Some(Box::new(delivery))
    }
}

/// Does that, unless an order to stop comes first: its cause, then.
pub(super) async fn unless_stopped<T>(orders: &mut mpsc::Receiver<StopCause>, work: impl Future<Output = T>) -> Result<T, StopCause> {
    tokio::select! {
        done = work => Ok(done),
        Some(cause) = orders.recv() => Err(cause),
    }
}

/// Asks clauded whether the attempt has a lock on each file that it has changed. The end and its cause, if the work must not be
/// committed for want of one.
async fn locks_refused(
    git: &Git<'_>,
    begun: &worktree::Begun,
    policy: Policy,
    notes: &mpsc::Sender<Note>,
    orders: &mut mpsc::Receiver<StopCause>,
) -> Option<Result<(Ended, String), StopCause>> {
    let instead = "or set lock-policy = \"warn\" for the repository";
    let (lacks, transient) = match uncovered(git, begun, policy, notes, orders).await {
        Err(cause) => return Some(Err(cause)),
        Ok(Ok(uncovered)) if uncovered.is_empty() => return None,
        Ok(Ok(uncovered)) => {
            let what = describe(&uncovered);
            (format!("it changed files without a lock on them: {what}; take the locks first (claudectl lock acquire), {instead}"), false)
        }
        Ok(Err(error)) => (format!("whether the files that it changed were locked cannot be told: {error}; retry the task, {instead}"), error.is_transient()),
    };
    tracing::warn!("{lacks}");
    (policy == Policy::Refuse).then_some(Ok((Ended::Failed { reason: Reason::Locks, transient }, lacks)))
}

/// The files that it has changed without a lock, all of them, asked for in pages.
async fn uncovered(
    git: &Git<'_>,
    begun: &worktree::Begun,
    policy: Policy,
    notes: &mpsc::Sender<Note>,
    orders: &mut mpsc::Receiver<StopCause>,
) -> Result<Result<Vec<Uncovered>, WorktreeError>, StopCause> {
    let files = match worktree::changed_files(git, begun).await {
        Ok(files) => files,
        Err(error) => return Ok(Err(error)),
    };
    // Where the work is refused without locks, it waits until clauded is there to say so: the report on it would wait too.
    let patience = match policy {
        Policy::Warn => ASKING,
        Policy::Refuse => Duration::MAX,
    };
    let (all, mut told, mut uncovered) = (files.len(), 0, Vec::new());
    for page in pages(files) {
        let (reply, answer) = oneshot::channel();
        let asked = page.len();
        let _ = notes.send(Note::Locks(page, reply)).await;
        match unless_stopped(orders, timeout(patience, answer)).await? {
            Ok(Ok(more)) => uncovered.extend(more),
            _ => return Ok(Err(WorktreeError::Held(format!("clauded has not answered for {} of {all} files", all - told)))),
        }
        told += asked;
    }
    Ok(Ok(uncovered))
}

/// In parts that go over the link, and the answer too, in one line each.
fn pages(files: Vec<String>) -> Vec<Vec<String>> {
    let mut pages: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        bytes += file.len();
        match pages.last_mut() {
            Some(page) if page.len() < PAGE_FILES && bytes <= PAGE_BYTES => page.push(file),
            _ => {
                bytes = file.len();
                pages.push(vec![file]);
            }
        }
    }
    pages
}

/// Makes the worktree while there is no task; those that come meanwhile wait for it.
pub(in crate::runner) async fn prepare_worktree(place: Place, notes: mpsc::Sender<Note>) {
    let _held = place.worktree.lock().await;
    let Some(origin) = &place.settings.origin else { return };
    let prepared = async {
        let git = Git::new(&place.settings, origin, &[], false)?;
        let cell = place.confinement.errand().map_err(|error| format!("its cgroup: {error}"))?;
        let (progress, mut told) = mpsc::unbounded_channel();
        let done = {
            let git = git.within(&cell).telling(progress);
            let work = worktree::prepare(&git, origin);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    done = &mut work => break done,
                    Some(words) = told.recv() => drop(notes.try_send(Note::Doing(words))),
                }
            }
        };
        let _ = timeout(ENDING, cell.end()).await;
        cell.remove();
        done.map_err(|error| error.to_string())
    };
    let result: Result<Prepared, String> = prepared.await;
    match &result {
        Ok(Prepared::Unchanged) => {}
        Ok(Prepared::Created) => tracing::info!("the worktree {} of {} is made", place.settings.directory.display(), origin.source),
        Ok(Prepared::Changed) => tracing::warn!("the worktree {} is repaired", place.settings.directory.display()),
        Err(error) => tracing::error!("the worktree cannot be used, and tasks will fail of it: {error}"),
    }
    let _ = notes.send(Note::Prepared(result.map(drop))).await;
}

/// Does a job of clauded's with the worktree while there is no task.
pub(in crate::runner) async fn job(place: Place, id: u64, job: Job, notes: mpsc::Sender<Note>) {
    if job.only_looks() {
        return survey(place, id, job, notes).await;
    }
    let _held = place.worktree.lock().await;
    let done = async {
        let origin = place.settings.origin.as_ref().ok_or("this instance has no repository")?;
        let git = Git::new(&place.settings, origin, &[], false)?;
        let cell = place.confinement.errand().map_err(|error| format!("its cgroup: {error}"))?;
        let done = {
            let git = git.within(&cell);
            match job {
                Job::Look => worktree::look_at(&git, origin).await.map(|facts| Answer::Facts(Box::new(facts))),
                Job::Remove => worktree::remove(&git, origin).await.map(|()| Answer::Removed),
                Job::Tidy => worktree::tidy(&git).await.map(|()| Answer::Tidied),
                // These were passed on above.
                Job::Survey | Job::Merge { .. } | Job::History => Ok(Answer::Refused("it is no job for a worktree at rest".to_owned())),
            }
        };
        let _ = timeout(ENDING, cell.end()).await;
        cell.remove();
        done.map_err(|error| error.to_string())
    };
    let answer = done.await.unwrap_or_else(Answer::Refused);
    let _ = notes.send(Note::Answer(id, answer)).await;
}

/// Looks into the worktree while a task may run there, one look at a time.
async fn survey(place: Place, id: u64, job: Job, notes: mpsc::Sender<Note>) {
    let _alone = place.surveys.lock().await;
    let settings = &place.settings;
    let done = async {
        let origin = settings.origin.as_ref().ok_or("this instance has no repository")?;
        let git = Git::new(settings, origin, &[], false)?;
        let cell = place.confinement.survey().map_err(|error| format!("its cgroup: {error}"))?;
        let look = async {
            let git = match &cell {
                Some(cell) => git.within(cell),
                None => git,
            };
            match &job {
                Job::Merge { ours, with } => worktree::merges(&git, &settings.name, ours, with).await.map(Answer::Merges),
                Job::History => worktree::history(&git, origin).await.map(Answer::History),
                _ => worktree::survey(&git, origin, &settings.name, &settings.state).await.map(|survey| Answer::Survey(Box::new(survey))),
            }
        };
        // What it has started ends with it.
        let done = timeout(LOOKING, look).await;
        if let Some(cell) = cell {
            let _ = timeout(ENDING, cell.end()).await;
            cell.remove();
        }
        done.map_err(|_| format!("it takes longer than {} s", LOOKING.as_secs()))?.map_err(|error| error.to_string())
    };
    let answer = done.await.unwrap_or_else(Answer::Refused);
    let _ = notes.send(Note::Answer(id, answer)).await;
}

/// What the agent is told of a check that failed.
fn feedback(command: &[String], check: &Verification) -> String {
    let output = check.output.trim_end();
    let output = output.get(output.ceil_char_boundary(output.len().saturating_sub(FEEDBACK_MAX))..).unwrap_or_default();
    format!(
        "Your work does not pass the check of this repository. `{}` ended with: {}. The end of its output:\n\n{output}\n\nFind the cause and mend it. Do not weaken the check itself.",
        command.join(" "),
        check.ended
    )
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, PAGE_FILES, pages};

    #[test]
    fn files_are_asked_about_in_pages_that_leave_none_out() {
        assert!(pages(Vec::new()).is_empty());
        for (count, bytes, wanted) in [(PAGE_FILES, 8, 1), (PAGE_FILES + 1, 8, 2), (3, PAGE_BYTES / 2, 2), (3, PAGE_BYTES + 1, 3)] {
            let files: Vec<String> = (0..count).map(|n| format!("{n:08}{}", "x".repeat(bytes - 8))).collect();
            let pages = pages(files.clone());
            assert_eq!((pages.len(), pages.concat()), (wanted, files), "{count} of {bytes} bytes");
        }
    }
}
