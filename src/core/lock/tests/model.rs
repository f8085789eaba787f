//! Random schedules: owners take, wait for, give back, pass on, steal and die; time passes and the daemon is restarted. After each
//! step the table is compared with what was stored of it, and with what must always hold, found the slow way.

use super::{agent, ask, at};
use crate::core::ids::{AttemptId, InvocationId};
use crate::core::lock::{Acquired, Answer, Bond, Change, Effect, Lock, LockId, Locks, Mode, Owner, Request, WaitId};
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const PATHS: [&str; 10] = ["x", "y", "src/a.rs", "src/b.rs", "src/*.rs", "src/**", "**", "{x,y}", "src/deep/c.rs", "**/c.rs"];
const OWNERS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Acquire { who: usize, path: usize, shared: bool, wait: bool, priority: i32 },
    Steal { who: usize, path: usize },
    Release { lock: usize, force: bool },
    Transfer { lock: usize, to: usize },
    Withdraw(usize),
    AttemptEnds { who: usize, go_on: bool },
    TaskEnds(usize),
    UnitEnds(usize),
    Pass(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (who, path) = (0..OWNERS, 0..PATHS.len());
    prop_oneof![
        8 => (who.clone(), path.clone(), any::<bool>(), any::<bool>(), 0..3).prop_map(|(who, path, shared, wait, priority)| Step::Acquire { who, path, shared, wait, priority }),
        6 => (who.clone(), path.clone(), 0..3).prop_map(|(who, path, priority)| Step::Acquire { who, path, shared: false, wait: true, priority }),
        1 => (who.clone(), path).prop_map(|(who, path)| Step::Steal { who, path }),
        4 => (0..20usize, any::<bool>()).prop_map(|(lock, force)| Step::Release { lock, force }),
        1 => (0..20usize, who.clone()).prop_map(|(lock, to)| Step::Transfer { lock, to }),
        1 => (0..20usize).prop_map(Step::Withdraw),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, go_on)| Step::AttemptEnds { who, go_on }),
        1 => who.clone().prop_map(Step::TaskEnds),
        1 => who.prop_map(Step::UnitEnds),
        1 => (-2000..3000i64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// The table and what the world knows of it.
struct World {
    locks: Locks,
    stored: BTreeMap<LockId, Lock>,
    last: i64,
    /// Who waits, and has not been answered.
    open: BTreeMap<WaitId, Owner>,
    now: Timestamp,
}

/// Owners 0 to 2 work on tasks; 3 and 4 are instances without one.
fn owner(who: usize) -> Owner {
    agent(["a", "b", "c", "d", "e"][who], if who < 3 { who as i64 + 1 } else { 0 })
}

fn invocation(who: usize) -> InvocationId {
    InvocationId::from_bytes(&[who as u8 + 1; 16]).expect("not zero")
}

fn request(who: usize, path: usize, mode: Mode, priority: i32) -> Request {
    let bond = Bond { attempt: (who < 3).then_some(1), invocation: Some(invocation(who)) };
    Request { bond, priority, ..ask(&owner(who), PATHS[path], mode) }
}

/// Those of tasks live on; the others are dead once their time is over.
fn alive(lock: &Lock) -> bool {
    lock.owner.task().is_some()
}

impl World {
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Save(Change::Held(lock)) => {
                    self.last = self.last.max(lock.id.0);
                    self.stored.insert(lock.id, *lock);
                }
                Effect::Save(Change::Gone(id)) => drop(self.stored.remove(&id).expect("it was stored")),
                Effect::Answer(id, answer, _) => {
                    let who = self.open.remove(&id).expect("each wait is answered once");
                    match answer {
                        Answer::Granted(id) => {
                            assert_eq!(self.stored.get(&id).map(|lock| &lock.owner), Some(&who), "granted before it was stored, or another's")
                        }
                        Answer::Deadlock(circle) => assert!(circle.len() > 1 && circle.first() == Some(&who), "{circle:?}"),
                        Answer::OwnerEnded => {}
                    }
                }
                Effect::Tell(_) => {}
            }
        }
    }

    fn lock(&self, n: usize) -> Option<Lock> {
        self.stored.values().nth(n % self.stored.len().max(1)).cloned()
    }

    fn take(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Acquire { who, path, shared, wait, priority } => {
                let mode = if shared { Mode::Shared } else { Mode::Exclusive };
                let (acquired, effects) = self.locks.acquire(request(who, path, mode, priority), wait, now);
                if let Acquired::Waits(id) = acquired {
                    self.open.insert(id, owner(who));
                }
                assert!(wait || !matches!(acquired, Acquired::Waits(_)));
                self.perform(effects);
                if let Acquired::Created(id) | Acquired::Changed(id) | Acquired::Unchanged(id) = acquired {
                    let lock = &self.stored[&id];
                    assert!(lock.owner == owner(who) && lock.mode >= mode && lock.scope.pattern.covers(&request(who, path, mode, 0).scope.pattern));
                }
            }
            Step::Steal { who, path } => {
                let (acquired, effects) = self.locks.steal(request(who, path, Mode::Exclusive, 0), now);
                assert!(matches!(acquired, Acquired::Created(_) | Acquired::Changed(_) | Acquired::Unchanged(_)));
                self.perform(effects);
            }
            Step::Release { lock, force } => {
                let Some(lock) = self.lock(lock) else { return };
                let by = if force { owner(0) } else { lock.owner.clone() };
                let effects = self.locks.release(lock.id, &by, force, now).expect("it may");
                self.perform(effects);
            }
            Step::Transfer { lock, to } => {
                let Some(lock) = self.lock(lock) else { return };
                let bond = Bond { attempt: (to < 3).then_some(1), invocation: Some(invocation(to)) };
                if let Ok(effects) = self.locks.transfer(lock.id, &lock.owner, false, owner(to), bond, now) {
                    self.perform(effects);
                }
            }
            Step::Withdraw(n) => {
                let Some(id) = self.open.keys().nth(n % self.open.len().max(1)).copied() else { return };
                self.open.remove(&id);
                let effects = self.locks.withdraw(id, now);
                self.perform(effects);
            }
            Step::AttemptEnds { who, go_on } => {
                let (Some(task), Some(instance)) = (owner(who).task(), owner(who).instance().cloned()) else { return };
                let effects = self.locks.attempt_ended(&instance, AttemptId { task, number: 1 }, go_on, now);
                self.perform(effects);
                self.is_gone(&owner(who), go_on);
            }
            Step::TaskEnds(who) => {
                let Some(task) = owner(who).task() else { return };
                let effects = self.locks.task_ended(task, now);
                self.perform(effects);
                self.is_gone(&owner(who), false);
            }
            Step::UnitEnds(who) => {
                let Some(instance) = owner(who).instance().cloned() else { return };
                let effects = self.locks.unit_ended(&instance, &invocation(who), now);
                self.perform(effects);
                if owner(who).task().is_none() {
                    self.is_gone(&owner(who), false);
                }
            }
            Step::Pass(seconds) => {
                self.now = now.checked_add(jiff::SignedDuration::from_secs(seconds)).expect("in range");
                let effects = self.locks.tick(self.now, alive);
                self.perform(effects);
                let over = self.locks.iter().find(|lock| lock.expires <= self.now);
                assert_eq!(over, None, "held past its end");
                assert!(self.locks.next_wake().is_none_or(|at| at > self.now));
            }
            Step::Restart => {
                self.locks = Locks::load(self.stored.values().cloned(), self.last);
                self.open.clear();
            }
        }
    }

    fn is_gone(&self, who: &Owner, locks_stay: bool) {
        assert!(locks_stay || self.locks.iter().all(|lock| lock.owner != *who), "{who} has ended and holds something");
        assert!(self.open.values().all(|owner| owner != who), "{who} has ended and waits");
    }

    /// What must hold after every step.
    fn check(&self) {
        let held: Vec<&Lock> = self.locks.iter().collect();
        assert_eq!(held, self.stored.values().collect::<Vec<_>>(), "the store has the same");
        assert_eq!(self.locks.waits().map(|(id, _)| id).collect::<Vec<_>>(), self.open.keys().copied().collect::<Vec<_>>());
        let conflict = |a: &Owner, am: Mode, b: &Owner, bm: Mode| a != b && (am == Mode::Exclusive || bm == Mode::Exclusive);
        for a in &held {
            for b in &held {
                let both = conflict(&a.owner, a.mode, &b.owner, b.mode) && a.scope.pattern.overlaps(&b.scope.pattern);
                assert!(!both, "{a:?} and {b:?} are held at once");
            }
        }
        let mut edges: BTreeMap<&Owner, BTreeSet<&Owner>> = BTreeMap::new();
        for (id, wait) in self.locks.waits() {
            let own = &wait.request;
            let holders = held.iter().filter(|lock| conflict(&lock.owner, lock.mode, &own.owner, own.mode) && lock.scope.pattern.overlaps(&own.scope.pattern));
            let before = self.locks.waits().filter(|(other, _)| *other < id).map(|(_, wait)| &wait.request);
            let before = before.filter(|other| conflict(&other.owner, other.mode, &own.owner, own.mode) && other.scope.pattern.overlaps(&own.scope.pattern));
            let ways: BTreeSet<&Owner> = holders.map(|lock| &lock.owner).chain(before.map(|other| &other.owner)).collect();
            assert!(!ways.is_empty(), "{own:?} waits for nobody");
            assert!(!self.locks.blockers_of(id).is_empty());
            edges.entry(&own.owner).or_default().extend(ways);
        }
        // Takes away, again and again, who waits for nobody that is left: what remains is a circle.
        loop {
            let waiting: BTreeSet<&Owner> = edges.keys().copied().collect();
            let before = edges.len();
            edges.retain(|_, ways| ways.iter().any(|way| waiting.contains(way)));
            if edges.len() == before {
                break;
            }
        }
        assert!(edges.is_empty(), "deadlock: {edges:?}");
    }

    /// Everyone gives back what they hold: then everyone gets what they wait for.
    fn wind_down(&mut self) {
        while let Some(lock) = self.lock(0) {
            let effects = self.locks.release(lock.id, &lock.owner, false, self.now).expect("its own");
            self.perform(effects);
            self.check();
        }
        assert!(self.open.is_empty(), "nobody holds anything, and {:?} wait", self.open);
        assert_eq!(self.locks.next_wake(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_schedules(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World { locks: Locks::default(), stored: BTreeMap::new(), last: 0, open: BTreeMap::new(), now: at(0) };
        for step in &steps {
            world.take(step);
            world.check();
        }
        world.wind_down();
    }
}

#[test]
fn numbers_are_never_given_again() {
    let mut locks = Locks::load([], 41);
    let (acquired, _) = locks.acquire(ask(&owner(0), "x", Mode::Exclusive), false, at(0));
    assert_eq!(acquired, Acquired::Created(LockId(42)));
}
