//! From the tables to teams and their members: what a team says, over what its template says, over the defaults.

use super::{CLASSIC, RoleConfig, TeamConfig};
use crate::config::read::{Section, suggestion};
use crate::config::resolve::{Roots, limits, plain_name};
use crate::config::{Defaults, InstanceConfig, value};
use crate::core::ids::InstanceName;
use crate::core::limits::Limits;
use crate::core::team::{Budget, Member, Policy, REPLICAS_MAX, Role, TeamName, member_name};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The teams, and their members as instances, before it is looked at what `[instances.NAME]` says.
#[derive(Debug, Default)]
pub(in crate::config) struct Drafts {
    pub(in crate::config) teams: BTreeMap<TeamName, TeamConfig>,
    pub(in crate::config) instances: BTreeMap<InstanceName, InstanceConfig>,
}

impl Drafts {
    /// Whether a table is of a member that there is not now: it holds again when there are more of its role.
    pub(in crate::config) fn is_away(&self, name: &InstanceName) -> bool {
        let of_role = |(team, config): (&TeamName, &TeamConfig)| {
            let (role, number) = crate::core::team::place_in(team, name)?;
            Some(config.roles.get(&role)?.replicas.is_some() && number.is_some())
        };
        !self.instances.contains_key(name) && self.teams.iter().filter_map(of_role).any(|away| away)
    }
}

/// What is said of a team, by itself or by its template.
#[derive(Clone, Default)]
struct Said {
    limits: Limits,
    max_concurrent_tasks: Option<u32>,
    policy: Option<Policy>,
    budget: Budget,
    roles: BTreeMap<Role, SaidRole>,
}

/// What is said of a role.
#[derive(Clone, Default)]
struct SaidRole {
    profile: Option<String>,
    replicas: Option<u32>,
    shared: Option<bool>,
    limits: Limits,
    role_limits: Limits,
    specialties: Option<Vec<String>>,
    labels: Option<Vec<String>>,
    max_concurrent_tasks: Option<u32>,
    system_prompt: Option<String>,
    user: Option<String>,
}

impl SaidRole {
    fn or(self, other: Self) -> Self {
        Self {
            profile: self.profile.or(other.profile),
            replicas: self.replicas.or(other.replicas),
            shared: self.shared.or(other.shared),
            limits: self.limits.or(other.limits),
            role_limits: self.role_limits.or(other.role_limits),
            specialties: self.specialties.or(other.specialties),
            labels: self.labels.or(other.labels),
            max_concurrent_tasks: self.max_concurrent_tasks.or(other.max_concurrent_tasks),
            system_prompt: self.system_prompt.or(other.system_prompt),
            user: self.user.or(other.user),
        }
    }

    fn resolved(self, defaults: &Defaults) -> RoleConfig {
        RoleConfig {
            profile: self.profile.unwrap_or_else(|| defaults.profile.clone()),
            replicas: self.replicas,
            shared: self.shared.unwrap_or(false),
            limits: self.limits.or(defaults.limits),
            role_limits: self.role_limits,
            specialties: self.specialties.unwrap_or_default(),
            labels: self.labels.unwrap_or_default(),
            max_concurrent_tasks: self.max_concurrent_tasks,
            system_prompt: self.system_prompt,
            user: self.user,
        }
    }
}

/// Reads both tables.
pub(in crate::config) fn drafts(root: &mut Section<'_>, roots: &Roots<'_>, defaults: &Defaults) -> Drafts {
    let mut templates = BTreeMap::new();
    for (name, mut table) in root.each("team-templates") {
        plain_name(name, &table);
        templates.insert(name, said(&mut table));
        table.finish();
    }
    let mut drafts = Drafts::default();
    for (text, mut table) in root.each("teams") {
        let name = text.parse::<TeamName>();
        let team = team(&mut table, &templates, defaults);
        match name {
            Ok(name) => {
                add_members(&name, &team, &table, roots.of(team.repository.as_deref()), &mut drafts.instances);
                drafts.teams.insert(name, team);
            }
            Err(error) => table.problem("", error.to_string()),
        }
        table.finish();
    }
    drafts
}

fn team(table: &mut Section<'_>, templates: &BTreeMap<&str, Said>, defaults: &Defaults) -> TeamConfig {
    let template = table.get("template", value::line);
    let repository = table.get("repository", value::line);
    let autostart = table.get("autostart", value::boolean).unwrap_or(false);
    let said = said(table);
    let base = match &template {
        None => Said::default(),
        Some(name) => templates.get(name.as_str()).cloned().unwrap_or_else(|| {
            let known = templates.keys().copied();
            let hint = match suggestion(name, known.clone()) {
                Some(like) => format!("did you mean {like:?}?"),
                None => format!("there are {}; or write it as [team-templates.NAME]", known.collect::<Vec<_>>().join(", ")),
            };
            table.problem("template", format!("there is no template {name:?}; {hint}"));
            Said::default()
        }),
    };
    let mut roles = base.roles;
    for (role, over) in said.roles {
        let under = roles.remove(&role).unwrap_or_default();
        roles.insert(role, over.or(under));
    }
    if roles.is_empty() && !table.has("template") && !table.has("members") {
        table.problem("", format!("has no members; write template = \"{CLASSIC}\", or a table [teams.NAME.members.ROLE] for each role"));
    }
    TeamConfig {
        template,
        repository,
        limits: said.limits.or(base.limits),
        max_concurrent_tasks: said.max_concurrent_tasks.or(base.max_concurrent_tasks),
        policy: said.policy.or(base.policy).unwrap_or_default(),
        budget: said.budget.or(base.budget),
        autostart,
        roles: roles.into_iter().map(|(role, said)| (role, said.resolved(defaults))).collect(),
    }
}

/// What teams and templates both may say.
fn said(table: &mut Section<'_>) -> Said {
    let mut said = Said {
        limits: limits(table.section("limits"), Limits::default()),
        max_concurrent_tasks: table.get("max-concurrent-tasks", |node| value::count(node, 1..=10_000)),
        policy: table.get("policy", |node| value::choice(node, &Policy::ALL)),
        budget: budget(table.section("budget")),
        roles: BTreeMap::new(),
    };
    for (text, mut table) in table.each("members") {
        let role = said_role(&mut table);
        match text.parse::<Role>() {
            Ok(name) => {
                said.roles.insert(name, role);
            }
            Err(error) => table.problem("", error.to_string()),
        }
        table.finish();
    }
    said
}

fn budget(mut table: Section<'_>) -> Budget {
    let budget = Budget { day: table.get("day", value::dollars), total: table.get("total", value::dollars) };
    table.finish();
    budget
}

fn said_role(table: &mut Section<'_>) -> SaidRole {
    SaidRole {
        profile: table.get("profile", value::line),
        replicas: table.get("replicas", |node| value::count(node, 0..=REPLICAS_MAX)),
        shared: table.get("worktree", |node| value::choice(node, &[("own", false), ("shared", true)])),
        limits: limits(table.section("limits"), Limits::default()),
        role_limits: limits(table.section("role-limits"), Limits::default()),
        specialties: table.get("specialties", value::words),
        labels: table.get("labels", value::words),
        max_concurrent_tasks: table.get("max-concurrent-tasks", |node| value::count(node, 1..=10_000)),
        system_prompt: table.get("system-prompt", value::text).map(str::to_owned),
        user: table.get("user", value::user),
    }
}

fn add_members(team: &TeamName, config: &TeamConfig, table: &Section<'_>, worktree_root: &Path, members: &mut BTreeMap<InstanceName, InstanceConfig>) {
    for (role, of) in &config.roles {
        if of.replicas.is_none() && !of.role_limits.is_empty() {
            let message = format!("{role} has role-limits, which are those of several together, but no replicas; write limits, or replicas = 1");
            table.problem("members", message);
        }
        for number in of.numbers() {
            let name = match member_name(team, role, number) {
                Ok(name) => name,
                Err(error) => return table.problem("", format!("its member {role} cannot be named: {error}")),
            };
            let directory = worktree_root.join(if of.shared { team.as_str() } else { name.as_str() });
            let member = Member {
                team: team.clone(),
                role: role.clone(),
                number,
                shared: of.shared,
                specialties: of.specialties.clone(),
                labels: of.labels.clone(),
                max_concurrent_tasks: of.max_concurrent_tasks,
            };
            let instance = InstanceConfig {
                directory,
                repository: config.repository.clone(),
                profile: of.profile.clone(),
                user: of.user.clone(),
                limits: of.limits,
                autostart: config.autostart,
                member: Some(member),
                specialties: BTreeSet::new(),
                labels: BTreeSet::new(),
                budget: Budget::default(),
            };
            members.insert(name, instance);
        }
    }
}
