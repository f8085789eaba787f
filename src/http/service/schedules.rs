//! The verbs on schedules.

use super::{Answer, Caller};
use crate::core::label::Label;
use crate::proto::api;

/// The verbs on schedules.
pub trait Schedules: Send + Sync {
    /// All of them.
    fn schedules(&self) -> Answer<'_, Vec<api::Schedule>>;
    /// Adds one.
    fn add_schedule(&self, caller: Caller, new: api::NewSchedule) -> Answer<'_, api::Schedule>;
    /// Removes one; what it has added stays.
    fn remove_schedule(&self, caller: Caller, name: Label) -> Answer<'_, api::Outcome>;
    /// Runs one now.
    fn run_schedule(&self, caller: Caller, name: Label) -> Answer<'_, api::Outcome>;
}
