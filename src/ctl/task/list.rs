//! `claudectl task list`.

use super::args::List;
use crate::ctl::client::{Client, decode};
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::output::{Screen, Style};
use crate::ctl::quantity::{age, clean, dollars, line};
use crate::proto::api::Task;
use jiff::Timestamp;

/// Tasks asked for at once.
const PAGE: u32 = 100;

/// `claudectl task list`
pub(super) async fn run(client: &Client, screen: &Screen, args: &List) -> Result<Outcome, Failure> {
    let mut filter = String::new();
    if let Some(state) = &args.state {
        filter.push_str(&format!("&state={state}"));
    }
    if let Some(instance) = &args.instance {
        filter.push_str(&format!("&instance={instance}"));
    }
    if let Some(group) = &args.group {
        filter.push_str(&format!("&group={group}"));
    }
    let wanted = if args.all { u32::MAX } else { args.limit };
    let mut bodies = Vec::new();
    let mut tasks: Vec<Task> = Vec::new();
    loop {
        let left = wanted - u32::try_from(tasks.len()).unwrap_or(wanted).min(wanted);
        let ask = left.min(PAGE);
        if ask == 0 {
            break;
        }
        let before = tasks.last().map(|t| format!("&before={}", t.id)).unwrap_or_default();
        let body = client.get(&format!("/api/v1/tasks?limit={ask}{filter}{before}")).await?;
        let page: Vec<Task> = decode(&body)?;
        let full = page.len() >= ask as usize;
        tasks.extend(page);
        bodies.push(body);
        if !full {
            break;
        }
    }
    if !screen.data() {
        screen.print(&table(screen.style(), &tasks, Timestamp::now()))?;
    } else if let [only] = bodies.as_slice() {
        screen.body(only)?;
    } else {
        let pages: Result<Vec<Vec<serde_json::Value>>, Failure> = bodies.iter().map(|body| decode(body)).collect();
        screen.value(&pages?.concat())?;
    }
    Ok(Outcome::Done)
}

fn table(style: Style, tasks: &[Task], now: Timestamp) -> String {
    if tasks.is_empty() {
        return "No such tasks. Add one with: claudectl task add 'what is to be done'\n".to_owned();
    }
    let rows = tasks.iter().map(|task| row(style, task, now)).collect();
    style.table(&["ID", "STATE", "TYPE", "INSTANCE", "TRIES", "ADDED", "COST", "TITLE"], rows)
}

fn row(style: Style, task: &Task, now: Timestamp) -> Vec<String> {
    let more = match (&task.reason, &task.not_before) {
        (Some(reason), _) => format!(" ({})", clean(reason)),
        (None, Some(time)) if task.state == "pending" => format!(" ({})", age(time, now)),
        _ => String::new(),
    };
    let instance = task.placed_on.as_deref().or(task.instance.as_deref()).unwrap_or("any");
    vec![
        task.id.to_string(),
        format!("{}{more}", style.state(&clean(&task.state))),
        clean(&task.kind),
        clean(instance),
        task.attempts.to_string(),
        age(&task.created, now),
        dollars(task.cost_usd),
        line(&task.title, 60),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let now = "2026-11-21T10:00:00Z".parse().expect("time");
        let waiting =
            Task { id: 13, state: "pending".into(), reason: None, placed_on: None, not_before: Some("2026-11-21T10:05:00Z".into()), ..super::super::example() };
        assert_eq!(
            table(Style::default(), &[waiting, super::super::example()], now),
            "ID  STATE            TYPE    INSTANCE   TRIES  ADDED   COST     TITLE\n\
             13  pending (in 5m)  bugfix  any        2      1h ago  $0.0121  Fix the parser\n\
             12  failed (oom)     bugfix  feature-x  2      1h ago  $0.0121  Fix the parser\n"
        );
    }
}
