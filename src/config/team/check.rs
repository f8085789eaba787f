//! What single values of a team cannot tell: slices that would nest, members that cannot share a worktree.

use crate::config::Config;
use crate::config::read::{Reader, dotted};
use crate::config::tree::{Table, place_of};
use crate::core::profile::AgentKind;
use crate::core::team::{Role, TeamName};
use std::collections::BTreeSet;

/// Notes everything about teams that does not fit together.
pub(in crate::config) fn whole(config: &Config, tree: &Table, reader: &Reader) {
    let problem = |path: &[&str], message: String| {
        let key = path.iter().fold(String::new(), |parent, key| dotted(&parent, key));
        reader.problem(place_of(tree, path), key, message);
    };
    for (team, of) in &config.teams {
        for outer in config.teams.keys().filter(|outer| outer.contains(team)) {
            let message =
                format!("its slice would be inside that of the team {outer}, and the limits of {outer} would hold for both together; rename one of them");
            problem(&["teams", team.as_str()], message);
        }
        let users: BTreeSet<_> = of.roles.values().filter(|role| role.shared && role.replicas != Some(0)).map(|role| role.user.as_deref()).collect();
        if users.len() > 1 {
            let message = "its members share a worktree, but not a user; say the same user for all of them, or worktree = \"own\"";
            problem(&["teams", team.as_str(), "members"], message.to_owned());
        }
        for (role, of) in &of.roles {
            let at = |key| ["teams", team.as_str(), "members", role.as_str(), key];
            if of.limits.high_is_above_max() {
                problem(&at("limits"), "memory-high is more than memory, which kills first; say both together".to_owned());
            }
            let agent = config.profiles.get(&of.profile).map(|profile| profile.profile.agent);
            if of.system_prompt.is_some() && agent == Some(AgentKind::Command) {
                let message = format!("means nothing with the profile {:?}, whose agent is a command; put what it needs into the tasks", of.profile);
                problem(&at("system-prompt"), message);
            }
        }
    }
    for (name, instance) in &config.instances {
        let strange = |team: &&TeamName| *team == name || (team.contains(name) && instance.member.as_ref().is_none_or(|member| member.team != **team));
        for team in config.teams.keys().filter(strange) {
            let roles = config.teams.get(team).into_iter().flat_map(|of| of.roles.keys()).map(Role::as_str).collect::<Vec<_>>().join(", ");
            let message = format!(
                "its slice would be in that of the team {team}, of which it is no member (roles: {roles}); rename it, or add its role to [teams.{team}.members]"
            );
            problem(&["instances", name.as_str()], message);
        }
    }
}
