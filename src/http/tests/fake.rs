//! A service in memory behind the real server on real sockets, and a client for it.

use crate::core::audit::{Actor, AuditQuery, Who};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::lock::LockId;
use crate::core::message::{MessageId, MessageQuery};
use crate::core::plan::PlanId;
use crate::http::service::{
    Answer, Audit, Caller, Checks, Feeds, Instances, Locks, Messages, Plans, Queue, Repositories, Role, Schedules, ServiceError, TaskQuery, Tasks, Teams,
    Worktrees,
};
use crate::http::{Access, Peer, Server};
use crate::proto::api;
use crate::proto::audit::{AuditCheck, AuditRow};
use crate::proto::messages::{Letter, Message, NewBroadcast, NewHelp, NewMessage};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, broadcast, oneshot};
use tokio::task::JoinHandle;

pub(super) const TOKEN: &str = "correct-horse-battery";

/// Remembers what it was asked; `slow` holds stop() until it is told to go on.
pub(super) struct Fake {
    pub(super) calls: Mutex<Vec<String>>,
    pub(super) requests: Mutex<Vec<(String, String, u16)>>,
    pub(super) events: Mutex<Vec<api::Event>>,
    pub(super) live: broadcast::Sender<api::Event>,
    pub(super) entered: Notify,
    pub(super) go_on: Notify,
}

impl Fake {
    fn did(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    /// Commits an event, then tells of it, as the daemon does.
    pub(super) fn publish(&self, message: &str) {
        let mut events = self.events.lock().unwrap();
        let event = api::Event { id: events.len() as i64 + 1, kind: "task-added".into(), message: message.into(), ..Default::default() };
        events.push(event.clone());
        drop(events);
        let _ = self.live.send(event);
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

fn done(message: &str) -> api::Outcome {
    api::Outcome { result: "changed".into(), message: message.into() }
}

pub(super) fn task(id: i64) -> api::Task {
    api::Task {
        id,
        kind: "feature".into(),
        title: "t".into(),
        state: "pending".into(),
        reason: None,
        detail: String::new(),
        instance: None,
        placed_on: None,
        attempts: 0,
        created: "2026-01-01T00:00:00Z".into(),
        not_before: None,
        finished: None,
        cost_usd: 0.0,
        priority: 0,
        group: None,
        waits_for: None,
        claimed_by: None,
    }
}

impl Instances for Fake {
    fn instances(&self) -> Answer<'_, Vec<api::Instance>> {
        let instance = |name: &str, active: &str, task| api::Instance { name: name.into(), active: active.into(), task, ..Default::default() };
        ready(vec![instance("a", "active", Some(1)), instance("b", "active", None), instance("c", "failed", None)])
    }
    fn instance(&self, name: InstanceName) -> Answer<'_, api::InstanceDetail> {
        let detail = format!("there is no instance {name}");
        Box::pin(std::future::ready(Err(ServiceError { status: 404, code: "no-such-instance", detail })))
    }
    fn start(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        self.did(format!("start {name} by {}", caller.description));
        ready(done("started"))
    }
    fn stop(&self, _: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            self.entered.notify_one();
            self.go_on.notified().await;
            self.did(format!("stopped {name}"));
            self.entered.notify_one();
            Ok(done("stopped"))
        })
    }
    fn restart(&self, _: Caller, _: InstanceName) -> Answer<'_, api::Outcome> {
        panic!("a bug in the daemon")
    }
    fn set_limits(&self, _: Caller, name: InstanceName, limits: api::SetLimits) -> Answer<'_, api::Outcome> {
        self.did(format!("limits {name} {:?}", limits.memory));
        ready(done("set"))
    }
}

impl Teams for Fake {
    fn teams(&self) -> Answer<'_, Vec<api::Team>> {
        ready(vec![api::Team { name: "t".into(), ..Default::default() }])
    }
    fn team(&self, name: InstanceName) -> Answer<'_, api::Team> {
        ready(api::Team { name: name.to_string(), ..Default::default() })
    }
    fn team_up(&self, caller: Caller, name: InstanceName, wanted: api::TeamUp) -> Answer<'_, api::TeamOutcome> {
        self.did(format!("up {name} {wanted:?} by {}", caller.description));
        ready(api::TeamOutcome::default())
    }
    fn team_down(&self, _: Caller, name: InstanceName, wanted: api::TeamDown) -> Answer<'_, api::TeamOutcome> {
        self.did(format!("down {name} {}", wanted.remove));
        ready(api::TeamOutcome::default())
    }
    fn team_scale(&self, _: Caller, name: InstanceName, wanted: api::TeamScale) -> Answer<'_, api::TeamOutcome> {
        self.did(format!("scale {name} {:?} {}", wanted.replicas, wanted.now));
        ready(api::TeamOutcome::default())
    }
}

impl Checks for Fake {
    fn check(&self, caller: Caller, repository: Option<Label>) -> Answer<'_, api::Check> {
        self.did(format!("check {} by {}", repository.map(|name| name.to_string()).unwrap_or_default(), caller.description));
        ready(api::Check::default())
    }
    fn forecast(&self, caller: Caller, id: TaskId) -> Answer<'_, api::TaskForecast> {
        self.did(format!("forecast {id} by {}", caller.description));
        ready(api::TaskForecast::default())
    }
}

impl Repositories for Fake {
    fn set_repository(&self, caller: Caller, name: Label, wanted: api::SetRepository) -> Answer<'_, api::Outcome> {
        self.did(format!("repository {name} {wanted:?} by {}", caller.description));
        ready(done("created"))
    }
}

impl Worktrees for Fake {
    fn worktrees(&self) -> Answer<'_, Vec<api::Worktree>> {
        ready(vec![api::Worktree { instance: "a".into(), ..Default::default() }])
    }
    fn add_worktree(&self, _: Caller, name: InstanceName, repository: String) -> Answer<'_, api::Outcome> {
        self.did(format!("worktree of {repository} for {name}"));
        ready(done("created"))
    }
    fn remove_worktree(&self, _: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        self.did(format!("remove worktree {name}"));
        ready(done("changed"))
    }
    fn collect_worktrees(&self, _: Caller, dry_run: bool) -> Answer<'_, Vec<api::WorktreeFate>> {
        self.did(format!("gc {dry_run}"));
        ready(Vec::new())
    }
}

impl Tasks for Fake {
    fn add_task(&self, _: Caller, new: api::NewTask) -> Answer<'_, api::Task> {
        self.did(format!("add {} for {:?}", new.prompt, new.instance));
        ready(task(7))
    }
    fn tasks(&self, query: TaskQuery) -> Answer<'_, Vec<api::Task>> {
        self.did(format!("tasks {:?} {:?} {:?} {}", query.state, query.instance.map(|i| i.to_string()), query.before, query.limit));
        ready(vec![task(1)])
    }
    fn task(&self, id: TaskId) -> Answer<'_, api::TaskDetail> {
        let task = api::Task { placed_on: (id.0 == 2).then(|| "a".to_owned()), ..task(id.0) };
        ready(api::TaskDetail {
            task,
            prompt: "p".into(),
            timeout_seconds: None,
            budget_usd: None,
            max_turns: None,
            memory_limit_bytes: None,
            schema: None,
            team: None,
            role: None,
            specialty: None,
            labels: vec![],
            repository: None,
            branch: None,
            after: vec![],
            after_failed: "fail".into(),
            files: vec![],
            history: vec![],
        })
    }
    fn cancel(&self, _: Caller, id: TaskId) -> Answer<'_, api::Task> {
        ready(task(id.0))
    }
    fn retry(&self, _: Caller, id: TaskId) -> Answer<'_, api::Task> {
        ready(task(id.0))
    }
    fn log(&self, _: TaskId, attempt: Option<u32>, offset: u64, wait: bool) -> Answer<'_, api::LogChunk> {
        Box::pin(async move {
            if wait {
                self.entered.notify_one();
                self.go_on.notified().await;
            }
            Ok(api::LogChunk { attempt: attempt.unwrap_or(1), offset, next: offset, text: format!("wait={wait}"), complete: false })
        })
    }
}

impl Queue for Fake {
    fn claim(&self, caller: Caller, id: Option<TaskId>, _: api::Claim) -> Answer<'_, api::Task> {
        self.did(format!("claim {id:?} {}", caller.description));
        ready(task(id.map_or(1, |id| id.0)))
    }
    fn release(&self, _: Caller, id: TaskId) -> Answer<'_, api::Task> {
        self.did(format!("release {id}"));
        ready(task(id.0))
    }
    fn complete(&self, _: Caller, id: TaskId, completion: api::Completion) -> Answer<'_, api::Completed> {
        self.did(format!("complete {id} {} {:?}", completion.failed, completion.note));
        ready(api::Completed { task: task(id.0), next: None })
    }
    fn headway(&self, _: Caller, said: api::Headway) -> Answer<'_, api::Outcome> {
        self.did(format!("headway {}", said.text));
        ready(done("changed"))
    }
    fn pauses(&self) -> Answer<'_, Vec<api::Pause>> {
        ready(Vec::new())
    }
    fn pause(&self, _: Caller, wanted: api::NewPause) -> Answer<'_, api::Outcome> {
        self.did(format!("pause {} {:?}", wanted.kind, wanted.name));
        ready(done("changed"))
    }
    fn resume(&self, _: Caller, kind: String, name: String) -> Answer<'_, api::Outcome> {
        self.did(format!("resume {kind} {name:?}"));
        ready(done("changed"))
    }
    fn cancel_group(&self, _: Caller, group: Label) -> Answer<'_, Vec<api::Task>> {
        self.did(format!("cancel group {group}"));
        ready(vec![task(1)])
    }
    fn import(&self, _: Caller, import: api::Import) -> Answer<'_, api::Imported> {
        self.did(format!("import {}", import.tasks.len()));
        ready(api::Imported::default())
    }
    fn export(&self, group: Option<Label>, all: bool) -> Answer<'_, api::Import> {
        self.did(format!("export {group:?} {all}"));
        ready(api::Import::default())
    }
}

impl Schedules for Fake {
    fn schedules(&self) -> Answer<'_, Vec<api::Schedule>> {
        ready(Vec::new())
    }
    fn add_schedule(&self, _: Caller, new: api::NewSchedule) -> Answer<'_, api::Schedule> {
        self.did(format!("schedule {} {}", new.name, new.cron));
        ready(api::Schedule::default())
    }
    fn remove_schedule(&self, _: Caller, name: Label) -> Answer<'_, api::Outcome> {
        self.did(format!("remove schedule {name}"));
        ready(done("changed"))
    }
    fn run_schedule(&self, _: Caller, name: Label) -> Answer<'_, api::Outcome> {
        self.did(format!("run schedule {name}"));
        ready(done("created"))
    }
}

impl Plans for Fake {
    fn add_plan(&self, _: Caller, new: api::NewPlan) -> Answer<'_, api::Plan> {
        self.did(format!("plan {} for {}", new.goal, new.team));
        ready(api::Plan { id: 3, ..Default::default() })
    }
    fn plans(&self, _: Option<PlanId>, all: bool, limit: u32) -> Answer<'_, Vec<api::Plan>> {
        self.did(format!("plans {all} {limit}"));
        ready(["a", "b"].map(|boss| api::Plan { boss: boss.into(), ..Default::default() }).into())
    }
    fn plan(&self, id: PlanId) -> Answer<'_, api::Plan> {
        ready(api::Plan { id: id.0, boss: if id.0 == 2 { "a".into() } else { "b".into() }, ..Default::default() })
    }
    fn approve_plan(&self, _: Caller, id: PlanId) -> Answer<'_, api::Plan> {
        self.did(format!("approve plan {id}"));
        ready(api::Plan::default())
    }
    fn reject_plan(&self, _: Caller, id: PlanId, why: String) -> Answer<'_, api::Plan> {
        self.did(format!("reject plan {id} {why}"));
        ready(api::Plan::default())
    }
    fn cancel_plan(&self, _: Caller, id: PlanId) -> Answer<'_, api::Plan> {
        self.did(format!("cancel plan {id}"));
        ready(api::Plan::default())
    }
    fn export_plan(&self, _: PlanId) -> Answer<'_, api::Import> {
        ready(api::Import::default())
    }
}

impl Messages for Fake {
    fn send(&self, caller: Caller, new: NewMessage) -> Answer<'_, Message> {
        self.did(format!("send {} to {} by {:?}", new.text, new.to, caller.role));
        ready(Message { id: 5, ..Default::default() })
    }
    fn broadcast(&self, _: Caller, new: NewBroadcast) -> Answer<'_, Message> {
        self.did(format!("broadcast {}", new.text));
        ready(Message { id: 6, ..Default::default() })
    }
    fn help(&self, _: Caller, new: NewHelp) -> Answer<'_, Message> {
        self.did(format!("help {} {:?}", new.text, new.specialty));
        ready(Message { id: 7, ..Default::default() })
    }
    fn messages(&self, query: MessageQuery) -> Answer<'_, Vec<Message>> {
        self.did(format!("messages {:?} {}", query.instance.map(|i| i.to_string()), query.limit));
        ready(Vec::new())
    }
    fn message(&self, id: MessageId, wait: bool) -> Answer<'_, Message> {
        Box::pin(async move {
            if wait {
                self.go_on.notified().await;
            }
            let letter = Letter { to: "a".to_owned(), ..Default::default() };
            Ok(Message { id: id.0, letters: if id.0 == 2 { vec![letter] } else { Vec::new() }, ..Default::default() })
        })
    }
}

impl Audit for Fake {
    fn audit(&self, query: AuditQuery, wait: bool) -> Answer<'_, Vec<AuditRow>> {
        Box::pin(async move {
            self.did(format!("audit {query:?} wait={wait}"));
            if wait {
                self.go_on.notified().await;
            }
            Ok(vec![AuditRow { seq: 1, ..Default::default() }])
        })
    }
    fn check_audit(&self) -> Answer<'_, AuditCheck> {
        ready(AuditCheck { intact: true, ..Default::default() })
    }
}

impl Locks for Fake {
    fn locks(&self, _: Caller, _: Option<uuid::Uuid>) -> Answer<'_, api::LockTable> {
        ready(api::LockTable::default())
    }
    fn acquire_lock(&self, caller: Caller, lock: api::NewLock, hung_up: BoxFuture<'static, ()>) -> Answer<'_, api::GivenLock> {
        Box::pin(async move {
            if lock.wait_seconds.is_some() {
                self.entered.notify_one();
                hung_up.await;
                self.did("hung up".to_owned());
                self.entered.notify_one();
            }
            self.did(format!("lock {:?} by {}", lock.path, caller.description));
            Ok(api::GivenLock::default())
        })
    }
    fn steal_lock(&self, _: Caller, _: api::NewLock) -> Answer<'_, api::GivenLock> {
        ready(api::GivenLock::default())
    }
    fn release_locks(&self, _: Caller, _: api::ReleaseLocks) -> Answer<'_, api::Outcome> {
        ready(done("released"))
    }
    fn transfer_lock(&self, _: Caller, id: LockId, to: api::TransferLock) -> Answer<'_, api::GivenLock> {
        self.did(format!("transfer {id} to {}", to.instance));
        ready(api::GivenLock::default())
    }
}

impl Feeds for Fake {
    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<api::Event>> {
        ready(self.events.lock().unwrap().iter().filter(|e| e.id > after).take(limit as usize).cloned().collect())
    }
    fn subscribe(&self) -> broadcast::Receiver<api::Event> {
        self.live.subscribe()
    }
    fn health(&self) -> Answer<'_, api::Health> {
        ready(api::Health { status: "ok".into(), ..Default::default() })
    }
    fn metrics(&self) -> Answer<'_, String> {
        ready("clauded_build_info 1\n".to_owned())
    }
    fn count_request(&self, route: &str, method: &str, status: u16) {
        self.requests.lock().unwrap().push((route.to_owned(), method.to_owned(), status));
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: hyper::HeaderMap,
    pub(super) text: String,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The problem, after checking that it is one and agrees with the answer's status.
    pub(super) fn problem(&self) -> api::Problem {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem: api::Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!((problem.status, problem.kind.as_str()), (self.status, "about:blank"));
        problem
    }
}

/// The real server over a [`Fake`].
pub(super) struct Rig {
    pub(super) fake: Arc<Fake>,
    pub(super) tcp: SocketAddr,
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    role: Arc<Mutex<Role>>,
    _directory: tempfile::TempDir,
}

impl Rig {
    /// Everyone on the Unix socket has that role.
    pub(super) async fn new(role: Role) -> Self {
        Self::with(role, Access { token: Some(TOKEN.to_owned().into()), ..Access::default() }).await
    }

    pub(super) async fn with(role: Role, access: Access) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        let fake = Arc::new(Fake {
            calls: Mutex::default(),
            requests: Mutex::default(),
            events: Mutex::default(),
            live: broadcast::channel(4).0,
            entered: Notify::new(),
            go_on: Notify::new(),
        });
        let role = Arc::new(Mutex::new(role));
        let of_callers = role.clone();
        let identify = Arc::new(move |peer: Peer| {
            assert_eq!(peer.pid, std::process::id(), "the test is its own peer");
            let actor = Actor::local(Who::User { uid: peer.uid, name: None, pid: peer.pid });
            Caller { description: format!("uid {}, pid {}", peer.uid, peer.pid), actor, role: of_callers.lock().unwrap().clone() }
        });
        let unix = UnixListener::bind(&socket).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = Server { service: fake.clone(), identify, access };
        let server = tokio::spawn(server.run(unix, Some(listener), async move {
            let _ = stopped.await;
        }));
        Self { fake, tcp, socket, stop, server, role, _directory: directory }
    }

    /// Who connects from now on has that role.
    pub(super) fn calls_as(&self, role: Role) {
        *self.role.lock().unwrap() = role;
    }

    /// A connection over the Unix socket that says nothing.
    pub(super) async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Asks the server to end and waits until it has.
    pub(super) async fn end(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap();
    }

    /// Sends a request over the Unix socket; the answer's body is not read yet.
    pub(super) async fn open(&self, request: Request<String>) -> Response<Incoming> {
        send(UnixStream::connect(&self.socket).await.unwrap(), request).await
    }

    pub(super) async fn unix(&self, method: &str, path: &str, json: Option<&str>) -> Got {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if json.is_some() {
            request = request.header("content-type", "application/json");
        }
        self.unix_request(request.body(json.unwrap_or_default().to_owned()).unwrap()).await
    }

    pub(super) async fn unix_request(&self, request: Request<String>) -> Got {
        read(self.open(request).await).await
    }

    /// Sends a request over TCP with these headers; Host is right unless given.
    pub(super) async fn over_tcp(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", self.tcp.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(send(TcpStream::connect(self.tcp).await.unwrap(), request.body(String::new()).unwrap()).await).await
    }
}

async fn send<I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(io: I, request: Request<String>) -> Response<Incoming> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

async fn read(answer: Response<Incoming>) -> Got {
    let (head, body) = answer.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Got { status: head.status.as_u16(), headers: head.headers, text }
}
