//! From the merged tree to a [`Config`]: every key there is, with its default. Never stops at a problem.

use super::problem::Problem;
use super::read::{Reader, Section};
use super::tree::Table;
use super::{
    Api, Audit, Config, Defaults, Fleet, Group, InstanceConfig, Locks, Metrics, Paths, ProfileConfig, Queue, Repository, Store, Supervisor, check, team, value,
};
use crate::core::checkout::{Source, Verify};
use crate::core::ids::InstanceName;
use crate::core::label::Label;
use crate::core::limits::{Limits, MemoryLimit, TasksMax};
use crate::core::lock::{Policy, TTL_MAX};
use crate::core::pool::AGEING;
use crate::core::profile::{AgentKind, Profile};
use crate::core::team::Budget;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK_POLICIES: [(&str, Policy); 2] = [("warn", Policy::Warn), ("refuse", Policy::Refuse)];
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The profile that is always there.
const BUILT_IN_PROFILE: &str = "claude";
/// `kill-grace` passes twice before the kernel kills, and `TimeoutStopSec=` of the unit is 90 s.
const KILL_GRACE_MAX: Duration = Duration::from_secs(40);

/// `[fleet.limits]` where nothing is said: the rest of the host keeps a tenth of its memory.
const FLEET_LIMITS: Limits = Limits {
    memory: Some(MemoryLimit::PercentOfHost(90)),
    memory_high: Some(MemoryLimit::PercentOfHost(80)),
    swap: None,
    cpu: None,
    cpu_weight: None,
    io_weight: None,
    tasks: None,
};

/// `[defaults.limits]` where nothing is said; `claude-code@.service` has the same.
const INSTANCE_LIMITS: Limits = Limits {
    memory: Some(MemoryLimit::Bytes(4 << 30)),
    memory_high: Some(MemoryLimit::Bytes(3584 << 20)),
    swap: Some(MemoryLimit::Bytes(1 << 30)),
    cpu: None,
    cpu_weight: None,
    io_weight: None,
    tasks: Some(TasksMax::Count(1024)),
};

/// The configuration that the tree says, and everything that is wrong with it; only without problems may it be used.
pub(super) fn resolve(tree: &Table, paths: &Paths) -> (Config, Vec<Problem>) {
    let reader = Reader::new(&paths.config);
    let mut root = reader.root(tree);
    let fleet = fleet(root.section("fleet"), paths);
    let defaults = defaults(root.section("defaults"));
    let repositories = repositories(&mut root, &fleet.worktree_root);
    let profiles = profiles(&mut root);
    let roots = Roots { fleet: &fleet.worktree_root, repositories: &repositories };
    let team::Drafts { teams, instances } = instances(&mut root, &roots, &defaults);
    let queue = queue(root.section("queue"));
    let locks = locks(root.section("locks"));
    let api = api(root.section("api"), paths);
    let metrics = metrics(root.section("metrics"));
    let store = store(root.section("store"), paths);
    let audit = audit(root.section("audit"));
    root.finish();
    let config = Config { fleet, defaults, repositories, profiles, teams, instances, queue, locks, api, metrics, store, audit };
    check::whole(&config, tree, &reader);
    team::whole(&config, tree, &reader);
    (config, reader.finish())
}

fn fleet(mut table: Section<'_>, paths: &Paths) -> Fleet {
    const SUPERVISORS: [(&str, Supervisor); 4] =
        [("auto", Supervisor::Auto), ("systemd", Supervisor::Systemd), ("systemd-user", Supervisor::SystemdUser), ("process", Supervisor::Process)];
    let fleet = Fleet {
        supervisor: table.get("supervisor", |node| value::choice(node, &SUPERVISORS)).unwrap_or_default(),
        limits: limits(table.section("limits"), FLEET_LIMITS),
        worktree_root: table.get("worktree-root", value::path).unwrap_or_else(|| paths.instances.join("worktrees")),
        budget_per_day: table.get("budget-per-day", value::dollars),
    };
    table.finish();
    fleet
}

fn defaults(mut table: Section<'_>) -> Defaults {
    let defaults = Defaults {
        profile: table.get("profile", value::line).unwrap_or_else(|| BUILT_IN_PROFILE.to_owned()),
        limits: limits(table.section("limits"), INSTANCE_LIMITS),
        task_timeout: table.get("task-timeout", value::duration).unwrap_or(120 * MINUTE),
        budget_per_day: table.get("budget-per-day", value::dollars),
    };
    table.finish();
    defaults
}

pub(super) fn limits(mut table: Section<'_>, otherwise: Limits) -> Limits {
    let said = Limits {
        memory: table.get("memory", value::memory),
        memory_high: table.get("memory-high", value::memory),
        swap: table.get("swap", value::swap),
        cpu: table.get("cpu", value::parsed),
        cpu_weight: table.get("cpu-weight", value::weight),
        io_weight: table.get("io-weight", value::weight),
        tasks: table.get("tasks", value::tasks),
    };
    let limits = said.with_memory_high().or(otherwise);
    // Limits that only come from elsewhere have been told of there.
    if !said.is_empty()
        && limits.high_is_above_max()
        && let (Some(high), Some(max)) = (limits.memory_high, limits.memory)
    {
        let message = format!("{high} is more than memory = \"{max}\", which kills first; lower it, or leave it out for seven eighths of memory");
        table.problem("memory-high", message);
    }
    table.finish();
    limits
}

fn repositories(root: &mut Section<'_>, worktree_root: &Path) -> BTreeMap<String, Repository> {
    let said = root.each("repositories");
    said.into_iter().map(|(name, table)| (name.to_owned(), repository(name, table, worktree_root))).collect()
}

fn repository(name: &str, mut table: Section<'_>, worktree_root: &Path) -> Repository {
    plain_name(name, &table);
    if name.to_ascii_lowercase().ends_with(".git") || name.ends_with('.') {
        table.problem("", format!("{name:?} ends with '.' or \".git\"; the clone's directory has a \".git\" of its own"));
    }
    let path = table.get("path", value::path).map(Source::Path);
    let url = table.get("url", value::url);
    match (table.has("path"), table.has("url")) {
        (false, false) => table.problem("path", "is missing; write where the repository is, or its url".to_owned()),
        (true, true) => table.problem("url", "stands beside path; a repository is local (path) or remote (url)".to_owned()),
        _ => {}
    }
    let repository = Repository {
        source: path.or(url).unwrap_or(Source::Path(PathBuf::new())),
        default_branch: table.get("default-branch", value::branch),
        worktree_root: table.get("worktree-root", value::path).unwrap_or_else(|| worktree_root.to_owned()),
        branch: table.get("branch", value::parsed).unwrap_or_default(),
        verify: verify(&mut table),
        author_name: table.get("author-name", value::author),
        author_email: table.get("author-email", value::author),
        push: table.get("push", value::remote),
        caches: table.get("caches", value::caches).unwrap_or_default(),
        max_concurrent_tasks: table.get("max-concurrent-tasks", |node| value::count(node, 1..=u32::MAX)),
        keep: table.get("keep", value::duration),
        features: table.get("features", value::features).unwrap_or_default(),
        lock_policy: table.get("lock-policy", |node| value::choice(node, &LOCK_POLICIES)).unwrap_or_default(),
    };
    table.finish();
    repository
}

/// A list is the command alone; a table says more.
fn verify(table: &mut Section<'_>) -> Option<Verify> {
    const TIMEOUT: Duration = MINUTE.saturating_mul(30);
    if !table.is_table("verify") {
        return table.get("verify", value::check_command).map(|command| Verify { command, timeout: TIMEOUT, memory: None });
    }
    let mut table = table.section("verify");
    let command = table.get("command", value::check_command);
    if command.is_none() && !table.has("command") {
        table.problem("command", "is missing; write the program, such as [\"make\", \"test\"]".to_owned());
    }
    let verify = Verify {
        command: command.unwrap_or_default(),
        timeout: table.get("timeout", value::duration).unwrap_or(TIMEOUT),
        memory: table.get("memory", value::size),
    };
    table.finish();
    Some(verify)
}

pub(super) fn plain_name(name: &str, table: &Section<'_>) {
    if !value::is_plain_name(name) {
        table.problem("", format!("{name:?} is no name; use 1 to 64 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"));
    }
}

fn profiles(root: &mut Section<'_>) -> BTreeMap<String, ProfileConfig> {
    let said = root.each("profiles");
    let mut profiles: BTreeMap<String, ProfileConfig> = said.into_iter().map(|(name, table)| (name.to_owned(), profile(name, table))).collect();
    if !profiles.contains_key(BUILT_IN_PROFILE) {
        let empty = Table::new();
        let reader = Reader::new(Path::new(""));
        profiles.insert(BUILT_IN_PROFILE.to_owned(), profile(BUILT_IN_PROFILE, reader.root(&empty)));
    }
    profiles
}

fn profile(name: &str, mut table: Section<'_>) -> ProfileConfig {
    plain_name(name, &table);
    let agent = table.get("agent", |node| value::choice(node, &[("claude", AgentKind::Claude), ("command", AgentKind::Command)]));
    let agent = agent.unwrap_or(AgentKind::Claude);
    let command = table.get("command", value::command);
    if agent == AgentKind::Command {
        if command.is_none() && !table.has("command") {
            table.problem("command", "is missing; with agent = \"command\" write the program, such as [\"gemini\", \"--yolo\"]".to_owned());
        }
        for key in ["model", "permission-mode", "system-prompt", "trust-repository"].into_iter().filter(|key| table.has(key)) {
            table.problem(key, "means nothing with agent = \"command\"; put what the program needs into command or environment".to_owned());
        }
    }
    let (kind, permission_mode) = match agent {
        AgentKind::Claude => ("claude", Some("bypassPermissions")),
        AgentKind::Command => ("command", None),
    };
    let modes = ["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "manual", "plan"].map(|mode| (mode, mode));
    let profile = Profile {
        name: name.to_owned(),
        agent,
        command: command.unwrap_or_else(|| vec![kind.to_owned()]),
        model: table.get("model", value::line),
        permission_mode: table.get("permission-mode", |node| value::choice(node, &modes)).or(permission_mode).map(str::to_owned),
        system_prompt: table.get("system-prompt", value::text).map(str::to_owned),
        trust_repository: table.get("trust-repository", value::boolean).unwrap_or(false),
        environment: table.get("environment", value::environment).unwrap_or_default(),
        stall_timeout: table.get("stall-timeout", value::duration).unwrap_or(15 * MINUTE),
        kill_grace: table.get("kill-grace", value::duration).unwrap_or(Duration::from_secs(10)),
        log_max: table.get("log-max", value::size).unwrap_or(64 << 20),
        pressure_percent: table.get("pressure-percent", value::percent).unwrap_or(60),
        pressure_time: table.get("pressure-time", value::duration).unwrap_or(MINUTE / 2),
    };
    if profile.kill_grace > KILL_GRACE_MAX {
        table.problem("kill-grace", "is more than 40s; systemd gives the unit 90s to stop, and it passes twice".to_owned());
    }
    let config = ProfileConfig {
        profile,
        account: table.get("account", value::line).unwrap_or_else(|| kind.to_owned()),
        credential_file: table.get("credential-file", value::path),
        credential_variable: table.get("credential-variable", value::variable).unwrap_or_else(|| "ANTHROPIC_API_KEY".to_owned()),
        verify_attempts: table.get("verify-attempts", value::few).unwrap_or(2),
    };
    table.finish();
    config
}

/// Where worktrees are.
pub(super) struct Roots<'a> {
    fleet: &'a Path,
    repositories: &'a BTreeMap<String, Repository>,
}

impl Roots<'_> {
    /// Those of a repository, or of none.
    pub(super) fn of(&self, repository: Option<&str>) -> &Path {
        repository.and_then(|name| self.repositories.get(name)).map_or(self.fleet, |repository| &repository.worktree_root)
    }
}

/// The teams with their members, and the instances that have a table; that of a member is laid over what its team says.
fn instances(root: &mut Section<'_>, roots: &Roots<'_>, defaults: &Defaults) -> team::Drafts {
    let mut drafts = team::drafts(root, roots, defaults);
    let mut said = BTreeMap::new();
    for (text, mut table) in root.each("instances") {
        let name = text.parse::<InstanceName>();
        let repository = table.get("repository", value::line);
        let base = name.as_ref().ok().and_then(|name| drafts.instances.get(name)).cloned().unwrap_or_else(|| InstanceConfig {
            directory: roots.of(repository.as_deref()).join(text),
            repository: None,
            profile: defaults.profile.clone(),
            user: None,
            limits: defaults.limits,
            autostart: false,
            member: None,
            specialties: BTreeSet::new(),
            labels: BTreeSet::new(),
            budget: Budget { total: None, day: defaults.budget_per_day },
        });
        let instance = InstanceConfig {
            directory: table.get("directory", value::path).unwrap_or(base.directory),
            repository: repository.or(base.repository),
            profile: table.get("profile", value::line).unwrap_or(base.profile),
            user: table.get("user", value::user).or(base.user),
            limits: limits(table.section("limits"), base.limits),
            autostart: table.get("autostart", value::boolean).unwrap_or(base.autostart),
            member: base.member,
            specialties: table.get("specialties", value::labels).unwrap_or(base.specialties),
            labels: table.get("labels", value::labels).unwrap_or(base.labels),
            budget: budget(table.section("budget"), base.budget),
        };
        match name {
            Ok(name) if drafts.is_away(&name) => {}
            Ok(name) => {
                said.insert(name, instance);
            }
            Err(error) => table.problem("", error.to_string()),
        }
        table.finish();
    }
    drafts.instances.extend(said);
    drafts
}

fn budget(mut table: Section<'_>, otherwise: Budget) -> Budget {
    let said = Budget { total: table.get("total", value::dollars), day: table.get("day", value::dollars) };
    table.finish();
    said.or(otherwise)
}

fn queue(mut table: Section<'_>) -> Queue {
    let ageing = table.get("ageing", value::duration).unwrap_or(AGEING);
    let size_classes = table.get("size-classes", value::sizes).unwrap_or_default();
    let mut groups = BTreeMap::new();
    for (name, mut group) in table.each("groups") {
        let most = group.get("max-concurrent-tasks", |node| value::count(node, 1..=u32::MAX));
        if most.is_none() && !group.has("max-concurrent-tasks") {
            group.problem("max-concurrent-tasks", "is missing; write how many tasks of the group may run at once".to_owned());
        }
        match name.parse::<Label>() {
            Ok(name) => {
                groups.insert(name, Group { max_concurrent_tasks: most.unwrap_or(1) });
            }
            Err(error) => group.problem("", error.to_string()),
        }
        group.finish();
    }
    table.finish();
    Queue { ageing, size_classes, groups }
}

fn locks(mut table: Section<'_>) -> Locks {
    let locks = Locks { ttl: table.get("ttl", value::duration).unwrap_or(60 * MINUTE) };
    if locks.ttl > TTL_MAX {
        table.problem("ttl", "is more than 7 days; a lock of a running task is renewed by itself".to_owned());
    }
    table.finish();
    locks
}

fn api(mut table: Section<'_>, paths: &Paths) -> Api {
    let api = Api {
        listen: table.get("listen", value::listen).unwrap_or_else(|| Some(([127, 0, 0, 1], 8888).into())),
        token_file: table.get("token-file", value::path).unwrap_or_else(|| paths.state.join("token")),
    };
    table.finish();
    api
}

fn metrics(mut table: Section<'_>) -> Metrics {
    let metrics = Metrics { require_token: table.get("require-token", value::boolean).unwrap_or(false) };
    table.finish();
    metrics
}

fn audit(mut table: Section<'_>) -> Audit {
    let audit = Audit {
        keep: table.get("keep", value::duration).unwrap_or(365 * DAY),
        max_rows: table.get("max-rows", |node| value::at_least(node, 1000)).unwrap_or(500_000),
    };
    table.finish();
    audit
}

fn store(mut table: Section<'_>, paths: &Paths) -> Store {
    let store = Store {
        path: table.get("path", value::path).unwrap_or_else(|| -> PathBuf { paths.state.join("clauded.db") }),
        keep: table.get("keep", value::duration).unwrap_or(90 * DAY),
    };
    table.finish();
    store
}
