//! Whose process it is, where no unit's cgroup says so: the process supervisor knows its runners from its own forks, and what
//! descends from one, or is in its cgroup, belongs to its instance.

use crate::core::ids::InstanceName;
use crate::core::instance::Observation;
use crate::platform::cgroup;
use crate::platform::proc::Stat;
use crate::platform::units::UnitEvent;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// Longest line of ancestors that is followed; a cycle cannot be, but numbers are used again while one looks.
const GENERATIONS: usize = 512;

/// The runners of the process supervisor, as it last saw them.
#[derive(Debug, Default)]
pub(super) struct Runners(RwLock<BTreeMap<InstanceName, Runner>>);

#[derive(Debug)]
struct Runner {
    pid: u32,
    /// Below the mount; empty where there is none.
    control_group: String,
}

impl Runners {
    /// Takes what the supervisor reports.
    pub(super) fn take(&self, event: &UnitEvent) {
        let mut runners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            UnitEvent::Seen(look) => {
                let Observation { name, main_pid: pid, control_group, .. } = &**look;
                if *pid == 0 {
                    runners.remove(name);
                } else {
                    runners.insert(name.clone(), Runner { pid: *pid, control_group: control_group.clone() });
                }
            }
            UnitEvent::Gone(name) => {
                runners.remove(name);
            }
            UnitEvent::Fleet(_) | UnitEvent::CaughtUp | UnitEvent::Disconnected(_) => {}
        }
    }

    /// The instance whose runner that process is.
    pub(super) fn with_pid(&self, pid: u32) -> Option<InstanceName> {
        let runners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        runners.iter().find(|(_, runner)| runner.pid == pid).map(|(name, _)| name.clone())
    }

    /// What is left of a cgroup's path below the instance's own.
    pub(super) fn below<'a>(&self, name: &InstanceName, path: &'a str) -> Option<&'a str> {
        let runners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let group = runners.get(name).map(|runner| runner.control_group.trim_start_matches('/')).filter(|group| !group.is_empty())?;
        path.trim_start_matches('/').strip_prefix(group)?.strip_prefix('/')
    }

    /// The instance that a process belongs to: by its cgroup where the runners have some, for a process can leave its parents
    /// but not that; else by its ancestors, for a runner without a cgroup is its tasks' subreaper (prctl(2)).
    pub(super) fn around(&self, pid: u32) -> Option<InstanceName> {
        let runners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let path = cgroup::of_process(pid).unwrap_or_default();
        let by_group = runners.iter().find(|(_, runner)| !runner.control_group.is_empty() && is_below(&path, &runner.control_group));
        if let Some((name, _)) = by_group {
            return Some(name.clone());
        }
        let mut next = Some(pid);
        let line = std::iter::from_fn(|| {
            let this = next.filter(|pid| *pid > 1)?;
            next = Stat::of(this).map(|stat| stat.parent);
            Some(this)
        });
        line.take(GENERATIONS).find_map(|pid| runners.iter().find(|(_, runner)| runner.pid == pid).map(|(name, _)| name.clone()))
    }
}

/// Whether a cgroup's path is another's or below it.
fn is_below(path: &str, group: &str) -> bool {
    path.trim_start_matches('/').strip_prefix(group.trim_start_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn runners(pid: u32, control_group: &str) -> Runners {
        let name: InstanceName = "a".parse().expect("valid");
        Runners(RwLock::new(BTreeMap::from([(name, Runner { pid, control_group: control_group.to_owned() })])))
    }

    #[test]
    fn a_descendant_belongs_to_its_runner_and_a_stranger_to_none() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & echo $!; wait"]).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().expect("piped")), &mut line).expect("read");
        let grandchild: u32 = line.trim().parse().expect("a number");
        let runners = runners(std::process::id(), "");
        assert_eq!(runners.around(grandchild).map(|name| name.to_string()).as_deref(), Some("a"));
        assert_eq!(runners.with_pid(grandchild), None, "only the runner itself is the runner");
        assert_eq!(super::tests::runners(child.id() + 1_000_000, "").around(grandchild), None);
        assert_eq!(runners.around(1), None);
        for pid in [grandchild, child.id()] {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).expect("small")), nix::sys::signal::Signal::SIGKILL).expect("killed");
        }
        child.wait().expect("waited for");
    }

    #[test]
    fn a_group_holds_what_is_below_it_and_not_what_begins_alike() {
        assert!(is_below("/x/clauded-1/a/task-7", "x/clauded-1/a") && is_below("/x/a", "/x/a"));
        assert!(!is_below("/x/clauded-1/ab", "x/clauded-1/a"));
    }
}
