//! `/api/v1/worktrees`: looking at the instances' worktrees, making and removing them.

use super::App;
use super::extract::{Body, Name};
use super::problem::Problem;
use super::service::Caller;
use crate::proto::api;
use axum::extract::State;
use axum::{Extension, Json};

/// The worktrees of all instances that have a repository.
#[utoipa::path(get, path = "/api/v1/worktrees", tag = "worktrees", responses((status = 200, body = Vec<api::Worktree>)))]
pub(super) async fn list_worktrees(State(app): State<App>) -> Result<Json<Vec<api::Worktree>>, Problem> {
    Ok(Json(app.service.worktrees().await?))
}

/// Gives an instance a repository in the configuration, and makes its worktree.
#[utoipa::path(post, path = "/api/v1/worktrees/{name}/add", tag = "worktrees", params(("name" = String, Path, description = "The instance")),
    request_body = api::AddWorktree, responses((status = 200, body = api::Outcome)))]
pub(super) async fn add_worktree(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    Body(wanted): Body<api::AddWorktree>,
) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.add_worktree(caller, name, wanted.repository).await?))
}

/// Removes the worktree of an instance that does not run, if nothing is lost with it. Its branches stay.
#[utoipa::path(post, path = "/api/v1/worktrees/{name}/remove", tag = "worktrees", params(("name" = String, Path, description = "The instance")),
    responses((status = 200, body = api::Outcome)))]
pub(super) async fn remove_worktree(State(app): State<App>, Extension(caller): Extension<Caller>, Name(name): Name) -> Result<Json<api::Outcome>, Problem> {
    Ok(Json(app.service.remove_worktree(caller, name).await?))
}

/// Removes the worktrees that are clean, merged or expired, and locked by nobody, of instances that do not run; says of each why.
#[utoipa::path(post, path = "/api/v1/worktrees/gc", tag = "worktrees", request_body = api::CollectWorktrees,
    responses((status = 200, body = Vec<api::WorktreeFate>)))]
pub(super) async fn collect_worktrees(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<api::CollectWorktrees>,
) -> Result<Json<Vec<api::WorktreeFate>>, Problem> {
    Ok(Json(app.service.collect_worktrees(caller, wanted.dry_run).await?))
}
