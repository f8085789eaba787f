//! HTTP/1 to the API: over its Unix socket, where the kernel says who is calling, or over TCP with a token.

use super::args::Global;
use super::failure::Failure;
use crate::config::Paths;
use crate::proto::api::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest answer, in bytes: far above any list that the daemon gives in one piece.
const ANSWER_MAX: usize = 64 << 20;
/// How long a question may take that the daemon answers from memory or its store.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the daemon is.
#[derive(Debug)]
enum Endpoint {
    Unix(PathBuf),
    Tcp { authority: String, token: Option<SecretString> },
}

/// A way to the daemon. Every request is a connection of its own, so that a restart of clauded needs no care.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    user: bool,
    /// The socket was named by the caller, so that advice about the usual one would be wrong.
    named: bool,
}

impl Client {
    /// From the global options: `--host`, else `--socket`, else the usual socket.
    pub(super) fn new(global: &Global) -> Result<Self, Failure> {
        let endpoint = match (&global.host, &global.socket) {
            (Some(host), _) => Endpoint::Tcp { authority: authority(host)?, token: token(global)? },
            (None, Some(socket)) => Endpoint::Unix(socket.clone()),
            (None, None) if global.user => Endpoint::Unix(Paths::user().api_socket()),
            (None, None) => Endpoint::Unix(Paths::system().api_socket()),
        };
        Ok(Self { endpoint, user: global.user, named: global.host.is_some() || global.socket.is_some() })
    }

    /// The body of an answer to a question that is answered at once.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, Failure> {
        let answer = self.whole(Method::GET, path, None);
        tokio::time::timeout(PATIENCE, answer).await.map_err(|_| self.silent())?
    }

    /// The same, decoded.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        decode(&self.get(path).await?)
    }

    /// The body of an answer that may take as long as it likes: a verb, or a question that waits.
    pub(super) async fn whole(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Bytes, Failure> {
        let response = self.open(method, path, body).await?;
        Limited::new(response.into_body(), ANSWER_MAX).collect().await.map(http_body_util::Collected::to_bytes).map_err(|e| self.cut(&e.to_string()))
    }

    /// Sends a verb with a JSON body.
    pub(super) async fn send(&self, method: Method, path: &str, body: &(impl Serialize + Sync)) -> Result<Bytes, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::Failed(format!("cannot write the request as JSON: {e}")))?;
        self.whole(method, path, Some(body)).await
    }

    /// A request whose answer is read piece by piece; anything but success is a failure already.
    pub(super) async fn open(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response<Incoming>, Failure> {
        let request = self.request(method, path, body)?;
        let response = match &self.endpoint {
            Endpoint::Unix(path) => self.exchange(UnixStream::connect(path).await.map_err(|e| self.unreachable(&e))?, request).await?,
            Endpoint::Tcp { authority, .. } => self.exchange(TcpStream::connect(authority).await.map_err(|e| self.unreachable(&e))?, request).await?,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: String::from_utf8_lossy(&body).trim().chars().take(500).collect(),
            code: String::new(),
        });
        Err(Failure::Api(Box::new(Problem { status: status.as_u16(), ..problem })))
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Request<Full<Bytes>>, Failure> {
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Tcp { authority, .. } => authority,
        };
        let agent = concat!("claudectl/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host).header(header::USER_AGENT, agent);
        if let Endpoint::Tcp { token: Some(token), .. } = &self.endpoint {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::from(body.unwrap_or_default())).map_err(|e| Failure::Failed(format!("cannot make the request {path}: {e}")))
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.cut(&e.to_string()))?;
        // Its end, orderly or not, is seen by whoever reads the response.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|e| self.cut(&e.to_string()))
    }

    /// Where requests go, for messages.
    pub(super) fn place(&self) -> String {
        match &self.endpoint {
            Endpoint::Unix(path) => path.display().to_string(),
            Endpoint::Tcp { authority, .. } => format!("http://{authority}"),
        }
    }

    /// Who is calling, as far as the API can know; `--user` changes the advice.
    pub(super) fn user(&self) -> bool {
        self.user
    }

    fn journal(&self) -> &'static str {
        if self.user { "journalctl --user -u clauded" } else { "journalctl -u clauded" }
    }

    fn silent(&self) -> Failure {
        Failure::NotRunning(format!("clauded at {} has not answered for {} s; see: {}", self.place(), PATIENCE.as_secs(), self.journal()))
    }

    fn cut(&self, error: &str) -> Failure {
        Failure::NotRunning(format!("clauded at {} ended the connection before its answer was complete ({error}); see: {}", self.place(), self.journal()))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let place = self.place();
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Failure::Permission(format!("{} may not open {place}; {}", whoami(), membership()));
        }
        let advice = match (&self.endpoint, self.named, self.user) {
            (Endpoint::Tcp { .. }, ..) => "check the address, and [api] listen in the configuration of clauded".to_owned(),
            (_, true, _) => "check the path of --socket or CLAUDED_SOCKET".to_owned(),
            (_, _, true) => "start it with: systemctl --user start clauded, or: clauded --user".to_owned(),
            _ if Paths::user().api_socket().exists() => {
                "start it with: sudo systemctl start clauded, or use your own, which has a socket: claudectl --user".to_owned()
            }
            _ if !super::program::booted() => "there is no systemd here, so start the program itself: clauded".to_owned(),
            _ => "start it with: sudo systemctl start clauded".to_owned(),
        };
        Failure::NotRunning(format!("clauded is not running at {place} ({error}); {advice}"))
    }
}

/// A value as it stands in a query (RFC 3986, section 3.4).
pub(super) fn query_value(text: &str) -> String {
    let mut value = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    value
}

/// Decodes an answer.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| {
        Failure::Failed(format!("clauded's answer is not what this claudectl ({}) understands: {e}; see: claudectl version", env!("CARGO_PKG_VERSION")))
    })
}

fn authority(host: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("--host {host:?} {why}; it is such as http://127.0.0.1:8888"));
    let uri: Uri = host.parse().map_err(|_| wrong("is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("does not begin with http://"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("has a path"));
    }
    match (uri.host(), uri.port_u16()) {
        (Some(name), Some(port)) if !name.is_empty() => Ok(format!("{name}:{port}")),
        _ => Err(wrong("has no host or no port")),
    }
}

fn token(global: &Global) -> Result<Option<SecretString>, Failure> {
    let Some(path) = &global.token_file else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Permission(format!("{} may not read the token in {}", whoami(), path.display())),
        _ => Failure::Read { path: path.clone(), error },
    })?;
    Ok(Some(text.trim().to_owned().into()))
}

/// The name of who is calling.
pub(super) fn user_name() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}

fn whoami() -> String {
    let uid = nix::unistd::geteuid();
    user_name().map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}

/// What to do for the right to open the socket, which belongs to the group `claude-code`.
fn membership() -> String {
    let name = user_name().unwrap_or_else(|| "$USER".to_owned());
    let group = nix::unistd::Group::from_name(crate::core::ids::UNIT_PREFIX).ok().flatten();
    if group.is_some_and(|g| g.mem.contains(&name)) {
        "you are in the group claude-code, but this session began before that: log in again, or run: newgrp claude-code".to_owned()
    } else {
        format!("add yourself to the group and log in again: sudo adduser {name} claude-code")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_urls_with_a_port() {
        assert_eq!(authority("http://127.0.0.1:8888/").ok().as_deref(), Some("127.0.0.1:8888"));
        assert_eq!(authority("http://[::1]:8888").ok().as_deref(), Some("[::1]:8888"));
        for bad in ["127.0.0.1:8888", "https://x:1", "http://x", "http://x:1/api", "", "http://"] {
            assert!(authority(bad).is_err_and(|e| e.code() == 2), "{bad:?} was taken");
        }
    }
}
