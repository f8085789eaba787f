//! How tasks are ended, and that nothing of them is left.

use crate::harness::{Host, Kind, appears, attempt, both};
use clauded::core::attempt::{Ended, Exit, Reason};
use clauded::core::profile::AgentKind;
use clauded::proto::link::{Event, FromDaemon, FromRunner};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

#[test]
fn silence_and_time_are_bounded() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut work = host.scripted("say x\nhang");
        work.profile.stall_timeout = Duration::from_secs(1);
        let report = host.report(work);
        assert_eq!(report.ended, Ended::Failed { reason: Reason::Stalled, transient: true }, "{report:?}");

        let mut host = Host::new(kind);
        let mut work = host.shell("while :; do echo tick; sleep 0.1; done");
        work.timeout = Duration::from_secs(1);
        assert_eq!(host.report(work).ended.reason(), Some(Reason::Timeout));
    });
}

#[test]
fn a_cancelled_task_ends_by_an_interrupt_if_it_listens() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    daemon.run(host.scripted("say x\nhang"));
    daemon.progress(|p| p.usage.turns == 0 && p.doing == "writing");
    daemon.send(&FromDaemon::End { attempt: attempt(9, 9) });
    daemon.send(&FromDaemon::End { attempt: attempt(1, 1) });
    let report = daemon.finished();
    assert_eq!((report.ended, report.exit), (Ended::Cancelled, Some(Exit::Code(1))), "it ended its turn by itself");
}

#[test]
fn who_does_not_listen_is_killed() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut daemon = host.connect();
        let mut work = host.scripted("ignore-signals\nsay deaf\nhang");
        work.profile.kill_grace = Duration::from_millis(400);
        daemon.run(work);
        daemon.progress(|p| p.doing == "writing");
        let began = Instant::now();
        daemon.send(&FromDaemon::End { attempt: attempt(1, 1) });
        let report = daemon.finished();
        assert_eq!((report.ended, report.exit), (Ended::Cancelled, Some(Exit::Signal(9))));
        assert!(began.elapsed() >= Duration::from_millis(800), "the graces were kept");
        assert!(host.survivors().is_empty());
    });
}

#[test]
fn who_ignores_the_interrupt_and_obeys_the_next_word_is_not_killed() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    let mut work = host.shell("trap '' INT; trap 'exit 5' TERM; touch ready; while :; do sleep 0.05; done");
    work.profile.kill_grace = Duration::from_secs(2);
    daemon.run(work);
    appears(&host.directory().join("ready"));
    daemon.send(&FromDaemon::End { attempt: attempt(1, 1) });
    let report = daemon.finished();
    assert_eq!((report.ended, report.exit), (Ended::Cancelled, Some(Exit::Code(5))));
}

#[test]
fn a_second_cause_does_not_hurry_an_ending() {
    let mut host = Host::new(Kind::Subreaper);
    let result = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1,"total_cost_usd":0.25,"modelUsage":{}}"#;
    let script = format!("trap '' INT TERM; echo '{result}'; while :; do sleep 0.05; done");
    let mut work = host.work(host.profile(AgentKind::Claude, &["/bin/sh", "-c", &script]), "x");
    work.budget = Some(clauded::core::usage::Usd(100_000));
    (work.profile.stall_timeout, work.profile.kill_grace) = (Duration::from_secs(1), Duration::from_secs(2));
    let report = host.report(work);
    assert_eq!((report.ended.reason(), report.exit), (Some(Reason::Budget), Some(Exit::Signal(9))));
    let took = report.finished.duration_since(report.started);
    assert!(took.as_secs() >= 4, "of two graces of 2 s it was given {took}");
}

#[test]
fn a_second_runner_on_the_same_state_refuses() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut daemon = host.connect();
        daemon.run(host.shell("touch here; while [ -e here ]; do sleep 0.05; done; echo undisturbed"));
        appears(&host.directory().join("here"));
        let second = host.spawn();
        assert_eq!(host.ended(second).code(), Some(75), "{}", host.log());
        assert!(host.log().contains(&format!("another runner works on {}", host.state().display())), "{}", host.log());
        std::fs::remove_file(host.directory().join("here")).expect("removed");
        assert_eq!(daemon.finished().text, "undisturbed");
    });
}

#[test]
fn nothing_outlives_its_task() {
    both(|kind| {
        let mut host = Host::new(kind);
        let report = host.report(host.scripted("daemonize 600s\nfork 60\nsay done"));
        assert_eq!(report.ended, Ended::Succeeded);
        let mut host = Host::new(kind);
        let report = host.report(host.shell("(setsid sh -c 'sleep 600 & sleep 600' &) ; nohup sleep 600 & echo done"));
        assert_eq!(report.ended, Ended::Succeeded);
    });
}

#[test]
fn an_orderly_stop_interrupts() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut daemon = host.connect();
        daemon.run(host.scripted("daemonize 600s\nsay x\nhang"));
        daemon.progress(|p| p.doing == "writing");
        host.signal(Signal::SIGTERM);
        let mut draining = false;
        let report = loop {
            match daemon.next().expect("it reports before it goes") {
                FromRunner::Draining => draining = true,
                FromRunner::Event { seq, event } => {
                    daemon.send(&FromDaemon::Ack { seq });
                    if let Event::Finished { report, .. } = event {
                        break report;
                    }
                }
                _ => {}
            }
        };
        assert!(draining && report.ended == Ended::Interrupted && report.session.is_some(), "{report:?}");
        assert!(host.wait().success());
        assert!(host.survivors().is_empty());
    });
}

#[test]
fn an_interruption_that_nobody_heard_is_reported_by_the_next_runner() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    daemon.run(host.scripted("say x\nhang"));
    daemon.progress(|p| p.doing == "writing");
    drop(daemon);
    host.silence();
    host.signal(Signal::SIGTERM);
    assert!(host.wait().success());
    let mut daemon = {
        host.start();
        host.accept()
    };
    assert_eq!(daemon.hello.as_ref().map(|h| h.spooled), Some(1));
    assert_eq!(daemon.finished().ended, Ended::Interrupted);
}

#[test]
fn an_idle_runner_stops_at_once_and_a_directory_that_is_missing_is_refused() {
    let mut host = Host::new(Kind::Subreaper);
    let daemon = host.connect();
    let began = Instant::now();
    host.signal(Signal::SIGTERM);
    assert!(host.wait().success() && began.elapsed() < Duration::from_secs(2));
    drop(daemon);

    std::fs::remove_dir(host.directory()).expect("rmdir");
    let output = host.command().output().expect("run");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.lines().count() == 1 && text.contains("does not exist; create it or set [instances.test-1] directory"), "{text}");
}

#[test]
fn a_worktree_that_vanishes_harms_its_task_alone() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    daemon.run(host.shell("touch here; while [ -e here ]; do sleep 0.05; done; echo survived"));
    appears(&host.directory().join("here"));
    std::fs::remove_dir_all(host.directory()).expect("rm -r");
    assert_eq!(daemon.finished().ended, Ended::Succeeded);
    let mut work = host.shell("echo never");
    work.attempt = attempt(2, 1);
    daemon.run(work);
    let report = daemon.finished();
    assert!(report.ended.reason() == Some(Reason::Spawn) && report.detail.contains("its directory"), "{report:?}");
}

#[test]
fn a_stop_that_was_cut_short_is_still_an_interruption() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut daemon = host.connect();
        let mut work = host.scripted("ignore-signals\nsay deaf\nhang");
        work.profile.kill_grace = Duration::from_secs(600);
        daemon.run(work);
        daemon.progress(|p| p.doing == "writing");
        host.signal(Signal::SIGTERM);
        while !matches!(daemon.next(), Some(FromRunner::Draining)) {}
        host.signal(Signal::SIGKILL);
        host.wait();
        assert_eq!(host.connect().finished().ended, Ended::Interrupted);
        assert!(host.survivors().is_empty());
    });
}

#[test]
fn the_service_manager_is_told() {
    let mut host = Host::new(Kind::Subreaper);
    let socket = host.dir.path().join("notify.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).expect("bind");
    let (says, said) = std::sync::mpsc::channel();
    // Whatever is said is taken: a full socket would hold the runner up. The thread ends with the test's process.
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n) = manager.recv(&mut buffer) {
            if says.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).is_err() {
                return;
            }
        }
    });
    let told = |what: &str| {
        let until = Instant::now() + crate::harness::PATIENCE;
        loop {
            let message = said.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or_else(|_| panic!("{what} is not said"));
            if let Some(rest) = message.strip_prefix(what) {
                return rest.trim_end().to_owned();
            }
        }
    };
    host.environment = vec![("NOTIFY_SOCKET", socket.display().to_string()), ("WATCHDOG_USEC", "100000".to_owned())];
    let mut daemon = host.connect();
    told("READY=1");
    told("STATUS=idle; waits for work");
    // It has been paid for, and says nothing more.
    let result = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1,"total_cost_usd":0.25,"modelUsage":{}}"#;
    let mut work = host.work(host.profile(AgentKind::Claude, &["/bin/sh", "-c", &format!("echo '{result}'; exec sleep 600")]), "x");
    work.timeout = Duration::from_secs(600);
    daemon.run(work);
    let shown = || told("STATUS=task 1 \"a title\": ending, ");
    let seconds = |shown: &str| shown.strip_suffix(" s, $0.2500").and_then(|s| s.parse::<u64>().ok()).unwrap_or_else(|| panic!("{shown}"));
    // Its last words are told a second later at the latest; from then on there is only the clock.
    while seconds(&shown()) < 3 {}
    told("WATCHDOG=1");
    host.signal(Signal::SIGTERM);
    told("STOPPING=1");
    daemon.finished();
    assert!(host.wait().success());
}
