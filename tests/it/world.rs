//! A throw-away clauded: its directories, its configuration, its processes.

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Longest wait for anything that has to happen: generous, since it is only reached by a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// One clauded and all that belongs to it; gone when dropped, with every process of it.
pub(crate) struct World {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
}

/// How the scripted agent is found.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_scripted-agent");

impl World {
    /// A world whose daemon runs. `more` is added to the configuration.
    pub(crate) fn new(more: &str) -> Self {
        let mut world = Self::without_daemon(more);
        world.start_daemon();
        world
    }

    /// A world with its configuration and nothing running.
    pub(crate) fn without_daemon(more: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("cl-").tempdir().expect("a temporary directory");
        let world = Self { directory, daemon: None };
        for name in ["worktrees", "state", "run", "instances", "clauded.toml.d"] {
            fs::create_dir(world.path(name)).expect("made");
        }
        world.configure(more);
        world
    }

    /// Writes the configuration; the daemon reads it when it starts or gets SIGHUP.
    pub(crate) fn configure(&self, more: &str) {
        let root = self.path("");
        let text = format!(
            "[fleet]\nsupervisor = \"process\"\nworktree-root = \"{0}/worktrees\"\n\
             [api]\nlisten = \"off\"\ntoken-file = \"{0}/state/token\"\n\
             [store]\npath = \"{0}/state/clauded.db\"\n\
             [profiles.claude]\nagent = \"claude\"\ncommand = \"{AGENT}\"\nkill-grace = \"1s\"\n{more}\n",
            root.display()
        );
        fs::write(self.path("clauded.toml"), text).expect("the configuration is written");
    }

    /// A path below the world's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes an instance's directory.
    pub(crate) fn worktree(&self, name: &str) -> PathBuf {
        let path = self.path("worktrees").join(name);
        fs::create_dir_all(&path).expect("made");
        path
    }

    /// Makes an instance's directory and starts it.
    pub(crate) fn instance(&self, name: &str) -> PathBuf {
        let path = self.worktree(name);
        self.ok(&["start", name]);
        path
    }

    /// The daemon's command, as a service manager would start it.
    pub(crate) fn daemon_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clauded"));
        let flag = |name: &str| self.path(name).into_os_string();
        command.arg("--config").arg(flag("clauded.toml")).arg("--state-directory").arg(flag("state"));
        command.arg("--runtime-directory").arg(flag("run")).arg("--instances-directory").arg(flag("instances"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits for its READY=1.
    pub(crate) fn start_daemon(&mut self) {
        self.start(&mut self.daemon_command());
    }

    /// Starts the daemon with that command and waits for its READY=1.
    pub(crate) fn start(&mut self, command: &mut Command) {
        let notify = self.begin(command);
        self.ready(&notify);
    }

    /// Starts the daemon with that command; answers where it says that it is ready.
    pub(crate) fn begin(&mut self, command: &mut Command) -> UnixDatagram {
        let at = self.path("notify");
        let _ = fs::remove_file(&at);
        let notify = UnixDatagram::bind(&at).expect("a notification socket");
        notify.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("clauded.log")).expect("a log");
        let child = command.env("NOTIFY_SOCKET", &at).stderr(log.try_clone().expect("cloned")).stdout(log).spawn().expect("clauded starts");
        self.daemon = Some(child);
        notify
    }

    /// Waits for the daemon's READY=1.
    pub(crate) fn ready(&self, notify: &UnixDatagram) {
        let mut message = [0; 4096];
        loop {
            let read = match notify.recv(&mut message) {
                // A receive with a deadline is not gone on with after a signal, such as a move of this process to another group.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.unwrap_or_else(|e| panic!("clauded did not become ready: {e}\n{}", self.log())),
            };
            if String::from_utf8_lossy(&message[..read]).contains("READY=1") {
                return;
            }
        }
    }

    /// Kills the daemon with that signal and waits until it is gone; answers how it ended, if it ran.
    pub(crate) fn end_daemon(&mut self, signal: &str) -> Option<ExitStatus> {
        let mut child = self.daemon.take()?;
        kill(signal, child.id());
        Some(child.wait().expect("waited for"))
    }

    /// The daemon's process ID.
    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// What the daemon has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("clauded.log")).unwrap_or_default()
    }

    /// Waits for what announces itself to nobody, such as a file of another process.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds() {
            assert!(Instant::now() < end, "not within its time: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// claudectl, not yet started.
    pub(crate) fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claudectl"));
        command.env("CLAUDED_SOCKET", self.path("run/api.sock")).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs claudectl.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_command(arguments).output().expect("claudectl runs")
    }

    /// Runs claudectl, which must succeed; answers its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "claudectl {arguments:?}: {output:?}\nclauded: {}", self.log());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs claudectl, which must fail with that status; answers its standard error.
    pub(crate) fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!(output.status.code(), Some(status), "claudectl {arguments:?}: {output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// Runs claudectl with `-o json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Adds a task for an instance and answers its number.
    pub(crate) fn add(&self, instance: &str, prompt: &str) -> String {
        self.ok(&["task", "add", "--instance", instance, prompt]).trim().to_owned()
    }

    /// Waits until a task has ended and answers it with its attempts.
    pub(crate) fn wait(&self, task: &str) -> Value {
        let output = self.ctl(&["task", "wait", "--timeout", "300s", task]);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "task {task} did not end: {output:?}\n{}\n{}", self.json(&["task", "show", task]), self.log());
        self.json(&["task", "show", task])
    }

    /// Waits until `claudectl events` has one that fits, and answers it. Events are pushed; nothing is polled.
    pub(crate) fn event(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let events = self.follow(&["events", "-f", "--after", "0", "-o", "json"]);
        let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let found = events.find(|line| fits(&event(line))).unwrap_or_else(|| panic!("the event did not come\n{}\n{}", self.ok(&["events"]), self.log()));
        event(&found)
    }

    /// Starts claudectl to read what it prints as it comes.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Following {
        let mut child = self.ctl_command(arguments).stdout(Stdio::piped()).spawn().expect("claudectl runs");
        let (send, lines) = std::sync::mpsc::channel();
        let printed = BufReader::new(child.stdout.take().expect("piped")).lines();
        // It ends with its claudectl, or when nobody listens any more.
        std::thread::spawn(move || printed.map_while(Result::ok).try_for_each(|line| send.send(line)));
        Following { child, lines }
    }

    /// `GET path` on the Unix socket, which must succeed.
    pub(crate) fn get(&self, path: &str) -> String {
        let (status, body) = get(UnixStream::connect(self.path("run/api.sock")).expect("connected"), path, None);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The files of this world that have this in them.
    pub(crate) fn holders(&self, secret: &str) -> Vec<PathBuf> {
        let (mut directories, mut holders) = (vec![self.path("")], Vec::new());
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).expect("listed").map(|entry| entry.expect("an entry")) {
                let kind = entry.file_type().expect("its type");
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() && fs::read(entry.path()).expect("read").windows(secret.len()).any(|window| window == secret.as_bytes()) {
                    holders.push(entry.path());
                }
            }
        }
        holders
    }

    /// Waits until a task's agent runs.
    pub(crate) fn running(&self, task: &str) {
        let id: i64 = task.parse().expect("a number");
        self.event(|e| e["kind"] == "task-started" && e["task"] == id);
    }

    /// The runner's process of an instance.
    pub(crate) fn runner_pid(&self, instance: &str) -> u32 {
        let status = self.json(&["status", instance]);
        u32::try_from(status["main_pid"].as_u64().expect("it runs")).expect("a process ID")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_daemon("KILL");
        // Runners and agents survive their daemon by design; every one of this world has its directory in its environment.
        let mark = self.path("").into_os_string().into_encoded_bytes();
        for _ in 0..100 {
            let left: Vec<u32> = processes().filter(|pid| environment(*pid).windows(mark.len()).any(|w| w == mark)).collect();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(|pid| kill("KILL", pid));
        }
        // The groups that a daemon removes when it is the one to see its last runner end.
        if let Ok(id) = fs::read_to_string(self.path("state/supervisor/cgroup-id")) {
            let theirs = format!("*/clauded-{id}*");
            let _ = Command::new("find").args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &theirs, "-exec", "rmdir", "{}", "+"]).status();
        }
    }
}

/// A claudectl that is read while it runs; killed when dropped.
pub(crate) struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    /// The next line that fits; `None` if it ends before, or if none comes in time.
    pub(crate) fn find(&self, fits: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + DEADLINE;
        std::iter::from_fn(|| self.lines.recv_timeout(end.saturating_duration_since(Instant::now())).ok()).find(|line| fits(line))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status and the body of `GET path`.
pub(crate) fn get(mut stream: impl Read + Write, path: &str, token: Option<&str>) -> (u16, String) {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"));
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

/// Sends a signal; a process that is gone is fine.
pub(crate) fn kill(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process exists and is no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// All processes but this one.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    fs::read_dir("/proc").expect("proc").filter_map(move |e| e.ok()?.file_name().to_str()?.parse().ok().filter(|pid| *pid != own))
}

/// A process's environment at its start.
pub(crate) fn environment(pid: u32) -> Vec<u8> {
    fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default()
}
