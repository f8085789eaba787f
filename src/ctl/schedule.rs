//! `claudectl schedule …`: tasks that come again by the clock.

use super::args::{ScheduleAdd, ScheduleCommand};
use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::Screen;
use super::quantity::{age, clean, line};
use crate::core::label::Label;
use crate::proto::api;
use hyper::Method;
use jiff::Timestamp;

/// `claudectl schedule …`
pub(super) async fn run(client: &Client, screen: &Screen, command: ScheduleCommand) -> Result<Outcome, Failure> {
    match command {
        ScheduleCommand::Add(args) => add(client, screen, *args).await,
        ScheduleCommand::List => list(client, screen).await,
        ScheduleCommand::Remove { name } => act(client, screen, Method::DELETE, &name, "", "removed; the tasks that it has added stay").await,
        ScheduleCommand::Run { name } => act(client, screen, Method::POST, &name, "/run", "has added its task").await,
    }
}

async fn add(client: &Client, screen: &Screen, args: ScheduleAdd) -> Result<Outcome, Failure> {
    let ScheduleAdd { name, cron, timezone, task } = args;
    if task.wait {
        return Err(Failure::Usage("--wait means nothing for a schedule".to_owned()));
    }
    let new = api::NewSchedule { name: name.to_string(), cron, timezone, task: super::task::new_task(task, screen)? };
    let body = client.send(Method::POST, "/api/v1/schedules", &new).await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let schedule: api::Schedule = decode(&body)?;
    let next = schedule.next_run.as_deref().map(|at| format!("; it runs next at {} ({})", clean(at), age(at, Timestamp::now()))).unwrap_or_default();
    screen.print(&format!("schedule {name} added{next}\n"))?;
    Ok(Outcome::Done)
}

async fn list(client: &Client, screen: &Screen) -> Result<Outcome, Failure> {
    let body = client.get("/api/v1/schedules").await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let schedules: Vec<api::Schedule> = decode(&body)?;
    if schedules.is_empty() {
        screen.print("No schedules. Add one with: claudectl schedule add NAME --cron '0 6 * * MON-FRI' 'what is to be done'\n")?;
        return Ok(Outcome::Done);
    }
    let now = Timestamp::now();
    let when = |time: Option<&String>| time.map_or_else(|| "-".to_owned(), |time| age(time, now));
    let rows = schedules.iter().map(|one| {
        let zone = if one.timezone.is_empty() { "local".to_owned() } else { clean(&one.timezone) };
        let last = one.last_task.map_or_else(|| "-".to_owned(), |id| id.to_string());
        vec![clean(&one.name), clean(&one.cron), zone, when(one.next_run.as_ref()), when(one.last_run.as_ref()), last, line(&one.title, 60)]
    });
    screen.print(&screen.style().table(&["NAME", "CRON", "ZONE", "NEXT", "LAST", "TASK", "TITLE"], rows.collect()))?;
    Ok(Outcome::Done)
}

async fn act(client: &Client, screen: &Screen, method: Method, name: &Label, verb: &str, done: &str) -> Result<Outcome, Failure> {
    let body = client.whole(method, &format!("/api/v1/schedules/{name}{verb}"), None).await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let outcome: api::Outcome = decode(&body)?;
    let text = if outcome.message.is_empty() { done.to_owned() } else { format!("adds nothing: {}", clean(&outcome.message)) };
    screen.print(&format!("schedule {name} {text}\n"))?;
    Ok(Outcome::Done)
}
