//! What the queue costs by itself: a claim among few and many waiting tasks, and transitions that are durable on disk. Prints
//! one JSON object.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use clauded::core::attempt::{Ended, Report};
use clauded::core::audit::Entry;
use clauded::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use clauded::core::pool::Rules;
use clauded::core::queue::{Change, Effect, Hello, Queue, Stored};
use clauded::core::task::{Placement, Target, Task, TaskSpec, TaskState, TaskType};
use clauded::core::terms::{Priority, Terms};
use clauded::core::usage::{AgentUsage, KernelUsage};
use clauded::platform::store::{Batch, SqliteStore};
use jiff::Timestamp;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

/// Claims that are timed.
const CLAIMS: usize = 2000;
/// Commits that are timed.
const COMMITS: u32 = 500;

fn spec(number: i64) -> TaskSpec {
    // A hundred groups, twenty-one priorities: many classes, and no order by arrival.
    let terms =
        Terms { priority: Priority::try_from(number % 21 - 10).unwrap(), group: Some(format!("g{}", number % 100).parse().unwrap()), ..Terms::default() };
    TaskSpec {
        target: Target::Any,
        kind: TaskType::default(),
        title: "t".to_owned(),
        prompt: "p".to_owned(),
        timeout: None,
        budget: None,
        max_turns: None,
        schema: None,
        terms: Arc::new(terms),
    }
}

fn task(number: i64) -> Task {
    Task::fresh(TaskId(number), &spec(number), Timestamp::from_microsecond(number * 7_919_113 % 100_000_000_000).unwrap())
}

fn report() -> Report {
    let now = Timestamp::UNIX_EPOCH;
    let (agent, kernel) = (AgentUsage::default(), KernelUsage::default());
    Report {
        ended: Ended::Succeeded,
        detail: String::new(),
        exit: None,
        session: None,
        started: now,
        finished: now,
        agent,
        kernel,
        text: String::new(),
        work: None,
    }
}

fn given(effects: &[Effect]) -> Option<Placement> {
    effects.iter().find_map(|effect| if let Effect::Run { placement, .. } = effect { Some(placement.clone()) } else { None })
}

/// Median and 99th percentile of a claim, µs: an instance says that it is done, and is given the next of so many.
fn claims(pending: usize) -> (f64, f64) {
    let stored = Stored { tasks: (1..=(pending + CLAIMS) as i64).map(task).collect(), ..Stored::default() };
    let mut queue = Queue::load(stored, Rules::default());
    let now = Timestamp::from_second(200_000).unwrap();
    let name: InstanceName = "a".parse().unwrap();
    let hello = Hello { instance: name.clone(), invocation: InvocationId::from_bytes(&[1; 16]).unwrap(), account: "x".to_owned(), current: None };
    let mut running = given(&queue.linked(hello, now)).unwrap();
    let mut times: Vec<f64> = (1..CLAIMS)
        .map(|_| {
            let begun = Instant::now();
            let effects = queue.finished(&name, "x", running.attempt, &report(), now);
            let took = begun.elapsed().as_secs_f64() * 1e6;
            running = given(&effects).unwrap();
            queue.committed();
            took
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// The row of the audit that comes with each transition.
fn row(id: TaskId) -> Entry {
    let details = r#"{"attempt":1,"invocation":"01010101010101010101010101010101"}"#.to_owned();
    let (who, what, instance) = ("clauded".to_owned(), "task-assigned".to_owned(), Some("a".to_owned()));
    Entry { at: id.0, origin: who.clone(), who, uid: None, pid: None, acting: None, what, instance, task: Some(id.0), subject: None, details }
}

/// Transitions a second, `each` of them in a commit, with their rows of the audit or without.
async fn durable(store: &SqliteStore, ids: &[TaskId], each: usize, audited: bool) -> f64 {
    let placement =
        |id| Placement { attempt: AttemptId { task: id, number: 1 }, instance: "a".parse().unwrap(), invocation: InvocationId::from_bytes(&[1; 16]).unwrap() };
    // Over the whole table, as tasks are that end in any order.
    let step = (ids.len() / (each * COMMITS as usize)).max(1);
    let spread: Vec<TaskId> = ids.iter().copied().step_by(step).collect();
    let mut chunks = spread.chunks(each).cycle();
    let commits = if each == 1 { COMMITS } else { COMMITS / 10 };
    let begun = Instant::now();
    for _ in 0..commits {
        let chunk = chunks.next().unwrap();
        let changes = chunk.iter().map(|id| {
            let task = Task { state: TaskState::Assigned(placement(*id)), ..task(id.0) };
            Change::Task(Box::new(task))
        });
        let audit = if audited { chunk.iter().map(|id| row(*id)).collect() } else { Vec::new() };
        let batch = Batch { changes: changes.collect(), audit, ..Batch::default() };
        store.commit_with(&batch, |_| Batch::default()).await.unwrap();
    }
    f64::from(commits) * each as f64 / begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Flushes of 4 KiB a second on the same disk.
fn fsyncs(directory: &std::path::Path) -> f64 {
    let mut file = std::fs::File::create(directory.join("fsync")).unwrap();
    let begun = Instant::now();
    for _ in 0..COMMITS {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    f64::from(COMMITS) / begun.elapsed().as_secs_f64()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rows: Vec<String> = [100, 1000, 10_000, 100_000]
        .into_iter()
        .map(|pending| {
            let (median, p99) = claims(pending);
            format!("{{\"pending\":{pending},\"claim_us\":{median:.2},\"p99_us\":{p99:.2}}}")
        })
        .collect();
    // On the disk of the working tree: /tmp may be memory.
    let scratch = std::path::PathBuf::from(format!("target/bench-queue-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let store = SqliteStore::open(&scratch.join("queue.db")).await.unwrap();
    let (mut ids, mut disk) = (Vec::new(), Vec::new());
    for size in [100_i64, 10_000, 100_000] {
        while (ids.len() as i64) < size {
            let first = ids.len() as i64 + 1;
            let add = (first..=size.min(first + 9999)).map(|number| (spec(number), Timestamp::UNIX_EPOCH)).collect();
            ids.extend(store.commit_with(&Batch { add, ..Batch::default() }, |_| Batch::default()).await.unwrap());
        }
        // One after the other, so that what the disk does meanwhile meets all of them.
        let (mut bare, mut one, mut shared, mut flushes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            flushes.push(fsyncs(&scratch));
            bare.push(durable(&store, &ids, 1, false).await);
            one.push(durable(&store, &ids, 1, true).await);
            shared.push(durable(&store, &ids, 64, true).await);
        }
        let [bare, one, shared, flushes] = [bare, one, shared, flushes].map(median);
        disk.push(format!(
            "{{\"tasks\":{size},\"durable_per_s\":{one:.0},\"without_audit_per_s\":{bare:.0},\"shared_per_s\":{shared:.0},\"fsync_per_s\":{flushes:.0}}}"
        ));
    }
    store.close().await;
    println!("{{\"claims\":[{}],\"disk\":[{}]}}", rows.join(","), disk.join(","));
    let _ = std::fs::remove_dir_all(&scratch);
}
