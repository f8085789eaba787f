//! The list of all routes, and the OpenAPI document that comes from it.

use super::App;
use super::{
    audit, checks, compat, events, health, instances, locks, messages, metrics, plans, problem, queue, repositories, schedules, tasks, teams, worktrees,
};
use crate::proto::api;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the document says of itself.
const DESCRIPTION: &str = "Runs fleets of Claude Code agents on Linux hosts the way systemd runs services. On the Unix socket \
    the kernel says who is calling and no token is needed; on TCP send `Authorization: Bearer TOKEN`. Every error is an RFC 9457 \
    problem with a stable `code`.";

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| {
    let mut document = routes().split_for_parts().1;
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            operation.responses.responses.entry("default".to_owned()).or_insert_with(|| Ref::from_response_name("Problem").into());
        }
    }
    document
});

/// The OpenAPI 3.1 document of all routes.
pub fn document() -> &'static OpenApi {
    &DOCUMENT
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// Every route of the server. There is no other way to add one, so none is missing from the document.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(frame())
        .routes(routes!(instances::list_instances))
        .routes(routes!(instances::get_instance))
        .routes(routes!(instances::start_instance))
        .routes(routes!(instances::stop_instance))
        .routes(routes!(instances::restart_instance))
        .routes(routes!(instances::set_limits))
        .routes(routes!(worktrees::list_worktrees))
        .routes(routes!(worktrees::add_worktree))
        .routes(routes!(worktrees::remove_worktree))
        .routes(routes!(worktrees::collect_worktrees))
        .routes(routes!(repositories::set_repository))
        .routes(routes!(teams::list_teams))
        .routes(routes!(teams::get_team))
        .routes(routes!(teams::start_team))
        .routes(routes!(teams::stop_team))
        .routes(routes!(teams::scale_team))
        .routes(routes!(tasks::list_tasks, tasks::add_task))
        .routes(routes!(tasks::get_task))
        .routes(routes!(tasks::cancel_task))
        .routes(routes!(tasks::retry_task))
        .routes(routes!(tasks::get_task_log))
        .routes(routes!(checks::get_check))
        .routes(routes!(checks::get_task_forecast))
        .routes(routes!(queue::claim_next))
        .routes(routes!(queue::claim_task))
        .routes(routes!(queue::release_task))
        .routes(routes!(queue::complete_task))
        .routes(routes!(queue::report_progress))
        .routes(routes!(queue::list_pauses, queue::pause, queue::resume))
        .routes(routes!(queue::cancel_group))
        .routes(routes!(queue::export_tasks))
        .routes(routes!(schedules::list_schedules, schedules::add_schedule))
        .routes(routes!(schedules::remove_schedule))
        .routes(routes!(schedules::run_schedule))
        .merge(OpenApiRouter::new().routes(routes!(queue::import_tasks)).layer(DefaultBodyLimit::max(queue::IMPORT_MAX)))
        .routes(routes!(locks::list_locks, locks::acquire_lock))
        .routes(routes!(locks::steal_lock))
        .routes(routes!(locks::release_locks))
        .routes(routes!(locks::transfer_lock))
        .routes(routes!(events::list_events))
        .routes(routes!(events::stream_events))
        .routes(routes!(audit::list_audit))
        .routes(routes!(audit::check_audit))
        .routes(routes!(messages::list_messages, messages::send_message))
        .routes(routes!(messages::get_message))
        .routes(routes!(messages::send_broadcast))
        .routes(routes!(messages::post_broadcast))
        .routes(routes!(messages::ask_for_help))
        .routes(routes!(plans::list_plans, plans::add_plan))
        .routes(routes!(plans::get_plan))
        .routes(routes!(plans::approve_plan))
        .routes(routes!(plans::reject_plan))
        .routes(routes!(plans::cancel_plan))
        .routes(routes!(plans::export_plan))
        .routes(routes!(health::get_health))
        .routes(routes!(metrics::get_metrics))
        .routes(routes!(get_openapi))
        .routes(routes!(compat::get_root))
        .routes(routes!(compat::get_field_health))
        .routes(routes!(compat::get_agents_status))
        .routes(routes!(compat::list_agents))
        .routes(routes!(compat::post_task))
        .routes(routes!(compat::list_field_tasks, compat::post_field_task))
}

/// The document without its paths.
fn frame() -> OpenApi {
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("TCP only. The token is in the file that `[api] token-file` names.")).build();
    let problem = ResponseBuilder::new()
        .description("Something is wrong; `code` says what, `detail` what to do.")
        .content(problem::MEDIA_TYPE, ContentBuilder::new().schema(Some(Ref::from_schema_name(api::Problem::name()))).build())
        .build();
    let mut components = Components::new();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    components.schemas.insert(api::Problem::name().into_owned(), api::Problem::schema());
    components.responses.insert("Problem".to_owned(), problem.into());
    let licence = LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).build();
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("clauded").version(env!("CARGO_PKG_VERSION")).description(Some(DESCRIPTION)).license(Some(licence)).build())
        .components(Some(components))
        // Either: the empty requirement is the Unix socket's, where the kernel answers.
        .security(Some([SecurityRequirement::default(), SecurityRequirement::new("token", Vec::<String>::new())]))
        .build()
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "daemon", responses((status = 200, content_type = "application/json", body = Object)))]
async fn get_openapi() -> impl IntoResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
