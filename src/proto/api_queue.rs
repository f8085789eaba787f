//! The HTTP API's types of the queue as a whole: claims, pauses, many tasks at once.

use super::api::{NewTask, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who claims a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Their name, for people. An agent is always its own instance, whatever it says here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// How a claimed task ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// It was not done, and is not to be tried by others.
    #[serde(default)]
    pub failed: bool,
    /// A few words on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// How somebody gets on with a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Headway {
    /// One line of at most 300 bytes.
    pub text: String,
    /// The task; of an agent the one that it was given, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<i64>,
}

/// A task that was completed, and what might be done next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Completed {
    /// The task.
    pub task: Task,
    /// The most urgent of those that are most like it; it is not claimed yet.
    pub next: Option<Task>,
}

/// Something that is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// `all`, `instance`, `team`, `group` or `account`.
    pub kind: String,
    /// Which one; empty for all.
    pub name: String,
    /// Who paused it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: String,
    /// The command that lets it go on.
    pub resume: String,
}

/// What to pause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPause {
    /// `all`, `instance`, `team`, `group` or `account`.
    pub kind: String,
    /// Which one; empty for all.
    #[serde(default)]
    pub name: String,
    /// Who pauses it, for people; as the kernel says if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, on one line.
    #[serde(default)]
    pub why: String,
}

/// Many tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The tasks, in any order.
    pub tasks: Vec<ImportTask>,
}

/// One of many tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportTask {
    /// The line of the file that it stands at, for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Its name among them, any text; it gets a number of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How it stands: what is done or failed is not added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The `id`s of those among them that it comes after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What is asked for.
    pub task: NewTask,
}

/// What an import has added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// The tasks that were added, in the order of the file.
    pub tasks: Vec<ImportedTask>,
}

/// One task that an import has added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedTask {
    /// Its name in the file.
    pub id: Option<String>,
    /// Its number.
    pub task: i64,
}

/// A new schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// Its name.
    pub name: String,
    /// When it comes: minute, hour, day, month, weekday, as in crontab(5).
    pub cron: String,
    /// The time zone, such as `Europe/Berlin`; the host's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The task that it adds.
    pub task: NewTask,
}

/// A schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it comes.
    pub cron: String,
    /// The time zone; empty for the host's.
    pub timezone: String,
    /// The title of the task that it adds.
    pub title: String,
    /// Who made it.
    pub by: String,
    /// When.
    pub created: String,
    /// When it is due next.
    pub next_run: Option<String>,
    /// When it was last due.
    pub last_run: Option<String>,
    /// The task that it added last.
    pub last_task: Option<i64>,
}
