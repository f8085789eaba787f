//! The verbs on the queue as a whole: claims, pauses, groups, many tasks at once.

use super::import::{self, Checked};
use super::spec::{self, Known};
use super::{Verbs, refused};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::queue::{ClaimRefused, Pause, Scope};
use crate::core::task::{Claim, TaskSpec, TaskState};
use crate::core::terms::AfterFailed;
use crate::daemon::engine::{Input, State};
use crate::daemon::turn::{Additions, Turn};
use crate::daemon::view;
use crate::http::service::{Answer, Caller, Queue, ServiceError};
use crate::platform::store::{StoreError, TaskFilter};
use crate::proto::api;
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Tasks that are read at once for an export.
const PAGE: u32 = 500;
/// How often what new tasks come after is looked at again, when it ends meanwhile.
const LOOKS: usize = 20;

impl From<ClaimRefused> for ServiceError {
    fn from(error: ClaimRefused) -> Self {
        let (status, code) = match error {
            ClaimRefused::Ended(_) => (409, "task-ended"),
            ClaimRefused::Taken(..) => (409, "task-taken"),
            ClaimRefused::Waits(..) => (409, "task-waits"),
            ClaimRefused::Nothing => (409, "nothing-to-claim"),
            ClaimRefused::NotClaimed(_) => (409, "not-claimed"),
            ClaimRefused::NotYours(..) => (403, "not-yours"),
        };
        refused(status, code, error.to_string())
    }
}

impl Verbs {
    /// Has the engine decide something on its state, and waits until what follows is durable.
    pub(super) async fn settle<T: Send + 'static>(
        &self,
        caller: &Caller,
        decide: impl FnOnce(&mut State, Timestamp, &mut Turn) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.decide(caller, |reply: oneshot::Sender<Result<T, Arc<StoreError>>>| {
            Input::Decide(Box::new(move |state, now, turn| {
                let answer = decide(state, now, turn);
                turn.reply(reply, answer);
            }))
        })
        .await
    }

    /// Those of the instances that are running or configured, with their agents.
    async fn known(&self, names: BTreeSet<InstanceName>) -> Result<Known, ServiceError> {
        self.look(move |state| {
            let found = names.into_iter().filter(|name| state.knows(name));
            found.map(|name| (name.clone(), state.config.profile_of(&name).map(|profile| profile.agent))).collect()
        })
        .await
    }

    /// Refuses a task for an instance that there is not, or whose agent cannot do it.
    pub(super) async fn check_target(&self, spec: &TaskSpec) -> Result<(), ServiceError> {
        let known = self.known(spec.target.instance().cloned().into_iter().collect()).await?;
        spec::check_target(spec, &known)
    }

    /// Adds tasks, all or none: each with the places of those among them that it comes after.
    pub(super) async fn add_all(&self, caller: &Caller, specs: Vec<(TaskSpec, Vec<usize>)>) -> Result<Vec<TaskId>, ServiceError> {
        let needed: BTreeSet<TaskId> = specs.iter().flat_map(|(spec, _)| spec.terms.after.iter().copied()).collect();
        for _ in 0..LOOKS {
            let asked = needed.clone();
            let over: Vec<TaskId> = self.look(move |state| asked.into_iter().filter(|id| state.queue.task(*id).is_none()).collect()).await?;
            let mut ended = BTreeMap::new();
            for id in over {
                let Some(stored) = self.store.task(id).await? else {
                    return Err(refused(404, "no-such-task", format!("after: there is no task {id}; list them with: claudectl task list --all")));
                };
                ended.insert(id, stored.task.state);
            }
            for (spec, _) in &specs {
                let failed = spec.terms.after.iter().find(|id| ended.get(id).is_some_and(|state| state.is_final() && *state != TaskState::Succeeded));
                if let Some(id) = failed.filter(|_| spec.terms.after_failed == AfterFailed::Fail) {
                    let how = ended.get(id).map_or("failed", TaskState::name);
                    let hint = format!("after: task {id} has {how}; retry it first (claudectl task retry {id}), or say --after-failed release");
                    return Err(refused(409, "dependency-failed", hint));
                }
            }
            let additions = Additions { specs: specs.clone(), ended: ended.into_keys().collect() };
            if let Some(ids) = self.decide(caller, |reply| Input::Add(Box::new(additions), reply)).await? {
                return Ok(ids);
            }
        }
        Err(refused(503, "busy", "what the task comes after changes faster than it can be looked at; try again"))
    }

    async fn task_shown(&self, id: TaskId) -> Result<api::Task, ServiceError> {
        self.shown(self.stored(id).await?).await
    }
}

impl Queue for Verbs {
    fn claim(&self, caller: Caller, id: Option<TaskId>, claim: api::Claim) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let by = match (caller.agent().cloned(), claim.by.filter(|by| !by.trim().is_empty())) {
                (Some(name), _) => name.to_string(),
                (None, Some(by)) if by.len() > 200 || by.contains(char::is_control) => {
                    return Err(refused(422, "invalid-claim", "by: it is one line of at most 200 bytes"));
                }
                (None, Some(by)) => by,
                (None, None) => caller.description.clone(),
            };
            let name = caller.agent().cloned();
            let claimed = self.settle(&caller, move |state, now, turn| {
                let agent = match &name {
                    None => None,
                    Some(name) => {
                        let invocation = state.queue.invocation(name).or_else(|| state.fleet.get(name).and_then(|seen| seen.running()));
                        Some((name.clone(), invocation.cloned().ok_or_else(|| refused(409, "not-running", format!("instance {name} is not running")))?))
                    }
                };
                let (id, effects) = state.queue.claim(id, Claim { by: by.clone(), since: now, agent }, now)?;
                if !effects.is_empty() {
                    turn.note("task-claimed", None, Some(id), format!("claimed by {by}"), None, now);
                }
                turn.effects(effects, now);
                Ok::<TaskId, ServiceError>(id)
            });
            let id = claimed.await??;
            tracing::info!(task = id.0, by = %caller.description, "task {id} claimed, asked by {}", caller.description);
            self.task_shown(id).await
        })
    }

    fn release(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let (name, by) = (caller.agent().cloned(), caller.description.clone());
            let released = self.settle(&caller, move |state, now, turn| {
                let effects = state.queue.release(id, name.as_ref(), now)?;
                turn.audit("task-released", now, |entry| entry.of_task(Some(id)));
                turn.note("task-released", None, Some(id), format!("given back by {by}"), None, now);
                turn.effects(effects, now);
                Ok::<(), ServiceError>(())
            });
            released.await??;
            self.task_shown(id).await
        })
    }

    fn complete(&self, caller: Caller, id: TaskId, completion: api::Completion) -> Answer<'_, api::Completed> {
        Box::pin(async move {
            if completion.note.len() > 10_000 {
                return Err(refused(422, "invalid-completion", "note: it has at most 10000 bytes"));
            }
            let (name, by) = (caller.agent().cloned(), caller.description.clone());
            let completed = self.settle(&caller, move |state, now, turn| {
                let failed = completion.failed;
                let (next, effects) = state.queue.complete(id, name.as_ref(), failed, completion.note, now)?;
                let how = if failed { "failed" } else { "done" };
                turn.audit("task-completed", now, |entry| entry.of_task(Some(id)).with(&json!({"failed": failed})));
                turn.note("task-completed", None, Some(id), format!("{how}, says {by}"), None, now);
                turn.effects(effects, now);
                Ok::<Option<TaskId>, ServiceError>(next)
            });
            let next = completed.await??;
            let next = match next {
                Some(next) => Some(self.task_shown(next).await?),
                None => None,
            };
            Ok(api::Completed { task: self.task_shown(id).await?, next })
        })
    }

    fn headway(&self, caller: Caller, said: api::Headway) -> Answer<'_, api::Outcome> {
        self.say(caller, said)
    }

    fn pauses(&self) -> Answer<'_, Vec<api::Pause>> {
        Box::pin(async { self.look(|state| state.queue.pauses().map(|(scope, pause)| shown(scope, pause)).collect()).await })
    }

    fn pause(&self, caller: Caller, wanted: api::NewPause) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let scope = scope(&wanted.kind, &wanted.name)?;
            if wanted.why.len() > 1000 || wanted.why.contains(char::is_control) {
                return Err(refused(422, "invalid-pause", "why: it is one line of at most 1000 bytes"));
            }
            let by =
                wanted.by.filter(|by| !by.trim().is_empty() && by.len() <= 200 && !by.contains(char::is_control)).unwrap_or_else(|| caller.description.clone());
            let changed = self.settle(&caller, move |state, now, turn| {
                let (changed, effects) = state.queue.pause(scope, Pause { by, why: wanted.why, since: now });
                turn.effects(effects, now);
                changed
            });
            outcome(changed.await?, "it is paused already")
        })
    }

    fn resume(&self, caller: Caller, kind: String, name: String) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let (scope, by) = (scope(&kind, &name)?, caller.description.clone());
            let changed = self.settle(&caller, move |state, now, turn| {
                let (changed, effects) = state.queue.resume(scope, &by, now);
                turn.effects(effects, now);
                changed
            });
            outcome(changed.await?, "it is not paused")
        })
    }

    fn cancel_group(&self, caller: Caller, group: Label) -> Answer<'_, Vec<api::Task>> {
        Box::pin(async move {
            let by = caller.description.clone();
            let ids = self.settle(&caller, move |state, now, turn| {
                let of_group = state.queue.tasks().filter(|task| task.terms.group.as_ref() == Some(&group));
                let ids: Vec<TaskId> = of_group.map(|task| task.id).collect();
                for id in &ids {
                    // One may have ended with another that it came after.
                    let (found, effects) = state.queue.cancel(*id, now);
                    if found {
                        turn.note("task-cancelled", None, Some(*id), format!("with its group, asked by {by}"), None, now);
                    }
                    turn.effects(effects, now);
                }
                ids
            });
            let mut stored = Vec::new();
            for id in ids.await? {
                stored.push(self.stored(id).await?);
            }
            self.look(move |state| view::tasks(state, &stored)).await
        })
    }

    fn import(&self, caller: Caller, import: api::Import) -> Answer<'_, api::Imported> {
        Box::pin(async move {
            let named: BTreeSet<InstanceName> = import.tasks.iter().filter_map(|one| one.task.instance.as_ref()?.parse().ok()).collect();
            let known = self.known(named).await?;
            let Checked { specs, ids } = import::check(import, &known).map_err(|problems| refused(422, "invalid-import", problems.join("\n")))?;
            let numbers = if specs.is_empty() { Vec::new() } else { self.add_all(&caller, specs).await? };
            tracing::info!(by = %caller.description, "{} tasks imported, asked by {}", numbers.len(), caller.description);
            let tasks = ids.into_iter().zip(numbers).map(|(id, number)| api::ImportedTask { id, task: number.0 }).collect();
            Ok(api::Imported { tasks })
        })
    }

    fn export(&self, group: Option<Label>, all: bool) -> Answer<'_, api::Import> {
        Box::pin(async move {
            let mut stored = Vec::new();
            let mut filter = TaskFilter { group, limit: PAGE, ..TaskFilter::default() };
            loop {
                let page = self.store.tasks(&filter).await?;
                let full = page.len() >= PAGE as usize;
                filter.before = page.last().map(|last| last.task.id);
                stored.extend(page.into_iter().filter(|one| all || !one.task.state.is_final()));
                if !full {
                    break;
                }
            }
            let there: BTreeSet<TaskId> = stored.iter().map(|one| one.task.id).collect();
            let mut tasks = Vec::new();
            // Oldest first, so that what is needed stands before what needs it.
            for one in stored.into_iter().rev() {
                // The list is without prompts; one that was removed meanwhile is left out.
                let Some(whole) = self.store.task(one.task.id).await? else { continue };
                let after = whole.spec.terms.after.iter().filter(|id| there.contains(id)).map(ToString::to_string).collect();
                let task = spec::request(&whole.spec);
                tasks.push(api::ImportTask { line: None, id: Some(whole.task.id.to_string()), status: Some(whole.task.state.name().to_owned()), after, task });
            }
            Ok(api::Import { tasks })
        })
    }
}

fn scope(kind: &str, name: &str) -> Result<Scope, ServiceError> {
    Scope::new(kind, name).map_err(|error| refused(422, "invalid-pause", error))
}

/// A pause as the API shows it.
pub(in crate::daemon) fn shown(scope: &Scope, pause: &Pause) -> api::Pause {
    api::Pause {
        kind: scope.kind().to_owned(),
        name: scope.name().to_owned(),
        by: pause.by.clone(),
        why: pause.why.clone(),
        since: pause.since.to_string(),
        resume: format!("claudectl resume {}", scope.option()),
    }
}

fn outcome(changed: bool, otherwise: &str) -> Result<api::Outcome, ServiceError> {
    let (result, message) = if changed { ("changed", String::new()) } else { ("unchanged", otherwise.to_owned()) };
    Ok(api::Outcome { result: result.to_owned(), message })
}
