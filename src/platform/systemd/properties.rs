//! From the properties of a service and its slice to an [`Observation`]. What an older systemd lacks is left out of its
//! answer and takes its default here.

use crate::core::ids::{InstanceName, InvocationId};
use crate::core::instance::{ActiveState, Observation, RUNNER_GROUP};
use crate::core::limits::{CpuQuota, Limits, MemoryLimit, TasksMax, Weight};
use crate::platform::cgroup::{Group, mount};
use jiff::Timestamp;
use std::collections::HashMap;
use std::path::Path;
use zbus::zvariant::{OwnedVariant, Variant};

/// All properties of one unit, of all its interfaces (org.freedesktop.systemd1(5)).
#[derive(Debug, Default)]
pub(super) struct Properties(pub(super) HashMap<String, OwnedVariant>);

impl Properties {
    fn get(&self, name: &str) -> Option<&Variant<'_>> {
        self.0.get(name).map(|value| &**value)
    }

    pub(super) fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Variant::Str(text)) => text.as_str(),
            _ => "",
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Variant::U64(number) => Some(*number),
            Variant::U32(number) => Some(u64::from(*number)),
            _ => None,
        }
    }

    fn small(&self, name: &str) -> u32 {
        self.number(name).and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
    }

    fn signed(&self, name: &str) -> i32 {
        match self.get(name) {
            Some(Variant::I32(number)) => *number,
            _ => 0,
        }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.get(name).and_then(|value| value.try_clone().ok()).and_then(|value| Vec::<u8>::try_from(value).ok()).unwrap_or_default()
    }

    /// Whether a job is queued or running for the unit: `Job` is its number, 0 for none, and its path.
    pub(super) fn has_job(&self) -> bool {
        match self.get("Job") {
            Some(Variant::Structure(job)) => !matches!(job.fields().first(), Some(Variant::U32(0)) | None),
            _ => false,
        }
    }

    pub(super) fn active(&self) -> ActiveState {
        ActiveState::from_name(self.text("ActiveState"))
    }

    /// Whether the unit is loaded for its name alone: nothing defines it and nothing of it runs.
    pub(super) fn is_void(&self) -> bool {
        self.text("LoadState") == "not-found" && self.active() == ActiveState::Inactive
    }
}

/// The limits of a slice or service. `u64::MAX` is infinity for amounts (systemd.resource-control(5)), and "not set" for weights.
pub(super) fn limits(unit: &Properties) -> Limits {
    let amount = |name| unit.number(name).map(|bytes| if bytes == u64::MAX { MemoryLimit::Infinity } else { MemoryLimit::Bytes(bytes) });
    let weight = |name| unit.number(name).and_then(|weight| weight.to_string().parse::<Weight>().ok());
    let quota = |usec: u64| match usec {
        u64::MAX => CpuQuota::Infinity,
        usec => CpuQuota::Percent(u32::try_from(usec.div_ceil(10_000)).unwrap_or(u32::MAX)),
    };
    Limits {
        memory: amount("MemoryMax"),
        memory_high: amount("MemoryHigh"),
        swap: amount("MemorySwapMax"),
        cpu: unit.number("CPUQuotaPerSecUSec").map(quota),
        cpu_weight: weight("CPUWeight"),
        io_weight: weight("IOWeight"),
        tasks: unit.number("TasksMax").map(|count| if count == u64::MAX { TasksMax::Infinity } else { TasksMax::Count(count) }),
    }
}

/// One look at an instance.
pub(super) fn observation(name: InstanceName, service: &Properties, slice: &Properties) -> Observation {
    let (oom_kills, oom_kills_of_tasks) = mount().map_or((None, None), |mount| oom_kills(&mount, slice.text("ControlGroup"), service.text("ControlGroup")));
    let since = service.number("ActiveEnterTimestamp").filter(|usec| *usec > 0).and_then(|usec| i64::try_from(usec).ok());
    Observation {
        name,
        active: service.active(),
        sub: service.text("SubState").to_owned(),
        result: service.text("Result").to_owned(),
        restarts: service.small("NRestarts"),
        main_pid: service.small("MainPID"),
        exec_main_code: service.signed("ExecMainCode"),
        exec_main_status: service.signed("ExecMainStatus"),
        invocation: InvocationId::from_bytes(&service.bytes("InvocationID")),
        status_text: service.text("StatusText").to_owned(),
        control_group: service.text("ControlGroup").to_owned(),
        since: since.and_then(|usec| Timestamp::from_microsecond(usec).ok()),
        limits: limits(slice),
        oom_kills,
        oom_kills_of_tasks,
    }
}

/// How often the kernel has killed in a slice for want of memory, and how often of those not the runner of its service. A slice
/// without processes has no cgroup, and no count.
fn oom_kills(mount: &Path, slice: &str, service: &str) -> (Option<u64>, Option<u64>) {
    let group = |path: &str| path.strip_prefix('/').map(|path| Group::at(mount.join(path)));
    // The slice first: a kill of the runner between the two shows in the difference, and the other way round it would not.
    let all = group(slice).and_then(|slice| slice.oom_kills());
    let of_runner = group(service).and_then(|service| {
        let runner = Group::at(service.path().join(RUNNER_GROUP));
        // Without the memory controller nobody counts there.
        runner.oom_kills().or_else(|| runner.path().is_dir().then_some(0))
    });
    (all, all.zip(of_runner).map(|(all, of_runner)| all.saturating_sub(of_runner)))
}

/// The properties that `wanted` asks for, with its amounts in bytes of this host.
pub(super) fn settings(wanted: &Limits, host_memory: u64) -> Vec<(&'static str, u64)> {
    let mut settings = Vec::new();
    let mut add = |name, value: Option<u64>| settings.extend(value.map(|value| (name, value)));
    let amount = |limit: Option<MemoryLimit>| limit.map(|limit| limit.bytes(host_memory).unwrap_or(u64::MAX));
    add("MemoryMax", amount(wanted.memory));
    add("MemoryHigh", amount(wanted.memory_high));
    add("MemorySwapMax", amount(wanted.swap));
    add("CPUQuotaPerSecUSec", wanted.cpu.map(CpuQuota::usec_per_sec));
    add("CPUWeight", wanted.cpu_weight.map(Weight::get));
    add("IOWeight", wanted.io_weight.map(Weight::get));
    let count = |limit| match limit {
        TasksMax::Count(count) => count,
        TasksMax::Infinity => u64::MAX,
    };
    add("TasksMax", wanted.tasks.map(count));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: Vec<(&str, Variant<'static>)>) -> Properties {
        Properties(pairs.into_iter().map(|(name, value)| (name.to_owned(), OwnedVariant::try_from(value).expect("no descriptor in it"))).collect())
    }

    #[test]
    fn a_service_and_its_slice_become_one_look() {
        let service = properties(vec![
            ("ActiveState", "failed".into()),
            ("SubState", "failed".into()),
            ("Result", "oom-kill".into()),
            ("NRestarts", 3u32.into()),
            ("MainPID", 0u32.into()),
            ("ExecMainCode", 2i32.into()),
            ("ExecMainStatus", 9i32.into()),
            ("InvocationID", vec![0xab_u8; 16].into()),
            ("StatusText", "task 7".into()),
            ("ControlGroup", "/claude.slice/x".into()),
            ("ActiveEnterTimestamp", 1_700_000_000_000_001u64.into()),
        ]);
        let slice = properties(vec![
            ("MemoryMax", (64u64 << 20).into()),
            ("MemorySwapMax", u64::MAX.into()),
            ("CPUQuotaPerSecUSec", 1_500_000u64.into()),
            ("CPUWeight", u64::MAX.into()),
            ("IOWeight", 300u64.into()),
            ("TasksMax", 77u64.into()),
        ]);
        let seen = observation("a".parse().expect("valid"), &service, &slice);
        assert_eq!((seen.active, seen.sub.as_str(), seen.restarts, seen.exec_main_code, seen.exec_main_status), (ActiveState::Failed, "failed", 3, 2, 9));
        assert_eq!(seen.cause().detail, "the kernel killed the runner for want of memory (signal 9): task 7");
        assert_eq!(seen.invocation.map(|i| i.to_string()), Some("ab".repeat(16)));
        assert_eq!(seen.since.map(Timestamp::as_microsecond), Some(1_700_000_000_000_001));
        let limits = Limits {
            memory: Some(MemoryLimit::Bytes(64 << 20)),
            swap: Some(MemoryLimit::Infinity),
            cpu: Some(CpuQuota::Percent(150)),
            io_weight: "300".parse().ok(),
            tasks: Some(TasksMax::Count(77)),
            ..Limits::default()
        };
        assert_eq!(seen.limits, limits);
        let set = settings(&limits, 1 << 30);
        assert_eq!(set, [("MemoryMax", 64 << 20), ("MemorySwapMax", u64::MAX), ("CPUQuotaPerSecUSec", 1_500_000), ("IOWeight", 300), ("TasksMax", 77)]);
    }

    #[test]
    fn kills_are_told_apart_by_the_runners_cgroup() {
        let root = tempfile::tempdir().expect("a directory");
        let (slice, service) = ("/a.slice", "/a.slice/a.service");
        let (own, runner) = (root.path().join("a.slice"), root.path().join("a.slice/a.service/runner"));
        let write = |group: &Path, kills: u32| std::fs::write(group.join("memory.events"), format!("oom 1\noom_kill {kills}\n")).expect("written");
        assert_eq!(oom_kills(root.path(), slice, service), (None, None));
        assert_eq!(oom_kills(root.path(), "", ""), (None, None), "a unit without a cgroup");
        std::fs::create_dir(&own).expect("made");
        write(&own, 3);
        assert_eq!(oom_kills(root.path(), slice, service), (Some(3), None), "no runner yet");
        std::fs::create_dir_all(&runner).expect("made");
        assert_eq!(oom_kills(root.path(), slice, service), (Some(3), Some(3)), "no memory controller in the service");
        write(&runner, 1);
        assert_eq!(oom_kills(root.path(), slice, service), (Some(3), Some(2)));
    }

    #[test]
    fn what_an_old_systemd_lacks_is_a_default() {
        let seen = observation("a".parse().expect("valid"), &Properties::default(), &Properties::default());
        assert_eq!((seen.active, seen.restarts, seen.invocation, seen.since, seen.limits), (ActiveState::Inactive, 0, None, None, Limits::default()));
        let wrong = properties(vec![("NRestarts", "three".into()), ("InvocationID", 7u32.into()), ("MemoryMax", "x".into())]);
        assert_eq!(observation("a".parse().expect("valid"), &wrong, &wrong).restarts, 0);
    }

    #[test]
    fn a_job_is_a_number_and_a_path() {
        let job = |number: u32| properties(vec![("Job", Variant::new((number, zbus::ObjectPath::from_static_str_unchecked("/"))))]);
        assert!(job(7).has_job() && !job(0).has_job() && !Properties::default().has_job());
    }
}
