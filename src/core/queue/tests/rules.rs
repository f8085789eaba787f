//! One test a rule.

use super::loaded;
use super::{at, name};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::delivery::Stage;
use crate::core::ids::{AttemptId, InvocationId, TaskId};
use crate::core::queue::attempts::unseen;
use crate::core::queue::{Change, Effect, Hello, Queue, Wait};
use crate::core::retry;
use crate::core::task::{Placement, Target, Task, TaskState};
use crate::core::usage::Usd;
use std::time::Duration;

pub(super) const PENDING: TaskState = TaskState::Pending { not_before: None };
pub(super) const LOST: Ended = Ended::Failed { reason: Reason::Lost, transient: true };
const WRONG: Ended = Ended::Failed { reason: Reason::AgentError, transient: false };

pub(super) fn invocation(byte: u8) -> InvocationId {
    InvocationId::from_bytes(&[byte; 16]).expect("an invocation")
}

pub(super) fn task(id: i64, target: &str) -> Task {
    let target = if target.is_empty() { Target::Any } else { Target::Instance(name(target)) };
    Task { created: at(0), ..Task::waiting(id, target) }
}

pub(super) fn attempt(task: i64, number: u32) -> AttemptId {
    AttemptId { task: TaskId(task), number }
}

pub(super) fn hello(instance: &str, byte: u8, current: Option<AttemptId>) -> Hello {
    Hello { instance: name(instance), invocation: invocation(byte), account: "account".to_owned(), current }
}

pub(super) fn report(ended: Ended, cost: u64) -> Report {
    let mut report = unseen(ended, "", at(0));
    report.agent.cost = Usd(cost);
    report
}

/// What is to be run, as `TASK.N@INSTANCE`, with `+` where it is resumed.
pub(super) fn runs(effects: &[Effect]) -> Vec<String> {
    let run = |effect: &Effect| match effect {
        Effect::Run { placement, resume } => Some(format!("{}@{}{}", placement.attempt, placement.instance, if *resume { "+" } else { "" })),
        _ => None,
    };
    effects.iter().filter_map(run).collect()
}

pub(super) fn ends(effects: &[Effect]) -> Vec<AttemptId> {
    effects.iter().filter_map(|effect| if let Effect::End { attempt, .. } = effect { Some(*attempt) } else { None }).collect()
}

/// The last state that is saved of a task.
pub(super) fn saved(effects: &[Effect], id: i64) -> Option<TaskState> {
    let state = |effect: &Effect| match effect {
        Effect::Save(Change::Task(task)) if task.id == TaskId(id) => Some(task.state.clone()),
        _ => None,
    };
    effects.iter().rev().find_map(state)
}

/// A queue with tasks for anyone, and `a` connected in its first invocation: it has the first of them.
fn busy(tasks: i64) -> Queue {
    let mut queue = loaded((1..=tasks).map(|id| task(id, "")), []);
    assert_eq!(runs(&queue.linked(hello("a", 1, None), at(0))), ["1.1@a"]);
    queue
}

/// The same, running.
pub(super) fn running(tasks: i64) -> Queue {
    let mut queue = busy(tasks);
    let placement = Placement { attempt: attempt(1, 1), instance: name("a"), invocation: invocation(1) };
    assert_eq!(saved(&queue.started(&name("a"), &invocation(1), attempt(1, 1)), 1), Some(TaskState::Running(placement)));
    queue
}

#[test]
fn the_oldest_task_that_fits_goes_to_an_idle_instance_one_at_a_time() {
    let mut queue = loaded([task(1, "b"), task(2, ""), task(3, "a"), task(4, "")], []);
    assert_eq!(runs(&queue.linked(hello("a", 1, None), at(0))), ["2.1@a"]);
    assert_eq!(runs(&queue.added(task(5, "a"), at(0))), [""; 0]);
    assert_eq!(runs(&queue.finished(&name("a"), "account", attempt(2, 1), &report(Ended::Succeeded, 0), at(0))), ["3.1@a"]);
    assert_eq!(queue.busy(&name("a")), Some(attempt(3, 1)));
    assert_eq!(runs(&queue.linked(hello("b", 2, None), at(0))), ["1.1@b"]);
    assert_eq!(queue.tasks().map(|task| task.id.0).collect::<Vec<_>>(), [1, 3, 4, 5]);
}

#[test]
fn the_assignment_is_saved_with_the_attempt_before_the_run() {
    let mut queue = Queue::default();
    queue.linked(hello("a", 1, None), at(0));
    let effects = queue.added(task(1, ""), at(0));
    let placement = Placement { attempt: attempt(1, 1), instance: name("a"), invocation: invocation(1) };
    let assigned = Task { state: TaskState::Assigned(placement.clone()), attempts: 1, ..task(1, "") };
    let run = Effect::Run { placement: placement.clone(), resume: false };
    assert_eq!(effects, [Effect::Save(Change::Task(Box::new(assigned))), Effect::Save(Change::Attempt(placement)), run]);
}

#[test]
fn a_draining_or_disconnected_instance_is_given_nothing() {
    let mut queue = Queue::default();
    queue.linked(hello("a", 1, None), at(0));
    queue.draining(&name("a"));
    assert_eq!(queue.added(task(1, ""), at(0)), []);
    queue.unlinked(&name("a"), &invocation(9));
    assert!(queue.is_linked(&name("a")), "another invocation's end does not concern it");
    queue.unlinked(&name("a"), &invocation(1));
    assert!(!queue.is_linked(&name("a")));
    assert_eq!(runs(&queue.linked(hello("a", 2, None), at(0))), ["1.1@a"]);
}

#[test]
fn a_start_is_taken_from_the_invocation_that_has_the_attempt_alone() {
    let mut queue = busy(1);
    assert_eq!(queue.started(&name("a"), &invocation(2), attempt(1, 1)), []);
    assert_eq!(queue.started(&name("b"), &invocation(1), attempt(1, 1)), []);
    assert_eq!(queue.started(&name("a"), &invocation(1), attempt(1, 2)), []);
    assert_eq!(queue.started(&name("a"), &invocation(1), attempt(1, 1)).len(), 1);
    assert_eq!(queue.started(&name("a"), &invocation(1), attempt(1, 1)), [], "once");
    assert_eq!(queue.task(TaskId(1)).and_then(|task| task.home.clone()), Some(name("a")));
}

#[test]
fn an_assignment_that_did_not_arrive_is_sent_again() {
    let mut queue = busy(1);
    queue.unlinked(&name("a"), &invocation(1));
    assert_eq!(runs(&queue.linked(hello("a", 1, None), at(9))), ["1.1@a"]);
    queue.unlinked(&name("a"), &invocation(1));
    let effects = queue.linked(hello("a", 1, Some(attempt(1, 1))), at(9));
    assert_eq!(effects, [], "it did arrive; its agent may not run yet, and the runner tells of that");
    let effects = queue.started(&name("a"), &invocation(1), attempt(1, 1));
    assert!(matches!(saved(&effects, 1), Some(TaskState::Running(_))));
}

#[test]
fn what_the_runner_has_forgotten_is_lost() {
    let mut queue = running(1);
    queue.unlinked(&name("a"), &invocation(1));
    let effects = queue.linked(hello("a", 1, None), at(9));
    assert!(matches!(saved(&effects, 1), Some(TaskState::Pending { not_before: Some(then) }) if then > at(13)), "{effects:?}");
}

#[test]
fn a_new_invocation_means_that_the_old_one_is_over() {
    let mut queue = running(2);
    queue.unlinked(&name("a"), &invocation(1));
    let effects = queue.linked(hello("a", 2, None), at(9));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Save(Change::Report(id, _, report)) if *id == attempt(1, 1) && report.ended == LOST)));
    assert_eq!(runs(&effects), ["2.1@a"], "the first one waits for its back-off");
    // The back-off is over, but only its home may take it.
    queue.linked(hello("b", 3, None), at(9));
    assert_eq!(runs(&queue.tick(at(60))), [""; 0]);
    assert_eq!(runs(&queue.finished(&name("a"), "account", attempt(2, 1), &report(Ended::Succeeded, 0), at(60))), ["1.2@a+"]);
}

#[test]
fn an_orderly_stop_is_no_failure_and_a_crash_is_one() {
    for (orderly, failures) in [(true, 0), (false, 1)] {
        let mut queue = running(1);
        queue.invocation_over(&name("a"), &invocation(2), orderly, "", at(1));
        assert!(queue.is_linked(&name("a")), "another invocation");
        queue.invocation_over(&name("a"), &invocation(1), orderly, "", at(1));
        let after = queue.task(TaskId(1)).expect("live");
        assert_eq!((after.failures, after.state == PENDING), (failures, orderly));
    }
}

#[test]
fn a_runner_that_runs_what_nobody_waits_for_is_told_to_end_it_first() {
    let mut queue = loaded([task(1, "")], []);
    let effects = queue.linked(hello("a", 1, Some(attempt(7, 1))), at(0));
    assert_eq!((ends(&effects), runs(&effects).len()), (vec![attempt(7, 1)], 0));
    assert_eq!(runs(&queue.finished(&name("a"), "account", attempt(7, 1), &report(Ended::Cancelled, 0), at(0))), ["1.1@a"]);
}

#[test]
fn cancelling_waits_for_the_runner_where_there_is_one() {
    let mut queue = running(2);
    let (accepted, effects) = queue.cancel(TaskId(2), at(0));
    assert_eq!((accepted, saved(&effects, 2)), (true, Some(TaskState::Cancelled)));
    let (accepted, effects) = queue.cancel(TaskId(1), at(0));
    assert_eq!((accepted, ends(&effects)), (true, vec![attempt(1, 1)]));
    assert!(matches!(saved(&effects, 1), Some(TaskState::Running(_))));
    queue.unlinked(&name("a"), &invocation(1));
    assert_eq!(ends(&queue.cancel(TaskId(1), at(0)).1), []);
    assert_eq!(ends(&queue.linked(hello("a", 1, Some(attempt(1, 1))), at(0))), [attempt(1, 1)], "told again");
    assert_eq!(saved(&queue.finished(&name("a"), "account", attempt(1, 1), &report(LOST, 0), at(0)), 1), Some(TaskState::Cancelled));
    assert_eq!(queue.cancel(TaskId(1), at(0)), (false, Vec::new()));
}

#[test]
fn a_cancelled_assignment_that_did_not_arrive_never_begins() {
    let mut queue = busy(2);
    queue.unlinked(&name("a"), &invocation(1));
    queue.cancel(TaskId(1), at(0));
    let effects = queue.linked(hello("a", 1, None), at(0));
    assert_eq!((saved(&effects, 1), runs(&effects)), (Some(TaskState::Cancelled), vec!["2.1@a".to_owned()]));
}

#[test]
fn a_success_wins_over_a_cancel_that_came_too_late() {
    let mut queue = running(1);
    queue.cancel(TaskId(1), at(0));
    assert_eq!(saved(&queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Succeeded, 0), at(0)), 1), Some(TaskState::Succeeded));
}

#[test]
fn what_would_fail_again_is_final_and_the_rest_is_retried_a_few_times() {
    let mut queue = running(1);
    assert_eq!(saved(&queue.finished(&name("a"), "account", attempt(1, 1), &report(WRONG, 0), at(0)), 1), Some(TaskState::Failed(Reason::AgentError)));
    let mut queue = running(1);
    let mut now = at(0);
    for number in 1..20 {
        match saved(&queue.finished(&name("a"), "account", attempt(1, number), &report(LOST, 0), now), 1) {
            Some(TaskState::Pending { not_before: Some(then) }) => {
                assert_eq!(queue.next_wake(at(0)), Some(then));
                assert_eq!(runs(&queue.tick(then - Duration::from_millis(1))), [""; 0]);
                assert_eq!(runs(&queue.tick(then)), [format!("1.{}@a+", number + 1)]);
                now = then;
            }
            state => {
                assert_eq!((state, number), (Some(TaskState::Failed(Reason::Lost)), 6));
                break;
            }
        }
    }
}

#[test]
fn the_budget_is_for_all_attempts_together() {
    let mut queue = loaded([Task { budget: Some(Usd(10)), ..task(1, "") }], []);
    queue.linked(hello("a", 1, None), at(0));
    queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Interrupted, 6), at(0));
    assert_eq!(saved(&queue.finished(&name("a"), "account", attempt(1, 2), &report(Ended::Interrupted, 4), at(0)), 1), Some(TaskState::Failed(Reason::Budget)));
}

#[test]
fn a_usage_limit_holds_the_task_and_every_instance_of_the_account() {
    let mut queue = running(3);
    let reset = at(5000);
    let effects = queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Limited { until: Some(reset) }, 0), at(0));
    assert_eq!(saved(&effects, 1), Some(TaskState::Pending { not_before: Some(reset) }));
    assert_eq!((runs(&effects).len(), queue.holds().collect::<Vec<_>>()), (0, vec![("account", reset)]));
    assert_eq!(runs(&queue.linked(hello("b", 2, None), at(1))), [""; 0], "the same account");
    assert_eq!(runs(&queue.linked(Hello { account: "other".to_owned(), ..hello("c", 3, None) }, at(1))), ["2.1@c"]);
    assert_eq!((queue.next_wake(at(0)), runs(&queue.tick(at(4999))).len()), (Some(reset), 0));
    assert_eq!(runs(&queue.tick(reset)), ["1.2@a+"], "they come back one by one");
    let next = queue.next_wake(reset).expect("the next one's turn");
    assert!(next >= at(5003) && next <= at(5006), "{next}");
    assert_eq!(runs(&queue.tick(at(5002))), [""; 0]);
    assert_eq!(runs(&queue.tick(next)), ["3.1@b"]);
    assert_eq!(queue.task(TaskId(1)).map(|task| task.failures), Some(0));
}

#[test]
fn a_limit_without_a_time_waits_and_does_not_shorten_one_that_is_known() {
    let known = at(9999);
    let mut queue = loaded([task(1, "a"), task(2, "b")], []);
    queue.linked(hello("a", 1, None), at(0));
    queue.linked(hello("b", 2, None), at(0));
    queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Limited { until: Some(known) }, 0), at(0));
    let effects = queue.finished(&name("b"), "account", attempt(2, 1), &report(Ended::Limited { until: None }, 0), at(0));
    assert_eq!(saved(&effects, 2), Some(TaskState::Pending { not_before: Some(at(0) + retry::LIMIT_UNKNOWN) }));
    assert_eq!(queue.holds().collect::<Vec<_>>(), [("account", known)]);
}

#[test]
fn a_limit_that_was_over_when_the_agent_ended_is_tried_again_soon() {
    let mut queue = running(1);
    let late = Report { finished: at(100), ..report(Ended::Limited { until: Some(at(90)) }, 0) };
    let effects = queue.finished(&name("a"), "account", attempt(1, 1), &late, at(101));
    let soon = at(100) + retry::LIMIT_OVER;
    assert_eq!(saved(&effects, 1), Some(TaskState::Pending { not_before: Some(soon) }));
    assert_eq!(queue.holds().collect::<Vec<_>>(), [("account", soon)]);
}

#[test]
fn a_usage_limit_that_is_reported_before_the_link_holds_the_account_too() {
    let mut queue = loaded(
        [
            Task {
                state: TaskState::Running(Placement { attempt: attempt(1, 1), instance: name("a"), invocation: invocation(1) }),
                attempts: 1,
                ..task(1, "")
            },
            task(2, ""),
        ],
        [],
    );
    let reset = at(5000);
    queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Limited { until: Some(reset) }, 0), at(10));
    assert_eq!(queue.holds().collect::<Vec<_>>(), [("account", reset)]);
    assert_eq!(runs(&queue.linked(hello("a", 1, None), at(11))), [""; 0]);
}

#[test]
fn a_limit_that_has_reset_before_it_was_reported_holds_nothing() {
    let mut queue = running(2);
    let effects = queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Limited { until: Some(at(5)) }, 0), at(10));
    assert_eq!((queue.holds().count(), runs(&effects)), (0, vec!["1.2@a+".to_owned()]));
}

#[test]
fn a_clock_that_is_set_back_does_not_prolong_a_back_off() {
    let (day, limit) = (100_000, at(300_000));
    let mut queue = running(1);
    queue.finished(&name("a"), "account", attempt(1, 1), &report(LOST, 0), at(day));
    assert_eq!(saved(&queue.tick(at(day)), 1), None, "nothing has happened to the clock");
    let latest = at(0) + retry::LONGEST;
    assert_eq!(saved(&queue.tick(at(0)), 1), Some(TaskState::Pending { not_before: Some(latest) }));
    assert_eq!((queue.next_wake(at(0)), runs(&queue.tick(latest))), (Some(latest), vec!["1.2@a+".to_owned()]));
    queue.finished(&name("a"), "account", attempt(1, 2), &report(Ended::Limited { until: Some(limit) }, 0), at(day));
    assert_eq!((queue.tick(at(0)), queue.next_wake(at(0))), (vec![], Some(limit)), "a usage limit is the service's own time");
}

#[test]
fn a_retry_starts_the_count_anew_and_goes_elsewhere_if_its_home_is_away() {
    let ended = Task { state: TaskState::Failed(Reason::Lost), attempts: 6, failures: 5, home: Some(name("gone")), cancelling: true, ..task(1, "") };
    let mut queue = Queue::default();
    queue.linked(hello("a", 1, None), at(0));
    let effects = queue.retry(ended.clone(), at(0));
    assert_eq!(runs(&effects), ["1.7@a"]);
    assert_eq!(queue.task(TaskId(1)).map(|task| (task.failures, task.cancelling)), Some((0, false)));
    assert_eq!(queue.retry(ended, at(0)), [], "it is in the queue already");
}

/// With many tasks, what concerns one instance must not look at all of them. Tasks that the index does not have are put
/// beside those it has: whoever goes through the index cannot see them.
#[test]
fn what_concerns_one_instance_is_found_without_looking_at_all_tasks() {
    let placement = |id| Placement { attempt: attempt(id, 1), instance: name("a"), invocation: invocation(1) };
    let mut queue = running(1);
    for id in 2..100_000 {
        let state = TaskState::Running(placement(id));
        queue.tasks.insert(TaskId(id), Task { state, attempts: 1, ..task(id, "") });
    }
    queue.unlinked(&name("a"), &invocation(1));
    let effects = queue.linked(hello("a", 2, None), at(0));
    assert_eq!(effects.len(), 3, "a report, its end and a state, of one task");
    queue.invocation_over(&name("a"), &invocation(2), false, "", at(0));
    assert_eq!(queue.invocation_over(&name("a"), &invocation(1), false, "", at(0)), []);
}

#[test]
fn a_task_goes_through_its_stages_where_it_is_and_on_nobody_elses_word() {
    let mut queue = running(1);
    let placement = Placement { attempt: attempt(1, 1), instance: name("a"), invocation: invocation(1) };
    let mut enter = |instance: &str, byte, number, stage| saved(&queue.entered(&name(instance), &invocation(byte), attempt(1, number), stage), 1);
    assert_eq!(enter("b", 1, 1, Stage::Verifying), None);
    assert_eq!(enter("a", 2, 1, Stage::Verifying), None);
    assert_eq!(enter("a", 1, 2, Stage::Verifying), None);
    assert_eq!(enter("a", 1, 1, Stage::Running), None, "it runs");
    assert_eq!(enter("a", 1, 1, Stage::Verifying), Some(TaskState::Verifying(placement.clone())));
    assert_eq!(enter("a", 1, 1, Stage::Running), Some(TaskState::Running(placement.clone())), "once more");
    assert_eq!(enter("a", 1, 1, Stage::Publishing), Some(TaskState::Publishing(placement)));
    // Its runner comes back with it, and goes away without.
    queue.unlinked(&name("a"), &invocation(1));
    assert_eq!(saved(&queue.linked(hello("a", 1, Some(attempt(1, 1))), at(1)), 1), None, "it goes on");
    queue.unlinked(&name("a"), &invocation(1));
    let effects = queue.linked(hello("a", 1, None), at(2));
    assert!(matches!(saved(&effects, 1), Some(TaskState::Pending { not_before: Some(_) })), "{effects:?}");
}

#[test]
fn an_instance_that_is_reserved_gets_no_task_until_it_is_not() {
    let mut queue = loaded([task(1, "a")], []);
    assert_eq!(queue.reserve(&name("a"), true, at(0)), []);
    assert_eq!(runs(&queue.linked(hello("a", 1, None), at(0))), [""; 0]);
    assert_eq!(queue.task(TaskId(1)).and_then(|task| queue.why(task, at(0))), Some(Wait::Busy(name("a"))));
    // Two want that, and nothing that was loaded in the place of the queue forgets it.
    queue.reserve(&name("a"), true, at(0));
    assert_eq!(runs(&queue.reserve(&name("a"), false, at(0))), [""; 0]);
    let mut queue = loaded([task(1, "a")], []).in_place_of(&queue);
    assert_eq!(runs(&queue.linked(hello("a", 1, None), at(0))), [""; 0]);
    assert_eq!(runs(&queue.reserve(&name("a"), false, at(0))), ["1.1@a"]);
    assert_eq!((queue.reserve(&name("b"), false, at(0)), queue.is_reserved(&name("b"))), (vec![], false), "nobody has wanted that");
}
