//! Where there is no cgroup: a task's processes are the runner's descendants, since it is their subreaper (prctl(2)).
//! What an earlier runner left is found by its environment.

use crate::platform::child;
use crate::platform::proc::{self, Stat};
use crate::platform::sys::Watched;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use tokio::io::Interest;
use tokio::signal::unix::{SignalKind, signal};

/// Makes orphans below this process its children.
///
/// # Errors
/// prctl(2).
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// The living descendants of this process, with their resident memory in pages.
fn living() -> Vec<(u32, u64)> {
    let all: BTreeMap<u32, Stat> = proc::all().filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
    let own = std::process::id();
    let mut ours = BTreeSet::from([own]);
    loop {
        let more: Vec<u32> = all.iter().filter(|(pid, s)| ours.contains(&s.parent) && !ours.contains(pid)).map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    ours.remove(&own);
    ours.into_iter().filter_map(|pid| all.get(&pid).filter(|s| !s.ended).map(|s| (pid, s.resident))).collect()
}

/// Resident memory of all descendants, bytes.
pub(super) fn memory() -> u64 {
    living().iter().fold(0u64, |sum, (_, pages)| sum.saturating_add(bytes(*pages)))
}

/// Resident memory of any process, bytes; `None` if it is gone.
pub(super) fn resident(pid: u32) -> Option<u64> {
    Some(bytes(Stat::of(pid)?.resident))
}

fn bytes(pages: u64) -> u64 {
    // 4 KiB is every supported architecture's page but for some arm64 kernels, where this underestimates.
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().and_then(|p| u64::try_from(p).ok()).unwrap_or(4096);
    pages.saturating_mul(page)
}

/// The descendants that live, for a message.
pub(super) fn pids() -> Vec<u32> {
    living().into_iter().map(|(pid, _)| pid).collect()
}

/// Collects orphans that have ended, up to the first child that we started ourselves: that one belongs to whoever waits for it.
pub(super) fn reap() {
    while let Ok(status) = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
        let pid = match status {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) => pid,
            _ => return,
        };
        if child::is_awaited(pid) || waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Err(Errno::ECHILD) {
            return;
        }
    }
}

/// Kills all descendants and collects them, over and over as children end (SIGCHLD), until none is left.
///
/// # Errors
/// No signal handler could be set.
pub(super) async fn end_all() -> io::Result<()> {
    let mut child_ended = signal(SignalKind::child())?;
    loop {
        reap();
        let alive = living();
        if alive.is_empty() {
            return Ok(());
        }
        for (pid, _) in alive {
            // One that ended meanwhile is as wanted.
            let _ = i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
        // A grandchild's end is told to its dying parent and not to us, so the look is repeated now and then all the same.
        let _ = tokio::time::timeout(Duration::from_millis(200), child_ended.recv()).await;
    }
}

/// Processes of this user that were started with all of these variables in their environment (proc(5) `environ`).
pub(super) fn with_environment(wanted: &[(&str, OsString)]) -> Vec<u32> {
    let has_all = |pid: &u32| {
        let Ok(bytes) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        let has = |key: &str, value: &OsString| {
            let mut entries = bytes.split(|b| *b == 0);
            entries.any(|entry| entry.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) == Some(value.as_bytes()))
        };
        wanted.iter().all(|(key, value)| has(key, value))
    };
    let lives = |pid: &u32| Stat::of(*pid).is_some_and(|stat| !stat.ended);
    proc::all().filter(|pid| *pid != std::process::id() && lives(pid) && has_all(pid)).collect()
}

/// Kills processes that are not ours to wait for and waits, by pidfd (pidfd_open(2)), until `find` finds none.
///
/// # Errors
/// A process that cannot be signalled.
pub(super) async fn end_found(find: impl Fn() -> Vec<u32>) -> io::Result<()> {
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(());
        }
        for pid in found {
            let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { continue };
            let handle = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
                Ok(handle) => handle,
                Err(rustix::io::Errno::SRCH) => continue,
                Err(error) => return Err(error.into()),
            };
            match rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Watched::new(handle, Interest::READABLE)?.ready(Interest::READABLE).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn strangers_are_found_by_their_environment_and_ended() {
        let mark = ("CLAUDED_ATTEMPT", OsString::from(format!("test-{}", std::process::id())));
        let mut child =
            Command::new("sh").args(["-c", "echo; read end"]).env(mark.0, &mark.1).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
        // While a process becomes a program it has no environment for a moment.
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut String::new()).expect("a line");
        let find = || with_environment(std::slice::from_ref(&mark));
        assert_eq!(find(), [child.id()]);
        assert!(with_environment(&[mark.clone(), ("CLAUDED_INSTANCE", "other".into())]).is_empty());
        end_found(find).await.expect("ended");
        assert!(!child.wait().expect("wait").success());
    }
}
