//! `/api/v1/tasks`: the queue, from the outside.

use super::App;
use super::auth::View;
use super::extract::{Body, Id, Params, instance_name, label, limit};
use super::problem::Problem;
use super::service::{Caller, TaskQuery};
use crate::core::ids::TaskId;
use crate::core::task::TaskState;
use crate::proto::api;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

/// Which tasks to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskParams {
    /// Only in this state: `pending`, `assigned`, `running`, `verifying`, `publishing`, `claimed`, `succeeded`, `failed` or `cancelled`.
    state: Option<String>,
    /// Only for or on this instance.
    instance: Option<String>,
    /// Only of this group.
    group: Option<String>,
    /// Only with a smaller number than this: the last row's, for the next page.
    before: Option<i64>,
    /// At most this many, 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

impl TaskParams {
    /// Checked.
    pub(super) fn query(self) -> Result<TaskQuery, Problem> {
        if let Some(state) = &self.state
            && !TaskState::NAMES.contains(&state.as_str())
        {
            return Err(Problem::bad_request("invalid-query", format!("state: {state:.40?} is none of {}", TaskState::NAMES.join(", "))));
        }
        Ok(TaskQuery {
            state: self.state,
            instance: self.instance.as_deref().map(instance_name).transpose()?,
            group: self.group.as_deref().map(label).transpose()?,
            before: self.before.map(TaskId),
            limit: limit(self.limit)?,
        })
    }
}

/// Which piece of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogParams {
    /// The attempt, 1 for the first; the last one if absent.
    attempt: Option<u32>,
    /// Where to begin, in bytes from the log's start: the `next` of the answer before.
    #[serde(default)]
    offset: u64,
    /// Answer only when something stands after `offset`, or nothing will follow, or 25 seconds have passed.
    #[serde(default)]
    wait: bool,
}

/// Lists tasks, newest first.
#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", params(TaskParams), responses((status = 200, body = Vec<api::Task>)))]
pub(super) async fn list_tasks(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<TaskParams>,
) -> Result<Json<Vec<api::Task>>, Problem> {
    let mut query = params.query()?;
    View::of(&caller)?.narrow(&mut query)?;
    Ok(Json(app.service.tasks(query).await?))
}

/// Takes a task into the queue. Once this has answered, the task is on disk.
#[utoipa::path(post, path = "/api/v1/tasks", tag = "tasks", request_body = api::NewTask,
    responses((status = 201, body = api::Task, headers(("Location" = String, description = "The task's address")))))]
pub(super) async fn add_task(State(app): State<App>, Extension(caller): Extension<Caller>, Body(task): Body<api::NewTask>) -> Result<Response, Problem> {
    accept(&app, caller, task).await
}

/// Adds a task and says where it is.
pub(super) async fn accept(app: &App, caller: Caller, task: api::NewTask) -> Result<Response, Problem> {
    if let Some(name) = &task.instance {
        instance_name(name)?;
    }
    let task = app.service.add_task(caller, task).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/api/v1/tasks/{}", task.id))], Json(task)).into_response())
}

/// One task with its attempts.
#[utoipa::path(get, path = "/api/v1/tasks/{id}", tag = "tasks", params(("id" = i64, Path, description = "The task's number")),
    responses((status = 200, body = api::TaskDetail)))]
pub(super) async fn get_task(State(app): State<App>, Extension(caller): Extension<Caller>, Id(id): Id) -> Result<Json<api::TaskDetail>, Problem> {
    let view = View::of(&caller)?;
    let task = app.service.task(id).await?;
    view.check(&task)?;
    Ok(Json(task))
}

/// Ends a task: at once if it waits, by an interrupt to its agent if it runs.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = i64, Path, description = "The task's number")),
    responses((status = 200, body = api::Task)))]
pub(super) async fn cancel_task(State(app): State<App>, Extension(caller): Extension<Caller>, Id(id): Id) -> Result<Json<api::Task>, Problem> {
    Ok(Json(app.service.cancel(caller, id).await?))
}

/// Puts an ended task back into the queue.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/retry", tag = "tasks", params(("id" = i64, Path, description = "The task's number")),
    responses((status = 200, body = api::Task)))]
pub(super) async fn retry_task(State(app): State<App>, Extension(caller): Extension<Caller>, Id(id): Id) -> Result<Json<api::Task>, Problem> {
    Ok(Json(app.service.retry(caller, id).await?))
}

/// A piece of an attempt's log.
#[utoipa::path(get, path = "/api/v1/tasks/{id}/log", tag = "tasks", params(("id" = i64, Path, description = "The task's number"), LogParams),
    responses((status = 200, body = api::LogChunk)))]
pub(super) async fn get_task_log(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<LogParams>,
) -> Result<Json<api::LogChunk>, Problem> {
    let view = View::of(&caller)?;
    if let View::Of(_) = view {
        view.check(&app.service.task(id).await?)?;
    }
    if params.wait
        && let Some(chunk) = app.patiently(app.service.log(id, params.attempt, params.offset, true)).await
    {
        return Ok(Json(chunk?));
    }
    Ok(Json(app.service.log(id, params.attempt, params.offset, false).await?))
}
