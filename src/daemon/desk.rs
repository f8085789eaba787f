//! Where locks are asked for: the engine's side of [`crate::core::lock`]. Says who the caller is, what it means, and what follows
//! for locks from what the queue decided.

use super::engine::{Outbox, State};
use super::turn::{Action, LockCount, Turn};
use crate::config::Config;
use crate::core::attempt::Ended;
use crate::core::checkout::Source;
use crate::core::ids::{AttemptId, InstanceName};
use crate::core::instance::Observation;
use crate::core::lock::{
    Acquired, Answer, Blocker, Bond, Effect, Lock, LockId, Locks, Mode, Owner, Pattern, REASON_MAX, Refusal, Request, Scope, TTL_MAX, Uncovered, Wait, WaitId,
    describe,
};
use crate::core::queue::{Change, Queue};
use crate::core::task::TaskState;
use crate::platform::store::{SqliteStore, StoreError};
use crate::proto::link::FromDaemon;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Where an answer goes, once it is durable.
pub(super) type Reply = oneshot::Sender<Result<Said, Arc<StoreError>>>;

/// What is asked for.
pub(super) enum Input {
    /// A lock.
    Acquire(Box<Wanted>, Reply),
    /// The request of that key need not wait any longer; it is answered.
    Withdraw(u64),
    /// To give locks back.
    Release { who: Who, which: Which, force: bool, reply: Reply },
    /// Whether an attempt has a lock on each of these files.
    Check { instance: InstanceName, attempt: AttemptId, files: Vec<String>, to: Outbox },
    /// To give a lock to an instance.
    Transfer { who: Who, id: LockId, to: InstanceName, force: bool, reply: Reply },
}

/// Who asks, as the kernel says.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// A process of an instance.
    Agent(InstanceName),
    /// Anyone else.
    Person { uid: Option<u32>, name: String },
}

/// What a lock is on, as it was asked for.
#[derive(Clone, Debug)]
pub(super) enum On {
    Path(String),
    Glob(String),
    Feature(String),
}

/// Where, as it was said: a repository's name or a directory, and the directory of the repository that it is a worktree of. An
/// agent need not say it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) repository: Option<String>,
}

/// A lock that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) who: Who,
    pub(super) place: Option<Place>,
    pub(super) on: On,
    pub(super) mode: Mode,
    pub(super) reason: String,
    pub(super) ttl: Option<Duration>,
    /// The key by which a request that waits may be withdrawn.
    pub(super) wait: Option<u64>,
    /// The number by which the caller finds such a request again.
    pub(super) ticket: Option<Uuid>,
    /// Take it from whoever has it.
    pub(super) steal: bool,
}

/// Which locks.
#[derive(Clone, Debug)]
pub(super) enum Which {
    Id(LockId),
    At(Option<Place>, On),
    /// All of the caller's.
    Own,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// `created`, `changed` or `unchanged`: it is held.
    Held(&'static str, Box<Lock>),
    /// So many were given back.
    Released(usize),
    /// No, for that reason.
    No(No),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum No {
    /// Others stand in the way: who, in a sentence.
    Blocked(String),
    /// A circle of those who wait was broken here.
    Deadlock(String),
    /// The owner's task has ended meanwhile.
    OwnerEnded,
    /// Too many locks or waits.
    TooMany,
    /// The wait was withdrawn.
    Withdrawn(String),
    /// There is no such lock.
    Missing(String),
    /// It may not.
    Forbidden(String),
    /// What was asked for is wrong.
    Invalid(String),
}

struct Waiter {
    key: u64,
    ticket: Option<Uuid>,
    reply: Reply,
}

/// The locks, and the callers who wait for one.
#[derive(Default)]
pub(super) struct Desk {
    /// The table.
    pub(super) locks: Locks,
    waiters: BTreeMap<WaitId, Waiter>,
}

impl Desk {
    /// The table as the store has it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn load(store: &SqliteStore) -> Result<Self, StoreError> {
        let (locks, last) = store.locks().await?;
        Ok(Self { locks: Locks::load(locks, last), waiters: BTreeMap::new() })
    }

    /// When [`tick`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.locks.next_wake()
    }

    /// The request that waits with that ticket.
    pub(super) fn wait_of(&self, ticket: Uuid) -> Option<(WaitId, &Wait)> {
        let (id, _) = self.waiters.iter().find(|(_, waiter)| waiter.ticket == Some(ticket))?;
        self.locks.wait(*id).map(|wait| (*id, wait))
    }

    /// Tells everyone who waits that nothing was stored.
    pub(super) fn give_up(&mut self, error: &Arc<StoreError>) {
        for waiter in std::mem::take(&mut self.waiters).into_values() {
            // A caller that has gone away needs no answer.
            let _ = waiter.reply.send(Err(error.clone()));
        }
    }

    fn perform(&mut self, effects: Vec<Effect>, now: Timestamp, turn: &mut Turn) {
        for effect in effects {
            match effect {
                Effect::Save(change) => turn.batch.locks.push(change),
                Effect::Tell(notice) => {
                    if notice.kind == "lock-refused" {
                        turn.actions.push(Action::Lock(LockCount::Refused(notice.cause.unwrap_or("held"))));
                    }
                    let subject = notice.message.clone();
                    turn.note(notice.kind, notice.owner.instance(), notice.owner.task(), notice.message, notice.cause.map(str::to_owned), now);
                    // Which lock it is about stands in the sentence alone.
                    if let Some(row) = turn.batch.audit.last_mut() {
                        row.subject = Some(subject);
                    }
                }
                Effect::Answer(id, answer, waited) => {
                    turn.actions.push(Action::Lock(LockCount::Waited(waited, matches!(answer, Answer::Granted(_)))));
                    let Some(waiter) = self.waiters.remove(&id) else { continue };
                    let said = match answer {
                        Answer::Granted(id) => self.held("created", id),
                        Answer::OwnerEnded => Said::No(No::OwnerEnded),
                        Answer::Deadlock(circle) => Said::No(No::Deadlock(circle.iter().map(ToString::to_string).collect::<Vec<_>>().join(" waits for "))),
                    };
                    turn.reply(waiter.reply, said);
                }
            }
        }
    }

    fn held(&self, what: &'static str, id: LockId) -> Said {
        match self.locks.get(id) {
            Some(lock) => Said::Held(what, Box::new(lock.clone())),
            None => Said::No(No::OwnerEnded),
        }
    }
}

/// Decides on one input.
pub(super) fn take(input: Input, state: &mut State, now: Timestamp, turn: &mut Turn) {
    match input {
        Input::Acquire(wanted, reply) => acquire(*wanted, reply, state, now, turn),
        Input::Withdraw(key) => {
            let desk = &mut state.desk;
            let Some(id) = desk.waiters.iter().find(|(_, waiter)| waiter.key == key).map(|(id, _)| *id) else { return };
            let way = in_the_way(&desk.locks, &desk.locks.blockers_of(id));
            let waited = desk.locks.wait(id).map(|wait| Duration::try_from(now.duration_since(wait.since)).unwrap_or_default());
            turn.actions.push(Action::Lock(LockCount::Waited(waited.unwrap_or_default(), false)));
            if let Some(waiter) = desk.waiters.remove(&id) {
                turn.reply(waiter.reply, Said::No(No::Withdrawn(way)));
            }
            let effects = desk.locks.withdraw(id, now);
            desk.perform(effects, now, turn);
        }
        Input::Release { who, which, force, reply } => {
            let said = release(&who, which, force, state, now, turn).unwrap_or_else(Said::No);
            turn.reply(reply, said);
        }
        Input::Check { instance, attempt, files, to } => {
            let uncovered = check(&instance, attempt, files, state);
            if !uncovered.is_empty() {
                let message = format!("{} changed without a lock: {}", if uncovered.len() == 1 { "a file was" } else { "files were" }, describe(&uncovered));
                turn.note("lock-missing", Some(&instance), Some(attempt.task), message, None, now);
            }
            turn.tell(to, FromDaemon::Locks { attempt, uncovered });
        }
        Input::Transfer { who, id, to, force, reply } => {
            let (by, (to, bond)) = (owner(state, &who).0, owner(state, &Who::Agent(to)));
            let said = match state.desk.locks.transfer(id, &by, force, to, bond, now) {
                Ok(effects) => {
                    state.desk.perform(effects, now, turn);
                    state.desk.held("changed", id)
                }
                Err(refusal) => Said::No(refused(id, &refusal)),
            };
            turn.reply(reply, said);
        }
    }
}

/// Time has passed.
pub(super) fn tick(state: &mut State, now: Timestamp, turn: &mut Turn) {
    let State { queue, desk, .. } = state;
    let effects = desk.locks.tick(now, |lock| is_alive(queue, &lock.owner));
    desk.perform(effects, now, turn);
}

/// What follows from what the queue has decided in this turn, and from the units that are over.
pub(super) fn follow(state: &mut State, now: Timestamp, turn: &mut Turn) {
    let locks = &mut state.desk.locks;
    let mut effects = Vec::new();
    for change in turn.batch.changes.iter().skip(turn.followed) {
        match change {
            Change::Report(attempt, instance, report) => {
                let go_on = matches!(report.ended, Ended::Interrupted | Ended::Limited { .. });
                effects.extend(locks.attempt_ended(instance, *attempt, go_on, now));
            }
            Change::Task(task) if task.state.is_final() => effects.extend(locks.task_ended(task.id, now)),
            Change::Task(task) => {
                if let TaskState::Running(placement) = &task.state {
                    effects.extend(locks.begun(&placement.instance, task.id, now));
                }
            }
            Change::Attempt(_) | Change::Pause(..) | Change::Spend(..) | Change::Raise(..) => {}
        }
    }
    turn.followed = turn.batch.changes.len();
    for (instance, invocation) in turn.over.drain(..) {
        effects.extend(locks.unit_ended(&instance, &invocation, now));
    }
    state.desk.perform(effects, now, turn);
}

/// The place of an instance's files: the repository, else its directory.
pub(super) fn place_of(config: &Config, name: &InstanceName) -> String {
    let instance = config.instance(name);
    instance.repository.unwrap_or_else(|| instance.directory.display().to_string())
}

fn acquire(wanted: Wanted, reply: Reply, state: &mut State, now: Timestamp, turn: &mut Turn) {
    let (owner, bond) = owner(state, &wanted.who);
    let scope = match scope(&state.config, &wanted.who, wanted.place.as_ref(), &wanted.on) {
        Ok(scope) => scope,
        Err(no) => return turn.reply(reply, Said::No(no)),
    };
    let ttl = wanted.ttl.unwrap_or(state.config.locks.ttl);
    if ttl.is_zero() || ttl > TTL_MAX {
        return turn.reply(reply, Said::No(No::Invalid("ttl_seconds: a lock is given for 1 second to 7 days".to_owned())));
    }
    if wanted.reason.len() > REASON_MAX || wanted.reason.chars().any(char::is_control) {
        return turn.reply(reply, Said::No(No::Invalid(format!("reason: it is one line of at most {REASON_MAX} bytes"))));
    }
    // Somebody who sits and waits goes before programs.
    let priority = i32::from(owner.instance().is_none());
    let request = Request { scope, mode: wanted.mode, owner, bond, reason: wanted.reason, ttl, priority };
    let desk = &mut state.desk;
    let (acquired, effects) = match wanted.steal {
        true => desk.locks.steal(request, now),
        false => desk.locks.acquire(request, wanted.wait.is_some(), now),
    };
    let said = match (acquired, wanted.wait) {
        (Acquired::Waits(id), Some(key)) => {
            desk.waiters.insert(id, Waiter { key, ticket: wanted.ticket, reply });
            return desk.perform(effects, now, turn);
        }
        (Acquired::Created(id), _) => desk.held("created", id),
        (Acquired::Changed(id), _) => desk.held("changed", id),
        (Acquired::Unchanged(id), _) => desk.held("unchanged", id),
        (Acquired::Blocked(blockers), _) => Said::No(No::Blocked(in_the_way(&desk.locks, &blockers))),
        (Acquired::TooMany | Acquired::Waits(_), _) => {
            turn.actions.push(Action::Lock(LockCount::Refused("too-many")));
            Said::No(No::TooMany)
        }
    };
    desk.perform(effects, now, turn);
    turn.reply(reply, said);
}

fn release(who: &Who, which: Which, force: bool, state: &mut State, now: Timestamp, turn: &mut Turn) -> Result<Said, No> {
    let by = owner(state, who).0;
    let ids = match which {
        Which::Id(id) => vec![id],
        Which::Own => state.desk.locks.iter().filter(|lock| lock.owner == by).map(|lock| lock.id).collect(),
        Which::At(place, on) => {
            let scope = scope(&state.config, who, place.as_ref(), &on)?;
            let found = state.desk.locks.find(&scope, &by);
            vec![found.ok_or_else(|| No::Missing(format!("{by} holds no lock on {scope}; see: claudectl lock list")))?]
        }
    };
    for id in &ids {
        let effects = state.desk.locks.release(*id, &by, force, now).map_err(|refusal| refused(*id, &refusal))?;
        state.desk.perform(effects, now, turn);
    }
    Ok(Said::Released(ids.len()))
}

/// The files that an attempt has no lock on. What nobody has is not held against an attempt after the first: an earlier one may have
/// changed it, whose locks have ended with it.
fn check(instance: &InstanceName, attempt: AttemptId, files: Vec<String>, state: &State) -> Vec<Uncovered> {
    if state.queue.attempt_on(instance) != Some(attempt) {
        return Vec::new();
    }
    let (place, owner) = (place_of(&state.config, instance), Owner::Agent { instance: instance.clone(), task: Some(attempt.task) });
    let lacks = |path: String| {
        let scope = Scope { place: place.clone(), pattern: Pattern::path(&path).ok()? };
        let holder = state.desk.locks.holder(&scope, &owner).map(|lock| lock.owner.clone());
        match holder {
            Some(holder) if holder == owner => None,
            None if attempt.number > 1 => None,
            holder => Some(Uncovered { path, holder: holder.map(|holder| holder.to_string()) }),
        }
    };
    files.into_iter().filter_map(lacks).collect()
}

fn refused(id: LockId, refusal: &Refusal) -> No {
    match refusal {
        Refusal::NoSuchLock => No::Missing(format!("there is no lock {id}; see: claudectl lock list")),
        Refusal::NotYours(owner) => No::Forbidden(format!("lock {id} is held by {owner}; an operator may release or give it on all the same, with --force")),
        Refusal::Conflict(owner) => No::Blocked(format!("{owner} holds another lock on some of these files; release that first")),
    }
}

/// Whose name a caller acts in, and what that hangs on.
fn owner(state: &State, who: &Who) -> (Owner, Bond) {
    match who {
        Who::Person { uid, name } => (Owner::Person { uid: *uid, name: name.clone() }, Bond::default()),
        Who::Agent(instance) => match state.queue.attempt_on(instance) {
            Some(attempt) => (Owner::Agent { instance: instance.clone(), task: Some(attempt.task) }, Bond { attempt: Some(attempt.number), invocation: None }),
            None => {
                let invocation = state.fleet.get(instance).and_then(Observation::running).or_else(|| state.queue.invocation(instance)).cloned();
                (Owner::Agent { instance: instance.clone(), task: None }, Bond { attempt: None, invocation })
            }
        },
    }
}

fn is_alive(queue: &Queue, owner: &Owner) -> bool {
    match owner {
        Owner::Agent { instance, task: Some(task) } => queue.attempt_on(instance).is_some_and(|attempt| attempt.task == *task),
        Owner::Agent { task: None, .. } | Owner::Person { .. } => false,
    }
}

/// Where, and which paths there.
fn scope(config: &Config, who: &Who, place: Option<&Place>, on: &On) -> Result<Scope, No> {
    let meant = place.map(|place| place_named(config, place)).transpose()?;
    let place = match (who, meant) {
        (Who::Agent(name), meant) => {
            let own = place_of(config, name);
            if let Some(other) = meant.filter(|place| *place != own) {
                return Err(No::Forbidden(format!("you are the agent of instance {name}, which works in {own}, and may not lock files in {other}")));
            }
            own
        }
        (Who::Person { .. }, Some(place)) => place,
        (Who::Person { .. }, None) => return Err(No::Invalid("place: say in which repository, or in which directory".to_owned())),
    };
    let pattern = match on {
        On::Path(text) => Pattern::path(text),
        On::Glob(text) => Pattern::glob(text),
        On::Feature(name) => {
            let features = config.repositories.get(&place).map(|repository| &repository.features);
            let found = features.and_then(|features| features.get(name)).cloned();
            return found.map(|pattern| Scope { place: place.clone(), pattern }).ok_or_else(|| {
                let known = features.map(|features| features.keys().map(String::as_str).collect::<Vec<_>>().join(", ")).filter(|known| !known.is_empty());
                let known =
                    known.map_or_else(|| "there are none; name them in [repositories.NAME] features".to_owned(), |known| format!("known there: {known}"));
                No::Invalid(format!("feature: {place} has no feature {name:?}; {known}"))
            });
        }
    };
    pattern.map(|pattern| Scope { place, pattern }).map_err(|error| No::Invalid(format!("path: {error}")))
}

/// The place that a repository's name or a directory means.
fn place_named(config: &Config, place: &Place) -> Result<String, No> {
    let text = place.name.as_str();
    if config.repositories.contains_key(text) {
        return Ok(text.to_owned());
    }
    let directory = Path::new(text);
    if !directory.is_absolute() || text.chars().any(char::is_control) {
        return Err(No::Invalid(format!("place: {text:.100?} is neither a repository of the configuration nor an absolute directory")));
    }
    let instance = config.instances.iter().find(|(_, instance)| directory.starts_with(&instance.directory));
    let common = place.repository.as_deref().map(Path::new);
    let of = |source: &Source| matches!(source, Source::Path(path) if directory.starts_with(path) || common == Some(path));
    let repository = config.repositories.iter().find(|(_, repository)| of(&repository.source));
    Ok(match (instance, repository) {
        (Some((name, _)), _) => place_of(config, name),
        (None, Some((name, _))) => name.clone(),
        (None, None) => common.filter(|common| common.is_absolute()).unwrap_or(directory).components().collect::<std::path::PathBuf>().display().to_string(),
    })
}

/// Who stands in the way, in a sentence.
pub(super) fn in_the_way(locks: &Locks, blockers: &[Blocker]) -> String {
    let one = |blocker: &Blocker| match blocker {
        Blocker::Holder(id) => locks.get(*id).map(|lock| {
            let until = match lock.owner.task() {
                Some(_) => "until that task ends".to_owned(),
                None => format!("until {:.0}", lock.expires),
            };
            let reason = if lock.reason.is_empty() { String::new() } else { format!(" ({})", lock.reason) };
            format!("{} is held by {} {until}{reason}", lock.scope.pattern, lock.owner)
        }),
        Blocker::Before(id) => locks.wait(*id).map(|wait| format!("{} waits for {} and comes first", wait.request.owner, wait.request.scope.pattern)),
    };
    let mut told: Vec<String> = blockers.iter().take(3).filter_map(one).collect();
    if blockers.len() > 3 {
        told.push(format!("{} more stand in the way", blockers.len() - 3));
    }
    told.join("; ")
}
