//! Rules, one by one; patterns against brute force; and random schedules against a naive table.

mod globs;
mod model;

use super::*;
use crate::core::ids::AttemptId;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

pub(super) fn agent(name: &str, task: i64) -> Owner {
    Owner::Agent { instance: name.parse().expect("a name"), task: (task > 0).then_some(TaskId(task)) }
}

pub(super) fn scope(text: &str) -> Scope {
    let pattern = if text.contains(['*', '?', '{', '[']) { Pattern::glob(text) } else { Pattern::path(text) };
    Scope { place: "shop".to_owned(), pattern: pattern.expect("a pattern") }
}

pub(super) fn ask(owner: &Owner, text: &str, mode: Mode) -> Request {
    let bond = Bond { attempt: owner.task().map(|_| 1), invocation: None };
    Request { scope: scope(text), mode, owner: owner.clone(), bond, reason: String::new(), ttl: HOUR, priority: 0 }
}

fn take(locks: &mut Locks, owner: &Owner, text: &str) -> Acquired {
    locks.acquire(ask(owner, text, Mode::Exclusive), false, at(0)).0
}

fn wait(locks: &mut Locks, owner: &Owner, text: &str, mode: Mode) -> (WaitId, Vec<Effect>) {
    match locks.acquire(ask(owner, text, mode), true, at(0)) {
        (Acquired::Waits(id), effects) => (id, effects),
        other => panic!("{other:?}"),
    }
}

fn told(effects: &[Effect]) -> Vec<String> {
    let notices = effects.iter().filter_map(|effect| if let Effect::Tell(notice) = effect { Some(notice) } else { None });
    notices.map(|notice| format!("{} {}: {}", notice.kind, notice.owner, notice.message)).collect()
}

fn answers(effects: &[Effect]) -> Vec<(WaitId, Answer)> {
    effects.iter().filter_map(|effect| if let Effect::Answer(id, answer, _) = effect { Some((*id, answer.clone())) } else { None }).collect()
}

#[test]
fn what_one_has_another_does_not_get_and_its_own_is_no_news() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    assert_eq!(take(&mut locks, &a, "src/x.rs"), Acquired::Created(LockId(1)));
    assert_eq!(locks.acquire(ask(&a, "src/x.rs", Mode::Exclusive), false, at(1)), (Acquired::Unchanged(LockId(1)), vec![]));
    assert_eq!(take(&mut locks, &b, "src/*.rs"), Acquired::Blocked(vec![Blocker::Holder(LockId(1))]));
    assert_eq!(take(&mut locks, &b, "src/y.rs"), Acquired::Created(LockId(2)));
    let elsewhere = Request { scope: Scope { place: "other".to_owned(), ..scope("src/x.rs") }, ..ask(&b, "src/x.rs", Mode::Exclusive) };
    assert_eq!(locks.acquire(elsewhere, false, at(0)).0, Acquired::Created(LockId(3)));
}

#[test]
fn a_refusal_is_told_once_however_often_it_is_asked() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    take(&mut locks, &a, "src/**");
    let mut refused = || told(&locks.acquire(ask(&b, "src/x.rs", Mode::Exclusive), false, at(0)).1);
    assert_eq!(refused(), ["lock-refused b (task 2): exclusive lock on src/x.rs in shop refused: a (task 1) holds src/**"]);
    assert_eq!(refused(), [""; 0]);
}

#[test]
fn readers_share_and_who_waits_to_write_is_not_passed() {
    let (mut locks, a, b, c) = (Locks::default(), agent("a", 1), agent("b", 2), agent("c", 3));
    let read = |locks: &mut Locks, owner: &Owner| locks.acquire(ask(owner, "x", Mode::Shared), false, at(0)).0;
    assert_eq!([read(&mut locks, &a), read(&mut locks, &b)], [Acquired::Created(LockId(1)), Acquired::Created(LockId(2))]);
    let (writer, _) = wait(&mut locks, &c, "x", Mode::Exclusive);
    assert_eq!(read(&mut locks, &agent("d", 4)), Acquired::Blocked(vec![Blocker::Before(writer)]));
    assert_eq!(answers(&locks.release(LockId(1), &a, false, at(1)).expect("its own")), []);
    assert_eq!(answers(&locks.release(LockId(2), &b, false, at(1)).expect("its own")), [(writer, Answer::Granted(LockId(3)))]);
}

#[test]
fn two_readers_who_both_want_to_write_are_a_circle_and_the_later_one_is_refused() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    for owner in [&a, &b] {
        locks.acquire(ask(owner, "x", Mode::Shared), false, at(0));
    }
    let (first, effects) = wait(&mut locks, &a, "x", Mode::Exclusive);
    assert_eq!(answers(&effects), []);
    let (second, effects) = wait(&mut locks, &b, "x", Mode::Exclusive);
    assert_eq!(answers(&effects), [(second, Answer::Deadlock(vec![b.clone(), a.clone()]))]);
    let circle = "b (task 2) waits for a (task 1) waits for b (task 2); the wait of b (task 2) for x in shop is refused";
    assert_eq!(told(&effects), [format!("lock-refused b (task 2): {circle}"), format!("lock-deadlock a (task 1): {circle}")]);
    assert_eq!(answers(&locks.release(LockId(2), &b, false, at(1)).expect("its own")), [(first, Answer::Granted(LockId(1)))]);
    assert_eq!(locks.get(LockId(1)).map(|lock| lock.mode), Some(Mode::Exclusive));
}

#[test]
fn in_a_circle_priority_goes_before_age() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    take(&mut locks, &a, "x");
    take(&mut locks, &b, "y");
    let (low, _) = wait(&mut locks, &a, "y", Mode::Exclusive);
    let (_, effects) = locks.acquire(Request { priority: 1, ..ask(&b, "x", Mode::Exclusive) }, true, at(0));
    assert_eq!(answers(&effects), [(low, Answer::Deadlock(vec![a, b]))], "the older one, since it counts less");
}

#[test]
fn who_has_what_those_before_it_wait_for_need_not_wait_for_its_turn() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    take(&mut locks, &a, "src/x");
    wait(&mut locks, &b, "src/**", Mode::Exclusive);
    assert_eq!(take(&mut locks, &agent("c", 3), "src/y"), Acquired::Blocked(vec![Blocker::Before(WaitId(1))]));
    assert_eq!(take(&mut locks, &a, "src/y"), Acquired::Created(LockId(2)), "b waits for it anyway");
}

#[test]
fn an_end_frees_and_an_interruption_keeps() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    let instance = a.instance().expect("one").clone();
    let attempt = |number| AttemptId { task: TaskId(1), number };
    take(&mut locks, &a, "x");
    take(&mut locks, &a, "y");
    let (waiting, _) = wait(&mut locks, &b, "x", Mode::Exclusive);
    assert_eq!(locks.attempt_ended(&instance, attempt(1), true, at(1)), []);
    // The next attempt has taken one of them over.
    let second = Bond { attempt: Some(2), invocation: None };
    locks.acquire(Request { bond: second, ..ask(&a, "y", Mode::Exclusive) }, false, at(2));
    let effects = locks.attempt_ended(&instance, attempt(1), false, at(3));
    assert_eq!(answers(&effects), [(waiting, Answer::Granted(LockId(3)))]);
    assert_eq!(told(&effects)[0], "lock-released a (task 1): the lock on x in shop released: attempt 1 has ended");
    assert_eq!(locks.iter().map(|lock| lock.id.0).collect::<Vec<_>>(), [2, 3]);
    locks.task_ended(TaskId(1), at(4));
    assert_eq!(locks.iter().map(|lock| lock.id.0).collect::<Vec<_>>(), [3]);
}

/// It goes on only when the other one has ended, which may wait for it, at once or in a circle.
#[test]
fn an_interrupted_task_holds_nothing_against_the_next_one_in_its_instance() {
    let (mut locks, first, next, other) = (Locks::default(), agent("a", 1), agent("a", 2), agent("b", 3));
    let instance = first.instance().expect("one").clone();
    take(&mut locks, &first, "x");
    take(&mut locks, &other, "y");
    locks.attempt_ended(&instance, AttemptId { task: TaskId(1), number: 1 }, true, at(1));
    assert_eq!(locks.begun(&instance, TaskId(1), at(2)), [], "it goes on itself");
    let (of_other, _) = wait(&mut locks, &other, "x", Mode::Exclusive);
    let effects = locks.begun(&instance, TaskId(2), at(3));
    assert_eq!(told(&effects)[0], "lock-released a (task 1): the lock on x in shop released: its instance works on another task");
    assert_eq!(answers(&effects), [(of_other, Answer::Granted(LockId(3)))]);
    take(&mut locks, &next, "z");
    assert_eq!(locks.begun(&instance, TaskId(2), at(4)), []);
    assert_eq!(locks.iter().map(|lock| lock.id.0).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn what_a_person_runs_in_an_instance_ends_with_its_unit() {
    let (mut locks, a) = (Locks::default(), agent("a", 0));
    let invocation = |byte| InvocationId::from_bytes(&[byte; 16]).expect("not zero");
    locks.acquire(Request { bond: Bond { attempt: None, invocation: Some(invocation(1)) }, ..ask(&a, "x", Mode::Exclusive) }, false, at(0));
    let instance = a.instance().expect("one").clone();
    assert_eq!(locks.unit_ended(&instance, &invocation(2), at(1)), []);
    assert_eq!(told(&locks.unit_ended(&instance, &invocation(1), at(1))), ["lock-released a: the lock on x in shop released: the instance has ended"]);
}

#[test]
fn time_ends_the_locks_of_the_dead_and_renews_those_of_the_living() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    take(&mut locks, &a, "x");
    take(&mut locks, &b, "y");
    assert_eq!((locks.next_wake(), locks.tick(at(3599), |_| false)), (Some(at(3600)), vec![]));
    let effects = locks.tick(at(3600), |lock| lock.owner == a);
    assert_eq!(told(&effects), ["lock-released b (task 2): exclusive lock 2 on y in shop of b (task 2) ran out after 3600 s"]);
    assert_eq!((locks.get(LockId(1)).map(|lock| lock.expires), locks.next_wake()), (Some(at(7200)), Some(at(7200))));
    // The clock is set back by a year.
    locks.tick(at(-31_000_000), |_| true);
    assert_eq!(locks.next_wake(), Some(at(-31_000_000 + 3600)));
}

#[test]
fn asking_again_renews_when_half_of_the_time_has_gone() {
    let (mut locks, a) = (Locks::default(), agent("a", 0));
    take(&mut locks, &a, "x");
    assert_eq!(locks.acquire(ask(&a, "x", Mode::Exclusive), false, at(1700)).1, []);
    assert_eq!(locks.acquire(ask(&a, "x", Mode::Exclusive), false, at(1900)).1.len(), 1);
    assert_eq!(locks.next_wake(), Some(at(1900 + 3600)));
}

#[test]
fn a_theft_is_told_to_whom_it_concerns_and_goes_past_those_who_wait() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    let root = Owner::Person { uid: Some(0), name: "root".to_owned() };
    take(&mut locks, &a, "src/x");
    wait(&mut locks, &b, "src/x", Mode::Exclusive);
    let (acquired, effects) = locks.steal(Request { reason: "hotfix".to_owned(), ..ask(&root, "src/**", Mode::Exclusive) }, at(5));
    assert_eq!(acquired, Acquired::Created(LockId(2)));
    assert_eq!(
        told(&effects),
        [
            "lock-stolen a (task 1): exclusive lock 1 on src/x in shop was taken by root: hotfix",
            "lock-acquired root: exclusive lock 2 on src/** in shop: hotfix"
        ]
    );
    assert_eq!((answers(&effects), take(&mut locks, &a, "src/x")), (vec![], Acquired::Blocked(vec![Blocker::Holder(LockId(2)), Blocker::Before(WaitId(1))])));
}

#[test]
fn only_its_owner_gives_a_lock_back_or_on_and_only_where_that_fits() {
    let (mut locks, a, b) = (Locks::default(), agent("a", 1), agent("b", 2));
    take(&mut locks, &a, "src/**");
    take(&mut locks, &a, "src/x");
    take(&mut locks, &a, "src/x/**");
    assert_eq!(locks.release(LockId(1), &b, false, at(1)), Err(Refusal::NotYours(a.clone())));
    assert_eq!(locks.release(LockId(9), &b, false, at(1)), Err(Refusal::NoSuchLock));
    let give = |locks: &mut Locks, id| locks.transfer(LockId(id), &a, false, agent("b", 2), Bond::default(), at(1)).map(|effects| told(&effects));
    assert_eq!(
        give(&mut locks, 1).map(|told| told[0].clone()),
        Ok("lock-transferred a (task 1): exclusive lock 1 on src/** in shop given by a (task 1) from a (task 1) to b (task 2)".to_owned())
    );
    assert_eq!(locks.iter().count(), 1, "what it asked for below that it had");
    take(&mut locks, &a, "y");
    take(&mut locks, &a, "{y,z}");
    assert_eq!(give(&mut locks, 2), Err(Refusal::Conflict(a.clone())));
}
