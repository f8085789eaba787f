//! The kernel's numbers of each instance's slice, each team's and the fleet's, read at scrape time (cgroup-v2,
//! Documentation/admin-guide). One table says which number is which series; it is applied to all of them.

use super::ReadGroup;
use super::page::{Kind, Page};
use super::snapshot::{InstanceSample, Snapshot};
use crate::platform::cgroup::{Caps, Kept, Pressure, Stats};
use std::path::Path;

/// All numbers of one cgroup.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// What it uses.
    pub stats: Stats,
    /// What it may use.
    pub caps: Caps,
}

impl Numbers {
    /// Reads the cgroup in a directory; keeps its files open for the next time.
    pub fn reader() -> impl Fn(&Path) -> Self + Send + Sync + 'static {
        let kept = Kept::default();
        move |directory| {
            let (stats, caps) = kept.read(directory);
            Self { stats, caps }
        }
    }
}

/// One series of a family: its own labels and where its value comes from.
type Cell = (&'static [(&'static str, &'static str)], fn(&Numbers) -> Option<f64>);

/// One family, for the instances (`clauded_instance_…`), the teams (`clauded_team_…`) and the fleet (`clauded_fleet_…`).
struct Row {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    cells: &'static [Cell],
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53: nine petabytes, or 285 years of microseconds")]
fn exact(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

fn seconds(usec: Option<u64>) -> Option<f64> {
    exact(usec).map(|usec| usec / 1e6)
}

fn stalled(pressure: Option<Pressure>) -> Option<f64> {
    seconds(pressure.map(|pressure| pressure.total_usec))
}

const ROWS: &[Row] = &[
    Row {
        name: "cpu_seconds_total",
        help: "CPU time used.",
        kind: Kind::Counter,
        cells: &[(&[("mode", "user")], |n| seconds(n.stats.cpu_user_usec)), (&[("mode", "system")], |n| seconds(n.stats.cpu_system_usec))],
    },
    Row { name: "cpu_periods_total", help: "Periods of the CPU quota.", kind: Kind::Counter, cells: &[(&[], |n| exact(n.stats.cpu_periods))] },
    Row {
        name: "cpu_throttled_periods_total",
        help: "Periods in which the CPU quota was used up.",
        kind: Kind::Counter,
        cells: &[(&[], |n| exact(n.stats.cpu_throttled_periods))],
    },
    Row {
        name: "cpu_throttled_seconds_total",
        help: "Time spent waiting for the next period of the CPU quota.",
        kind: Kind::Counter,
        cells: &[(&[], |n| seconds(n.stats.cpu_throttled_usec))],
    },
    Row {
        name: "cpu_limit_cores",
        help: "The CPU quota in cores.",
        kind: Kind::Gauge,
        cells: &[(&[], |n| {
            let (quota, period) = n.caps.cpu_max.filter(|(_, period)| *period > 0)?;
            Some(exact(Some(quota))? / exact(Some(period))?)
        })],
    },
    Row { name: "memory_current_bytes", help: "Memory in use.", kind: Kind::Gauge, cells: &[(&[], |n| exact(n.stats.memory_current))] },
    Row { name: "memory_peak_bytes", help: "Most memory in use at any time.", kind: Kind::Gauge, cells: &[(&[], |n| exact(n.stats.memory_peak))] },
    Row { name: "memory_limit_bytes", help: "Memory limit; beyond it the kernel kills.", kind: Kind::Gauge, cells: &[(&[], |n| exact(n.caps.memory_max))] },
    Row {
        name: "memory_high_limit_bytes",
        help: "Memory limit beyond which the kernel slows down and reclaims.",
        kind: Kind::Gauge,
        cells: &[(&[], |n| exact(n.caps.memory_high))],
    },
    Row {
        name: "memory_events_total",
        help: "Events of the memory controller: limits reached and kills.",
        kind: Kind::Counter,
        cells: &[
            (&[("event", "low")], |n| exact(n.stats.memory_event("low"))),
            (&[("event", "high")], |n| exact(n.stats.memory_event("high"))),
            (&[("event", "max")], |n| exact(n.stats.memory_event("max"))),
            (&[("event", "oom")], |n| exact(n.stats.memory_event("oom"))),
            (&[("event", "oom_kill")], |n| exact(n.stats.memory_event("oom_kill"))),
            (&[("event", "oom_group_kill")], |n| exact(n.stats.memory_event("oom_group_kill"))),
        ],
    },
    Row { name: "swap_current_bytes", help: "Swap in use.", kind: Kind::Gauge, cells: &[(&[], |n| exact(n.stats.swap_current))] },
    Row { name: "swap_limit_bytes", help: "Swap limit.", kind: Kind::Gauge, cells: &[(&[], |n| exact(n.caps.swap_max))] },
    Row {
        name: "io_bytes_total",
        help: "Bytes read from and written to block devices.",
        kind: Kind::Counter,
        cells: &[(&[("operation", "read")], |n| exact(n.stats.io_read_bytes)), (&[("operation", "write")], |n| exact(n.stats.io_write_bytes))],
    },
    Row {
        name: "io_operations_total",
        help: "Operations on block devices.",
        kind: Kind::Counter,
        cells: &[(&[("operation", "read")], |n| exact(n.stats.io_reads)), (&[("operation", "write")], |n| exact(n.stats.io_writes))],
    },
    Row { name: "pids_current", help: "Processes and threads.", kind: Kind::Gauge, cells: &[(&[], |n| exact(n.stats.pids_current))] },
    Row { name: "pids_limit", help: "Limit of processes and threads.", kind: Kind::Gauge, cells: &[(&[], |n| exact(n.caps.pids_max))] },
    Row {
        name: "forks_refused_total",
        help: "Forks that the limit of processes refused.",
        kind: Kind::Counter,
        cells: &[(&[], |n| exact(n.stats.pids_refused))],
    },
    Row {
        name: "pressure_stall_seconds_total",
        help: "Time in which some or all tasks of the group stood still for want of a resource.",
        kind: Kind::Counter,
        cells: &[
            (&[("resource", "cpu"), ("kind", "some")], |n| stalled(n.stats.cpu_pressure.0)),
            (&[("resource", "cpu"), ("kind", "full")], |n| stalled(n.stats.cpu_pressure.1)),
            (&[("resource", "memory"), ("kind", "some")], |n| stalled(n.stats.memory_pressure.0)),
            (&[("resource", "memory"), ("kind", "full")], |n| stalled(n.stats.memory_pressure.1)),
            (&[("resource", "io"), ("kind", "some")], |n| stalled(n.stats.io_pressure.0)),
            (&[("resource", "io"), ("kind", "full")], |n| stalled(n.stats.io_pressure.1)),
        ],
    },
];

/// Reads every group once and adds its numbers.
pub(super) fn add(page: &mut Page, snapshot: &Snapshot, read: &ReadGroup) {
    let of_instance = |i: &InstanceSample| {
        let slice = read(i.cgroup.as_ref()?);
        let caps = i.service.as_ref().map_or(slice.caps, |service| read(service).caps.below(&slice.caps));
        Some(Numbers { caps, ..slice })
    };
    let instances: Vec<(&str, Numbers)> = snapshot.instances.iter().filter_map(|i| Some((i.name.as_str(), of_instance(i)?))).collect();
    add_named(page, "instance", &instances);
    let teams: Vec<(&str, Numbers)> = snapshot.teams.iter().map(|(name, group)| (name.as_str(), read(group))).collect();
    add_named(page, "team", &teams);
    let Some(numbers) = snapshot.fleet.as_ref().map(|path| read(path)) else { return };
    for row in ROWS {
        let mut family = page.family(format!("clauded_fleet_{}", row.name), row.help, row.kind);
        for (labels, value) in row.cells {
            family.add_some(labels, value(&numbers));
        }
    }
}

/// The families of groups of one kind, which is also the label that tells them apart.
fn add_named(page: &mut Page, kind: &'static str, groups: &[(&str, Numbers)]) {
    for row in ROWS {
        let mut family = page.family(format!("clauded_{kind}_{}", row.name), row.help, row.kind);
        for (name, numbers) in groups {
            for (labels, value) in row.cells {
                if let Some(value) = value(numbers) {
                    match labels {
                        [] => family.add(&[(kind, name)], value),
                        [a] => family.add(&[(kind, name), *a], value),
                        [a, b, ..] => family.add(&[(kind, name), *a, *b], value),
                    }
                }
            }
        }
    }
}
