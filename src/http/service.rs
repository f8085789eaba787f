//! The port that the daemon implements for the API: one method a verb, API types in and out.

use crate::core::ids::{InstanceName, TaskId};
use crate::proto::api;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

/// An answer that comes later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ServiceError>>;

/// Who is calling, as the kernel or a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the journal: `uid 1000, pid 4242`, `token`, `instance feature-x`.
    pub description: String,
    /// What the caller may do.
    pub role: Role,
}

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything: root, a member of the socket's group, the token's holder.
    Operator,
    /// Read; the process of an instance, known by its cgroup.
    Agent(InstanceName),
    /// Read only.
    Reader,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ServiceError {
    /// The HTTP status that fits.
    pub status: u16,
    /// A stable word for programs.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Only in this state.
    pub state: Option<String>,
    /// Only for or on this instance.
    pub instance: Option<InstanceName>,
    /// Only with a smaller number: for paging, newest first.
    pub before: Option<TaskId>,
    /// At most this many.
    pub limit: u32,
}

/// What the daemon does for the API. Every method answers when the thing is done and durable.
pub trait Service: Send + Sync {
    /// All instances: running, configured, or seen lately.
    fn instances(&self) -> Answer<'_, Vec<api::Instance>>;
    /// One instance with its caps and history.
    fn instance(&self, name: InstanceName) -> Answer<'_, api::InstanceDetail>;
    /// Starts it and waits until it is ready.
    fn start(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome>;
    /// Stops it and waits until it is gone.
    fn stop(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome>;
    /// Stops and starts it.
    fn restart(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome>;
    /// Changes the limits of its slice.
    fn set_limits(&self, caller: Caller, name: InstanceName, limits: api::SetLimits) -> Answer<'_, api::Outcome>;
    /// Takes a task into the queue.
    fn add_task(&self, caller: Caller, task: api::NewTask) -> Answer<'_, api::Task>;
    /// Lists tasks, newest first.
    fn tasks(&self, query: TaskQuery) -> Answer<'_, Vec<api::Task>>;
    /// One task with its attempts.
    fn task(&self, id: TaskId) -> Answer<'_, api::TaskDetail>;
    /// Ends a task.
    fn cancel(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task>;
    /// Puts an ended task back into the queue.
    fn retry(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task>;
    /// Reads an attempt's log (the last attempt's if none is named). With `wait`, answers only when there is more than
    /// nothing after `offset`, or nothing will follow.
    fn log(&self, id: TaskId, attempt: Option<u32>, offset: u64, wait: bool) -> Answer<'_, api::LogChunk>;
    /// Events with a number above `after`, oldest first, at most `limit`.
    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<api::Event>>;
    /// Events as they happen.
    fn subscribe(&self) -> broadcast::Receiver<api::Event>;
    /// The daemon's own state.
    fn health(&self) -> Answer<'_, api::Health>;
    /// The Prometheus text exposition, format 0.0.4.
    fn metrics(&self) -> Answer<'_, String>;
    /// Counts an answered request: the route's template, the method, the status.
    fn count_request(&self, route: &str, method: &str, status: u16);
}
