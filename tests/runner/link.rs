//! The daemon goes away, the runner goes away: nothing acknowledged is lost, nothing runs twice.

use crate::harness::{Host, Kind, appears, attempt, both};
use clauded::core::attempt::{Ended, Reason};
use clauded::proto::link::{Event, FromRunner};
use nix::sys::signal::Signal;
use std::fs;

#[test]
fn a_killed_runner_is_reported_once_and_its_processes_are_ended() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut daemon = host.connect();
        daemon.run(host.scripted("daemonize 600s\nsay x\nhang"));
        let progress = daemon.progress(|p| p.doing == "writing");
        assert_eq!(progress.attempt, attempt(1, 1));
        assert!(!host.survivors().is_empty(), "the agent must be alive for this test to mean anything");
        host.signal(Signal::SIGKILL);
        host.wait();
        for _ in 0..2 {
            // Not acknowledged, so it is there again after another kill: the same event, not a second one.
            let mut daemon = host.connect();
            daemon.acks = false;
            assert_eq!(daemon.hello.as_ref().map(|h| (h.spooled, h.current)), Some((1, None)));
            let (_, event) = daemon.event();
            assert!(
                matches!(&event, Event::Finished { attempt: a, report } if *a == attempt(1, 1) && report.session.is_some()
                    && report.ended == Ended::Failed { reason: Reason::Lost, transient: true }),
                "{event:?}"
            );
            assert!(host.survivors().is_empty());
            host.signal(Signal::SIGKILL);
            host.wait();
        }
        let mut daemon = host.connect();
        daemon.finished();
        host.signal(Signal::SIGTERM);
        assert!(host.wait().success());
        assert_eq!(host.connect().hello.map(|h| h.spooled), Some(0));
    });
}

#[test]
fn who_is_stopped_says_that_it_takes_nothing_more_before_it_goes() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    // A connection that is closed over something unread is reset (unix(7)).
    host.says("connected to clauded");
    host.signal(Signal::SIGTERM);
    assert!(matches!(daemon.next(), Some(FromRunner::Draining)));
    assert!(daemon.next().is_none(), "the connection ends");
    assert!(host.wait().success());
}

#[test]
fn what_happens_without_a_daemon_is_told_later() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    daemon.acks = false;
    daemon.run(host.shell("touch running; while [ ! -e go ]; do sleep 0.02; done; echo done"));
    appears(&host.directory().join("running"));
    drop(daemon);
    host.silence();
    fs::write(host.directory().join("go"), "").expect("write");
    appears(&host.state().join("spool/00000000000000000002.json"));
    let mut daemon = host.accept();
    assert_eq!(daemon.hello.as_ref().map(|h| (h.spooled, h.current)), Some((2, None)));
    daemon.run(host.shell("touch twice"));
    assert_eq!(daemon.event().0, 1);
    assert_eq!(daemon.finished().ended, Ended::Succeeded);
    // Acknowledged or not, the same attempt is not run again; the next one is.
    daemon.run(host.shell("touch twice"));
    let mut next = host.shell("echo next");
    next.attempt = attempt(1, 2);
    daemon.run(next);
    assert_eq!(daemon.finished().text, "next");
    assert!(!host.directory().join("twice").exists());
}

#[test]
fn a_refusal_is_said_once_until_there_was_a_welcome() {
    let mut host = Host::new(Kind::Subreaper);
    host.start();
    for times in 1..=2 {
        for _ in 0..3 {
            host.refuse("no unit of yours");
        }
        drop(host.accept());
        // The end of the welcome connection has been noted when the next one comes.
        drop(host.accept());
        assert_eq!(host.log().matches("no unit of yours").count(), times, "{}", host.log());
    }
}

#[test]
fn a_running_task_is_named_in_the_next_hello_and_a_second_one_is_declined() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    daemon.run(host.scripted("hang"));
    daemon.started();
    drop(daemon);
    let mut daemon = host.accept();
    assert_eq!(daemon.hello.as_ref().and_then(|h| h.current), Some(attempt(1, 1)), "{:?}\n{}", daemon.hello, host.log());
    let mut second = host.shell("touch second");
    second.attempt = attempt(2, 1);
    daemon.run(second);
    let report = daemon.finished();
    assert!(report.ended.reason() == Some(Reason::Lost) && report.detail.contains("busy with attempt 1.1"), "{report:?}");
    assert!(!host.directory().join("second").exists());
}
