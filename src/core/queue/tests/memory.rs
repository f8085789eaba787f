//! Who waits for memory, and for how much of it.

use super::order::{NONE, done, label, link, ruled, wait};
use super::rules::{hello, runs, task};
use super::{at, name};
use crate::core::attempt::Ended;
use crate::core::pool::{Member, Policy, Rules, Team};
use crate::core::queue::{Capacity, Peak, Queue, Stored};
use crate::core::task::Task;

fn fleet(limit: u64, used: u64, pressure: f64) -> Option<Capacity> {
    Some(Capacity { at: at(0), limit: Some(limit << 20), used: used << 20, pressure })
}

/// A queue that knows what tasks need, in MiB, with one that runs and one that waits.
fn weighed(needs: &[u64]) -> Queue {
    let peak = |mib: &u64| Peak { kind: task(1, "").kind, instance: name("a"), bytes: mib << 20 };
    let stored = Stored { tasks: vec![task(1, ""), task(2, "")], peaks: needs.iter().map(peak).collect(), ..Stored::default() };
    Queue::load(stored, Rules::default())
}

#[test]
fn a_task_waits_for_as_much_memory_as_those_before_it_have_needed() {
    let mut queue = weighed(&[100, 300, 200]);
    queue.capacity(fleet(1000, 900, 0.0));
    assert_eq!(link(&mut queue, "a"), ["1.1@a"], "alone it may have all there is");
    assert_eq!(link(&mut queue, "b"), NONE);
    assert_eq!(wait(&queue, 2), "waits for memory: tasks like it need 300 MiB, and the fleet has 100 MiB left of 1000 MiB");
    assert_eq!(queue.next_wake(at(0)), Some(at(1)), "it is looked at again");
    assert!(!queue.wants_capacity(at(0)) && queue.wants_capacity(at(1)));
    queue.capacity(fleet(1000, 700, 0.0));
    assert_eq!(runs(&queue.look_again(at(1))), ["2.1@b"]);
    // What those that run will need counts before they use it.
    let mut queue = weighed(&[300, 300, 300]);
    queue.capacity(fleet(500, 10, 0.0));
    assert_eq!([link(&mut queue, "a"), link(&mut queue, "b")].concat(), ["1.1@a"]);
    // Two attempts say nothing yet.
    let mut queue = weighed(&[900, 900]);
    queue.capacity(fleet(1000, 900, 0.0));
    assert_eq!([link(&mut queue, "a"), link(&mut queue, "b")].concat(), ["1.1@a", "2.1@b"]);
}

#[test]
fn nothing_starts_under_pressure() {
    let mut queue = weighed(&[]);
    queue.capacity(fleet(1000, 0, 55.0));
    assert_eq!(link(&mut queue, "a"), NONE);
    assert!(wait(&queue, 1).starts_with("waits for memory: the fleet is under memory pressure"), "{}", wait(&queue, 1));
    queue.capacity(None);
    assert_eq!(runs(&queue.tick(at(1))), ["1.1@a"]);
}

#[test]
fn smaller_ones_pass_who_waits_for_memory_but_not_for_ever() {
    for (now, passed) in [(60, true), (3600, false)] {
        let small = Task { kind: "small".parse().expect("a type"), created: at(now), ..task(3, "") };
        let peak = |kind: &str, mib: u64| Peak { kind: kind.parse().expect("a type"), instance: name("a"), bytes: mib << 20 };
        let peaks = (0..3).flat_map(|_| [peak("task", 600), peak("small", 10)]).collect();
        let mut queue = Queue::load(Stored { tasks: vec![task(1, ""), task(2, ""), small], peaks, ..Stored::default() }, Rules::default());
        queue.capacity(fleet(1000, 600, 0.0));
        link(&mut queue, "a");
        let given = runs(&queue.linked(hello("b", 2, None), at(now)));
        assert_eq!(!given.is_empty(), passed, "after {now} s: {given:?}");
    }
}

#[test]
fn what_was_learned_on_one_repository_says_nothing_of_another() {
    let member = |repository: &str| Member { repository: Some(label(repository)), ..Member::default() };
    let members = [("a", "r"), ("b", "r"), ("c", "s")].map(|(instance, repository)| (name(instance), member(repository)));
    let peak = |instance: &str, mib: u64| Peak { kind: task(1, "").kind, instance: name(instance), bytes: mib << 20 };
    let peaks = [peak("a", 900), peak("b", 900), peak("a", 900), peak("c", 10), peak("c", 10), peak("c", 10)];
    let stored = Stored { tasks: vec![task(1, "a"), task(2, "b"), task(3, "c")], peaks: peaks.into(), ..Stored::default() };
    let mut queue = Queue::load(stored, Rules { members: members.into(), ..Rules::default() });
    queue.capacity(fleet(1000, 500, 0.0));
    assert_eq!(["a", "b", "c"].map(|instance| link(&mut queue, instance)), [vec!["1.1@a"], vec![], vec!["3.1@c"]]);
    assert!(wait(&queue, 2).contains("tasks like it need 900 MiB"), "{}", wait(&queue, 2));
}

#[test]
fn who_has_just_become_free_is_as_loaded_as_it_was_while_it_was_busy() {
    let members = ["a", "b"].map(|instance| (name(instance), Member { team: Some(label("t")), ..Member::default() }));
    let teams = [(label("t"), Team { policy: Policy::LeastLoaded, ..Team::default() })];
    let mut queue = ruled(vec![task(1, "a")], Rules { members: members.into(), teams: teams.into(), ..Rules::default() });
    link(&mut queue, "a");
    link(&mut queue, "b");
    assert_eq!(queue.wants_loads(), [name("a"), name("b")]);
    queue.loads([(name("a"), 900), (name("b"), 100)].into());
    assert_eq!(runs(&done(&mut queue, "a", 1, Ended::Succeeded)), NONE);
    assert_eq!(runs(&queue.added(task(2, ""), at(0))), ["2.1@b"]);
}
