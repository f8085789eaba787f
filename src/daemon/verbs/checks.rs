//! The verbs that look at how tasks get along: what their runners have told, put together with the queue, the locks and the history.

use super::locks::{shown as lock_shown, waits as wait_shown};
use super::{Verbs, stopping};
use crate::core::coupling::{Parts, Proposal, Reach};
use crate::core::forecast::{Merge, Overlap};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::lock::{Owner, Pattern};
use crate::core::task::Task;
use crate::daemon::engine::State;
use crate::daemon::forecast::{Forecast, Party};
use crate::http::service::{Answer, Caller, Checks, Role, ServiceError};
use crate::proto::api;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Most free tasks that are told, and proposed to run side by side.
const FREE_MAX: usize = 50;
/// Most locks that are told.
const LOCKS_MAX: usize = 100;
/// Most waits for locks that are told.
const WAITS_MAX: usize = 50;
/// Most dependencies that are told of one repository.
const DEPENDENCIES_MAX: usize = 10;

/// What the engine knows at the moment.
struct Seen {
    /// The repositories in question, with their features.
    repositories: BTreeMap<String, BTreeMap<String, Pattern>>,
    free: Vec<(TaskId, Option<String>, Vec<Pattern>)>,
    more_free: usize,
    held: Vec<(String, Owner, Pattern)>,
    locks: Vec<api::Lock>,
    more_locks: usize,
    waiting: Vec<api::LockWait>,
    more_waiting: usize,
}

impl Seen {
    fn of(state: &State, only: Option<&str>) -> Self {
        let asked = |name: &str| only.is_none_or(|only| only == name);
        let repositories = state.config.repositories.iter().filter(|(name, _)| asked(name));
        let (free, all) = state.queue.free(FREE_MAX, |task| only.is_none_or(|only| repository_of(state, task).as_deref() == Some(only)));
        let free: Vec<_> = free.into_iter().map(|task| (task.id, repository_of(state, task), task.terms.files.clone())).collect();
        let table = &state.desk.locks;
        let held: Vec<_> = table.iter().filter(|lock| asked(&lock.scope.place)).collect();
        let waits: Vec<_> = table.waits().filter(|(_, wait)| asked(&wait.request.scope.place)).collect();
        Self {
            repositories: repositories.map(|(name, repository)| (name.clone(), repository.features.clone())).collect(),
            more_free: all.saturating_sub(free.len()),
            free,
            held: held.iter().map(|lock| (lock.scope.place.clone(), lock.owner.clone(), lock.scope.pattern.clone())).collect(),
            locks: held.iter().take(LOCKS_MAX).map(|lock| lock_shown(lock)).collect(),
            more_locks: held.len().saturating_sub(LOCKS_MAX),
            waiting: waits.iter().take(WAITS_MAX).map(|(id, wait)| wait_shown(table, *id, wait)).collect(),
            more_waiting: waits.len().saturating_sub(WAITS_MAX),
        }
    }
}

/// The repository that a waiting task is for, where that can be told.
fn repository_of(state: &State, task: &Task) -> Option<String> {
    let demanded = task.terms.demand.repository.as_ref().map(ToString::to_string);
    demanded.or_else(|| task.bound_to().and_then(|name| state.config.instance(name).repository))
}

/// Who takes up a part of a repository.
#[derive(Clone)]
enum Who {
    Task(TaskId, Option<InstanceName>),
    Holder(Owner),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(id, Some(instance)) => write!(f, "task {id} ({instance})"),
            Self::Task(id, None) => write!(f, "task {id}"),
            Self::Holder(owner) => write!(f, "a lock of {owner}"),
        }
    }
}

/// What one repository has to say: which of its free tasks can run side by side, and what changes together in it.
struct Said {
    fates: BTreeMap<TaskId, (bool, Option<String>)>,
    dependencies: Vec<api::Dependency>,
}

fn say(repository: &str, features: &BTreeMap<String, Pattern>, forecast: &Forecast, free: &[(TaskId, Vec<Pattern>)], held: &[(Owner, Pattern)]) -> Said {
    let commits: &[Vec<String>] = forecast.history.as_ref().map_or(&[], |commits| commits.as_slice());
    let changed = |party: &Party| party.survey.clone().map(|survey| survey.files.clone()).unwrap_or_default();
    let changes: BTreeMap<TaskId, Vec<String>> = forecast.parties.iter().map(|(id, party)| (*id, changed(party))).collect();
    let files = changes.values().chain(commits).flatten().map(String::as_str);
    let parts = Parts::new(features, files);
    let coupling = parts.coupling(commits);
    let mut locked: BTreeMap<Option<TaskId>, Vec<(&Owner, Pattern)>> = BTreeMap::new();
    for (owner, pattern) in held {
        locked.entry(owner.task().filter(|task| forecast.parties.contains_key(task))).or_default().push((owner, pattern.clone()));
    }
    let mut running: Vec<(Who, Reach)> = Vec::new();
    for (id, party) in &forecast.parties {
        let own = locked.remove(&Some(*id)).unwrap_or_default().into_iter().map(|(_, pattern)| pattern);
        let named = party.named.iter().cloned().chain(own).collect();
        let files = changes.get(id).into_iter().flatten().map(String::as_str);
        running.push((Who::Task(*id, Some(party.instance.clone())), parts.reach(files, named)));
    }
    for (owner, pattern) in locked.into_values().flatten() {
        running.push((Who::Holder(owner.clone()), parts.reach([], vec![pattern])));
    }
    let waiting: Vec<(Who, Reach)> = free.iter().map(|(id, named)| (Who::Task(*id, None), parts.reach([], named.clone()))).collect();
    let Proposal { together, later } = coupling.side_by_side(&running, &waiting);
    let mut fates = BTreeMap::new();
    for who in together {
        if let Who::Task(id, _) = who {
            fates.insert(id, (true, None));
        }
    }
    for (who, other, clash) in later {
        if let Who::Task(id, _) = who {
            fates.insert(id, (false, Some(format!("{other}: {clash}"))));
        }
    }
    let dependencies = coupling.dependencies().into_iter().take(DEPENDENCIES_MAX).map(|found| api::Dependency {
        repository: repository.to_owned(),
        one: found.one,
        other: found.other,
        commits: found.commits,
        confidence: found.confidence,
    });
    Said { fates, dependencies: dependencies.collect() }
}

fn work(repository: &str, id: TaskId, party: &Party, title: String) -> api::WorkInProgress {
    let (files, problem) = match &party.survey {
        Ok(survey) => (Some(survey.more_files.saturating_add(u64::try_from(survey.files.len()).unwrap_or(u64::MAX))), survey.partial.clone()),
        Err(why) => (None, Some(why.clone())),
    };
    api::WorkInProgress { repository: repository.to_owned(), task: id.0, title, instance: party.instance.to_string(), files, problem }
}

fn overlap(repository: &str, pair: &Overlap<TaskId>, forecast: &Forecast, titles: &BTreeMap<TaskId, String>) -> api::Overlap {
    let party = |id: TaskId| api::Party {
        task: id.0,
        title: titles.get(&id).cloned().unwrap_or_default(),
        instance: forecast.parties.get(&id).map(|party| party.instance.to_string()).unwrap_or_default(),
    };
    let (conflicts, detail) = match &pair.merge {
        Merge::Clean => (Vec::new(), None),
        Merge::Conflict(files) => (files.clone(), None),
        Merge::Unknown(why) => (Vec::new(), Some(why.clone())),
    };
    api::Overlap {
        repository: repository.to_owned(),
        one: party(pair.one),
        other: party(pair.other),
        files: pair.files.clone(),
        more_files: u64::try_from(pair.more).unwrap_or(u64::MAX),
        merge: pair.merge.name().to_owned(),
        conflicts,
        detail,
    }
}

impl Verbs {
    /// The titles of tasks, as far as the caller may see them.
    async fn titles(&self, caller: &Caller, ids: Vec<(TaskId, Option<InstanceName>)>) -> Result<BTreeMap<TaskId, String>, ServiceError> {
        let mut titles = BTreeMap::new();
        for (id, instance) in ids {
            let hidden = matches!(&caller.role, Role::Agent(name) if instance.as_ref() != Some(name));
            if !hidden && let Some(stored) = self.store.task(id).await? {
                titles.insert(id, stored.spec.title);
            }
        }
        Ok(titles)
    }
}

fn parties(forecast: &Forecast) -> Vec<(TaskId, Option<InstanceName>)> {
    forecast.parties.iter().map(|(id, party)| (*id, Some(party.instance.clone()))).collect()
}

impl Checks for Verbs {
    fn check(&self, caller: Caller, repository: Option<Label>) -> Answer<'_, api::Check> {
        Box::pin(async move {
            let asked = repository.map(|name| name.to_string());
            let role = caller.role.clone();
            let seen = self.look(move |state| {
                let only = match (&role, &asked) {
                    (Role::Agent(name), asked) => {
                        let own = state.config.instance(name).repository.unwrap_or_default();
                        if asked.as_ref().is_some_and(|asked| *asked != own) {
                            let why = format!("you are the agent of instance {name}, and agents may check the repository that they work on alone");
                            return Err(super::refused(403, "forbidden", why));
                        }
                        Some(own)
                    }
                    (_, asked) => asked.clone(),
                };
                if let Some(only) = only.as_ref().filter(|only| asked.is_some() && !state.config.repositories.contains_key(*only)) {
                    let known: Vec<_> = state.config.repositories.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "there are none".to_owned() } else { format!("known: {}", known.join(", ")) };
                    return Err(super::refused(404, "no-such-repository", format!("there is no [repositories.{only}]; {known}")));
                }
                Ok(Seen::of(state, only.as_deref()))
            });
            let seen = seen.await??;
            let names: Vec<String> = seen.repositories.keys().cloned().collect();
            let all: Vec<_> = names.into_iter().map(|name| async move { (name.clone(), self.forecasts.of(&name, true).await) }).collect();
            let mut forecasts: BTreeMap<String, Arc<Forecast>> = BTreeMap::new();
            for (name, made) in join_all(all).await {
                forecasts.insert(name, made.ok_or_else(stopping)?);
            }
            let mut named: Vec<(TaskId, Option<InstanceName>)> = seen.free.iter().map(|(id, ..)| (*id, None)).collect();
            named.extend(forecasts.values().flat_map(|forecast| parties(forecast)));
            let titles = self.titles(&caller, named).await?;
            // Globs over all files that are known take their time.
            let checked = tokio::task::spawn_blocking(move || put_together(seen, &forecasts, &titles)).await;
            checked.map_err(|error| super::refused(500, "internal", format!("the check broke off: {error}; please report it")))
        })
    }

    fn forecast(&self, caller: Caller, id: TaskId) -> Answer<'_, api::TaskForecast> {
        Box::pin(async move {
            let place = self.look(move |state| {
                let placement = state.queue.task(id).and_then(|task| task.state.placement());
                placement
                    .and_then(|placement| state.config.instance(&placement.instance).repository.filter(|name| state.config.repositories.contains_key(name)))
            });
            let Some(repository) = place.await? else { return Ok(api::TaskForecast::default()) };
            let forecast = self.forecasts.of(&repository, false).await.ok_or_else(stopping)?;
            let pairs: Vec<&Overlap<TaskId>> = forecast.overlaps.iter().filter(|pair| pair.one == id || pair.other == id).collect();
            let shown: BTreeSet<TaskId> = pairs.iter().flat_map(|pair| [pair.one, pair.other]).chain([id]).collect();
            let named = parties(&forecast).into_iter().filter(|(id, _)| shown.contains(id)).collect();
            let titles = self.titles(&caller, named).await?;
            let silent = forecast.parties.iter().filter(|(other, _)| **other != id);
            let silent = silent.filter_map(|(other, party)| Some(format!("task {other} ({}): {}", party.instance, party.survey.as_ref().err()?)));
            let turned = |pair: &Overlap<TaskId>| match overlap(&repository, pair, &forecast, &titles) {
                found if pair.one == id => found,
                found => api::Overlap { one: found.other.clone(), other: found.one.clone(), ..found },
            };
            Ok(api::TaskForecast {
                work: forecast.parties.get(&id).map(|party| work(&repository, id, party, titles.get(&id).cloned().unwrap_or_default())),
                overlaps: pairs.into_iter().map(turned).collect(),
                notes: silent.collect(),
            })
        })
    }
}

fn put_together(seen: Seen, forecasts: &BTreeMap<String, Arc<Forecast>>, titles: &BTreeMap<TaskId, String>) -> api::Check {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut check = api::Check {
        more_free: count(seen.more_free),
        locks: seen.locks,
        more_locks: count(seen.more_locks),
        waiting: seen.waiting,
        more_waiting: count(seen.more_waiting),
        ..api::Check::default()
    };
    let mut fates = BTreeMap::new();
    let mut overlaps = Vec::new();
    for (name, forecast) in forecasts {
        let Some(features) = seen.repositories.get(name) else { continue };
        let free: Vec<(TaskId, Vec<Pattern>)> =
            seen.free.iter().filter(|(_, repository, _)| repository.as_ref() == Some(name)).map(|(id, _, named)| (*id, named.clone())).collect();
        let held: Vec<(Owner, Pattern)> =
            seen.held.iter().filter(|(place, ..)| place == name).map(|(_, owner, pattern)| (owner.clone(), pattern.clone())).collect();
        let said = say(name, features, forecast, &free, &held);
        fates.extend(said.fates);
        check.dependencies.extend(said.dependencies);
        check.running.extend(forecast.parties.iter().map(|(id, party)| work(name, *id, party, titles.get(id).cloned().unwrap_or_default())));
        overlaps.extend(forecast.overlaps.iter().map(|pair| (pair.merge.rank(), overlap(name, pair, forecast, titles))));
        check.more_overlaps = check.more_overlaps.saturating_add(count(forecast.more));
        // Nobody misses the history of a repository that nothing is done in.
        if let Err(why) = &forecast.history
            && !(forecast.parties.is_empty() && free.is_empty())
        {
            check.notes.push(why.clone());
        }
    }
    overlaps.sort_by_key(|(rank, _)| *rank);
    check.overlaps = overlaps.into_iter().map(|(_, pair)| pair).collect();
    check.free = seen
        .free
        .into_iter()
        .map(|(id, repository, named)| {
            let (beside, clash) = fates.remove(&id).map_or((None, None), |(beside, clash)| (Some(beside), clash));
            let files = named.iter().map(|one| one.text().to_owned()).collect();
            api::FreeTask { task: id.0, title: titles.get(&id).cloned().unwrap_or_default(), repository, files, beside, clash }
        })
        .collect();
    check
}
