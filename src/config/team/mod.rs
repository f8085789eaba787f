//! `[teams.NAME]` and `[team-templates.NAME]`: a team's members become ordinary instances, with a word on where they belong.

mod check;
mod read;
#[cfg(test)]
mod tests;

pub(super) use check::whole;
pub(super) use read::{Drafts, drafts};

use super::{Config, InstanceConfig};
use crate::core::ids::InstanceName;
use crate::core::limits::Limits;
use crate::core::profile::Profile;
use crate::core::team::{Budget, Policy, Role, TeamName, place_in};
use std::collections::BTreeMap;

/// The template of a team that is brought up by its name alone.
pub const CLASSIC: &str = "classic";

/// One team.
#[derive(Clone, Debug, PartialEq)]
pub struct TeamConfig {
    /// `template`
    pub template: Option<String>,
    /// `repository`
    pub repository: Option<String>,
    /// `limits` of the team's slice, which contains those of its members; what is `None` is not limited.
    pub limits: Limits,
    /// `max-concurrent-tasks` of all members together.
    pub max_concurrent_tasks: Option<u32>,
    /// `policy`
    pub policy: Policy,
    /// `budget`
    pub budget: Budget,
    /// `autostart`: started at boot.
    pub autostart: bool,
    /// `members`
    pub roles: BTreeMap<Role, RoleConfig>,
}

/// What holds for the members of one role.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleConfig {
    /// `profile`
    pub profile: String,
    /// `replicas`; `None` for one member that is no copy, and has no number in its name.
    pub replicas: Option<u32>,
    /// `worktree = "shared"`
    pub shared: bool,
    /// `limits` of each member's slice, `[defaults]` applied.
    pub limits: Limits,
    /// `role-limits` of the slice of all members of the role together.
    pub role_limits: Limits,
    /// `specialties`
    pub specialties: Vec<String>,
    /// `labels`
    pub labels: Vec<String>,
    /// `max-concurrent-tasks` of all members of the role together.
    pub max_concurrent_tasks: Option<u32>,
    /// `system-prompt`, after the profile's.
    pub system_prompt: Option<String>,
    /// `user`
    pub user: Option<String>,
}

impl RoleConfig {
    /// The numbers of its members; one without for a role that one member fills.
    pub fn numbers(&self) -> impl Iterator<Item = Option<u32>> + use<> {
        let (first, last) = self.replicas.map_or((None, 0), |last| (Some(1), last));
        let single = self.replicas.is_none().then_some(None);
        single.into_iter().chain(first.into_iter().flat_map(move |first| (first..=last).map(Some)))
    }
}

impl Config {
    /// The members of a team, by role and number.
    pub fn members<'c>(&'c self, team: &'c TeamName) -> impl Iterator<Item = (&'c InstanceName, &'c InstanceConfig)> {
        let belongs = |instance: &InstanceConfig| instance.member.as_ref().is_some_and(|member| member.team == *team);
        let mut members: Vec<_> = self.instances.iter().filter(|(_, instance)| belongs(instance)).collect();
        members.sort_by_key(|(_, instance)| instance.member.as_ref().map(|member| (&member.role, member.number)));
        members.into_iter()
    }

    /// The team that an instance was a member of before there were fewer of its role: it ends what it does, and is stopped.
    pub fn surplus_of(&self, name: &InstanceName) -> Option<&TeamName> {
        let (team, config) = self.teams.iter().find(|(team, _)| team.contains(name))?;
        let (role, number) = place_in(team, name)?;
        let role = config.roles.get(&role)?;
        (number.zip(role.replicas).is_some_and(|(number, replicas)| number > replicas)).then_some(team)
    }

    /// The limits of the slices around an instance's own, outermost first, the fleet's left out: name of the slice without
    /// what all have in common, and its limits.
    pub fn around(&self, name: &InstanceName) -> Vec<(String, Limits)> {
        let Some(member) = self.instances.get(name).and_then(|instance| instance.member.as_ref()) else { return Vec::new() };
        let Some(team) = self.teams.get(&member.team) else { return Vec::new() };
        let mut around = vec![(member.team.to_string(), team.limits)];
        if let Some(role) = team.roles.get(&member.role).filter(|_| member.number.is_some()) {
            around.push((format!("{}-{}", member.team, member.role), role.role_limits));
        }
        around
    }

    /// The profile of an instance, a member's own words added to those for its agent; `None` if there is no such profile.
    pub fn profile_of(&self, name: &InstanceName) -> Option<Profile> {
        let instance = self.instance(name);
        let mut profile = self.profiles.get(&instance.profile)?.profile.clone();
        let member = instance.member.as_ref();
        let role = member.and_then(|member| self.teams.get(&member.team)?.roles.get(&member.role));
        if let Some(words) = role.and_then(|role| role.system_prompt.as_deref()) {
            let before = profile.system_prompt.map(|text| format!("{text}\n\n")).unwrap_or_default();
            profile.system_prompt = Some(before + words);
        }
        Some(profile)
    }
}
