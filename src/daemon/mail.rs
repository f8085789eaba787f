//! The post, as the engine sees to it: who a message is for, how the instances stand, and what follows.

use super::engine::State;
use super::turn::{Action, Turn};
use crate::config::Config;
use crate::core::attempt::Report;
use crate::core::audit::Actor;
use crate::core::ids::{InstanceName, TaskId};
use crate::core::message::{Change, Draft, Effect, Ending, Kind, Message, MessageId, Post, Refused, Standing, TEXT_MAX};
use crate::core::profile::AgentKind;
use crate::core::queue::{self, Queue};
use crate::core::task::TaskState;
use crate::platform::store::StoreError;
use crate::proto::link::FromDaemon;
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// A message that a caller wants sent.
pub(super) struct Posting {
    /// What it says.
    pub(super) draft: Draft,
    /// Where it goes.
    pub(super) route: Route,
}

/// Where a message goes.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// To the instance of that name, or the team.
    To(String),
    /// To all that run.
    All,
    /// To one that is free, as a question that is answered within that time.
    Free(Option<String>, Duration),
}

/// Where a new message's number goes, or why there is none.
pub(super) type Posted = oneshot::Sender<Result<Result<MessageId, Refused>, Arc<StoreError>>>;

/// A task that is made of a message.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    /// Its place in the batch.
    at: usize,
    message: Arc<Message>,
    to: InstanceName,
    /// Of a call for help: until when.
    until: Option<Timestamp>,
}

/// Takes a message, or says why not.
pub(super) fn post(state: &mut State, Posting { mut draft, route }: Posting, reply: Posted, now: Timestamp, turn: &mut Turn) {
    draft.attempt = draft.from.as_ref().and_then(|name| state.queue.busy(name));
    let from = draft.from.clone();
    let done = match route {
        Route::To(text) => named(state, &text, from.as_ref()).and_then(|to| state.post.send(draft, &to, Uuid::new_v4, now)),
        Route::All => running(state, from.as_ref(), |_| true).and_then(|to| state.post.send(draft, &to, Uuid::new_v4, now)),
        Route::Free(specialty, patience) => {
            let fits = |name: &InstanceName| specialty.as_deref().is_none_or(|specialty| is_good_at(state, name, specialty));
            let found = running(state, from.as_ref(), fits).map_err(|refused| match (refused, &specialty) {
                (Refused::Nobody(_), Some(specialty)) => Refused::Nobody(format!(" with the specialty {specialty:?}")),
                (refused, _) => refused,
            });
            found.and_then(|to| {
                let asked = state.post.send(draft, &[], Uuid::new_v4, now)?;
                let free = to.iter().find(|name| state.queue.busy(name).is_none()).or(to.first());
                if let Some(helper) = free {
                    let until = now.checked_add(patience).unwrap_or(Timestamp::MAX);
                    errand(turn, asked.0.question(helper, patience), &asked.0, helper, Some(until), now);
                }
                Ok(asked)
            })
        }
    };
    match done {
        Ok((message, saved)) => {
            effects(turn, &mut state.queue, vec![saved], now);
            turn.reply(reply, Ok(message.id));
        }
        Err(refused) => drop(reply.send(Ok(Err(refused)))),
    }
}

/// The instance of that name, or the running members of the team: those whose names begin with it and a dash.
fn named(state: &State, text: &str, from: Option<&InstanceName>) -> Result<Vec<InstanceName>, Refused> {
    let unknown = || Refused::Unknown(text.to_owned());
    let name: InstanceName = text.parse().map_err(|_| unknown())?;
    if state.knows(&name) {
        return Ok(vec![name]);
    }
    running(state, from, |other| name.contains(other)).map_err(|_| unknown())
}

/// The instances whose runners are connected, but for the one that asks.
fn running(state: &State, from: Option<&InstanceName>, fits: impl Fn(&InstanceName) -> bool) -> Result<Vec<InstanceName>, Refused> {
    let linked = state.fleet.iter().map(|seen| &seen.name).filter(|name| state.queue.is_linked(name));
    let found: Vec<InstanceName> = linked.filter(|name| Some(*name) != from && fits(name)).cloned().collect();
    if found.is_empty() { Err(Refused::Nobody(String::new())) } else { Ok(found) }
}

/// Whether an instance has that specialty: it is one of its own, its profile is called so, or a part of its name is.
fn is_good_at(state: &State, name: &InstanceName, specialty: &str) -> bool {
    state.queue.rules().member(name).specialties.iter().any(|own| own.as_str() == specialty)
        || state.config.instance(name).profile == specialty
        || name.as_str().split('-').any(|part| part == specialty)
}

/// Moves everything as far as it goes, at the end of a turn.
pub(super) fn settle(state: &mut State, now: Timestamp, turn: &mut Turn) {
    turn.actor = Actor::clauded();
    let State { queue, post, config, .. } = state;
    let (over, cancelled) = post.answered(now, |task| ending(queue, turn, task));
    effects(turn, queue, cancelled, now);
    for (help, ending) in over {
        let asker = &help.message.draft;
        let helper = turn.batch.changes.iter().find_map(|change| reported(change, help.task)).map(|(name, _)| name.clone());
        let text = if ending.succeeded { ending.text } else { format!("There is no answer: {}", ending.text) };
        let draft = Draft {
            sender: helper.as_ref().map_or_else(|| "clauded".to_owned(), |name| format!("instance:{name}")),
            from: helper,
            attempt: None,
            kind: Kind::Answer,
            to: asker.from.as_ref().map_or_else(|| asker.sender.clone(), ToString::to_string),
            reply_to: Some(help.message.id),
            text,
        };
        // An answer is never refused.
        if let Ok((_, saved)) = post.send(draft, asker.from.as_slice(), Uuid::new_v4, now) {
            effects(turn, queue, vec![saved], now);
        }
    }
    let goes_on = |task, name: &InstanceName| queue.task(task).is_some_and(|task| task.home.as_ref() == Some(name));
    let moved = post.settle(now, |name| standing(queue, config, name), goes_on);
    effects(turn, queue, moved, now);
    post.forget(|task| queue.task(task).is_some());
}

fn standing(queue: &Queue, config: &Config, name: &InstanceName) -> Standing {
    if !queue.is_linked(name) {
        return Standing::Away;
    }
    let Some(attempt) = queue.busy(name) else { return Standing::Idle };
    let runs = queue.task(attempt.task).is_some_and(|task| !task.cancelling && matches!(&task.state, TaskState::Running(p) if p.attempt == attempt));
    let hears = config.profiles.get(&config.instance(name).profile).is_some_and(|profile| profile.profile.agent == AgentKind::Claude);
    Standing::Works { attempt, listens: runs && hears }
}

/// How a task ended in this turn, if it has ended.
fn ending(queue: &Queue, turn: &Turn, task: TaskId) -> Option<Ending> {
    if queue.task(task).is_some() {
        return None;
    }
    let last = turn.batch.changes.iter().rev().find_map(|change| match change {
        queue::Change::Task(changed) if changed.id == task => Some(changed),
        _ => None,
    });
    let (state, note) = (last.map(|task| &task.state), last.map_or("", |task| task.note.trim()));
    let report = turn.batch.changes.iter().rev().find_map(|change| reported(change, task)).map(|(_, report)| report);
    Some(match (state, report) {
        (Some(TaskState::Succeeded), Some(report)) if !report.text.trim().is_empty() => Ending { succeeded: true, text: readable(&report.text) },
        // Who had claimed the question has answered it themselves.
        (Some(TaskState::Succeeded), None) if !note.is_empty() => Ending { succeeded: true, text: readable(note) },
        (Some(TaskState::Succeeded), _) => Ending { succeeded: false, text: "the one who was asked had nothing to say".to_owned() },
        (Some(TaskState::Cancelled), _) => Ending { succeeded: false, text: "the question was cancelled".to_owned() },
        (Some(TaskState::Failed(reason)), _) => Ending { succeeded: false, text: format!("the one who was asked has failed ({reason})") },
        _ => Ending { succeeded: false, text: "the question is gone".to_owned() },
    })
}

fn reported(change: &queue::Change, task: TaskId) -> Option<(&InstanceName, &Report)> {
    match change {
        queue::Change::Report(attempt, name, report) if attempt.task == task => Some((name, report)),
        _ => None,
    }
}

/// An agent's last words as a message may have them.
fn readable(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default().to_owned()
}

/// Does what the post wants done, or puts it into the turn.
fn effects(turn: &mut Turn, queue: &mut Queue, effects: Vec<Effect>, now: Timestamp) {
    for effect in effects {
        match effect {
            Effect::Save(change) => save(turn, change, now),
            Effect::Tell { to, attempt, message, uuid } => {
                turn.actions.push(Action::Say(to, FromDaemon::Message { attempt, id: message.id, uuid, text: message.told() }));
            }
            Effect::Task { to, message } => errand(turn, message.task(&to), &message, &to, None, now),
            Effect::Cancel(task) => {
                let (_, effects) = queue.cancel(task, now);
                turn.effects(effects, now);
            }
        }
    }
}

fn errand(turn: &mut Turn, spec: crate::core::task::TaskSpec, message: &Arc<Message>, to: &InstanceName, until: Option<Timestamp>, now: Timestamp) {
    let at = turn.add_one(spec, now);
    turn.errands.push(Errand { at, message: message.clone(), to: to.clone(), until });
}

/// The tasks that were made of messages have their numbers.
pub(super) fn queued(post: &mut Post, errands: &[Errand], ids: &[TaskId], now: Timestamp, turn: &mut Turn) {
    for Errand { at, message, to, until } in errands {
        if let Some(id) = ids.get(*at) {
            turn.actor = Actor::clauded();
            let change = post.queued(to, message, *id, *until);
            save(turn, change, now);
        }
    }
}

/// Puts a change into the turn, with its row in the audit. What a message says is in none.
pub(super) fn save(turn: &mut Turn, change: Change, now: Timestamp) {
    let subject = |id: MessageId| format!("message {id}");
    match &change {
        Change::Posted(message, letters) => {
            let draft = &message.draft;
            let details = json!({"kind": draft.kind.name(), "to": draft.to, "bytes": draft.text.len(), "letters": letters.len(), "reply_to": draft.reply_to});
            turn.audit("message-posted", now, |entry| entry.of(subject(message.id)).with(&details));
        }
        Change::Moved(id, to, progress) => {
            let task = match progress {
                crate::core::message::Progress::Sent(attempt) | crate::core::message::Progress::Delivered(attempt) => Some(attempt.task),
                crate::core::message::Progress::Queued(task) => Some(*task),
                crate::core::message::Progress::Pending | crate::core::message::Progress::Expired => None,
            };
            turn.audit(&format!("message-{}", progress.name()), now, |entry| entry.of(subject(*id)).of_instance(Some(to)).of_task(task));
        }
        Change::Asked(id, task, _) => turn.audit("help-asked", now, |entry| entry.of(subject(*id)).of_task(Some(*task))),
    }
    turn.batch.mail.push(change);
}
