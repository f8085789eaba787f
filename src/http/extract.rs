//! What handlers take from a request, with every refusal a [`Problem`] that names the field and the rule.

use super::problem::Problem;
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// Most rows of one answer.
const LIMIT_MAX: u32 = 1000;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Json::<T>::from_request(request, state).await.map(|Json(body)| Self(body)).map_err(|rejection| {
            let (status, text) = (rejection.status(), rejection.body_text());
            match rejection {
                JsonRejection::JsonDataError(_) => Problem::new(status, "invalid-body", text),
                JsonRejection::JsonSyntaxError(_) => Problem::new(status, "invalid-json", text),
                JsonRejection::MissingJsonContentType(_) => {
                    Problem::new(status, "unsupported-media-type", "the body is JSON and must say so: send the header Content-Type: application/json")
                }
                _ if status == StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                    status,
                    "too-large",
                    format!("the body is larger than {} bytes; put long texts into a file of the worktree and name it in the prompt", super::BODY_MAX),
                ),
                _ => Problem::new(status, "invalid-body", text),
            }
        })
    }
}

/// The query string.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::from_request_parts(parts, state).await.map_err(|rejection| Problem::bad_request("invalid-query", rejection.body_text()))?;
        Ok(Self(query))
    }
}

/// `{name}` of the path: an instance.
pub(super) struct Name(pub(super) InstanceName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = segment(parts, state).await.map_err(|text| Problem::bad_request("invalid-name", text))?;
        instance_name(&text).map(Self)
    }
}

/// `{id}` of the path: a task.
pub(super) struct Id(pub(super) TaskId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = segment(parts, state).await.map_err(|text| Problem::bad_request("invalid-task-id", text))?;
        let number =
            text.parse().map_err(|_| Problem::bad_request("invalid-task-id", format!("{text:.40?} is not a task: tasks have whole numbers, such as 42")))?;
        Ok(Self(TaskId(number)))
    }
}

/// A whole number of the path.
pub(super) fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, String> {
    Path::<String>::from_request_parts(parts, state).await.map(|Path(text)| text).map_err(|rejection| rejection.body_text())
}

/// An instance name from anywhere in a request.
pub(super) fn instance_name(text: &str) -> Result<InstanceName, Problem> {
    text.parse().map_err(|error: crate::core::ids::InvalidName| Problem::bad_request("invalid-name", error.to_string()))
}

/// A plain name from anywhere in a request.
pub(super) fn label(text: &str) -> Result<Label, Problem> {
    text.parse().map_err(|error: crate::core::label::InvalidLabel| Problem::bad_request("invalid-name", error.to_string()))
}

/// `limit` of a list: 100 if absent.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked {
        None => Ok(100),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        Some(other) => Err(Problem::bad_request("invalid-query", format!("limit: {other} is not 1 to {LIMIT_MAX}; page with the last row's number"))),
    }
}
