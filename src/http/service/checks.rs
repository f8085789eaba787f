//! The verbs that look at how tasks get along.

use super::{Answer, Caller};
use crate::core::ids::TaskId;
use crate::core::label::Label;
use crate::proto::api;

/// The verbs that look at how tasks get along. They ask the runners, and answer in seconds whoever does not.
pub trait Checks: Send + Sync {
    /// Conflicts, free tasks, locks; of one repository, or of all. An agent sees those of its own.
    fn check(&self, caller: Caller, repository: Option<Label>) -> Answer<'_, api::Check>;
    /// What a running task has in common with others.
    fn forecast(&self, caller: Caller, id: TaskId) -> Answer<'_, api::TaskForecast>;
}
