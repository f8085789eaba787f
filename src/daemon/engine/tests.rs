//! The loop with a real store that is made to fail.

mod sizes;

use super::{Engine, Input, Outbox};
use crate::config::{Config, Paths};
use crate::core::attempt::{Ended, Report};
use crate::core::audit::{Actor, AuditQuery, Who};
use crate::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use crate::core::queue::{Hello, Pause, Scope};
use crate::core::task::{Claim, Target, TaskSpec, TaskType};
use crate::core::usage::{AgentUsage, KernelUsage};
use crate::daemon::turn::{Additions, Turn};
use crate::metrics::{Metrics, Numbers};
use crate::platform::store::SqliteStore;
use crate::proto::link::{Event, FromDaemon};
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

const DEADLINE: Duration = Duration::from_secs(30);
const ATTEMPT: AttemptId = AttemptId { task: TaskId(1), number: 1 };

fn name() -> InstanceName {
    "a".parse().expect("valid")
}

fn invocation() -> InvocationId {
    InvocationId::from_bytes(&[1; 16]).expect("not zero")
}

/// The engine's side of a connection, and the runner's.
fn connection(connection: u64) -> (Outbox, mpsc::Receiver<FromDaemon>) {
    let (send, receive) = mpsc::channel(64);
    (Outbox { connection, send, hang_up: Arc::new(Notify::new()) }, receive)
}

fn linked(to: &Outbox, current: Option<AttemptId>) -> Input {
    Input::Linked { hello: Hello { instance: name(), invocation: invocation(), account: "x".to_owned(), current }, to: to.clone() }
}

fn says(to: &Outbox, seq: u64, event: Event) -> Input {
    Input::Runner { instance: name(), account: "x".to_owned(), invocation: invocation(), seq, event, to: to.clone() }
}

fn success() -> Event {
    Event::Finished { attempt: ATTEMPT, report: Box::new(report()) }
}

fn report() -> Report {
    let (started, finished) = (Timestamp::UNIX_EPOCH, Timestamp::now());
    let (agent, kernel) = (AgentUsage::default(), KernelUsage::default());
    Report { ended: Ended::Succeeded, detail: String::new(), exit: None, session: None, started, finished, agent, kernel, text: "done".to_owned(), work: None }
}

/// Waits for the message that fits; those before it are of no interest.
async fn hear(from: &mut mpsc::Receiver<FromDaemon>, fits: impl Fn(&FromDaemon) -> bool) {
    let heard = async {
        while let Some(message) = from.recv().await {
            if fits(&message) {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(DEADLINE, heard).await.expect("in time"), "the connection was closed");
}

/// What task 1 is, once everything before has been dealt with.
async fn state(inputs: &mpsc::Sender<Input>) -> Option<&'static str> {
    let (reply, answer) = oneshot::channel();
    let look = move |state: &super::State| reply.send(state.queue.task(TaskId(1)).map(|task| task.state.name())).expect("waited for");
    inputs.send(Input::Ask(Box::new(look))).await.expect("the engine runs");
    tokio::time::timeout(DEADLINE, answer).await.expect("in time").expect("answered")
}

/// A loop over a new store.
async fn running(directory: &tempfile::TempDir) -> (SqliteStore, mpsc::Sender<Input>, tokio::task::JoinHandle<()>) {
    let store = SqliteStore::open(&directory.path().join("queue.db")).await.expect("opens");
    let config = directory.path().join("clauded.toml");
    std::fs::write(&config, "").expect("written");
    let config = Arc::new(Config::load(&Paths { config, ..Paths::system() }).expect("valid"));
    let metrics = Arc::new(Metrics::new(|_: &Path| Numbers::default()).expect("families"));
    let engine =
        Engine::new(store.clone(), config, metrics, broadcast::channel(64).0, Arc::default(), None, mpsc::unbounded_channel().0).await.expect("loaded");
    let (inputs, receiver) = mpsc::channel(64);
    (store, inputs, tokio::spawn(engine.run(receiver)))
}

fn spec() -> TaskSpec {
    TaskSpec {
        target: Target::Any,
        kind: TaskType::default(),
        title: "t".to_owned(),
        prompt: "the secret prompt".to_owned(),
        timeout: None,
        budget: None,
        max_turns: None,
        schema: None,
        terms: Arc::default(),
    }
}

#[tokio::test]
async fn the_audit_says_who_did_what_and_not_what_was_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, inputs, running) = running(&directory).await;
    let send = async |input| inputs.send(input).await.expect("the engine runs");
    let ann = || Actor::local(Who::User { uid: 1000, name: Some("ann".to_owned()), pid: 7 });
    let (to, mut runner) = connection(1);
    send(linked(&to, None)).await;
    send(Input::By(ann(), Box::new(Input::Add(Box::new(Additions { specs: vec![(spec(), Vec::new())], ended: Default::default() }), oneshot::channel().0))))
        .await;
    hear(&mut runner, |message| matches!(message, FromDaemon::Run(_))).await;
    send(says(&to, 1, Event::Started { attempt: ATTEMPT, session: None, pid: 7, cgroup: String::new() })).await;
    send(Input::By(ann(), Box::new(Input::Cancel(TaskId(1), oneshot::channel().0)))).await;
    send(says(&to, 2, success())).await;
    hear(&mut runner, |message| matches!(message, FromDaemon::Ack { seq: 2 })).await;
    let config = Arc::new(Config::default_for(&Paths::system()));
    send(Input::By(Actor::signal(), Box::new(Input::Configure(config)))).await;
    state(&inputs).await;
    let rows = store.audit(&AuditQuery { after: Some(0), limit: 100, ..AuditQuery::default() }).await.expect("read");
    let told: Vec<_> = rows.iter().map(|row| (row.entry.what.as_str(), row.entry.who.as_str())).collect();
    assert_eq!(
        told,
        [
            ("task-added", "user:ann"),
            ("task-assigned", "user:ann"),
            ("task-running", "runner:a"),
            ("task-cancelling", "user:ann"),
            ("attempt-reported", "runner:a"),
            ("task-succeeded", "runner:a"),
            ("config-reloaded", "clauded"),
        ]
    );
    assert!(rows.iter().all(|row| !format!("{row:?}").contains("secret")));
    assert_eq!(store.check_audit(None).await.expect("checked").broken, []);
    drop((inputs, to));
    running.await.expect("ended");
}

#[tokio::test]
async fn what_the_queue_gives_out_together_goes_to_the_account_of_each_who_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, inputs, running) = running(&directory).await;
    let send = async |input| inputs.send(input).await.expect("the engine runs");
    let person = |name: &str| Actor::local(Who::User { uid: 1000, name: Some(name.to_owned()), pid: 7 });
    let (to, mut runner) = connection(1);
    let adds = || Input::Add(Box::new(Additions { specs: vec![(spec(), Vec::new())], ended: Default::default() }), oneshot::channel().0);
    let claims = |state: &mut super::State, now, turn: &mut Turn| {
        let claim = Claim { by: "bob".to_owned(), since: now, agent: None };
        let (_, effects) = state.queue.claim(Some(TaskId(2)), claim, now).expect("granted");
        turn.effects(effects, now);
        let pause = Pause { by: "bob".to_owned(), why: "lunch".to_owned(), since: now };
        turn.effects(state.queue.pause(Scope::All, pause).1, now);
    };
    // All of it waits before the loop looks.
    inputs.try_send(linked(&to, None)).expect("room");
    inputs.try_send(Input::By(person("ann"), Box::new(adds()))).expect("room");
    inputs.try_send(Input::By(person("bob"), Box::new(adds()))).expect("room");
    hear(&mut runner, |message| matches!(message, FromDaemon::Run(_))).await;
    send(Input::By(person("bob"), Box::new(Input::Decide(Box::new(claims))))).await;
    state(&inputs).await;
    let rows = store.audit(&AuditQuery { after: Some(0), limit: 100, ..AuditQuery::default() }).await.expect("read");
    let told: Vec<_> = rows.iter().map(|row| (row.entry.what.as_str(), row.entry.who.as_str())).collect();
    let expected =
        [("task-added", "user:ann"), ("task-added", "user:bob"), ("task-assigned", "user:ann"), ("task-claimed", "user:bob"), ("paused", "user:bob")];
    assert_eq!(told, expected);
    drop((inputs, to));
    running.await.expect("ended");
}

#[tokio::test]
async fn a_report_that_could_not_be_stored_is_not_acknowledged_by_what_follows_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, inputs, running) = running(&directory).await;
    let send = async |input| inputs.send(input).await.expect("the engine runs");

    let (first, mut runner) = connection(1);
    send(linked(&first, None)).await;
    let additions = Additions { specs: vec![(spec(), Vec::new())], ended: Default::default() };
    send(Input::Add(Box::new(additions), oneshot::channel().0)).await;
    hear(&mut runner, |message| matches!(message, FromDaemon::Run(work) if work.attempt == ATTEMPT)).await;
    send(says(&first, 1, Event::Started { attempt: ATTEMPT, session: None, pid: 7, cgroup: String::new() })).await;
    hear(&mut runner, |message| matches!(message, FromDaemon::Ack { seq: 1 })).await;

    // It comes back with a result in its spool, and the disk is full.
    send(Input::Unlinked(name(), invocation(), 1)).await;
    store.alter("CREATE TRIGGER full BEFORE UPDATE ON attempts BEGIN SELECT RAISE(ABORT, 'full'); END").await;
    let (second, mut runner) = connection(2);
    send(says(&second, 2, success())).await;
    tokio::time::timeout(DEADLINE, second.hang_up.notified()).await.expect("the connection is closed, though it is not linked yet");
    store.alter("DROP TRIGGER full").await;
    send(linked(&second, None)).await;
    assert_eq!(state(&inputs).await, Some("running"), "its result is still in the spool");
    drop(second);
    send(Input::Unlinked(name(), invocation(), 2)).await;

    let (third, mut again) = connection(3);
    send(says(&third, 2, success())).await;
    send(linked(&third, None)).await;
    hear(&mut again, |message| matches!(message, FromDaemon::Ack { seq: 2 })).await;
    assert_eq!((state(&inputs).await, runner.try_recv().ok().is_some()), (None, false), "it has succeeded, and the second connection was told nothing");
    drop((inputs, third));
    running.await.expect("ended");
}
