//! A Messages API on loopback that answers from a script and keeps what it was asked. Each request takes the next answer; one
//! that the script has no answer for is refused, and shows.

use crate::reply::Reply;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for a request; only a failure reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One question that the model was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<Reply>,
    asked: Vec<Request>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that failed while it waited must not end the others too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server; gone when dropped.
pub(crate) struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Api {
    pub(crate) fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { state: Mutex::new(State { replies: replies.into(), ..State::default() }), ..Shared::default() });
        let theirs = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.lock().closed {
                    return;
                }
                let shared = Arc::clone(&theirs);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds to the script.
    pub(crate) fn then(&self, replies: Vec<Reply>) {
        self.shared.lock().replies.extend(replies);
    }

    /// What the model was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.shared.lock().asked.clone()
    }

    /// Waits until the model was asked that often.
    pub(crate) fn await_questions(&self, count: usize) {
        let state = self.shared.lock();
        let (state, waited) = self.shared.changed.wait_timeout_while(state, PATIENCE, |s| s.asked.len() < count).unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "the model was asked {} times, not {count}", state.asked.len());
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// One connection, request after request.
fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some((target, request)) = read(&mut reader) {
        // The CLI asks the base URL for its health in some modes; that is no question to the model.
        let reply = if target.starts_with("/v1/messages") {
            let model = request.body["model"].as_str().unwrap_or_default().to_owned();
            let mut state = shared.lock();
            state.asked.push(request);
            let reply = state.replies.pop_front().unwrap_or_else(|| Reply::error(400, "invalid_request_error", "the script has no answer to this"));
            shared.changed.notify_all();
            (reply, model)
        } else {
            (Reply::error(404, "not_found_error", "not here"), String::new())
        };
        let Some(bytes) = reply.0.bytes(&reply.1) else {
            // Never answers: until the other side gives up.
            let _ = reader.read(&mut [0]);
            return;
        };
        let mut stream = stream;
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// The next request's target, headers and body; `None` when the other side has hung up.
fn read(reader: &mut impl BufRead) -> Option<(String, Request)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let target = line.split_whitespace().nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let mut body = vec![0; headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((target, Request { headers, body: serde_json::from_slice(&body).unwrap_or_default() }))
}
