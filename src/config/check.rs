//! What single values cannot tell: names that lead nowhere, slices that would nest, worktrees used twice.

use super::read::{Reader, dotted, suggestion};
use super::tree::{Table, Value, place_of};
use super::{Config, InstanceConfig};
use crate::core::checkout::Source;
use crate::core::ids::InstanceName;
use std::collections::BTreeMap;
use std::path::Path;

/// Notes everything that does not fit together.
pub(super) fn whole(config: &Config, tree: &Table, reader: &Reader) {
    let checks = Checks { config, tree, reader };
    checks.profile(&["defaults", "profile"], &config.defaults.profile);
    let mut directories: BTreeMap<&Path, &InstanceName> = BTreeMap::new();
    for (name, instance) in &config.instances {
        let path = |key| place(tree, name, instance, key);
        // One that comes from [defaults] has been told of there.
        if instance.profile != config.defaults.profile {
            checks.profile(&path("profile"), &instance.profile);
        }
        if let Some(repository) = &instance.repository {
            checks.reference(&path("repository"), repository, "repositories", config.repositories.keys());
        }
        if let Some(which) = self_contained(config, instance) {
            checks.problem(&path("directory"), format!("{} is inside of {which}; put the worktree beside it", instance.directory.display()));
        }
        if let Some(other) = directories.insert(&instance.directory, name).filter(|other| !share(config, name, other)) {
            let directory = instance.directory.display();
            checks.problem(&path("directory"), format!("{directory} is also the directory of {other}; two agents in one worktree overwrite each other"));
        }
        checks.root(name);
        checks.nesting(name);
    }
}

/// The place of a repository's own that an instance's directory must not be in.
fn self_contained(config: &Config, instance: &InstanceConfig) -> Option<String> {
    let name = instance.repository.as_ref()?;
    let repository = config.repositories.get(name)?;
    let own = [".repositories", ".caches"].map(|part| repository.worktree_root.join(part));
    let path = match &repository.source {
        Source::Path(path) => Some(path.clone()),
        Source::Url(_) => None,
    };
    // The repository's own directory is its main worktree, and that may be an instance's.
    let inside = own.into_iter().chain(path.filter(|path| instance.directory != *path)).find(|place| instance.directory.starts_with(place));
    inside.filter(|place| !place.as_os_str().is_empty()).map(|place| place.display().to_string())
}

struct Checks<'c> {
    config: &'c Config,
    tree: &'c Table,
    reader: &'c Reader,
}

impl Checks<'_> {
    fn problem(&self, path: &[&str], message: String) {
        let key = path.iter().fold(String::new(), |parent, key| dotted(&parent, key));
        self.reader.problem(place_of(self.tree, path), key, message);
    }

    fn profile(&self, path: &[&str], name: &str) {
        self.reference(path, name, "profiles", self.config.profiles.keys());
    }

    fn reference<'k>(&self, path: &[&str], name: &str, kind: &str, known: impl Iterator<Item = &'k String>) {
        let known: Vec<&str> = known.map(String::as_str).collect();
        if known.contains(&name) {
            return;
        }
        let hint = match suggestion(name, known.iter().copied()) {
            Some(like) => format!("did you mean {like:?}?"),
            None if known.is_empty() => format!("add it as [{}]", dotted(kind, name)),
            None => format!("there are {}; add it as [{}]", known.join(", "), dotted(kind, name)),
        };
        self.problem(path, format!("there is no [{}]; {hint}", dotted(kind, name)));
    }

    /// The CLI refuses to skip permissions for root, so such an instance could do no task.
    fn root(&self, name: &InstanceName) {
        let Some(instance) = self.config.instances.get(name).filter(|i| i.user.as_deref().is_some_and(|user| user == "root" || user == "0")) else { return };
        if instance.repository.is_some() {
            let message = "git does not run as root in a repository, whose settings can name programs; use another user, or leave repository out";
            self.problem(&["instances", name.as_str(), "repository"], message.to_owned());
        }
        let mode = self.config.profiles.get(&instance.profile).and_then(|profile| profile.profile.permission_mode.as_deref());
        if mode == Some("bypassPermissions") {
            let message =
                "root may not use permission-mode = \"bypassPermissions\" (the agent refuses to start); use another user, or a profile with another mode";
            self.problem(&place(self.tree, name, instance, "user"), message.to_owned());
        }
    }

    /// Slices nest by dashes (systemd.slice(5)): the limits of `feature` would bound `feature-a` as well.
    fn nesting(&self, name: &InstanceName) {
        let outer = |(at, _)| name.as_str().get(..at).and_then(|prefix| prefix.parse::<InstanceName>().ok());
        for outer in name.as_str().match_indices('-').filter_map(outer).filter(|outer| self.config.instances.contains_key(outer)) {
            let message = format!("its slice would be inside that of {outer}, and the limits of {outer} would hold for both together; rename one of them");
            let member = self.config.instances.get(name).and_then(|instance| instance.member.as_ref());
            match member.filter(|_| !says(self.tree, &["instances", name.as_str()])) {
                Some(member) => self.problem(&["teams", member.team.as_str()], message),
                None => self.problem(&["instances", name.as_str()], message),
            }
        }
    }
}

/// Where a key of an instance is said: in its own table, or for its role in its team.
fn place<'p>(tree: &Table, name: &'p InstanceName, instance: &'p InstanceConfig, key: &'p str) -> Vec<&'p str> {
    let own = vec!["instances", name.as_str(), key];
    match &instance.member {
        Some(_) if says(tree, &own) => own,
        Some(member) if key == "repository" => vec!["teams", member.team.as_str(), key],
        Some(member) => vec!["teams", member.team.as_str(), "members", member.role.as_str(), key],
        None => own,
    }
}

fn says(tree: &Table, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    match tree.get(*first).map(|node| &node.value) {
        Some(Value::Table(table)) => says(table, rest),
        Some(_) => rest.is_empty(),
        None => false,
    }
}

/// Whether both are members of one team that share its worktree.
fn share(config: &Config, one: &InstanceName, other: &InstanceName) -> bool {
    let shared = |name| config.instances.get(name).and_then(|instance| instance.member.as_ref()).filter(|member| member.shared);
    shared(one).zip(shared(other)).is_some_and(|(one, other)| one.team == other.team)
}
