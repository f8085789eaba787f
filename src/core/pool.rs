//! What dispatch is told of the instances and of the bounds: who is in which team, who can do what, how much may run at once.

pub use super::team::{Budget, Policy};

use super::ids::InstanceName;
use super::label::Label;
use super::terms::Demand;
use super::usage::Usd;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What one instance brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its team.
    pub team: Option<Label>,
    /// Its role there.
    pub role: Option<Label>,
    /// What it is good at.
    pub specialties: BTreeSet<Label>,
    /// Whatever else tasks may ask for.
    pub labels: BTreeSet<Label>,
    /// The repository that it works on.
    pub repository: Option<Label>,
    /// Most tasks at once of all that share its team and role.
    pub max_concurrent: Option<u32>,
    /// Most that its work may cost.
    pub budget: Budget,
}

impl Member {
    /// Whether it brings all that a task demands.
    pub fn serves(&self, demand: &Demand) -> bool {
        let same = |wanted: &Option<Label>, has: &Option<Label>| wanted.is_none() || wanted == has;
        same(&demand.team, &self.team)
            && same(&demand.role, &self.role)
            && same(&demand.repository, &self.repository)
            && demand.specialty.as_ref().is_none_or(|wanted| self.specialties.contains(wanted))
            && demand.labels.is_subset(&self.labels)
    }
}

/// A team as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Team {
    /// Who gets a task that asks for the team.
    pub policy: Policy,
    /// Most tasks of the team at once.
    pub max_concurrent: Option<u32>,
    /// Most that its work may cost.
    pub budget: Budget,
}

/// Everything that the configuration says to the queue.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What a step of priority is worth.
    pub ageing: Duration,
    /// The configured instances.
    pub members: BTreeMap<InstanceName, Member>,
    /// Of an instance that is not configured.
    pub stranger: Member,
    /// The memory limits that an instance may be given for a task that has run out of memory, in bytes.
    pub size_classes: Vec<u64>,
    /// The teams.
    pub teams: BTreeMap<Label, Team>,
    /// Most tasks at once of a group.
    pub groups: BTreeMap<Label, u32>,
    /// Most tasks at once on a repository.
    pub repositories: BTreeMap<Label, u32>,
    /// What all work together may cost a day.
    pub budget_per_day: Option<Usd>,
    /// Where days begin: the host's time zone.
    pub zone: TimeZone,
}

/// What a step of priority is worth where nothing is said.
pub const AGEING: Duration = Duration::from_secs(30 * 60);

impl Default for Rules {
    fn default() -> Self {
        Self {
            ageing: AGEING,
            members: BTreeMap::new(),
            stranger: Member::default(),
            size_classes: Vec::new(),
            teams: BTreeMap::new(),
            groups: BTreeMap::new(),
            repositories: BTreeMap::new(),
            budget_per_day: None,
            zone: TimeZone::UTC,
        }
    }
}

impl Rules {
    /// What an instance brings.
    pub fn member(&self, name: &InstanceName) -> &Member {
        self.members.get(name).unwrap_or(&self.stranger)
    }
}
