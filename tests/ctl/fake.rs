//! A clauded of a few lines, on a Unix socket or TCP: a test says what it answers, and sees what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No command of a test takes longer, on however loaded a machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// `GET /path`
    pub(crate) line: String,
    /// Header lines, names in lower case.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
}

impl Asked {
    /// The number after `key=` in the query, 0 without one.
    pub(crate) fn number(&self, key: &str) -> i64 {
        let query = self.line.split_once('?').map(|(_, q)| q).unwrap_or_default();
        query.split('&').find_map(|p| p.strip_prefix(&format!("{key}="))).and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

/// Writes the answer; the connection ends when it returns.
type Handler = dyn Fn(&Asked, &mut dyn Write) + Send + Sync;

/// The server; its threads end with the test's process.
pub(crate) struct Fake {
    /// Where its socket is.
    pub(crate) directory: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// On a Unix socket.
    pub(crate) fn new(handler: impl Fn(&Asked, &mut dyn Write) + Send + Sync + 'static) -> Self {
        let fake = Self { directory: tempfile::tempdir().expect("directory"), asked: Arc::default() };
        let listener = UnixListener::bind(fake.socket()).expect("socket");
        let (handler, asked): (Arc<Handler>, _) = (Arc::new(handler), fake.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, asked) = (handler.clone(), asked.clone());
                let reader = stream.try_clone().expect("clone");
                thread::spawn(move || serve(reader, stream, &*handler, &asked));
            }
        });
        fake
    }

    /// On TCP, too.
    pub(crate) fn tcp(handler: impl Fn(&Asked, &mut dyn Write) + Send + Sync + 'static) -> (Self, SocketAddr) {
        let fake = Self { directory: tempfile::tempdir().expect("directory"), asked: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("address");
        let asked = fake.asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream.try_clone().expect("clone"), stream, &handler, &asked);
            }
        });
        (fake, address)
    }

    /// Always that answer.
    pub(crate) fn answering(status: u16, body: &'static str) -> Self {
        Self::new(move |_, out| answer(out, status, body))
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("lock").clone()
    }

    /// claudectl, pointed at it.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Command {
        let mut command = ctl(arguments);
        command.env("CLAUDED_SOCKET", self.socket());
        command
    }

    /// Runs claudectl to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.ctl(arguments))
    }
}

fn serve(stream: impl Read, mut out: impl Write, handler: &Handler, log: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    let mut asked = Asked::default();
    let mut line = String::new();
    let mut length = 0;
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) && !line.trim().is_empty() {
        if asked.line.is_empty() {
            asked.line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        } else {
            let (name, value) = line.split_once(':').expect("header");
            let name = name.to_ascii_lowercase();
            if name == "content-length" {
                length = value.trim().parse().expect("length");
            }
            asked.head.push_str(&format!("{name}:{value}"));
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if asked.line.is_empty() || reader.read_exact(&mut body).is_err() {
        return;
    }
    asked.body = String::from_utf8(body).expect("UTF-8");
    log.lock().expect("lock").push(asked.clone());
    handler(&asked, &mut out);
}

/// One answer with its length.
pub(crate) fn answer(out: &mut dyn Write, status: u16, body: &str) {
    let kind = if status < 300 { "application/json" } else { "application/problem+json" };
    let _ = write!(out, "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
}

/// The head of a stream of events.
pub(crate) fn begin_stream(out: &mut dyn Write) {
    let _ = write!(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n");
}

/// One event of a stream.
pub(crate) fn send_event(out: &mut dyn Write, id: i64, task: i64) {
    let _ = write!(out, "id: {id}\ndata: {}\n\n", event(id, task));
    let _ = out.flush();
}

/// An event as JSON.
pub(crate) fn event(id: i64, task: i64) -> String {
    format!(r#"{{"id":{id},"at":"2026-11-21T10:00:00Z","kind":"task-finished","instance":"a","task":{task},"message":"m{id}","cause":null}}"#)
}

/// A task as JSON.
pub(crate) fn task(id: i64, state: &str, attempts: u32) -> String {
    let reason = if state == "failed" { "\"oom\"" } else { "null" };
    format!(
        r#"{{"id":{id},"type":"task","title":"t","state":"{state}","reason":{reason},"detail":"","instance":null,"placed_on":"a","attempts":{attempts},"created":"2026-11-21T10:00:00Z","not_before":null,"finished":"2026-11-21T10:01:00Z","cost_usd":0.5,"priority":0,"group":null,"waits_for":null,"claimed_by":null,"labels":[],"after":[],"after_failed":"fail","prompt":"p","timeout_seconds":null,"budget_usd":null,"max_turns":null,"history":[]}}"#
    )
}

/// claudectl, without the caller's own settings.
pub(crate) fn ctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claudectl"));
    command.args(arguments).env_remove("CLAUDED_TOKEN_FILE").env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command) -> Ran {
    wait(command.spawn().expect("spawn"))
}

/// Waits for a command's end, and fails the test if it does not come.
pub(crate) fn wait(child: Child) -> Ran {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("pid"));
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        panic!("claudectl has not ended after {DEADLINE:?}");
    };
    let Output { status, stdout, stderr } = output.expect("output");
    Ran { code: status.code(), out: String::from_utf8(stdout).expect("UTF-8"), err: String::from_utf8(stderr).expect("UTF-8") }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not after {DEADLINE:?}");
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(5));
    }
}
