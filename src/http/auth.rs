//! Who is calling and what they may do. The only place that decides it; handlers see a [`Caller`] that has passed.
//!
//! Unix socket: the kernel answers (`SO_PEERCRED`, unix(7)). TCP: a bearer token, and nothing that a browser could be tricked into sending.

use super::problem::Problem;
use super::service::{Caller, Role, TaskQuery};
use crate::core::audit::{Actor, Who};
use crate::core::ids::InstanceName;
use crate::proto::api;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use secrecy::{ExposeSecret, SecretString};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use subtle::ConstantTimeEq;
use tokio::net::UnixStream;

/// What anyone may ask on TCP without a token.
const OPEN: [&str; 3] = ["/", "/health", "/metrics"];

/// What agents may do beside reading, each as itself alone: method and route.
pub(super) const AGENTS: &[(&str, &str)] = &[
    ("POST", "/api/v1/locks"),
    ("POST", "/api/v1/locks/release"),
    ("POST", "/api/v1/locks/{id}/transfer"),
    ("POST", "/api/v1/messages"),
    ("POST", "/api/v1/broadcast"),
    ("POST", "/broadcast"),
    ("POST", "/api/v1/help"),
    // Into its own team, below what people ask for, and not without end: daemon/verbs/headway.rs.
    ("POST", "/api/v1/tasks"),
    ("POST", "/api/v1/tasks/progress"),
    ("POST", "/api/v1/tasks/claim"),
    ("POST", "/api/v1/tasks/{id}/claim"),
    ("POST", "/api/v1/tasks/{id}/release"),
    ("POST", "/api/v1/tasks/{id}/complete"),
];

/// The process at the other end of the Unix socket when it connected (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process; 0 if it is not in this PID namespace.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Whether the process that connected is still there, so that its number has not become another's meanwhile. The kernel
/// tells since Linux 6.5 (`SO_PEERPIDFD`); an older one is believed.
pub fn is_there(stream: &UnixStream) -> bool {
    match getsockopt(stream, PeerPidfd) {
        // It is readable once the process has ended (pidfd_open(2)).
        Ok(process) => poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0),
        Err(error) => error == Errno::ENOPROTOOPT,
    }
}

/// From the kernel's answer to a caller: the daemon knows units and groups, this module does not.
pub type Identify = Arc<dyn Fn(Peer) -> Caller + Send + Sync>;

/// The rules of the TCP side.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The bearer token; without one (or with an empty one) only the open routes answer.
    pub token: Option<SecretString>,
    /// Whether `/metrics` and `/health` need it too; a reload may change it.
    pub require_token: Arc<AtomicBool>,
}

/// How a request came in. [`super::Server`] puts it into the request's extensions.
#[derive(Clone, Debug)]
pub(super) enum Connection {
    /// Through the Unix socket; the kernel has said who it is.
    Local(Caller),
    /// Through TCP.
    Tcp(Ends),
}

/// The addresses of a TCP connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The one that it came to.
    pub(super) ours: SocketAddr,
    /// The one that it came from.
    pub(super) theirs: SocketAddr,
}

/// Whether a method only reads (RFC 9110, 9.2.1).
pub(super) fn only_reads(method: &Method) -> bool {
    method.is_safe()
}

/// Lets a request pass or refuses it; on passing, the [`Caller`] is in its extensions and their description is the answer.
pub(super) fn admit(access: &Access, route: &str, request: &mut Request) -> Result<String, Problem> {
    let caller = match request.extensions().get::<Connection>() {
        Some(Connection::Local(caller)) => caller.clone(),
        Some(Connection::Tcp(Ends { ours, theirs })) => {
            refuse_other_sites(request, ours.ip())?;
            token_holder(access, route, request, *theirs)?
        }
        None => return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request came from nowhere; please report it")),
    };
    let allowed = match &caller.role {
        Role::Operator => true,
        Role::Agent(_) => only_reads(request.method()) || AGENTS.contains(&(request.method().as_str(), route)),
        Role::Reader => only_reads(request.method()),
    };
    if !allowed {
        let may = match &caller.role {
            Role::Agent(name) => format!("the agent of instance {name}, and agents may not do that"),
            Role::Reader | Role::Operator => "and may only read".to_owned(),
        };
        let detail = format!(
            "you are {}, {may}; {} needs an operator: root, a user whom the administrator has put into the group claude-code, or the holder of the API token",
            caller.description,
            request.method()
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    let description = caller.description.clone();
    request.extensions_mut().insert(caller);
    Ok(description)
}

/// Whose tasks, logs and events a caller may see: they hold prompts, and what agents have read and written.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// Everyone's.
    All,
    /// That instance's: what is for it, and what it has worked on.
    Of(InstanceName),
}

impl View {
    /// What the caller may see.
    pub(super) fn of(caller: &Caller) -> Result<Self, Problem> {
        match &caller.role {
            Role::Operator => Ok(Self::All),
            Role::Agent(name) => Ok(Self::Of(name.clone())),
            // It may be an agent that has left its unit.
            Role::Reader => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("you are {}, and may see the instances, the health and the metrics; tasks, logs and events need an operator", caller.description),
            )),
        }
    }

    /// Whether something of these instances may be seen.
    pub(super) fn includes<'a>(&self, instances: impl IntoIterator<Item = &'a str>) -> bool {
        match self {
            Self::All => true,
            Self::Of(name) => instances.into_iter().any(|instance| instance == name.as_str()),
        }
    }

    /// Whether the event may be seen.
    pub(super) fn has(&self, event: &api::Event) -> bool {
        self.includes(event.instance.as_ref().map(AsRef::as_ref))
    }

    /// Refuses a task of others.
    pub(super) fn check(&self, task: &api::TaskDetail) -> Result<(), Problem> {
        let worked = task.history.iter().map(|attempt| attempt.instance.as_str());
        let whose = worked.chain(task.task.instance.as_deref()).chain(task.task.placed_on.as_deref());
        match self {
            Self::Of(name) if !self.includes(whose) => Err(refuse_others(name)),
            _ => Ok(()),
        }
    }

    /// The one instance that a list is narrowed to, if it is.
    pub(super) fn only(&self, asked: Option<InstanceName>) -> Result<Option<InstanceName>, Problem> {
        match (self, asked) {
            (Self::Of(name), Some(other)) if other != *name => Err(refuse_others(name)),
            (Self::Of(name), _) => Ok(Some(name.clone())),
            (Self::All, asked) => Ok(asked),
        }
    }

    /// Narrows a list to what may be seen.
    pub(super) fn narrow(&self, query: &mut TaskQuery) -> Result<(), Problem> {
        match self {
            Self::Of(name) if *query.instance.get_or_insert_with(|| name.clone()) != *name => Err(refuse_others(name)),
            _ => Ok(()),
        }
    }
}

/// Refuses everyone but operators.
pub(super) fn operator(caller: &Caller, what: &str) -> Result<(), Problem> {
    if caller.role == Role::Operator {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", format!("you are {}, and {what} needs an operator", caller.description)))
}

fn refuse_others(name: &InstanceName) -> Problem {
    let detail = format!("you are the agent of instance {name}, and agents may see the tasks, logs and events of their own instance alone");
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

/// The caller of a TCP request, by its token.
fn token_holder(access: &Access, route: &str, request: &Request, from: SocketAddr) -> Result<Caller, Problem> {
    let refuse = |detail: &str| Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
    let given = request.headers().get(header::AUTHORIZATION);
    let Some(given) = given else {
        let open = OPEN.contains(&route) && (route == "/" || !access.require_token.load(Ordering::Relaxed));
        if open && only_reads(request.method()) {
            return Ok(Caller { description: "TCP, without a token".to_owned(), actor: Actor::tcp(Who::Anyone, from), role: Role::Reader });
        }
        return refuse(
            "on TCP this needs the header Authorization: Bearer TOKEN; the token is in the file that [api] token-file names. On the Unix socket no token is needed: curl --unix-socket /run/clauded/api.sock http://localhost/",
        );
    };
    let text = given.to_str().unwrap_or_default();
    let Some((_, token)) = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return refuse("the Authorization header has another scheme than Bearer; send Authorization: Bearer TOKEN");
    };
    let right = access.token.as_ref().is_some_and(|secret| {
        let secret = secret.expose_secret().as_bytes();
        !secret.is_empty() && bool::from(secret.ct_eq(token.trim().as_bytes()))
    });
    if !right {
        return refuse("the token is not this clauded's; it is in the file that [api] token-file names, and changes when that file is made anew");
    }
    Ok(Caller { description: "holder of the API token, over TCP".to_owned(), actor: Actor::tcp(Who::Token, from), role: Role::Operator })
}

/// Refuses what a web page of another site can make a browser on this machine send: a foreign `Host` (DNS rebinding) or `Origin`.
fn refuse_other_sites(request: &Request, ours: IpAddr) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return Err(Problem::bad_request("forbidden-host", "the request must have exactly one Host header")),
    };
    if !is_ours(host, ours) || request.uri().authority().is_some_and(|authority| !is_ours(authority.as_str(), ours)) {
        let detail = format!("the Host header says {host:.100?}, which is not this machine's loopback; use http://localhost or http://127.0.0.1");
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden-host", detail));
    }
    if !same_origin(request.headers(), host) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden-origin",
            "the Origin header names another site; web pages of other sites may not call this API",
        ));
    }
    Ok(())
}

fn is_ours(host: &str, ours: IpAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    name.eq_ignore_ascii_case("localhost")
        || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == ours)
}

fn same_origin(headers: &HeaderMap, host: &str) -> bool {
    headers
        .get_all(header::ORIGIN)
        .iter()
        .all(|origin| origin.to_str().ok().and_then(|o| o.strip_prefix("http://")).is_some_and(|o| o.eq_ignore_ascii_case(host)))
}
