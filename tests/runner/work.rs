//! Work as it should go, and failures that the agent tells.

use crate::harness::{Host, Kind, attempt, both};
use clauded::core::attempt::{Ended, Exit, Reason};
use clauded::core::profile::AgentKind;
use clauded::core::usage::Usd;
use std::fs;

#[test]
fn a_task_is_done_and_measured() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut daemon = host.connect();
        let hello = daemon.hello.clone().expect("hello");
        assert_eq!((hello.current, hello.spooled, hello.instance.as_str()), (None, 0, "test-1"));
        daemon.run(host.scripted("write result.txt done\nspin 500ms\nsay all is done"));
        let (pid, session, cgroup) = daemon.started();
        assert_eq!(cgroup, if kind == Kind::Cgroup { "task-1" } else { "" });
        // The kernel then takes all of the task or nothing (where it has the memory controller).
        if let Some(oom_group) = host.cgroup.as_ref().map(|path| path.join("task-1/memory.oom.group")).filter(|file| file.exists()) {
            assert_eq!(fs::read_to_string(oom_group).expect("read").trim(), "1");
        }
        let report = daemon.finished();
        assert_eq!((&report.ended, report.text.as_str(), report.exit), (&Ended::Succeeded, "all is done", Some(Exit::Code(0))));
        assert_eq!(fs::read_to_string(host.directory().join("result.txt")).expect("written"), "done\n");
        assert!(pid > 0 && session.is_some() && report.session == session && report.started <= report.finished);
        assert_eq!((report.agent.turns, report.agent.tool_calls, report.agent.cost), (3, 2, Usd(18_180)));
        assert_eq!(report.agent.tokens["claude-scripted"].input, 3000);
        assert!(report.kernel.cpu_user_usec.is_some_and(|usec| usec > 50_000), "{:?}", report.kernel);
        assert!(host.task_log().contains("all is done"));
        assert!(fs::read_dir(host.state().join("attempts")).expect("attempts").next().is_none(), "the record is gone");
        if let Some(cgroup) = &host.cgroup {
            assert!(cgroup.join("runner").exists() && !cgroup.join("task-1").exists());
        }
    });
}

#[test]
fn the_environment_is_the_agents_own() {
    let mut host = Host::new(Kind::Subreaper);
    let mut work = host.shell("env; echo; pwd; cat");
    work.profile.environment.insert("EXTRA".to_owned(), "two words".to_owned());
    let report = host.report(work);
    let has = |line: &str| report.text.lines().any(|l| l == line);
    for line in ["CLAUDED_INSTANCE=test-1", "CLAUDED_TASK=1", "CLAUDED_ATTEMPT=1.1", "TERM=dumb", "EXTRA=two words", "the prompt"] {
        assert!(has(line), "{line} is missing in {}", report.text);
    }
    assert!(has(&format!("TMPDIR={}", host.state().join("tmp").display())) && has(&host.directory().display().to_string()));
    assert!(!report.text.contains("PRIVATE_TO_THE_RUNNER") && !report.text.contains("CLAUDED_LINK"), "{}", report.text);
}

#[test]
fn failures_that_the_agent_tells() {
    for (prompt, reason, transient) in [
        ("fail auth", Reason::Auth, false),
        ("fail server", Reason::AgentError, true),
        ("fail refusal", Reason::AgentError, false),
        ("say x\nnoresult", Reason::AgentError, false),
        ("exit 3", Reason::AgentError, false),
        ("crash", Reason::Lost, true),
    ] {
        let mut host = Host::new(Kind::Subreaper);
        let report = host.report(host.scripted(prompt));
        assert_eq!(report.ended, Ended::Failed { reason, transient }, "{prompt}: {report:?}");
        assert!(!report.detail.is_empty(), "{prompt}");
    }
}

#[test]
fn a_usage_limit_waits() {
    let mut host = Host::new(Kind::Subreaper);
    let report = host.report(host.scripted("fail limit 1795252704"));
    assert!(matches!(report.ended, Ended::Limited { until: Some(t) } if t.as_second() == 1_795_252_704), "{report:?}");
}

#[test]
fn turns_and_money_are_bounded() {
    let mut host = Host::new(Kind::Subreaper);
    let mut work = host.scripted("turns 2\nturns 2\nturns 2\nsay x");
    work.max_turns = Some(3);
    assert_eq!(host.report(work).ended.reason(), Some(Reason::AgentError));

    let mut host = Host::new(Kind::Subreaper);
    let mut work = host.scripted("cost 0.4\nsay x\nhang");
    work.budget = Some(Usd(100_000));
    assert_eq!(host.report(work).ended.reason(), Some(Reason::Budget));
}

#[test]
fn a_command_is_judged_by_its_exit_status() {
    both(|kind| {
        let mut host = Host::new(kind);
        let mut daemon = host.connect();
        daemon.run(host.shell("cat; echo done"));
        let report = daemon.finished();
        assert_eq!((&report.ended, report.text.as_str()), (&Ended::Succeeded, "the promptdone"));
        let mut again = host.shell("echo >&2 no luck; exit 7");
        again.attempt = attempt(2, 1);
        daemon.run(again);
        let report = daemon.finished();
        assert_eq!((report.ended.reason(), report.detail.as_str()), (Some(Reason::AgentError), "it exited with status 7: no luck"));
        assert!(host.task_log().contains(r#"{"stream":"stderr","text":"no luck"}"#));
    });
}

#[test]
fn programs_that_do_not_start_are_named() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    let file = host.directory().join("plain");
    fs::write(&file, "x").expect("write");
    for (n, command) in [(1, "/nonexistent/claude"), (2, "no-such-claude"), (3, &*file.to_string_lossy())] {
        let mut work = host.work(host.profile(AgentKind::Claude, &[command]), "x");
        work.attempt = attempt(n, 1);
        daemon.run(work);
        let report = daemon.finished();
        assert!(report.ended.reason() == Some(Reason::Spawn) && report.detail.contains(command), "{report:?}");
    }
    let mut work = host.work(host.profile(AgentKind::Command, &[]), "x");
    work.attempt = attempt(4, 1);
    daemon.run(work);
    let report = daemon.finished();
    assert!(report.ended.reason() == Some(Reason::Spawn) && report.detail.contains("empty command"), "{report:?}");
}

#[test]
fn a_session_goes_on_and_is_charged_once() {
    let mut host = Host::new(Kind::Subreaper);
    let mut daemon = host.connect();
    let prompt = "say one\ncost 0.25\nexit 1\nsay two";
    daemon.run(host.scripted(prompt));
    let first = daemon.finished();
    assert_eq!(first.ended.reason(), Some(Reason::AgentError));
    let mut work = host.scripted(prompt);
    (work.attempt, work.resume) = (attempt(1, 2), first.session);
    daemon.run(work);
    let second = daemon.finished();
    assert_eq!((&second.ended, second.session, second.text.as_str()), (&Ended::Succeeded, first.session, "two"));
    assert!(host.task_log().contains("resuming after 3 directives"));
    assert_eq!(second.agent.cost, Usd(12_120), "the first attempt's money is not charged again");

    let mut work = host.scripted("say three");
    (work.attempt, work.resume) = (attempt(2, 1), Some(clauded::core::ids::SessionId(uuid::Uuid::new_v4())));
    let unknown = work.resume;
    daemon.run(work);
    let third = daemon.finished();
    assert!(third.ended == Ended::Succeeded && third.session.is_some() && third.session != unknown, "{third:?}");
}
