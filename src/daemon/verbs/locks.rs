//! The verbs on locks.

use super::{Verbs, refused, stopping};
use crate::core::audit;
use crate::core::lock::{Blocker, Lock, LockId, Locks as Table, Mode, Wait, WaitId};
use crate::daemon::desk::{self, No, On, Place, Said, Wanted, Which, Who};
use crate::daemon::engine::Input;
use crate::http::service::{Answer, Caller, Locks, Role, ServiceError};
use crate::proto::api;
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Longest wait for a lock.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What an agent, or a person, can do about a lock of another's.
const ADVICE: &str = "wait for it (claudectl lock acquire --wait), ask its holder to release or transfer it, or work on other files meanwhile";

fn who(caller: &Caller) -> Who {
    match &caller.role {
        Role::Agent(name) => Who::Agent(name.clone()),
        Role::Operator | Role::Reader => Who::Person { uid: caller.actor.uid(), name: name_of(caller) },
    }
}

fn name_of(caller: &Caller) -> String {
    match &caller.actor.who {
        audit::Who::User { name: Some(name), .. } => name.clone(),
        audit::Who::User { uid, name: None, .. } => format!("uid {uid}"),
        _ => "the API token's holder".to_owned(),
    }
}

fn on(path: Option<String>, glob: Option<String>, feature: Option<String>) -> Result<Option<On>, ServiceError> {
    match (path, glob, feature) {
        (None, None, None) => Ok(None),
        (Some(path), None, None) => Ok(Some(On::Path(path))),
        (None, Some(glob), None) => Ok(Some(On::Glob(glob))),
        (None, None, Some(feature)) => Ok(Some(On::Feature(feature))),
        _ => Err(refused(422, "invalid-lock", "path, glob, feature: give one of them, not several")),
    }
}

fn wanted(caller: &Caller, lock: api::NewLock) -> Result<Wanted, ServiceError> {
    let on = on(lock.path, lock.glob, lock.feature)?
        .ok_or_else(|| refused(422, "invalid-lock", "path, glob, feature: say with one of them what is to be locked"))?;
    Ok(Wanted {
        who: who(caller),
        place: lock.place.map(|name| Place { name, repository: lock.repository }),
        on,
        mode: if lock.shared { Mode::Shared } else { Mode::Exclusive },
        reason: lock.reason.unwrap_or_default(),
        ttl: lock.ttl_seconds.map(Duration::from_secs),
        wait: None,
        ticket: lock.ticket,
        steal: false,
    })
}

fn given(said: Said) -> Result<api::GivenLock, ServiceError> {
    match said {
        Said::Held(result, lock) => Ok(api::GivenLock { result: result.to_owned(), lock: shown(&lock) }),
        Said::Released(_) => Err(refused(500, "internal", "the answer is not one to this question; please report it")),
        Said::No(no) => Err(error(no)),
    }
}

fn error(no: No) -> ServiceError {
    match no {
        No::Blocked(way) => refused(409, "locked", format!("{way}. You may {ADVICE}")),
        No::Deadlock(circle) => {
            refused(409, "deadlock", format!("{circle} and so on in a circle: your wait was given up. Release what you hold, or work on other files meanwhile"))
        }
        No::OwnerEnded => refused(409, "owner-ended", "the task in whose name this was asked has ended"),
        No::TooMany => {
            refused(429, "too-many-locks", "there are too many locks or requests of yours; lock a directory (\"src/\") instead of its files, or release some")
        }
        No::Withdrawn(way) => refused(409, "locked", format!("still not to be had when the time to wait was over: {way}. You may {ADVICE}")),
        No::Missing(detail) => refused(404, "no-such-lock", detail),
        No::Forbidden(detail) => refused(403, "forbidden", detail),
        No::Invalid(detail) => refused(422, "invalid-lock", detail),
    }
}

pub(super) fn shown(lock: &Lock) -> api::Lock {
    api::Lock {
        id: lock.id.0,
        place: lock.scope.place.clone(),
        kind: lock.scope.pattern.kind().name().to_owned(),
        pattern: lock.scope.pattern.text().to_owned(),
        mode: lock.mode.name().to_owned(),
        owner: lock.owner.to_string(),
        instance: lock.owner.instance().map(ToString::to_string),
        task: lock.owner.task().map(|task| task.0),
        person: lock.owner.instance().is_none().then(|| lock.owner.to_string()),
        reason: lock.reason.clone(),
        since: lock.since.to_string(),
        expires: lock.expires.to_string(),
    }
}

pub(super) fn waits(table: &Table, id: WaitId, wait: &Wait) -> api::LockWait {
    let blockers = table.blockers_of(id);
    let before = blockers.iter().filter(|blocker| matches!(blocker, Blocker::Before(_))).count();
    let request = &wait.request;
    api::LockWait {
        place: request.scope.place.clone(),
        kind: request.scope.pattern.kind().name().to_owned(),
        pattern: request.scope.pattern.text().to_owned(),
        mode: request.mode.name().to_owned(),
        owner: request.owner.to_string(),
        instance: request.owner.instance().map(ToString::to_string),
        since: wait.since.to_string(),
        position: before + 1,
        waits_for: desk::in_the_way(table, &blockers),
    }
}

/// A request that waits, and the locks in its way.
fn alone(table: &Table, id: WaitId, wait: &Wait) -> api::LockTable {
    let lock = |blocker| match blocker {
        Blocker::Holder(id) => table.get(id).map(shown),
        Blocker::Before(_) => None,
    };
    api::LockTable { locks: table.blockers_of(id).into_iter().filter_map(lock).collect(), waiting: vec![waits(table, id, wait)] }
}

impl Verbs {
    async fn at_desk(&self, caller: &Caller, input: impl FnOnce(desk::Reply) -> desk::Input) -> Result<Said, ServiceError> {
        self.decide(caller, |reply| Input::Lock(input(reply))).await
    }
}

/// Waits for a lock, no longer than that, and not for a caller who has gone.
///
/// What is granted in the moment in which its caller goes stays its owner's, for as long as locks last: the owner may have asked
/// again by then, and have been told that it has the lock.
async fn wait_for_lock(
    engine: &mpsc::Sender<Input>,
    actor: audit::Actor,
    wanted: Wanted,
    longest: Duration,
    hung_up: BoxFuture<'static, ()>,
) -> Result<Said, ServiceError> {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    let key = KEYS.fetch_add(1, Ordering::Relaxed);
    let (reply, mut answer) = oneshot::channel();
    let input = desk::Input::Acquire(Box::new(Wanted { wait: Some(key), ..wanted }), reply);
    engine.send(Input::By(actor, Box::new(Input::Lock(input)))).await.map_err(|_| stopping())?;
    tokio::select! {
        said = &mut answer => return Ok(said.map_err(|_| stopping())??),
        () = tokio::time::sleep(longest) => {}
        () = hung_up => {}
    }
    engine.send(Input::Lock(desk::Input::Withdraw(key))).await.map_err(|_| stopping())?;
    // It may have been granted in the meantime.
    Ok(answer.await.map_err(|_| stopping())??)
}

impl Locks for Verbs {
    fn locks(&self, caller: Caller, ticket: Option<Uuid>) -> Answer<'_, api::LockTable> {
        Box::pin(async move {
            self.look(move |state| {
                let table = &state.desk.locks;
                let own = match &caller.role {
                    Role::Agent(name) => Some(desk::place_of(&state.config, name)),
                    Role::Operator | Role::Reader => None,
                };
                let seen = |place: &String| own.as_ref().is_none_or(|own| own == place);
                if let Some(ticket) = ticket {
                    let wait = state.desk.wait_of(ticket).filter(|(_, wait)| seen(&wait.request.scope.place));
                    return wait.map(|(id, wait)| alone(table, id, wait)).unwrap_or_default();
                }
                api::LockTable {
                    locks: table.iter().filter(|lock| seen(&lock.scope.place)).map(shown).collect(),
                    waiting: table.waits().filter(|(_, wait)| seen(&wait.request.scope.place)).map(|(id, wait)| waits(table, id, wait)).collect(),
                }
            })
            .await
        })
    }

    fn acquire_lock(&self, caller: Caller, lock: api::NewLock, hung_up: BoxFuture<'static, ()>) -> Answer<'_, api::GivenLock> {
        Box::pin(async move {
            let wait = lock.wait_seconds.map(Duration::from_secs).filter(|wait| !wait.is_zero());
            let wanted = wanted(&caller, lock)?;
            let said = match wait {
                Some(wait) => wait_for_lock(&self.engine, caller.actor.clone(), wanted, wait.min(WAIT_MAX), hung_up).await?,
                None => self.at_desk(&caller, |reply| desk::Input::Acquire(Box::new(wanted), reply)).await?,
            };
            given(said)
        })
    }

    fn steal_lock(&self, caller: Caller, lock: api::NewLock) -> Answer<'_, api::GivenLock> {
        Box::pin(async move {
            let wanted = Wanted { steal: true, ..wanted(&caller, lock)? };
            let lock = given(self.at_desk(&caller, |reply| desk::Input::Acquire(Box::new(wanted), reply)).await?)?;
            tracing::warn!(by = %caller.description, "lock {} on {} in {} taken by force, asked by {}", lock.lock.id, lock.lock.pattern, lock.lock.place, caller.description);
            Ok(lock)
        })
    }

    fn release_locks(&self, caller: Caller, which: api::ReleaseLocks) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            force(&caller, which.force)?;
            let found = match (which.id, on(which.path, which.glob, which.feature)?) {
                (Some(id), None) => Which::Id(LockId(id)),
                (None, Some(on)) => Which::At(which.place.map(|name| Place { name, repository: which.repository }), on),
                (None, None) if which.place.is_none() => Which::Own,
                _ => return Err(refused(422, "invalid-lock", "id, path, glob, feature: give one of them, or nothing at all for every lock of your own")),
            };
            let (who, force) = (who(&caller), which.force);
            match self.at_desk(&caller, |reply| desk::Input::Release { who, which: found, force, reply }).await? {
                Said::Released(0) => Ok(api::Outcome { result: "unchanged".to_owned(), message: "you held no lock".to_owned() }),
                Said::Released(1) => Ok(api::Outcome { result: "changed".to_owned(), message: "one lock released".to_owned() }),
                Said::Released(count) => Ok(api::Outcome { result: "changed".to_owned(), message: format!("{count} locks released") }),
                Said::No(no) => Err(error(no)),
                Said::Held(..) => Err(refused(500, "internal", "the answer is not one to this question; please report it")),
            }
        })
    }

    fn transfer_lock(&self, caller: Caller, id: LockId, to: api::TransferLock) -> Answer<'_, api::GivenLock> {
        Box::pin(async move {
            force(&caller, to.force)?;
            let instance: crate::core::ids::InstanceName =
                to.instance.parse().map_err(|e: crate::core::ids::InvalidName| refused(400, "invalid-name", e.to_string()))?;
            let asked = instance.clone();
            if !self.look(move |state| state.knows(&asked)).await? {
                return Err(refused(
                    404,
                    "no-such-instance",
                    format!("there is no instance {instance}, neither running nor configured; see: claudectl status"),
                ));
            }
            let who = who(&caller);
            given(self.at_desk(&caller, |reply| desk::Input::Transfer { who, id, to: instance, force: to.force, reply }).await?)
        })
    }
}

/// Only operators act on what is another's.
fn force(caller: &Caller, force: bool) -> Result<(), ServiceError> {
    match &caller.role {
        Role::Agent(name) if force => {
            Err(refused(403, "forbidden", format!("force: you are the agent of instance {name}, and agents act on their own locks alone")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::InstanceName;
    use crate::core::lock::{Bond, Owner, Pattern, Scope};
    use jiff::Timestamp;

    #[tokio::test]
    async fn a_lock_that_is_granted_while_its_caller_goes_stays_its_owners_who_may_have_been_told_so() {
        let (engine, mut inputs) = mpsc::channel(8);
        let (leave, left) = oneshot::channel::<()>();
        let instance: InstanceName = "a".parse().expect("a name");
        let who = Who::Agent(instance.clone());
        let wanted = Wanted {
            who,
            place: None,
            on: On::Path("f".into()),
            mode: Mode::Exclusive,
            reason: String::new(),
            ttl: None,
            wait: None,
            ticket: None,
            steal: false,
        };
        let hung_up = Box::pin(async move { drop(left.await) });
        let waits = tokio::spawn(async move { wait_for_lock(&engine, audit::Actor::default(), wanted, WAIT_MAX, hung_up).await.map_err(|error| error.detail) });
        let Some(Input::By(_, input)) = inputs.recv().await else { panic!("it asks first") };
        let Input::Lock(desk::Input::Acquire(asked, reply)) = *input else { panic!("for a lock") };
        leave.send(()).expect("it listens");
        assert!(matches!(inputs.recv().await, Some(Input::Lock(desk::Input::Withdraw(key))) if Some(key) == asked.wait));
        let lock = Lock {
            id: LockId(7),
            scope: Scope { place: "shop".into(), pattern: Pattern::path("f").expect("a path") },
            mode: Mode::Exclusive,
            owner: Owner::Agent { instance, task: None },
            bond: Bond::default(),
            reason: String::new(),
            ttl: Duration::from_secs(1),
            since: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
        };
        let held = Said::Held("created", Box::new(lock));
        assert!(reply.send(Ok(held.clone())).is_ok(), "it waits for the answer");
        assert!(inputs.recv().await.is_none(), "nothing else is asked for: no lock is given back");
        assert_eq!(waits.await.expect("no panic"), Ok(held));
    }
}
