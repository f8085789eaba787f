//! `/api/v1/health`: the daemon's own state.

use super::App;
use super::problem::Problem;
use crate::proto::api;
use axum::Json;
use axum::extract::State;

/// The daemon's own state. `degraded` is still an answer with status 200: what is wrong is in `problems`.
#[utoipa::path(get, path = "/api/v1/health", tag = "daemon", responses((status = 200, body = api::Health)))]
pub(super) async fn get_health(State(app): State<App>) -> Result<Json<api::Health>, Problem> {
    Ok(Json(app.service.health().await?))
}
