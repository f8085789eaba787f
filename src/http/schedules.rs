//! `/api/v1/schedules`: tasks that come again by the clock.

use super::App;
use super::auth::View;
use super::extract::{Body, label};
use super::problem::Problem;
use super::service::Caller;
use crate::proto::api;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

/// All schedules.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules", responses((status = 200, body = Vec<api::Schedule>)))]
pub(super) async fn list_schedules(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Json<Vec<api::Schedule>>, Problem> {
    View::of(&caller)?;
    Ok(Json(app.service.schedules().await?))
}

/// Adds a schedule: at each of its times it adds its task, unless the one before lives.
#[utoipa::path(post, path = "/api/v1/schedules", tag = "schedules", request_body = api::NewSchedule, responses((status = 201, body = api::Schedule)))]
pub(super) async fn add_schedule(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<api::NewSchedule>,
) -> Result<(StatusCode, Json<api::Schedule>), Problem> {
    Ok((StatusCode::CREATED, Json(app.service.add_schedule(caller, new).await?)))
}

/// Removes a schedule; the tasks that it has added stay.
#[utoipa::path(delete, path = "/api/v1/schedules/{schedule}", tag = "schedules", params(("schedule" = String, Path, description = "Its name")),
    responses((status = 200, body = api::Outcome)))]
pub(super) async fn remove_schedule(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.remove_schedule(caller, label(&name)?).await?))
}

/// Runs a schedule now.
#[utoipa::path(post, path = "/api/v1/schedules/{schedule}/run", tag = "schedules", params(("schedule" = String, Path, description = "Its name")),
    responses((status = 200, body = api::Outcome)))]
pub(super) async fn run_schedule(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.run_schedule(caller, label(&name)?).await?))
}
