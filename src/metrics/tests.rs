//! What is exported: complete, as documented, clean by promtool, bounded.

use super::{InstanceSample, Metrics, Numbers, QueueSample, Snapshot};
use crate::core::attempt::{Ended, Exit, Reason, Report};
use crate::core::instance::ActiveState;
use crate::core::usage::{AgentUsage, KernelUsage, Tokens, Usd};
use crate::platform::cgroup::{Caps, Pressure, Stats};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

fn numbers() -> Numbers {
    let pressure = |total_usec| Some(Pressure { avg10: 0.0, total_usec });
    let events = ["low", "high", "max", "oom", "oom_kill", "oom_group_kill"];
    Numbers {
        stats: Stats {
            cpu_user_usec: Some(1_500_000),
            cpu_system_usec: Some(250_000),
            cpu_periods: Some(10),
            cpu_throttled_periods: Some(4),
            cpu_throttled_usec: Some(70_000),
            memory_current: Some(4096),
            memory_peak: Some(8192),
            swap_current: Some(0),
            memory_events: events.iter().map(|e| ((*e).to_owned(), 2)).collect(),
            pids_current: Some(3),
            pids_refused: Some(1),
            io_read_bytes: Some(100),
            io_write_bytes: Some(200),
            io_reads: Some(1),
            io_writes: Some(2),
            cpu_pressure: (pressure(1_000_000), pressure(0)),
            memory_pressure: (pressure(2_000_000), pressure(500_000)),
            io_pressure: (pressure(3_000_000), pressure(0)),
        },
        caps: Caps {
            memory_max: Some(1 << 30),
            memory_high: Some(1 << 29),
            swap_max: Some(0),
            cpu_max: Some((150_000, 100_000)),
            cpu_weight: Some(100),
            io_weight: Some(100),
            pids_max: Some(512),
        },
    }
}

fn snapshot(instances: &[&str]) -> Snapshot {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let sample = |name: &&str| InstanceSample {
        name: name.parse().unwrap(),
        active: ActiveState::Active,
        since: Some(now),
        profile: "claude".into(),
        member: name.strip_prefix("red-").map(|role| ("red".parse().unwrap(), role.to_owned())),
        cgroup: Some(PathBuf::from("/cg").join(name)),
        service: None,
        linked: true,
        worktree_bytes: Some(1 << 20),
    };
    Snapshot {
        now,
        supervisor: "systemd",
        supervisor_connected: true,
        instances: instances.iter().map(sample).collect(),
        teams: vec![("red".parse().unwrap(), "/cg/red".into())],
        fleet: Some("/cg".into()),
        tasks: BTreeMap::from([("pending", 2)]),
        locks: 2,
        lock_waits: 1,
        holds: BTreeMap::from([("claude".to_owned(), now + SignedDuration::from_secs(90)), ("past".to_owned(), now - SignedDuration::from_secs(5))]),
        queue: QueueSample {
            waiting: BTreeMap::from([("dependency", 3)]),
            pauses: BTreeMap::from([("group", 1)]),
            groups: BTreeMap::from([("release".to_owned(), (2, 1))]),
            spent: BTreeMap::from([("a".to_owned(), 1.25)]),
        },
    }
}

fn report(ended: Ended) -> Report {
    let started: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let tokens = Tokens { input: 10, output: 20, cache_read: 30, cache_creation: 40 };
    Report {
        ended,
        detail: String::new(),
        exit: Some(Exit::Code(0)),
        session: None,
        started,
        finished: started + SignedDuration::from_secs(100),
        agent: AgentUsage { turns: 3, tool_calls: 5, cost: Usd(250_000), tokens: BTreeMap::from([("claude-x".to_owned(), tokens)]) },
        kernel: KernelUsage { cpu_user_usec: Some(2_000_000), cpu_system_usec: None, memory_peak: Some(100 << 20), ..KernelUsage::default() },
        text: String::new(),
        work: None,
    }
}

/// Metrics in which every family has a series.
fn full() -> Metrics {
    let metrics = Metrics::new(|_: &Path| numbers()).unwrap();
    let (name, kind) = ("a".parse().unwrap(), "feature".parse().unwrap());
    let oom = Ended::Failed { reason: Reason::Oom, transient: false };
    for (ended, waited) in [(Ended::Succeeded, Some(Duration::from_millis(20))), (oom, None)] {
        metrics.task_ended(&name, &kind, &ended);
        metrics.task_used(&name, &kind, &report(ended), waited);
    }
    metrics.restart(&name, "oom-kill");
    metrics.request("/api/v1/tasks/{id}", "GET", 404);
    metrics.link(true);
    metrics.link(false);
    metrics.dispatch_latency(Duration::from_millis(3));
    metrics.lock_waited(Duration::from_secs(1), true);
    metrics.lock_refused("held");
    metrics.store_commit(Duration::from_micros(400));
    metrics
}

#[test]
fn the_tighter_of_two_limits_counts() {
    let caps = |memory_max, cpu_max, pids_max| Caps { memory_max, cpu_max, pids_max, ..Caps::default() };
    let read = move |path: &Path| {
        let caps = if path.ends_with("service") { caps(Some(1 << 20), Some((200_000, 100_000)), None) } else { caps(None, Some((15_000, 10_000)), Some(60)) };
        Numbers { caps, ..Numbers::default() }
    };
    let mut snapshot = snapshot(&["a", "b"]);
    snapshot.instances[0].service = Some("/cg/a/service".into());
    let text = Metrics::new(read).unwrap().render(&snapshot).unwrap();
    for line in ["memory_limit_bytes{instance=\"a\"} 1048576", "cpu_limit_cores{instance=\"a\"} 1.5", "pids_limit{instance=\"a\"} 60"] {
        assert!(text.contains(&format!("\nclauded_instance_{line}\n")), "{line} in\n{text}");
    }
    assert!(!text.contains("memory_limit_bytes{instance=\"b\"}"), "{text}");
}

#[test]
fn numbers_come_out_in_base_units_under_their_names() {
    let text = full().render(&snapshot(&["a", "b-c", "red-boss"])).unwrap();
    for line in [
        "clauded_instance_info{instance=\"a\",profile=\"claude\",role=\"\",team=\"\"} 1",
        "clauded_instance_info{instance=\"red-boss\",profile=\"claude\",role=\"boss\",team=\"red\"} 1",
        "clauded_team_memory_limit_bytes{team=\"red\"} 1073741824",
        "clauded_team_cpu_seconds_total{team=\"red\",mode=\"user\"} 1.5",
        "clauded_supervisor_connected{supervisor=\"systemd\"} 1",
        "clauded_links 3",
        "clauded_tasks{state=\"pending\"} 2",
        "clauded_tasks{state=\"cancelled\"} 0",
        "clauded_usage_limit_hold_seconds{account=\"claude\"} 90",
        "clauded_usage_limit_hold_seconds{account=\"past\"} 0",
        "clauded_instance_state{instance=\"b-c\",state=\"active\"} 1",
        "clauded_instance_state{instance=\"b-c\",state=\"failed\"} 0",
        "clauded_instance_start_time_seconds{instance=\"a\"} 1767225600",
        "clauded_instance_cpu_seconds_total{instance=\"a\",mode=\"user\"} 1.5",
        "clauded_instance_cpu_throttled_seconds_total{instance=\"a\"} 0.07",
        "clauded_instance_cpu_limit_cores{instance=\"a\"} 1.5",
        "clauded_instance_memory_events_total{instance=\"b-c\",event=\"oom_kill\"} 2",
        "clauded_instance_pressure_stall_seconds_total{instance=\"a\",resource=\"memory\",kind=\"full\"} 0.5",
        "clauded_fleet_memory_limit_bytes 1073741824",
        "clauded_fleet_io_bytes_total{operation=\"write\"} 200",
        "clauded_instance_restarts_total{instance=\"a\",result=\"oom-kill\"} 1",
        "clauded_tasks_finished_total{instance=\"a\",outcome=\"succeeded\",reason=\"\",type=\"feature\"} 1",
        "clauded_tasks_finished_total{instance=\"a\",outcome=\"failed\",reason=\"oom\",type=\"feature\"} 1",
        "clauded_task_duration_seconds_bucket{type=\"feature\",le=\"120\"} 2",
        "clauded_task_duration_seconds_bucket{type=\"feature\",le=\"60\"} 0",
        "clauded_task_wait_seconds_count{type=\"feature\"} 1",
        "clauded_task_cpu_seconds_sum{type=\"feature\"} 4",
        "clauded_task_memory_peak_bytes_bucket{type=\"feature\",le=\"134217728\"} 2",
        "clauded_tokens_total{instance=\"a\",kind=\"cache_read\",model=\"claude-x\"} 60",
        "clauded_cost_usd_total{instance=\"a\"} 0.5",
        "clauded_tool_calls_total{instance=\"a\"} 10",
        "clauded_api_requests_total{code=\"404\",method=\"GET\",route=\"/api/v1/tasks/{id}\"} 1",
        "clauded_link_connections_total{result=\"refused\"} 1",
        "clauded_dispatch_latency_seconds_bucket{le=\"0.005\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn what_the_kernel_does_not_say_is_missing_and_not_zero() {
    let metrics = Metrics::new(|_: &Path| Numbers::default()).unwrap();
    let text = metrics.render(&snapshot(&["a"])).unwrap();
    assert!(text.contains("clauded_instance_info") && !text.contains("clauded_instance_memory") && !text.contains("clauded_fleet_"), "{text}");
    assert!(!text.contains("NaN"));
}

#[test]
fn the_process_is_this_one() {
    let text = full().render(&snapshot(&[])).unwrap();
    let value = |name: &str| -> f64 { text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap().parse().unwrap() };
    let started = value("process_start_time_seconds");
    let now = Timestamp::now().as_duration().as_secs_f64();
    assert!(started > now - 3600.0 && started < now + 2.0, "{started} {now}");
    assert!((1e6..1e10).contains(&value("process_resident_memory_bytes")));
    assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds"));
    assert!(value("process_threads") >= 1.0);
}

#[test]
fn labels_from_outside_are_bounded() {
    let metrics = full();
    for number in 0..3000 {
        let mut report = report(Ended::Succeeded);
        report.agent.tokens = BTreeMap::from([(format!("model-{number}"), Tokens::default())]);
        let (instance, kind) = (format!("i{number}").parse().unwrap(), format!("type-{number}").parse().unwrap());
        metrics.task_ended(&instance, &kind, &report.ended);
        metrics.task_used(&instance, &kind, &report, None);
        metrics.restart(&"a".parse().unwrap(), &format!("result-{number}"));
    }
    let text = metrics.render(&snapshot(&[])).unwrap();
    let distinct = |family: &str, label: &str| {
        let mark = format!("{label}=\"");
        let values: BTreeSet<&str> = text.lines().filter(|l| l.starts_with(family)).filter_map(|l| l.split_once(&mark)?.1.split('"').next()).collect();
        assert!(values.contains("other"), "{family} {label}");
        values.len()
    };
    assert_eq!(distinct("clauded_tasks_finished_total", "instance"), 1001);
    assert_eq!(distinct("clauded_tasks_finished_total", "type"), 21);
    assert_eq!(distinct("clauded_task_duration_seconds_bucket", "type"), 21);
    assert_eq!(distinct("clauded_tokens_total", "model"), 31);
    assert_eq!(distinct("clauded_instance_restarts_total", "result"), 17);
}

/// Name to type and labels, of every family in a text exposition.
fn exported(text: &str) -> BTreeMap<String, (String, String)> {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut families = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_owned();
            assert!(families.insert(current.clone(), kind.to_owned()).is_none(), "{name} is exported twice");
        } else if let Some((_, inside)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let names = inside.rsplit_once('}').unwrap().0.split("\",").map(|pair| pair.split_once('=').unwrap().0.to_owned());
            labels.entry(current.clone()).or_default().extend(names.filter(|name| name != "le"));
        }
    }
    families
        .into_iter()
        .map(|(name, kind)| {
            let labels = labels.get(&name).map(|l| l.iter().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default();
            (name, (kind, labels))
        })
        .collect()
}

#[test]
fn the_list_in_docs_is_what_is_exported() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut listed = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<String> = row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let [name, kind, labels, meaning, source] = cells.as_slice() else { panic!("five cells wanted: {row}") };
        assert!(!meaning.is_empty() && !source.is_empty(), "{row}");
        let labels: BTreeSet<&str> = labels.split(", ").filter(|label| !label.is_empty()).collect();
        // One row for three families: the instances', the teams' and the fleet's.
        let families = match name.strip_prefix("clauded_…_") {
            Some(rest) => vec![
                (format!("clauded_instance_{rest}"), Some("instance")),
                (format!("clauded_team_{rest}"), Some("team")),
                (format!("clauded_fleet_{rest}"), None),
            ],
            None => vec![(name.clone(), None)],
        };
        for (name, own) in families {
            let labels: BTreeSet<&str> = labels.iter().copied().chain(own).collect();
            let labels = labels.into_iter().collect::<Vec<_>>().join(", ");
            assert!(listed.insert(name, (kind.clone(), labels)).is_none(), "{row}: twice");
        }
    }
    let exported = exported(&full().render(&snapshot(&["a"])).unwrap());
    let missing: Vec<_> = exported.iter().filter(|(name, what)| listed.get(*name) != Some(what)).collect();
    let stale: Vec<_> = listed.iter().filter(|(name, what)| exported.get(*name) != Some(what)).collect();
    assert!(missing.is_empty() && stale.is_empty(), "{}: exported and not listed so: {missing:#?}; listed and not exported so: {stale:#?}", path.display());
}

/// `$PROMTOOL`, or `promtool` on the path.
fn promtool() -> Option<PathBuf> {
    std::env::var_os("PROMTOOL")
        .map(PathBuf::from)
        .or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join("promtool")).find(|path| path.is_file()))
}

#[test]
fn promtool_has_nothing_to_say() {
    let Some(promtool) = promtool() else {
        return crate::skip::skip("promtool is missing: apt-get download prometheus && dpkg-deb -x prometheus_*.deb DIR, then PROMTOOL=DIR/usr/bin/promtool");
    };
    let mut child = Command::new(&promtool).args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(full().render(&snapshot(&["a", "b"])).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{}: {said}", output.status);
}

#[tokio::test]
async fn scrapes_take_turns() {
    let busy = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let metrics = Metrics::new({
        let busy = busy.clone();
        move |_: &Path| {
            assert!(!busy.swap(true, std::sync::atomic::Ordering::SeqCst), "two scrapes at once");
            std::thread::yield_now();
            busy.store(false, std::sync::atomic::Ordering::SeqCst);
            numbers()
        }
    });
    let metrics = Arc::new(metrics.unwrap());
    let names: Vec<String> = (0..50).map(|n| format!("i{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scrapes = (0..8).map(|_| {
        tokio::spawn({
            let metrics = metrics.clone();
            let snapshot = snapshot(&names);
            async move { metrics.scrape(snapshot).await }
        })
    });
    for scrape in scrapes.collect::<Vec<_>>() {
        assert!(scrape.await.unwrap().unwrap().contains("clauded_instance_pids_current{instance=\"i49\"} 3"));
    }
}
