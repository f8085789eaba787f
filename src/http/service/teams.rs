//! The verbs on teams.

use super::{Answer, Caller};
use crate::core::team::TeamName;
use crate::proto::api;

/// The verbs on teams.
pub trait Teams: Send + Sync {
    /// All teams with their members.
    fn teams(&self) -> Answer<'_, Vec<api::Team>>;
    /// One team.
    fn team(&self, name: TeamName) -> Answer<'_, api::Team>;
    /// Writes it into the configuration if need be, and starts its members.
    fn team_up(&self, caller: Caller, name: TeamName, wanted: api::TeamUp) -> Answer<'_, api::TeamOutcome>;
    /// Stops its members; takes it out of the configuration if that is wanted.
    fn team_down(&self, caller: Caller, name: TeamName, wanted: api::TeamDown) -> Answer<'_, api::TeamOutcome>;
    /// Changes how many members it has.
    fn team_scale(&self, caller: Caller, name: TeamName, wanted: api::TeamScale) -> Answer<'_, api::TeamOutcome>;
}
