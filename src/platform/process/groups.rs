//! The cgroups of the runners, below the daemon's own where the kernel lets us: `<own>/clauded-ID/NAME`, a team's member
//! `<own>/clauded-ID/@TEAM/NAME`. The ID is this state directory's, since several daemons may share a tree.

use super::named;
use crate::core::ids::InstanceName;
use crate::core::limits::{CpuQuota, Limits, MemoryLimit, TasksMax};
use crate::platform::cgroup::{self, Caps, Group};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the daemon goes when its own group must be free of processes.
const LEAF: &str = "clauded-daemon";

/// What the names of groups around instances begin with: no instance's name can.
const AROUND: char = '@';

/// Where the runners' groups are.
#[derive(Debug)]
pub(super) struct Fleet {
    own: Group,
    name: String,
}

impl Fleet {
    /// Finds the tree and tries to write to it.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let mount = cgroup::mount().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no cgroup v2 tree is mounted"))?;
        let path = cgroup::of_process(std::process::id())?;
        // The daemon may have gone to its leaf already.
        let path = path.strip_suffix(LEAF).and_then(|path| path.strip_suffix('/')).unwrap_or(&path);
        let own = Group::at(mount.join(path.trim_start_matches('/')));
        let fleet = Self { own, name: format!("clauded-{}", identity(state)?) };
        fleet.group()?;
        let enabled = fleet.enable()?;
        let lacking: Vec<_> = ["memory", "cpu", "pids", "io"].into_iter().filter(|c| !enabled.iter().any(|e| e == c)).collect();
        if !lacking.is_empty() {
            tracing::warn!(
                group = %fleet.own.path().display(),
                "no {} limits: the cgroup controllers cannot be had here; memory is then bounded for each process alone (RLIMIT_DATA)",
                lacking.join(", ")
            );
        }
        fleet.tidy();
        Ok(fleet)
    }

    /// Where the runners' common group is, whether it is there or not.
    pub(super) fn path(&self) -> PathBuf {
        self.own.path().join(&self.name)
    }

    /// The runners' common group, made if need be: the fleet's limits hold for it.
    pub(super) fn group(&self) -> io::Result<Group> {
        self.own.child(&self.name)
    }

    /// Gives the runners' groups the controllers that the daemon's own has. Only a group without processes may do so (but for
    /// the root), and the only process that we may move out of the way is this one.
    fn enable(&self) -> io::Result<Vec<String>> {
        match self.own.enable_controllers() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let procs = self.own.path().join("cgroup.procs");
                let here = fs::read_to_string(&procs).map_err(named("read", &procs))?;
                if here.trim() != std::process::id().to_string() {
                    tracing::debug!("other processes share the daemon's cgroup: {error}");
                    return Ok(Vec::new());
                }
                self.own.child(LEAF)?.enter(std::process::id())?;
                self.own.enable_controllers()
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Vec::new()),
            outcome => outcome,
        }
    }

    /// A runner's group within those around it, all made if need be.
    pub(super) fn instance<'n>(&self, name: &InstanceName, around: impl IntoIterator<Item = &'n str>) -> io::Result<Group> {
        self.around(around)?.child(name.as_str())
    }

    /// The innermost of groups around instances, outermost first, all made if need be; without any, the runners' common one.
    pub(super) fn around<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> io::Result<Group> {
        let open = |group: Group| {
            if let Err(error) = group.enable_controllers() {
                tracing::debug!("the runners' groups have no controllers: {error}");
            }
            group
        };
        names.into_iter().try_fold(open(self.group()?), |group, name| group.child(&format!("{AROUND}{name}")).map(open))
    }

    /// Removes the runners' common group if none is in it, and those around instances that are gone.
    pub(super) fn tidy(&self) {
        fn remove(group: &Path) {
            for entry in fs::read_dir(group).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(AROUND) {
                    remove(&entry.path());
                }
            }
            // Busy is the usual case.
            let _ = fs::remove_dir(group);
        }
        remove(&self.path());
    }
}

/// Sets limits on a group, and lifts those of `before` that are wanted no more.
pub(super) fn change_limits(group: &Group, wanted: &Limits, before: &Limits) -> io::Result<()> {
    let lifted = Limits {
        memory: before.memory.map(|_| MemoryLimit::Infinity),
        memory_high: before.memory_high.map(|_| MemoryLimit::Infinity),
        swap: before.swap.map(|_| MemoryLimit::Infinity),
        cpu: before.cpu.map(|_| CpuQuota::Infinity),
        // The kernel's default (Documentation/admin-guide/cgroup-v2.rst).
        cpu_weight: before.cpu_weight.and_then(|_| "100".parse().ok()),
        io_weight: before.io_weight.and_then(|_| "100".parse().ok()),
        tasks: before.tasks.map(|_| TasksMax::Infinity),
    };
    group.set_limits(&wanted.or(lifted), cgroup::host_memory())
}

/// A short name of this state directory's own, the same for every daemon that uses it.
fn identity(state: &Path) -> io::Result<String> {
    let path = state.join("cgroup-id");
    match fs::read_to_string(&path) {
        Ok(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) => return Ok(text),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named("read", &path)(error)),
        _ => {}
    }
    let id: String = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
    fs::write(&path, &id).map_err(named("write", &path))?;
    Ok(id)
}

/// Those of the wanted limits that the group has: a limit whose controller is missing is none.
pub(super) fn in_force(wanted: &Limits, caps: &Caps, group: &Group) -> Limits {
    let has = |file: &str| group.path().join(file).exists();
    Limits {
        memory: wanted.memory.filter(|_| has("memory.max")),
        memory_high: wanted.memory_high.filter(|_| has("memory.high")),
        swap: wanted.swap.filter(|_| has("memory.swap.max")),
        cpu: wanted.cpu.filter(|_| has("cpu.max")),
        cpu_weight: wanted.cpu_weight.filter(|weight| caps.cpu_weight == Some(weight.get())),
        io_weight: wanted.io_weight.filter(|weight| caps.io_weight == Some(weight.get())),
        tasks: wanted.tasks.filter(|_| has("pids.max")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_keeps_its_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = identity(directory.path()).expect("made");
        assert_eq!((first.len(), identity(directory.path()).expect("read")), (8, first));
    }

    #[test]
    fn limits_without_their_controller_are_not_claimed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("memory.max"), "max").expect("written");
        let wanted = Limits { memory: "1G".parse().ok(), tasks: "5".parse().ok(), cpu_weight: "7".parse().ok(), ..Limits::default() };
        let group = Group::at(directory.path());
        assert_eq!(in_force(&wanted, &group.caps(), &group), Limits { memory: wanted.memory, ..Limits::default() });
    }

    #[test]
    fn a_limit_that_is_wanted_no_more_is_lifted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for file in ["memory.max", "pids.max", "cpu.weight"] {
            fs::write(directory.path().join(file), "max").expect("written");
        }
        let group = Group::at(directory.path());
        let before = Limits { memory: "1G".parse().ok(), tasks: "5".parse().ok(), cpu_weight: "7".parse().ok(), ..Limits::default() };
        change_limits(&group, &before, &Limits::default()).expect("set");
        assert_eq!((group.caps().memory_max, group.caps().pids_max, group.caps().cpu_weight), (Some(1 << 30), Some(5), Some(7)));
        change_limits(&group, &Limits { memory: "2G".parse().ok(), ..Limits::default() }, &before).expect("set");
        assert_eq!((group.caps().memory_max, group.caps().pids_max, group.caps().cpu_weight), (Some(2 << 30), None, Some(100)));
    }
}
