//! The tools for locks and for tasks that an agent takes on itself.

use super::{Tools, answer};
use crate::ctl::failure::Failure;
use crate::ctl::lock::args::What;
use crate::ctl::lock::named;
use crate::proto::api::{Claim, Completion, Headway, NewLock, NewTask, ReleaseLocks};
use hyper::Method;
use hyper::body::Bytes;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::CallToolResult;
use rmcp::schemars::JsonSchema;
use rmcp::{tool, tool_router};
use serde::Deserialize;
use std::path::PathBuf;

/// Longest wait for a lock in one call: a model that waits does nothing else.
const WAIT_MAX: u64 = 600;

#[derive(Debug, Deserialize, JsonSchema)]
struct AcquireLock {
    /// A file, or a directory with all that is in it; absolute, or from the directory that you were started in.
    path: Option<String>,
    /// Instead of a path: a glob such as src/**/*.sql.
    glob: Option<String>,
    /// Instead of a path: the name of a feature that the repository's configuration binds to files.
    feature: Option<String>,
    /// Whether others may share it: for reading in peace. False if absent.
    #[serde(default)]
    shared: bool,
    /// Why, in one line, for those who meet the lock.
    reason: Option<String>,
    /// Wait in line for it for at most this many seconds, 600 at most; do not wait if absent.
    wait_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ReleaseLock {
    /// The lock's number; or say with path, glob or feature what it is on, as you asked for it.
    id: Option<i64>,
    /// A file or directory.
    path: Option<String>,
    /// A glob.
    glob: Option<String>,
    /// A feature.
    feature: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ClaimTask {
    /// The task's number; the most urgent one that you may take if absent.
    id: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct CompleteTask {
    /// The task's number.
    id: i64,
    /// What came of it, in a sentence or two.
    #[serde(default)]
    note: String,
    /// Whether it could not be done. False if absent.
    #[serde(default)]
    failed: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ReleaseTask {
    /// The task's number.
    id: i64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct AddTask {
    /// What is to be done, with all that one has to know who does not see your conversation.
    prompt: String,
    /// One line for lists.
    title: Option<String>,
    /// The kind of work, such as feature or bugfix.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The one member of your team that is to do it, by the name of its instance; any of them if absent.
    instance: Option<String>,
    /// Only for members in this role.
    role: Option<String>,
    /// Only for members with this specialty.
    specialty: Option<String>,
    /// The numbers of the tasks that it comes after.
    #[serde(default)]
    after: Vec<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ReportProgress {
    /// What you are at, in one short line.
    text: String,
    /// The number of a task that you have claimed; the task that you were given if absent.
    task: Option<i64>,
}

/// What is meant by one of the three, as the command line means it.
fn on(path: Option<String>, glob: Option<String>, feature: Option<String>) -> Result<NewLock, Failure> {
    named(What { path: path.map(PathBuf::from), glob, feature, repository: None })
}

impl Tools {
    async fn acquire(&self, asked: AcquireLock) -> Result<Bytes, Failure> {
        let AcquireLock { path, glob, feature, shared, reason, wait_seconds } = asked;
        let wait_seconds = wait_seconds.filter(|seconds| *seconds > 0).map(|seconds| seconds.min(WAIT_MAX));
        let lock = NewLock { shared, reason, wait_seconds, ..on(path, glob, feature)? };
        self.client.send(Method::POST, "/api/v1/locks", &lock).await
    }

    async fn release(&self, asked: ReleaseLock) -> Result<Bytes, Failure> {
        let ReleaseLock { id, path, glob, feature } = asked;
        let which = match id {
            Some(_) => ReleaseLocks { id, ..ReleaseLocks::default() },
            // With none of them all of the caller's would go, which nobody means who names nothing.
            None if path.is_none() && glob.is_none() && feature.is_none() => {
                return Err(Failure::Usage("say with id, path, glob or feature which lock to give back; list_locks shows yours".to_owned()));
            }
            None => {
                let NewLock { path, glob, feature, place, repository, .. } = on(path, glob, feature)?;
                ReleaseLocks { id: None, path, glob, feature, place, repository, force: false }
            }
        };
        self.client.send(Method::POST, "/api/v1/locks/release", &which).await
    }
}

#[tool_router(router = work_tools, vis = "pub(super)")]
impl Tools {
    #[tool(
        description = "Take a lock on a file, a directory, a glob or a feature before you change it. Editing tools take the lock on each file by themselves; use this for what you change in other ways, or to hold several files together. It ends with your task."
    )]
    async fn acquire_lock(&self, Parameters(asked): Parameters<AcquireLock>) -> CallToolResult {
        answer(self.acquire(asked).await)
    }

    #[tool(description = "Give one of your own locks back, so that others need not wait until your task ends.")]
    async fn release_lock(&self, Parameters(asked): Parameters<ReleaseLock>) -> CallToolResult {
        answer(self.release(asked).await)
    }

    #[tool(description = "List who has locked which files of your repository, and who waits for whom.")]
    async fn list_locks(&self) -> CallToolResult {
        answer(self.client.get("/api/v1/locks").await)
    }

    #[tool(
        description = "Take on another task of the queue beside the one that you were given, to do it yourself: no other agent gets it meanwhile. End it with complete_task."
    )]
    async fn claim_task(&self, Parameters(ClaimTask { id }): Parameters<ClaimTask>) -> CallToolResult {
        let path = id.map_or_else(|| "/api/v1/tasks/claim".to_owned(), |id| format!("/api/v1/tasks/{id}/claim"));
        answer(self.client.send(Method::POST, &path, &Claim::default()).await)
    }

    #[tool(
        description = "Say that a task that you have claimed is done, or could not be. The answer has a task that you might claim next. The task that you were given ends by itself when you end your work."
    )]
    async fn complete_task(&self, Parameters(CompleteTask { id, note, failed }): Parameters<CompleteTask>) -> CallToolResult {
        answer(self.client.send(Method::POST, &format!("/api/v1/tasks/{id}/complete"), &Completion { failed, note }).await)
    }

    #[tool(
        description = "Add a task for your own team to the queue. What comes of it is not told to you: say in the prompt whom to tell, or go on without. For what is not a part of your own task."
    )]
    async fn add_task(&self, Parameters(AddTask { prompt, title, kind, instance, role, specialty, after }): Parameters<AddTask>) -> CallToolResult {
        let new = NewTask { prompt, title, kind, instance, role, specialty, after, ..NewTask::default() };
        answer(self.client.send(Method::POST, "/api/v1/tasks", &new).await)
    }

    #[tool(description = "Say in one line what you are at, for the people who watch. Now and then in long work, not at every step.")]
    async fn report_progress(&self, Parameters(ReportProgress { text, task }): Parameters<ReportProgress>) -> CallToolResult {
        answer(self.client.send(Method::POST, "/api/v1/tasks/progress", &Headway { text, task }).await)
    }

    #[tool(description = "Give a task that you have claimed back into the queue, for another to do.")]
    async fn release_task(&self, Parameters(ReleaseTask { id }): Parameters<ReleaseTask>) -> CallToolResult {
        answer(self.client.whole(Method::POST, &format!("/api/v1/tasks/{id}/release"), None).await)
    }
}
