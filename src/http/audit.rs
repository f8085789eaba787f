//! `/api/v1/audit`: who changed what, for operators.

use super::App;
use super::auth::operator;
use super::extract::{Params, instance_name, limit};
use super::problem::Problem;
use super::service::Caller;
use crate::core::audit::{AuditQuery, Who};
use crate::core::ids::TaskId;
use crate::proto::audit::{AuditCheck, AuditRow};
use axum::extract::State;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which rows to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParams {
    /// Only about this instance.
    instance: Option<String>,
    /// Only about this task.
    task: Option<i64>,
    /// Only of this one: `user:NAME` or a user's `NAME`, `instance:NAME`, `runner:NAME`, `token`, `supervisor`, `clauded`.
    who: Option<String>,
    /// Only of this kind, such as `task-assigned`.
    what: Option<String>,
    /// Not before that time (RFC 3339).
    since: Option<String>,
    /// Before that time (RFC 3339).
    until: Option<String>,
    /// Only with a smaller number than this: the last row's, for the next page.
    before: Option<i64>,
    /// Only with a greater number than this, and then oldest first.
    after: Option<i64>,
    /// At most this many, 1 to 1000; 100 if absent.
    limit: Option<u32>,
    /// With `after`: answer only when there is a row, or 25 seconds have passed.
    #[serde(default)]
    wait: bool,
}

impl AuditParams {
    fn query(self) -> Result<AuditQuery, Problem> {
        let time = |field: &str, text: Option<String>| {
            let parse = |text: String| {
                text.parse::<Timestamp>()
                    .map_err(|_| Problem::bad_request("invalid-query", format!("{field}: {text:.40?} is not a time such as 2026-01-31T12:00:00Z")))
            };
            text.map(parse).transpose()
        };
        Ok(AuditQuery {
            instance: self.instance.as_deref().map(instance_name).transpose()?,
            task: self.task.map(TaskId),
            who: self.who.as_deref().map(Who::asked_for),
            what: self.what,
            since: time("since", self.since)?,
            until: time("until", self.until)?,
            before: self.before,
            after: self.after,
            limit: limit(self.limit)?,
        })
    }
}

/// Lists rows of the audit, newest first; with `after` oldest first, to be followed.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditParams), responses((status = 200, body = Vec<AuditRow>)))]
pub(super) async fn list_audit(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<AuditParams>,
) -> Result<Json<Vec<AuditRow>>, Problem> {
    operator(&caller, "the audit")?;
    let wait = params.wait && params.after.is_some();
    let query = params.query()?;
    if wait && let Some(rows) = app.patiently(app.service.audit(query.clone(), true)).await {
        return Ok(Json(rows?));
    }
    Ok(Json(app.service.audit(query, false).await?))
}

/// Computes all hashes of the audit anew, and names the first row that does not fit.
#[utoipa::path(get, path = "/api/v1/audit/check", tag = "audit", responses((status = 200, body = AuditCheck)))]
pub(super) async fn check_audit(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Json<AuditCheck>, Problem> {
    operator(&caller, "the audit")?;
    Ok(Json(app.service.check_audit().await?))
}
