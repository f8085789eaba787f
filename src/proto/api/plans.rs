//! Plans, as the API has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A goal that a team's boss is to split into tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlan {
    /// What is to be reached.
    pub goal: String,
    /// The team whose members do it.
    pub team: String,
    /// The member that makes the plan, by its name; the one in the role `boss` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boss: Option<String>,
    /// Whether a person approves the plan before its tasks enter the queue.
    #[serde(default)]
    pub review: bool,
    /// Most tasks, 1 to 100; 20 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tasks: Option<u32>,
    /// Only members that work on this repository get tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Most that each task may cost, the boss's too, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_budget_usd: Option<f64>,
    /// How urgent all of its tasks are, -10 to 10; 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Its number. All of its tasks are in the group `plan-ID`.
    pub id: i64,
    /// What is to be reached.
    pub goal: String,
    /// The team.
    pub team: String,
    /// The instance that makes it.
    pub boss: String,
    /// `planning`, `waiting` (for approval), `running`, `closing` (the boss has the results), `done`, `failed`, `rejected` or `cancelled`.
    pub state: String,
    /// Why, in a sentence.
    pub detail: String,
    /// Whether a person approves it first.
    pub review: bool,
    /// Most tasks.
    pub max_tasks: u32,
    /// Only members that work on this repository get tasks.
    pub repository: Option<String>,
    /// Most that each task may cost.
    pub task_budget_usd: Option<f64>,
    /// How urgent its tasks are.
    pub priority: i64,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub created: String,
    /// When it was over.
    pub finished: Option<String>,
    /// Its tasks as the boss wants them, once there is a plan that can be used.
    pub tasks: Vec<PlanTask>,
    /// The boss's own tasks: of the plan, of its revision, of the results.
    pub boss_tasks: Vec<BossTask>,
}

/// One task of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanTask {
    /// Its name within the plan.
    pub id: String,
    /// One line.
    pub title: String,
    /// What is to be done.
    pub description: String,
    /// The kind of work.
    #[serde(rename = "type")]
    pub kind: String,
    /// Only for members in this role.
    pub role: Option<String>,
    /// Only for members with this specialty.
    pub specialty: Option<String>,
    /// Those that it comes after.
    pub after: Vec<String>,
    /// The files that it will touch.
    pub files: Vec<String>,
    /// Its number in the queue, once it has entered it.
    pub task: Option<i64>,
    /// How that stands: as tasks do, or `gone` when it was removed.
    pub state: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Who worked on it last.
    pub instance: Option<String>,
    /// On which branch.
    pub branch: Option<String>,
}

/// A task of the boss's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BossTask {
    /// `plan`, `revision` or `follow-up`.
    pub part: String,
    /// Its number.
    pub task: i64,
    /// How it stands.
    pub state: String,
}

/// Why a plan is rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectPlan {
    /// A line for those who wonder.
    #[serde(default)]
    pub why: String,
}
