//! Agents that print what they should not, or nothing, and disks that refuse.

use crate::harness::{Host, Kind, attempt};
use clauded::core::attempt::{Ended, Reason};
use std::fs;

#[test]
fn garbage_half_characters_and_a_line_of_50_megabytes_are_survived() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    daemon.run(host.scripted("garbage\nhalfutf8\nlongline 50M\nsay still here"));
    let report = daemon.finished();
    assert_eq!((report.ended, report.text.as_str()), (Ended::Succeeded, "still here"));
    let log = host.task_log();
    assert!(log.contains("52428800 bytes") && log.contains("not json at all") && log.contains("still here"));
    let peak = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("status");
    let peak: u64 = peak.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).expect("VmHWM");
    assert!(peak < 64 << 10, "the runner's memory peaked at {peak} KiB");
}

#[test]
fn the_log_is_bounded_and_the_agent_is_drained_all_the_same() {
    let mut host = Host::new(Kind::Subreaper);
    let mut work = host.shell("i=0; while [ $i -lt 20000 ]; do echo \"line $i of a program that prints too much\"; i=$((i+1)); done; echo end");
    work.profile.log_max = 100_000;
    let report = host.report(work);
    assert_eq!(report.ended, Ended::Succeeded);
    assert!(report.text.ends_with("end"));
    let log = host.task_log();
    assert!(log.len() <= 100_000 && log.len() > 40_000 && log.ends_with("end\n"), "{} bytes", log.len());
}

#[test]
fn without_an_attempt_record_no_agent_runs_and_without_a_spool_nothing_is_lost() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    fs::remove_dir(host.state().join("attempts")).expect("rmdir");
    daemon.run(host.shell("touch ran"));
    let report = daemon.finished();
    assert!(report.ended.reason() == Some(Reason::Spawn) && report.detail.contains("attempts/1.1.json"), "{report:?}");
    assert!(!host.directory().join("ran").exists());

    fs::create_dir(host.state().join("attempts")).expect("mkdir");
    fs::remove_dir_all(host.state().join("spool")).expect("rm");
    let mut work = host.shell("echo said");
    work.attempt = attempt(2, 1);
    daemon.run(work);
    assert_eq!(daemon.finished().text, "said");
}

#[test]
fn an_agent_that_exits_at_once_has_said_nothing() {
    let mut host = Host::new(Kind::Subreaper);
    let work = host.work(host.profile(clauded::core::profile::AgentKind::Claude, &["/bin/true"]), &"x".repeat(1 << 20));
    let report = host.report(work);
    assert_eq!(report.ended.reason(), Some(Reason::AgentError));
    assert!(report.detail.contains("without a result"), "{}", report.detail);
}
