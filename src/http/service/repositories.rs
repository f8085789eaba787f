//! The verbs on repositories.

use super::{Answer, Caller};
use crate::core::label::Label;
use crate::proto::api;

/// The verbs on repositories.
pub trait Repositories: Send + Sync {
    /// Writes one into the configuration, if it is not there as it is wanted.
    fn set_repository(&self, caller: Caller, name: Label, wanted: api::SetRepository) -> Answer<'_, api::Outcome>;
}
