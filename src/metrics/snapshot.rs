//! What the daemon knows at the moment of a scrape, and the families that come from it.

use super::page::{Kind, Page};
use crate::core::ids::InstanceName;
use crate::core::instance::ActiveState;
use crate::core::queue::{Scope, Wait};
use crate::core::task::TaskState;
use crate::core::team::TeamName;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The daemon's view of everything, taken at once.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub now: Timestamp,
    /// `systemd`, `systemd-user` or `process`.
    pub supervisor: &'static str,
    /// Whether the supervisor can be reached.
    pub supervisor_connected: bool,
    /// All instances, ordered by name.
    pub instances: Vec<InstanceSample>,
    /// The teams with the directories of their cgroups; none where there is no cgroup v2. One that does not exist has no numbers.
    pub teams: Vec<(TeamName, PathBuf)>,
    /// The directory of the fleet's cgroup, `claude-code.slice`; `None` where there is no cgroup v2.
    pub fleet: Option<PathBuf>,
    /// Tasks in the store by [`TaskState::name`]; states that are missing count as 0.
    pub tasks: BTreeMap<&'static str, u64>,
    /// Usage limits in force: account and reset time.
    pub holds: BTreeMap<String, Timestamp>,
    /// Locks that are held.
    pub locks: usize,
    /// Requests that wait for one.
    pub lock_waits: usize,
    /// What keeps tasks.
    pub queue: QueueSample,
}

/// What keeps tasks from starting, and what they have cost today.
#[derive(Clone, Debug, Default)]
pub struct QueueSample {
    /// Tasks that wait, by [`Wait::name`]; causes that are missing count as 0.
    pub waiting: BTreeMap<&'static str, u64>,
    /// What is paused, by [`Scope::kind`].
    pub pauses: BTreeMap<&'static str, u64>,
    /// Of each configured group: tasks that wait, and tasks at work.
    pub groups: BTreeMap<String, (u64, u64)>,
    /// What each instance has spent today, in US dollars.
    pub spent: BTreeMap<String, f64>,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct InstanceSample {
    /// Its name.
    pub name: InstanceName,
    /// Its unit's state.
    pub active: ActiveState,
    /// Since when it is active.
    pub since: Option<Timestamp>,
    /// Its profile.
    pub profile: String,
    /// Its team and its role there, if it is a member of one.
    pub member: Option<(TeamName, String)>,
    /// The absolute directory of its slice's cgroup; `None` where there is no cgroup v2. One that does not exist has no numbers.
    pub cgroup: Option<PathBuf>,
    /// The same of its service, where that has limits of its own: an instance without configuration.
    pub service: Option<PathBuf>,
    /// Whether its runner is connected.
    pub linked: bool,
    /// What its worktree takes on disk, bytes, once it was measured.
    pub worktree_bytes: Option<u64>,
}

/// Seconds since the epoch.
fn epoch_seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

/// Adds what comes from the snapshot alone.
pub(super) fn add(page: &mut Page, snapshot: &Snapshot) {
    page.family("clauded_build_info", "The version of this clauded; always 1.", Kind::Gauge).add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.family("clauded_supervisor_connected", "Whether the supervisor (systemd over D-Bus, or clauded's own) can be reached.", Kind::Gauge)
        .add(&[("supervisor", snapshot.supervisor)], f64::from(snapshot.supervisor_connected));
    let linked = u32::try_from(snapshot.instances.iter().filter(|i| i.linked).count()).unwrap_or(u32::MAX);
    page.gauge("clauded_links", "Runners that are connected.", Some(f64::from(linked)));
    let count = |count: usize| Some(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    page.gauge("clauded_locks", "Locks that are held.", count(snapshot.locks));
    page.gauge("clauded_lock_waits", "Requests that wait for a lock.", count(snapshot.lock_waits));
    add_tasks(page, snapshot);
    add_instances(page, &snapshot.instances);
}

fn add_tasks(page: &mut Page, snapshot: &Snapshot) {
    let mut tasks = page.family("clauded_tasks", "Tasks in the store by state.", Kind::Gauge);
    for state in TaskState::NAMES {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
        tasks.add(&[("state", state)], snapshot.tasks.get(state).copied().unwrap_or(0) as f64);
    }
    drop(tasks);
    let mut holds = page.family("clauded_usage_limit_hold_seconds", "Seconds until the account's usage limit resets; its tasks wait until then.", Kind::Gauge);
    for (account, until) in &snapshot.holds {
        holds.add(&[("account", account)], until.duration_since(snapshot.now).as_secs_f64().max(0.0));
    }
    drop(holds);
    add_queue(page, &snapshot.queue);
}

#[expect(clippy::cast_precision_loss, reason = "counts are exact below 2^53")]
fn add_queue(page: &mut Page, queue: &QueueSample) {
    let mut waiting = page.family("clauded_tasks_waiting", "Pending tasks by what keeps them.", Kind::Gauge);
    for cause in Wait::NAMES {
        waiting.add(&[("cause", cause)], queue.waiting.get(cause).copied().unwrap_or(0) as f64);
    }
    drop(waiting);
    let mut pauses = page.family("clauded_pauses", "Things that somebody has paused.", Kind::Gauge);
    for kind in Scope::KINDS {
        pauses.add(&[("kind", kind)], queue.pauses.get(kind).copied().unwrap_or(0) as f64);
    }
    drop(pauses);
    let mut groups = page.family("clauded_group_tasks", "Tasks of the configured groups that have not ended.", Kind::Gauge);
    for (group, (pending, at_work)) in &queue.groups {
        groups.add(&[("group", group), ("state", "pending")], *pending as f64);
        groups.add(&[("group", group), ("state", "at-work")], *at_work as f64);
    }
    drop(groups);
    let mut spent = page.family("clauded_spend_today_usd", "Cost in US dollars since midnight of the host, what runs included.", Kind::Gauge);
    for (instance, dollars) in &queue.spent {
        spent.add(&[("instance", instance)], *dollars);
    }
}

fn add_instances(page: &mut Page, instances: &[InstanceSample]) {
    let mut info = page.family("clauded_instance_info", "The profile of an instance, and its team and role if it has some; always 1.", Kind::Gauge);
    for instance in instances {
        // To Prometheus an empty label is the same as none.
        let (team, role) = instance.member.as_ref().map_or(("", ""), |(team, role)| (team.as_str(), role.as_str()));
        info.add(&[("instance", instance.name.as_str()), ("profile", &instance.profile), ("role", role), ("team", team)], 1.0);
    }
    drop(info);
    let mut state = page.family("clauded_instance_state", "1 for the state that the instance's unit is in, 0 for the others.", Kind::Gauge);
    for instance in instances {
        for one in ActiveState::ALL {
            state.add(&[("instance", instance.name.as_str()), ("state", one.name())], f64::from(instance.active == one));
        }
    }
    drop(state);
    let mut start = page.family("clauded_instance_start_time_seconds", "When the instance became active, in seconds since the epoch.", Kind::Gauge);
    for instance in instances {
        start.add_some(&[("instance", instance.name.as_str())], instance.since.map(epoch_seconds));
    }
    drop(start);
    let mut disk = page.family("clauded_worktree_disk_bytes", "What the instance's worktree took on disk when its last task ended.", Kind::Gauge);
    for instance in instances {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
        disk.add_some(&[("instance", instance.name.as_str())], instance.worktree_bytes.map(|bytes| bytes as f64));
    }
    drop(disk);
    let mut linked = page.family("clauded_instance_linked", "Whether the instance's runner is connected.", Kind::Gauge);
    for instance in instances {
        linked.add(&[("instance", instance.name.as_str())], f64::from(instance.linked));
    }
}
