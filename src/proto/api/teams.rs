//! The types of `/api/v1/teams`.

use super::Instance;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A team with its members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Team {
    /// Its name.
    pub name: String,
    /// The template that it is made of.
    pub template: Option<String>,
    /// The repository of its worktrees.
    pub repository: Option<String>,
    /// Which free member gets a task: `round-robin`, `specialty` or `least-loaded`.
    pub policy: String,
    /// Whether it is started at boot.
    pub autostart: bool,
    /// The target that starts and stops it under systemd.
    pub target: String,
    /// The slice that holds its members.
    pub slice: String,
    /// Its members by role and number; those that are one too many, and still do something, last.
    pub members: Vec<TeamMember>,
    /// Current memory use of its slice.
    pub memory_bytes: Option<u64>,
    /// The lowest memory limit that applies to all of it.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// What its members have cost since the host's last midnight.
    pub cost_today_usd: f64,
    /// What they may cost from one midnight to the next.
    pub budget_day_usd: Option<f64>,
    /// What they may cost in all.
    pub budget_total_usd: Option<f64>,
}

/// A member of a team: an instance, and what it does there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeamMember {
    /// As in lists of instances.
    #[serde(flatten)]
    pub instance: Instance,
    /// Its role.
    pub role: String,
    /// Its number among those of its role, from 1; absent for a role that one member fills.
    pub number: Option<u32>,
    /// Whether it works in the worktree that the team shares.
    pub shared: bool,
    /// Whether it is one too many, and is stopped when it has ended what it does.
    pub surplus: bool,
    /// Its directory.
    pub directory: String,
    /// Its profile.
    pub profile: String,
    /// What it is good at.
    pub specialties: Vec<String>,
    /// Words that tasks may ask for.
    pub labels: Vec<String>,
}

/// A request for a team to be there and to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamUp {
    /// The template of a team that is new; `classic` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The repository of a team that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// How many members its roles have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replicas: BTreeMap<String, u32>,
}

/// A request for a team to be stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamDown {
    /// Also take it out of the configuration. Its worktrees stay.
    #[serde(default)]
    pub remove: bool,
}

/// A request for more or fewer members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamScale {
    /// How many members its roles have.
    pub replicas: BTreeMap<String, u32>,
    /// Stop those that are too many at once; else each ends its task first.
    #[serde(default)]
    pub now: bool,
}

/// What a verb on a team did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeamOutcome {
    /// What became of its configuration: `created`, `changed` or `unchanged`.
    pub configuration: String,
    /// What became of each member that was asked.
    pub members: Vec<MemberOutcome>,
    /// What is not as it could be, in sentences.
    pub notes: Vec<String>,
}

/// What became of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberOutcome {
    /// The instance.
    pub name: String,
    /// `created`, `changed`, `unchanged`, `draining` (it is stopped when it has ended its task) or `failed`.
    pub result: String,
    /// More in words: why it failed, what it still does.
    pub message: String,
}
