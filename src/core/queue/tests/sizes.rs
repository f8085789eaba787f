//! Tasks that run out of memory.

use super::rules::{attempt, hello, invocation, report, runs, saved, task};
use super::{at, name};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::pool::Rules;
use crate::core::queue::{Change, Effect, Queue, Stored};
use crate::core::size::{Bounds, Outcome, Raise};
use crate::core::task::{Task, TaskState};

const GIGA: u64 = 1 << 30;
const OOM: Ended = Ended::Failed { reason: Reason::Oom, transient: false };
const PENDING: TaskState = TaskState::Pending { not_before: None };

fn rules() -> Rules {
    Rules { size_classes: vec![2 * GIGA, 4 * GIGA], ..Rules::default() }
}

fn queue(tasks: impl IntoIterator<Item = Task>, raises: Vec<Raise>) -> Queue {
    let raises = raises.into_iter().map(|raise| (name("a"), raise)).collect();
    Queue::load(Stored { tasks: tasks.into_iter().collect(), raises, ..Stored::default() }, rules())
}

fn within(max: u64, around: u64) -> Option<Bounds> {
    Some(Bounds { max: Some(max), high: None, around: vec![("the-team.slice".to_owned(), around)] })
}

/// Task 1 runs on `a`.
fn running(tasks: i64, bounds: Option<Bounds>) -> Queue {
    let mut queue = queue((1..=tasks).map(|id| task(id, "")), Vec::new());
    queue.linked(hello("a", 1, None), at(0));
    queue.started(&name("a"), &invocation(1), attempt(1, 1));
    queue.memory_bounds(&name("a"), bounds);
    queue
}

fn finished(queue: &mut Queue, task: i64, number: u32, ended: Ended) -> Vec<Effect> {
    queue.finished(&name("a"), "account", attempt(task, number), &report(ended, 0), at(0))
}

/// What is to be set, as `FROM>TO` or `FROM<TO` in gigabytes.
fn sets(effects: &[Effect]) -> Vec<String> {
    let set = |effect: &Effect| match effect {
        Effect::Limit { raise, back, .. } => Some(format!("{}{}{}", raise.max / GIGA, if *back { "<" } else { ">" }, raise.memory / GIGA)),
        _ => None,
    };
    effects.iter().filter_map(set).collect()
}

/// What the store is told of raised limits.
fn raises(effects: &[Effect]) -> Vec<Option<Raise>> {
    effects.iter().filter_map(|effect| if let Effect::Save(Change::Raise(_, raise)) = effect { Some(raise.clone()) } else { None }).collect()
}

fn told(effects: &[Effect]) -> Vec<&str> {
    effects.iter().filter_map(|effect| if let Effect::Tell { kind, .. } = effect { Some(*kind) } else { None }).collect()
}

fn detail(effects: &[Effect]) -> String {
    let detail = |effect: &Effect| if let Effect::Save(Change::Report(_, _, report)) = effect { Some(Report::clone(report).detail) } else { None };
    effects.iter().find_map(detail).expect("a report")
}

#[test]
fn what_ran_out_of_memory_is_tried_once_more_with_the_next_class() {
    for reason in [Reason::Oom, Reason::MemoryPressure] {
        let mut queue = running(2, within(GIGA, 8 * GIGA));
        let effects = finished(&mut queue, 1, 1, Ended::Failed { reason, transient: false });
        assert!(detail(&effects).ends_with("; tried again with 2G"), "{}", detail(&effects));
        let raise = Raise { attempt: attempt(1, 2), memory: 2 * GIGA, max: GIGA, high: None };
        assert_eq!((raises(&effects), sets(&effects), runs(&effects)), (vec![Some(raise)], vec!["1>2".to_owned()], vec![]), "it begins when it has it");
        let effects = queue.limited(&name("a"), attempt(1, 2), false, &Outcome::Done, at(0));
        assert_eq!((runs(&effects), told(&effects)), (vec!["1.2@a+".to_owned()], vec!["limits-raised"]));
        queue.memory_bounds(&name("a"), within(2 * GIGA, 8 * GIGA));
        let effects = finished(&mut queue, 1, 2, Ended::Failed { reason, transient: false });
        assert_eq!(saved(&effects, 1), Some(TaskState::Failed(reason)), "once");
        assert!(detail(&effects).ends_with("not tried again with more memory: it has been tried with 2G already"));
        assert_eq!((sets(&effects), runs(&effects)), (vec!["1<2".to_owned()], vec!["2.1@a".to_owned()]), "the next one does not wait for that");
        let effects = queue.limited(&name("a"), attempt(1, 2), true, &Outcome::Done, at(0));
        assert_eq!((raises(&effects), told(&effects)), (vec![None], vec!["limits-restored"]));
        assert_eq!(queue.limits(), []);
    }
}

#[test]
fn without_a_class_that_fits_it_fails_and_says_why() {
    let why = |bounds, rules: Rules| {
        let mut queue = running(1, bounds);
        queue.configure(rules, at(0));
        let effects = finished(&mut queue, 1, 1, OOM);
        assert_eq!(saved(&effects, 1), Some(TaskState::Failed(Reason::Oom)));
        detail(&effects)
    };
    let no = "; not tried again with more memory: ";
    assert_eq!(why(within(2 * GIGA, 3 * GIGA), rules()), format!("{no}the next size class is 4G, and the-team.slice has 3G for all that is in it"));
    assert_eq!(why(within(4 * GIGA, 8 * GIGA), rules()), format!("{no}no size class is above its limit of 4G"));
    assert_eq!(why(within(2 * GIGA, 8 * GIGA), Rules::default()), "", "no classes are configured");
}

#[test]
fn no_other_failure_a_cancelled_task_or_a_spent_budget_gets_more_memory() {
    let mut queue = running(1, within(GIGA, 8 * GIGA));
    assert_eq!(saved(&finished(&mut queue, 1, 1, Ended::Failed { reason: Reason::Timeout, transient: false }), 1), Some(TaskState::Failed(Reason::Timeout)));
    let mut queue = running(1, within(GIGA, 8 * GIGA));
    queue.cancel(attempt(1, 1).task, at(0));
    assert_eq!(saved(&finished(&mut queue, 1, 1, OOM), 1), Some(TaskState::Cancelled));
    let mut queue = self::queue([Task { budget: Some(crate::core::usage::Usd(5)), ..task(1, "") }], Vec::new());
    queue.linked(hello("a", 1, None), at(0));
    queue.memory_bounds(&name("a"), within(GIGA, 8 * GIGA));
    let effects = queue.finished(&name("a"), "account", attempt(1, 1), &report(OOM, 5), at(0));
    assert_eq!(saved(&effects, 1), Some(TaskState::Failed(Reason::Oom)));
}

#[test]
fn a_limit_that_cannot_be_raised_ends_the_task_and_frees_the_instance() {
    let mut queue = running(2, within(GIGA, 8 * GIGA));
    finished(&mut queue, 1, 1, OOM);
    let effects = queue.limited(&name("a"), attempt(1, 2), false, &Outcome::Failed("no controller".to_owned()), at(0));
    assert_eq!(saved(&effects, 1), Some(TaskState::Failed(Reason::Oom)));
    assert!(detail(&effects).contains("could not be raised to 2G: no controller"), "{}", detail(&effects));
    assert_eq!((sets(&effects), runs(&effects)), (vec!["1<2".to_owned()], vec!["2.1@a".to_owned()]));
    let effects = queue.limited(&name("a"), attempt(1, 2), true, &Outcome::Failed("no controller".to_owned()), at(0));
    assert_eq!((raises(&effects), told(&effects)), (vec![None], vec!["limits-stuck"]));
}

#[test]
fn a_task_that_is_cancelled_before_its_limit_is_raised_never_begins() {
    let mut queue = running(2, within(GIGA, 8 * GIGA));
    finished(&mut queue, 1, 1, OOM);
    let (found, effects) = queue.cancel(attempt(1, 2).task, at(0));
    assert_eq!((found, saved(&effects, 1), runs(&effects)), (true, Some(TaskState::Cancelled), vec!["2.1@a".to_owned()]));
    assert_eq!(sets(&effects), ["1<2"]);
    assert_eq!(queue.limited(&name("a"), attempt(1, 2), false, &Outcome::Done, at(0)), [], "too late");
}

#[test]
fn a_new_daemon_raises_it_again_or_sets_it_back() {
    let raise = Raise { attempt: attempt(1, 2), memory: 2 * GIGA, max: GIGA, high: Some(GIGA / 2) };
    let placement = crate::core::task::Placement { attempt: attempt(1, 2), instance: name("a"), invocation: invocation(1) };
    let assigned = Task { attempts: 2, memory: Some(2 * GIGA), home: Some(name("a")), state: TaskState::Assigned(placement.clone()), ..task(1, "") };
    let mut again = queue([assigned.clone()], vec![raise.clone()]);
    assert_eq!(sets(&again.limits()), ["1>2"]);
    assert_eq!(sets(&again.linked(hello("a", 1, None), at(0))), ["1>2"], "it begins when it has it, now as well");
    assert_eq!(runs(&again.limited(&name("a"), attempt(1, 2), false, &Outcome::Done, at(0))), ["1.2@a+"]);
    assert_eq!(runs(&again.linked(hello("a", 1, None), at(0))), ["1.2@a+"], "that was lost on its way");
    let mut runs_on = queue([Task { state: TaskState::Running(placement), ..assigned.clone() }], vec![raise.clone()]);
    assert_eq!(sets(&runs_on.limits()), ["1>2"]);
    assert_eq!(runs_on.limited(&name("a"), attempt(1, 2), false, &Outcome::Done, at(0)), [], "it was told before");
    // Or the runner has it, and its agent does not run yet.
    let mut prepares = queue([assigned.clone()], vec![raise.clone()]);
    assert_eq!(prepares.linked(hello("a", 1, Some(attempt(1, 2))), at(0)), []);
    assert_eq!(prepares.limited(&name("a"), attempt(1, 2), false, &Outcome::Done, at(0)), []);
    // Until it is connected nobody knows that.
    let mut unknown = queue([assigned.clone()], vec![raise.clone()]);
    assert_eq!(unknown.limited(&name("a"), attempt(1, 2), false, &Outcome::Failed("no bus".to_owned()), at(0)), []);
    let (_, effects) = unknown.cancel(attempt(1, 2).task, at(0));
    assert!(matches!(saved(&effects, 1), Some(TaskState::Assigned(_))), "{effects:?}");
    assert_eq!(saved(&unknown.linked(hello("a", 1, None), at(0)), 1), Some(TaskState::Cancelled));
    // What has begun is not called off as if its runner had not been told of it.
    for mut begun in [runs_on, prepares] {
        begun.linked(hello("a", 1, Some(attempt(1, 2))), at(0));
        assert_eq!(begun.limited(&name("a"), attempt(1, 2), false, &Outcome::Failed("no bus".to_owned()), at(0)), []);
        let (_, effects) = begun.cancel(attempt(1, 2).task, at(0));
        assert!(effects.contains(&Effect::End { instance: name("a"), attempt: attempt(1, 2) }), "{effects:?}");
        assert_eq!(saved(&finished(&mut begun, 1, 2, Ended::Cancelled), 1), Some(TaskState::Cancelled));
    }
    for over in [Task { state: PENDING, ..assigned.clone() }, Task { attempts: 1, ..task(2, "b") }] {
        assert_eq!(sets(&queue([over], vec![raise.clone()]).limits()), ["1<2"]);
    }
}

#[test]
fn an_instance_whose_limit_has_not_been_seen_waits_for_that() {
    let waiting = Task { attempts: 1, memory: Some(2 * GIGA), home: Some(name("a")), ..task(1, "") };
    let mut queue = queue([waiting], Vec::new());
    assert_eq!(runs(&queue.linked(hello("a", 1, None), at(0))), [""; 0]);
    assert_eq!(queue.wants_bounds(), [name("a")].into());
    let wait = queue.why(queue.task(attempt(1, 1).task).expect("there"), at(0)).expect("it waits");
    assert_eq!(wait.to_string(), "waits for memory: it needs more than the limit of a, which has not been seen yet");
    // Somebody has given the instance enough meanwhile.
    queue.memory_bounds(&name("a"), within(3 * GIGA, 8 * GIGA));
    assert_eq!(runs(&queue.look_again(at(0))), ["1.2@a+"]);
}

#[test]
fn a_second_raise_before_the_first_is_set_back_keeps_the_instances_own_limit() {
    let mut queue = running(2, within(GIGA, 8 * GIGA));
    finished(&mut queue, 1, 1, OOM);
    queue.limited(&name("a"), attempt(1, 2), false, &Outcome::Done, at(0));
    // The kernel has the raised limit while the second task runs.
    queue.memory_bounds(&name("a"), within(2 * GIGA, 8 * GIGA));
    finished(&mut queue, 1, 2, Ended::Succeeded);
    queue.memory_bounds(&name("a"), within(2 * GIGA, 8 * GIGA));
    let effects = finished(&mut queue, 2, 1, OOM);
    assert_eq!(sets(&effects), ["1>4"], "what it gets back is what it had at first");
    assert_eq!(queue.limited(&name("a"), attempt(1, 2), true, &Outcome::Done, at(0)), [], "that was overtaken");
}

#[test]
fn a_persons_retry_begins_with_the_instances_own_limit() {
    let mut queue = running(1, within(GIGA, 8 * GIGA));
    finished(&mut queue, 1, 1, OOM);
    queue.limited(&name("a"), attempt(1, 2), false, &Outcome::Done, at(0));
    finished(&mut queue, 1, 2, OOM);
    queue.limited(&name("a"), attempt(1, 2), true, &Outcome::Done, at(0));
    let failed = Task { attempts: 2, memory: Some(2 * GIGA), home: Some(name("a")), state: TaskState::Failed(Reason::Oom), ..task(1, "") };
    let effects = queue.retry(failed, at(0));
    assert_eq!((sets(&effects), runs(&effects)), (vec![], vec!["1.3@a+".to_owned()]));
}
