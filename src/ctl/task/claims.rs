//! `claudectl task claim`, `release` and `complete`: for who does a task themselves.

use super::args::{Claim, Complete};
use super::line;
use crate::ctl::client::{Client, decode, user_name};
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::output::Screen;
use crate::proto::api;
use hyper::Method;

/// `claudectl task claim`
pub(super) async fn claim(client: &Client, screen: &Screen, args: &Claim) -> Result<Outcome, Failure> {
    let path = args.id.map_or_else(|| "/api/v1/tasks/claim".to_owned(), |id| format!("/api/v1/tasks/{id}/claim"));
    let body = client.send(Method::POST, &path, &api::Claim { by: args.by.clone().or_else(user_name) }).await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let task: api::Task = decode(&body)?;
    let detail: api::TaskDetail = client.read(&format!("/api/v1/tasks/{}", task.id)).await?;
    screen.print(&screen.style().finish(format!(
        "{}\n{}\n\nWhen it is done: claudectl task complete {id}, or --failed; to give it back: claudectl task release {id}\n",
        line(screen.style(), &task).trim_end(),
        crate::ctl::quantity::clean(detail.prompt.trim_end()),
        id = task.id
    )))?;
    Ok(Outcome::Done)
}

/// `claudectl task complete`
pub(super) async fn complete(client: &Client, screen: &Screen, args: &Complete) -> Result<Outcome, Failure> {
    let completion = api::Completion { failed: args.failed, note: args.note.clone().unwrap_or_default() };
    let body = client.send(Method::POST, &format!("/api/v1/tasks/{}/complete", args.id), &completion).await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let completed: api::Completed = decode(&body)?;
    let mut text = line(screen.style(), &completed.task);
    if let Some(next) = &completed.next {
        text.push_str(&format!("next: {} {}; take it with: claudectl task claim {}\n", next.id, crate::ctl::quantity::line(&next.title, 100), next.id));
    }
    screen.print(&screen.style().finish(text))?;
    Ok(Outcome::Done)
}
