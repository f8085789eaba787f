//! What every store must do, whatever it is made of: each test takes a way to open (again) the same, at first empty, store.

mod beside;

pub(super) use beside::{locks_come_back_as_they_were_and_their_numbers_never, what_the_queue_keeps_beside_its_tasks_survives_a_restart};

use super::{Batch, SqliteStore, StoredEvent, StoredTask, TaskFilter};
use crate::core::attempt::{Ended, Exit, Reason, Report};
use crate::core::delivery::Delivery;
use crate::core::ids::{AttemptId, InstanceName, SessionId, TaskId};
use crate::core::instance::{ActiveState, ExitCause, Mark};
use crate::core::queue::Change;
use crate::core::task::{Placement, Target, Task, TaskSpec, TaskState};
use crate::core::usage::{AgentUsage, KernelUsage, Tokens, Usd};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) fn name(text: &str) -> InstanceName {
    text.parse().expect("a name")
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::new(second, 123_456_000).expect("a time")
}

pub(super) fn spec(target: &str) -> TaskSpec {
    TaskSpec {
        target: if target.is_empty() { Target::Any } else { Target::Instance(name(target)) },
        kind: "feature".parse().expect("a type"),
        title: format!("for {target:?}"),
        prompt: "Do it; 'quoted' \u{1f980}\0 and more".to_owned(),
        timeout: Some(Duration::from_millis(90_500)),
        budget: Some(Usd(2_500_001)),
        max_turns: Some(7),
        schema: Some(serde_json::json!({"type": "object", "title": "it's"})),
        terms: Arc::default(),
    }
}

pub(super) fn adding(targets: &[&str]) -> Batch {
    Batch { add: targets.iter().map(|target| (spec(target), at(100))).collect(), ..Batch::default() }
}

pub(super) fn changing(changes: Vec<Change>) -> Batch {
    Batch { changes, ..Batch::default() }
}

fn placement(id: TaskId, number: u32, instance: &str) -> Placement {
    Placement { attempt: AttemptId { task: id, number }, instance: name(instance), invocation: "0a".repeat(16).parse().expect("an invocation") }
}

fn session(byte: u8) -> SessionId {
    SessionId(uuid::Uuid::from_bytes([byte; 16]))
}

fn report(ended: Ended, cost: u64) -> Report {
    let tokens = Tokens { input: 1, output: 2, cache_read: 3, cache_creation: u64::MAX / 2 };
    Report {
        ended,
        detail: "a sentence".to_owned(),
        exit: Some(Exit::Signal(9)),
        session: Some(session(1)),
        started: at(200),
        finished: at(300),
        agent: AgentUsage { turns: 3, tool_calls: 4, cost: Usd(cost), tokens: [("model-x".to_owned(), tokens)].into() },
        kernel: KernelUsage {
            cpu_user_usec: Some(1),
            cpu_system_usec: Some(2),
            memory_peak: Some(3),
            io_read_bytes: Some(4),
            io_write_bytes: Some(5),
            cpu_stall_usec: Some(6),
            memory_stall_usec: Some(7),
            io_stall_usec: Some(8),
            oom_kills: None,
        },
        text: "last words\n\u{1f980}".to_owned(),
        work: Some(Box::new(Delivery { repository: "r".to_owned(), branch: "b".to_owned(), commits: 2, ..Delivery::default() })),
    }
}

fn event(kind: &str, instance: &str, cause: Option<&str>, second: i64) -> StoredEvent {
    let instance = (!instance.is_empty()).then(|| name(instance));
    StoredEvent { id: 0, at: at(second), kind: kind.to_owned(), instance, task: Some(TaskId(1)), message: format!("{kind}!"), cause: cause.map(str::to_owned) }
}

/// One that runs, or that ended of something.
fn mark(ended: Option<&str>) -> Mark {
    let ended = ended.map(|result| ExitCause { result: result.to_owned(), detail: "a sentence".to_owned() });
    let invocation = ended.is_some().then(|| "0a".repeat(16).parse().expect("an invocation"));
    Mark { active: ActiveState::Activating, restarts: 3, invocation, ended }
}

async fn stored(store: &SqliteStore, id: TaskId) -> StoredTask {
    store.task(id).await.expect("readable").expect("there")
}

/// Adds a task and puts it into a state, through an attempt if the state has one.
async fn in_state(store: &SqliteStore, target: &str, state: impl Fn(TaskId) -> TaskState) -> Task {
    let ids = store.commit(&adding(&[target])).await.expect("added");
    let mut task = stored(store, ids[0]).await.task;
    task.state = state(task.id);
    let mut changes = vec![Change::Task(Box::new(task.clone()))];
    changes.extend(task.state.placement().cloned().map(Change::Attempt));
    store.commit(&changing(changes)).await.expect("changed");
    task
}

pub(super) async fn everything_survives_a_restart(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let mut expected = Vec::new();
    let states: [&dyn Fn(TaskId) -> TaskState; 10] = [
        &|_| TaskState::Pending { not_before: None },
        &|_| TaskState::Pending { not_before: Some(at(999)) },
        &|id| TaskState::Assigned(placement(id, 1, "a")),
        &|id| TaskState::Running(placement(id, 1, "b-c")),
        &|id| TaskState::Verifying(placement(id, 1, "b-c")),
        &|id| TaskState::Publishing(placement(id, 1, "b-c")),
        &|_| TaskState::Succeeded,
        &|_| TaskState::Failed(Reason::Oom),
        &|_| TaskState::Failed(Reason::MemoryPressure),
        &|_| TaskState::Cancelled,
    ];
    for (index, state) in states.iter().enumerate() {
        let mut task = in_state(&store, ["", "x"][index % 2], state).await;
        task.attempts = 3;
        task.failures = 2;
        task.home = (index > 3).then(|| name("home"));
        task.cancelling = index == 2;
        task.memory = (index % 2 == 0).then_some(3 << 30);
        store.commit(&changing(vec![Change::Task(Box::new(task.clone()))])).await.expect("changed");
        expected.push(task);
    }
    let end = report(Ended::Failed { reason: Reason::AgentError, transient: true }, 5);
    let running = expected[3].id;
    let batch = Batch {
        changes: vec![Change::Report(AttemptId { task: running, number: 1 }, name("b-c"), Box::new(end.clone()))],
        begun: vec![(AttemptId { task: expected[2].id, number: 1 }, at(40), Some(session(7)))],
        holds: vec![("b".to_owned(), at(5)), ("a".to_owned(), at(6)), ("b".to_owned(), at(7))],
        marks: vec![
            (name("went"), Some(mark(None))),
            (name("y"), Some(mark(None))),
            (name("x"), Some(mark(None))),
            (name("x"), Some(mark(Some("oom-kill")))),
            (name("went"), None),
            (name("unknown"), None),
        ],
        events: vec![event("instance-restarted", "x", Some("oom-kill"), 1), event("task-added", "", None, 2)],
        ..Batch::default()
    };
    assert_eq!(store.last_event().await.expect("readable"), None);
    store.commit(&batch).await.expect("committed");
    expected[3].cost = Usd(5);
    store.close().await;

    let store = open().await;
    let live: Vec<Task> = expected.iter().filter(|task| !task.state.is_final()).cloned().collect();
    assert_eq!(store.live_tasks().await.expect("readable"), live);
    for task in &expected {
        let found = stored(&store, task.id).await;
        assert_eq!(&found.task, task);
        assert_eq!(found.finished.is_some(), task.state.is_final());
        assert_eq!(found.spec.target, task.target);
        assert_eq!(TaskSpec { target: Target::Any, title: String::new(), ..found.spec }, TaskSpec { target: Target::Any, title: String::new(), ..spec("") });
    }
    let attempts = store.attempts(running).await.expect("readable");
    assert_eq!(attempts.len(), 1);
    assert_eq!((&attempts[0].report, attempts[0].session), (&Some(end), Some(session(1))));
    assert_eq!(
        Some((attempts[0].attempt, &attempts[0].instance, &attempts[0].invocation)),
        expected[3].state.placement().map(|p| (p.attempt, &p.instance, &p.invocation))
    );
    assert_eq!(stored(&store, running).await.detail, "a sentence");
    let begun = &store.attempts(expected[2].id).await.expect("readable")[0];
    assert_eq!((begun.started, begun.session, &begun.report), (Some(at(40)), Some(session(7)), &None));
    assert_eq!(store.last_session(expected[2].id, &name("a")).await.expect("readable"), Some(session(7)));
    assert_eq!(store.holds().await.expect("readable"), [("a".to_owned(), at(6)), ("b".to_owned(), at(7))]);
    assert_eq!(store.restarts().await.expect("readable"), [(name("x"), "oom-kill".to_owned(), 1)]);
    assert_eq!(store.marks().await.expect("readable"), [(name("x"), mark(Some("oom-kill"))), (name("y"), mark(None))]);
    assert_eq!(store.last_event().await.expect("readable"), Some((2, batch.events[1].at)));
    let events = store.events_after(0, 10).await.expect("readable");
    assert_eq!(events, [StoredEvent { id: 1, ..batch.events[0].clone() }, StoredEvent { id: 2, ..batch.events[1].clone() }]);
}

pub(super) async fn a_batch_is_stored_whole_or_not_at_all(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let first = in_state(&store, "", |_| TaskState::Pending { not_before: None }).await;
    let changed = Task { failures: 9, ..first.clone() };
    let absent = Task { id: TaskId(4711), ..first.clone() };
    let batch = Batch {
        add: adding(&["a", ""]).add,
        changes: vec![Change::Task(Box::new(changed)), Change::Attempt(placement(first.id, 1, "a")), Change::Task(Box::new(absent))],
        holds: vec![("a".to_owned(), at(1))],
        events: vec![event("instance-restarted", "a", None, 1)],
        ..Batch::default()
    };
    let refused = store.commit(&batch).await.expect_err("there is no such task").to_string();
    assert!(refused.contains("4711") && refused.contains("commit"), "{refused}");
    let whole = async |store: &SqliteStore| {
        assert_eq!(store.live_tasks().await.expect("readable"), std::slice::from_ref(&first));
        assert!(store.attempts(first.id).await.expect("readable").is_empty());
        assert!(store.holds().await.expect("readable").is_empty() && store.restarts().await.expect("readable").is_empty());
        assert!(store.events_after(0, 9).await.expect("readable").is_empty());
    };
    whole(&store).await;
    // The same for what follows from the numbers of new tasks.
    let absent = Task { id: TaskId(4711), ..first.clone() };
    let follow = |_: &[TaskId]| changing(vec![Change::Task(Box::new(absent))]);
    assert!(store.commit_with(&adding(&["a"]), follow).await.is_err());
    whole(&store).await;
    store.close().await;
    let store = open().await;
    whole(&store).await;
    let given_out = |ids: &[TaskId]| changing(ids.iter().map(|id| Change::Attempt(placement(*id, 1, "a"))).collect());
    let ids = store.commit_with(&adding(&["a", ""]), given_out).await.expect("still usable");
    assert_eq!(ids.len(), 2);
    for id in ids {
        assert_eq!(store.attempts(id).await.expect("readable").len(), 1, "{id} was given out by the commit that added it");
    }
}

pub(super) async fn the_end_is_set_once_and_cleared_by_a_retry(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let before = Timestamp::now();
    let mut task = in_state(&store, "a", |id| TaskState::Running(placement(id, 1, "a"))).await;
    task.state = TaskState::Failed(Reason::Lost);
    let failed = changing(vec![Change::Task(Box::new(task.clone()))]);
    store.commit(&failed).await.expect("committed");
    let finished = stored(&store, task.id).await.finished.expect("set");
    assert!(finished.duration_since(before).as_secs() < 60 && finished.as_microsecond() >= before.as_microsecond());
    store.commit(&failed).await.expect("again");
    assert_eq!(stored(&store, task.id).await.finished, Some(finished));
    task.state = TaskState::Pending { not_before: None };
    store.commit(&changing(vec![Change::Task(Box::new(task.clone()))])).await.expect("retried");
    assert_eq!((stored(&store, task.id).await.finished, stored(&store, task.id).await.task), (None, task));
}

pub(super) async fn reports_replace_each_other_and_cost_once(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let task = in_state(&store, "", |id| TaskState::Running(placement(id, 1, "a"))).await;
    let attempt = |number| AttemptId { task: task.id, number };
    let unseen = Report { session: None, exit: None, ..report(Ended::Failed { reason: Reason::Lost, transient: true }, 0) };
    let limited = Report { detail: "limit".to_owned(), exit: Some(Exit::Code(1)), ..report(Ended::Limited { until: Some(at(7)) }, 30) };
    store.commit(&Batch { begun: vec![(attempt(1), at(40), Some(session(5))), (attempt(1), at(41), None)], ..Batch::default() }).await.expect("committed");
    let batch = Batch {
        changes: vec![
            Change::Attempt(placement(task.id, 1, "a")), // a second time
            Change::Attempt(placement(task.id, 2, "b")),
            Change::Report(attempt(1), name("a"), Box::new(unseen)),
            Change::Report(attempt(2), name("b"), Box::new(limited.clone())),
            Change::Report(attempt(3), name("b"), Box::new(limited.clone())), // never assigned
            Change::Report(AttemptId { task: TaskId(99), number: 1 }, name("b"), Box::new(limited.clone())),
            Change::Report(attempt(2), name("a"), Box::new(report(Ended::Succeeded, 99))), // another instance's
        ],
        ..adding(&["a"])
    };
    store.commit(&batch).await.expect("committed");
    let first = &store.attempts(task.id).await.expect("readable")[0];
    assert_eq!(
        (first.session, first.report.as_ref().map(|report| &report.ended)),
        (Some(session(5)), Some(&Ended::Failed { reason: Reason::Lost, transient: true }))
    );
    assert_eq!(first.report.as_ref().map(|report| report.started), Some(at(41)), "nobody saw its end, but its start was seen");
    assert_eq!(stored(&store, task.id).await.task.cost, Usd(30));
    let late = report(Ended::Succeeded, 12);
    for _ in 0..2 {
        store.commit(&changing(vec![Change::Report(attempt(1), name("a"), Box::new(late.clone()))])).await.expect("committed");
        assert_eq!(stored(&store, task.id).await.task.cost, Usd(42));
    }
    let attempts = store.attempts(task.id).await.expect("readable");
    assert_eq!(attempts.iter().map(|a| (a.attempt.number, a.report.clone())).collect::<Vec<_>>(), [(1, Some(late)), (2, Some(limited))]);
    assert_eq!(stored(&store, task.id).await.detail, "limit");
    assert_eq!(store.last_session(task.id, &name("a")).await.expect("readable"), Some(session(1)));
    assert_eq!(store.last_session(task.id, &name("c")).await.expect("readable"), None);
    assert_eq!(store.live_tasks().await.expect("readable").len(), 2);
    // Both reports say when; what is added up by instance begins with those that ended then.
    let ended = store.attempts(task.id).await.expect("readable")[1].report.as_ref().expect("a report").finished;
    let spent = store.spent_since(ended).await.expect("readable");
    assert_eq!(spent, [(name("a"), Usd(12)), (name("b"), Usd(30))].into());
    assert_eq!(store.spent_since(at(ended.as_second() + 1)).await.expect("readable"), [].into());
}

pub(super) async fn lists_are_filtered_and_paged_newest_first(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let mut tasks = Vec::new();
    for index in 0..24 {
        let state = move |id| match index % 4 {
            0 => TaskState::Pending { not_before: None },
            1 => TaskState::Succeeded,
            2 => TaskState::Failed(Reason::Timeout),
            _ => TaskState::Running(placement(id, 1, "b")),
        };
        tasks.push(in_state(&store, ["a", "b", ""][index % 3], state).await);
    }
    // One that ran on `c` and waits again is still found there.
    let mut moved = tasks[23].clone();
    moved.state = TaskState::Running(placement(moved.id, 2, "c"));
    store.commit(&changing(vec![Change::Task(Box::new(moved.clone()))])).await.expect("committed");
    moved.state = TaskState::Pending { not_before: None };
    store.commit(&changing(vec![Change::Task(Box::new(moved.clone()))])).await.expect("committed");
    let on_c = store.tasks(&TaskFilter { instance: Some(name("c")), limit: 9, ..TaskFilter::default() }).await.expect("readable");
    assert!(on_c.iter().all(|task| task.spec.prompt.is_empty()), "a page of prompts may be longer than the memory there is");
    assert_eq!(on_c.into_iter().map(|task| task.task).collect::<Vec<_>>(), [moved.clone()]);
    tasks[23] = moved;

    for state in [None, Some("pending"), Some("failed"), Some("running"), Some("no-such-state")] {
        for instance in [None, Some("a"), Some("b"), Some("nobody")] {
            let wanted: Vec<TaskId> = tasks
                .iter()
                .rev()
                .filter(|t| state.is_none_or(|state| t.state.name() == state))
                .filter(|t| instance.is_none_or(|i| t.target == Target::Instance(name(i)) || t.state.placement().is_some_and(|p| p.instance == name(i))))
                .map(|t| t.id)
                .collect();
            for limit in [1, 3, 100] {
                let mut filter = TaskFilter { state: state.map(str::to_owned), instance: instance.map(name), group: None, before: None, limit };
                let mut seen = Vec::new();
                loop {
                    let page = store.tasks(&filter).await.expect("readable");
                    assert!(page.len() <= limit as usize);
                    let Some(last) = page.last() else { break };
                    filter.before = Some(last.task.id);
                    seen.extend(page.iter().map(|task| task.task.id));
                }
                assert_eq!(seen, wanted, "{state:?} {instance:?} {limit}");
            }
        }
    }
}

pub(super) async fn pruning_takes_what_is_over_and_nothing_else(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let live = in_state(&store, "", |id| TaskState::Running(placement(id, 1, "a"))).await;
    let mut over = in_state(&store, "", |id| TaskState::Running(placement(id, 1, "b"))).await;
    over.state = TaskState::Succeeded;
    let batch = Batch {
        changes: vec![Change::Task(Box::new(over.clone()))],
        holds: vec![("past".to_owned(), at(1)), ("coming".to_owned(), Timestamp::now() + Duration::from_secs(3600))],
        events: vec![event("instance-restarted", "a", Some("watchdog"), 10), event("instance-restarted", "a", Some("watchdog"), 20)],
        ..Batch::default()
    };
    store.commit(&batch).await.expect("committed");
    assert_eq!(store.prune(at(15)).await.expect("pruned"), 1, "one event; the task ended just now");
    assert_eq!(store.events_after(0, 9).await.expect("readable").iter().map(|event| event.id).collect::<Vec<_>>(), [2]);
    assert_eq!(store.prune(Timestamp::now() + Duration::from_secs(1)).await.expect("pruned"), 2);
    assert_eq!((store.task(over.id).await.expect("readable"), store.attempts(over.id).await.expect("readable").len()), (None, 0));
    assert_eq!(store.live_tasks().await.expect("readable"), std::slice::from_ref(&live));
    assert_eq!(store.attempts(live.id).await.expect("readable").len(), 1);
    assert_eq!(store.holds().await.expect("readable").len(), 1);
    assert_eq!(store.restarts().await.expect("readable"), [(name("a"), "watchdog".to_owned(), 2)], "a counter never falls");
    // Numbers are not given again, though the highest went.
    let next = store.commit(&Batch { events: vec![event("task-added", "", None, 30)], ..adding(&[""]) }).await.expect("committed");
    assert!(next[0] > over.id);
    assert_eq!(store.events_after(0, 9).await.expect("readable").iter().map(|event| event.id).collect::<Vec<_>>(), [3]);
}

pub(super) async fn events_are_read_onwards_and_history_backwards(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let kinds = ["instance-started", "task-started", "limits-changed", "instance-restarted", "usage-limit", "instance-restarted"];
    let events: Vec<StoredEvent> = (0..24).map(|i| event(kinds[i % 6], ["a", "b"][i / 6 % 2], (i % 6 == 3).then_some("signal"), i as i64)).collect();
    store.commit(&Batch { events, ..Batch::default() }).await.expect("committed");
    let page = store.events_after(5, 3).await.expect("readable");
    assert_eq!(page.iter().map(|event| event.id).collect::<Vec<_>>(), [6, 7, 8]);
    let history = store.instance_history(&name("b"), 5).await.expect("readable");
    assert_eq!(history.iter().map(|event| event.id).collect::<Vec<_>>(), [24, 22, 21, 19, 12]);
    assert!(history.iter().all(|event| event.instance == Some(name("b"))));
    let signal = |text: &str| (name(text), "signal".to_owned(), 2);
    let other = |text: &str| (name(text), String::new(), 2);
    assert_eq!(store.restarts().await.expect("readable"), [other("a"), signal("a"), other("b"), signal("b")]);
}

/// Prints how fast it is; asserts only that it is right.
pub(super) async fn ten_thousand_tasks(open: impl AsyncFn() -> SqliteStore) {
    let store = open().await;
    let begun = Instant::now();
    let ids = store.commit(&adding(&[""; 10_000])).await.expect("added");
    println!("10 000 tasks added in one batch: {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut live = store.live_tasks().await.expect("readable");
    println!("10 000 live tasks loaded: {:?}", begun.elapsed());
    assert_eq!(live.iter().map(|task| task.id).collect::<Vec<_>>(), ids);
    let claims = 500;
    let begun = Instant::now();
    for task in live.iter_mut().take(claims) {
        let placed = placement(task.id, 1, "a");
        task.state = TaskState::Assigned(placed.clone());
        task.attempts = 1;
        store.commit(&changing(vec![Change::Task(Box::new(task.clone())), Change::Attempt(placed)])).await.expect("claimed");
    }
    println!("{claims} of them claimed, a durable transaction each: {:?} each", begun.elapsed() / claims as u32);
    let claimed = TaskFilter { state: Some("assigned".to_owned()), limit: 10_000, ..TaskFilter::default() };
    assert_eq!(store.tasks(&claimed).await.expect("readable").len(), claims);
    let begun = Instant::now();
    let page = TaskFilter { instance: Some(name("a")), limit: 50, ..TaskFilter::default() };
    assert_eq!(store.tasks(&page).await.expect("readable").len(), 50);
    println!("a page of 50: {:?}", begun.elapsed());
    store.close().await;
    let begun = Instant::now();
    assert_eq!(open().await.live_tasks().await.expect("readable").len(), ids.len());
    println!("checked, opened and loaded: {:?}", begun.elapsed());
}
