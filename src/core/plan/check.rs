//! What a boss returns is foreign input: checked here as a whole, with every problem in words that it can do something about.

use super::{Item, Order};
use crate::core::label::Label;
use crate::core::lock::Pattern;
use crate::core::pool::{Member, Rules};
use crate::core::task::{TITLE_MAX, TaskType};
use crate::core::terms::Demand;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Most tasks of a plan.
pub const TASKS_MAX: u32 = 100;
/// Longest name of a task within its plan.
const ID_MAX: usize = 64;
/// Longest description.
const DESCRIPTION_MAX: usize = 32 << 10;
/// Most files or globs of a task.
const FILES_MAX: usize = 64;
/// Problems that are told at once; what follows is mostly their echo.
const PROBLEMS_MAX: usize = 20;

/// Who gets a task that names neither a role nor a specialty, if there is such a role.
const WORKER: &str = "worker";

/// Who there is to do it: the members of the team but for its boss.
#[derive(Clone, Debug, Default)]
pub struct Crew(Vec<Member>);

impl Crew {
    /// Those who can do what a plan asks for.
    pub fn of(rules: &Rules, order: &Order) -> Self {
        let all = Demand { team: Some(order.team.clone()), repository: order.repository.clone(), ..Demand::default() };
        let others = rules.members.iter().filter(|(name, member)| **name != order.boss && member.serves(&all));
        Self(others.map(|(_, member)| member.clone()).collect())
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their roles, with how many have each.
    pub(super) fn roles(&self) -> BTreeMap<&Label, usize> {
        self.0.iter().filter_map(|member| member.role.as_ref()).fold(BTreeMap::new(), |mut counts, role| {
            *counts.entry(role).or_default() += 1;
            counts
        })
    }

    /// What they are good at; those in a role alone if one is given.
    pub(super) fn specialties(&self, role: Option<&Label>) -> BTreeSet<&Label> {
        self.0.iter().filter(|member| role.is_none() || member.role.as_ref() == role).flat_map(|member| &member.specialties).collect()
    }

    /// What an instance must bring to get a task.
    pub(super) fn demand(&self, order: &Order, item: &Item) -> Demand {
        let unsaid = item.role.is_none() && item.specialty.is_none();
        let worker = self.roles().into_keys().find(|role| unsaid && role.as_str() == WORKER).cloned();
        Demand {
            team: Some(order.team.clone()),
            role: item.role.clone().or(worker),
            specialty: item.specialty.clone(),
            repository: order.repository.clone(),
            ..Demand::default()
        }
    }
}

/// The schema of a plan, for the agent's own check.
pub fn schema(crew: &Crew, order: &Order) -> Value {
    let text = |most: usize| json!({"type": "string", "minLength": 1, "maxLength": most});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let one_of = |labels: Vec<&Label>| json!({"type": "string", "enum": labels});
    let mut properties = json!({
        "id": text(ID_MAX),
        "title": text(TITLE_MAX),
        "description": text(DESCRIPTION_MAX),
        "type": {"type": "string", "pattern": "^[a-z0-9-]{1,32}$"},
        "after": texts,
        "files": texts,
    });
    let (roles, specialties): (Vec<_>, Vec<_>) = (crew.roles().into_keys().collect(), crew.specialties(None).into_iter().collect());
    if let Some(properties) = properties.as_object_mut() {
        for (name, labels) in [("role", roles), ("specialty", specialties)] {
            if !labels.is_empty() {
                properties.insert(name.to_owned(), one_of(labels));
            }
        }
    }
    let item = json!({"type": "object", "additionalProperties": false, "required": ["id", "title", "description"], "properties": properties});
    let tasks = json!({"type": "array", "minItems": 1, "maxItems": order.most, "items": item});
    json!({"type": "object", "additionalProperties": false, "required": ["tasks"], "properties": {"tasks": tasks}})
}

/// The tasks of a plan, or all that is wrong with it.
///
/// # Errors
/// Every problem, bounded.
pub fn check(text: &str, crew: &Crew, order: &Order) -> Result<Vec<Item>, Vec<String>> {
    let plan: Value = serde_json::from_str(text).map_err(|error| vec![format!("it is not JSON: {error}")])?;
    let Some(given) = plan.get("tasks").and_then(Value::as_array) else {
        return Err(vec!["it has no list \"tasks\"".to_owned()]);
    };
    let most = order.most.min(TASKS_MAX);
    if given.is_empty() || given.len() > most as usize {
        return Err(vec![format!("it has {} tasks; a plan has 1 to {most}", given.len())]);
    }
    let mut problems = Vec::new();
    let items: Vec<Item> = given.iter().enumerate().filter_map(|(place, value)| item(value, place, &mut problems)).collect();
    let mut places = BTreeMap::new();
    for (place, item) in items.iter().enumerate() {
        if places.insert(item.id.as_str(), place).is_some() {
            problems.push(format!("id: {:?} is the id of several tasks", item.id));
        }
    }
    let mut after = BTreeMap::new();
    for (place, item) in items.iter().enumerate() {
        let mut needed = Vec::new();
        for other in &item.after {
            match places.get(other.as_str()) {
                Some(other) => needed.push(*other),
                None => problems.push(format!("task {:?}: after: there is no task {:?}", item.id, head(other))),
            }
        }
        after.insert(place, needed);
        fits(item, crew, order, &mut problems);
    }
    // Of a plan with wrong tasks the circle would be one among those that are left.
    if problems.is_empty()
        && let Err(circle) = crate::core::order::order(&after.iter().map(|(place, after)| (*place, after.as_slice())).collect())
    {
        let ids: Vec<&str> = circle.iter().filter_map(|place| items.get(*place)).map(|item| item.id.as_str()).collect();
        problems.push(format!("after: these tasks wait for each other: {}", ids.join(", ")));
    }
    if problems.is_empty() {
        return Ok(items);
    }
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    problems.truncate(PROBLEMS_MAX);
    problems.extend((more > 0).then(|| format!("… and {more} more")));
    Err(problems)
}

/// Whether somebody of the team can do it.
fn fits(item: &Item, crew: &Crew, order: &Order, problems: &mut Vec<String>) {
    let demand = crew.demand(order, item);
    if crew.0.iter().any(|member| member.serves(&demand)) {
        return;
    }
    let list = |labels: Vec<&Label>| if labels.is_empty() { "none".to_owned() } else { labels.iter().map(|l| l.as_str()).collect::<Vec<_>>().join(", ") };
    let roles = crew.roles().into_keys().collect();
    problems.push(match (&item.role, &item.specialty) {
        (Some(role), _) if !crew.roles().contains_key(role) => {
            format!("task {:?}: role: nobody else in the team is {role}; the roles are: {}", item.id, list(roles))
        }
        (role, Some(specialty)) => {
            let known = list(crew.specialties(role.as_ref()).into_iter().collect());
            let who = role.as_ref().map_or_else(|| "nobody else in the team".to_owned(), |role| format!("no {role}"));
            format!("task {:?}: specialty: {who} has {specialty}; the specialties are: {known}", item.id)
        }
        _ => format!("task {:?}: nobody else in the team could do it", item.id),
    });
}

/// One task, or `None` and what is wrong with it.
fn item(value: &Value, place: usize, problems: &mut Vec<String>) -> Option<Item> {
    let Some(fields) = value.as_object() else {
        problems.push(format!("task {}: it is not an object", place + 1));
        return None;
    };
    let before = problems.len();
    let name = match fields.get("id").and_then(Value::as_str).map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) if id.len() <= ID_MAX && !id.contains(char::is_control) => id.to_owned(),
        Some(_) => {
            problems.push(format!("task {}: id: it is one line of at most {ID_MAX} bytes", place + 1));
            return None;
        }
        None => {
            problems.push(format!("task {}: id: it is missing", place + 1));
            return None;
        }
    };
    let mut wrong = |field: &str, why: String| problems.push(format!("task {name:?}: {field}: {why}"));
    let title = text(fields, "title").unwrap_or_default();
    if title.is_empty() || title.len() > TITLE_MAX || title.contains(char::is_control) {
        wrong("title", format!("it is one line of 1 to {TITLE_MAX} bytes"));
    }
    let description = text(fields, "description").unwrap_or_default();
    if description.is_empty() || description.len() > DESCRIPTION_MAX {
        wrong("description", format!("it has 1 to {DESCRIPTION_MAX} bytes"));
    }
    let kind = match text(fields, "type").map(|kind| kind.parse::<TaskType>()) {
        None => TaskType::default(),
        Some(Ok(kind)) => kind,
        Some(Err(error)) => {
            wrong("type", error.to_string());
            TaskType::default()
        }
    };
    let mut label = |field: &str| match text(fields, field).map(|label| label.parse::<Label>()) {
        None => None,
        Some(Ok(label)) => Some(label),
        Some(Err(error)) => {
            wrong(field, error.to_string());
            None
        }
    };
    let (role, specialty) = (label("role"), label("specialty"));
    let mut texts = |field: &str| match fields.get(field) {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => match list.as_array().map(|list| list.iter().map(|one| one.as_str().map(|one| one.trim().to_owned())).collect()) {
            Some(Some(texts)) => texts,
            _ => {
                wrong(field, "it is a list of texts".to_owned());
                Vec::new()
            }
        },
    };
    let (after, files): (Vec<String>, Vec<String>) = (texts("after"), texts("files"));
    if files.len() > FILES_MAX {
        wrong("files", format!("they are at most {FILES_MAX}; name directories, such as src/**"));
    }
    for file in files.iter().take(FILES_MAX) {
        if let Err(error) = Pattern::glob(file) {
            wrong("files", format!("{:?}: {error}", head(file)));
        }
    }
    (problems.len() == before).then(|| Item { id: name, title, description, kind, role, specialty, after: dedup(after), files })
}

fn dedup(texts: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

fn text(fields: &Map<String, Value>, field: &str) -> Option<String> {
    fields.get(field).and_then(Value::as_str).map(|text| text.trim().to_owned())
}

/// The beginning of a foreign text.
fn head(text: &str) -> &str {
    text.get(..text.floor_char_boundary(80)).unwrap_or_default()
}
