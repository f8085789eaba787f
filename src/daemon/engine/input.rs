//! What the engine's loop takes, and the way back to the runners.

use crate::config::Config;
use crate::core::audit::Actor;
use crate::core::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use crate::core::queue;
use crate::core::size::Outcome;
use crate::core::task::Task;
use crate::daemon::desk;
use crate::daemon::jobs::Asker;
use crate::daemon::mail::{Posted, Posting};
use crate::daemon::turn::{Added, Additions, Decision, Look};
use crate::platform::store::{StoreError, StoredWorktree};
use crate::platform::units::UnitEvent;
use crate::proto::link::{Answer, Event, FromDaemon, Job, Progress};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot};

/// What the loop takes.
pub(in crate::daemon) enum Input {
    /// New tasks, checked.
    Add(Box<Additions>, Added),
    /// End a task; `false` comes back if the queue does not have it.
    Cancel(TaskId, oneshot::Sender<Result<bool, Arc<StoreError>>>),
    /// Try an ended task again; `false` comes back if it has not ended.
    Retry(Box<Task>, oneshot::Sender<Result<bool, Arc<StoreError>>>),
    /// A message to be sent.
    Post(Box<Posting>, Posted),
    /// A runner is connected, and the events that it had spooled have been sent in before this.
    Linked {
        /// Who it is, as the kernel says, and what it runs.
        hello: queue::Hello,
        /// The way to it.
        to: Outbox,
    },
    /// A spooled event of a runner.
    Runner {
        /// The instance, as the kernel says.
        instance: InstanceName,
        /// Whose usage limit it works under.
        account: String,
        /// The start of its unit.
        invocation: InvocationId,
        /// The event's number, for the acknowledgement.
        seq: u64,
        /// What happened.
        event: Event,
        /// The way to it.
        to: Outbox,
    },
    /// How a runner's attempt is doing.
    Progress(InstanceName, Progress),
    /// A runner takes no more tasks.
    Draining(InstanceName),
    /// An instance is stopped for good.
    Retired(InstanceName),
    /// That connection of a runner is gone.
    Unlinked(InstanceName, InvocationId, u64),
    /// Have an instance's runner do something with its worktree.
    Job(InstanceName, Job, Asker),
    /// What came of it, by the question's number.
    Answered(InstanceName, u64, Answer),
    /// Give an instance no task, or tasks again: it is started for its worktree's sake.
    Reserve(InstanceName, bool),
    /// What is known of an instance's worktree now; `None` if it is gone.
    Worktree(InstanceName, Option<StoredWorktree>),
    /// The supervisor saw something.
    Unit(UnitEvent),
    /// The memory limit of an instance was set for an attempt, or set back, or not.
    Limited(InstanceName, AttemptId, bool, Outcome),
    /// A new configuration, checked.
    Configure(Arc<Config>),
    /// That is whose input it is; others are clauded's own, a runner's or the supervisor's.
    By(Actor, Box<Input>),
    /// Something about locks.
    Lock(desk::Input),
    /// Look at the state.
    Ask(Look),
    /// Decide on something else that somebody asks for.
    Decide(Decision),
}

impl Input {
    /// The connection that it came by, if its order among others of it matters.
    pub(super) fn connection(&self) -> Option<u64> {
        match self {
            Self::Linked { to, .. } | Self::Runner { to, .. } => Some(to.connection),
            _ => None,
        }
    }

    /// To whose account goes what follows from it.
    pub(super) fn actor(&self) -> Actor {
        match self {
            Self::Linked { hello: queue::Hello { instance, .. }, .. } | Self::Runner { instance, .. } => Actor::runner(instance.clone()),
            Self::Unit(_) => Actor::supervisor(),
            _ => Actor::clauded(),
        }
    }
}

/// The way to one runner: its connection's number, what is written to it, and the cord to pull.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Outbox {
    /// Counts connections, so that an old one's end does not close a new one.
    pub(in crate::daemon) connection: u64,
    /// What is written to it, in order.
    pub(in crate::daemon) send: mpsc::Sender<FromDaemon>,
    /// Ends the connection; the runner comes back and says everything again.
    pub(in crate::daemon) hang_up: Arc<Notify>,
}

impl Outbox {
    /// Puts a message on the way. A runner that does not read is disconnected.
    pub(in crate::daemon) fn tell(&self, message: FromDaemon) {
        if self.send.try_send(message).is_err() {
            tracing::warn!(connection = self.connection, "a runner does not read what it is told; its connection is closed");
            self.hang_up.notify_one();
        }
    }
}
