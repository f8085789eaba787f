//! The types of `/api/v1/check` and of a task's forecast.

use super::{Lock, LockWait};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who steps on whose feet, what is free, and who holds what. Each list is bounded, and the number beside it says how many more
/// there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// The running tasks that work on a repository, as their runners have just told.
    pub running: Vec<WorkInProgress>,
    /// Pairs of these that touch the same files, those in conflict first.
    pub overlaps: Vec<Overlap>,
    /// Pairs that are not told.
    pub more_overlaps: u64,
    /// Tasks that could start now, in the order of the queue.
    pub free: Vec<FreeTask>,
    /// Those that are not told.
    pub more_free: u64,
    /// The locks, the oldest first.
    pub locks: Vec<Lock>,
    /// Locks that are not told.
    pub more_locks: u64,
    /// Who waits for a lock, in order of arrival.
    pub waiting: Vec<LockWait>,
    /// Waits that are not told.
    pub more_waiting: u64,
    /// Parts of repositories that their history changes together, the strongest first.
    pub dependencies: Vec<Dependency>,
    /// What could not be found out, a sentence each.
    pub notes: Vec<String>,
}

/// A running task, and what it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkInProgress {
    /// The repository's name in the configuration.
    pub repository: String,
    /// The task's number.
    pub task: i64,
    /// Its title; empty where it is another instance's and an agent asks.
    pub title: String,
    /// The instance.
    pub instance: String,
    /// How many files it has changed, committed or not; absent where its runner has not told.
    pub files: Option<u64>,
    /// Why nothing or not all of it is known.
    pub problem: Option<String>,
}

/// One of two tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Party {
    /// The task's number.
    pub task: i64,
    /// Its title; empty where it is another instance's and an agent asks.
    pub title: String,
    /// The instance.
    pub instance: String,
}

/// Two running tasks that touch the same files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Overlap {
    /// The repository's name in the configuration.
    pub repository: String,
    /// One of them; the task that was asked about, where one was.
    pub one: Party,
    /// The other.
    pub other: Party,
    /// The files, at most 50.
    pub files: Vec<String>,
    /// How many more.
    pub more_files: u64,
    /// Whether what stands in their worktrees now merges: `clean`, `conflict` or `unknown`.
    pub merge: String,
    /// The files in conflict, at most 50.
    pub conflicts: Vec<String>,
    /// Why it is unknown, if it is.
    pub detail: Option<String>,
}

/// A task that could start now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FreeTask {
    /// Its number.
    pub task: i64,
    /// Its title; empty where an agent asks.
    pub title: String,
    /// The repository that it is for, where that is known.
    pub repository: Option<String>,
    /// What it was said to touch.
    pub files: Vec<String>,
    /// Whether it can run beside what runs, what is locked, and the tasks above it; absent where nobody knows what it touches.
    pub beside: Option<bool>,
    /// What is in its way.
    pub clash: Option<String>,
}

/// Two parts of a repository that change together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dependency {
    /// The repository's name in the configuration.
    pub repository: String,
    /// A feature, or a directory with a slash at its end.
    pub one: String,
    /// The other.
    pub other: String,
    /// In how many of the last 500 commits.
    pub commits: u32,
    /// Of the commits that changed the rarer one, the share with both, 0 to 1.
    pub confidence: f64,
}

/// What a running task has in common with others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskForecast {
    /// The task, if it runs on a repository.
    pub work: Option<WorkInProgress>,
    /// Those that touch the same files, with this task as `one`.
    pub overlaps: Vec<Overlap>,
    /// What could not be found out of the others, a sentence each.
    pub notes: Vec<String>,
}
