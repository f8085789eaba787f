//! Plans: a boss splits a goal into tasks for its team, a person may look at them first, the boss gets what came of them.

mod check;
mod machine;
mod prompt;
#[cfg(test)]
mod tests;

pub use check::{Crew, TASKS_MAX, check, schema};
pub use machine::{Addition, Effect, NotNow, Plans};

use super::attempt::Reason;
use super::ids::{InstanceName, TaskId};
use super::label::Label;
use super::task::TaskType;
use super::terms::Priority;
use super::usage::Usd;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest goal, in bytes: it is told with every task of the plan.
pub const GOAL_MAX: usize = 32 << 10;

/// A plan's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(pub i64);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PlanId {
    /// The group of all its tasks.
    pub fn group(self) -> Option<Label> {
        format!("plan-{self}").parse().ok()
    }
}

/// Where a plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The boss makes it.
    Planning,
    /// It waits for a person to approve it.
    Waiting,
    /// Its tasks are in the queue.
    Running,
    /// They have ended, and the boss has what came of them.
    Closing,
    /// The boss is through with that.
    Done,
    /// There is no plan that can be used, or the boss could not end it.
    Failed,
    /// A person does not want it.
    Rejected,
    /// A person has ended it.
    Cancelled,
}

impl State {
    /// All of them, with their names in the API and the store.
    pub const ALL: [(&'static str, Self); 8] = [
        ("planning", Self::Planning),
        ("waiting", Self::Waiting),
        ("running", Self::Running),
        ("closing", Self::Closing),
        ("done", Self::Done),
        ("failed", Self::Failed),
        ("rejected", Self::Rejected),
        ("cancelled", Self::Cancelled),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, state)| *state == self).map_or("", |(name, _)| name)
    }

    /// The kind of the event that tells of it.
    pub fn event(self) -> &'static str {
        match self {
            Self::Planning => "plan-added",
            Self::Waiting => "plan-waiting",
            Self::Running => "plan-running",
            Self::Closing => "plan-closing",
            Self::Done => "plan-done",
            Self::Failed => "plan-failed",
            Self::Rejected => "plan-rejected",
            Self::Cancelled => "plan-cancelled",
        }
    }

    /// Whether nothing follows any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Rejected | Self::Cancelled)
    }
}

impl FromStr for State {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, state)| *state).ok_or("not a state of a plan")
    }
}

/// What is asked for. It never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What is to be reached.
    pub goal: String,
    /// The team whose members do it.
    pub team: Label,
    /// Who makes the plan.
    pub boss: InstanceName,
    /// Whether a person approves it first.
    pub review: bool,
    /// Most tasks.
    pub most: u32,
    /// Only members that work on this repository get tasks.
    pub repository: Option<Label>,
    /// Most that each task may cost, the boss's too.
    pub budget: Option<Usd>,
    /// How urgent all of its tasks are.
    pub priority: Priority,
}

/// One task of a plan, as the boss wants it, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its name within the plan.
    pub id: String,
    /// One line.
    pub title: String,
    /// What is to be done.
    pub description: String,
    /// The kind of work.
    #[serde(rename = "type")]
    pub kind: TaskType,
    /// Only for members in this role.
    pub role: Option<Label>,
    /// Only for members with this specialty.
    pub specialty: Option<Label>,
    /// Those that it comes after.
    pub after: Vec<String>,
    /// The files that it will touch, as globs.
    pub files: Vec<String>,
}

/// What a task is to its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The boss makes the plan.
    Plan,
    /// The boss makes it anew, for the first cannot be used.
    Revision,
    /// One of its tasks.
    Item,
    /// The boss gets what came of them.
    FollowUp,
}

impl Part {
    /// All of them, with their names in the API and the store.
    pub const ALL: [(&'static str, Self); 4] = [("plan", Self::Plan), ("revision", Self::Revision), ("task", Self::Item), ("follow-up", Self::FollowUp)];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, part)| *part == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Part {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, part)| *part).ok_or("not a part of a plan")
    }
}

/// How a task of a plan has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was done.
    Succeeded,
    /// It was not.
    Failed(Reason),
    /// A person has ended it.
    Cancelled,
    /// It is not there any more, and nobody knows.
    Gone,
}

impl How {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "failed ({reason})"),
            other => f.write_str(other.name()),
        }
    }
}

/// A task of a plan that has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// What it is.
    pub part: Part,
    /// The item's name, of an item.
    pub item: String,
    /// How it has ended, while it has.
    pub how: Option<How>,
    /// Who worked on it last.
    pub instance: Option<InstanceName>,
    /// On which branch.
    pub branch: Option<String>,
    /// The last words, or the plan.
    pub text: String,
}

impl Numbered {
    /// One of which nothing is known yet.
    pub fn new(part: Part, item: String) -> Self {
        Self { part, item, how: None, instance: None, branch: None, text: String::new() }
    }
}

/// A plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its number.
    pub id: PlanId,
    /// What was asked for.
    pub order: Order,
    /// Who asked.
    pub by: String,
    /// When.
    pub created: Timestamp,
    /// Where it stands.
    pub state: State,
    /// Why, in a sentence.
    pub detail: String,
    /// Its tasks as the boss wants them, once there is a plan that can be used.
    pub items: Vec<Item>,
    /// Those that are in the queue or were.
    pub tasks: BTreeMap<TaskId, Numbered>,
    /// When it was over.
    pub finished: Option<Timestamp>,
}

impl Plan {
    /// The task of a part that comes once, the later one first of those that make the plan.
    fn task_of(&self, parts: &[Part]) -> Option<(TaskId, &Numbered)> {
        parts.iter().find_map(|part| self.tasks.iter().rev().find(|(_, task)| task.part == *part)).map(|(id, task)| (*id, task))
    }
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The plan's row, new or changed; of its tasks nothing.
    Put(Box<Plan>),
    /// A task is one of the plan's.
    Task(PlanId, TaskId, Part, String),
}
