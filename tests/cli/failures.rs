//! Failures that the server answers, as the CLI tells them and the runner sorts them.

use crate::reply::Reply;
use crate::stage::{ANSWER, Stage};
use clauded::core::attempt::{Ended, Reason};
use clauded::core::usage::Usd;
use std::time::Duration;

fn failed(reason: Reason, transient: bool) -> Ended {
    Ended::Failed { reason, transient }
}

#[test]
fn a_wrong_key_is_a_matter_of_login() {
    let Some(mut stage) = Stage::new(vec![Reply::unauthorized(), Reply::unauthorized()]) else { return };
    let report = stage.host.report(stage.work("hello"));
    assert_eq!(report.ended, failed(Reason::Auth, false), "{report:?}");
    assert!(!report.detail.is_empty() && report.agent.cost == Usd(0), "{report:?}");
}

#[test]
fn no_key_at_all_is_a_matter_of_login() {
    let Some(mut stage) = Stage::new(Vec::new()) else { return };
    stage.host.environment.retain(|(key, _)| *key != "CREDENTIALS_DIRECTORY");
    let report = stage.host.report(stage.work("hello"));
    assert_eq!(report.ended, failed(Reason::Auth, false), "{report:?}");
    assert!(report.detail.contains("/login"), "{report:?}");
    assert!(stage.api.asked().is_empty());
}

#[test]
fn an_empty_account_is_a_matter_of_login() {
    let refusal = Reply::error(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.");
    let Some(mut stage) = Stage::new(vec![refusal]) else { return };
    let report = stage.host.report(stage.work("hello"));
    assert_eq!(report.ended, failed(Reason::Auth, false), "{report:?}");
}

#[test]
fn what_passes_by_itself_is_tried_again_later() {
    for replies in [vec![Reply::too_fast(0); 2], vec![Reply::overloaded(); 4], vec![Reply::error(500, "api_error", "Internal server error"); 2]] {
        let name = format!("{:?}", replies[0]);
        let Some(mut stage) = Stage::new(replies) else { return };
        let report = stage.host.report(stage.work("hello"));
        assert_eq!(report.ended, failed(Reason::AgentError, true), "{name}: {report:?}");
    }
}

#[test]
fn what_does_not_pass_is_final() {
    let Some(mut stage) = Stage::new(vec![Reply::error(404, "not_found_error", "model: claude-opus-5-5"); 2]) else { return };
    let report = stage.host.report(stage.work("hello"));
    assert_eq!(report.ended, failed(Reason::AgentError, false), "{report:?}");
}

#[test]
fn waiting_for_the_server_shows_as_throttled() {
    let Some(mut stage) = Stage::new(vec![Reply::too_fast(2), Reply::Text("at last")]) else { return };
    let mut daemon = stage.host.connect();
    daemon.run(stage.work("hello"));
    let progress = daemon.progress(|p| p.throttled);
    assert_eq!(progress.doing, "throttled (429)");
    let progress = daemon.progress(|p| !p.throttled);
    assert_ne!(progress.doing, "throttled (429)");
    let report = daemon.finished();
    assert_eq!((&report.ended, report.agent.cost), (&Ended::Succeeded, Usd(ANSWER)), "{report:?}");
}

#[test]
fn a_server_that_never_answers_is_our_watchdogs() {
    let Some(mut stage) = Stage::new(vec![Reply::Never, Reply::Text("there you are")]) else { return };
    let mut work = stage.work("hello");
    // Long enough for it to come to its question on a slow machine.
    work.profile.stall_timeout = Duration::from_secs(10);
    let mut daemon = stage.host.connect();
    daemon.run(work);
    let report = daemon.finished();
    assert_eq!(report.ended, failed(Reason::Stalled, true), "{report:?}");
    let mut again = stage.work("hello");
    (again.attempt, again.resume) = (crate::harness::attempt(1, 2), report.session);
    daemon.run(again);
    let second = daemon.finished();
    assert_eq!((&second.ended, second.session), (&Ended::Succeeded, report.session), "{second:?}");
}
