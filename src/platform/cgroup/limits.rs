//! Limits written to a group of our own, by the typed setters of cgroups-rs, each read back: the kernel rounds, and the
//! crate's setters report little.

use super::{Caps, Group};
use crate::core::limits::{CpuQuota, Limits, MemoryLimit, TasksMax};
use cgroups_rs::MaxValue;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::memory::{MemController, SetMemory};
use cgroups_rs::pid::PidController;
use std::io;

/// The period of `cpu.max` in µs, the kernel's default and systemd's.
const CPU_PERIOD: u64 = 100_000;

/// Sets what `limits` says; what it does not say is left as it is.
pub(super) fn set(group: &Group, limits: &Limits, host_memory: u64) -> io::Result<()> {
    let path = || group.path().to_owned();
    let memory = |set: SetMemory| MemController::new(path(), true).set_mem(set);
    let bytes = |limit: MemoryLimit| limit.bytes(host_memory);
    let mut failed = Vec::new();
    let mut check = |file: &str, wanted: Option<u64>, write: &dyn Fn() -> Result<(), cgroups_rs::error::Error>, found: &dyn Fn(Caps) -> Option<u64>| {
        let outcome = attempt(group, file, wanted, write, found);
        failed.extend(outcome.err());
    };

    if let Some(limit) = limits.memory.map(bytes) {
        check("memory.max", limit, &|| memory(SetMemory { max: Some(value(limit)), ..SetMemory::default() }), &|caps| caps.memory_max);
    }
    if let Some(limit) = limits.memory_high.map(bytes) {
        check("memory.high", limit, &|| memory(SetMemory { high: Some(value(limit)), ..SetMemory::default() }), &|caps| caps.memory_high);
    }
    if let Some(limit) = limits.swap.map(bytes) {
        // -1 is "max" to this setter.
        check("memory.swap.max", limit, &|| MemController::new(path(), true).set_memswap_limit(signed(limit)), &|caps| caps.swap_max);
    }
    if let Some(quota) = limits.cpu {
        let usec = (quota != CpuQuota::Infinity).then(|| quota.usec_per_sec() / (1_000_000 / CPU_PERIOD));
        // A quota that is not positive is "max" to this setter.
        check("cpu.max", usec, &|| CpuController::new(path(), true).set_cfs_quota_and_period(Some(signed(usec)), Some(CPU_PERIOD)), &|caps| {
            caps.cpu_max.map(|(quota, _)| quota)
        });
    }
    if let Some(weight) = limits.cpu_weight {
        // On v2 "shares" is cpu.weight, not converted.
        check("cpu.weight", Some(weight.get()), &|| CpuController::new(path(), true).set_shares(weight.get()), &|caps| caps.cpu_weight);
    }
    if let Some(tasks) = limits.tasks {
        let count = match tasks {
            TasksMax::Count(count) => Some(count),
            TasksMax::Infinity => None,
        };
        check("pids.max", count, &|| PidController::new(path(), true).set_pid_max(value(count)), &|caps| caps.pids_max);
    }
    if let Some(weight) = limits.io_weight {
        // Our own write: cgroups-rs knows io.bfq.weight only, which hosts without the BFQ scheduler do not have.
        let file = if group.path().join("io.weight").exists() { "io.weight" } else { "io.bfq.weight" };
        failed.extend(group.write(file, &weight.to_string()).err());
    }
    match failed.into_iter().reduce(|all, next| io::Error::new(all.kind(), format!("{all}; {next}"))) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

fn attempt(
    group: &Group,
    file: &str,
    wanted: Option<u64>,
    write: &dyn Fn() -> Result<(), cgroups_rs::error::Error>,
    found: &dyn Fn(Caps) -> Option<u64>,
) -> io::Result<()> {
    let path = group.path().join(file);
    let shown = wanted.map_or_else(|| "max".to_owned(), |w| w.to_string());
    // The setters open with O_CREAT, which turns a missing file into "permission denied".
    if !path.exists() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("write {shown:?} to {}: no such file; the controller is not enabled for this group", path.display()),
        ));
    }
    write().map_err(|error| io::Error::other(format!("write {shown:?} to {}: {error}", path.display())))?;
    let now = found(group.caps());
    // Memory is rounded down to pages.
    let same = match (wanted, now) {
        (Some(wanted), Some(now)) => wanted == now || wanted / page_size() * page_size() == now,
        (wanted, now) => wanted == now,
    };
    if same { Ok(()) } else { Err(io::Error::other(format!("write {shown:?} to {}: the kernel made it {now:?}", path.display()))) }
}

fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(4096)
}

fn signed(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

fn value(limit: Option<u64>) -> MaxValue {
    limit.map_or(MaxValue::Max, |limit| MaxValue::Value(i64::try_from(limit).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain files in the place of a group with all controllers; the kernel's own are tried in tests/vm.
    fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Group) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).expect("written");
        }
        let group = Group::at(directory.path());
        (directory, group)
    }

    fn limits() -> Limits {
        Limits {
            memory: Some(MemoryLimit::Bytes(64 << 20)),
            memory_high: Some(MemoryLimit::PercentOfHost(50)),
            swap: Some(MemoryLimit::Infinity),
            cpu: Some(CpuQuota::Percent(150)),
            cpu_weight: "300".parse().ok(),
            io_weight: "200".parse().ok(),
            tasks: Some(TasksMax::Count(99)),
        }
    }

    #[test]
    fn each_limit_lands_in_its_file() {
        let names = ["memory.max", "memory.high", "memory.swap.max", "cpu.weight", "pids.max", "io.weight"];
        let mut files: Vec<_> = names.iter().map(|n| (*n, "7\n")).collect();
        files.push(("cpu.max", "max 100000\n"));
        let (_directory, group) = directory(&files);
        group.set_limits(&limits(), 1 << 30).expect("set");
        let caps = group.caps();
        assert_eq!((caps.memory_max, caps.memory_high, caps.swap_max), (Some(64 << 20), Some((1 << 30) / 100 * 50), None));
        assert_eq!((caps.cpu_max, caps.cpu_weight, caps.io_weight, caps.pids_max), (Some((150_000, 100_000)), Some(300), Some(200), Some(99)));
        group.set_limits(&Limits { cpu: Some(CpuQuota::Infinity), tasks: Some(TasksMax::Infinity), ..Limits::default() }, 1).expect("set");
        assert_eq!((group.caps().cpu_max, group.caps().pids_max, group.caps().memory_max), (None, None, Some(64 << 20)));
    }

    #[test]
    fn a_missing_controller_is_named_and_the_rest_is_set() {
        let (_directory, group) = directory(&[("memory.max", "max\n"), ("memory.high", "max\n"), ("memory.swap.max", "max\n")]);
        let error = group.set_limits(&limits(), 1 << 30).expect_err("no cpu, no pids").to_string();
        for file in ["cpu.max", "cpu.weight", "pids.max", "io.bfq.weight"] {
            assert!(error.contains(file), "{file}: {error}");
        }
        assert!(error.contains("150000") && !error.contains("memory"), "{error}");
        assert_eq!(group.caps().memory_max, Some(64 << 20));
        assert!(!group.path().join("cpu.max").exists());
    }
}
