//! A runner in a throw-away state directory, and the daemon's end of its link.

use clauded::core::attempt::Report;
use clauded::core::ids::{AttemptId, SessionId, TaskId};
use clauded::core::profile::{AgentKind, Profile};
use clauded::proto::link::{Event, FromDaemon, FromRunner, Hello, Progress, Work};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything should take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// With a cgroup for the runner, or as its tasks' subreaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cgroup,
    Subreaper,
}

/// Runs a test with and without a cgroup. Where no cgroup can be made, says so.
pub(crate) fn both(test: impl Fn(Kind)) {
    test(Kind::Subreaper);
    if cgroup_root().is_some() {
        test(Kind::Cgroup);
    } else {
        crate::skip::skip("a runner with a cgroup: no cgroup v2 tree is writable");
    }
}

fn cgroup_root() -> Option<PathBuf> {
    let root = clauded::platform::cgroup::mount()?;
    nix::unistd::access(&root.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK).ok().map(|()| root)
}

pub(crate) struct Host {
    pub dir: tempfile::TempDir,
    pub cgroup: Option<PathBuf>,
    /// More variables of the runner.
    pub environment: Vec<(&'static str, String)>,
    /// The user and group of the runner, if not ours.
    pub user: Option<u32>,
    listener: Option<UnixListener>,
    runner: Option<Child>,
}

impl Host {
    pub(crate) fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("work")).expect("mkdir");
        let cgroup = (kind == Kind::Cgroup).then(|| {
            let path = cgroup_root().expect("checked").join(format!("clauded-test-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).expect("a cgroup");
            path
        });
        let listener = Some(UnixListener::bind(dir.path().join("link.sock")).expect("bind"));
        Self { dir, cgroup, environment: Vec::new(), user: None, listener, runner: None }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clauded-runner"));
        command.arg("test-1").env("CLAUDED_DIRECTORY", self.directory()).env("STATE_DIRECTORY", self.state());
        command.env("CLAUDED_LINK", self.dir.path().join("link.sock")).env_remove("NOTIFY_SOCKET").env("PRIVATE_TO_THE_RUNNER", "yes");
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        if let Some(cgroup) = &self.cgroup {
            command.env("CLAUDED_CGROUP", cgroup);
        }
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        command
    }

    /// A runner that writes to this host's log.
    pub(crate) fn spawn(&self) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("runner.log")).expect("log");
        self.command().stdin(Stdio::null()).stderr(log).spawn().expect("the runner")
    }

    /// Starts the runner without waiting for it.
    pub(crate) fn start(&mut self) {
        self.runner = Some(self.spawn());
    }

    /// Starts the runner and answers its Hello with Welcome.
    pub(crate) fn connect(&mut self) -> Daemon {
        self.start();
        self.accept()
    }

    pub(crate) fn accept(&mut self) -> Daemon {
        if self.listener.is_none() {
            let path = self.dir.path().join("link.sock");
            let _ = fs::remove_file(&path);
            self.listener = Some(UnixListener::bind(path).expect("bind"));
        }
        let listener = self.listener.as_ref().expect("bound");
        let (stream, _) = listener.accept().expect("accept");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut daemon = Daemon { lines: BufReader::new(stream.try_clone().expect("clone")), stream, hello: None, acks: true };
        match daemon.next() {
            Some(FromRunner::Hello(hello)) => daemon.hello = Some(hello),
            other => panic!("no hello: {other:?}; {}", self.log()),
        }
        daemon.send(&FromDaemon::Welcome);
        daemon
    }

    /// Takes a connection and turns it away.
    pub(crate) fn refuse(&self, message: &str) {
        let (mut stream, _) = self.listener.as_ref().expect("bound").accept().expect("accept");
        let mut line = serde_json::to_vec(&FromDaemon::Refused { message: message.to_owned() }).expect("json");
        line.push(b'\n');
        stream.write_all(&line).expect("write");
    }

    /// Nobody listens any more.
    pub(crate) fn silence(&mut self) {
        self.listener = None;
        let _ = fs::remove_file(self.dir.path().join("link.sock"));
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.runner.as_ref().expect("runs").id()).expect("a pid"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("kill");
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let runner = self.runner.take().expect("runs");
        self.ended(runner)
    }

    /// Waits for a runner that ends by itself.
    pub(crate) fn ended(&self, mut runner: Child) -> std::process::ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = runner.try_wait().expect("wait") {
                return status;
            }
            if Instant::now() > until {
                let _ = runner.kill();
                panic!("the runner does not end; {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("runner.log")).unwrap_or_default()
    }

    /// Waits until the runner has logged that.
    pub(crate) fn says(&self, what: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(what) {
            assert!(Instant::now() < until, "{what:?} is not said: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The attempt's log as it is on disk, in order.
    pub(crate) fn task_log(&self) -> String {
        let mut files: Vec<(u64, PathBuf)> = fs::read_dir(self.state().join("logs"))
            .expect("logs")
            .map(|e| e.expect("an entry").path())
            .filter_map(|p| Some((p.file_stem()?.to_str()?.rsplit_once('.')?.1.parse().ok()?, p)))
            .collect();
        files.sort();
        files.iter().map(|(_, p)| String::from_utf8_lossy(&fs::read(p).expect("read")).into_owned()).collect()
    }

    /// All living processes that belong to this host's directory, whoever their parent is.
    pub(crate) fn survivors(&self) -> Vec<String> {
        let line = |pid| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ");
        self.surviving().into_iter().map(line).collect()
    }

    fn surviving(&self) -> Vec<Pid> {
        let mark = format!("STATE_OF_TEST={}", self.dir.path().display());
        let entries = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
        entries
            .filter_map(|e| {
                let environ = fs::read(e.path().join("environ")).ok()?;
                let ours = environ.split(|b| *b == 0).any(|entry| entry == mark.as_bytes());
                let dead = fs::read_to_string(e.path().join("stat")).ok()?.rsplit_once(") ")?.1.starts_with('Z');
                (ours && !dead).then_some(Pid::from_raw(e.file_name().to_str()?.parse().ok()?))
            })
            .collect()
    }

    pub(crate) fn profile(&self, agent: AgentKind, command: &[&str]) -> Profile {
        Profile {
            name: "test".to_owned(),
            agent,
            command: command.iter().map(|s| (*s).to_owned()).collect(),
            model: None,
            permission_mode: None,
            system_prompt: None,
            trust_repository: false,
            environment: [("STATE_OF_TEST".to_owned(), self.dir.path().display().to_string())].into(),
            stall_timeout: Duration::from_secs(60),
            kill_grace: Duration::from_secs(20),
            log_max: 1 << 20,
            pressure_percent: 90,
            pressure_time: Duration::from_secs(60),
        }
    }

    /// Work for the scripted agent.
    pub(crate) fn scripted(&self, prompt: &str) -> Work {
        self.work(self.profile(AgentKind::Claude, &[env!("CARGO_BIN_EXE_scripted-agent")]), prompt)
    }

    /// Work for a shell script.
    pub(crate) fn shell(&self, script: &str) -> Work {
        self.work(self.profile(AgentKind::Command, &["/bin/sh", "-c", script]), "the prompt")
    }

    pub(crate) fn work(&self, profile: Profile, prompt: &str) -> Work {
        Work {
            attempt: attempt(1, 1),
            title: "a title".to_owned(),
            prompt: prompt.to_owned(),
            resume: None,
            afresh: false,
            timeout: PATIENCE,
            budget: None,
            max_turns: None,
            schema: None,
            profile,
            checkout: None,
        }
    }

    /// Runs work in a fresh runner to its report.
    pub(crate) fn report(&mut self, work: Work) -> Report {
        let mut daemon = self.connect();
        daemon.run(work);
        let report = daemon.finished();
        assert_eq!(self.survivors(), Vec::<String>::new(), "processes are left");
        report
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut runner) = self.runner.take() {
            let _ = runner.kill();
            let _ = runner.wait();
        }
        // A test that failed may leave its agent.
        for pid in self.surviving() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Some(cgroup) = &self.cgroup {
            let group = clauded::platform::cgroup::Group::at(cgroup);
            let _ = group.kill();
            let until = Instant::now() + PATIENCE;
            while group.populated().unwrap_or(false) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            group.remove().expect("the test's cgroup is removed");
        }
    }
}

pub(crate) fn attempt(task: i64, number: u32) -> AttemptId {
    AttemptId { task: TaskId(task), number }
}

/// The daemon's end of one connection.
pub(crate) struct Daemon {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    pub hello: Option<Hello>,
    /// Whether events are acknowledged as they come.
    pub acks: bool,
}

impl Daemon {
    pub(crate) fn send(&mut self, message: &FromDaemon) {
        let mut line = serde_json::to_vec(message).expect("json");
        line.push(b'\n');
        self.stream.write_all(&line).expect("write");
    }

    pub(crate) fn run(&mut self, work: Work) {
        self.send(&FromDaemon::Run(Box::new(work)));
    }

    /// The next message; `None` when the runner has hung up.
    pub(crate) fn next(&mut self) -> Option<FromRunner> {
        let mut line = String::new();
        let n = self.lines.read_line(&mut line).expect("the runner says something in time");
        (n > 0).then(|| serde_json::from_str(&line).expect("a message"))
    }

    /// The next event, acknowledged unless told otherwise.
    pub(crate) fn event(&mut self) -> (u64, Event) {
        loop {
            match self.next().expect("the runner is there") {
                FromRunner::Event { seq, event } => {
                    if self.acks {
                        self.send(&FromDaemon::Ack { seq });
                    }
                    return (seq, event);
                }
                _ => continue,
            }
        }
    }

    pub(crate) fn started(&mut self) -> (u32, Option<SessionId>, String) {
        match self.event().1 {
            Event::Started { pid, session, cgroup, .. } => (pid, session, cgroup),
            other => panic!("not started: {other:?}"),
        }
    }

    pub(crate) fn finished(&mut self) -> Report {
        loop {
            if let Event::Finished { report, .. } = self.event().1 {
                return *report;
            }
        }
    }

    /// Waits for a word about progress that fits.
    pub(crate) fn progress(&mut self, fits: impl Fn(&Progress) -> bool) -> Progress {
        loop {
            match self.next().expect("the runner is there") {
                FromRunner::Progress(progress) if fits(&progress) => return progress,
                FromRunner::Event { seq, event } => {
                    assert!(!matches!(event, Event::Finished { .. }), "it ended before: {event:?}");
                    self.send(&FromDaemon::Ack { seq });
                }
                _ => {}
            }
        }
    }
}

/// Waits until a file is there.
pub(crate) fn appears(path: &Path) {
    let until = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < until, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}
