//! What a boss and its team are told.

use super::{Crew, How, Item, Order, Part, Plan, PlanId, schema};
use crate::core::ids::TaskId;
use crate::core::task::{Target, Task, TaskSpec, TaskState, TaskType};
use crate::core::terms::{AfterFailed, Demand, Terms};
use std::fmt::Write;
use std::sync::Arc;

/// Most bytes of a task's last words that the boss gets back.
pub(super) const WORDS_MAX: usize = 4 << 10;

/// The task that makes the plan.
pub(super) fn plan(id: PlanId, order: &Order, crew: &Crew) -> TaskSpec {
    let spec = boss(id, order, format!("Plan {id}: {}", line(&order.goal)), instructions(order, crew));
    TaskSpec { kind: kind("plan"), schema: Some(schema(crew, order)), ..spec }
}

/// The task that makes it anew.
pub(super) fn revision(id: PlanId, order: &Order, crew: &Crew, problems: &[String]) -> TaskSpec {
    let problems: String = problems.iter().map(|problem| format!("- {problem}\n")).collect();
    let told = format!(
        "The plan that you have made cannot be used:\n{problems}\nMake the whole plan anew, without these problems. You were told:\n\n{}",
        instructions(order, crew)
    );
    let spec = boss(id, order, format!("Plan {id}, anew: {}", line(&order.goal)), told);
    TaskSpec { kind: kind("plan"), schema: Some(schema(crew, order)), ..spec }
}

/// The task that gets what came of the others.
pub(super) fn follow_up(plan: &Plan) -> TaskSpec {
    let mut told = format!(
        "The tasks of your plan ({}) have ended. Look at what has been done, bring it together where it is on several branches, and do what is left to reach \
         the goal. Say at the end what has been reached and what has not.\n\nThe goal:\n{}\n\nThe tasks:\n",
        plan.id, plan.order.goal
    );
    for (id, task) in plan.tasks.iter().filter(|(_, task)| task.part == Part::Item) {
        let title = plan.items.iter().find(|item| item.id == task.item).map_or("", |item| item.title.as_str());
        let who = task.instance.as_ref().map(|name| format!(", by {name}")).unwrap_or_default();
        let branch = task.branch.as_ref().map(|branch| format!(", on the branch {branch}")).unwrap_or_default();
        let _infallible = write!(told, "\n## {} (task {id}): {title}\n{}{who}{branch}\n", task.item, task.how.unwrap_or(How::Gone));
        if !task.text.trim().is_empty() {
            let _infallible = writeln!(told, "{}", task.text.trim());
        }
    }
    TaskSpec { kind: kind("plan"), ..boss(plan.id, &plan.order, format!("Results of plan {}: {}", plan.id, line(&plan.order.goal)), told) }
}

/// A task of the plan.
pub(super) fn item(id: PlanId, order: &Order, crew: &Crew, item: &Item, all: &[Item]) -> TaskSpec {
    let mut told = format!("{}\n\nThis is the task {:?} of a plan of {} for this goal:\n{}\n", item.description, item.id, order.boss, order.goal);
    if !item.files.is_empty() {
        let _infallible = write!(told, "\nThe files that it is to touch: {}\n", item.files.join(", "));
    }
    let others: String = all.iter().filter(|other| other.id != item.id).map(|other| format!("- {}: {}\n", other.id, other.title)).collect();
    if !others.is_empty() {
        let after = if item.after.is_empty() { String::new() } else { format!(" Yours comes after {}.", item.after.join(", ")) };
        let _infallible = write!(told, "\nThe other tasks of the plan, which others do:\n{others}Do yours alone.{after}\n");
    }
    told.push_str("\nWhat you say last goes to who has made the plan: say what you have done, and what has to be known of it.\n");
    let terms = terms(id, order, crew.demand(order, item));
    TaskSpec { target: Target::Any, kind: item.kind.clone(), title: item.title.clone(), prompt: told, ..spec(order, terms) }
}

fn instructions(order: &Order, crew: &Crew) -> String {
    let mut told = format!(
        "You lead the team {}. Split the goal below into tasks for the others of your team, and answer with that plan alone.\n\nThe goal:\n{}\n\nThe team, beside you:\n",
        order.team, order.goal
    );
    for (role, count) in crew.roles() {
        let specialties: Vec<&str> = crew.specialties(Some(role)).into_iter().map(crate::core::label::Label::as_str).collect();
        let good_at = if specialties.is_empty() { String::new() } else { format!(", specialties: {}", specialties.join(", ")) };
        let _infallible = writeln!(told, "- {role}: {count}{good_at}");
    }
    let _infallible = write!(
        told,
        "\nThe rules:\n\
         - You may look at everything, and change nothing: the others do the work.\n\
         - At most {} tasks, and as few as make sense.\n\
         - Whoever gets a task sees its description and the goal, and nothing else of what you know: say in it exactly what is to be achieved, where, and how one sees that it is.\n\
         - What has no order is done at the same time. Name in `after` the ids of the tasks that have to end first, and in `files` what each will touch; tasks at the same time touch different files.\n\
         - `role` or `specialty` says who gets a task; leave both out if any may.\n\
         - When all have ended you get what came of them in this conversation.\n",
        order.most
    );
    told
}

fn boss(id: PlanId, order: &Order, title: String, prompt: String) -> TaskSpec {
    let spec = spec(order, terms(id, order, Demand::default()));
    TaskSpec { target: Target::Instance(order.boss.clone()), title, prompt, ..spec }
}

fn spec(order: &Order, terms: Terms) -> TaskSpec {
    TaskSpec {
        target: Target::Any,
        kind: TaskType::default(),
        title: String::new(),
        prompt: String::new(),
        timeout: None,
        budget: order.budget,
        max_turns: None,
        schema: None,
        terms: Arc::new(terms),
    }
}

fn terms(id: PlanId, order: &Order, demand: Demand) -> Terms {
    Terms { priority: order.priority, group: id.group(), demand, after_failed: AfterFailed::Fail, ..Terms::default() }
}

fn kind(name: &str) -> TaskType {
    name.parse().unwrap_or_default()
}

/// The beginning of the first line, for titles.
fn line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(40).collect()
}

/// How a task stands that is not to be waited for any more; `None` while it is.
pub(super) fn how(task: &Task) -> Option<How> {
    match &task.state {
        TaskState::Succeeded => Some(How::Succeeded),
        TaskState::Failed(reason) => Some(How::Failed(*reason)),
        TaskState::Cancelled => Some(How::Cancelled),
        _ => None,
    }
}

/// The beginning of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    let kept = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    if kept.len() < text.len() { format!("{kept} …") } else { kept.to_owned() }
}

/// Of a task, as it is told in a sentence.
pub(super) fn named(id: TaskId, how: How) -> String {
    match how {
        How::Succeeded => format!("task {id} has succeeded"),
        How::Failed(reason) => format!("task {id} has failed ({reason})"),
        How::Cancelled => format!("task {id} was cancelled"),
        How::Gone => format!("task {id} is gone"),
    }
}
