//! Agents that print what they should not, or nothing, and disks that refuse.

use crate::harness::{Host, Kind, appears, attempt};
use clauded::core::attempt::{Ended, Reason};
use std::fs;
use std::path::Path;
use std::process::Command;

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
    // The runner may just be marking there that its last event was acknowledged.
    while let Err(error) = fs::remove_dir_all(host.state().join("spool")) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
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

/// A small file system, gone when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, size: &str) -> Self {
        fs::create_dir_all(at).expect("mkdir");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("{size},mode=0700"), "tmpfs"]).arg(at).status().expect("mount runs");
        assert!(mounted.success());
        Self(at)
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.0.join("filler")).expect("made");
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        // Lazily, since the runner may still be there.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn on_a_full_disk_nothing_new_runs_and_what_runs_is_reported() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a full disk under a runner: only root can mount a small file system");
    }
    let mut host = Host::new(Kind::Subreaper);
    let state = host.state();
    let disk = Small::mount(&state, "size=2m");
    let mut daemon = host.connect();
    let mut work = host.scripted(&format!("say x\nawait go\nsay {}\nsay the end", "too much ".repeat(1000)));
    work.attempt = attempt(2, 1);
    daemon.run(work);
    daemon.progress(|p| p.doing == "writing");
    disk.fill();
    drop(daemon);
    host.silence();
    fs::write(host.directory().join("go"), "").expect("write");
    host.says("an event cannot be spooled; it is kept in memory and tried again");
    let log = host.log();
    assert!(log.contains("the session's account is lost") && log.contains("the attempt's log cannot be written"), "{log}");
    assert!(log.contains("No space left on device"), "{log}");

    let mut daemon = host.accept();
    daemon.acks = false;
    let kept = daemon.finished();
    assert!(kept.ended == Ended::Succeeded && kept.text == "the end", "{kept:?}");
    assert!(kept.detail.contains("lines of its log could not be written"), "{kept:?}");
    daemon.run(host.shell("touch ran"));
    let refused = daemon.finished();
    assert!(refused.ended.reason() == Some(Reason::Spawn) && refused.detail.contains("attempts/1.1.json"), "{refused:?}");
    assert!(refused.detail.contains("No space left") && !host.directory().join("ran").exists(), "{refused:?}");

    disk.empty();
    // Neither was acknowledged, so both are stored when they can be, and survive the runner.
    appears(&state.join("spool/00000000000000000003.json"));
    host.signal(nix::sys::signal::Signal::SIGKILL);
    host.wait();
    let mut daemon = host.connect();
    assert_eq!(daemon.hello.as_ref().map(|h| h.spooled), Some(2), "{}", host.log());
    assert_eq!((daemon.finished().ended, daemon.finished().ended.reason()), (Ended::Succeeded, Some(Reason::Spawn)));
    let mut work = host.scripted("say again");
    (work.attempt, work.resume) = (attempt(3, 1), kept.session);
    daemon.run(work);
    let report = daemon.finished();
    assert_eq!((report.ended, report.detail.as_str(), report.session), (Ended::Succeeded, "", kept.session));
    assert!(state.join("sessions.json").exists());
}

#[test]
fn on_a_full_disk_a_runner_does_not_start_and_says_why() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a full disk at a runner's start: only root can mount a small file system");
    }
    let host = Host::new(Kind::Subreaper);
    let state = host.state();
    // Of one inode, and that is its root's.
    let _disk = Small::mount(&state, "nr_inodes=1");
    let status = host.ended(host.spawn());
    // Not 78: a restart mends it when there is room again.
    assert_eq!(status.code(), Some(1), "{}", host.log());
    let log = host.log();
    assert!(log.contains(&state.join("claude").display().to_string()) && log.contains("No space left on device"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
}
