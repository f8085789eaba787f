//! The verbs on locks.

use super::{Answer, Caller};
use crate::core::lock::LockId;
use crate::proto::api;
use futures_util::future::BoxFuture;
use uuid::Uuid;

/// The verbs on locks.
pub trait Locks: Send + Sync {
    /// All locks and all who wait for one, or who waits with that ticket and what is in its way; an agent sees those of the files
    /// that it works on.
    fn locks(&self, caller: Caller, ticket: Option<Uuid>) -> Answer<'_, api::LockTable>;
    /// Takes a lock, or waits for it until the caller has `hung_up`.
    fn acquire_lock(&self, caller: Caller, lock: api::NewLock, hung_up: BoxFuture<'static, ()>) -> Answer<'_, api::GivenLock>;
    /// Takes a lock from whoever has it.
    fn steal_lock(&self, caller: Caller, lock: api::NewLock) -> Answer<'_, api::GivenLock>;
    /// Gives locks back.
    fn release_locks(&self, caller: Caller, which: api::ReleaseLocks) -> Answer<'_, api::Outcome>;
    /// Gives a lock to an instance.
    fn transfer_lock(&self, caller: Caller, id: LockId, to: api::TransferLock) -> Answer<'_, api::GivenLock>;
}
