//! `/api/v1/instances`: looking at instances, starting and stopping them, and their limits.

use super::App;
use super::extract::{Body, Name};
use super::problem::Problem;
use super::service::Caller;
use crate::proto::api;
use axum::extract::State;
use axum::{Extension, Json};

/// All instances: running, configured, or seen lately.
#[utoipa::path(get, path = "/api/v1/instances", tag = "instances", responses((status = 200, body = Vec<api::Instance>)))]
pub(super) async fn list_instances(State(app): State<App>) -> Result<Json<Vec<api::Instance>>, Problem> {
    Ok(Json(app.service.instances().await?))
}

/// One instance with every cap that applies to it and its last restarts.
#[utoipa::path(get, path = "/api/v1/instances/{name}", tag = "instances", params(("name" = String, Path, description = "The instance")),
    responses((status = 200, body = api::InstanceDetail)))]
pub(super) async fn get_instance(State(app): State<App>, Name(name): Name) -> Result<Json<api::InstanceDetail>, Problem> {
    Ok(Json(app.service.instance(name).await?))
}

/// Starts an instance and answers when it is ready.
#[utoipa::path(post, path = "/api/v1/instances/{name}/start", tag = "instances", params(("name" = String, Path, description = "The instance")),
    responses((status = 200, body = api::Outcome)))]
pub(super) async fn start_instance(State(app): State<App>, Extension(caller): Extension<Caller>, Name(name): Name) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.start(caller, name).await?))
}

/// Stops an instance and answers when nothing of it runs.
#[utoipa::path(post, path = "/api/v1/instances/{name}/stop", tag = "instances", params(("name" = String, Path, description = "The instance")),
    responses((status = 200, body = api::Outcome)))]
pub(super) async fn stop_instance(State(app): State<App>, Extension(caller): Extension<Caller>, Name(name): Name) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.stop(caller, name).await?))
}

/// Stops and starts an instance.
#[utoipa::path(post, path = "/api/v1/instances/{name}/restart", tag = "instances", params(("name" = String, Path, description = "The instance")),
    responses((status = 200, body = api::Outcome)))]
pub(super) async fn restart_instance(State(app): State<App>, Extension(caller): Extension<Caller>, Name(name): Name) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.restart(caller, name).await?))
}

/// Changes the limits of an instance's slice at once; what is absent stays as it is.
#[utoipa::path(put, path = "/api/v1/instances/{name}/limits", tag = "instances", params(("name" = String, Path, description = "The instance")),
    request_body = api::SetLimits, responses((status = 200, body = api::Outcome)))]
pub(super) async fn set_limits(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    Body(limits): Body<api::SetLimits>,
) -> Result<Json<api::Outcome>, Problem> {
    if limits == (api::SetLimits { persist: limits.persist, ..api::SetLimits::default() }) {
        return Err(Problem::bad_request(
            "no-limits",
            "the body names no limit; give at least one of memory, memory_high, swap, cpu, cpu_weight, io_weight, tasks",
        ));
    }
    Ok(Json(app.service.set_limits(caller, name, limits).await?))
}
