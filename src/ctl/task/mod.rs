//! `claudectl task …`: one file per verb that is more than a request.

pub(super) mod args;
mod list;
mod log;
mod show;
mod transcript;
mod wait;

use super::client::{Client, decode};
use super::failure::{Failure, Outcome, read_or_not};
use super::output::Screen;
use super::quantity::clean;
use crate::core::task::{InvalidTask, PROMPT_MAX};
use crate::proto::api::{NewTask, Task};
use args::{Add, TaskCommand};
use hyper::Method;
use std::io::{IsTerminal, Read};
use std::path::Path;

/// Standard input beyond this is not even read to be counted, in bytes.
const STDIN_MAX: u64 = 64 << 20;

/// `claudectl task …`
pub(super) async fn run(client: &Client, screen: &Screen, command: TaskCommand) -> Result<Outcome, Failure> {
    match command {
        TaskCommand::Add(args) => add(client, screen, args).await,
        TaskCommand::List(args) => list::run(client, screen, &args).await,
        TaskCommand::Show { id } => show::run(client, screen, id).await,
        TaskCommand::Log(args) => log::run(client, screen, &args).await,
        TaskCommand::Cancel(ids) => act(client, screen, "cancel", &ids.ids).await,
        TaskCommand::Retry(ids) => act(client, screen, "retry", &ids.ids).await,
        TaskCommand::Wait(args) => wait::run(client, screen, &args.ids, args.timeout).await,
    }
}

async fn add(client: &Client, screen: &Screen, args: Add) -> Result<Outcome, Failure> {
    let prompt = if args.prompt == "-" { prompt_from_stdin(screen)? } else { args.prompt };
    let invalid = |e: InvalidTask| Failure::Usage(e.to_string());
    if prompt.trim().is_empty() {
        return Err(invalid(InvalidTask::EmptyPrompt));
    }
    if prompt.len() > PROMPT_MAX {
        return Err(invalid(InvalidTask::LongPrompt(prompt.len())));
    }
    let new = NewTask {
        instance: args.instance.map(String::from),
        kind: args.kind.map(String::from),
        title: args.title,
        prompt,
        // A part of a second is rounded up: a limit of nothing would be none.
        timeout_seconds: args.timeout.map(|t| t.as_secs() + u64::from(t.subsec_nanos() > 0)),
        budget_usd: args.budget_usd,
        max_turns: args.max_turns,
        schema: args.schema.as_deref().map(schema).transpose()?,
    };
    let body = client.send(Method::POST, "/api/v1/tasks", &new).await?;
    let task: Task = decode(&body)?;
    let printed = if screen.json() { screen.body(&body) } else { screen.print(&format!("{}\n", task.id)) };
    read_or_not(printed)?;
    if args.wait { wait::run(client, screen, &[task.id], None).await } else { Ok(Outcome::Done) }
}

fn schema(file: &Path) -> Result<serde_json::Value, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Read { path: file.to_owned(), error })?;
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("--schema {}: it is not JSON: {error}", file.display())))
}

fn prompt_from_stdin(screen: &Screen) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        screen.note("reading the prompt from standard input; end it with Ctrl-D");
    }
    let mut text = String::new();
    let read = stdin.lock().take(STDIN_MAX).read_to_string(&mut text);
    read.map_err(|e| Failure::Usage(format!("cannot read the prompt from standard input: {e}")))?;
    Ok(text)
}

/// A verb on tasks: every one is tried, and the first failure decides the exit code.
async fn act(client: &Client, screen: &Screen, verb: &str, ids: &[i64]) -> Result<Outcome, Failure> {
    let mut first = None;
    for id in ids {
        let done = match client.whole(Method::POST, &format!("/api/v1/tasks/{id}/{verb}"), None).await {
            Ok(body) if screen.json() => screen.body(&body),
            Ok(body) => decode::<Task>(&body).and_then(|task| screen.print(&screen.style().finish(line(screen.style(), &task)))),
            Err(failure) => Err(failure),
        };
        match read_or_not(done) {
            Ok(()) => {}
            Err(failure) if first.is_none() => first = Some(failure),
            Err(failure) => screen.failure(&failure),
        }
    }
    first.map_or(Ok(Outcome::Done), Err)
}

/// `task 12 failed (oom): …`
fn line(style: super::output::Style, task: &Task) -> String {
    let reason = task.reason.as_deref().map(|r| format!(" ({})", clean(r))).unwrap_or_default();
    let detail = if task.detail.is_empty() { String::new() } else { format!(": {}", super::quantity::line(&task.detail, 400)) };
    format!("task {} {}{reason}{detail}\n", task.id, style.state(&clean(&task.state)))
}

/// Whether nothing will happen to the task any more by itself.
fn ended(task: &Task) -> bool {
    matches!(task.state.as_str(), "succeeded" | "failed" | "cancelled")
}

/// A task for tests, in the middle of things.
#[cfg(test)]
fn example() -> Task {
    Task {
        id: 12,
        kind: "bugfix".into(),
        title: "Fix the parser".into(),
        state: "failed".into(),
        reason: Some("oom".into()),
        detail: "killed at its limit of 4G".into(),
        instance: None,
        placed_on: Some("feature-x".into()),
        attempts: 2,
        created: "2026-11-21T09:00:00Z".into(),
        not_before: None,
        finished: Some("2026-11-21T09:30:00Z".into()),
        cost_usd: 0.0121,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_in_one_line() {
        assert_eq!(line(super::super::output::Style::default(), &example()), "task 12 failed (oom): killed at its limit of 4G\n");
        assert!(ended(&example()) && !ended(&Task { state: "pending".into(), ..example() }));
    }
}
