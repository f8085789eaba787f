//! What agents may do to the queue beside their own tasks: say how they get on, and add tasks for their own team within bounds.

use super::{Verbs, refused};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::task::{Target, TaskSpec, TaskState};
use crate::core::terms::Priority;
use crate::daemon::engine::State;
use crate::daemon::headway::{SAID_MAX, TooOften};
use crate::http::service::{Answer, Caller, ServiceError};
use crate::proto::api;
use std::sync::Arc;

/// Most tasks that agents of one team have added and that have not ended.
const ADDED_MAX: usize = 50;

impl From<TooOften> for ServiceError {
    fn from(error: TooOften) -> Self {
        refused(429, "too-often", error.to_string())
    }
}

/// The task that a caller may speak of: what its instance runs or has claimed; for anyone else one that is claimed.
fn spoken_of(state: &State, agent: Option<&InstanceName>, task: Option<TaskId>) -> Result<TaskId, ServiceError> {
    let idle = || refused(409, "not-working", "your instance works on no task now; name one that you have claimed");
    let id = match (task, agent) {
        (Some(id), _) => id,
        (None, Some(name)) => return state.queue.busy(name).map(|attempt| attempt.task).ok_or_else(idle),
        (None, None) => return Err(refused(422, "invalid-progress", "task: name a task that is claimed; only an agent need not say which one is its own")),
    };
    let task = state.queue.task(id).ok_or_else(|| refused(409, "task-ended", format!("task {id} has ended, or there is none with that number")))?;
    match (&task.state, agent) {
        (TaskState::Claimed(_), None) => Ok(id),
        (_, None) => Err(refused(409, "not-claimed", format!("task {id} is not claimed; its agent says itself how it gets on"))),
        (stands, Some(name)) if stands.rests_on().is_some_and(|(instance, _)| instance == name) => Ok(id),
        (_, Some(name)) => Err(refused(403, "not-yours", format!("task {id} is not with instance {name}"))),
    }
}

/// The group of all that a team's agents have added: a person can pause, bound and end it as one.
fn group_of(team: &Label) -> Option<Label> {
    format!("agents-{team}").parse().ok()
}

/// A task as an agent may add it, or why it may not.
fn bounded(state: &State, name: &InstanceName, mut spec: TaskSpec) -> Result<TaskSpec, ServiceError> {
    let no = |status, detail: String| refused(status, "not-for-agents", detail);
    let of = |member: &InstanceName| state.queue.rules().member(member).team.clone();
    let outside = || no(403, format!("you are the agent of instance {name}, which is in no team; agents add tasks for their own team alone"));
    let team = of(name).ok_or_else(outside)?;
    let group = group_of(&team).ok_or_else(outside)?;
    if let Target::Instance(other) = &spec.target
        && of(other).as_ref() != Some(&team)
    {
        return Err(no(403, format!("instance: {other} is not in your team {team}; agents add tasks for their own team alone")));
    }
    let terms = Arc::make_mut(&mut spec.terms);
    if terms.demand.team.as_ref().is_some_and(|other| *other != team) {
        return Err(no(403, format!("team: it is not yours; agents add tasks for their own team {team} alone")));
    }
    if terms.priority > Priority::default() {
        return Err(no(422, "priority: what agents add is not more urgent than what people ask for; leave it out".to_owned()));
    }
    if terms.group.as_ref().is_some_and(|other| *other != group) {
        return Err(no(422, format!("group: what agents add is in the group {group}; leave it out")));
    }
    // One step and no further, or two tasks could add each other for ever.
    let own = state.queue.busy(name).and_then(|attempt| state.queue.task(attempt.task));
    if own.is_some_and(|task| task.terms.group.as_ref() == Some(&group)) {
        return Err(no(
            429,
            "your own task was added by an agent, and such tasks add no others; do it yourself, or say in your result what is left".to_owned(),
        ));
    }
    if state.queue.tasks().filter(|task| task.terms.group.as_ref() == Some(&group)).count() >= ADDED_MAX {
        return Err(no(429, format!("{ADDED_MAX} tasks that agents of the team {team} have added have not ended; no more are taken until some have")));
    }
    (terms.demand.team, terms.group) = (Some(team), Some(group));
    Ok(spec)
}

impl Verbs {
    /// A task as its caller may add it.
    pub(super) async fn as_caller_may(&self, caller: &Caller, spec: TaskSpec) -> Result<TaskSpec, ServiceError> {
        let Some(name) = caller.agent().cloned() else { return Ok(spec) };
        self.look(move |state| bounded(state, &name, spec)).await?
    }

    /// Keeps what somebody says of how they get on.
    pub(super) fn say(&self, caller: Caller, said: api::Headway) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let text = said.text.trim().to_owned();
            if text.is_empty() || text.len() > SAID_MAX || text.contains(char::is_control) {
                return Err(refused(422, "invalid-progress", format!("text: it is one line of 1 to {SAID_MAX} bytes")));
            }
            let agent = caller.agent().cloned();
            let kept = self.settle(&caller, move |state, now, turn| {
                let id = spoken_of(state, agent.as_ref(), said.task.map(TaskId))?;
                let queue = &state.queue;
                state.headway.say(id, &text, now, |task| queue.task(task).is_some())?;
                turn.note("task-progress", agent.as_ref(), Some(id), text, None, now);
                Ok::<(), ServiceError>(())
            });
            kept.await??;
            Ok(api::Outcome { result: "changed".to_owned(), message: String::new() })
        })
    }
}
