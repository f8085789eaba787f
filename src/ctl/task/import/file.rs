//! The file of an import or export: `queue:` and below it a list of tasks, each with the keys `id`, `type`, `description`,
//! `assigned_to`, `status`, `branch`, and our own beside them.

use crate::proto::api::{ImportTask, NewTask};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;
use std::fmt;

/// Every key of a task; the first six are what the field writes.
const KEYS: [&str; 22] = [
    "id",
    "type",
    "description",
    "assigned_to",
    "status",
    "branch",
    "title",
    "priority",
    "group",
    "team",
    "role",
    "specialty",
    "labels",
    "repository",
    "after",
    "after_failed",
    "not_before",
    "timeout_seconds",
    "budget_usd",
    "max_turns",
    "schema",
    "files",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    queue: Vec<Spanned<Item>>,
}

/// One task as it stands in the file, and what is wrong with it.
#[derive(Default)]
struct Item {
    task: ImportTask,
    problems: Vec<String>,
}

/// One text, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(Option<String>),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task: keys and values such as `description: fix the parser`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut item = Item::default();
        let mut described = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "labels" | "after" | "files" => {
                    let texts = match map.next_value::<Texts>()? {
                        Texts::One(None) => Vec::new(),
                        // A comma stands in globs too.
                        Texts::One(Some(text)) if key == "files" => vec![text],
                        Texts::One(Some(text)) => text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect(),
                        Texts::Several(texts) => texts,
                    };
                    match key.as_str() {
                        "labels" => item.task.task.labels = texts,
                        "files" => item.task.task.files = texts,
                        _ => item.task.after = texts,
                    }
                }
                "schema" => item.task.task.schema = map.next_value()?,
                known if KEYS.contains(&known) => {
                    if let Some(text) = map.next_value::<Option<String>>()? {
                        described |= known == "description";
                        item.take(known, text);
                    }
                }
                other => {
                    map.next_value::<IgnoredAny>()?;
                    item.problems.push(format!("{other:?} is no key of a task; there are {}", KEYS.join(", ")));
                }
            }
        }
        if !described {
            item.problems.push("description is missing; say what is to be done".to_owned());
        }
        Ok(item)
    }
}

impl Item {
    fn take(&mut self, key: &str, text: String) {
        let task = &mut self.task.task;
        let problems = &mut self.problems;
        match key {
            "id" => self.task.id = Some(text),
            "status" => self.task.status = Some(text),
            "type" => task.kind = Some(text),
            "description" => task.prompt = text,
            "assigned_to" => task.instance = Some(text).filter(|name| !matches!(name.as_str(), "" | "any" | "anyone" | "unassigned")),
            "branch" => task.branch = Some(text),
            "title" => task.title = Some(text),
            "group" => task.group = Some(text),
            "team" => task.team = Some(text),
            "role" => task.role = Some(text),
            "specialty" => task.specialty = Some(text),
            "repository" => task.repository = Some(text),
            "after_failed" => task.after_failed = Some(text),
            "not_before" => task.not_before = Some(text),
            "priority" => task.priority = number(key, &text, problems),
            "timeout_seconds" => task.timeout_seconds = number(key, &text, problems),
            "budget_usd" => task.budget_usd = number(key, &text, problems),
            "max_turns" => task.max_turns = number(key, &text, problems),
            _ => {}
        }
    }
}

fn number<T: std::str::FromStr>(key: &str, text: &str, problems: &mut Vec<String>) -> Option<T> {
    let number = text.trim().parse().ok();
    if number.is_none() {
        problems.push(format!("{key}: {text:?} is not such a number"));
    }
    number
}

/// The tasks of a file, each with its line; or every problem.
pub(super) fn parse(text: &str) -> Result<Vec<ImportTask>, Vec<String>> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|at| format!("line {}: ", at.line())).unwrap_or_default();
        let words = error.without_snippet().to_string();
        vec![format!("{line}{words}")]
    })?;
    let (mut tasks, mut problems) = (Vec::new(), Vec::new());
    for Spanned { value: item, referenced, .. } in file.queue {
        let line = referenced.line();
        problems.extend(item.problems.iter().map(|problem| format!("line {line}: {problem}")));
        tasks.push(ImportTask { line: Some(line), ..item.task });
    }
    if problems.is_empty() { Ok(tasks) } else { Err(problems) }
}

/// A task in the order in which people read it.
#[derive(Serialize)]
struct Written<'t> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: &'t Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: &'t Option<String>,
    description: &'t str,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_to: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    specialty: &'t Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    labels: &'t [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: &'t Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    after: &'t [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    after_failed: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: &'t Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_turns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: &'t Option<serde_json::Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    files: &'t [String],
}

#[derive(Serialize)]
struct WrittenFile<'t> {
    queue: Vec<Written<'t>>,
}

/// The file with these tasks.
pub(super) fn write(tasks: &[ImportTask]) -> Result<String, String> {
    let queue = tasks.iter().map(|one| {
        let NewTask { instance, kind, title, prompt, timeout_seconds, budget_usd, max_turns, priority, group, team, role, .. } = &one.task;
        Written {
            id: &one.id,
            kind,
            title,
            description: prompt,
            assigned_to: instance,
            status: &one.status,
            branch: &one.task.branch,
            priority: *priority,
            group,
            team,
            role,
            specialty: &one.task.specialty,
            labels: &one.task.labels,
            repository: &one.task.repository,
            after: &one.after,
            after_failed: &one.task.after_failed,
            not_before: &one.task.not_before,
            timeout_seconds: *timeout_seconds,
            budget_usd: *budget_usd,
            max_turns: *max_turns,
            schema: &one.task.schema,
            files: &one.task.files,
        }
    });
    serde_saphyr::to_string(&WrittenFile { queue: queue.collect() }).map_err(|error| format!("cannot write the tasks as YAML: {error}"))
}

#[cfg(test)]
mod tests;
