//! The verbs on instances.

use super::{Answer, Caller};
use crate::core::ids::InstanceName;
use crate::proto::api;

/// The verbs on instances.
pub trait Instances: Send + Sync {
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
}
