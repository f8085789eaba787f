//! `/api/v1/locks`: who may change which files.

use super::App;
use super::auth::View;
use super::extract::{Body, Params, instance_name, number};
use super::problem::Problem;
use super::service::Caller;
use crate::core::lock::LockId;
use crate::proto::api;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;
use uuid::Uuid;

/// Where requests come in that wait: for as long as they say, and not when their caller has gone.
pub(super) const WAITS: &str = "/api/v1/locks";

/// Tells a handler that goes on by itself when its caller has gone.
#[derive(Clone)]
pub(super) struct Hangup(pub(super) watch::Receiver<()>);

impl Hangup {
    async fn happened(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Which locks to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LockParams {
    /// Only the request that waits with this ticket, and the locks in its way.
    #[param(value_type = Option<String>, format = "uuid")]
    ticket: Option<Uuid>,
}

/// All locks that are held, and all requests that wait for one. An agent sees those of the files that it works on.
#[utoipa::path(get, path = "/api/v1/locks", tag = "locks", params(LockParams), responses((status = 200, body = api::LockTable)))]
pub(super) async fn list_locks(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<LockParams>,
) -> Result<Json<api::LockTable>, Problem> {
    View::of(&caller)?;
    Ok(Json(app.service.locks(caller, params.ticket).await?))
}

/// Takes a lock. What another holds is refused with the code `locked`, or waited for with `wait_seconds`; who hangs up waits no longer.
#[utoipa::path(post, path = "/api/v1/locks", tag = "locks", request_body = api::NewLock, responses((status = 200, body = api::GivenLock)))]
pub(super) async fn acquire_lock(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(hangup): Extension<Hangup>,
    Body(lock): Body<api::NewLock>,
) -> Result<Json<api::GivenLock>, Problem> {
    Ok(Json(app.service.acquire_lock(caller, lock, Box::pin(hangup.happened())).await?))
}

/// Takes a lock from whoever has it, and tells them. For operators.
#[utoipa::path(post, path = "/api/v1/locks/steal", tag = "locks", request_body = api::NewLock, responses((status = 200, body = api::GivenLock)))]
pub(super) async fn steal_lock(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(lock): Body<api::NewLock>,
) -> Result<Json<api::GivenLock>, Problem> {
    Ok(Json(app.service.steal_lock(caller, lock).await?))
}

/// Gives locks back: one, or all of the caller's.
#[utoipa::path(post, path = "/api/v1/locks/release", tag = "locks", request_body = api::ReleaseLocks, responses((status = 200, body = api::Outcome)))]
pub(super) async fn release_locks(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(which): Body<api::ReleaseLocks>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.release_locks(caller, which).await?))
}

/// Gives a lock to an instance.
#[utoipa::path(post, path = "/api/v1/locks/{id}/transfer", tag = "locks", params(("id" = i64, Path, description = "The lock's number")),
    request_body = api::TransferLock, responses((status = 200, body = api::GivenLock)))]
pub(super) async fn transfer_lock(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(to): Body<api::TransferLock>,
) -> Result<Json<api::GivenLock>, Problem> {
    let id = number(&id).ok_or_else(|| Problem::bad_request("invalid-lock-id", format!("{id:.40?} is not a lock: locks have whole numbers, such as 42")))?;
    instance_name(&to.instance)?;
    Ok(Json(app.service.transfer_lock(caller, LockId(id), to).await?))
}
