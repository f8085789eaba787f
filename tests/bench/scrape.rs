//! What a scrape costs beside the bare reading of the same files: CPU time of both for a growing number of instances, on
//! directories with all the files that Linux 6.1 shows for a group. Prints one JSON object.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use clauded::core::instance::ActiveState;
use clauded::metrics::{InstanceSample, Metrics, Numbers, Snapshot};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::uio::pread;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

const PRESSURE: &str = "some avg10=14.20 avg60=3.00 avg300=0.65 total=1234567\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
/// What every scrape reads of a group.
const FILES: [(&str, &str); 16] = [
    (
        "cpu.stat",
        "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\nnr_periods 40\nnr_throttled 10\nthrottled_usec 812345\nnr_bursts 0\nburst_usec 0\n",
    ),
    ("memory.current", "467000\n"),
    ("memory.peak", "1048576\n"),
    ("memory.swap.current", "0\n"),
    ("memory.events", "low 0\nhigh 2200\nmax 7\noom 3\noom_kill 3\noom_group_kill 1\n"),
    ("memory.max", "max\n"),
    ("memory.high", "33554432\n"),
    ("memory.swap.max", "0\n"),
    ("pids.current", "12\n"),
    ("pids.events", "max 4\n"),
    ("pids.max", "512\n"),
    ("cpu.max", "20000 100000\n"),
    ("io.stat", "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"),
    ("cpu.pressure", PRESSURE),
    ("memory.pressure", PRESSURE),
    ("io.pressure", PRESSURE),
];

/// CPU time of this process, ms.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1000.0
}

/// CPU time of one call, ms, and the median over batches of calls.
fn cost(mut work: impl FnMut()) -> f64 {
    work();
    let mut batches: Vec<f64> = (0..9)
        .map(|_| {
            let begun = cpu();
            (0..20).for_each(|_| work());
            (cpu() - begun) / 20.0
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches.get(batches.len() / 2).copied().unwrap_or_default()
}

fn snapshot(groups: &[PathBuf]) -> Snapshot {
    let now = jiff::Timestamp::now();
    let instances = groups.iter().enumerate().map(|(number, group)| InstanceSample {
        name: format!("i{number}").parse().unwrap(),
        active: ActiveState::Active,
        since: Some(now),
        profile: "claude".into(),
        member: None,
        cgroup: Some(group.clone()),
        service: None,
        linked: true,
        worktree_bytes: Some(1 << 20),
    });
    Snapshot {
        now,
        supervisor: "process",
        supervisor_connected: true,
        instances: instances.collect(),
        teams: Vec::new(),
        fleet: None,
        tasks: BTreeMap::new(),
        locks: 0,
        lock_waits: 0,
        holds: BTreeMap::new(),
        queue: clauded::metrics::QueueSample::default(),
    }
}

fn bare_open(groups: &[PathBuf]) {
    for group in groups {
        for (name, _) in FILES {
            std::hint::black_box(std::fs::read(group.join(name)).ok());
        }
    }
}

fn main() {
    let given = std::env::args_os().nth(1);
    let scratch = Path::new("/dev/shm").join(format!("clauded-bench-{}", std::process::id()));
    let mut results = Vec::new();
    for count in [25, 50, 100, 200] {
        let groups: Vec<PathBuf> = match &given {
            // Real groups, made by the caller: only the files that this kernel has.
            Some(root) => (0..count).map(|number| Path::new(root).join(format!("g{number}"))).collect(),
            None => (0..count).map(|number| scratch.join(format!("g{number}"))).collect(),
        };
        for group in &groups {
            std::fs::create_dir_all(group).unwrap();
            for (name, text) in FILES.iter().filter(|_| given.is_none()) {
                std::fs::write(group.join(name), text).unwrap();
            }
        }
        let files: Vec<File> = groups.iter().flat_map(|group| FILES.iter().filter_map(|(name, _)| File::open(group.join(name)).ok())).collect();
        let mut buffer = [0; 4096];
        let bare = cost(|| files.iter().for_each(|file| _ = std::hint::black_box(pread(file, &mut buffer, 0))));
        let number = files.len();
        drop(files);
        let opened = cost(|| bare_open(&groups));
        let metrics = Metrics::new(Numbers::reader()).unwrap();
        let snapshot = snapshot(&groups);
        let scrape = cost(|| _ = std::hint::black_box(metrics.render(&snapshot).unwrap()));
        results.push(format!("{{\"instances\":{count},\"files\":{number},\"scrape_ms\":{scrape:.3},\"bare_ms\":{bare:.3},\"open_ms\":{opened:.3}}}"));
    }
    println!("[{}]", results.join(","));
    // Real groups are removed by their maker.
    let _ = std::fs::remove_dir_all(&scratch);
}
