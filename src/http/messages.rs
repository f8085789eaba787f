//! `/api/v1/messages`: what persons and agents say to one another. An agent writes as itself, and reads its own.

use super::App;
use super::auth::View;
use super::extract::{Body, Params, instance_name, limit};
use super::problem::Problem;
use super::service::Caller;
use crate::core::message::{MessageId, MessageQuery};
use crate::proto::messages::{Message, NewBroadcast, NewHelp, NewMessage};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

/// Which messages to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageParams {
    /// Only of or to this instance.
    instance: Option<String>,
    /// Only with a smaller number than this: the last row's, for the next page.
    before: Option<i64>,
    /// At most this many, 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

/// How to look at a message.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowParams {
    /// Answer only when it has been answered, or 25 seconds have passed.
    #[serde(default)]
    wait: bool,
}

/// Sends a message to an instance or a team. Once this has answered, it is on disk.
#[utoipa::path(post, path = "/api/v1/messages", tag = "messages", request_body = NewMessage,
    responses((status = 201, body = Message, headers(("Location" = String, description = "The message's address")))))]
pub(super) async fn send_message(State(app): State<App>, Extension(caller): Extension<Caller>, Body(new): Body<NewMessage>) -> Result<Response, Problem> {
    app.service.send(caller, new).await.map(created).map_err(Problem::from)
}

/// Sends a message to all instances that run.
#[utoipa::path(post, path = "/api/v1/broadcast", tag = "messages", request_body = NewBroadcast, responses((status = 201, body = Message)))]
pub(super) async fn send_broadcast(State(app): State<App>, Extension(caller): Extension<Caller>, Body(new): Body<NewBroadcast>) -> Result<Response, Problem> {
    app.service.broadcast(caller, new).await.map(created).map_err(Problem::from)
}

/// As `POST /api/v1/broadcast`.
#[utoipa::path(post, path = "/broadcast", tag = "compatibility", request_body = NewBroadcast, responses((status = 201, body = Message)))]
pub(super) async fn post_broadcast(app: State<App>, caller: Extension<Caller>, new: Body<NewBroadcast>) -> Result<Response, Problem> {
    send_broadcast(app, caller, new).await
}

/// Asks one that is free, as a task. What it says last comes back as a message that answers this one.
#[utoipa::path(post, path = "/api/v1/help", tag = "messages", request_body = NewHelp, responses((status = 201, body = Message)))]
pub(super) async fn ask_for_help(State(app): State<App>, Extension(caller): Extension<Caller>, Body(new): Body<NewHelp>) -> Result<Response, Problem> {
    app.service.help(caller, new).await.map(created).map_err(Problem::from)
}

fn created(message: Message) -> Response {
    (StatusCode::CREATED, [(header::LOCATION, format!("/api/v1/messages/{}", message.id))], Json(message)).into_response()
}

/// Lists messages, newest first.
#[utoipa::path(get, path = "/api/v1/messages", tag = "messages", params(MessageParams), responses((status = 200, body = Vec<Message>)))]
pub(super) async fn list_messages(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<MessageParams>,
) -> Result<Json<Vec<Message>>, Problem> {
    let instance = View::of(&caller)?.only(params.instance.as_deref().map(instance_name).transpose()?)?;
    let query = MessageQuery { instance, before: params.before.map(MessageId), limit: limit(params.limit)? };
    Ok(Json(app.service.messages(query).await?))
}

/// One message, and how far it has come.
#[utoipa::path(get, path = "/api/v1/messages/{id}", tag = "messages", params(("id" = i64, Path, description = "The message's number"), ShowParams),
    responses((status = 200, body = Message)))]
pub(super) async fn get_message(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    Params(params): Params<ShowParams>,
) -> Result<Json<Message>, Problem> {
    let wrong = |_| Problem::bad_request("invalid-message-id", format!("{text:.40?} is not a message: messages have whole numbers, such as 42"));
    let id = text.parse().map(MessageId).map_err(wrong)?;
    let view = View::of(&caller)?;
    let message = app.service.message(id, false).await?;
    let to = message.letters.iter().map(|letter| letter.to.as_str());
    if !view.includes(to.chain(message.from.as_deref())) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", format!("you are {}, and agents may see their own messages alone", caller.description)));
    }
    if params.wait
        && message.answers.is_empty()
        && let Some(answered) = app.patiently(app.service.message(id, true)).await
    {
        return Ok(Json(answered?));
    }
    Ok(Json(app.service.message(id, false).await?))
}
