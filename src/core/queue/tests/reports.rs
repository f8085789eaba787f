//! Reports that come twice, late, or from somebody else.

use super::rules::{LOST, PENDING, attempt, hello, invocation, report, running, runs, saved, task};
use super::{at, loaded, name};
use crate::core::attempt::Ended;
use crate::core::ids::TaskId;
use crate::core::queue::{Change, Effect, Queue};
use crate::core::task::TaskState;
use crate::core::usage::Usd;

/// Where a task stands, and what it has cost.
fn stands(queue: &Queue, id: i64) -> (TaskState, Usd) {
    queue.task(TaskId(id)).map(|task| (task.state.clone(), task.cost)).expect("a task")
}

#[test]
fn an_instance_reports_on_its_own_attempts_alone() {
    for number in [0, 1] {
        let mut queue = loaded([task(9, "b")], []);
        let effects = queue.finished(&name("a"), "account", attempt(9, number), &report(Ended::Succeeded, 5), at(0));
        assert_eq!((saved(&effects, 9), stands(&queue, 9)), (None, (PENDING, Usd(0))), "it has not begun");
        let mut queue = running(1);
        let before = stands(&queue, 1);
        let effects = queue.finished(&name("b"), "account", attempt(1, number), &report(Ended::Succeeded, 5), at(0));
        assert_eq!((saved(&effects, 1), stands(&queue, 1)), (None, before), "it runs on a");
        queue.invocation_over(&name("a"), &invocation(1), false, "", at(0));
        let before = stands(&queue, 1);
        let effects = queue.finished(&name("b"), "account", attempt(1, number), &report(Ended::Succeeded, 5), at(0));
        assert_eq!((saved(&effects, 1), stands(&queue, 1)), (None, before), "it ran on a");
    }
}

/// How often the end of attempt 1.1 was counted, and how often what it used.
fn counted(effects: &[Effect]) -> (usize, usize) {
    let one = attempt(1, 1);
    let ended = effects.iter().filter(|effect| matches!(effect, Effect::Ended { attempt, .. } if *attempt == one));
    (ended.count(), effects.iter().filter(|effect| matches!(effect, Effect::Used { attempt, .. } if *attempt == one)).count())
}

#[test]
fn what_an_attempt_used_is_counted_when_its_runner_says_it_and_once() {
    let mut queue = running(1);
    assert_eq!(counted(&queue.finished(&name("a"), "account", attempt(1, 1), &report(LOST, 5), at(0))), (1, 1));
    assert_eq!(counted(&queue.finished(&name("a"), "account", attempt(1, 1), &report(LOST, 5), at(0))), (0, 0), "sent again");
    for (ended, after) in [(LOST, (0, 1)), (Ended::Succeeded, (1, 1))] {
        let mut queue = running(1);
        assert_eq!(counted(&queue.invocation_over(&name("a"), &invocation(1), false, "", at(0))), (1, 0), "nobody knows what it used");
        assert_eq!(counted(&queue.finished(&name("a"), "account", attempt(1, 1), &report(ended.clone(), 5), at(0))), after);
        assert_eq!(counted(&queue.finished(&name("a"), "account", attempt(1, 1), &report(ended, 5), at(0))), (0, 0));
    }
}

#[test]
fn a_late_success_counts_as_long_as_nothing_else_has_begun() {
    let mut queue = running(1);
    queue.invocation_over(&name("a"), &invocation(1), false, "", at(0));
    assert_eq!(saved(&queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Succeeded, 0), at(0)), 1), Some(TaskState::Succeeded));
    let mut queue = running(1);
    queue.invocation_over(&name("a"), &invocation(1), true, "", at(0));
    assert_eq!(runs(&queue.linked(hello("a", 2, None), at(0))), ["1.2@a+"]);
    let effects = queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Succeeded, 0), at(0));
    assert_eq!(saved(&effects, 1), None, "nothing has moved: the audit would say that it was assigned twice");
    assert!(matches!(stands(&queue, 1).0, TaskState::Assigned(_)));
}

#[test]
fn a_success_that_another_attempt_has_followed_comes_too_late() {
    let mut queue = running(1);
    queue.invocation_over(&name("a"), &invocation(1), true, "", at(0));
    queue.linked(hello("a", 2, None), at(0));
    queue.finished(&name("a"), "account", attempt(1, 2), &report(LOST, 0), at(0));
    queue.finished(&name("a"), "account", attempt(1, 1), &report(Ended::Succeeded, 0), at(0));
    assert!(matches!(stands(&queue, 1).0, TaskState::Pending { .. }), "the second one may have changed the work");
}

#[test]
fn an_old_report_does_not_free_an_instance_that_is_busy_with_something_else() {
    let mut queue = running(2);
    assert_eq!(runs(&queue.finished(&name("a"), "account", attempt(9, 1), &report(Ended::Succeeded, 0), at(0))), [""; 0]);
    assert_eq!(queue.busy(&name("a")), Some(attempt(1, 1)));
}

#[test]
fn a_report_costs_once_however_often_and_late_it_comes() {
    let cost = |queue: &Queue| queue.task(TaskId(1)).map(|task| task.cost);
    let mut queue = running(1);
    for _ in 0..3 {
        queue.finished(&name("a"), "account", attempt(1, 1), &report(LOST, 5), at(0));
        assert_eq!(cost(&queue), Some(Usd(5)), "sent again because the acknowledgement was lost");
    }
    let mut queue = running(1);
    queue.invocation_over(&name("a"), &invocation(1), false, "", at(0));
    for _ in 0..3 {
        queue.finished(&name("a"), "account", attempt(1, 1), &report(LOST, 5), at(0));
        assert_eq!(cost(&queue), Some(Usd(5)), "the runner's word came after systemd's");
    }
}

#[test]
fn a_report_on_a_task_that_has_ended_is_kept() {
    let mut queue = Queue::default();
    let late = report(Ended::Succeeded, 1);
    assert_eq!(queue.finished(&name("a"), "account", attempt(1, 1), &late, at(0)), [Effect::Save(Change::Report(attempt(1, 1), name("a"), Box::new(late)))]);
}
