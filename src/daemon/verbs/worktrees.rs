//! The verbs on worktrees. clauded touches none: the instance's own runner looks and removes, started for that if it does not run.

use super::{Verbs, refused, stopping};
use crate::config;
use crate::core::ids::InstanceName;
use crate::core::instance::ActiveState;
use crate::core::worktree::{Facts, Fate};
use crate::daemon::engine::{Input, State};
use crate::daemon::retire;
use crate::http::service::{Answer, Caller, ServiceError, Worktrees};
use crate::platform::cgroup::Group;
use crate::platform::store::StoredWorktree;
use crate::platform::units::Done;
use crate::proto::api;
use crate::proto::link::{self, Job};
use jiff::Timestamp;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longest time for a runner's answer: it may have to clone the repository first.
const PATIENCE: Duration = Duration::from_secs(580);
/// Most processes that are named.
const NAMED: usize = 5;

fn no_worktree(name: &InstanceName) -> ServiceError {
    refused(404, "no-such-worktree", format!("{name} has no worktree of a repository; list them with: claudectl worktree list"))
}

fn busy(name: &InstanceName) -> ServiceError {
    refused(409, "worktree-busy", format!("{name} runs; stop it first: claudectl stop {name}"))
}

impl Verbs {
    /// Asks an instance's runner.
    async fn ask(&self, name: &InstanceName, job: Job) -> Result<link::Answer, ServiceError> {
        let (asker, answer) = oneshot::channel();
        self.engine.send(Input::Job(name.clone(), job, asker)).await.map_err(|_| stopping())?;
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(refused(502, "runner-away", format!("the runner of {name} went away before it answered; see: claudectl logs {name}"))),
            Err(_) => Err(refused(504, "timeout", format!("the runner of {name} has not answered in {} s; it goes on", PATIENCE.as_secs()))),
        }
    }

    /// Lets the runner of an instance that does not run do something, and gives it no task meanwhile.
    async fn reserved<T>(&self, name: &InstanceName, work: impl AsyncFnOnce() -> Result<T, ServiceError>) -> Result<T, ServiceError> {
        let reserve = async |on| self.engine.send(Input::Reserve(name.clone(), on)).await.map_err(|_| stopping());
        reserve(true).await?;
        let done = match self.units.start(name).await {
            Ok(Done::Unchanged) => Err(busy(name)),
            Ok(_) => {
                let done = work().await;
                let stopped = self.units.stop(name).await;
                match (done, stopped) {
                    (Ok(done), Ok(_)) => Ok(done),
                    (Ok(_), Err(error)) => Err(error.into()),
                    (Err(error), _) => Err(error),
                }
            }
            Err(error) => Err(error.into()),
        };
        reserve(false).await?;
        done
    }

    /// The processes that are left of an instance that does not run: what the kernel could not end, or a person has put there.
    async fn left_over(&self, name: &InstanceName) -> Result<Option<String>, ServiceError> {
        let Some(mount) = &self.cgroups else { return Ok(None) };
        let Some(fleet) = self.look(|state| state.fleet.control_group().map(str::to_owned)).await? else { return Ok(None) };
        let Some(group) = group_of(mount.join(fleet.trim_start_matches('/')), name) else { return Ok(None) };
        let path = group.path().display();
        match group.populated() {
            Ok(false) => Ok(None),
            Ok(true) => {
                let all = group.processes().unwrap_or_default();
                let mut named: Vec<_> = all.iter().take(NAMED).map(u32::to_string).collect();
                named.extend((all.len() > NAMED).then(|| "…".to_owned()));
                Ok(Some(format!("processes are left in its cgroup {path}: {}; end them first", named.join(", "))))
            }
            Err(error) => Ok(Some(format!("whether its cgroup is empty cannot be told: {error}"))),
        }
    }

    /// Why the worktree is not even looked at, if it is not.
    async fn in_use(&self, name: &InstanceName) -> Result<Option<String>, ServiceError> {
        let asked = name.clone();
        match self.look(move |state| state.runs(&asked)).await? {
            true => Ok(Some("its instance runs".to_owned())),
            false => self.left_over(name).await,
        }
    }

    async fn facts(&self, name: &InstanceName) -> Result<Facts, ServiceError> {
        match self.ask(name, Job::Look).await? {
            link::Answer::Facts(facts) => Ok(*facts),
            link::Answer::Refused(why) => Err(refused(409, "worktree", why)),
            _ => Err(refused(502, "runner-away", format!("the runner of {name} answered something else"))),
        }
    }

    async fn remove(&self, caller: &Caller, name: &InstanceName) -> Result<(), ServiceError> {
        match self.ask(name, Job::Remove).await? {
            link::Answer::Removed => {
                self.engine.send(Input::Worktree(name.clone(), None)).await.map_err(|_| stopping())?;
                let row = caller.actor.did("worktree-remove", Timestamp::now()).of_instance(Some(name));
                self.note("worktree-removed", Some(name), format!("the worktree of {name} is removed; its branches stay in the repository"), row).await
            }
            link::Answer::Refused(why) => Err(refused(409, "worktree", format!("the worktree of {name} stays: {why}"))),
            _ => Err(refused(502, "runner-away", format!("the runner of {name} answered something else"))),
        }
    }

    /// Has a repository's object store tidied, through an instance of it that has nothing to do. Nothing depends on it.
    async fn tidy(&self, name: &InstanceName) {
        match self.ask(name, Job::Tidy).await {
            Ok(link::Answer::Tidied) => {}
            Ok(link::Answer::Refused(why)) => tracing::warn!(instance = %name, "the object store of {name} is not tidied: {why}"),
            Ok(_) => tracing::warn!(instance = %name, "the object store of {name} is not tidied: its runner answered something else"),
            Err(error) => tracing::warn!(instance = %name, "the object store of {name} is not tidied: {error}"),
        }
    }

    /// What becomes of one worktree; removes it if it goes and that is wanted.
    async fn collect(
        &self,
        caller: &Caller,
        name: &InstanceName,
        known: &StoredWorktree,
        keep: Option<Duration>,
        dry_run: bool,
        tidy: bool,
    ) -> Result<(Fate, Option<u64>), ServiceError> {
        self.reserved(name, async || {
            let facts = self.facts(name).await?;
            let fate = facts.fate(known.measured, keep, Timestamp::now());
            if tidy {
                self.tidy(name).await;
            }
            if matches!(fate, Fate::Goes(_)) && !dry_run {
                self.remove(caller, name).await?;
            } else {
                let seen = StoredWorktree { branch: facts.branch, bytes: facts.bytes, ..known.clone() };
                self.engine.send(Input::Worktree(name.clone(), Some(seen))).await.map_err(|_| stopping())?;
            }
            Ok((fate, facts.bytes))
        })
        .await
    }
}

impl Worktrees for Verbs {
    fn worktrees(&self) -> Answer<'_, Vec<api::Worktree>> {
        Box::pin(self.look(|state| {
            let config = &state.config;
            let configured = config.instances.iter().filter(|(_, instance)| instance.repository.is_some()).map(|(name, _)| name);
            let names: std::collections::BTreeSet<_> = configured.chain(state.worktrees.keys()).collect();
            names.into_iter().map(|name| view(state, name)).collect()
        }))
    }

    fn add_worktree(&self, caller: Caller, name: InstanceName, repository: String) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let alone = self.persisting.lock().await;
            let persisted = config::persist_repository(&self.paths, &name, &repository)?;
            let config = self.apply(&caller).await?;
            drop(alone);
            let asked = name.clone();
            if self.look(move |state| state.runs(&asked)).await? {
                return Err(busy(&name));
            }
            // Its runner makes the worktree before it answers.
            let facts = self.reserved(&name, async || self.facts(&name).await).await?;
            let seen = StoredWorktree {
                repository,
                directory: config.instance(&name).directory.display().to_string(),
                branch: facts.branch,
                bytes: facts.bytes,
                measured: Some(Timestamp::now()),
            };
            let message = format!("{} is a worktree of {}", seen.directory, seen.repository);
            self.engine.send(Input::Worktree(name.clone(), Some(seen))).await.map_err(|_| stopping())?;
            let row = caller
                .actor
                .did("worktree-add", Timestamp::now())
                .of_instance(Some(&name))
                .with(&serde_json::json!({ "repository": config.instance(&name).repository }));
            self.note("worktree-added", Some(&name), format!("{message}, by {}", caller.description), row).await?;
            Ok(api::Outcome { result: if persisted { "created" } else { "unchanged" }.to_owned(), message })
        })
    }

    fn remove_worktree(&self, caller: Caller, name: InstanceName) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let asked = name.clone();
            let (known, active) = self.look(move |state| (state.worktrees.contains_key(&asked), state.runs(&asked))).await?;
            match (known, active) {
                (false, _) => return Err(no_worktree(&name)),
                (true, true) => return Err(busy(&name)),
                (true, false) => {}
            }
            if let Some(left) = self.left_over(&name).await? {
                return Err(refused(409, "worktree-busy", format!("the worktree of {name} stays: {left}")));
            }
            tracing::info!(instance = %name, by = %caller.description, "remove the worktree of {name}, asked by {}", caller.description);
            self.reserved(&name, async || self.remove(&caller, &name).await).await?;
            Ok(api::Outcome { result: "changed".to_owned(), message: "its branches stay in the repository".to_owned() })
        })
    }

    fn collect_worktrees(&self, caller: Caller, dry_run: bool) -> Answer<'_, Vec<api::WorktreeFate>> {
        Box::pin(async move {
            tracing::info!(by = %caller.description, dry_run, "worktree gc, asked by {}", caller.description);
            let known = self.look(|state| {
                let keep = |known: &StoredWorktree| state.config.repositories.get(&known.repository).and_then(|repository| repository.keep);
                state.worktrees.iter().map(|(name, known)| (name.clone(), known.clone(), keep(known))).collect::<Vec<_>>()
            });
            let (mut fates, mut tidied) = (Vec::new(), std::collections::BTreeSet::new());
            // One after the other: each may start a runner, and they share repositories.
            for (name, known, keep) in known.await? {
                // The worktrees of a repository share one store: once will do, and what is not there to do it leaves it to the next.
                let tidy = !dry_run && !tidied.contains(&known.repository);
                let done = match self.in_use(&name).await {
                    Ok(Some(why)) => Ok((Fate::Stays(why), known.bytes)),
                    Ok(None) => {
                        let done = self.collect(&caller, &name, &known, keep, dry_run, tidy).await;
                        if tidy && done.is_ok() {
                            tidied.insert(known.repository.clone());
                        }
                        done
                    }
                    Err(error) => Err(error),
                };
                let (goes, why, bytes) = match done {
                    Ok((Fate::Goes(why), bytes)) => (true, why, bytes),
                    Ok((Fate::Stays(why), bytes)) => (false, why, bytes),
                    Err(error) => (false, error.detail, known.bytes),
                };
                fates.push(api::WorktreeFate { instance: name.to_string(), directory: known.directory, goes, why, disk_bytes: bytes });
            }
            Ok(fates)
        })
    }
}

/// The group that an instance's processes are in, below the fleet's; `None` if it has none.
fn group_of(fleet: PathBuf, name: &InstanceName) -> Option<Group> {
    let (own, service) = (name.to_string(), name.unit());
    let mut open = vec![fleet];
    while let Some(around) = open.pop() {
        for entry in fs::read_dir(around).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            match entry.file_name().to_str() {
                Some(found) if found == own || found == service => return Some(Group::at(entry.path())),
                // Slices, and our own supervisor's groups around instances: what is in another instance's group is its own.
                Some(found) if found.ends_with(".slice") || found.starts_with('@') => open.push(entry.path()),
                _ => {}
            }
        }
    }
    None
}

fn view(state: &State, name: &InstanceName) -> api::Worktree {
    let config = state.config.instance(name);
    let known = state.worktrees.get(name);
    api::Worktree {
        instance: name.to_string(),
        repository: known.map(|known| known.repository.clone()).or(config.repository).unwrap_or_default(),
        directory: known.map_or_else(|| config.directory.display().to_string(), |known| known.directory.clone()),
        branch: known.and_then(|known| known.branch.clone()),
        disk_bytes: known.and_then(|known| known.bytes),
        measured: known.and_then(|known| known.measured).map(|at| at.to_string()),
        active: state.fleet.get(name).map_or(ActiveState::Inactive, |seen| seen.active).name().to_owned(),
        task: retire::task_of(state, name).map(|task| task.0),
    }
}
