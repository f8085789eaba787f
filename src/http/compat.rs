//! The routes that dashboards and scripts for agent fleets already use, mapped onto the same service.

use super::App;
use super::extract::{Body, Params};
use super::problem::Problem;
use super::service::Caller;
use super::tasks::{TaskParams, accept, list_tasks};
use crate::proto::api;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What answers here, and where to go on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Greeting {
    /// Always `clauded`.
    name: &'static str,
    /// The version.
    version: &'static str,
    /// The OpenAPI document.
    openapi: &'static str,
    /// The state of the daemon.
    health: &'static str,
    /// The Prometheus metrics.
    metrics: &'static str,
}

/// All agents, counted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentsStatus {
    /// Agents in all.
    total: usize,
    /// Agents with a task.
    busy: usize,
    /// Agents that run and wait for one.
    idle: usize,
    /// Each of them.
    agents: Vec<AgentStatus>,
}

/// One agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentStatus {
    /// The instance's name.
    name: String,
    /// `busy`, `idle`, or systemd's word for a unit that is not active: `inactive`, `failed`, …
    status: String,
    /// The task that it has.
    task: Option<i64>,
    /// What it is doing, in words.
    detail: String,
}

/// A task as others write it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldTask {
    /// What the agent is told; `task` and `description` are taken too.
    #[serde(alias = "task", alias = "description")]
    prompt: String,
    /// The instance that is to do it, any idle one if absent; `agent` and `assigned_to` are taken too.
    #[serde(alias = "agent", alias = "assigned_to")]
    instance: Option<String>,
    /// The kind of work.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// One line for tables.
    title: Option<String>,
}

impl From<FieldTask> for api::NewTask {
    fn from(task: FieldTask) -> Self {
        Self { prompt: task.prompt, instance: task.instance, kind: task.kind, title: task.title, ..Self::default() }
    }
}

/// What answers here.
#[utoipa::path(get, path = "/", tag = "compatibility", responses((status = 200, body = Greeting)))]
pub(super) async fn get_root() -> Json<Greeting> {
    Json(Greeting { name: "clauded", version: env!("CARGO_PKG_VERSION"), openapi: "/api/openapi.json", health: "/health", metrics: "/metrics" })
}

/// As `/api/v1/health`.
#[utoipa::path(get, path = "/health", tag = "compatibility", responses((status = 200, body = api::Health)))]
pub(super) async fn get_field_health(State(app): State<App>) -> Result<Json<api::Health>, Problem> {
    Ok(Json(app.service.health().await?))
}

/// All agents, counted.
#[utoipa::path(get, path = "/agents/status", tag = "compatibility", responses((status = 200, body = AgentsStatus)))]
pub(super) async fn get_agents_status(State(app): State<App>) -> Result<Json<AgentsStatus>, Problem> {
    let agents: Vec<AgentStatus> = app.service.instances().await?.into_iter().map(AgentStatus::from).collect();
    let with = |status: &str| agents.iter().filter(|agent| agent.status == status).count();
    Ok(Json(AgentsStatus { total: agents.len(), busy: with("busy"), idle: with("idle"), agents }))
}

impl From<api::Instance> for AgentStatus {
    fn from(instance: api::Instance) -> Self {
        let status = match (instance.active.as_str(), instance.task) {
            ("active", Some(_)) => "busy".to_owned(),
            ("active", None) => "idle".to_owned(),
            _ => instance.active,
        };
        Self { name: instance.name, status, task: instance.task, detail: instance.status }
    }
}

/// As `GET /api/v1/instances`.
#[utoipa::path(get, path = "/api/agents", tag = "compatibility", responses((status = 200, body = Vec<api::Instance>)))]
pub(super) async fn list_agents(State(app): State<App>) -> Result<Json<Vec<api::Instance>>, Problem> {
    Ok(Json(app.service.instances().await?))
}

/// Takes a task into the queue.
#[utoipa::path(post, path = "/task", tag = "compatibility", request_body = FieldTask, responses((status = 201, body = api::Task)))]
pub(super) async fn post_task(State(app): State<App>, Extension(caller): Extension<Caller>, Body(task): Body<FieldTask>) -> Result<Response, Problem> {
    accept(&app, caller, task.into()).await
}

/// As `GET /api/v1/tasks`.
#[utoipa::path(get, path = "/api/tasks", tag = "compatibility", params(TaskParams), responses((status = 200, body = Vec<api::Task>)))]
pub(super) async fn list_field_tasks(app: State<App>, caller: Extension<Caller>, params: Params<TaskParams>) -> Result<Json<Vec<api::Task>>, Problem> {
    list_tasks(app, caller, params).await
}

/// Takes a task into the queue.
#[utoipa::path(post, path = "/api/tasks", tag = "compatibility", request_body = FieldTask, responses((status = 201, body = api::Task)))]
pub(super) async fn post_field_task(State(app): State<App>, Extension(caller): Extension<Caller>, Body(task): Body<FieldTask>) -> Result<Response, Problem> {
    accept(&app, caller, task.into()).await
}
