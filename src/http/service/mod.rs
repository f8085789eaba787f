//! The port that the daemon implements for the API: one trait a resource, one method a verb, API types in and out. Every method
//! answers when the thing is done and durable.

mod audit;
mod checks;
mod feeds;
mod instances;
mod locks;
mod messages;
mod plans;
mod queue;
mod repositories;
mod schedules;
mod tasks;
mod teams;
mod worktrees;

pub use audit::Audit;
pub use checks::Checks;
pub use feeds::Feeds;
pub use instances::Instances;
pub use locks::Locks;
pub use messages::Messages;
pub use plans::Plans;
pub use queue::Queue;
pub use repositories::Repositories;
pub use schedules::Schedules;
pub use tasks::{TaskQuery, Tasks};
pub use teams::Teams;
pub use worktrees::Worktrees;

use crate::core::audit::Actor;
use crate::core::ids::InstanceName;
use futures_util::future::BoxFuture;

/// An answer that comes later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ServiceError>>;

/// Who is calling, as the kernel or a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the journal: `uid 1000, pid 4242`, `token`, `instance feature-x`.
    pub description: String,
    /// For the audit.
    pub actor: Actor,
    /// What the caller may do.
    pub role: Role,
}

impl Caller {
    /// The instance, if it is the agent of one.
    pub fn agent(&self) -> Option<&InstanceName> {
        if let Role::Agent(name) = &self.role { Some(name) } else { None }
    }
}

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything: root, a member of the socket's group, the token's holder.
    Operator,
    /// Read; the process of an instance, known by its cgroup.
    Agent(InstanceName),
    /// Read only.
    Reader,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ServiceError {
    /// The HTTP status that fits.
    pub status: u16,
    /// A stable word for programs.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
}

/// All that the daemon does for the API.
pub trait Service: Instances + Tasks + Queue + Schedules + Locks + Teams + Feeds + Audit + Worktrees + Repositories + Messages + Checks + Plans {}

impl<T: Instances + Tasks + Queue + Schedules + Locks + Teams + Feeds + Audit + Worktrees + Repositories + Messages + Checks + Plans> Service for T {}
