//! The verbs on plans.

use super::{Answer, Caller};
use crate::core::plan::PlanId;
use crate::proto::api;

/// The verbs on plans.
pub trait Plans: Send + Sync {
    /// Has a boss make one.
    fn add_plan(&self, caller: Caller, new: api::NewPlan) -> Answer<'_, api::Plan>;
    /// Lists them, newest first; those that are over too with `all`.
    fn plans(&self, before: Option<PlanId>, all: bool, limit: u32) -> Answer<'_, Vec<api::Plan>>;
    /// One plan.
    fn plan(&self, id: PlanId) -> Answer<'_, api::Plan>;
    /// Lets its tasks enter the queue.
    fn approve_plan(&self, caller: Caller, id: PlanId) -> Answer<'_, api::Plan>;
    /// Drops it before its tasks enter the queue.
    fn reject_plan(&self, caller: Caller, id: PlanId, why: String) -> Answer<'_, api::Plan>;
    /// Ends it with all of its tasks.
    fn cancel_plan(&self, caller: Caller, id: PlanId) -> Answer<'_, api::Plan>;
    /// Its tasks, as an import takes them.
    fn export_plan(&self, id: PlanId) -> Answer<'_, api::Import>;
}
