//! `/api/v1/check`: how running and waiting tasks get along.

use super::App;
use super::auth::View;
use super::extract::{Id, Params, label};
use super::problem::Problem;
use super::service::Caller;
use crate::proto::api;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

/// What to check.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckParams {
    /// Only this repository, by its name in the configuration.
    repository: Option<String>,
}

/// Which running tasks touch the same files and whether they merge, which tasks are free and can run side by side, who holds
/// which lock. Runners that do not answer within seconds are named. An agent sees its own repository.
#[utoipa::path(get, path = "/api/v1/check", tag = "tasks", params(CheckParams), responses((status = 200, body = api::Check)))]
pub(super) async fn get_check(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<CheckParams>,
) -> Result<Json<api::Check>, Problem> {
    View::of(&caller)?;
    let repository = params.repository.as_deref().map(label).transpose()?;
    Ok(Json(app.service.check(caller, repository).await?))
}

/// Which other running tasks touch the same files as this one, and whether they merge.
#[utoipa::path(get, path = "/api/v1/tasks/{id}/forecast", tag = "tasks", params(("id" = i64, Path, description = "The task's number")),
    responses((status = 200, body = api::TaskForecast)))]
pub(super) async fn get_task_forecast(State(app): State<App>, Extension(caller): Extension<Caller>, Id(id): Id) -> Result<Json<api::TaskForecast>, Problem> {
    View::of(&caller)?.check(&app.service.task(id).await?)?;
    Ok(Json(app.service.forecast(caller, id).await?))
}
