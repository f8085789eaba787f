//! `claudectl plan …`: goals that a boss splits into tasks for its team.

pub(super) mod args;

use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style};
use super::quantity::{age, clean, line};
use crate::core::plan::GOAL_MAX;
use crate::proto::api::{self, NewPlan, Plan, RejectPlan};
use args::{Id, PlanCommand};
use hyper::Method;
use hyper::body::Bytes;
use jiff::Timestamp;
use std::io::Read;

/// `claudectl plan …`
pub(super) async fn run(client: &Client, screen: &Screen, args: args::Plan) -> Result<Outcome, Failure> {
    match args.command {
        None => add(client, screen, args.new).await,
        Some(PlanCommand::List { all }) => list(client, screen, all).await,
        Some(PlanCommand::Show(Id { id })) => {
            let body = client.get(&format!("/api/v1/plans/{id}")).await?;
            show(screen, &body, |plan| detail(screen.style(), plan, Timestamp::now()))
        }
        Some(PlanCommand::Approve(Id { id })) => {
            let body = client.whole(Method::POST, &format!("/api/v1/plans/{id}/approve"), None).await?;
            show(screen, &body, |plan| format!("plan {id} is {}: {} tasks, in the group plan-{id}\n", clean(&plan.state), plan.tasks.len()))
        }
        Some(PlanCommand::Reject { id: Id { id }, reason }) => {
            let body = client.send(Method::POST, &format!("/api/v1/plans/{id}/reject"), &RejectPlan { why: reason }).await?;
            show(screen, &body, |_| format!("plan {id} is rejected; nothing of it was done\n"))
        }
        Some(PlanCommand::Cancel(Id { id })) => {
            let body = client.whole(Method::POST, &format!("/api/v1/plans/{id}/cancel"), None).await?;
            show(screen, &body, |_| format!("plan {id} is cancelled, with its tasks\n"))
        }
        Some(PlanCommand::Export(Id { id })) => {
            let body = client.get(&format!("/api/v1/plans/{id}/export")).await?;
            if screen.data() {
                screen.body(&body)?;
            } else {
                screen.print(&super::task::import::yaml(&decode::<api::Import>(&body)?)?)?;
            }
            Ok(Outcome::Done)
        }
    }
}

async fn add(client: &Client, screen: &Screen, new: args::NewPlan) -> Result<Outcome, Failure> {
    let args::NewPlan { goal, team, boss, review, max_tasks, repository, task_budget_usd, priority } = new;
    let (goal, team) = (goal.unwrap_or_default(), team.map(String::from).unwrap_or_default());
    let new = NewPlan {
        goal: if goal == "-" { from_stdin()? } else { goal },
        team,
        boss: boss.map(String::from),
        review,
        max_tasks,
        repository: repository.map(String::from),
        task_budget_usd,
        priority: priority.map(i64::from),
    };
    let body = client.send(Method::POST, "/api/v1/plans", &new).await?;
    show(screen, &body, |plan| format!("{}\n", plan.id))
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(GOAL_MAX as u64 + 1).read_to_string(&mut text);
    read.map_err(|e| Failure::Failed(format!("cannot read the goal from standard input: {e}")))?;
    Ok(text)
}

fn show(screen: &Screen, body: &Bytes, text: impl FnOnce(&Plan) -> String) -> Result<Outcome, Failure> {
    if screen.data() {
        screen.body(body)?;
    } else {
        screen.print(&text(&decode(body)?))?;
    }
    Ok(Outcome::Done)
}

async fn list(client: &Client, screen: &Screen, all: bool) -> Result<Outcome, Failure> {
    let body = client.get(&format!("/api/v1/plans?all={all}")).await?;
    if screen.data() {
        screen.body(&body)?;
        return Ok(Outcome::Done);
    }
    let plans: Vec<Plan> = decode(&body)?;
    if plans.is_empty() {
        screen.print("No plans. Have one made with: claudectl plan 'what is to be reached' --team NAME\n")?;
        return Ok(Outcome::Done);
    }
    let now = Timestamp::now();
    let rows = plans.iter().map(|plan| {
        let ended = plan.tasks.iter().filter(|task| task.state.as_deref() == Some("succeeded")).count();
        let tasks = if plan.tasks.is_empty() { "-".to_owned() } else { format!("{ended}/{}", plan.tasks.len()) };
        vec![plan.id.to_string(), clean(&plan.state), clean(&plan.team), tasks, age(&plan.created, now), line(&plan.goal, 60)]
    });
    screen.print(&screen.style().table(&["ID", "STATE", "TEAM", "DONE", "ADDED", "GOAL"], rows.collect()))?;
    Ok(Outcome::Done)
}

fn detail(style: Style, plan: &Plan, now: Timestamp) -> String {
    let boss = plan.boss_tasks.iter().map(|task| format!("{} {} ({})", clean(&task.part), task.task, clean(&task.state)));
    let fields = style.fields(&[
        ("Plan", plan.id.to_string()),
        ("State", clean(&plan.state)),
        ("Detail", clean(&plan.detail)),
        ("Team", format!("{}, led by {}", clean(&plan.team), clean(&plan.boss))),
        ("Added", format!("{} by {}", age(&plan.created, now), clean(&plan.by))),
        ("Boss's tasks", boss.collect::<Vec<_>>().join(", ")),
        ("Goal", line(&plan.goal, 200)),
    ]);
    if plan.tasks.is_empty() {
        return fields;
    }
    let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| clean(text));
    let rows = plan.tasks.iter().map(|task| {
        let state = match (&task.state, &task.reason) {
            (Some(state), Some(reason)) => format!("{} ({})", clean(state), clean(reason)),
            (state, _) => or_dash(state.as_ref()),
        };
        let who = task.instance.as_ref().or(task.role.as_ref()).or(task.specialty.as_ref());
        let number = task.task.map_or_else(|| "-".to_owned(), |id| id.to_string());
        vec![clean(&task.id), number, state, or_dash(who), line(&task.after.join(", "), 30), line(&task.files.join(", "), 40), line(&task.title, 60)]
    });
    let table = style.table(&["IN THE PLAN", "TASK", "STATE", "WHO", "AFTER", "FILES", "TITLE"], rows.collect());
    let text = |task: &api::PlanTask| {
        format!("\n{}: {}\n{}\n", clean(&task.id), clean(&task.title), task.description.lines().map(clean).collect::<Vec<_>>().join("\n"))
    };
    // What is to be approved is to be read.
    let texts: String = if plan.state == "waiting" { plan.tasks.iter().map(text).collect() } else { String::new() };
    format!("{fields}\n{table}{texts}")
}
