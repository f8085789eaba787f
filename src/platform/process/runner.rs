//! One runner as a process: started so that it outlives the daemon, watched through a pidfd, and cleared away with all it
//! started.

use super::machine::Exit;
use super::record::ProcessRecord;
use super::{Launch, named, session};
use crate::core::ids::{InstanceName, InvocationId};
use crate::platform::cgroup::{Group, host_memory};
use crate::platform::proc::began;
use crate::platform::sys::{BeforeExec, Watched, before_exec};
use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::Interest;

/// A runner's own output, kept to this size and one older file of the same: it says little, its agents' logs are elsewhere.
const LOG_MAX: u64 = 4 << 20;

/// How long the kernel may take to end a killed group before we say so.
const EMPTYING: Duration = Duration::from_secs(10);

/// A runner.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) pid: u32,
    began: u64,
    /// `None` if it is gone already.
    handle: Option<OwnedFd>,
    pub(super) invocation: InvocationId,
    pub(super) group: Option<Group>,
    pub(super) since: Option<Timestamp>,
}

/// What every runner is given.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) notify: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) watchdog: Duration,
}

impl Surroundings {
    /// The log of an instance's runner.
    pub(super) fn log(&self, name: &InstanceName) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

impl Runner {
    /// Starts a runner for `name`, in `group` if there is one.
    pub(super) fn start(
        name: &InstanceName,
        invocation: InvocationId,
        launch: &Launch,
        group: Option<Group>,
        around: &Surroundings,
    ) -> io::Result<(Self, tokio::process::Child)> {
        let (program, arguments) =
            launch.program.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "start a runner: no program is named"))?;
        let log = around.log(name);
        bound_log(&log)?;
        let output = fs::OpenOptions::new().create(true).append(true).open(&log).map_err(named("open", &log))?;
        let mut command = Command::new(program);
        command.args(arguments).arg(name.as_str()).env_clear().envs(&launch.environment);
        command.env("INVOCATION_ID", invocation.as_str()).env("NOTIFY_SOCKET", &around.notify);
        command.env("WATCHDOG_USEC", around.watchdog.as_micros().to_string());
        if let Some(group) = &group {
            command.env("CLAUDED_CGROUP", group.path());
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(named("duplicate", &log))?).stderr(output);
        let bounded = group.as_ref().is_some_and(|group| group.path().join("memory.max").exists());
        let setup = BeforeExec {
            cgroup: group.as_ref().map(Group::open).transpose()?,
            oom_score_adj: None,
            data_limit: launch.limits.memory.filter(|_| !bounded).and_then(|memory| memory.bytes(host_memory())),
            new_session: true,
        };
        before_exec(&mut command, setup);
        let child = tokio::process::Command::from(command).kill_on_drop(false).spawn().map_err(named("start", Path::new(program)))?;
        // Until it is waited for, the number is its own.
        let pid = child.id().ok_or_else(|| io::Error::other("start a runner: it has no process number"))?;
        let handle = Some(open(pid).map_err(named("open a pidfd of", Path::new(program)))?);
        Ok((Self { pid, began: began(pid).unwrap_or_default(), handle, invocation, group, since: None }, child))
    }

    /// Takes over a runner that an earlier daemon started. One that is gone has no handle, and its end is what is found.
    pub(super) fn adopt(mut record: ProcessRecord) -> Self {
        if record.pid == 0 {
            // That daemon ended, or its disk was full, between the start and the note of its number.
            (record.pid, record.began) = session::leader(&record.invocation).unwrap_or_default();
        }
        // The handle first: whoever has it then is asked when it began.
        let handle = open(record.pid).ok().filter(|_| began(record.pid) == Some(record.began));
        Self {
            pid: record.pid,
            began: record.began,
            handle,
            invocation: record.invocation,
            group: record.group.map(Group::at),
            since: record.since.and_then(|usec| Timestamp::from_microsecond(usec).ok()),
        }
    }

    pub(super) fn record(&self, stopping: bool) -> ProcessRecord {
        ProcessRecord {
            pid: self.pid,
            began: self.began,
            invocation: self.invocation.clone(),
            group: self.group.as_ref().map(|group| group.path().to_owned()),
            since: self.since.map(Timestamp::as_microsecond),
            stopping,
        }
    }

    /// Sends a signal to the runner alone.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(handle) = &self.handle
            && let Err(error) = pidfd_send_signal(handle, signal)
        {
            // It ended a moment ago.
            tracing::debug!(pid = self.pid, %error, "no signal was sent");
        }
    }

    /// Ends the runner and all it started.
    pub(super) fn kill(&self) {
        if let Some(Err(error)) = self.group.as_ref().map(Group::kill) {
            tracing::warn!("cannot end a group: {error}");
        }
        self.signal(Signal::KILL);
    }

    /// A future that ends when the runner has ended and nothing of it is left.
    pub(super) fn end(&self, child: Option<tokio::process::Child>) -> io::Result<impl Future<Output = Exit> + Send + 'static> {
        let watched = match (&child, &self.handle) {
            (None, Some(handle)) => {
                Some(handle.try_clone().and_then(|handle| Watched::new(handle, Interest::READABLE)).map_err(named("watch", Path::new("pidfd")))?)
            }
            _ => None,
        };
        let (group, pid, start, invocation) = (self.group.clone(), self.pid, self.began, self.invocation.clone());
        Ok(async move {
            let exit = match (child, watched) {
                (Some(mut child), _) => child.wait().await.map_or(Exit::Unknown, |status| match (status.code(), status.signal()) {
                    (Some(status_code), _) => Exit::Status(status_code),
                    (None, Some(signal)) => Exit::Signal(signal, status.core_dumped()),
                    (None, None) => Exit::Unknown,
                }),
                (None, Some(watched)) => {
                    if let Err(error) = watched.ready(Interest::READABLE).await {
                        tracing::debug!("the event loop is ending: {error}");
                    }
                    Exit::Unknown
                }
                (None, None) => Exit::Unknown,
            };
            if let Err(error) = clear(group, pid, start, invocation).await {
                tracing::warn!(pid, %error, "something of a runner may be left");
            }
            exit
        })
    }
}

/// Ends what a runner left behind and removes its group.
async fn clear(group: Option<Group>, pid: u32, start: u64, invocation: InvocationId) -> io::Result<()> {
    let Some(group) = group else {
        return tokio::task::spawn_blocking(move || session::kill(pid, start, &invocation)).await.map_err(io::Error::other);
    };
    group.kill()?;
    tokio::time::timeout(EMPTYING, group.emptied()).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("end the processes of {}: some are left after {} s", group.path().display(), EMPTYING.as_secs()))
    })??;
    group.remove()
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)
}

/// Keeps a log within its bound. The runner has it open for appending, so it is copied and emptied, not renamed.
pub(super) fn bound_log(log: &Path) -> io::Result<()> {
    if fs::metadata(log).is_ok_and(|m| m.len() > LOG_MAX) {
        let old = log.with_extension("log.1");
        fs::copy(log, &old).map_err(named("copy to", &old))?;
        fs::OpenOptions::new().write(true).open(log).and_then(|file| file.set_len(0)).map_err(named("empty", log))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_while_it_is_open() {
        use std::io::Write;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = directory.path().join("a.log");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("opened");
        file.write_all(&vec![b'x'; usize::try_from(LOG_MAX).expect("fits") + 1]).expect("written");
        bound_log(&log).expect("bounded");
        file.write_all(b"more").expect("written");
        assert_eq!(fs::read(&log).expect("read"), b"more");
        assert_eq!(fs::metadata(directory.path().join("a.log.1")).expect("kept").len(), LOG_MAX + 1);
    }

    #[test]
    fn a_record_of_another_process_with_the_same_number_is_not_adopted() {
        let own = ProcessRecord {
            pid: std::process::id(),
            began: 1,
            invocation: InvocationId::from_bytes(&[1; 16]).expect("not zero"),
            group: None,
            since: None,
            stopping: false,
        };
        assert!(Runner::adopt(own.clone()).handle.is_none());
        let began = began(own.pid).expect("alive");
        assert!(Runner::adopt(ProcessRecord { began, ..own }).handle.is_some());
    }
}
