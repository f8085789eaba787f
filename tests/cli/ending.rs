//! Ends that come from outside: whatever ends it, the conversation can be gone on with.

use crate::harness::{appears, attempt};
use crate::reply::Reply;
use crate::stage::{ANSWER, Stage};
use clauded::core::attempt::{Ended, Exit, Reason, Report};
use clauded::core::usage::Usd;
use clauded::proto::link::{Event, FromDaemon, FromRunner};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Goes on with an ended attempt in a fresh process of the CLI.
fn resumed(stage: &Stage, daemon: &mut crate::harness::Daemon, first: &Report) -> Report {
    let mut work = stage.work("begin here");
    (work.attempt, work.resume) = (attempt(1, 2), first.session);
    daemon.run(work);
    let second = daemon.finished();
    assert_eq!((&second.ended, second.text.as_str(), second.session), (&Ended::Succeeded, "finished", first.session), "{second:?}");
    let asked = stage.api.asked();
    let messages = asked[asked.len() - 1].body["messages"].as_array().expect("messages");
    let (last, before) = messages.split_last().expect("some");
    assert!(before.iter().any(|m| m.to_string().contains("begin here")), "the conversation was not resumed: {messages:#?}");
    assert!(last.to_string().contains("begin here") && last.to_string().contains("do not start over"), "it is not told that it had begun: {last:#}");
    assert!(!asked[0].body["messages"].to_string().contains("do not start over"));
    second
}

#[test]
fn a_killed_agent_is_lost_and_its_session_is_not() {
    let Some(mut stage) = Stage::new(vec![Reply::bash("true"), Reply::Never, Reply::Text("finished"), Reply::Text("finished")]) else { return };
    let mut daemon = stage.host.connect();
    daemon.run(stage.work("begin here"));
    let (pid, ..) = daemon.started();
    stage.api.await_questions(2);
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL).expect("killed");
    let first = daemon.finished();
    assert_eq!((&first.ended, first.exit), (&Ended::Failed { reason: Reason::Lost, transient: true }, Some(Exit::Signal(9))), "{first:?}");
    assert_eq!(stage.host.survivors(), Vec::<String>::new());
    let second = resumed(&stage, &mut daemon, &first);
    assert_eq!(second.agent.cost, Usd(ANSWER), "{second:?}");
}

#[test]
fn a_cancelled_tool_ends_with_all_its_processes() {
    let Some(mut stage) = Stage::new(vec![Reply::bash("touch began; tail -f /dev/null"), Reply::Text("finished")]) else { return };
    let mut daemon = stage.host.connect();
    daemon.run(stage.work("begin here"));
    appears(&stage.host.directory().join("began"));
    daemon.send(&FromDaemon::End { attempt: attempt(1, 1) });
    let first = daemon.finished();
    assert_eq!(first.ended, Ended::Cancelled, "{first:?}");
    assert!(matches!(first.exit, Some(Exit::Code(_))), "it had to be killed: {first:?}");
    assert_eq!(first.agent.cost, Usd(ANSWER), "what was spent before is not told: {first:?}");
    assert_eq!(stage.host.survivors(), Vec::<String>::new());
    let second = resumed(&stage, &mut daemon, &first);
    assert_eq!(second.agent.cost, Usd(ANSWER), "{second:?}");
}

#[test]
fn an_orderly_stop_leaves_a_session_to_go_on_with() {
    let Some(mut stage) = Stage::new(vec![Reply::bash("true"), Reply::Never, Reply::Text("finished")]) else { return };
    let mut daemon = stage.host.connect();
    daemon.run(stage.work("begin here"));
    stage.api.await_questions(2);
    stage.host.signal(Signal::SIGTERM);
    let first = loop {
        if let FromRunner::Event { seq, event } = daemon.next().expect("it reports before it goes") {
            daemon.send(&FromDaemon::Ack { seq });
            if let Event::Finished { report, .. } = event {
                break *report;
            }
        }
    };
    assert_eq!(first.ended, Ended::Interrupted, "{first:?}");
    assert!(matches!(first.exit, Some(Exit::Code(_))), "it had to be killed: {first:?}");
    assert!(stage.host.wait().success());
    let mut daemon = stage.host.connect();
    let second = resumed(&stage, &mut daemon, &first);
    assert_eq!(second.agent.cost, Usd(ANSWER), "{second:?}");
}

#[test]
fn a_background_process_of_the_agent_does_not_outlive_it() {
    let Some(mut stage) =
        Stage::new(vec![Reply::bash("nohup tail -f /dev/null >/dev/null 2>&1 & setsid tail -f /dev/null >/dev/null 2>&1 & echo left"), Reply::Text("done")])
    else {
        return;
    };
    let report = stage.host.report(stage.work("leave something"));
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
}
