//! The verbs on the queue as a whole.

use super::{Answer, Caller};
use crate::core::ids::TaskId;
use crate::core::label::Label;
use crate::proto::api;

/// The verbs on the queue as a whole.
pub trait Queue: Send + Sync {
    /// Gives a task to somebody who does it themselves: that one, or the most urgent that they could take.
    fn claim(&self, caller: Caller, id: Option<TaskId>, claim: api::Claim) -> Answer<'_, api::Task>;
    /// Puts a claimed task back.
    fn release(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task>;
    /// Ends a claimed task.
    fn complete(&self, caller: Caller, id: TaskId, completion: api::Completion) -> Answer<'_, api::Completed>;
    /// Keeps a sentence on how somebody gets on with a task.
    fn headway(&self, caller: Caller, said: api::Headway) -> Answer<'_, api::Outcome>;
    /// What is paused.
    fn pauses(&self) -> Answer<'_, Vec<api::Pause>>;
    /// Pauses something.
    fn pause(&self, caller: Caller, wanted: api::NewPause) -> Answer<'_, api::Outcome>;
    /// Lets something go on.
    fn resume(&self, caller: Caller, kind: String, name: String) -> Answer<'_, api::Outcome>;
    /// Ends all tasks of a group that have not ended.
    fn cancel_group(&self, caller: Caller, group: Label) -> Answer<'_, Vec<api::Task>>;
    /// Takes many tasks, all or none.
    fn import(&self, caller: Caller, import: api::Import) -> Answer<'_, api::Imported>;
    /// All tasks (of a group) that have not ended, or really all.
    fn export(&self, group: Option<Label>, all: bool) -> Answer<'_, api::Import>;
}
