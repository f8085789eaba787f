//! `/etc/clauded`: from text to a checked [`crate::config::Config`], with every problem named at once.

mod check;
mod load;
mod persist;
mod problem;
mod read;
mod resolve;
#[cfg(test)]
mod shipped;
mod team;
#[cfg(test)]
mod tests;
mod tree;
mod user;
mod value;

pub use persist::{PersistError, Persisted, RepositoryChange, TeamChange, declare_repository, persist_limits, persist_repository, persist_team, remove_team};
pub use problem::{Problem, Problems};
pub use team::{CLASSIC, RoleConfig, TeamConfig};

use crate::core::checkout::{Cache, Origin, Source, Verify};
use crate::core::ids::InstanceName;
use crate::core::label::Label;
use crate::core::limits::Limits;
use crate::core::lock::{Pattern, Policy};
use crate::core::profile::Profile;
use crate::core::refname::BranchTemplate;
use crate::core::team::{Budget, Member, TeamName};
use crate::core::usage::Usd;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is there without being written; every file is laid over it.
const BUILT_IN: &str = include_str!("built-in.toml");

/// The whole configuration, checked; every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[fleet]`
    pub fleet: Fleet,
    /// `[defaults]`
    pub defaults: Defaults,
    /// `[repositories.NAME]`
    pub repositories: BTreeMap<String, Repository>,
    /// `[profiles.NAME]`, the built-in `claude` and `gemini` included.
    pub profiles: BTreeMap<String, ProfileConfig>,
    /// `[teams.NAME]`
    pub teams: BTreeMap<TeamName, TeamConfig>,
    /// `[instances.NAME]`, and the members of the teams.
    pub instances: BTreeMap<InstanceName, InstanceConfig>,
    /// `[queue]`
    pub queue: Queue,
    /// `[locks]`
    pub locks: Locks,
    /// `[api]`
    pub api: Api,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[store]`
    pub store: Store,
    /// `[audit]`
    pub audit: Audit,
}

/// Who supervises the instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Supervisor {
    /// systemd where it is running, else processes.
    #[default]
    Auto,
    /// The system's systemd, over the system bus.
    Systemd,
    /// The user's systemd, over the session bus.
    SystemdUser,
    /// clauded itself.
    Process,
}

/// The fleet as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// `supervisor`
    pub supervisor: Supervisor,
    /// `limits` of `claude-code.slice`; what is `None` is left to the unit file.
    pub limits: Limits,
    /// `worktree-root`: an instance's directory is `<worktree-root>/<name>` unless it says otherwise.
    pub worktree_root: PathBuf,
    /// `budget-per-day`: most that all work together may cost from midnight to midnight.
    pub budget_per_day: Option<Usd>,
}

/// What holds for every instance that does not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// `profile`
    pub profile: String,
    /// `limits`: of configured slices where they say nothing, and of the service of unconfigured names.
    pub limits: Limits,
    /// `task-timeout`
    pub task_timeout: Duration,
    /// `budget-per-day` of each instance that does not say otherwise.
    pub budget_per_day: Option<Usd>,
}

/// The queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// `ageing`: what a step of priority is worth of waiting.
    pub ageing: Duration,
    /// `size-classes`: memory limits that an instance may be given for a task that has run out of memory, in bytes, rising.
    pub size_classes: Vec<u64>,
    /// `[queue.groups.NAME]`
    pub groups: BTreeMap<Label, Group>,
}

/// A group of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// `max-concurrent-tasks`
    pub max_concurrent_tasks: u32,
}

/// A git repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// `path` or `url`
    pub source: Source,
    /// `default-branch`: what work starts from; the repository's own HEAD where `None`.
    pub default_branch: Option<String>,
    /// `max-concurrent-tasks`: most tasks at once on it.
    pub max_concurrent_tasks: Option<u32>,
    /// `features`: names for globs, to lock together.
    pub features: BTreeMap<String, Pattern>,
    /// `lock-policy`
    pub lock_policy: Policy,
    /// `worktree-root`: of instances that say no directory.
    pub worktree_root: PathBuf,
    /// `branch`: how the branches of tasks are named.
    pub branch: BranchTemplate,
    /// `verify`: how finished work is checked.
    pub verify: Option<Verify>,
    /// `author-name`; made from the instance's name where `None`.
    pub author_name: Option<String>,
    /// `author-email`, likewise.
    pub author_email: Option<String>,
    /// `push`: the remote that finished branches are pushed to.
    pub push: Option<String>,
    /// `caches`: build caches that the worktrees share.
    pub caches: Vec<Cache>,
    /// `keep`: how long a worktree that is not merged is kept; for ever where `None`.
    pub keep: Option<Duration>,
}

impl Repository {
    /// As a worktree has to know it.
    pub fn origin(&self, name: &str) -> Origin {
        let store = self.worktree_root.join(".repositories").join(format!("{name}.git"));
        Origin { name: name.to_owned(), source: self.source.clone(), store, base: self.default_branch.clone() }
    }

    /// Where its caches are.
    pub fn caches_directory(&self, name: &str) -> PathBuf {
        self.worktree_root.join(".caches").join(name)
    }
}

/// Locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locks {
    /// `ttl`: how long one is held that is not renewed.
    pub ttl: Duration,
}

/// An agent, and which credential it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileConfig {
    /// What the runner gets.
    pub profile: Profile,
    /// `account`: profiles of one account share its usage limits; the agent's kind by default.
    pub account: String,
    /// `credential-file`: a file readable by root alone, handed to the unit with `LoadCredential=`; its content becomes
    /// the environment variable [`ProfileConfig::credential_variable`] of the agent.
    pub credential_file: Option<PathBuf>,
    /// `credential-variable`: `ANTHROPIC_API_KEY` by default.
    pub credential_variable: String,
    /// `verify-attempts`: how often the output of a failed check goes back to the agent.
    pub verify_attempts: u32,
}

/// One configured instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceConfig {
    /// `directory`
    pub directory: PathBuf,
    /// `repository`
    pub repository: Option<String>,
    /// `profile`
    pub profile: String,
    /// `user`: who runs the runner and the agent; `claude-code` where `None`.
    pub user: Option<String>,
    /// `limits` of its slice, `[defaults]` applied.
    pub limits: Limits,
    /// `autostart`: started at boot.
    pub autostart: bool,
    /// Where it belongs, if it is a member of a team.
    pub member: Option<Member>,
    /// `specialties`: what it is good at, for tasks that ask for one.
    pub specialties: BTreeSet<Label>,
    /// `labels`: what else tasks may ask for.
    pub labels: BTreeSet<Label>,
    /// `budget`
    pub budget: Budget,
}

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `listen`: TCP address; `None` (`"off"`) is none. Only loopback addresses are taken.
    pub listen: Option<SocketAddr>,
    /// `token-file`: the bearer token of the TCP side; made at the first start.
    pub token_file: PathBuf,
}

/// `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `require-token`: also for `/metrics` and `/health` on TCP.
    pub require_token: bool,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// `path` of the SQLite file.
    pub path: PathBuf,
    /// `keep`: how long ended tasks and events are kept.
    pub keep: Duration,
}

/// The audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// `keep`: how long its rows are kept.
    pub keep: Duration,
    /// `max-rows`: how many are kept at most.
    pub max_rows: u64,
}

/// Where things are; differs between the system's clauded, `--user`, and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `clauded.toml`; its `clauded.toml.d` stands beside it.
    pub config: PathBuf,
    /// The daemon's own state: the store, the token. `/var/lib/clauded`.
    pub state: PathBuf,
    /// Sockets. `/run/clauded`.
    pub runtime: PathBuf,
    /// The instances' state, one directory each, theirs: `/var/lib/claude-code`.
    pub instances: PathBuf,
}

impl Paths {
    /// The system's.
    pub fn system() -> Self {
        Self {
            config: "/etc/clauded/clauded.toml".into(),
            state: "/var/lib/clauded".into(),
            runtime: "/run/clauded".into(),
            instances: "/var/lib/claude-code".into(),
        }
    }

    /// The API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.runtime.join("api.sock")
    }

    /// The runner link's socket.
    pub fn link_socket(&self) -> PathBuf {
        self.runtime.join("runner.sock")
    }
}

impl Config {
    /// Reads the files of `paths` and resolves them. No file at all means all defaults.
    ///
    /// # Errors
    /// Everything that is wrong, at once: a file that is there but cannot be read or could have been written by others, a
    /// text that is not TOML, an unknown key, a value that does not fit, values that do not fit each other.
    pub fn load(paths: &Paths) -> Result<Self, Problems> {
        Self::from_texts(&load::texts(paths)?, paths)
    }

    /// Resolves texts already read, each with its file's name for messages. Later texts override earlier ones, key by key.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once.
    pub fn from_texts(texts: &[(PathBuf, String)], paths: &Paths) -> Result<Self, Problems> {
        let mut tree = built_in();
        let mut problems = Vec::new();
        for (file, text) in texts {
            match tree::parse(file, text) {
                Ok(table) => tree::merge(&mut tree, table),
                Err(errors) => problems.extend(errors),
            }
        }
        if !problems.is_empty() {
            // What else is wrong cannot be told while parts are missing.
            return Err(Problems::new(problems));
        }
        let (config, problems) = resolve::resolve(&tree, paths);
        if problems.is_empty() { Ok(config) } else { Err(Problems::new(problems)) }
    }

    /// What holds where nothing is configured.
    pub fn default_for(paths: &Paths) -> Self {
        resolve::resolve(&built_in(), paths).0
    }

    /// Whose usage limits an instance works under.
    pub fn account(&self, name: &InstanceName) -> String {
        let profile = self.instance(name).profile;
        self.profiles.get(&profile).map_or(profile, |p| p.account.clone())
    }

    /// The repository that the instance's directory is a worktree of.
    pub fn origin(&self, instance: &InstanceConfig) -> Option<Origin> {
        let name = instance.repository.as_ref()?;
        Some(self.repositories.get(name)?.origin(name))
    }

    /// What holds for an instance, configured or not.
    pub fn instance(&self, name: &InstanceName) -> InstanceConfig {
        self.instances.get(name).cloned().unwrap_or_else(|| InstanceConfig {
            directory: self.fleet.worktree_root.join(name.as_str()),
            repository: None,
            profile: self.defaults.profile.clone(),
            user: None,
            limits: self.defaults.limits,
            autostart: false,
            member: None,
            specialties: BTreeSet::new(),
            labels: BTreeSet::new(),
            budget: Budget { total: None, day: self.defaults.budget_per_day },
        })
    }
}

/// The tree under all files. That the text is right is a test's to tell.
fn built_in() -> tree::Table {
    tree::parse(Path::new("(built in)"), BUILT_IN).unwrap_or_default()
}
