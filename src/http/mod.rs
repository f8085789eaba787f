//! The HTTP API: axum routes over `service::Service`. Knows nothing of SQL or D-Bus.
//!
//! Every request passes `answer`: identity and role first, then the handler within its time, then the count.

mod audit;
mod auth;
mod checks;
mod compat;
mod events;
mod extract;
mod health;
mod instances;
mod locks;
mod messages;
mod metrics;
mod openapi;
mod plans;
mod problem;
mod queue;
mod repositories;
mod schedules;
mod server;
pub mod service;
mod tasks;
mod teams;
#[cfg(test)]
mod tests;
mod worktrees;

pub use auth::{Access, Identify, Peer, is_there};
pub use openapi::document;
pub use server::Server;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use problem::Problem;
use service::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Largest request body: a prompt of one megabyte, escaped, fits.
pub const BODY_MAX: usize = 2 << 20;
/// Live feeds at a time; each holds a connection for as long as its reader likes.
const STREAMS_MAX: usize = 64;
/// Those of callers who may only read; a share of their own, so that agents cannot take the operators'.
const READERS_STREAMS_MAX: usize = 32;
/// How long a question may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long `wait` waits before it answers with what there is: below what proxies and clients take for a dead connection.
const LONG_POLL: Duration = Duration::from_secs(25);
/// How long a verb may take: stopping waits for a checkpoint, starting for READY=1.
const VERB_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a verb that says itself how long it waits.
const WAIT_TIMEOUT: Duration = Duration::from_secs(25 * 60 * 60);

/// What every handler can reach.
#[derive(Clone)]
struct App {
    service: Arc<dyn Service>,
    access: Arc<Access>,
    /// Turns true when the server is to end: feeds and waits end with it.
    closing: watch::Receiver<bool>,
    /// The operators' live feeds.
    streams: Arc<Semaphore>,
    /// Everyone else's.
    readers_streams: Arc<Semaphore>,
}

impl App {
    /// Done when the server is to end.
    async fn closed(&self) {
        closed(self.closing.clone()).await;
    }

    /// What comes of a wait, unless that lasts for [`LONG_POLL`] or the server is to end: then the caller is answered with what there is.
    async fn patiently<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            came = wait => Some(came),
            () = tokio::time::sleep(LONG_POLL) => None,
            () = self.closed() => None,
        }
    }
}

/// Done when the value turns true, or nobody is left to turn it.
async fn closed(mut closing: watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// The routes, guarded. Requests must carry an [`auth::Connection`]; [`Server`] puts it there.
fn router(service: Arc<dyn Service>, access: Access, closing: watch::Receiver<bool>) -> Router {
    let (streams, readers_streams) = (Arc::new(Semaphore::new(STREAMS_MAX)), Arc::new(Semaphore::new(READERS_STREAMS_MAX)));
    let app = App { service, access: Arc::new(access), closing, streams, readers_streams };
    openapi::routes()
        .split_for_parts()
        .0
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(app.clone(), answer))
        .with_state(app)
}

async fn unknown_route(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-route", format!("there is no {}; GET /api/openapi.json lists every route", request.uri().path()))
}

async fn unknown_method(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("{} does not take {}; the Allow header of this answer lists what it takes", request.uri().path(), request.method()),
    )
}

/// The way of every request.
async fn answer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = method_label(request.method());
    let response = match auth::admit(&app.access, &route, &mut request) {
        Ok(caller) => {
            let longest = if route == locks::WAITS { WAIT_TIMEOUT } else { VERB_TIMEOUT };
            let response = carry_out(request, next, longest).await;
            tracing::debug!(caller, method, route, status = response.status().as_u16(), "request");
            response
        }
        Err(refusal) => {
            tracing::debug!(method, route, code = refusal.code(), "request refused");
            refusal.into_response()
        }
    };
    app.service.count_request(&route, method, response.status().as_u16());
    response
}

/// Runs the handler within its time. A verb that has begun runs to its end even if its caller hangs up: a dropped handler
/// could leave the daemon between a commit and what follows from it.
async fn carry_out(mut request: Request, next: Next, longest: Duration) -> Response {
    let late = |limit: Duration| {
        let detail = format!("no answer within {} s; what was asked may still happen, look before asking again", limit.as_secs());
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail).into_response()
    };
    if auth::only_reads(request.method()) {
        return tokio::time::timeout(READ_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| late(READ_TIMEOUT));
    }
    let (_here, hangup) = watch::channel(());
    request.extensions_mut().insert(locks::Hangup(hangup));
    match tokio::time::timeout(longest, tokio::spawn(next.run(request))).await {
        Ok(Ok(response)) => response,
        Ok(Err(broken)) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("the request's task broke off: {broken}; please report it")).into_response()
        }
        Err(_) => late(longest),
    }
}

/// The method as a metric label: callers may send any word.
fn method_label(method: &Method) -> &'static str {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        .iter()
        .zip(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
        .find_map(|(known, label)| (known == method).then_some(label))
        .unwrap_or("other")
}
