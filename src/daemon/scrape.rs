//! What a scrape begins with: the engine's state, and where the instances' cgroups are.

use super::engine::State;
use crate::core::ids::InstanceName;
use crate::core::instance::ActiveState;
use crate::core::task::TaskState;
use crate::core::team::TeamName;
use crate::metrics::{InstanceSample, QueueSample, Snapshot};
use crate::platform::cgroup::Group;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The group that holds everything of an instance: its slice where its service is in one, else its service.
pub(super) fn instance_group(mount: &Path, control_group: &str) -> Group {
    let service = mount.join(control_group.trim_start_matches('/'));
    match service.parent() {
        Some(slice) if slice.extension().is_some_and(|e| e == "slice") => Group::at(slice),
        _ => Group::at(service),
    }
}

/// The engine's view. Counts of ended tasks are the store's.
pub(super) fn snapshot(state: &State, mount: Option<&Path>, supervisor: &'static str) -> Snapshot {
    let fleet = mount.zip(state.fleet.control_group()).map(|(mount, group)| mount.join(group.trim_start_matches('/')));
    let names: BTreeSet<&InstanceName> = state.config.instances.keys().chain(state.fleet.iter().map(|seen| &seen.name)).collect();
    let instances = names.into_iter().map(|name| {
        let seen = state.fleet.get(name);
        let control_group = seen.map(|s| s.control_group.as_str()).filter(|g| !g.is_empty());
        let cgroup = mount.and_then(|mount| match control_group {
            Some(group) => Some(instance_group(mount, group).path().to_owned()),
            None => Some(slice_below(fleet.as_deref()?, name)),
        });
        let service = mount.zip(control_group).map(|(mount, group)| mount.join(group.trim_start_matches('/')));
        InstanceSample {
            name: name.clone(),
            active: seen.map_or(ActiveState::Inactive, |s| s.active),
            since: seen.and_then(|s| s.since),
            profile: state.config.instance(name).profile,
            member: state.config.instances.get(name).and_then(|i| i.member.as_ref()).map(|member| (member.team.clone(), member.role.to_string())),
            service: service.filter(|service| !state.config.instances.contains_key(name) && cgroup.as_ref() != Some(service)),
            cgroup,
            linked: state.queue.is_linked(name),
            worktree_bytes: state.worktrees.get(name).and_then(|seen| seen.bytes),
        }
    });
    let mut tasks = BTreeMap::new();
    for task in state.queue.tasks() {
        *tasks.entry(task.state.name()).or_default() += 1;
    }
    Snapshot {
        now: Timestamp::now(),
        supervisor,
        supervisor_connected: state.fleet.problem().is_none(),
        instances: instances.collect(),
        teams: fleet.iter().flat_map(|fleet| state.config.teams.keys().map(|team| (team.clone(), team_group(fleet, supervisor, team)))).collect(),
        fleet: fleet.clone(),
        tasks,
        locks: state.desk.locks.iter().len(),
        lock_waits: state.desk.locks.waits().len(),
        holds: state.queue.holds().map(|(account, until)| (account.to_owned(), until)).collect(),
        queue: queue(state, Timestamp::now()),
    }
}

/// What keeps tasks from starting, and what they have cost today.
fn queue(state: &State, now: Timestamp) -> QueueSample {
    let mut pauses = BTreeMap::new();
    for (scope, _) in state.queue.pauses() {
        *pauses.entry(scope.kind()).or_default() += 1;
    }
    // Of the configured groups alone: anyone may make up others.
    let mut groups: BTreeMap<String, (u64, u64)> = state.config.queue.groups.keys().map(|name| (name.to_string(), (0, 0))).collect();
    if !groups.is_empty() {
        for task in state.queue.tasks() {
            let Some((pending, at_work)) = task.terms.group.as_ref().and_then(|group| groups.get_mut(group.as_str())) else { continue };
            *(if matches!(task.state, TaskState::Pending { .. }) { pending } else { at_work }) += 1;
        }
    }
    let spent = state.queue.spent_today(now).into_iter().map(|(name, cost)| (name.to_string(), cost.dollars())).collect();
    QueueSample { waiting: state.queue.waiting(now), pauses, groups, spent }
}

/// Adds the counts of ended tasks; of those that have not ended the queue knows better.
pub(super) fn add_ended(snapshot: &mut Snapshot, counts: Vec<(String, u64)>) {
    for (state, count) in counts {
        if let Some(name) = TaskState::NAMES.into_iter().find(|name| *name == state) {
            snapshot.tasks.entry(name).or_insert(count);
        }
    }
}

/// The group that holds everything of a team, where the fleet's is: a slice of systemd's, or a group of the process supervisor's.
pub(super) fn team_group(fleet: &Path, supervisor: &str, team: &TeamName) -> PathBuf {
    if supervisor == "process" { fleet.join(format!("@{team}")) } else { slice_below(fleet, team) }
}

/// Where systemd puts an instance's slice below the fleet's: each dash nests one deeper (systemd.slice(5)).
fn slice_below(fleet: &Path, name: &InstanceName) -> PathBuf {
    let slice = name.slice();
    let stem = slice.trim_end_matches(".slice");
    let dashes = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    // The first two are the fleet's own: claude.slice and claude-code.slice.
    fleet.join(dashes.skip(2).filter_map(|at| stem.get(..at)).map(|part| format!("{part}.slice")).collect::<PathBuf>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest_by_dashes() {
        let name: InstanceName = "team-boss".parse().expect("valid");
        let path = "claude.slice/claude-code.slice/claude-code-team.slice/claude-code-team-boss.slice";
        assert_eq!(slice_below(Path::new("/m/claude.slice/claude-code.slice"), &name), Path::new("/m").join(path));
        assert_eq!(instance_group(Path::new("/m"), &format!("/{path}/claude-code@team-boss.service")).path(), Path::new("/m").join(path));
        assert_eq!(instance_group(Path::new("/m"), "/x/clauded/a").path(), Path::new("/m/x/clauded/a"));
    }
}
