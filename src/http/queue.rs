//! Claims, pauses, groups, and many tasks at once.

use super::App;
use super::auth::View;
use super::extract::{Body, Id, Params, label};
use super::problem::Problem;
use super::service::{Caller, Role};
use crate::proto::api;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

/// Largest import, in bytes.
pub(super) const IMPORT_MAX: usize = 64 << 20;

/// Which tasks to export.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportParams {
    /// Only of this group.
    group: Option<String>,
    /// Those too that have ended.
    #[serde(default)]
    all: bool,
}

/// What to let go on.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeParams {
    /// `all`, `instance`, `team`, `group` or `account`.
    kind: String,
    /// Which one; empty for all.
    #[serde(default)]
    name: String,
}

/// Keeps a sentence on how the caller gets on with a task, for `task show` and `status`; it is an event too. An agent speaks of the task
/// that it was given, or of one that it has claimed; others of one that is claimed.
#[utoipa::path(post, path = "/api/v1/tasks/progress", tag = "queue", request_body = api::Headway, responses((status = 200, body = api::Outcome)))]
pub(super) async fn report_progress(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(said): Body<api::Headway>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.headway(caller, said).await?))
}

/// Claims the most urgent task that the caller could take.
#[utoipa::path(post, path = "/api/v1/tasks/claim", tag = "queue", request_body = api::Claim, responses((status = 200, body = api::Task)))]
pub(super) async fn claim_next(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(claim): Body<api::Claim>,
) -> Result<Json<api::Task>, Problem> {
    Ok(Json(app.service.claim(caller, None, claim).await?))
}

/// Claims a task: no runner is given it until it is released or completed. Claiming it again changes nothing.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/claim", tag = "queue", params(("id" = i64, Path, description = "The task's number")),
    request_body = api::Claim, responses((status = 200, body = api::Task)))]
pub(super) async fn claim_task(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(claim): Body<api::Claim>,
) -> Result<Json<api::Task>, Problem> {
    Ok(Json(app.service.claim(caller, Some(id), claim).await?))
}

/// Gives a claimed task back to the queue.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/release", tag = "queue", params(("id" = i64, Path, description = "The task's number")),
    responses((status = 200, body = api::Task)))]
pub(super) async fn release_task(State(app): State<App>, Extension(caller): Extension<Caller>, Id(id): Id) -> Result<Json<api::Task>, Problem> {
    Ok(Json(app.service.release(caller, id).await?))
}

/// Ends a claimed task, and suggests the next one.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/complete", tag = "queue", params(("id" = i64, Path, description = "The task's number")),
    request_body = api::Completion, responses((status = 200, body = api::Completed)))]
pub(super) async fn complete_task(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(completion): Body<api::Completion>,
) -> Result<Json<api::Completed>, Problem> {
    Ok(Json(app.service.complete(caller, id, completion).await?))
}

/// What is paused, by whom and why.
#[utoipa::path(get, path = "/api/v1/pauses", tag = "queue", responses((status = 200, body = Vec<api::Pause>)))]
pub(super) async fn list_pauses(State(app): State<App>) -> Result<Json<Vec<api::Pause>>, Problem> {
    Ok(Json(app.service.pauses().await?))
}

/// Pauses something: nothing of it starts; what runs goes on.
#[utoipa::path(post, path = "/api/v1/pauses", tag = "queue", request_body = api::NewPause, responses((status = 200, body = api::Outcome)))]
pub(super) async fn pause(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<api::NewPause>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.pause(caller, wanted).await?))
}

/// Lets something go on that is paused.
#[utoipa::path(delete, path = "/api/v1/pauses", tag = "queue", params(ScopeParams), responses((status = 200, body = api::Outcome)))]
pub(super) async fn resume(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ScopeParams>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.resume(caller, params.kind, params.name).await?))
}

/// Ends all tasks of a group that have not ended.
#[utoipa::path(post, path = "/api/v1/groups/{group}/cancel", tag = "queue", params(("group" = String, Path, description = "The group")),
    responses((status = 200, body = Vec<api::Task>)))]
pub(super) async fn cancel_group(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(group): Path<String>,
) -> Result<Json<Vec<api::Task>>, Problem> {
    Ok(Json(app.service.cancel_group(caller, label(&group)?).await?))
}

/// Takes many tasks into the queue, all of them or none. Every problem is told with its line.
#[utoipa::path(post, path = "/api/v1/tasks/import", tag = "queue", request_body = api::Import, responses((status = 201, body = api::Imported)))]
pub(super) async fn import_tasks(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(import): Body<api::Import>,
) -> Result<(StatusCode, Json<api::Imported>), Problem> {
    Ok((StatusCode::CREATED, Json(app.service.import(caller, import).await?)))
}

/// The tasks that have not ended, in the form that an import takes.
#[utoipa::path(get, path = "/api/v1/tasks/export", tag = "queue", params(ExportParams), responses((status = 200, body = api::Import)))]
pub(super) async fn export_tasks(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ExportParams>,
) -> Result<Json<api::Import>, Problem> {
    if let (View::Of(_), Role::Agent(name)) = (View::of(&caller)?, &caller.role) {
        let detail = format!("you are the agent of instance {name}, and agents may see the tasks of their own instance alone");
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    Ok(Json(app.service.export(params.group.as_deref().map(label).transpose()?, params.all).await?))
}
