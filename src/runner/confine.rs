//! What holds a task's processes together: a cgroup below the instance's, or, where there is none, the runner as their subreaper.

use super::descendants;
use super::largest::Largest;
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use crate::core::instance::RUNNER_GROUP;
use crate::core::limits::{Limits, MemoryLimit};
use crate::core::usage::KernelUsage;
use crate::platform::cgroup::{self, Group};
use nix::sys::resource::{UsageWho, getrusage};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// How this runner confines tasks.
#[derive(Debug)]
pub(super) enum Confinement {
    /// In groups below this one, which is delegated to the runner.
    Cgroup(Group),
    /// As its own descendants.
    Subreaper,
}

impl Confinement {
    /// Takes over the group that is delegated to this runner: `given` by the process supervisor, or its unit's own under
    /// systemd. Moves the runner into `runner/` and enables the controllers. Without such a group, becomes a subreaper.
    ///
    /// # Errors
    /// A group that was given cannot be used, or prctl(2).
    pub(super) fn take(given: Option<&Path>, name: &InstanceName) -> io::Result<Self> {
        let group = match given {
            Some(path) => Some(Group::at(path)),
            None => own_unit(name),
        };
        let Some(group) = group else {
            descendants::adopt_orphans()?;
            tracing::warn!("no cgroup is delegated to this runner: tasks are not measured by the kernel, and their processes are found through /proc");
            return Ok(Self::Subreaper);
        };
        group.child(RUNNER_GROUP)?.enter(std::process::id())?;
        match group.enable_controllers() {
            Ok(on) => tracing::debug!(controllers = on.join(" "), group = %group.path().display(), "tasks run in cgroups"),
            Err(error) => tracing::warn!("no controllers for the tasks' cgroups; memory and I/O of a task are not measured: {error}"),
        }
        Ok(Self::Cgroup(group))
    }

    /// A fresh cell for an attempt. A group that was left over is used up first, so that counters begin at nothing.
    ///
    /// # Errors
    /// Names the directory; also if a left-over group still has processes.
    pub(super) fn cell(&self, attempt: AttemptId) -> io::Result<Cell> {
        self.named(group_name(attempt.task))
    }

    /// A fresh cell for the check of a task's work, with at most that memory, bytes.
    ///
    /// # Errors
    /// Names the directory or the file.
    pub(super) fn check(&self, attempt: AttemptId, memory: Option<u64>) -> io::Result<Cell> {
        let cell = self.named(format!("{CHECK}{}", attempt.task))?;
        if let (Kind::Group { group, .. }, Some(bytes)) = (&cell.kind, memory)
            && let Err(error) = bound(group, bytes)
        {
            tracing::warn!("the check's memory is bounded by the instance's alone: {error}");
        }
        Ok(cell)
    }

    /// A fresh cell for work on the worktree while there is no task.
    ///
    /// # Errors
    /// Names the directory.
    pub(super) fn errand(&self) -> io::Result<Cell> {
        self.named(ERRAND.to_owned())
    }

    /// A fresh cell for a look at the worktree while a task runs; none where processes are told apart by their parents alone, since
    /// ending it would end the task's too.
    ///
    /// # Errors
    /// Names the directory.
    pub(super) fn survey(&self) -> io::Result<Option<Cell>> {
        match self {
            Self::Cgroup(_) => self.named(SURVEY.to_owned()).map(Some),
            Self::Subreaper => Ok(None),
        }
    }

    fn named(&self, name: String) -> io::Result<Cell> {
        match self {
            Self::Cgroup(delegated) => {
                Group::at(delegated.path().join(&name)).remove()?;
                let group = delegated.child(&name)?;
                if let Err(error) = group.set_oom_group() {
                    tracing::warn!("an out-of-memory kill may leave parts of the task alive: {error}");
                }
                Ok(Cell::new(Kind::Group { group, name }))
            }
            Self::Subreaper => Ok(Cell::new(Kind::Descendants { before: children_time() })),
        }
    }

    /// What an earlier runner left of an attempt's group, if anything.
    pub(super) fn leftover(&self, task: TaskId) -> Option<Cell> {
        self.leftover_named(&group_name(task))
    }

    /// What an earlier runner left of a group, if anything.
    pub(super) fn leftover_named(&self, name: &str) -> Option<Cell> {
        let Self::Cgroup(delegated) = self else { return None };
        let name = name.to_owned();
        let group = Group::at(delegated.path().join(&name));
        group.path().is_dir().then_some(Cell::new(Kind::Group { group, name }))
    }

    /// The groups of tasks, checks and errands that are still there.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let Self::Cgroup(delegated) = self else { return Vec::new() };
        let entries = std::fs::read_dir(delegated.path()).into_iter().flatten().filter_map(Result::ok);
        let ours = |name: &String| {
            [ERRAND, SURVEY].contains(&name.as_str()) || [TASK, CHECK].iter().any(|kind| name.strip_prefix(kind).is_some_and(|n| n.parse::<i64>().is_ok()))
        };
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(ours).collect()
    }
}

/// Bounds a check's memory. What goes to swap is not free of it.
fn bound(group: &Group, memory: u64) -> io::Result<()> {
    let limits = Limits { memory: Some(MemoryLimit::Bytes(memory)), swap: Some(MemoryLimit::Bytes(0)), ..Limits::default() };
    group.set_limits(&limits, cgroup::host_memory())
}

/// What the groups are called: of tasks and of their checks by their numbers, the one of errands, the one of surveys.
const TASK: &str = "task-";
const CHECK: &str = "verify-";
const ERRAND: &str = "worktree";
const SURVEY: &str = "survey";

fn group_name(task: TaskId) -> String {
    format!("{TASK}{task}")
}

/// The group of this instance's unit, if this process runs in it: then `Delegate=yes` made it ours (systemd.resource-control(5)).
fn own_unit(name: &InstanceName) -> Option<Group> {
    let own = cgroup::of_process(std::process::id()).ok()?;
    // A runner that was executed anew stands in its group already.
    let unit = own.strip_suffix(RUNNER_GROUP).and_then(|unit| unit.strip_suffix('/')).unwrap_or(&own);
    let path = cgroup::mount()?.join(unit.trim_start_matches('/'));
    unit.ends_with(&format!("/{}", name.unit())).then(|| Group::at(path))
}

/// User and system time of children that were waited for, µs (getrusage(2)).
fn children_time() -> (u64, u64) {
    let usec = |t: nix::sys::time::TimeVal| u64::try_from(t.tv_sec().saturating_mul(1_000_000).saturating_add(t.tv_usec())).unwrap_or(0);
    getrusage(UsageWho::RUSAGE_CHILDREN).map(|u| (usec(u.user_time()), usec(u.system_time()))).unwrap_or_default()
}

#[derive(Debug)]
enum Kind {
    Group { group: Group, name: String },
    Descendants { before: (u64, u64) },
}

/// One attempt's processes, whoever forked them.
#[derive(Debug)]
pub(super) struct Cell {
    kind: Kind,
    /// Highest memory use that was sampled, bytes.
    peak: Option<u64>,
    /// The largest process at that time.
    largest: Option<Largest>,
}

impl Cell {
    fn new(kind: Kind) -> Self {
        Self { kind, peak: None, largest: None }
    }

    /// The directory of the group that a child is to run in; `None` where there is no group.
    ///
    /// # Errors
    /// Names the directory.
    pub(super) fn entrance(&self) -> io::Result<Option<OwnedFd>> {
        match &self.kind {
            Kind::Group { group, .. } => group.open().map(Some),
            Kind::Descendants { .. } => Ok(None),
        }
    }

    /// The group's name below the instance's; empty where there is none.
    pub(super) fn name(&self) -> &str {
        match &self.kind {
            Kind::Group { name, .. } => name,
            Kind::Descendants { .. } => "",
        }
    }

    /// A look, once a second: notes the memory in use and answers the full memory pressure of the last ten seconds, per cent.
    pub(super) fn sample(&mut self) -> Option<f64> {
        match &self.kind {
            Kind::Group { group, .. } => {
                let stats = group.stats();
                if stats.memory_current > self.peak {
                    self.peak = stats.memory_current;
                    self.largest = Largest::of(&group.processes().unwrap_or_default()).or(self.largest.take());
                }
                stats.memory_pressure.1.map(|p| p.avg10)
            }
            Kind::Descendants { .. } => {
                self.peak = self.peak.max(Some(descendants::memory()));
                None
            }
        }
    }

    /// Collects orphans that ended while the agent's own process `main` runs.
    pub(super) fn reap(&self) {
        if matches!(self.kind, Kind::Descendants { .. }) {
            descendants::reap();
        }
    }

    /// Sends SIGKILL to all of it, without waiting.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn kill(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Group { group, .. } => group.kill(),
            Kind::Descendants { .. } => {
                for pid in descendants::pids().into_iter().filter_map(|p| i32::try_from(p).ok()) {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
                Ok(())
            }
        }
    }

    /// Kills all of it and waits until the kernel says that no process is left. To be called when the agent's own process has
    /// been waited for.
    ///
    /// # Errors
    /// Names the file.
    pub(super) async fn end(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Group { group, .. } => {
                if group.populated()? {
                    group.kill()?;
                    group.emptied().await?;
                }
                Ok(())
            }
            Kind::Descendants { .. } => descendants::end_all().await,
        }
    }

    /// Who is still alive, for a message.
    pub(super) fn pids(&self) -> Vec<u32> {
        match &self.kind {
            Kind::Group { group, .. } => group.processes().unwrap_or_default(),
            Kind::Descendants { .. } => descendants::pids(),
        }
    }

    /// What the kernel says that it used.
    pub(super) fn usage(&self) -> KernelUsage {
        match &self.kind {
            Kind::Group { group, .. } => {
                let stats = group.stats();
                let total = |p: Option<cgroup::Pressure>| p.map(|p| p.total_usec);
                KernelUsage {
                    cpu_user_usec: stats.cpu_user_usec,
                    cpu_system_usec: stats.cpu_system_usec,
                    memory_peak: stats.memory_peak.or(self.peak),
                    io_read_bytes: stats.io_read_bytes,
                    io_write_bytes: stats.io_write_bytes,
                    cpu_stall_usec: total(stats.cpu_pressure.0),
                    memory_stall_usec: total(stats.memory_pressure.0),
                    io_stall_usec: total(stats.io_pressure.0),
                    oom_kills: stats.memory_event("oom_kill"),
                }
            }
            Kind::Descendants { before } => {
                let now = children_time();
                KernelUsage {
                    cpu_user_usec: Some(now.0.saturating_sub(before.0)),
                    cpu_system_usec: Some(now.1.saturating_sub(before.1)),
                    memory_peak: self.peak,
                    ..KernelUsage::default()
                }
            }
        }
    }

    /// What it took of memory and what it may take, in words.
    pub(super) fn memory_in_words(&self, peak: Option<u64>) -> String {
        let mib = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |b| format!("{} MiB", b >> 20));
        let largest =
            self.largest.as_ref().map(|l| format!("; at the last look its largest process was {} with {}", l.name, mib(Some(l.resident)))).unwrap_or_default();
        format!("peak {}, limit {}{largest}", mib(peak), mib(self.memory_limit()))
    }

    /// The lowest memory limit that holds for it, bytes: its own group's or one's above.
    fn memory_limit(&self) -> Option<u64> {
        let Kind::Group { group, .. } = &self.kind else { return None };
        let root = cgroup::mount()?;
        let above = group.path().ancestors().take_while(|path| path.starts_with(&root));
        above.filter_map(|path| Group::at(path).caps().memory_max).min()
    }

    /// Removes the group.
    pub(super) fn remove(self) {
        if let Kind::Group { group, .. } = self.kind
            && let Err(error) = group.remove()
        {
            tracing::warn!("a task's cgroup stays: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checks_memory_is_its_own_and_its_swap_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("read");
        for name in ["memory.max", "memory.swap.max"] {
            std::fs::write(dir.path().join(name), "max\n").expect("written");
        }
        bound(&Group::at(dir.path()), 64 << 20).expect("bounded");
        assert_eq!((read("memory.max").as_str(), read("memory.swap.max").as_str()), ("67108864", "0"));
    }
}
