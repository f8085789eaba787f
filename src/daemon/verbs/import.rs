//! Many tasks at once: every problem of all of them, and how they come after each other.

use super::spec::{self, Known};
use crate::core::order::order;
use crate::core::task::TaskSpec;
use crate::core::terms::AfterFailed;
use crate::proto::api;
use std::collections::BTreeMap;

/// Most tasks of one import.
const TASKS_MAX: usize = 100_000;
/// Problems that are told at once; what follows is mostly their echo.
const PROBLEMS_MAX: usize = 100;

/// What an import adds.
#[derive(Debug)]
pub(super) struct Checked {
    /// The tasks, each with the places of those that it comes after.
    pub(super) specs: Vec<(TaskSpec, Vec<usize>)>,
    /// The ids that they have in the file.
    pub(super) ids: Vec<Option<String>>,
}

/// What a file's status says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// It is to be done.
    Open,
    /// It is done; what comes after it need not wait.
    Done,
    /// It will not be done.
    Failed,
}

fn status(text: Option<&str>) -> Option<Status> {
    let Some(text) = text else { return Some(Status::Open) };
    match text.trim().to_ascii_lowercase().replace(['_', ' '], "-").as_str() {
        // What was under way elsewhere is not under way here.
        "" | "pending" | "open" | "todo" | "queued" | "ready" | "blocked" | "assigned" | "claimed" | "running" | "in-progress" => Some(Status::Open),
        "succeeded" | "done" | "completed" | "complete" | "closed" => Some(Status::Done),
        "failed" | "cancelled" | "canceled" => Some(Status::Failed),
        _ => None,
    }
}

/// Checks everything. All problems at once, each with its line; with any of them nothing is added.
pub(super) fn check(import: api::Import, known: &Known) -> Result<Checked, Vec<String>> {
    let mut problems = Vec::new();
    if import.tasks.len() > TASKS_MAX {
        return Err(vec![format!("{} tasks are more than the {TASKS_MAX} that are taken at once; split the file", import.tasks.len())]);
    }
    let lines: Vec<String> = import.tasks.iter().enumerate().map(|(place, one)| at(place, one.line)).collect();
    let line = |place: usize| lines.get(place).map_or("", String::as_str);
    // Which place has an id, and how that stands.
    let mut by_id: BTreeMap<String, (usize, Status)> = BTreeMap::new();
    let mut statuses = Vec::new();
    for (place, one) in import.tasks.iter().enumerate() {
        let status = status(one.status.as_deref()).unwrap_or_else(|| {
            let known = "pending, in-progress, completed, failed or cancelled";
            problems.push(format!("{}: status: {:?} is none of {known}", line(place), one.status.as_deref().unwrap_or_default()));
            Status::Open
        });
        statuses.push(status);
        let Some(id) = &one.id else { continue };
        if let Some((first, _)) = by_id.get(id) {
            problems.push(format!("{}: id: {id:?} is also the id of the task at {}", line(place), line(*first)));
        } else {
            by_id.insert(id.clone(), (place, status));
        }
    }
    let mut found: Vec<(usize, TaskSpec, Vec<usize>, Option<String>)> = Vec::new();
    for (place, one) in import.tasks.into_iter().enumerate() {
        if statuses.get(place) != Some(&Status::Open) {
            continue;
        }
        let made = spec::spec(one.task);
        let mut after = Vec::new();
        for needed in &one.after {
            match by_id.get(needed) {
                None => problems.push(format!("{}: after: there is no task with the id {needed:?} in this file", line(place))),
                Some((other, Status::Open)) => after.push(*other),
                Some((_, Status::Done)) => {}
                Some((other, Status::Failed)) => {
                    if made.as_ref().is_ok_and(|spec| spec.terms.after_failed == AfterFailed::Fail) {
                        problems.push(format!(
                            "{}: after: {needed:?} (at {}) has failed; say after_failed: release, or leave it out",
                            line(place),
                            line(*other)
                        ));
                    }
                }
            }
        }
        match made {
            Ok(spec) => {
                if let Err(error) = spec::check_target(&spec, known) {
                    let field = if error.code == "no-such-instance" { "assigned_to: " } else { "" };
                    problems.push(format!("{}: {field}{}", line(place), error.detail));
                }
                found.push((place, spec, after, one.id));
            }
            Err(error) => problems.push(format!("{}: {}", line(place), error.detail)),
        }
    }
    let order = order(&found.iter().map(|(place, _, after, _)| (*place, after.as_slice())).collect());
    match order {
        Err(cycle) if problems.is_empty() => {
            let places: Vec<&str> = cycle.iter().map(|place| line(*place)).collect();
            problems.push(format!("{}: after: these tasks wait for each other: {}", places.first().copied().unwrap_or_default(), places.join(", ")));
        }
        _ => {}
    }
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        problems.extend((more > 0).then(|| format!("… and {more} more")));
        return Err(problems);
    }
    let places: BTreeMap<usize, usize> = found.iter().enumerate().map(|(new, (old, ..))| (*old, new)).collect();
    let (mut specs, mut ids) = (Vec::new(), Vec::new());
    for (_, spec, after, id) in found {
        specs.push((spec, after.into_iter().filter_map(|old| places.get(&old).copied()).collect()));
        ids.push(id);
    }
    Ok(Checked { specs, ids })
}

fn at(place: usize, line: Option<u64>) -> String {
    line.map_or_else(|| format!("task {}", place + 1), |line| format!("line {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::profile::AgentKind;

    fn task(id: &str, after: &[&str]) -> api::ImportTask {
        let task = api::NewTask { prompt: format!("do {id}"), ..api::NewTask::default() };
        api::ImportTask { id: Some(id.to_owned()), after: after.iter().map(ToString::to_string).collect(), task, ..api::ImportTask::default() }
    }

    fn checked(tasks: Vec<api::ImportTask>) -> Result<Checked, Vec<String>> {
        let tasks = tasks.into_iter().enumerate().map(|(place, one)| api::ImportTask { line: Some(10 * (place as u64 + 1)), ..one });
        let known = [("a", AgentKind::Claude), ("g", AgentKind::Command)].map(|(name, agent)| (name.parse().expect("a name"), Some(agent)));
        check(api::Import { tasks: tasks.collect() }, &Known::from(known))
    }

    #[test]
    fn tasks_come_after_each_other_in_whatever_order_they_stand() {
        let done = api::ImportTask { status: Some("completed".into()), ..task("done", &[]) };
        let all = checked(vec![task("late", &["early", "done"]), done, task("early", &[])]).expect("valid");
        assert_eq!(all.ids, [Some("late".to_owned()), Some("early".to_owned())]);
        assert_eq!(all.specs.iter().map(|(_, after)| after.clone()).collect::<Vec<_>>(), [vec![1], vec![]]);
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let tasks = vec![
            task("x", &["nobody"]),
            task("x", &[]),
            api::ImportTask { status: Some("maybe".into()), ..task("s", &[]) },
            api::ImportTask { task: api::NewTask { prompt: " ".into(), ..api::NewTask::default() }, ..task("empty", &[]) },
            api::ImportTask { task: api::NewTask { prompt: "p".into(), instance: Some("zz".into()), ..api::NewTask::default() }, ..task("who", &[]) },
            api::ImportTask { status: Some("failed".into()), ..task("failed", &[]) },
            task("after", &["failed"]),
            api::ImportTask {
                task: api::NewTask { prompt: "p".into(), instance: Some("g".into()), schema: Some(serde_json::json!({})), ..api::NewTask::default() },
                ..task("schema", &[])
            },
        ];
        let problems = checked(tasks).expect_err("wrong");
        let expect = [
            "line 20: id: \"x\" is also the id of the task at line 10",
            "line 30: status: \"maybe\" is none of pending, in-progress, completed, failed or cancelled",
            "line 10: after: there is no task with the id \"nobody\" in this file",
            "line 40: the prompt is empty; say what is to be done",
            "line 50: assigned_to: there is no instance zz, neither running nor configured; start it first: claudectl start zz",
            "line 70: after: \"failed\" (at line 60) has failed; say after_failed: release, or leave it out",
            "line 80: schema: the result of a task fits a JSON schema only if its agent is Claude Code; name such an instance",
        ];
        for line in expect {
            assert!(problems.iter().any(|problem| problem == line), "{line}\n{problems:#?}");
        }
        assert_eq!(problems.len(), expect.len(), "{problems:#?}");
    }

    #[test]
    fn a_circle_is_named() {
        let problems =
            checked(vec![task("free", &[]), task("a", &["b", "free"]), task("b", &["c"]), task("c", &["a"]), task("tail", &["c"])]).expect_err("wrong");
        assert_eq!(problems, ["line 20: after: these tasks wait for each other: line 20, line 30, line 40"]);
        assert!(checked(vec![task("self", &["self"])]).is_err());
    }
}
