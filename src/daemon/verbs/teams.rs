//! The verbs on teams. What is configured changes first, durably, since it may be refused; then what runs follows.

use super::{Verbs, refused, stopping};
use crate::config::{self, Config, Persisted, TeamChange};
use crate::core::ids::InstanceName;
use crate::core::task::Target;
use crate::core::team::{Role, TeamName};
use crate::core::usage::Usd;
use crate::daemon::engine::{Input, State};
use crate::daemon::{retire, scrape, view};
use crate::http::service::{Answer, Caller, ServiceError, Teams};
use crate::platform::cgroup::Group;
use crate::platform::units::{Done, UnitError};
use crate::proto::api;
use futures_util::future::join_all;
use jiff::{Timestamp, Zoned};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A user's systemd gets no drop-ins.
const USERS_SYSTEMD: &str = "a user's systemd is told nothing by clauded-generator: the team's target, limits, directories, users and credentials are not in force; \
    say them with: systemctl --user edit claude-code@NAME";

impl Verbs {
    async fn config(&self) -> Result<Arc<Config>, ServiceError> {
        self.look(|state| state.config.clone()).await
    }

    /// Keeps a note of who did what to a team.
    async fn note_team(&self, caller: &Caller, team: &TeamName, what: &str) -> Result<(), ServiceError> {
        tracing::info!(team = %team, by = %caller.description, "team {team}: {what}, asked by {}", caller.description);
        let message = format!("team {team}: {what} by {}", caller.description);
        let row = caller.actor.did("team-asked", Timestamp::now()).of(team.as_str()).with(&serde_json::json!({ "verb": what }));
        self.note("team-asked", None, message, row).await
    }

    /// Starts members, all at the same time.
    async fn start_members(&self, names: &[InstanceName]) -> Vec<api::MemberOutcome> {
        join_all(names.iter().map(async |name| outcome(name, self.units.start(name).await))).await
    }

    /// Stops members, all at the same time.
    async fn stop_members(&self, names: &[InstanceName]) -> Vec<api::MemberOutcome> {
        join_all(names.iter().map(async |name| outcome(name, self.units.stop(name).await))).await
    }

    /// Stops one that is too many, or says what it still does.
    async fn retire(&self, name: &InstanceName, now: bool) -> Result<api::MemberOutcome, ServiceError> {
        let asked = name.clone();
        self.engine.send(Input::Draining(name.clone())).await.map_err(|_| stopping())?;
        let task = self.look(move |state| retire::task_of(state, &asked)).await?;
        if let Some(task) = task.filter(|_| !now) {
            let message = format!("is stopped when it has ended task {task}");
            return Ok(api::MemberOutcome { name: name.to_string(), result: "draining".to_owned(), message });
        }
        let mut stopped = outcome(name, self.units.stop(name).await);
        if stopped.result != "failed" {
            // It ran when this was asked for, whoever was faster in stopping it.
            "changed".clone_into(&mut stopped.result);
            self.engine.send(Input::Retired(name.clone())).await.map_err(|_| stopping())?;
        }
        Ok(stopped)
    }

    async fn team_views(&self, only: Option<TeamName>) -> Result<Vec<api::Team>, ServiceError> {
        let looked = self.look(move |state| {
            let teams = state.config.teams.keys().filter(|name| only.as_ref().is_none_or(|only| only == *name));
            let fleet = state.fleet.control_group().map(ToOwned::to_owned);
            (teams.map(|name| team_view(state, name)).collect::<Vec<_>>(), fleet)
        });
        let (teams, fleet) = looked.await?;
        let midnight = Zoned::now().start_of_day().map_or(Timestamp::UNIX_EPOCH, |midnight| midnight.timestamp());
        let spent = if teams.is_empty() { BTreeMap::new() } else { self.store.spent_since(midnight).await? };
        let mut shown = Vec::new();
        for (name, mut team, groups) in teams {
            for (member, group) in team.members.iter_mut().zip(&groups) {
                self.add_cgroup(&mut member.instance, group);
            }
            let of_team = spent.iter().filter(|(instance, _)| name.contains(instance));
            team.cost_today_usd = of_team.fold(Usd(0), |sum, (_, cost)| sum + *cost).dollars();
            if let Some((mount, fleet)) = self.cgroups.as_deref().zip(fleet.as_deref()) {
                let group = scrape::team_group(Path::new(fleet), self.units.supervisor(), &name);
                let stats = Group::at(mount.join(group.strip_prefix("/").unwrap_or(&group))).stats();
                (team.memory_bytes, team.pids) = (stats.memory_current, stats.pids_current);
                team.memory_limit_bytes = view::caps(mount, &group.to_string_lossy()).iter().filter_map(|cap| cap.memory_max).min();
            }
            shown.push(team);
        }
        Ok(shown)
    }
}

impl Teams for Verbs {
    fn teams(&self) -> Answer<'_, Vec<api::Team>> {
        Box::pin(self.team_views(None))
    }

    fn team(&self, name: TeamName) -> Answer<'_, api::Team> {
        Box::pin(async move {
            let found = self.team_views(Some(name.clone())).await?;
            found.into_iter().next().ok_or_else(|| no_such_team(&name))
        })
    }

    fn team_up(&self, caller: Caller, name: TeamName, wanted: api::TeamUp) -> Answer<'_, api::TeamOutcome> {
        Box::pin(async move {
            let replicas = roles(&wanted.replicas)?;
            let change = TeamChange { template: wanted.template, repository: wanted.repository, replicas };
            let alone = self.persisting.lock().await;
            let persisted = config::persist_team(&self.paths, &name, &change)?;
            let asked = name.clone();
            let up = self.look(move |state| state.config.teams.contains_key(&asked) && state.config.members(&asked).all(|(name, _)| state.runs(name)));
            // Also what was written by hand, or could not be put in force the last time; a team that is up needs none of it.
            let config = if persisted == Persisted::Unchanged && up.await? { self.config().await? } else { self.apply(&caller).await? };
            drop(alone);
            let names: Vec<_> = config.members(&name).map(|(name, _)| name.clone()).collect();
            let members = self.start_members(&names).await;
            self.units.target(&name, true).await?;
            if persisted != Persisted::Unchanged || members.iter().any(|member| member.result != "unchanged") {
                self.note_team(&caller, &name, "up").await?;
            }
            Ok(api::TeamOutcome { configuration: word(persisted).to_owned(), members, notes: self.notes(&config) })
        })
    }

    fn team_down(&self, caller: Caller, name: TeamName, wanted: api::TeamDown) -> Answer<'_, api::TeamOutcome> {
        Box::pin(async move {
            let asked = name.clone();
            let looked = self.look(move |state| {
                let members: BTreeSet<_> = everyone(state, &asked).into_iter().collect();
                let bound = |target: &Target| matches!(target, Target::Instance(name) if members.contains(name));
                let tasks: Vec<_> = state.queue.tasks().filter(|task| bound(&task.target)).map(|task| task.id.to_string()).collect();
                state.config.teams.contains_key(&asked).then_some((members, tasks))
            });
            let (members, tasks) = looked.await?.ok_or_else(|| no_such_team(&name))?;
            let alone = self.persisting.lock().await;
            if wanted.remove {
                if !tasks.is_empty() {
                    let detail =
                        format!("{} tasks are for members of {name} and would wait for ever: {}; let them end, or cancel them", tasks.len(), tasks.join(", "));
                    return Err(refused(409, "team-has-tasks", detail));
                }
                config::remove_team(&self.paths, &name)?;
            }
            // The highest number first, in what is told; the runners end their tasks at the same time.
            let names: Vec<_> = members.into_iter().rev().collect();
            let stopped = self.stop_members(&names).await;
            self.units.target(&name, false).await?;
            let config = if wanted.remove { self.apply(&caller).await? } else { self.config().await? };
            drop(alone);
            if wanted.remove {
                for name in &names {
                    self.engine.send(Input::Retired(name.clone())).await.map_err(|_| stopping())?;
                }
            }
            if wanted.remove || stopped.iter().any(|member| member.result != "unchanged") {
                self.note_team(&caller, &name, if wanted.remove { "down and removed" } else { "down" }).await?;
            }
            let configuration = if wanted.remove { "changed" } else { "unchanged" }.to_owned();
            Ok(api::TeamOutcome { configuration, members: stopped, notes: self.notes(&config) })
        })
    }

    fn team_scale(&self, caller: Caller, name: TeamName, wanted: api::TeamScale) -> Answer<'_, api::TeamOutcome> {
        Box::pin(async move {
            let change = TeamChange { replicas: roles(&wanted.replicas)?, ..TeamChange::default() };
            let asked = name.clone();
            let looked = self.look(move |state| {
                let up = state.config.members(&asked).any(|(name, _)| state.runs(name));
                let running = everyone(state, &asked).into_iter().filter(|name| state.runs(name)).collect::<Vec<_>>();
                state.config.teams.contains_key(&asked).then_some((up, running))
            });
            let (up, running) = looked.await?.ok_or_else(|| no_such_team(&name))?;
            let alone = self.persisting.lock().await;
            let persisted = config::persist_team(&self.paths, &name, &change)?;
            let config = if persisted == Persisted::Unchanged { self.config().await? } else { self.apply(&caller).await? };
            drop(alone);
            let names: Vec<_> = config.members(&name).map(|(name, _)| name.clone()).filter(|name| up && !running.contains(name)).collect();
            let mut members = self.start_members(&names).await;
            for surplus in in_order(running.into_iter().filter(|running| config.surplus_of(running).is_some()).collect(), &name) {
                members.push(self.retire(&surplus, wanted.now).await?);
            }
            let mut notes = self.notes(&config);
            if !up {
                notes.push(format!("the team is down; start it with: claudectl team up {name}"));
            }
            if persisted != Persisted::Unchanged {
                let said: Vec<_> = change.replicas.iter().map(|(role, count)| format!("{role}={count}")).collect();
                self.note_team(&caller, &name, &format!("scaled to {}", said.join(" "))).await?;
            }
            Ok(api::TeamOutcome { configuration: word(persisted).to_owned(), members, notes })
        })
    }
}

impl Verbs {
    /// What of a team is not in force here.
    fn notes(&self, config: &Config) -> Vec<String> {
        match self.units.supervisor() {
            "systemd-user" => vec![USERS_SYSTEMD.to_owned()],
            "process" if self.cgroups.is_none() && config.teams.values().any(|team| !team.limits.is_empty()) => {
                vec!["there is no cgroup v2 tree here: the limits of a team as a whole are not in force, only those of each process".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

fn no_such_team(name: &TeamName) -> ServiceError {
    refused(404, "no-such-team", format!("there is no team {name} in the configuration; bring it up with: claudectl team up {name}"))
}

fn roles(replicas: &BTreeMap<String, u32>) -> Result<BTreeMap<Role, u32>, ServiceError> {
    replicas
        .iter()
        .map(|(role, count)| Ok((role.parse().map_err(|e: crate::core::team::InvalidRole| refused(422, "invalid-team", format!("replicas: {e}")))?, *count)))
        .collect()
}

pub(super) fn word(persisted: Persisted) -> &'static str {
    match persisted {
        Persisted::Created => "created",
        Persisted::Changed => "changed",
        Persisted::Unchanged => "unchanged",
    }
}

fn outcome(name: &InstanceName, done: Result<Done, UnitError>) -> api::MemberOutcome {
    let result = done.as_ref().map_or("failed", |done| done.name());
    let message = done.err().map(|error| error.to_string()).unwrap_or_default();
    api::MemberOutcome { name: name.to_string(), result: result.to_owned(), message }
}

/// The members of a team, and those that are too many but still there, by role and number.
fn everyone(state: &State, team: &TeamName) -> Vec<InstanceName> {
    let surplus = state.fleet.iter().map(|seen| &seen.name).filter(|name| state.config.surplus_of(name) == Some(team)).cloned().collect();
    let mut names: Vec<_> = state.config.members(team).map(|(name, _)| name.clone()).collect();
    names.extend(in_order(surplus, team).into_iter().rev());
    names
}

/// Members by role, the highest number of each first.
fn in_order(mut names: Vec<InstanceName>, team: &TeamName) -> Vec<InstanceName> {
    names.sort_by_key(|name| crate::core::team::place_in(team, name).map(|(role, number)| (role, std::cmp::Reverse(number))));
    names
}

/// A team without what is read from files, and the control groups of its members.
fn team_view(state: &State, name: &TeamName) -> (TeamName, api::Team, Vec<String>) {
    let Some(team) = state.config.teams.get(name) else { return (name.clone(), api::Team::default(), Vec::new()) };
    let names = everyone(state, name);
    let groups = names.iter().map(|member| state.fleet.get(member).map(|seen| seen.control_group.clone()).unwrap_or_default()).collect();
    let shown = api::Team {
        name: name.to_string(),
        template: team.template.clone(),
        repository: team.repository.clone(),
        policy: team.policy.name().to_owned(),
        autostart: team.autostart,
        target: name.target(),
        slice: name.slice(),
        members: names.iter().map(|member| member_view(state, name, member)).collect(),
        budget_day_usd: team.budget.day.map(Usd::dollars),
        budget_total_usd: team.budget.total.map(Usd::dollars),
        ..api::Team::default()
    };
    (name.clone(), shown, groups)
}

fn member_view(state: &State, team: &TeamName, name: &InstanceName) -> api::TeamMember {
    let config = state.config.instance(name);
    let place = crate::core::team::place_in(team, name);
    let member = config.member.as_ref();
    api::TeamMember {
        instance: view::instance(state, name),
        role: place.as_ref().map(|(role, _)| role.to_string()).unwrap_or_default(),
        number: place.and_then(|(_, number)| number),
        shared: member.is_some_and(|member| member.shared),
        surplus: member.is_none(),
        directory: config.directory.display().to_string(),
        profile: config.profile,
        specialties: member.map(|member| member.specialties.clone()).unwrap_or_default(),
        labels: member.map(|member| member.labels.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_goes_first() {
        let names = ["t-b-2", "t-a-2", "t-a-10", "t-b-1", "t-a-9"].map(|name| name.parse().expect("a name"));
        let ordered = in_order(names.to_vec(), &"t".parse().expect("a name"));
        assert_eq!(ordered.iter().map(ToString::to_string).collect::<Vec<_>>(), ["t-a-10", "t-a-9", "t-a-2", "t-b-2", "t-b-1"]);
    }

    #[test]
    fn a_word_that_is_no_role_is_named() {
        let error = roles(&[("front-end".to_owned(), 1)].into()).expect_err("wrong");
        assert_eq!((error.status, error.code), (422, "invalid-team"));
        assert!(error.detail.starts_with("replicas: \"front-end\" is no role"), "{}", error.detail);
    }
}
