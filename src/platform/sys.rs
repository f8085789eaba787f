//! The only `unsafe` of the project: what must happen between fork and exec, adopting inherited descriptors, and registering
//! descriptors with the event loop.
#![allow(unsafe_code, reason = "this module alone; each block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use tokio::io::{Interest, unix::AsyncFd};

/// What a child does to itself before it becomes another program.
#[derive(Debug, Default)]
pub struct BeforeExec {
    /// `cgroup.procs` of the group to enter, opened for writing.
    pub cgroup_procs: Option<OwnedFd>,
    /// `oom_score_adj` opened for writing is not needed: the child opens its own (proc(5)). -1000 to 1000.
    pub oom_score_adj: Option<i16>,
    /// `RLIMIT_DATA` in bytes (getrlimit(2)), where no cgroup can bound memory.
    pub data_limit: Option<u64>,
    /// Begin a new session (setsid(2)).
    pub new_session: bool,
}

/// Arranges for `setup` to happen in the child, after fork and before exec. An error there is the error of `spawn`.
pub fn before_exec(command: &mut Command, setup: BeforeExec) {
    let score = setup.oom_score_adj.map(|score| score.to_string());
    let act = move || -> io::Result<()> {
        if let Some(procs) = &setup.cgroup_procs {
            // "0" is the writing process itself (cgroup-v2: cgroup.procs).
            nix::unistd::write(procs, b"0")?;
        }
        if let Some(score) = &score {
            let file = nix::fcntl::open("/proc/self/oom_score_adj", nix::fcntl::OFlag::O_WRONLY, nix::sys::stat::Mode::empty())?;
            nix::unistd::write(&file, score.as_bytes())?;
        }
        if let Some(bytes) = setup.data_limit {
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_DATA, bytes, bytes)?;
        }
        if setup.new_session {
            nix::unistd::setsid()?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child of a possibly threaded program, so it must be async-signal-safe: it makes
    // only the system calls open, write, setrlimit, setsid and close on data allocated before the fork, and takes no lock.
    unsafe {
        command.pre_exec(act);
    }
}

/// Takes over a descriptor that the service manager passed (sd_listen_fds(3)).
///
/// # Errors
/// `EBADF` if it is not open.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) F_GETFD on a number that is not open only answers EBADF; the borrow does not outlive this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open (checked above), the manager gave it to this process to own, and callers take each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(borrowed.as_raw_fd()) })
}

/// A descriptor that the event loop watches; it is closed when this is dropped. (tokio's own constructor is unsafe, since
/// its owner could exchange the descriptor underneath; this one's cannot.)
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Watches for `interest`: readable for a pidfd, priority for the files that the kernel notifies of (cgroup-v2, psi).
    ///
    /// # Errors
    /// epoll_ctl(2) refused it.
    pub fn new(fd: impl Into<OwnedFd>, interest: Interest) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open, always answers the same number, and nothing hands out `&mut` to it before the drop.
        let watched = unsafe { AsyncFd::register_with_interest(fd.into(), interest) };
        watched.map(Self).map_err(io::Error::from)
    }

    /// The descriptor.
    pub fn get(&self) -> &OwnedFd {
        self.0.get_ref()
    }

    /// Waits for what `interest` names and forgets that it came, so that the next call waits for the next time.
    ///
    /// # Errors
    /// The event loop is shutting down.
    pub async fn ready(&self, interest: Interest) -> io::Result<()> {
        self.0.ready(interest).await?.clear_ready();
        Ok(())
    }
}
