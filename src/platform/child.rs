//! A child process that begins its life in its cgroup. std's own can only be moved there afterwards, which the kernel makes
//! dear (see [`super::sys`]).

use super::sys::{BeforeExec, EXECUTE, Image, Watched, Way};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use tokio::io::Interest;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Handle;

/// The children that have not been collected, so that who collects orphans leaves them alone.
static LIVING: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

/// Whether this is a child of [`spawn`] that has not been collected yet.
pub fn is_awaited(pid: Pid) -> bool {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
}

/// A child. Dropped before it has been waited for, it is killed, and collected by the runtime.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    handle: Watched,
    waited: bool,
}

/// What a child is to become. (Not std's `Command`, which cannot be asked for its streams and hides arguments with a NUL byte.
/// No `Debug`: there are secrets in the environment.)
#[derive(Clone, Default)]
pub struct Program {
    /// A path: nothing is looked for.
    pub path: PathBuf,
    /// Without the program's name.
    pub arguments: Vec<OsString>,
    /// All of it: nothing is inherited.
    pub environment: BTreeMap<OsString, OsString>,
    /// Where it begins; ours if `None`.
    pub directory: Option<PathBuf>,
}

/// Starts `program`; `streams` are its standard input, output and error. Its signals are the defaults.
///
/// # Errors
/// Names the program, and what could not be done.
pub fn spawn(program: &Program, streams: [OwnedFd; 3], setup: BeforeExec) -> io::Result<Child> {
    spawn_by(&[Way::Born, Way::Moves], program, streams, setup)
}

fn spawn_by(ways: &[Way], program: &Program, streams: [OwnedFd; 3], setup: BeforeExec) -> io::Result<Child> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("start {}: {error}", program.path.display()));
    let image = image(program, streams, setup).map_err(named)?;
    let mut failed = io::Error::from(io::ErrorKind::InvalidInput);
    for way in ways {
        match begin(&image, *way, &program.path) {
            Ok((pid, handle)) => {
                LIVING.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
                return Ok(Child { pid, handle, waited: false });
            }
            Err(Failed::Unborn(error)) => {
                tracing::debug!(?way, "no child: {error}");
                failed = error;
            }
            Err(Failed::Refused(error)) => return Err(named(error)),
        }
    }
    Err(named(failed))
}

enum Failed {
    /// No process came of it: another way may do.
    Unborn(io::Error),
    /// It would be the same in any way.
    Refused(io::Error),
}

fn begin(image: &Image, way: Way, program: &Path) -> Result<(Pid, Watched), Failed> {
    let (mut failure, report) = io::pipe().map_err(Failed::Refused)?;
    let report = OwnedFd::from(report);
    let pid = image.start(way, &report).map_err(Failed::Unborn)?;
    drop(report);
    // Ends when the child is another program, or has ended.
    let mut told = Vec::new();
    let handle = match failure.read_to_end(&mut told).map(|_| told.split_first()) {
        Ok(Some((_, told))) => match reason(told, program) {
            None => watch(pid).map_err(Failed::Refused),
            Some(error) => Err(Failed::Refused(error)),
        },
        // Once `cgroup.kill` was written, Linux kills whoever is born in that cgroup from outside of it (seen of 6.18).
        Ok(None) => Err(Failed::Unborn(io::Error::other("it was killed before it lived"))),
        Err(error) => Err(Failed::Refused(error)),
    };
    if handle.is_err() {
        // It is ending by itself, or it could not be watched.
        let _ = kill(pid, Signal::SIGKILL);
        while waitpid(pid, None) == Err(Errno::EINTR) {}
    }
    Ok((pid, handle?))
}

fn image(program: &Program, streams: [OwnedFd; 3], setup: BeforeExec) -> io::Result<Image> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    // What it says may be secret, so only its place is told.
    let text = |bytes: &[u8], what: &dyn Fn() -> String| CString::new(bytes).map_err(|_| invalid(format!("{} has a NUL byte", what())));
    let path = text(program.path.as_os_str().as_bytes(), &|| "its path".to_owned())?;
    if !path.as_bytes().contains(&b'/') {
        return Err(invalid("it is not a path".to_owned()));
    }
    let mut arguments = vec![path.clone()];
    for (number, argument) in program.arguments.iter().enumerate() {
        arguments.push(text(argument.as_bytes(), &|| format!("its argument {}", number + 1))?);
    }
    let mut environment = Vec::new();
    for (key, value) in &program.environment {
        environment.push(text(&[key.as_bytes(), b"=", value.as_bytes()].concat(), &|| format!("its variable {}", key.display()))?);
    }
    let directory = program.directory.as_ref().map(|path| text(path.as_os_str().as_bytes(), &|| "its directory".to_owned())).transpose()?;
    Ok(Image::new(path, arguments, environment, directory, streams, setup))
}

/// What a child reported that did not become another program.
fn reason(told: &[u8], program: &Path) -> Option<io::Error> {
    let (errno, words) = told.split_first_chunk::<4>()?;
    let error = io::Error::from_raw_os_error(i32::from_ne_bytes(*errno));
    let why = match Errno::from_raw(i32::from_ne_bytes(*errno)) {
        _ if words != EXECUTE.as_bytes() => "",
        Errno::ENOENT if program.exists() => " (its interpreter is missing: that of its #! line, or the loader)",
        Errno::ENOEXEC => " (it is neither a program for this machine nor a script with a #! line)",
        _ => "",
    };
    Some(io::Error::new(error.kind(), format!("{}: {error}{why}", String::from_utf8_lossy(words))))
}

fn watch(pid: Pid) -> io::Result<Watched> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
    Watched::new(pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)
}

impl Child {
    /// Its number; `None` once it has been waited for, since then it may be somebody else's.
    pub fn id(&self) -> Option<u32> {
        u32::try_from(self.pid.as_raw()).ok().filter(|_| !self.waited)
    }

    /// Waits until it has ended. A call that is given up loses nothing.
    ///
    /// # Errors
    /// waitid(2), `ECHILD` if somebody else has waited for it.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = collect(self.pid, &self.handle).await?;
        self.waited = true;
        Ok(status)
    }

    /// Sends it a signal, or its process group, which it must lead then. Nothing is sent once it has been waited for.
    ///
    /// # Errors
    /// kill(2).
    pub fn signal(&self, signal: Signal, group: bool) -> io::Result<()> {
        match (self.waited, group) {
            (true, _) => Ok(()),
            (false, true) => Ok(killpg(self.pid, signal)?),
            (false, false) => Ok(kill(self.pid, signal)?),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.waited {
            return;
        }
        // One that ended meanwhile is as wanted.
        let _ = kill(self.pid, Signal::SIGKILL);
        let Ok(runtime) = Handle::try_current() else { return };
        let pid = self.pid;
        if let Ok(handle) = self.handle.get().try_clone().and_then(|handle| Watched::new(handle, Interest::READABLE)) {
            runtime.spawn(async move { collect(pid, &handle).await });
        }
    }
}

async fn collect(pid: Pid, handle: &Watched) -> io::Result<ExitStatus> {
    let status = loop {
        handle.ready(Interest::READABLE).await?;
        if let Some(status) = waitid(WaitId::PidFd(handle.get().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)? {
            break status;
        }
    };
    LIVING.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    Ok(exit_status(&status))
}

/// As wait(2) has it in one number.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::from_raw((code & 0xff) << 8),
        (None, signal) => ExitStatus::from_raw(signal.unwrap_or_default() | if status.dumped() { 0x80 } else { 0 }),
    }
}

/// A standard input that is empty.
///
/// # Errors
/// `/dev/null` cannot be opened.
pub fn no_input() -> io::Result<OwnedFd> {
    let path = "/dev/null";
    fs::File::open(path).map(OwnedFd::from).map_err(|error| io::Error::new(error.kind(), format!("open {path}: {error}")))
}

/// A pipe to a child's standard input: our end, and its.
///
/// # Errors
/// pipe(2).
pub fn input() -> io::Result<(Sender, OwnedFd)> {
    let (theirs, ours) = io::pipe()?;
    Ok((Sender::from_owned_fd(ours.into())?, theirs.into()))
}

/// A pipe from a child's standard output or error: our end, and its.
///
/// # Errors
/// pipe(2).
pub fn output() -> io::Result<(Receiver, OwnedFd)> {
    let (ours, theirs) = io::pipe()?;
    Ok((Receiver::from_owned_fd(ours.into())?, theirs.into()))
}

#[cfg(test)]
mod tests;
