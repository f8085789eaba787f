//! The HTTP API's types, version 1. Times are RFC 3339, durations seconds, amounts of memory bytes, money US dollars.

mod check;
mod locks;
mod plans;
mod repositories;
mod teams;
mod worktrees;

pub use super::api_queue::{Claim, Completed, Completion, Headway, Import, ImportTask, Imported, ImportedTask, NewPause, NewSchedule, Pause, Schedule};
pub use check::{Check, Dependency, FreeTask, Overlap, Party, TaskForecast, WorkInProgress};
pub use locks::*;
pub use plans::{BossTask, NewPlan, Plan, PlanTask, RejectPlan};
pub use repositories::{ProposedRepository, SetRepository};
pub use teams::{MemberOutcome, Team, TeamDown, TeamMember, TeamOutcome, TeamScale, TeamUp};
pub use worktrees::{AddWorktree, CollectWorktrees, Worktree, WorktreeFate};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A request for a new task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// The instance that is to do it; any idle one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The kind of work, a label of the metrics: `feature`, `bugfix`, …
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// One line for tables; the prompt's first line if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the agent is told.
    pub prompt: String,
    /// Longest time of one attempt, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Most that all attempts together may cost, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// Most model turns of one attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// A JSON schema that the result has to fit; the last attempt's `text` is then that JSON. For a Claude Code instance, which
    /// must be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub schema: Option<serde_json::Value>,
    /// How urgent it is, -10 to 10; more is sooner, 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// What it counts with: groups can be listed, ended, paused and limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only a member of this team may take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Only a member in this role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Only an instance with this specialty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub specialty: Option<String>,
    /// Only an instance with all of these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Only an instance that works on this repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The branch that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The numbers of the tasks that it comes after: it waits until they have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<i64>,
    /// What becomes of it when one of them fails or is cancelled: `fail` (if absent) or `release`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_failed: Option<String>,
    /// Not before that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// Which files it will touch, as far as you know: paths from the root of the worktree, directories with a slash at the end, or
    /// globs. `GET /api/v1/check` says with them what can run side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// A task as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its number.
    pub id: i64,
    /// The kind of work.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line.
    pub title: String,
    /// `pending`, `assigned`, `running`, `verifying`, `publishing`, `claimed`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// Why it failed: `agent-error`, `oom`, `memory-pressure`, `timeout`, `stalled`, `auth`, `budget`, `lost`, `spawn`,
    /// `verify-failed`, `worktree`, `publish`, `locks`, `dependency`, `reported`.
    pub reason: Option<String>,
    /// A sentence: why it failed, what it waits for, what it is doing.
    pub detail: String,
    /// The instance that it was asked for.
    pub instance: Option<String>,
    /// The instance that has it or had it last.
    pub placed_on: Option<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// When it was accepted.
    pub created: String,
    /// Not before that time, while pending.
    pub not_before: Option<String>,
    /// When it ended.
    pub finished: Option<String>,
    /// Cost of all attempts so far.
    pub cost_usd: f64,
    /// How urgent it is, -10 to 10.
    pub priority: i64,
    /// What it counts with.
    pub group: Option<String>,
    /// What it waits for, in one word, while pending: `not-before`, `back-off`, `dependency`, `paused`, `concurrency`, `usage-limit`,
    /// `budget`, `memory`, `no-instance` or `instance`.
    pub waits_for: Option<String>,
    /// Who does it themselves.
    pub claimed_by: Option<String>,
}

/// A task with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskDetail {
    /// As in lists.
    #[serde(flatten)]
    pub task: Task,
    /// What the agent is told.
    pub prompt: String,
    /// Longest time of one attempt, in seconds.
    pub timeout_seconds: Option<u64>,
    /// Most that all attempts together may cost.
    pub budget_usd: Option<f64>,
    /// Most model turns of one attempt.
    pub max_turns: Option<u32>,
    /// The memory limit of its instance while it works on it, in bytes, since it has run out of memory with less.
    pub memory_limit_bytes: Option<u64>,
    /// The JSON schema that its result has to fit.
    #[schema(value_type = Option<Object>)]
    pub schema: Option<serde_json::Value>,
    /// The team whose members alone may take it.
    pub team: Option<String>,
    /// The role of those members.
    pub role: Option<String>,
    /// The specialty that it asks for.
    pub specialty: Option<String>,
    /// The labels that it asks for.
    pub labels: Vec<String>,
    /// The repository that it asks for.
    pub repository: Option<String>,
    /// The branch that it is about.
    pub branch: Option<String>,
    /// What it comes after.
    pub after: Vec<i64>,
    /// What becomes of it when one of them fails: `fail` or `release`.
    pub after_failed: String,
    /// Which files it will touch, as far as whoever added it knew.
    pub files: Vec<String>,
    /// The attempts, first one first.
    pub history: Vec<Attempt>,
}

/// One execution of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// Where.
    pub instance: String,
    /// In which start of the instance's unit.
    pub invocation: String,
    /// When it was given to the instance.
    pub assigned: String,
    /// When the agent was started.
    pub started: Option<String>,
    /// When the last of its processes was gone.
    pub finished: Option<String>,
    /// `succeeded`, `failed`, `cancelled`, `limited` or `interrupted`; absent while it runs.
    pub outcome: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: String,
    /// Exit status of the agent's process.
    pub exit_code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The agent's session.
    pub session: Option<String>,
    /// Model turns.
    pub turns: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Cost of this attempt.
    pub cost_usd: f64,
    /// Tokens by model.
    pub tokens: BTreeMap<String, TokenCounts>,
    /// CPU time in user mode, seconds.
    pub cpu_user_seconds: Option<f64>,
    /// CPU time in the kernel, seconds.
    pub cpu_system_seconds: Option<f64>,
    /// Highest memory use.
    pub memory_peak_bytes: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_write_bytes: Option<u64>,
    /// Seconds stalled on the CPU (PSI, some).
    pub cpu_stall_seconds: Option<f64>,
    /// Seconds stalled on memory.
    pub memory_stall_seconds: Option<f64>,
    /// Seconds stalled on I/O.
    pub io_stall_seconds: Option<f64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// The agent's last words.
    pub text: String,
    /// What it left in its repository, if its instance has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
}

/// What an attempt left in its repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Work {
    /// The repository's name in the configuration.
    pub repository: String,
    /// The task's branch.
    pub branch: String,
    /// The commit that it started from.
    pub base: Option<String>,
    /// The branch's tip at the end.
    pub head: Option<String>,
    /// Commits between the two.
    pub commits: u32,
    /// The files that differ between the two, at most 1000.
    pub files: Vec<ChangedFile>,
    /// How many more there are.
    pub more_files: u32,
    /// The ref that keeps what could not be committed.
    pub rescue: Option<String>,
    /// How the check of the work went, if there was one.
    pub verify: Option<Verification>,
    /// The remote that took the branch.
    pub pushed_to: Option<String>,
    /// Why the remote did not take it.
    pub push_refused: Option<String>,
    /// What the worktree takes on disk.
    pub disk_bytes: Option<u64>,
}

/// A file that differs from the base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedFile {
    /// `A`, `M`, `D` or `T`.
    pub status: String,
    /// Where, from the repository's root.
    pub path: String,
}

/// How the check of the work went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// Whether the last run passed.
    pub passed: bool,
    /// How often it was run.
    pub runs: u32,
    /// How the last run ended, in words.
    pub ended: String,
    /// The last of its output.
    pub output: String,
}

/// Tokens by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCounts {
    /// Read by the model.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Written to the cache.
    pub cache_creation: u64,
}

/// An instance as lists show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Whether the configuration has a stanza for it.
    pub configured: bool,
    /// systemd's `ActiveState`.
    pub active: String,
    /// systemd's `SubState`.
    pub sub: String,
    /// Whether its runner is connected.
    pub connected: bool,
    /// What it is doing, in words: the runner's status text, or why it does not run.
    pub status: String,
    /// The task that it has.
    pub task: Option<i64>,
    /// Since when it is active.
    pub since: Option<String>,
    /// Automatic restarts that clauded has seen in all.
    pub restarts: u64,
    /// Current memory use of its slice.
    pub memory_bytes: Option<u64>,
    /// The lowest memory limit that applies to it.
    pub memory_limit_bytes: Option<u64>,
    /// CPU time of its slice since it was made, seconds.
    pub cpu_seconds: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// An instance with all that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceDetail {
    /// As in lists.
    #[serde(flatten)]
    pub instance: Instance,
    /// Its short stable ID, which is in the names of its branches.
    #[serde(default)]
    pub id: String,
    /// Its repository in the configuration, if its directory is a worktree of one.
    pub repository: Option<String>,
    /// Its unit.
    pub unit: String,
    /// Its directory.
    pub directory: String,
    /// Its profile.
    pub profile: String,
    /// The user that it runs as, if the configuration says so.
    pub user: Option<String>,
    /// The start of its unit.
    pub invocation: Option<String>,
    /// The runner's process.
    pub main_pid: Option<u32>,
    /// Every cap that applies to it, from its service outwards.
    pub caps: Vec<Cap>,
    /// Its last starts, exits and restarts with their causes, newest first.
    pub history: Vec<Event>,
}

/// The limits of one cgroup on the way from an instance to the root. An absent one does not bind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cap {
    /// The unit that it comes from: the service, its slice, a team's slice, the fleet's.
    pub unit: String,
    /// `memory.max`.
    pub memory_max: Option<u64>,
    /// `memory.high`.
    pub memory_high: Option<u64>,
    /// `memory.swap.max`.
    pub swap_max: Option<u64>,
    /// `cpu.max` as per cent of one CPU.
    pub cpu_percent: Option<f64>,
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// `io.weight`.
    pub io_weight: Option<u64>,
    /// `pids.max`.
    pub tasks_max: Option<u64>,
}

/// New limits for an instance's slice; absent ones stay as they are. The texts are those of the configuration: `6G`, `200%`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLimits {
    /// `MemoryMax=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// `MemoryHigh=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<String>,
    /// `MemorySwapMax=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<String>,
    /// `CPUQuota=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// `CPUWeight=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<String>,
    /// `IOWeight=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<String>,
    /// `TasksMax=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<String>,
    /// Also write it into the configuration, so that it holds after a reboot.
    #[serde(default)]
    pub persist: bool,
}

/// What a verb did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// `created`, `changed` or `unchanged`.
    pub result: String,
    /// A sentence for people; may be empty.
    pub message: String,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: String,
    /// `task-added`, `task-started`, `task-finished`, `instance-started`, `instance-ended`, `instance-restarted`, …
    pub kind: String,
    /// On which instance.
    pub instance: Option<String>,
    /// On which task.
    pub task: Option<i64>,
    /// A sentence.
    pub message: String,
    /// The cause in one word, where there is one.
    pub cause: Option<String>,
}

/// A piece of an attempt's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogChunk {
    /// Which attempt.
    pub attempt: u32,
    /// Where it begins, in bytes from the log's start.
    pub offset: u64,
    /// Where to go on.
    pub next: u64,
    /// What stands there; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether nothing will follow.
    pub complete: bool,
}

/// The daemon's own state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    /// The version.
    pub version: String,
    /// `systemd`, `systemd-user` or `process`.
    pub supervisor: String,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Tasks by state, those that have not ended.
    pub tasks: BTreeMap<String, u64>,
    /// Instances whose runner is connected.
    pub connected: u64,
    /// Usage limits in force: account and reset time.
    pub holds: BTreeMap<String, String>,
    /// What is paused.
    pub pauses: Vec<Pause>,
    /// What has been spent today, in US dollars: by instance, what runs included.
    pub spent_today_usd: BTreeMap<String, f64>,
}

/// An error, as RFC 9457 problem details.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the code says what kind it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
    /// A stable word for programs: `invalid-name`, `no-such-task`, `forbidden`, `store-full`, …
    pub code: String,
}
