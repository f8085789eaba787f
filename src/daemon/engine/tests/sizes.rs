//! A task that runs out of memory, with a supervisor that is played: it writes to files in the place of cgroups.

use super::{ATTEMPT, DEADLINE, connection, hear, invocation, linked, name, report, says, spec, state};
use crate::config::{Config, Paths};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::ids::AttemptId;
use crate::core::instance::Observation;
use crate::core::limits::MemoryLimit;
use crate::daemon::engine::{Engine, Input};
use crate::daemon::sizes;
use crate::daemon::turn::Additions;
use crate::metrics::{Metrics, Numbers};
use crate::platform::store::SqliteStore;
use crate::platform::units::{Command, Done, UnitEvent, Units};
use crate::proto::link::{Event, FromDaemon};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

const GIGA: u64 = 1 << 30;
const AGAIN: AttemptId = AttemptId { number: 2, ..ATTEMPT };

/// A daemon with a directory in the place of the cgroups, and the supervisor's end of it.
struct World {
    store: SqliteStore,
    inputs: mpsc::Sender<Input>,
    running: tokio::task::JoinHandle<()>,
    commands: mpsc::Receiver<Command>,
}

impl World {
    /// Over the store that is there, with everything seen.
    async fn new(directory: &Path) -> Self {
        let text = "[queue]\nsize-classes = [\"2G\"]\n".to_owned();
        let config = Arc::new(Config::from_texts(&[("c.toml".into(), text)], &Paths::system()).unwrap_or_else(|problems| panic!("{problems}")));
        let store = SqliteStore::open(&directory.join("queue.db")).await.expect("opens");
        let metrics = Arc::new(Metrics::new(|_: &Path| Numbers::default()).expect("families"));
        let (limits, orders) = mpsc::unbounded_channel();
        let mut engine = Engine::new(store.clone(), config, metrics, broadcast::channel(64).0, Arc::default(), None, limits).await.expect("loaded");
        engine.cgroups = Some(directory.to_owned());
        let (inputs, receiver) = mpsc::channel(64);
        let (units, commands) = Units::new("played");
        tokio::spawn(sizes::perform(orders, units, inputs.clone()));
        let world = Self { store, inputs, running: tokio::spawn(engine.run(receiver)), commands };
        let seen = Observation { control_group: "/fleet/a".into(), ..Observation::running_in(name(), invocation()) };
        world.send(Input::Unit(UnitEvent::Seen(Box::new(seen)))).await;
        world.send(Input::Unit(UnitEvent::CaughtUp)).await;
        world
    }

    async fn send(&self, input: Input) {
        self.inputs.send(input).await.expect("the engine runs");
    }

    /// What the supervisor is asked to set, and where its answer goes.
    async fn asked(&mut self) -> (Option<MemoryLimit>, oneshot::Sender<Result<Done, crate::platform::units::UnitError>>) {
        match tokio::time::timeout(DEADLINE, self.commands.recv()).await.expect("in time") {
            Some(Command::SetLimits(of, limits, reply)) if of == name() => (limits.memory, reply),
            other => panic!("{other:?} and no limits of a"),
        }
    }

    /// As if it was killed: nothing more of it is done.
    async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
        self.store.close().await;
    }
}

fn limit(directory: &Path, max: u64) {
    fs::create_dir_all(directory.join("fleet/a")).expect("made");
    fs::write(directory.join("fleet/a/memory.max"), max.to_string()).expect("written");
}

fn gigabytes(count: u64) -> Option<MemoryLimit> {
    Some(MemoryLimit::Bytes(count * GIGA))
}

#[tokio::test]
async fn the_limit_is_raised_before_the_second_attempt_and_set_back_after_it_whenever_the_daemon_dies() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    limit(path, GIGA);
    let mut world = World::new(path).await;
    let (to, mut runner) = connection(1);
    world.send(linked(&to, None)).await;
    world.send(Input::Add(Box::new(Additions { specs: vec![(spec(), Vec::new())], ended: Default::default() }), oneshot::channel().0)).await;
    hear(&mut runner, |message| matches!(message, FromDaemon::Run(_))).await;
    world.send(says(&to, 1, Event::Started { attempt: ATTEMPT, session: None, pid: 7, cgroup: String::new() })).await;
    let oom = Report { ended: Ended::Failed { reason: Reason::Oom, transient: false }, detail: "killed".to_owned(), ..report() };
    world.send(says(&to, 2, Event::Finished { attempt: ATTEMPT, report: Box::new(oom) })).await;
    hear(&mut runner, |message| matches!(message, FromDaemon::Ack { seq: 2 })).await;
    let (memory, _unanswered) = world.asked().await;
    assert_eq!((memory, state(&world.inputs).await), (gigabytes(2), Some("assigned")));
    assert!(runner.try_recv().is_err(), "it does not begin before it has its limit");

    // It dies before the supervisor has answered.
    world.kill().await;
    let mut world = World::new(path).await;
    let (memory, reply) = world.asked().await;
    assert_eq!(memory, gigabytes(2), "the next one asks again");
    let (to, mut runner) = connection(2);
    world.send(linked(&to, None)).await;
    let (memory, second) = {
        limit(path, 2 * GIGA);
        reply.send(Ok(Done::Changed)).expect("waited for");
        world.asked().await
    };
    assert_eq!(memory, gigabytes(2), "its runner came meanwhile");
    second.send(Ok(Done::Unchanged)).expect("waited for");
    hear(&mut runner, |message| matches!(message, FromDaemon::Run(work) if work.attempt == AGAIN)).await;
    world.send(says(&to, 3, Event::Started { attempt: AGAIN, session: None, pid: 7, cgroup: String::new() })).await;
    let done = Event::Finished { attempt: AGAIN, report: Box::new(report()) };
    world.send(says(&to, 4, done)).await;
    let (memory, unanswered) = world.asked().await;
    assert_eq!(memory, gigabytes(1), "it gets its own back");
    assert_eq!(world.store.queue().await.expect("read").raises.len(), 1, "and that is not forgotten before it has");

    // It dies again.
    drop(unanswered);
    world.kill().await;
    let mut world = World::new(path).await;
    let (memory, reply) = world.asked().await;
    assert_eq!(memory, gigabytes(1));
    reply.send(Ok(Done::Changed)).expect("waited for");
    let gone = async {
        while !world.store.queue().await.expect("read").raises.is_empty() {
            state(&world.inputs).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("in time");
    let events: Vec<_> = world.store.events_after(0, 100).await.expect("read").into_iter().filter(|event| event.kind.starts_with("limits-")).collect();
    let told: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.message.as_str())).collect();
    let expected = [("limits-raised", "MemoryMax 1G → 2G for task 1, which has run out of memory"), ("limits-restored", "MemoryMax 2G → 1G: task 1 has ended")];
    assert_eq!(told, expected);
    let attempts = world.store.attempts(ATTEMPT.task).await.expect("read");
    assert_eq!(attempts.iter().filter_map(|attempt| Some(attempt.report.as_ref()?.detail.as_str())).collect::<Vec<_>>(), ["killed; tried again with 2G", ""]);
    world.kill().await;
}
