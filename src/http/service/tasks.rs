//! The verbs on tasks.

use super::{Answer, Caller};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::proto::api;

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Only in this state.
    pub state: Option<String>,
    /// Only for or on this instance.
    pub instance: Option<InstanceName>,
    /// Only of this group.
    pub group: Option<Label>,
    /// Only with a smaller number: for paging, newest first.
    pub before: Option<TaskId>,
    /// At most this many.
    pub limit: u32,
}

/// The verbs on tasks.
pub trait Tasks: Send + Sync {
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
}
