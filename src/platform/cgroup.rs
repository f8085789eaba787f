//! cgroup v2, read and (below a delegated group) written. Every number is optional: older kernels lack files, and controllers may be off.

use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts); `None` if it is not.
pub fn mount() -> Option<PathBuf> {
    None
}

/// The v2 cgroup of a process, a path below the mount: the `0::` line of `/proc/PID/cgroup`.
///
/// # Errors
/// The process is gone, or it has no such line.
pub fn of_process(_pid: u32) -> io::Result<String> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `some` or `full` of a `*.pressure` file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Per cent of the last ten seconds.
    pub avg10: f64,
    /// Total stall time, µs.
    pub total_usec: u64,
}

/// All that is read of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// `cpu.stat` `user_usec`.
    pub cpu_user_usec: Option<u64>,
    /// `cpu.stat` `system_usec`.
    pub cpu_system_usec: Option<u64>,
    /// `cpu.stat` `nr_periods`.
    pub cpu_periods: Option<u64>,
    /// `cpu.stat` `nr_throttled`.
    pub cpu_throttled_periods: Option<u64>,
    /// `cpu.stat` `throttled_usec`.
    pub cpu_throttled_usec: Option<u64>,
    /// `memory.current`.
    pub memory_current: Option<u64>,
    /// `memory.peak` (Linux 5.19).
    pub memory_peak: Option<u64>,
    /// `memory.swap.current`.
    pub swap_current: Option<u64>,
    /// `memory.events` as it stands: low, high, max, oom, oom_kill, oom_group_kill.
    pub memory_events: Vec<(String, u64)>,
    /// `pids.current`.
    pub pids_current: Option<u64>,
    /// `pids.events` `max`: refused forks.
    pub pids_refused: Option<u64>,
    /// `io.stat` `rbytes`, over all devices.
    pub io_read_bytes: Option<u64>,
    /// `io.stat` `wbytes`.
    pub io_write_bytes: Option<u64>,
    /// `io.stat` `rios`.
    pub io_reads: Option<u64>,
    /// `io.stat` `wios`.
    pub io_writes: Option<u64>,
    /// `cpu.pressure` `some`, `full`.
    pub cpu_pressure: (Option<Pressure>, Option<Pressure>),
    /// `memory.pressure` `some`, `full`.
    pub memory_pressure: (Option<Pressure>, Option<Pressure>),
    /// `io.pressure` `some`, `full`.
    pub io_pressure: (Option<Pressure>, Option<Pressure>),
}

impl Stats {
    /// A counter of `memory.events`, such as `oom_kill`.
    pub fn memory_event(&self, name: &str) -> Option<u64> {
        self.memory_events.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

/// The limits of one group; `None` where there is no limit or no such file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Caps {
    /// `memory.max`.
    pub memory_max: Option<u64>,
    /// `memory.high`.
    pub memory_high: Option<u64>,
    /// `memory.swap.max`.
    pub swap_max: Option<u64>,
    /// `cpu.max`: quota and period, µs.
    pub cpu_max: Option<(u64, u64)>,
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// `io.weight`, its `default` line.
    pub io_weight: Option<u64>,
    /// `pids.max`.
    pub pids_max: Option<u64>,
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
        Stats::default()
    }

    /// Its limits.
    pub fn caps(&self) -> Caps {
        Caps::default()
    }

    /// Whether it or a group below it has a process (`cgroup.events` `populated`); `false` if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn populated(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The processes of this group and all groups below it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a group below this one; one that exists is taken as it is.
    ///
    /// # Errors
    /// Names the directory.
    pub fn child(&self, _name: &str) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Enables every controller that this group has for the groups below it. The group must have no process of its own.
    /// Answers the controllers now enabled.
    ///
    /// # Errors
    /// Names the file; `EBUSY` if the group has processes.
    pub fn enable_controllers(&self) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens `cgroup.procs` for writing, for [`super::sys::BeforeExec`].
    ///
    /// # Errors
    /// Names the file.
    pub fn procs_for_writing(&self) -> io::Result<std::os::fd::OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Moves a process into this group.
    ///
    /// # Errors
    /// Names the file.
    pub fn enter(&self, _pid: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Ends every process of this group and those below with SIGKILL: `cgroup.kill` (Linux 5.14), else signal by signal until none is left.
    ///
    /// # Errors
    /// Names the file.
    pub fn kill(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes the group and the empty groups below it; one that does not exist is fine.
    ///
    /// # Errors
    /// `EBUSY` if a process is left.
    pub fn remove(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sets limits (typed writes through cgroups-rs): for the process supervisor, which owns its own groups.
    ///
    /// # Errors
    /// Names the file and the value.
    pub fn set_limits(&self, _limits: &crate::core::limits::Limits, _host_memory: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sets `memory.oom.group`: an out-of-memory kill takes the whole group. `false` where the file is missing.
    ///
    /// # Errors
    /// Names the file.
    pub fn set_oom_group(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
