//! Serves the router on the Unix socket and, if there is one, on TCP: bounded connections, bounded headers, an orderly end.

use super::auth::{Access, Connection, Ends, Identify, Peer, is_there};
use super::service::{Caller, Role, Service};
use super::{closed, router};
use crate::core::audit::{Actor, Who};
use axum::Router;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at a time on the Unix socket. TCP has its own share, so that it cannot starve operators.
const UNIX_MAX: usize = 256;
/// Those of them that callers who may only read can have, agents above all; the rest is the operators'.
pub(super) const READERS_MAX: usize = 128;
/// Connections at a time on TCP.
const TCP_MAX: usize = 128;
/// How long a client may take for its headers; idle connections are closed after it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Room for the request line and all headers.
const HEADERS_MAX: usize = 64 << 10;
/// How long requests may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// The API server.
pub struct Server {
    /// Who carries out what is asked.
    pub service: Arc<dyn Service>,
    /// Who is calling on the Unix socket.
    pub identify: Identify,
    /// The rules of the TCP side.
    pub access: Access,
}

impl Server {
    /// Serves until `stop` is done, then lets requests end for five seconds. Live feeds end at once.
    pub async fn run(self, unix: UnixListener, tcp: Option<TcpListener>, stop: impl Future<Output = ()>) {
        let (close, closing) = watch::channel(false);
        let router = router(self.service, self.access, closing.clone());
        let slots = |most| Arc::new(Semaphore::new(most));
        let (unix_slots, readers_slots, tcp_slots) = (slots(UNIX_MAX), slots(READERS_MAX), slots(TCP_MAX));
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                (stream, slot) = accept_unix(&unix, &unix_slots) => match peer(&stream) {
                    Ok(peer) => {
                        let mut caller = (self.identify)(peer);
                        if !is_there(&stream) {
                            // What was found out may be about another process with its number.
                            let actor = Actor::local(Who::User { uid: peer.uid, name: None, pid: peer.pid });
                            caller = Caller { description: format!("uid {}, a process that has gone", peer.uid), actor, role: Role::Reader };
                        }
                        // Operators need no second slot. A reader who finds none is hung up on: to wait here would keep all others out.
                        let Ok(readers_slot) = (caller.role != Role::Operator).then(|| readers_slots.clone().try_acquire_owned()).transpose() else { continue };
                        connections.spawn(converse(stream, router.clone(), Connection::Local(caller), closing.clone(), (slot, readers_slot)));
                    }
                    Err(error) => tracing::warn!("api socket: SO_PEERCRED: {error}; the connection is refused"),
                },
                (stream, ends, slot) = accept_tcp(tcp.as_ref(), &tcp_slots) => {
                    connections.spawn(converse(stream, router.clone(), Connection::Tcp(ends), closing.clone(), (slot, None)));
                }
                Some(_) = connections.join_next() => {}
            }
        }
        drop((unix, tcp));
        // Fails only if nobody listens, and then nobody needs to be told.
        let _ = close.send(true);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all_ended).await.is_err() {
            tracing::warn!("{} API connections were still busy after {} s and are cut off", connections.len(), GRACE.as_secs());
        }
    }
}

fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    Ok(Peer { pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0), uid: credentials.uid(), gid: credentials.gid() })
}

/// The next connection, once there is room for one.
async fn accept_unix(listener: &UnixListener, slots: &Arc<Semaphore>) -> (UnixStream, OwnedSemaphorePermit) {
    loop {
        if let Ok(slot) = slots.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => return (stream, slot),
                Err(error) => pause("api socket", &error).await,
            }
        }
    }
}

/// The next connection and its two addresses, once there is room for one; never, without a listener.
async fn accept_tcp(listener: Option<&TcpListener>, slots: &Arc<Semaphore>) -> (TcpStream, Ends, OwnedSemaphorePermit) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        if let Ok(slot) = slots.clone().acquire_owned().await {
            let accepted = listener.accept().await.and_then(|(stream, theirs)| {
                stream.set_nodelay(true)?;
                let ours = stream.local_addr()?;
                Ok((stream, Ends { ours, theirs }))
            });
            match accepted {
                Ok((stream, ends)) => return (stream, ends, slot),
                Err(error) => pause("api TCP socket", &error).await,
            }
        }
    }
}

/// After a failed accept(2): a connection that broke off before it was taken is nothing; want of descriptors passes with time, and no event tells when.
async fn pause(socket: &str, error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected
    ) {
        tracing::warn!("{socket}: accept: {error}; trying again in a second");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// One connection, from its first request to its last.
async fn converse<I>(
    io: I,
    router: Router,
    connection: Connection,
    closing: watch::Receiver<bool>,
    _slots: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        routes.call(request)
    });
    let mut conversation = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADERS_MAX)
            .serve_connection(TokioIo::new(io), service)
    );
    let ended = tokio::select! {
        ended = conversation.as_mut() => ended,
        () = closed(closing) => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("an API connection broke off: {error}");
    }
}
