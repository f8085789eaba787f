//! `/api/v1/teams`: looking at teams, bringing them up and down, and how many members they have.

use super::App;
use super::extract::{Body, Name};
use super::problem::Problem;
use super::service::Caller;
use crate::proto::api;
use axum::extract::State;
use axum::{Extension, Json};

/// All teams with their members.
#[utoipa::path(get, path = "/api/v1/teams", tag = "teams", responses((status = 200, body = Vec<api::Team>)))]
pub(super) async fn list_teams(State(app): State<App>) -> Result<Json<Vec<api::Team>>, Problem> {
    Ok(Json(app.service.teams().await?))
}

/// One team with its members, its memory beside its cap, and what it has cost today.
#[utoipa::path(get, path = "/api/v1/teams/{name}", tag = "teams", params(("name" = String, Path, description = "The team")),
    responses((status = 200, body = api::Team)))]
pub(super) async fn get_team(State(app): State<App>, Name(name): Name) -> Result<Json<api::Team>, Problem> {
    Ok(Json(app.service.team(name).await?))
}

/// Writes a team into the configuration if it is not there, starts its members, and answers when all are ready or have failed.
#[utoipa::path(post, path = "/api/v1/teams/{name}/up", tag = "teams", params(("name" = String, Path, description = "The team")),
    request_body = api::TeamUp, responses((status = 200, body = api::TeamOutcome)))]
pub(super) async fn start_team(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    Body(wanted): Body<api::TeamUp>,
) -> Result<Json<api::TeamOutcome>, Problem> {
    Ok(Json(app.service.team_up(caller, name, wanted).await?))
}

/// Stops a team's members and answers when nothing of them runs; their tasks go on after the next start.
#[utoipa::path(post, path = "/api/v1/teams/{name}/down", tag = "teams", params(("name" = String, Path, description = "The team")),
    request_body = api::TeamDown, responses((status = 200, body = api::TeamOutcome)))]
pub(super) async fn stop_team(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    Body(wanted): Body<api::TeamDown>,
) -> Result<Json<api::TeamOutcome>, Problem> {
    Ok(Json(app.service.team_down(caller, name, wanted).await?))
}

/// Changes how many members a team has. New ones are started if the team is up; those that are too many end their tasks first.
#[utoipa::path(post, path = "/api/v1/teams/{name}/scale", tag = "teams", params(("name" = String, Path, description = "The team")),
    request_body = api::TeamScale, responses((status = 200, body = api::TeamOutcome)))]
pub(super) async fn scale_team(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    Body(wanted): Body<api::TeamScale>,
) -> Result<Json<api::TeamOutcome>, Problem> {
    Ok(Json(app.service.team_scale(caller, name, wanted).await?))
}
