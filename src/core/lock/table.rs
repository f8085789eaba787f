//! The table of locks, and everything that changes it.

use super::index::Index;
use super::{
    Acquired, Answer, Blocker, Bond, Change, Effect, Lock, LockId, Mode, Notice, OWN_MAX, Owner, Refusal, Request, Scope, TTL_MAX, WAITS_MAX, Wait, WaitId,
};
use crate::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// All locks that are held, and all requests that wait.
#[derive(Debug, Default)]
pub struct Locks {
    held: BTreeMap<LockId, Lock>,
    waits: BTreeMap<WaitId, Wait>,
    held_at: Index<LockId>,
    waits_at: Index<WaitId>,
    owned: BTreeMap<Owner, BTreeSet<LockId>>,
    waiting: BTreeMap<Owner, BTreeSet<WaitId>>,
    ends: BTreeSet<(Timestamp, LockId)>,
    /// Who was told that it is refused because of which lock: an agent may ask again and again.
    told: BTreeMap<LockId, BTreeSet<Owner>>,
    last: i64,
    last_wait: u64,
}

impl Locks {
    /// The table as the store has it; `last` is the highest number that was ever given.
    pub fn load(locks: impl IntoIterator<Item = Lock>, last: i64) -> Self {
        let mut table = Self { last, ..Self::default() };
        for lock in locks {
            table.last = table.last.max(lock.id.0);
            table.enter(lock);
        }
        table
    }

    /// A lock.
    pub fn get(&self, id: LockId) -> Option<&Lock> {
        self.held.get(&id)
    }

    /// All locks, in the order in which they were taken.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Lock> {
        self.held.values()
    }

    /// A request that waits.
    pub fn wait(&self, id: WaitId) -> Option<&Wait> {
        self.waits.get(&id)
    }

    /// All requests that wait, in the order in which they came.
    pub fn waits(&self) -> impl ExactSizeIterator<Item = (WaitId, &Wait)> {
        self.waits.iter().map(|(id, wait)| (*id, wait))
    }

    /// Who stands in the way of a request that waits.
    pub fn blockers_of(&self, id: WaitId) -> Vec<Blocker> {
        let Some(wait) = self.waits.get(&id) else { return Vec::new() };
        let (holders, before) = self.blockers(&wait.request, Some(id));
        holders.into_iter().map(Blocker::Holder).chain(before.into_iter().map(Blocker::Before)).collect()
    }

    /// When a lock ends if it is not renewed; call [`Locks::tick`] then.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// The owner's lock on exactly that.
    pub fn find(&self, scope: &Scope, owner: &Owner) -> Option<LockId> {
        self.held_at.near(scope).into_iter().find(|id| self.held.get(id).is_some_and(|lock| lock.owner == *owner && lock.scope == *scope))
    }

    /// Whose exclusive lock a path is under: the owner's own if there is one, else another's.
    pub fn holder(&self, scope: &Scope, owner: &Owner) -> Option<&Lock> {
        let near = self.held_at.near(scope);
        let mut over = near.iter().filter_map(|id| self.held.get(id)).filter(|lock| lock.mode == Mode::Exclusive && lock.scope.meets(scope));
        let first = over.clone().next();
        over.find(|lock| lock.owner == *owner).or(first)
    }

    /// Asks for a lock. What cannot be had at once waits in order of arrival if `wait` says so.
    pub fn acquire(&mut self, request: Request, wait: bool, now: Timestamp) -> (Acquired, Vec<Effect>) {
        if let Some(id) = self.covering(&request) {
            let effects = self.renew_by(id, &request, now);
            return (Acquired::Unchanged(id), effects);
        }
        if self.owned.get(&request.owner).is_some_and(|own| own.len() >= OWN_MAX) {
            return (Acquired::TooMany, Vec::new());
        }
        let (holders, before) = self.blockers(&request, None);
        // Who would only wait for its turn does not, if those before it wait for what it has itself.
        if holders.is_empty() && (before.is_empty() || self.waits_for(&before, &request.owner)) {
            let owner = request.owner.clone();
            let (acquired, mut effects) = self.grant(request, now);
            if !before.is_empty() {
                effects.extend(self.break_circles(&owner, now));
            }
            return (acquired, effects);
        }
        if !wait {
            let first = holders.first().filter(|id| self.told.entry(**id).or_default().insert(request.owner.clone()));
            let holder = first.and_then(|id| self.held.get(id));
            let message = holder.map(|lock| format!("{} lock on {} refused: {} holds {}", request.mode.name(), request.scope, lock.owner, lock.scope.pattern));
            let notice = message.map(|message| Effect::Tell(Notice { kind: "lock-refused", owner: request.owner, message, cause: Some("held") }));
            let blockers = holders.into_iter().map(Blocker::Holder).chain(before.into_iter().map(Blocker::Before));
            return (Acquired::Blocked(blockers.collect()), notice.into_iter().collect());
        }
        if self.waits.len() >= WAITS_MAX {
            return (Acquired::TooMany, Vec::new());
        }
        self.last_wait += 1;
        let (id, owner) = (WaitId(self.last_wait), request.owner.clone());
        self.waits_at.add(&request.scope, id);
        self.waiting.entry(owner.clone()).or_default().insert(id);
        self.waits.insert(id, Wait { request, since: now });
        (Acquired::Waits(id), self.break_circles(&owner, now))
    }

    /// Takes a lock from whoever stands in the way, and past all who wait. The caller has checked that it may.
    pub fn steal(&mut self, request: Request, now: Timestamp) -> (Acquired, Vec<Effect>) {
        let owner = request.owner.clone();
        let (holders, _) = self.blockers(&request, None);
        let mut effects = Vec::new();
        let mut free = Vec::new();
        for id in holders {
            let Some(lock) = self.remove(id) else { continue };
            let message = format!("{} lock {id} on {} was taken by {owner}{}", lock.mode.name(), lock.scope, because(&request.reason));
            effects.push(Effect::Save(Change::Gone(id)));
            effects.push(Effect::Tell(Notice { kind: "lock-stolen", owner: lock.owner, message, cause: Some("stolen") }));
            free.push(lock.scope);
        }
        let (acquired, granted) = match self.covering(&request) {
            Some(id) => (Acquired::Unchanged(id), self.renew_by(id, &request, now)),
            None => self.grant(request, now),
        };
        effects.extend(granted);
        for scope in free {
            effects.extend(self.promote(&scope, now));
        }
        effects.extend(self.break_circles(&owner, now));
        (acquired, effects)
    }

    /// A request that waits is given up: its caller has gone, or its time is over.
    pub fn withdraw(&mut self, id: WaitId, now: Timestamp) -> Vec<Effect> {
        let Some(wait) = self.remove_wait(id) else { return Vec::new() };
        self.promote(&wait.request.scope, now)
    }

    /// Gives a lock back. Another's only with `force`, by who may.
    ///
    /// # Errors
    /// There is no such lock, or it is another's.
    pub fn release(&mut self, id: LockId, by: &Owner, force: bool, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let lock = self.held.get(&id).ok_or(Refusal::NoSuchLock)?;
        if lock.owner != *by && !force {
            return Err(Refusal::NotYours(lock.owner.clone()));
        }
        let message = format!("{} lock {id} on {} released by {by}", lock.mode.name(), lock.scope);
        let cause = if lock.owner == *by { "asked" } else { "forced" };
        let notice = Notice { kind: "lock-released", owner: lock.owner.clone(), message, cause: Some(cause) };
        Ok(self.drop_all(&[id], Some(notice), now))
    }

    /// Gives a lock to another owner. Another's only with `force`, by who may.
    ///
    /// # Errors
    /// There is no such lock, it is another's, or its owner keeps one that the new owner's would conflict with.
    pub fn transfer(&mut self, id: LockId, by: &Owner, force: bool, to: Owner, bond: Bond, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let lock = self.held.get(&id).ok_or(Refusal::NoSuchLock)?.clone();
        if lock.owner != *by && !force {
            return Err(Refusal::NotYours(lock.owner));
        }
        let request = Request { owner: to.clone(), bond: bond.clone(), ..request_of(&lock) };
        let (mut holders, _) = self.blockers(&request, None);
        holders.remove(&id);
        if let Some(other) = holders.first().and_then(|id| self.held.get(id)) {
            return Err(Refusal::Conflict(other.owner.clone()));
        }
        self.remove(id);
        let expires = expiry(now, lock.ttl);
        let message = format!("{} lock {id} on {} given by {by} from {} to {to}", lock.mode.name(), lock.scope, lock.owner);
        let moved = Lock { owner: to.clone(), bond, expires, since: now, ..lock.clone() };
        let mut effects = vec![Effect::Save(Change::Held(Box::new(moved.clone())))];
        for owner in [lock.owner, to.clone()] {
            effects.push(Effect::Tell(Notice { kind: "lock-transferred", owner, message: message.clone(), cause: None }));
        }
        self.enter(moved);
        effects.extend(self.satisfy(&to, now));
        effects.extend(self.promote(&lock.scope, now));
        effects.extend(self.break_circles(&to, now));
        Ok(effects)
    }

    /// An attempt has ended. What it held stays until its time is over if the task will `go_on` from there; else it is free.
    pub fn attempt_ended(&mut self, instance: &InstanceName, attempt: AttemptId, go_on: bool, now: Timestamp) -> Vec<Effect> {
        let owner = Owner::Agent { instance: instance.clone(), task: Some(attempt.task) };
        let of_later = |bond: &Bond| bond.attempt.is_some_and(|number| number > attempt.number);
        let waits: Vec<WaitId> = self.waits_of(&owner).filter(|id| self.wait(*id).is_some_and(|wait| !of_later(&wait.request.bond))).collect();
        let mut effects = self.end_waits(&waits, now);
        if !go_on {
            let own = self.owned.get(&owner).into_iter().flatten().copied();
            let gone: Vec<LockId> = own.filter(|id| self.held.get(id).is_some_and(|lock| !of_later(&lock.bond))).collect();
            effects.extend(self.end_locks(&gone, &format!("attempt {} has ended", attempt.number), "attempt-ended", now));
        }
        effects
    }

    /// A task has ended for good: nothing is held or waited for in its name.
    pub fn task_ended(&mut self, task: TaskId, now: Timestamp) -> Vec<Effect> {
        let owners = self.owned.keys().chain(self.waiting.keys()).filter(|owner| owner.task() == Some(task));
        let owners: BTreeSet<Owner> = owners.cloned().collect();
        owners.iter().flat_map(|owner| self.owner_ended(owner, |_| true, "the task has ended", "task-ended", now)).collect()
    }

    /// An instance works on that task. What others have left there until they go on is free: they go on only after it, and would wait for
    /// it for ever if it waited for them.
    pub fn begun(&mut self, instance: &InstanceName, task: TaskId, now: Timestamp) -> Vec<Effect> {
        let of = |task| Owner::Agent { instance: instance.clone(), task: Some(TaskId(task)) };
        let here = self.owned.range(of(i64::MIN)..=of(i64::MAX)).map(|(owner, _)| owner).filter(|owner| owner.task() != Some(task));
        let owners: Vec<Owner> = here.cloned().collect();
        owners.iter().flat_map(|owner| self.owner_ended(owner, |_| true, "its instance works on another task", "instance-taken", now)).collect()
    }

    /// A start of an instance's unit is over: what was taken in it, outside of tasks, is free.
    pub fn unit_ended(&mut self, instance: &InstanceName, invocation: &InvocationId, now: Timestamp) -> Vec<Effect> {
        let owner = Owner::Agent { instance: instance.clone(), task: None };
        self.owner_ended(&owner, |bond| bond.invocation.as_ref() == Some(invocation), "the instance has ended", "unit-ended", now)
    }

    /// Time has passed. A lock whose time is over is renewed if its owner is `alive`, else it is free.
    pub fn tick(&mut self, now: Timestamp, alive: impl Fn(&Lock) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((at, id)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            let Some(lock) = self.held.get(&id) else {
                self.ends.remove(&(at, id));
                continue;
            };
            if alive(lock) {
                effects.extend(self.renew(id, now));
            } else {
                let message = format!("{} lock {id} on {} of {} ran out after {}", lock.mode.name(), lock.scope, lock.owner, span(lock.ttl));
                let notice = Notice { kind: "lock-released", owner: lock.owner.clone(), message, cause: Some("expired") };
                effects.extend(self.drop_all(&[id], Some(notice), now));
            }
        }
        // The clock was set back: nothing is given for longer than the longest time there is.
        let latest = expiry(now, TTL_MAX);
        while let Some((_, id)) = self.ends.last().copied().filter(|(at, _)| *at > latest) {
            effects.extend(self.renew(id, now));
        }
        effects
    }

    /// The requests of an owner that wait.
    pub(super) fn waits_of(&self, owner: &Owner) -> impl Iterator<Item = WaitId> {
        self.waiting.get(owner).into_iter().flatten().copied()
    }

    /// The owners who stand in the way of a request that waits.
    pub(super) fn in_the_way_of(&self, id: WaitId) -> BTreeSet<Owner> {
        let Some(wait) = self.waits.get(&id) else { return BTreeSet::new() };
        let (holders, before) = self.blockers(&wait.request, Some(id));
        let holders = holders.iter().filter_map(|id| self.held.get(id)).map(|lock| lock.owner.clone());
        holders.chain(before.iter().filter_map(|id| self.waits.get(id)).map(|wait| wait.request.owner.clone())).collect()
    }

    /// Gives everything to those who wait that nothing stands in the way of any more, near what has become free.
    pub(super) fn promote(&mut self, scope: &Scope, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for id in self.waits_at.near(scope) {
            let Some(wait) = self.waits.get(&id) else { continue };
            let (holders, before) = self.blockers(&wait.request, Some(id));
            if !holders.is_empty() || !before.is_empty() {
                continue;
            }
            let Some(wait) = self.remove_wait(id) else { continue };
            let (acquired, granted) = match self.covering(&wait.request) {
                Some(id) => (Acquired::Unchanged(id), Vec::new()),
                None => self.grant(wait.request.clone(), now),
            };
            effects.extend(granted);
            if let Acquired::Created(lock) | Acquired::Changed(lock) | Acquired::Unchanged(lock) = acquired {
                effects.push(self.answer(id, &wait, Answer::Granted(lock), now));
            }
        }
        effects
    }

    /// The answer to a request that waited.
    pub(super) fn answer(&self, id: WaitId, wait: &Wait, answer: Answer, now: Timestamp) -> Effect {
        Effect::Answer(id, answer, Duration::try_from(now.duration_since(wait.since)).unwrap_or_default())
    }

    pub(super) fn remove_wait(&mut self, id: WaitId) -> Option<Wait> {
        let wait = self.waits.remove(&id)?;
        self.waits_at.remove(&wait.request.scope, id);
        forget(&mut self.waiting, &wait.request.owner, id);
        Some(wait)
    }

    /// What others hold, and what others want who came before, that conflicts with a request.
    fn blockers(&self, request: &Request, before: Option<WaitId>) -> (BTreeSet<LockId>, BTreeSet<WaitId>) {
        let conflicts = |scope: &Scope, mode: Mode, owner: &Owner| *owner != request.owner && mode.conflicts(request.mode) && scope.meets(&request.scope);
        let held = self.held_at.near(&request.scope).into_iter();
        let held = held.filter(|id| self.held.get(id).is_some_and(|lock| conflicts(&lock.scope, lock.mode, &lock.owner)));
        let waits = self.waits_at.near(&request.scope).into_iter().filter(|id| before.is_none_or(|before| *id < before));
        let waits = waits.filter(|id| self.waits.get(id).is_some_and(|wait| conflicts(&wait.request.scope, wait.request.mode, &wait.request.owner)));
        (held.collect(), waits.collect())
    }

    /// The owner's lock that has what is asked for in it already.
    fn covering(&self, request: &Request) -> Option<LockId> {
        let near = self.held_at.near(&request.scope);
        let mut own = near.into_iter().filter_map(|id| self.held.get(&id)).filter(|lock| lock.owner == request.owner && lock.mode >= request.mode);
        own.find(|lock| lock.scope.covers(&request.scope)).map(|lock| lock.id)
    }

    /// Enters what nothing stands in the way of: a new lock, or a shared one made exclusive.
    fn grant(&mut self, request: Request, now: Timestamp) -> (Acquired, Vec<Effect>) {
        let owner = request.owner.clone();
        let known = self.find(&request.scope, &owner).and_then(|id| self.remove(id));
        let expires = expiry(now, request.ttl);
        let Request { scope, mode, owner: _, bond, reason, ttl, priority: _ } = request;
        let (acquired, lock) = match known {
            Some(lock) => (Acquired::Changed(lock.id), Lock { mode, bond, ttl, expires, ..lock }),
            None => {
                self.last += 1;
                let id = LockId(self.last);
                (Acquired::Created(id), Lock { id, scope, mode, owner: owner.clone(), bond, reason, since: now, ttl, expires })
            }
        };
        let message = format!("{} lock {} on {}{}", lock.mode.name(), lock.id, lock.scope, because(&lock.reason));
        let mut effects = vec![
            Effect::Save(Change::Held(Box::new(lock.clone()))),
            Effect::Tell(Notice { kind: "lock-acquired", owner: owner.clone(), message, cause: None }),
        ];
        self.enter(lock);
        effects.extend(self.satisfy(&owner, now));
        (acquired, effects)
    }

    /// Answers what an owner waits for and has by now.
    fn satisfy(&mut self, owner: &Owner, now: Timestamp) -> Vec<Effect> {
        let has = |table: &Self, id: &WaitId| table.wait(*id).and_then(|wait| table.covering(&wait.request));
        let done: Vec<(WaitId, LockId)> = self.waits_of(owner).filter_map(|id| has(self, &id).map(|lock| (id, lock))).collect();
        let mut effects = Vec::new();
        for (id, lock) in done {
            let Some(wait) = self.remove_wait(id) else { continue };
            effects.push(self.answer(id, &wait, Answer::Granted(lock), now));
            effects.extend(self.promote(&wait.request.scope, now));
        }
        effects
    }

    /// Renews a lock that is asked for again, unless that was done not long ago: a hook asks at every edit.
    fn renew_by(&mut self, id: LockId, request: &Request, now: Timestamp) -> Vec<Effect> {
        let Some(lock) = self.held.get(&id) else { return Vec::new() };
        let same = lock.scope == request.scope;
        let ttl = if same { request.ttl } else { lock.ttl };
        let fresh = lock.expires.duration_since(now) * 2 > jiff::SignedDuration::try_from(ttl).unwrap_or_default();
        if lock.bond == request.bond && lock.ttl == ttl && fresh {
            return Vec::new();
        }
        let Some(lock) = self.remove(id) else { return Vec::new() };
        let lock = Lock { bond: request.bond.clone(), ttl, expires: expiry(now, ttl), ..lock };
        self.enter(lock.clone());
        vec![Effect::Save(Change::Held(Box::new(lock)))]
    }

    fn renew(&mut self, id: LockId, now: Timestamp) -> Option<Effect> {
        let lock = self.held.get_mut(&id)?;
        self.ends.remove(&(lock.expires, id));
        lock.expires = expiry(now, lock.ttl);
        self.ends.insert((lock.expires, id));
        Some(Effect::Save(Change::Held(Box::new(lock.clone()))))
    }

    fn owner_ended(&mut self, owner: &Owner, which: impl Fn(&Bond) -> bool, why: &str, cause: &'static str, now: Timestamp) -> Vec<Effect> {
        let waits: Vec<WaitId> = self.waits_of(owner).filter(|id| self.wait(*id).is_some_and(|wait| which(&wait.request.bond))).collect();
        let own = self.owned.get(owner).into_iter().flatten().copied();
        let gone: Vec<LockId> = own.filter(|id| self.held.get(id).is_some_and(|lock| which(&lock.bond))).collect();
        let mut effects = self.end_waits(&waits, now);
        effects.extend(self.end_locks(&gone, why, cause, now));
        effects
    }

    fn end_waits(&mut self, waits: &[WaitId], now: Timestamp) -> Vec<Effect> {
        let gone: Vec<(WaitId, Wait)> = waits.iter().filter_map(|id| self.remove_wait(*id).map(|wait| (*id, wait))).collect();
        let mut effects: Vec<Effect> = gone.iter().map(|(id, wait)| self.answer(*id, wait, Answer::OwnerEnded, now)).collect();
        for (_, wait) in &gone {
            effects.extend(self.promote(&wait.request.scope, now));
        }
        effects
    }

    /// One notice for all of them: a task may have taken hundreds.
    fn end_locks(&mut self, gone: &[LockId], why: &str, cause: &'static str, now: Timestamp) -> Vec<Effect> {
        let notice = gone.first().and_then(|id| self.held.get(id)).map(|first| {
            let what = match gone.len() {
                1 => format!("the lock on {}", first.scope),
                many => format!("{many} locks in {}", first.scope.place),
            };
            Notice { kind: "lock-released", owner: first.owner.clone(), message: format!("{what} released: {why}"), cause: Some(cause) }
        });
        self.drop_all(gone, notice, now)
    }

    fn drop_all(&mut self, gone: &[LockId], notice: Option<Notice>, now: Timestamp) -> Vec<Effect> {
        let locks: Vec<Lock> = gone.iter().filter_map(|id| self.remove(*id)).collect();
        let mut effects: Vec<Effect> = locks.iter().map(|lock| Effect::Save(Change::Gone(lock.id))).collect();
        effects.extend(notice.map(Effect::Tell));
        for lock in locks {
            effects.extend(self.promote(&lock.scope, now));
        }
        effects
    }

    fn enter(&mut self, lock: Lock) {
        self.held_at.add(&lock.scope, lock.id);
        self.owned.entry(lock.owner.clone()).or_default().insert(lock.id);
        self.ends.insert((lock.expires, lock.id));
        self.held.insert(lock.id, lock);
    }

    fn remove(&mut self, id: LockId) -> Option<Lock> {
        let lock = self.held.remove(&id)?;
        self.held_at.remove(&lock.scope, id);
        forget(&mut self.owned, &lock.owner, id);
        self.ends.remove(&(lock.expires, id));
        self.told.remove(&id);
        Some(lock)
    }
}

fn forget<I: Ord>(of: &mut BTreeMap<Owner, BTreeSet<I>>, owner: &Owner, id: I) {
    if let Some(all) = of.get_mut(owner) {
        all.remove(&id);
        if all.is_empty() {
            of.remove(owner);
        }
    }
}

fn request_of(lock: &Lock) -> Request {
    let Lock { id: _, scope, mode, owner, bond, reason, since: _, ttl, expires: _ } = lock.clone();
    Request { scope, mode, owner, bond, reason, ttl, priority: 0 }
}

fn expiry(now: Timestamp, ttl: Duration) -> Timestamp {
    now.checked_add(ttl.min(TTL_MAX)).unwrap_or(Timestamp::MAX)
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

fn span(ttl: Duration) -> String {
    format!("{} s", ttl.as_secs())
}
