//! Bounds on turns, money and the account.

use crate::harness::attempt;
use crate::reply::Reply;
use crate::stage::{ANSWER, KEY, Stage};
use clauded::core::attempt::{Ended, Reason};
use clauded::core::usage::Usd;

#[test]
fn turns_are_bounded() {
    let Some(mut stage) = Stage::new(vec![Reply::bash("true"), Reply::bash("true"), Reply::Text("never said")]) else { return };
    let mut work = stage.work("work");
    work.max_turns = Some(2);
    let report = stage.host.report(work);
    assert_eq!(report.ended, Ended::Failed { reason: Reason::AgentError, transient: false }, "{report:?}");
    assert!(report.detail.contains("turns"), "{report:?}");
    assert_eq!(report.agent.cost, Usd(2 * ANSWER));
}

#[test]
fn money_is_bounded() {
    let Some(mut stage) = Stage::new(vec![Reply::bash("true"), Reply::bash("true"), Reply::Text("never said")]) else { return };
    let mut work = stage.work("work");
    work.budget = Some(Usd(ANSWER + ANSWER / 2));
    let report = stage.host.report(work);
    assert_eq!(report.ended.reason(), Some(Reason::Budget), "{report:?}");
    assert_eq!(report.agent.cost, Usd(2 * ANSWER), "it stops after the turn that passes the budget");
}

#[test]
fn what_was_spent_before_does_not_count_against_what_is_left() {
    let Some(mut stage) = Stage::new(vec![Reply::bash("true"), Reply::bash("true"), Reply::Text("one")]) else { return };
    stage.api.then(vec![Reply::bash("true"), Reply::Text("two")]);
    let mut daemon = stage.host.connect();
    daemon.run(stage.work("work"));
    let first = daemon.finished();
    assert_eq!((&first.ended, first.agent.cost), (&Ended::Succeeded, Usd(3 * ANSWER)), "{first:?}");
    let mut work = stage.work("and more");
    (work.attempt, work.resume, work.budget) = (attempt(1, 2), first.session, Some(Usd(2 * ANSWER + 100)));
    daemon.run(work);
    let second = daemon.finished();
    assert_eq!((&second.ended, second.agent.cost), (&Ended::Succeeded, Usd(2 * ANSWER)), "{second:?}");
}

#[test]
fn a_usage_limit_names_its_reset() {
    let reset = jiff::Timestamp::now().as_second() + 3600;
    let Some(mut stage) = Stage::new(vec![Reply::usage_limit(reset)]) else { return };
    stage.subscribe();
    let report = stage.host.report(stage.work("hello"));
    assert!(matches!(report.ended, Ended::Limited { until: Some(t) } if t.as_second() == reset), "{report:?}");
    let asked = stage.api.asked();
    assert_eq!((asked.len(), asked[0].headers.get("authorization").cloned()), (1, Some(format!("Bearer {KEY}"))));
}
