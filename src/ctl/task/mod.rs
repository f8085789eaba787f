//! `claudectl task …`: one file per verb that is more than a request.

pub(super) mod args;
mod claims;
pub(super) mod import;
mod list;
mod log;
mod show;
mod transcript;
mod wait;

use super::client::{Client, decode};
use super::failure::{Failure, Outcome, read_or_not};
use super::output::Screen;
use super::quantity::clean;
use crate::core::label::Label;
use crate::core::task::{InvalidTask, PROMPT_MAX};
use crate::proto::api::{NewTask, Task};
use args::{Add, IdsOrGroup, TaskCommand};
use hyper::Method;
use std::io::{IsTerminal, Read};
use std::path::Path;

/// Standard input beyond this is not even read to be counted, in bytes.
const STDIN_MAX: u64 = 64 << 20;

/// `claudectl task …`
pub(super) async fn run(client: &Client, screen: &Screen, command: TaskCommand) -> Result<Outcome, Failure> {
    match command {
        TaskCommand::Add(args) => add(client, screen, *args).await,
        TaskCommand::List(args) => list::run(client, screen, &args).await,
        TaskCommand::Show { id } => show::run(client, screen, id).await,
        TaskCommand::Log(args) => log::run(client, screen, &args).await,
        TaskCommand::Cancel(IdsOrGroup { group: Some(group), .. }) => cancel_group(client, screen, &group).await,
        TaskCommand::Cancel(ids) => act(client, screen, "cancel", &ids.ids).await,
        TaskCommand::Retry(ids) => act(client, screen, "retry", &ids.ids).await,
        TaskCommand::Wait(args) => {
            let ids = match &args.group {
                Some(group) => open_of(client, group).await?,
                None => args.ids,
            };
            wait::run(client, screen, &ids, args.timeout).await
        }
        TaskCommand::Claim(args) => claims::claim(client, screen, &args).await,
        TaskCommand::Complete(args) => claims::complete(client, screen, &args).await,
        TaskCommand::Release(ids) => act(client, screen, "release", &ids.ids).await,
        TaskCommand::Import(args) => import::import(client, screen, &args).await,
        TaskCommand::Export(args) => import::export(client, screen, &args).await,
    }
}

async fn add(client: &Client, screen: &Screen, args: Add) -> Result<Outcome, Failure> {
    let wait = args.wait;
    let new = new_task(args, screen)?;
    let body = client.send(Method::POST, "/api/v1/tasks", &new).await?;
    let task: Task = decode(&body)?;
    let printed = if screen.data() { screen.body(&body) } else { screen.print(&format!("{}\n", task.id)) };
    read_or_not(printed)?;
    if wait { wait::run(client, screen, &[task.id], None).await } else { Ok(Outcome::Done) }
}

/// The request for a new task.
pub(super) fn new_task(args: Add, screen: &Screen) -> Result<NewTask, Failure> {
    let prompt = if args.prompt == "-" { prompt_from_stdin(screen)? } else { args.prompt };
    let invalid = |e: InvalidTask| Failure::Usage(e.to_string());
    if prompt.trim().is_empty() {
        return Err(invalid(InvalidTask::EmptyPrompt));
    }
    if prompt.len() > PROMPT_MAX {
        return Err(invalid(InvalidTask::LongPrompt(prompt.len())));
    }
    Ok(NewTask {
        instance: args.instance.map(String::from),
        kind: args.kind.map(String::from),
        title: args.title,
        prompt,
        // A part of a second is rounded up: a limit of nothing would be none.
        timeout_seconds: args.timeout.map(|t| t.as_secs() + u64::from(t.subsec_nanos() > 0)),
        budget_usd: args.budget_usd,
        max_turns: args.max_turns,
        schema: args.schema.as_deref().map(schema).transpose()?,
        priority: args.priority.map(i64::from),
        group: args.group.map(String::from),
        team: args.team.map(String::from),
        role: args.role.map(String::from),
        specialty: args.specialty.map(String::from),
        labels: args.label.into_iter().map(String::from).collect(),
        repository: args.repository.map(String::from),
        branch: args.branch,
        files: args.file,
        after: args.after,
        after_failed: args.after_failed,
        not_before: args.not_before.map(|when| when.text(jiff::Timestamp::now())),
    })
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
            Ok(body) if screen.data() => screen.body(&body),
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

/// Ends a whole group at once.
async fn cancel_group(client: &Client, screen: &Screen, group: &Label) -> Result<Outcome, Failure> {
    let body = client.whole(Method::POST, &format!("/api/v1/groups/{group}/cancel"), None).await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let tasks: Vec<Task> = decode(&body)?;
    if tasks.is_empty() {
        screen.print(&format!("No task of the group {group} is left to end.\n"))?;
    }
    let lines: String = tasks.iter().map(|task| line(screen.style(), task)).collect();
    screen.print(&screen.style().finish(lines))?;
    Ok(Outcome::Done)
}

/// The tasks of a group that have not ended.
async fn open_of(client: &Client, group: &Label) -> Result<Vec<i64>, Failure> {
    const PAGE: usize = 1000;
    let mut ids: Vec<i64> = Vec::new();
    let mut before = String::new();
    loop {
        let page: Vec<Task> = client.read(&format!("/api/v1/tasks?limit={PAGE}&group={group}{before}")).await?;
        ids.extend(page.iter().filter(|task| !ended(task)).map(|task| task.id));
        match page.last() {
            Some(last) if page.len() == PAGE => before = format!("&before={}", last.id),
            _ => return Ok(ids),
        }
    }
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
        priority: 0,
        group: None,
        waits_for: None,
        claimed_by: None,
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
