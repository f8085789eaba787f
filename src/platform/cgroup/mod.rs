//! cgroup v2, read and (below a delegated group) written. Every number is optional: older kernels lack files, and
//! controllers may be off. The reader is our own: cgroups-rs reads `memory.events`, `io.stat` and pressure wrongly or not at all.

mod kept;
mod limits;
mod stats;

pub use kept::Kept;
pub use limits::host_memory;
pub use stats::{Caps, Memory, Pressure, Stats};

use super::sys::Watched;
use nix::sys::signal::{Signal, kill};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::Interest;

/// Where cgroup v2 is mounted (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts); `None` if it is not.
pub fn mount() -> Option<PathBuf> {
    let is_v2 = |path: &&str| nix::sys::statfs::statfs(*path).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC);
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().find(|path| is_v2(path)).map(PathBuf::from)
}

/// The v2 cgroup of a process, a path below the mount: the `0::` line of `/proc/PID/cgroup`.
///
/// # Errors
/// The process is gone, or it has no such line.
pub fn of_process(pid: u32) -> io::Result<String> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(named("read", &path))?;
    unified_line(&text)
        .map(str::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{}: no line \"0::\": no cgroup v2", path.display())))
}

/// The path of the `0::` line; hybrid hosts have v1 lines before it (cgroups(7)).
fn unified_line(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Adds the verb and the path to an I/O error and keeps its kind.
fn named(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{verb} {}: {error}", path.display()))
}

/// Whether a group is gone: its directory is missing, or was removed while the file was open (ENODEV).
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

/// Whether the group of an open `cgroup.events` is populated; a removed group is not.
fn read_populated(file: &mut fs::File) -> io::Result<bool> {
    let mut text = String::new();
    match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if is_gone(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    match text.lines().find_map(|line| line.strip_prefix("populated ")) {
        Some("0") => Ok(false),
        Some("1") => Ok(true),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no line \"populated\"")),
    }
}

/// One cgroup directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// The group at an absolute path below the mount. Nothing is opened yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All its numbers. A group that does not exist has none.
    pub fn stats(&self) -> Stats {
        stats::read_stats(&self.path)
    }

    /// How often the kernel has killed in it and below for want of memory: `oom_kill` of `memory.events`, and nothing else is read.
    pub fn oom_kills(&self) -> Option<u64> {
        stats::read_oom_kills(&self.path)
    }

    /// What it uses of its memory, and what bounds it; a group that does not exist has none of it.
    pub fn memory(&self) -> Memory {
        stats::read_memory(&self.path)
    }

    /// Its limits.
    pub fn caps(&self) -> Caps {
        stats::read_caps(&self.path)
    }

    /// `cgroup.events`; `None` if the group does not exist.
    fn events(&self) -> io::Result<Option<fs::File>> {
        let path = self.path.join("cgroup.events");
        match fs::File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_gone(&error) && !self.path.exists() => Ok(None),
            Err(error) => Err(named("open", &path)(error)),
        }
    }

    /// Whether it or a group below it has a process (`cgroup.events` `populated`); `false` if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn populated(&self) -> io::Result<bool> {
        let Some(mut file) = self.events()? else { return Ok(false) };
        read_populated(&mut file).map_err(named("read", &self.path.join("cgroup.events")))
    }

    /// Waits until neither it nor a group below it has a process. The kernel tells: `cgroup.events` becomes readable with
    /// `POLLPRI` (Documentation/admin-guide/cgroup-v2.rst).
    ///
    /// # Errors
    /// The file cannot be read or watched.
    pub async fn emptied(&self) -> io::Result<()> {
        let path = self.path.join("cgroup.events");
        let Some(mut file) = self.events()? else { return Ok(()) };
        let watched = file.try_clone().and_then(|clone| Watched::new(clone, Interest::PRIORITY)).map_err(named("watch", &path))?;
        while read_populated(&mut file).map_err(named("read", &path))? {
            watched.ready(Interest::PRIORITY).await.map_err(named("watch", &path))?;
        }
        Ok(())
    }

    /// The processes of this group and all groups below it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let path = self.path.join("cgroup.procs");
        let mut processes: Vec<u32> = match fs::read_to_string(&path) {
            Ok(text) => text.lines().filter_map(|line| line.parse().ok()).collect(),
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            Err(error) => return Err(named("read", &path)(error)),
        };
        for below in self.below()? {
            processes.extend(below.processes()?);
        }
        Ok(processes)
    }

    /// The groups right below this one.
    fn below(&self) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            Err(error) => return Err(named("list", &self.path)(error)),
        };
        Ok(entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|entry| Self::at(entry.path())).collect())
    }

    /// Makes a group below this one; one that exists is taken as it is.
    ///
    /// # Errors
    /// Names the directory.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("make {}: not the name of one group", path.display())));
        }
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(named("make", &path)(error)),
            _ => Ok(Self { path }),
        }
    }

    /// Writes a control file, which must exist.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.path.join(name);
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| io::Error::new(error.kind(), format!("write {text:?} to {}: {error}", path.display())))
    }

    /// Enables the controllers that limits and figures need (cpu, io, memory, pids), as far as this group has them, for the
    /// groups below it. The group must have no process of its own, unless it is the root. Answers the controllers now enabled.
    ///
    /// # Errors
    /// Names the file; `EBUSY` if the group has processes.
    pub fn enable_controllers(&self) -> io::Result<Vec<String>> {
        let (available, enabled) = (self.path.join("cgroup.controllers"), self.path.join("cgroup.subtree_control"));
        // The kernel itself refuses only memory and io here. It would take cpu and pids, and turn the groups below into threaded
        // ones that no process can enter (EOPNOTSUPP). The root has no type and is free of the rule.
        let procs = self.path.join("cgroup.procs");
        if self.path.join("cgroup.type").exists() && !fs::read_to_string(&procs).map_err(named("read", &procs))?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("enable controllers below {}: it has processes of its own", self.path.display())));
        }
        let words =
            |path: &Path| fs::read_to_string(path).map_err(named("read", path)).map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        for controller in words(&available)?.into_iter().filter(|c| ["cpu", "io", "memory", "pids"].contains(&c.as_str())) {
            // One by one: the kernel takes a line as a whole or not at all, and one controller may refuse (cpu, with real-time processes).
            match self.write("cgroup.subtree_control", &format!("+{controller}")) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(error),
                Err(error) => tracing::debug!("a cgroup controller is left off: {error}"),
            }
        }
        words(&enabled)
    }

    /// Opens its directory, for [`super::sys::BeforeExec`].
    ///
    /// # Errors
    /// Names the directory.
    pub fn open(&self) -> io::Result<OwnedFd> {
        fs::File::open(&self.path).map(OwnedFd::from).map_err(named("open", &self.path))
    }

    /// Moves a process into this group.
    ///
    /// # Errors
    /// Names the file.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Ends every process of this group and those below with SIGKILL: `cgroup.kill` (Linux 5.14), else signal by signal until
    /// none is left. The kernel finishes after this returns: [`Self::emptied`] waits for that.
    ///
    /// # Errors
    /// Names the file.
    pub fn kill(&self) -> io::Result<()> {
        match self.write("cgroup.kill", "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path.exists() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_each(),
            done => done,
        }
    }

    /// Where there is no `cgroup.kill`: signals whoever is there, and whoever was being forked meanwhile, until none is left
    /// or two seconds are over (a process in uninterruptible sleep dies when it wakes).
    fn kill_each(&self) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(2);
        let Some(mut events) = self.events()? else { return Ok(()) };
        while read_populated(&mut events).map_err(named("read", &self.path.join("cgroup.events")))? && Instant::now() < until {
            for pid in self.processes()? {
                if let Ok(pid) = i32::try_from(pid) {
                    // A process that ended meanwhile is as wanted.
                    let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&pause)) {
                // A child that ended, perhaps one of those just killed.
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes the group and the empty groups below it; one that does not exist is fine.
    ///
    /// # Errors
    /// `EBUSY` if a process is left.
    pub fn remove(&self) -> io::Result<()> {
        for below in self.below()? {
            below.remove()?;
        }
        match fs::remove_dir(&self.path) {
            Err(error) if !is_gone(&error) => Err(named("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }

    /// Sets limits (typed writes through cgroups-rs): for the process supervisor, which owns its own groups. All are tried;
    /// the answer names each that failed.
    ///
    /// # Errors
    /// Names the file and the value.
    pub fn set_limits(&self, limits: &crate::core::limits::Limits, host_memory: u64) -> io::Result<()> {
        limits::set(self, limits, host_memory)
    }

    /// Sets `memory.oom.group`: an out-of-memory kill takes the whole group. `false` where the file is missing.
    ///
    /// # Errors
    /// Names the file.
    pub fn set_oom_group(&self) -> io::Result<bool> {
        match self.write("memory.oom.group", "1") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
