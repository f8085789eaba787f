//! Locks that a git left which was killed: nobody will remove them, and every later git would fail.

use super::git::Git;
use super::{WorktreeError, look, prepare};
use crate::platform::durable::FileError;
use crate::platform::proc::{self, Stat};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a lock of git's may be somebody's who is at work: a person, where the worktree is one instance's alone…
const PATIENCE: Duration = Duration::from_secs(2);
/// …and another member, where it is shared.
const PATIENCE_SHARED: Duration = Duration::from_secs(60);
/// What clocks and file systems may differ by.
const SLACK: Duration = Duration::from_secs(1);

/// Removes what stands in this worktree's way. No other git of this runner's may run.
///
/// # Errors
/// Names the file.
pub(super) async fn unlock(git: &Git<'_>, shared: bool) -> Result<(), WorktreeError> {
    let own = look::git_directory(git).await?;
    let patience = if shared { PATIENCE_SHARED } else { PATIENCE };
    // Of the index, of HEAD, of AUTO_MERGE, ORIG_HEAD and whatever else a git keeps for one worktree.
    for lock in locks_in(&own)? {
        unlock_file(&lock, patience).await?;
    }
    // Nobody else commits on the branch that is checked out here.
    if let Some(branch) = look::branch(git).await {
        let lock = git.text(&["rev-parse", "--git-path", &format!("refs/heads/{branch}.lock")]).await?;
        unlock_file(&git.directory().join(lock), patience).await?;
    }
    unlock_store(&look::common_directory(git).await?).await
}

/// Removes a lock of what is one worktree's own.
pub(super) async fn unlock_own(lock: &Path) -> Result<(), WorktreeError> {
    unlock_file(lock, PATIENCE).await
}

/// Removes the locks of the references and of the objects that all worktrees share, if whoever made them is dead.
async fn unlock_store(common: &Path) -> Result<(), WorktreeError> {
    let until = Instant::now() + PATIENCE;
    // Beside a stale one of maintenance, git does none, and says nothing (git-maintenance(1)).
    let mut locks = vec![common.join("packed-refs.lock"), common.join("objects/maintenance.lock")];
    let mut directories = vec![common.join("refs")];
    while let Some(directory) = directories.pop() {
        // Another git removes it when it is empty.
        for entry in fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                _ if is_lock(&entry.path()) => locks.push(entry.path()),
                _ => {}
            }
        }
    }
    for lock in locks {
        if outlasts(&lock, until).await && !may_be_held(&lock) {
            remove(&lock)?;
        }
    }
    Ok(())
}

/// Whether a git lives that was there when the lock was made: all of them count, whoever's they are.
fn may_be_held(lock: &Path) -> bool {
    let Ok(made) = fs::metadata(lock).and_then(|data| data.modified()) else { return true };
    // One from the future says nothing of its age.
    let age = made.elapsed().unwrap_or_default();
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u32::try_from(ticks).ok()).filter(|ticks| *ticks > 0);
    let (Some(ticks), Ok(up)) = (ticks, clock_gettime(ClockId::CLOCK_BOOTTIME)) else { return true };
    let up = Duration::from(up);
    let was_there = |stat: Stat| !stat.ended && up.saturating_sub(Duration::from_secs(stat.began) / ticks) + SLACK > age;
    proc::all().filter(|pid| is_git(*pid)).filter_map(Stat::of).any(was_there)
}

/// Whether that is a git that writes: `git fsmonitor--daemon` and its like live for days and hold nothing.
fn is_git(pid: u32) -> bool {
    let is_daemon = || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|all| String::from_utf8_lossy(&all).contains("daemon"));
    proc::name(pid).is_some_and(|name| name.starts_with("git")) && !is_daemon()
}

fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock") && path.file_name() != Some(prepare::OURS.as_ref())
}

fn locks_in(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = fs::read_dir(directory).map_err(FileError::of("read directory", directory))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_lock(path)).collect())
}

/// Removes a lock once it had its time: no other git of ours runs here, and a person's ends in that.
async fn unlock_file(lock: &Path, patience: Duration) -> Result<(), WorktreeError> {
    if outlasts(lock, Instant::now() + patience).await {
        remove(lock)?;
    }
    Ok(())
}

/// Whether a lock is still there at that time.
async fn outlasts(lock: &Path, until: Instant) -> bool {
    while lock.exists() {
        if Instant::now() > until {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

fn remove(lock: &Path) -> Result<(), FileError> {
    crate::platform::durable::remove(lock)?;
    tracing::warn!("a lock that a killed git left is removed: {}", lock.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::SystemTime;

    #[tokio::test]
    async fn a_shared_lock_goes_when_no_git_lives_that_could_have_made_it() {
        let place = tempfile::tempdir().expect("a directory");
        let deep = place.path().join("refs/remotes/origin");
        fs::create_dir_all(&deep).expect("made");
        fs::create_dir(place.path().join("objects")).expect("made");
        let locks = [place.path().join("packed-refs.lock"), deep.join("main.lock"), place.path().join("objects/maintenance.lock")];
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let make = |made| locks.iter().for_each(|lock| fs::File::create(lock).and_then(|file| file.set_modified(made)).expect("made"));
        let left = || locks.iter().filter(|lock| lock.exists()).count();
        // A program of that name, as the kernel has it.
        let program = place.path().join("git");
        std::os::unix::fs::symlink("/bin/sleep", &program).expect("linked");
        let mut git = Command::new(&program).arg("1000").spawn().expect("runs");
        fs::write(deep.join("main"), "").expect("written");
        make(SystemTime::now());
        unlock_store(place.path()).await.expect("looked at");
        assert_eq!(left(), 3, "it was there before them, and may be at work");
        make(hour_ago);
        unlock_store(place.path()).await.expect("unlocked");
        assert_eq!((left(), deep.join("main").exists()), (0, true), "it is younger");
        git.kill().expect("killed");
        git.wait().expect("waited");
    }
}
