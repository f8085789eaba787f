//! `/api/v1/plans`: goals that a boss splits into tasks for its team.

use super::App;
use super::auth::{View, operator};
use super::extract::{Body, Params, limit, number};
use super::problem::Problem;
use super::service::Caller;
use crate::core::plan::PlanId;
use crate::proto::api;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

/// Which plans to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanParams {
    /// Those that are over too.
    #[serde(default)]
    all: bool,
    /// Only with a smaller number than this: the last row's, for the next page.
    before: Option<i64>,
    /// At most this many, 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

fn id(text: &str) -> Result<PlanId, Problem> {
    let wrong = || Problem::bad_request("invalid-plan-id", format!("{text:.40?} is not a plan: plans have whole numbers, such as 7"));
    number(text).map(PlanId).ok_or_else(wrong)
}

/// Has the boss of a team split a goal into tasks. Once this has answered, the boss's task is on disk.
#[utoipa::path(post, path = "/api/v1/plans", tag = "plans", request_body = api::NewPlan,
    responses((status = 201, body = api::Plan, headers(("Location" = String, description = "The plan's address")))))]
pub(super) async fn add_plan(State(app): State<App>, Extension(caller): Extension<Caller>, Body(new): Body<api::NewPlan>) -> Result<Response, Problem> {
    let plan = app.service.add_plan(caller, new).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/api/v1/plans/{}", plan.id))], Json(plan)).into_response())
}

/// Lists plans, newest first. An agent sees those that it makes.
#[utoipa::path(get, path = "/api/v1/plans", tag = "plans", params(PlanParams), responses((status = 200, body = Vec<api::Plan>)))]
pub(super) async fn list_plans(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<PlanParams>,
) -> Result<Json<Vec<api::Plan>>, Problem> {
    let view = View::of(&caller)?;
    let mut plans = app.service.plans(params.before.map(PlanId), params.all, limit(params.limit)?).await?;
    plans.retain(|plan| view.includes([plan.boss.as_str()]));
    Ok(Json(plans))
}

/// One plan, with its tasks and how they stand.
#[utoipa::path(get, path = "/api/v1/plans/{id}", tag = "plans", params(("id" = i64, Path, description = "The plan's number")),
    responses((status = 200, body = api::Plan)))]
pub(super) async fn get_plan(State(app): State<App>, Extension(caller): Extension<Caller>, Path(text): Path<String>) -> Result<Json<api::Plan>, Problem> {
    let (id, view) = (id(&text)?, View::of(&caller)?);
    let plan = app.service.plan(id).await?;
    if !view.includes([plan.boss.as_str()]) {
        operator(&caller, "to see another's plan")?;
    }
    Ok(Json(plan))
}

/// Lets the tasks of a plan that waits for approval enter the queue, all at once.
#[utoipa::path(post, path = "/api/v1/plans/{id}/approve", tag = "plans", params(("id" = i64, Path, description = "The plan's number")),
    responses((status = 200, body = api::Plan)))]
pub(super) async fn approve_plan(State(app): State<App>, Extension(caller): Extension<Caller>, Path(text): Path<String>) -> Result<Json<api::Plan>, Problem> {
    Ok(Json(app.service.approve_plan(caller, id(&text)?).await?))
}

/// Drops a plan that waits for approval.
#[utoipa::path(post, path = "/api/v1/plans/{id}/reject", tag = "plans", params(("id" = i64, Path, description = "The plan's number")),
    request_body = api::RejectPlan, responses((status = 200, body = api::Plan)))]
pub(super) async fn reject_plan(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    Body(reject): Body<api::RejectPlan>,
) -> Result<Json<api::Plan>, Problem> {
    Ok(Json(app.service.reject_plan(caller, id(&text)?, reject.why).await?))
}

/// Ends a plan, with all of its tasks that have not ended.
#[utoipa::path(post, path = "/api/v1/plans/{id}/cancel", tag = "plans", params(("id" = i64, Path, description = "The plan's number")),
    responses((status = 200, body = api::Plan)))]
pub(super) async fn cancel_plan(State(app): State<App>, Extension(caller): Extension<Caller>, Path(text): Path<String>) -> Result<Json<api::Plan>, Problem> {
    Ok(Json(app.service.cancel_plan(caller, id(&text)?).await?))
}

/// The tasks of a plan as `POST /api/v1/tasks/import` takes them.
#[utoipa::path(get, path = "/api/v1/plans/{id}/export", tag = "plans", params(("id" = i64, Path, description = "The plan's number")),
    responses((status = 200, body = api::Import)))]
pub(super) async fn export_plan(State(app): State<App>, Extension(caller): Extension<Caller>, Path(text): Path<String>) -> Result<Json<api::Import>, Problem> {
    operator(&caller, "to export a plan")?;
    Ok(Json(app.service.export_plan(id(&text)?).await?))
}
