//! `/api/v1/repositories`: git repositories in the configuration.

use super::App;
use super::extract::{Body, label};
use super::problem::Problem;
use super::service::Caller;
use crate::proto::api;
use axum::extract::{Path, State};
use axum::{Extension, Json};

/// Writes a repository into the configuration, durably. One that is there keeps what is not said; nothing is written that would be wrong.
#[utoipa::path(put, path = "/api/v1/repositories/{repository}", tag = "repositories", params(("repository" = String, Path, description = "Its name")),
    request_body = api::SetRepository, responses((status = 200, body = api::Outcome)))]
pub(super) async fn set_repository(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(wanted): Body<api::SetRepository>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.set_repository(caller, label(&name)?, wanted).await?))
}
