//! What the queue and the locks keep beside the tasks.

use super::{adding, at, changing, name, spec, stored};
use crate::core::attempt::Reason;
use crate::core::ids::{AttemptId, TaskId};
use crate::core::label::Label;
use crate::core::queue::{Change, Pause, Scope, Spent};
use crate::core::schedule::Schedule;
use crate::core::size::Raise;
use crate::core::task::{Claim, TaskSpec, TaskState};
use crate::core::terms::{AfterFailed, Demand, Priority, Terms};
use crate::core::usage::Usd;
use crate::platform::store::{Batch, ScheduleChange, SqliteStore, TaskFilter};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::platform::store) async fn what_the_queue_keeps_beside_its_tasks_survives_a_restart(open: impl AsyncFn() -> SqliteStore) {
    let label = |text: &str| text.parse::<Label>().expect("a label");
    let store = open().await;
    let terms = Terms {
        priority: Priority::try_from(-7).expect("a priority"),
        group: Some(label("g")),
        demand: Demand {
            team: Some(label("t")),
            role: Some(label("r")),
            specialty: Some(label("s")),
            labels: [label("x"), label("y")].into(),
            repository: Some(label("shop")),
        },
        branch: Some("feat/x".to_owned()),
        after: [TaskId(1)].into(),
        after_failed: AfterFailed::Release,
        not_before: Some(at(500)),
        files: ["src/a b.rs", "docs/", "src/**/*.{rs,toml}"].map(|text| crate::core::terms::files(text).expect("files")).to_vec(),
    };
    let picky = TaskSpec { terms: Arc::new(terms.clone()), ..spec("") };
    store.commit(&adding(&["", ""])).await.expect("added");
    let add = vec![(picky.clone(), at(100)), (spec(""), at(100))];
    let ids = store.commit(&Batch { add, links: vec![(1, 0)], ..Batch::default() }).await.expect("added");
    let claim = Claim { by: "alice".to_owned(), since: at(7), agent: Some((name("a"), "0a".repeat(16).parse().expect("an invocation"))) };
    let mut claimed = stored(&store, TaskId(2)).await.task;
    claimed.state = TaskState::Claimed(claim.clone());
    let mut noted = stored(&store, TaskId(1)).await.task;
    (noted.state, noted.note) = (TaskState::Failed(Reason::Dependency), "because".to_owned());
    let day = |text: &str| text.parse().expect("a day");
    let pause = Pause { by: "p".to_owned(), why: "lunch".to_owned(), since: at(9) };
    let scopes = [Scope::All, Scope::Instance(name("a")), Scope::Team(label("t")), Scope::Group(label("g")), Scope::Account("claude max".to_owned())];
    let mut changes: Vec<Change> = scopes.iter().map(|scope| Change::Pause(scope.clone(), Some(pause.clone()))).collect();
    changes.push(Change::Pause(Scope::All, None));
    let raise = |number, high| Raise { attempt: AttemptId { task: TaskId(77), number }, memory: 4 << 30, max: 2 << 30, high };
    changes.extend(
        [("a", Some(raise(1, None))), ("a", Some(raise(2, Some(1 << 30)))), ("b", Some(raise(1, None))), ("c", Some(raise(9, None))), ("c", None)]
            .map(|(of, raise)| Change::Raise(name(of), raise)),
    );
    changes.extend([claimed.clone(), noted.clone()].map(|task| Change::Task(Box::new(task))));
    changes.extend([("2026-01-01", 3), ("2026-01-02", 4), ("2026-01-02", 5)].map(|(text, cost)| Change::Spend(day(text), name("a"), Usd(cost))));
    let schedule = |text: &str| Schedule {
        name: label(text),
        cron: "0 6 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        request: "{}".to_owned(),
        by: "p".to_owned(),
        created: at(1),
        last_run: None,
        last_task: None,
    };
    let schedules = vec![ScheduleChange::Put(schedule("gone")), ScheduleChange::Put(schedule("often")), ScheduleChange::Remove(label("gone"))];
    store.commit(&Batch { changes, schedules, ..Batch::default() }).await.expect("changed");
    let ran = |place| vec![ScheduleChange::Ran { name: label("often"), at: at(50), place }];
    let added = store.commit(&Batch { schedules: ran(Some(0)), ..adding(&[""]) }).await.expect("ran");
    store.commit(&Batch { schedules: ran(None), ..Batch::default() }).await.expect("passed over");
    store.close().await;

    let store = open().await;
    assert_eq!(*stored(&store, ids[0]).await.spec.terms, terms);
    assert_eq!(stored(&store, ids[0]).await.task.state, TaskState::Pending { not_before: Some(at(500)) });
    assert_eq!(stored(&store, ids[1]).await.task.terms.after, [ids[0]].into(), "of the same batch");
    assert_eq!(stored(&store, TaskId(2)).await.task, claimed);
    assert_eq!(stored(&store, TaskId(1)).await.task.note, "because");
    let queue = store.queue().await.expect("readable");
    assert_eq!(
        queue.pauses,
        [Scope::Account("claude max".to_owned()), Scope::Group(label("g")), Scope::Instance(name("a")), Scope::Team(label("t"))]
            .map(|scope| (scope, pause.clone()))
    );
    let spent = |text: &str, cost| Spent { day: day(text), instance: name("a"), cost: Usd(cost) };
    assert_eq!(queue.spent, [spent("2026-01-01", 3), spent("2026-01-02", 9)]);
    assert_eq!(queue.raises, [(name("a"), raise(2, Some(1 << 30))), (name("b"), raise(1, None))], "of tasks that are gone as well");
    assert_eq!(queue.tasks.len(), 4);
    assert_eq!(store.schedules().await.expect("readable"), [Schedule { last_run: Some(at(50)), last_task: Some(added[0]), ..schedule("often") }]);
    // Lists know the claimed ones apart, and the groups.
    let list =
        async |filter: TaskFilter| store.tasks(&TaskFilter { limit: 9, ..filter }).await.expect("readable").iter().map(|one| one.task.id.0).collect::<Vec<_>>();
    let state = |text: &str| TaskFilter { state: Some(text.to_owned()), ..TaskFilter::default() };
    assert_eq!((list(state("claimed")).await, list(state("pending")).await), (vec![2], vec![added[0].0, ids[1].0, ids[0].0]));
    let group = TaskFilter { group: Some(label("g")), ..TaskFilter::default() };
    assert_eq!((list(group.clone()).await, list(TaskFilter { group: group.group, ..state("failed") }).await), (vec![ids[0].0], vec![]));
    let counts = store.task_counts().await.expect("readable");
    assert!(counts.contains(&("pending".to_owned(), 3)) && counts.contains(&("claimed".to_owned(), 1)), "{counts:?}");
    // A claim that is given back is gone, and so is the note of a retry.
    claimed.state = TaskState::Pending { not_before: None };
    (noted.state, noted.note) = (TaskState::Pending { not_before: None }, String::new());
    store.commit(&changing([claimed, noted].map(|task| Change::Task(Box::new(task))).to_vec())).await.expect("changed");
    assert_eq!((list(state("claimed")).await, stored(&store, TaskId(1)).await.task.note), (vec![], String::new()));
}

pub(in crate::platform::store) async fn locks_come_back_as_they_were_and_their_numbers_never(open: impl AsyncFn() -> SqliteStore) {
    use crate::core::lock::{Bond, Change, Lock, LockId, Mode, Owner, Pattern, Scope};
    let globs = ["src/**".to_owned(), "{a,b}.rs".to_owned()];
    let pattern = |n: i64| match n {
        1 => Pattern::path("-a 'b'\u{1f980}/c"),
        2 => Pattern::path("dir/"),
        3 => Pattern::glob("src/[!x]*.rs"),
        _ => Pattern::feature("auth", &globs),
    };
    let lock = |n: i64, owner: Owner| Lock {
        id: LockId(n),
        scope: Scope { place: "/srv/a b".to_owned(), pattern: pattern(n).expect("a pattern") },
        mode: if n % 2 == 0 { Mode::Shared } else { Mode::Exclusive },
        owner,
        bond: Bond { attempt: (n == 1).then_some(3), invocation: (n == 2).then(|| "0b".repeat(16).parse().expect("an invocation")) },
        reason: format!("reason {n}"),
        since: at(n),
        ttl: Duration::from_millis(1500),
        expires: at(n + 100),
    };
    let agent = |task: Option<i64>| Owner::Agent { instance: name("a"), task: task.map(TaskId) };
    let person = |uid| Owner::Person { uid, name: "alice".to_owned() };
    let mut all = vec![lock(1, agent(Some(7))), lock(2, agent(None)), lock(3, person(Some(1000))), lock(4, person(None))];
    let store = open().await;
    assert_eq!(store.locks().await.expect("readable"), (vec![], 0));
    let held = |lock: &Lock| Change::Held(Box::new(lock.clone()));
    store.commit(&Batch { locks: all.iter().map(held).collect(), ..Batch::default() }).await.expect("committed");
    store.close().await;
    let store = open().await;
    assert_eq!(store.locks().await.expect("readable"), (all.clone(), 4));
    all[0] = Lock { mode: Mode::Shared, owner: person(None), bond: Bond::default(), expires: at(999), ..all[0].clone() };
    let last = all.pop().expect("four");
    store.commit(&Batch { locks: vec![held(&all[0]), Change::Gone(last.id), Change::Gone(LockId(77))], ..Batch::default() }).await.expect("committed");
    assert_eq!(store.locks().await.expect("readable"), (all, 4), "the number of the one that is gone is not given again");
}
