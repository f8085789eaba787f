//! From what a caller asks for to a task that the queue takes: every field checked, and named where it is wrong.

use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::profile::AgentKind;
use crate::core::task::{InvalidTask, Target, TaskSpec, TaskType};
use crate::core::terms::{self, Demand, Priority, Terms};
use crate::core::usage::Usd;
use crate::http::service::ServiceError;
use crate::proto::api;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// An amount that may be spent, or why it is none.
pub(super) fn dollars(amount: Option<f64>) -> Result<Option<Usd>, String> {
    match amount {
        Some(dollars) if !dollars.is_finite() || dollars <= 0.0 => Err("it is a number above 0".to_owned()),
        other => Ok(other.map(Usd::from_dollars)),
    }
}

/// A task and the tasks that it comes after are the caller's to fill in where it knows them by other names than their numbers.
pub(in crate::daemon) fn spec(new: api::NewTask) -> Result<TaskSpec, ServiceError> {
    let invalid = |field: &str, why: String| super::refused(422, "invalid-task", format!("{field}: {why}"));
    let target = match new.instance.as_deref() {
        None => Target::Any,
        Some(text) => Target::Instance(text.parse::<InstanceName>().map_err(|error| super::refused(400, "invalid-name", error.to_string()))?),
    };
    let kind = new.kind.as_deref().map(TaskType::from_str).transpose().map_err(|e| invalid("type", e.to_string()))?;
    let budget = dollars(new.budget_usd).map_err(|why| invalid("budget_usd", why))?;
    if new.timeout_seconds == Some(0) {
        return Err(invalid("timeout_seconds", "it is at least 1".to_owned()));
    }
    let label = |field: &str, text: Option<&String>| text.map(|text| text.parse::<Label>()).transpose().map_err(|error| invalid(field, error.to_string()));
    let labels = new.labels.iter().map(|text| text.parse().map_err(|error: crate::core::label::InvalidLabel| invalid("labels", error.to_string())));
    let files = new.files.iter().map(|text| terms::files(text).map_err(|error| invalid("files", error.to_string())));
    let terms = Terms {
        priority: Priority::try_from(new.priority.unwrap_or(0)).map_err(|error| invalid("priority", error.to_string()))?,
        group: label("group", new.group.as_ref())?,
        demand: Demand {
            team: label("team", new.team.as_ref())?,
            role: label("role", new.role.as_ref())?,
            specialty: label("specialty", new.specialty.as_ref())?,
            labels: labels.collect::<Result<_, _>>()?,
            repository: label("repository", new.repository.as_ref())?,
        },
        branch: new.branch,
        after: new.after.into_iter().map(TaskId).collect(),
        after_failed: new
            .after_failed
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error: crate::core::terms::InvalidTerms| invalid("after_failed", error.to_string()))?
            .unwrap_or_default(),
        not_before: new
            .not_before
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|_| invalid("not_before", "it is a time such as 2026-11-21T22:00:00Z".to_owned()))?,
        files: files.collect::<Result<_, _>>()?,
    };
    let spec = TaskSpec {
        target,
        kind: kind.unwrap_or_default(),
        title: new.title.unwrap_or_default(),
        prompt: new.prompt,
        timeout: new.timeout_seconds.map(Duration::from_secs),
        budget,
        max_turns: new.max_turns,
        schema: new.schema,
        terms: Arc::new(terms.validated().map_err(|error| invalid("terms", error.to_string()))?),
    };
    spec.validated().map_err(|e| super::refused(422, "invalid-task", e.to_string()))
}

/// The instances that a task may be for, each with its agent, as far as that is known.
pub(super) type Known = BTreeMap<InstanceName, Option<AgentKind>>;

/// Refuses a task for an instance that there is not, or whose agent cannot do it.
pub(super) fn check_target(spec: &TaskSpec, known: &Known) -> Result<(), ServiceError> {
    let Target::Instance(name) = &spec.target else { return Ok(()) };
    let Some(agent) = known.get(name) else {
        let hint = format!("there is no instance {name}, neither running nor configured; start it first: claudectl start {name}");
        return Err(super::refused(404, "no-such-instance", hint));
    };
    if spec.schema.is_some() && agent.is_some_and(|agent| agent != AgentKind::Claude) {
        return Err(super::refused(422, "invalid-task", format!("schema: {}", InvalidTask::SchemaTarget)));
    }
    Ok(())
}

/// The request that makes such a task, but for what it comes after.
pub(super) fn request(spec: &TaskSpec) -> api::NewTask {
    let Terms { priority, group, demand, branch, after: _, after_failed, not_before, files } = &*spec.terms;
    let text = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
    api::NewTask {
        instance: match &spec.target {
            Target::Instance(name) => Some(name.to_string()),
            Target::Any => None,
        },
        kind: (spec.kind != TaskType::default()).then(|| spec.kind.to_string()),
        title: Some(spec.title.clone()),
        prompt: spec.prompt.clone(),
        timeout_seconds: spec.timeout.map(|timeout| timeout.as_secs()),
        budget_usd: spec.budget.map(Usd::dollars),
        max_turns: spec.max_turns,
        schema: spec.schema.clone(),
        priority: Some(i64::from(*priority)).filter(|number| *number != 0),
        group: text(group),
        team: text(&demand.team),
        role: text(&demand.role),
        specialty: text(&demand.specialty),
        labels: demand.labels.iter().map(ToString::to_string).collect(),
        repository: text(&demand.repository),
        branch: branch.clone(),
        after: Vec::new(),
        after_failed: (*after_failed != crate::core::terms::AfterFailed::default()).then(|| after_failed.name().to_owned()),
        not_before: not_before.map(|at| at.to_string()),
        files: files.iter().map(|one| one.text().to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_makes_the_same_task_again() {
        let new = api::NewTask {
            instance: Some("a-b".into()),
            kind: Some("bugfix".into()),
            title: Some("A title".into()),
            prompt: "Do it\nwell".into(),
            timeout_seconds: Some(90),
            budget_usd: Some(2.5),
            max_turns: Some(7),
            schema: Some(serde_json::json!({"type": "object"})),
            priority: Some(-3),
            group: Some("release".into()),
            team: Some("t".into()),
            role: Some("worker".into()),
            specialty: Some("frontend".into()),
            labels: vec!["a".into(), "b".into()],
            repository: Some("shop".into()),
            branch: Some("feat/x".into()),
            after: Vec::new(),
            after_failed: Some("release".into()),
            not_before: Some("2026-11-21T22:00:00Z".into()),
            files: vec!["src/a.rs".into(), "docs/".into(), "src/**/*.rs".into()],
        };
        assert_eq!(request(&spec(new.clone()).expect("valid")), new);
        let plain = api::NewTask { prompt: "x".into(), title: Some("x".into()), ..api::NewTask::default() };
        assert_eq!(request(&spec(plain.clone()).expect("valid")), plain);
    }

    #[test]
    fn each_wrong_field_is_named() {
        let base = || api::NewTask { prompt: "x".into(), ..api::NewTask::default() };
        let wrong = [
            ("priority", api::NewTask { priority: Some(11), ..base() }),
            ("group", api::NewTask { group: Some("a b".into()), ..base() }),
            ("team", api::NewTask { team: Some(String::new()), ..base() }),
            ("specialty", api::NewTask { specialty: Some("-x".into()), ..base() }),
            ("labels", api::NewTask { labels: vec!["ok".into(), "not ok".into()], ..base() }),
            ("terms", api::NewTask { branch: Some("--upload-pack=x".into()), ..base() }),
            ("after_failed", api::NewTask { after_failed: Some("maybe".into()), ..base() }),
            ("not_before", api::NewTask { not_before: Some("tomorrow".into()), ..base() }),
            ("files", api::NewTask { files: vec!["ok".into(), "../out".into()], ..base() }),
            ("terms", api::NewTask { files: vec!["x".into(); 21], ..base() }),
            ("budget_usd", api::NewTask { budget_usd: Some(f64::NAN), ..base() }),
            ("timeout_seconds", api::NewTask { timeout_seconds: Some(0), ..base() }),
        ];
        for (field, new) in wrong {
            let error = spec(new).expect_err(field);
            assert!(error.status == 422 && error.detail.starts_with(&format!("{field}: ")), "{field}: {error:?}");
        }
    }
}
