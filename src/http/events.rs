//! `/api/v1/events`: what happened, as a list and as a live feed (server-sent events, WHATWG HTML 9.2).
//!
//! The feed reads everything from the store, in the order of its numbers; the daemon's broadcast only wakes it. So a reader
//! that lags, reconnects or begins in the past sees each event once and misses none.

use super::App;
use super::auth::View;
use super::extract::{Params, limit};
use super::problem::Problem;
use super::service::{Caller, Role, ServiceError};
use crate::proto::api;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::{Extension, Json};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use utoipa::IntoParams;

/// Events read from the store at a time.
const PAGE: u32 = 200;

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParams {
    /// Only with a greater number than this.
    #[serde(default)]
    after: i64,
    /// At most this many, 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

/// Where a feed begins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedParams {
    /// Begin after the event with this number; with the oldest one if absent. The header `Last-Event-ID` goes before it.
    #[serde(default)]
    after: i64,
}

/// Lists events, oldest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventParams), responses((status = 200, body = Vec<api::Event>)))]
pub(super) async fn list_events(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<EventParams>,
) -> Result<Json<Vec<api::Event>>, Problem> {
    let (view, limit) = (View::of(&caller)?, limit(params.limit)?);
    let (room, mut after, mut found) = (limit as usize, params.after, Vec::new());
    // A short page tells the reader that there is no more, so one that others' events have thinned is filled up.
    loop {
        let page = app.service.events(after, limit).await?;
        let full = page.len() >= room;
        after = page.last().map_or(after, |last| last.id);
        found.extend(page.into_iter().filter(|event| view.has(event)));
        if !full || found.len() >= room {
            found.truncate(room);
            return Ok(Json(found));
        }
    }
}

/// Events as they happen, after those that are already stored. Each has its number as `id:` and an `Event` object as `data:`.
/// An event of type `problem` ends the feed and carries a `Problem` object.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events",
    params(FeedParams, ("Last-Event-ID" = Option<i64>, Header, description = "The last event that the reader has seen; browsers send it on reconnecting")),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn stream_events(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<FeedParams>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let view = View::of(&caller)?;
    let after = match headers.get("last-event-id") {
        None => params.after,
        Some(id) => id
            .to_str()
            .ok()
            .and_then(|id| id.trim().parse().ok())
            .ok_or_else(|| Problem::bad_request("invalid-last-event-id", "the header Last-Event-ID is not the number of an event"))?,
    };
    let (slots, most) = match caller.role {
        Role::Operator => (&app.streams, super::STREAMS_MAX),
        Role::Agent(_) | Role::Reader => (&app.readers_streams, super::READERS_STREAMS_MAX),
    };
    let slot = slots.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{most} live feeds are open already; close one, or read GET /api/v1/events?after=N from time to time");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail)
    })?;
    // Subscribed before the first look at the store: what is committed after that look wakes the feed.
    let live = app.service.subscribe();
    let feed = Feed { app, view, live, after, read: VecDeque::new(), ended: false, _slot: slot };
    Ok(Sse::new(stream::unfold(feed, Feed::next)).keep_alive(KeepAlive::default()))
}

struct Feed {
    app: App,
    view: View,
    live: broadcast::Receiver<api::Event>,
    /// The last event that was sent.
    after: i64,
    /// Read from the store and not yet sent.
    read: VecDeque<api::Event>,
    ended: bool,
    _slot: OwnedSemaphorePermit,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.id;
                if !self.view.has(&event) {
                    continue;
                }
                let sent = Event::default().id(event.id.to_string()).json_data(&event).unwrap_or_else(|error| self.fail(&error.to_string()));
                return Some((Ok(sent), self));
            }
            if self.ended {
                return None;
            }
            match self.app.service.events(self.after, PAGE).await {
                Ok(page) if page.is_empty() => {}
                Ok(page) => {
                    self.read = page.into();
                    continue;
                }
                Err(ServiceError { detail, .. }) => {
                    let sent = self.fail(&detail);
                    return Some((Ok(sent), self));
                }
            }
            tokio::select! {
                biased;
                () = self.app.closed() => return None,
                woken = self.live.recv() => if matches!(woken, Err(RecvError::Closed)) { return None },
            }
            // One look at the store answers for all that is waiting here.
            while self.live.try_recv().is_ok() {}
        }
    }

    /// The feed's last event.
    fn fail(&mut self, detail: &str) -> Event {
        self.ended = true;
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "feed-ended", format!("{detail}; connect again with Last-Event-ID: {}", self.after));
        Event::default().event("problem").json_data(problem.body()).unwrap_or_default()
    }
}
