//! The only `unsafe` of the project: what must happen between fork and exec, adopting inherited descriptors, and registering
//! descriptors with the event loop.
#![allow(unsafe_code, reason = "this module alone; each block says why it is sound")]

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid, write};
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use tokio::io::{Interest, unix::AsyncFd};

/// What a child does to itself before it becomes another program.
#[derive(Debug, Default)]
pub struct BeforeExec {
    /// The directory of the cgroup that it is to run in ([`super::cgroup::Group::open`]).
    pub cgroup: Option<OwnedFd>,
    /// `oom_score_adj` opened for writing is not needed: the child opens its own (proc(5)). -1000 to 1000.
    pub oom_score_adj: Option<i16>,
    /// `RLIMIT_DATA` in bytes (getrlimit(2)), where no cgroup can bound memory.
    pub data_limit: Option<u64>,
    /// Begin a new session (setsid(2)).
    pub new_session: bool,
}

/// What a child could not do, in words, and why.
type Failure = (&'static str, Errno);

/// [`BeforeExec`] as it is carried out, with nothing left to be allocated.
#[derive(Debug)]
struct Steps {
    setup: BeforeExec,
    score: Option<String>,
}

impl Steps {
    fn new(setup: BeforeExec) -> Self {
        let score = setup.oom_score_adj.map(|score| score.to_string());
        Self { setup, score }
    }

    /// For the child alone, between fork and exec: only system calls, on data that was allocated before.
    fn take(&self, in_cgroup: bool) -> Result<(), Failure> {
        if let Some(group) = self.setup.cgroup.as_ref().filter(|_| !in_cgroup) {
            let procs = openat(group, c"cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            // "0" is the writing process itself (cgroup-v2: cgroup.procs).
            procs.and_then(|procs| write(procs, b"0")).map_err(|errno| ("write to the cgroup.procs of its cgroup", errno))?;
        }
        if let Some(score) = &self.score {
            let file = open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            file.and_then(|file| write(file, score.as_bytes())).map_err(|errno| ("write its oom_score_adj", errno))?;
        }
        if let Some(bytes) = self.setup.data_limit {
            setrlimit(Resource::RLIMIT_DATA, bytes, bytes).map_err(|errno| ("set its RLIMIT_DATA", errno))?;
        }
        if self.setup.new_session {
            setsid().map_err(|errno| ("begin a session", errno))?;
        }
        Ok(())
    }
}

/// Arranges for `setup` to happen in the child, after fork and before exec. An error there is the error of `spawn`.
pub fn before_exec(command: &mut Command, setup: BeforeExec) {
    let steps = Steps::new(setup);
    let act = move || steps.take(false).map_err(|(_, errno)| io::Error::from(errno));
    // SAFETY: the closure runs in the forked child of a possibly threaded program, so it must be async-signal-safe: it makes
    // only the system calls open, write, setrlimit, setsid and close on data allocated before the fork, and takes no lock.
    unsafe {
        command.pre_exec(act);
    }
}

/// The words of a child that exec(2) has failed.
pub(super) const EXECUTE: &str = "execute it";

/// How a child comes into its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is born there: clone3(2) with `CLONE_INTO_CGROUP`, Linux 5.7, unless a seccomp filter keeps it from us.
    Born,
    /// It moves there by itself. The kernel's lock for that waits for all processors: 5 ms are usual, 20 not rare.
    Moves,
}

/// All that a child needs to become another program, made before the fork: after it nothing may be allocated.
pub(super) struct Image {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: Option<CString>,
    streams: [OwnedFd; 3],
    steps: Steps,
}

impl Image {
    /// `program` is a path; `arguments` begin with the program's name; `streams` are its standard input, output and error.
    pub(super) fn new(
        program: CString,
        arguments: Vec<CString>,
        environment: Vec<CString>,
        directory: Option<CString>,
        streams: [OwnedFd; 3],
        setup: BeforeExec,
    ) -> Self {
        Self { program, arguments, environment, directory, streams, steps: Steps::new(setup) }
    }

    /// Forks a child that becomes this. Through `report`, a pipe that closes on exec, it says first that it lives, in one byte,
    /// and then what it cannot do: errno in four bytes of this machine's order, then the words.
    ///
    /// # Errors
    /// No process could be made.
    pub(super) fn start(&self, way: Way, report: &OwnedFd) -> io::Result<Pid> {
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        // A handler of ours must not run in the child: it would write to the event loop's own pipes, which are shared.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let into = self.steps.setup.cgroup.as_ref().filter(|_| way == Way::Born);
        // SAFETY: all that the child does is `become_it`, which is async-signal-safe and does not return.
        let started = match unsafe { fork(into) } {
            Ok(ForkResult::Child) => self.become_it(into.is_some(), &arguments, &environment, report),
            Ok(ForkResult::Parent { child }) => Ok(child),
            Err(errno) => Err(errno),
        };
        mask.thread_set_mask()?;
        Ok(started?)
    }

    /// The whole life of the child in this program. Only async-signal-safe calls (signal-safety(7)), on data made before.
    fn become_it(&self, in_cgroup: bool, arguments: &[*const c_char], environment: &[*const c_char], report: &OwnedFd) -> ! {
        let _ = write(report, b"!");
        let (words, errno) = self.steps.take(in_cgroup).and_then(|()| self.exec(arguments, environment)).err().unwrap_or(("", Errno::UnknownErrno));
        // If nobody reads it, nobody is left to be told.
        let _ = write(report, &(errno as i32).to_ne_bytes());
        let _ = write(report, words.as_bytes());
        // SAFETY: _exit(2) ends the process at once; no handler and no destructor of the parent's runs.
        unsafe { libc::_exit(127) }
    }

    fn exec(&self, arguments: &[*const c_char], environment: &[*const c_char]) -> Result<(), Failure> {
        let [input, output, error] = &self.streams;
        // None of the three is below 3, and so closed by the one before it: Rust opens those numbers when a program begins.
        dup2_stdin(input).and_then(|()| dup2_stdout(output)).and_then(|()| dup2_stderr(error)).map_err(|errno| ("take its pipes", errno))?;
        if let Some(directory) = &self.directory {
            chdir(directory.as_c_str()).map_err(|errno| ("enter its directory", errno))?;
        }
        // SAFETY: it changes flags of descriptors only. All of ours close on exec; this is for those that we ourselves were
        // started with. Before Linux 5.11 it fails, and those stay.
        let _ = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        for each in Signal::iterator() {
            // SAFETY: SIG_DFL is no code of ours; SIGKILL and SIGSTOP are refused. Rust ignores SIGPIPE, and exec keeps what is ignored.
            let _ = unsafe { signal(each, SigHandler::SigDfl) };
        }
        SigSet::empty().thread_set_mask().map_err(|errno| ("unblock signals", errno))?;
        // SAFETY: the strings end with NUL and the arrays with a null pointer ([`pointers`]), and all outlive the call.
        unsafe { libc::execve(self.program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        Err((EXECUTE, Errno::last()))
    }
}

/// The array that execve(2) wants.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The arguments of clone3(2), as far as Linux 5.7 knows them (`CLONE_ARGS_SIZE_VER2`).
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// linux/sched.h; nix has none and libc's is cut to 32 bits, which is 0.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// fork(2), or clone3(2) so that it is the same but for the child's cgroup.
///
/// # Safety
/// The child is a copy of this thread alone: another one may have held any lock, the allocator's among them. So the child may
/// only make async-signal-safe calls, and must not return to the caller's caller.
unsafe fn fork(into: Option<&OwnedFd>) -> nix::Result<ForkResult> {
    let Some(group) = into.and_then(|group| u64::try_from(group.as_raw_fd()).ok()) else {
        // SAFETY: as promised by the caller.
        return unsafe { nix::unistd::fork() };
    };
    let arguments = CloneArguments { flags: CLONE_INTO_CGROUP, exit_signal: libc::SIGCHLD as u64, cgroup: group, ..CloneArguments::default() };
    // SAFETY: the structure is as long as said. Without CLONE_VM the child has its own copy of the memory and of this very stack, as
    // after fork(2); what the C library does besides the call in its fork() only matters to those who allocate or take locks.
    let number = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match i32::try_from(Errno::result(number)?) {
        Ok(0) => Ok(ForkResult::Child),
        child => Ok(ForkResult::Parent { child: Pid::from_raw(child.map_err(|_| Errno::EOVERFLOW)?) }),
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
