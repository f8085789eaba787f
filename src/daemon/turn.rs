//! One turn of the engine: what is to be committed together, and what is done once it is.

use super::engine::{Outbox, State};
use super::mail::Errand;
use super::plans::Expected;
use crate::core::attempt::{Ended, Report};
use crate::core::audit::{Actor, Entry};
use crate::core::ids::{InstanceName, InvocationId, TaskId};
use crate::core::label::Label;
use crate::core::queue::Effect;
use crate::core::size::Raise;
use crate::core::task::{Placement, Task, TaskSpec, TaskType};
use crate::platform::store::{Batch, StoreError, StoredEvent};
use crate::proto::link::FromDaemon;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Answers a caller once the turn is committed or given up.
pub(super) type Reply = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

/// A look at the state, taken when the turn's decisions are committed.
pub(super) type Look = Box<dyn FnOnce(&State) + Send>;

/// A decision on the state, taken in its turn.
pub(super) type Decision = Box<dyn FnOnce(&mut State, Timestamp, &mut Turn) + Send>;

/// New tasks of one caller, checked: all of them are added, or none.
pub(super) struct Additions {
    /// Each with the places of those among them that it comes after.
    pub(super) specs: Vec<(TaskSpec, Vec<usize>)>,
    /// Those of others that they come after which had ended when the caller looked.
    pub(super) ended: BTreeSet<TaskId>,
}

/// Where the numbers of new tasks go. `None`: one that they come after has ended since the caller looked, who looks again.
pub(super) type Added = oneshot::Sender<Result<Option<Vec<TaskId>>, Arc<StoreError>>>;

/// What is done after the commit, in order.
pub(super) enum Action {
    /// Tell a runner something.
    Tell(Outbox, FromDaemon),
    /// Give an attempt to its runner.
    Run {
        /// Which attempt, where.
        placement: Placement,
        /// Whether it may go on in its last session.
        resume: bool,
    },
    /// Tell an instance's runner something, if it is still connected.
    Say(InstanceName, FromDaemon),
    /// Have its runner end an attempt.
    End(InstanceName, crate::core::ids::AttemptId),
    /// Raise an instance's memory limit, or set it back.
    Limit {
        /// The instance.
        instance: InstanceName,
        /// From what to what.
        raise: Raise,
        /// Set it back.
        back: bool,
    },
    /// Count an attempt that has ended.
    Ended(InstanceName, TaskType, Ended),
    /// Count what an attempt has used; with how long its task had waited, if it is the first.
    Used(InstanceName, TaskType, Box<Report>, Option<Duration>),
    /// Count a lock that was waited for or refused.
    Lock(LockCount),
    /// Count an automatic restart, with its cause.
    Restarted(InstanceName, String),
}

/// What is counted of locks.
pub(super) enum LockCount {
    /// A request has waited so long, and was granted or not.
    Waited(Duration, bool),
    /// A request was refused: `held`, `deadlock`, `too-many`.
    Refused(&'static str),
}

/// The turn.
#[derive(Default)]
pub(super) struct Turn {
    /// Whose input is being decided on: what follows from it goes to its account.
    pub(super) actor: Actor,
    /// What is committed.
    pub(super) batch: Batch,
    /// Who asked for each of `batch.add`.
    pub(super) adders: Vec<Actor>,
    /// Who waits for the numbers of `batch.add`, and for how many of them.
    pub(super) adds: Vec<(usize, Added)>,
    /// Which schedules have added a task, and its place in `batch.add`.
    pub(super) scheduled: Vec<(Label, usize)>,
    /// Which of `batch.add` are made of messages.
    pub(super) errands: Vec<Errand>,
    /// Which of `batch.add` belong to plans.
    pub(super) planned: Vec<Expected>,
    /// What is done then.
    pub(super) actions: Vec<Action>,
    /// Who waits for the commit.
    pub(super) replies: Vec<Reply>,
    /// Who wants to look.
    pub(super) looks: Vec<Look>,
    /// Starts of units that are over.
    pub(super) over: Vec<(InstanceName, InvocationId)>,
    /// How many of the queue's changes the locks have followed.
    pub(super) followed: usize,
}

impl Turn {
    /// Adds tasks.
    pub(super) fn add(&mut self, additions: Additions, now: Timestamp, reply: Added) {
        let first = self.batch.add.len();
        self.adds.push((additions.specs.len(), reply));
        for (place, (spec, after)) in additions.specs.into_iter().enumerate() {
            self.batch.links.extend(after.into_iter().map(|earlier| (first + place, first + earlier)));
            self.batch.add.push((spec, now));
            self.adders.push(self.actor.clone());
        }
    }

    /// Adds a task for whose number nobody waits; answers its place in the batch.
    pub(super) fn add_one(&mut self, spec: TaskSpec, now: Timestamp) -> usize {
        let place = self.batch.add.len();
        self.add(Additions { specs: vec![(spec, Vec::new())], ended: BTreeSet::new() }, now, oneshot::channel().0);
        place
    }

    /// The tasks of a batch as they enter the queue, once they have their numbers.
    pub(super) fn fresh(batch: &Batch, ids: &[TaskId]) -> Vec<Task> {
        let mut tasks: Vec<Task> = ids.iter().zip(&batch.add).map(|(id, (spec, at))| Task::fresh(*id, spec, *at)).collect();
        for (later, earlier) in &batch.links {
            if let (Some(task), Some(needed)) = (tasks.get_mut(*later), ids.get(*earlier)) {
                Arc::make_mut(&mut task.terms).after.insert(*needed);
            }
        }
        tasks
    }

    /// Adds the queue's decisions.
    pub(super) fn effects(&mut self, effects: Vec<Effect>, now: Timestamp) {
        for effect in effects {
            match effect {
                Effect::Save(change) => {
                    self.batch.audit.extend(self.actor.caused(&change, now));
                    self.batch.changes.push(change);
                }
                Effect::Run { placement, resume } => {
                    let message = format!("attempt {} given to {}", placement.attempt.number, placement.instance);
                    self.note("task-assigned", Some(&placement.instance), Some(placement.attempt.task), message, None, now);
                    self.actions.push(Action::Run { placement, resume });
                }
                Effect::Tell { kind, instance, task, message } => self.note(kind, instance.as_ref(), task, message, None, now),
                Effect::Limit { instance, raise, back } => self.actions.push(Action::Limit { instance, raise, back }),
                Effect::End { instance, attempt } => self.actions.push(Action::End(instance, attempt)),
                Effect::Ended { attempt, instance, kind, report } => {
                    let cause = report.ended.reason().map_or_else(|| report.ended.name().to_owned(), |r| r.name().to_owned());
                    let detail = if report.detail.is_empty() { String::new() } else { format!(": {}", report.detail) };
                    let message = format!("attempt {} {}{detail}", attempt.number, report.ended.name());
                    self.note("task-finished", Some(&instance), Some(attempt.task), message, Some(cause), now);
                    self.actions.push(Action::Ended(instance, kind, report.ended));
                }
                Effect::Used { attempt, instance, kind, created, report } => {
                    // Later attempts have waited for other things than an instance.
                    let waited = (attempt.number == 1).then(|| Duration::try_from(report.started.duration_since(created)).unwrap_or_default());
                    self.actions.push(Action::Used(instance, kind, report, waited));
                }
            }
        }
    }

    /// Adds a row to the audit: the actor of the turn did that. `more` says to what.
    pub(super) fn audit(&mut self, what: &str, now: Timestamp, more: impl FnOnce(Entry) -> Entry) {
        let entry = more(self.actor.did(what, now));
        self.batch.audit.push(entry);
    }

    /// Adds something to keep and show that is about something else than an instance or a task alone.
    pub(super) fn note_of(&mut self, subject: String, kind: &str, task: Option<TaskId>, message: String, now: Timestamp) {
        self.audit(kind, now, |entry| entry.of(subject).of_task(task));
        self.batch.events.push(StoredEvent { id: 0, at: now, kind: kind.to_owned(), instance: None, task, message, cause: None });
    }

    /// Adds something to keep and show. What the queue does stands in the audit as it is stored, everything else as it is noted.
    pub(super) fn note(&mut self, kind: &str, instance: Option<&InstanceName>, task: Option<TaskId>, message: String, cause: Option<String>, now: Timestamp) {
        if !kind.starts_with("task-") && !["paused", "resumed", "account-paused"].contains(&kind) {
            let details = cause.as_ref().map_or_else(|| json!({}), |cause| json!({ "cause": cause }));
            self.audit(kind, now, |entry| entry.of_instance(instance).of_task(task).with(&details));
        }
        self.batch.events.push(StoredEvent { id: 0, at: now, kind: kind.to_owned(), instance: instance.cloned(), task, message, cause });
    }

    /// Answers a caller with `value` once the turn is committed.
    pub(super) fn reply<T: Send + 'static>(&mut self, to: oneshot::Sender<Result<T, Arc<StoreError>>>, value: T) {
        // A caller that has gone away needs no answer.
        self.replies.push(Box::new(move |committed| drop(to.send(committed.map(|()| value)))));
    }

    /// Tells a runner something once the turn is committed.
    pub(super) fn tell(&mut self, to: Outbox, message: FromDaemon) {
        self.actions.push(Action::Tell(to, message));
    }

    /// Gives the turn up: everyone who waits for it gets the error. The looks remain, and the ways to the runners that took
    /// part in it.
    pub(super) fn fail(self, error: &Arc<StoreError>) -> (Vec<Look>, Vec<Outbox>) {
        for reply in self.replies {
            reply(Err(error.clone()));
        }
        for (_, reply) in self.adds {
            let _ = reply.send(Err(error.clone()));
        }
        let part = self.actions.into_iter().filter_map(|action| if let Action::Tell(to, _) = action { Some(to) } else { None });
        (self.looks, part.collect())
    }
}
