//! `/metrics`: the Prometheus text exposition.

use super::App;
use super::problem::Problem;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

/// What a Prometheus server scrapes, in text format 0.0.4.
#[utoipa::path(get, path = "/metrics", tag = "daemon", responses((status = 200, content_type = "text/plain; version=0.0.4", body = String)))]
pub(super) async fn get_metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], app.service.metrics().await?))
}
