//! The port to whoever supervises the instances: systemd over D-Bus, or this program's own process supervisor.
//!
//! An adapter is a task that owns its connection. It takes [`Command`]s and reports every look at an instance as an
//! [`UnitEvent`]; after an interruption it looks at everything again, so a listener needs no other source. What a verb came to goes
//! the same way ([`Report`]): whoever is told that it is done, and then looks, finds what it did.

use crate::core::ids::InstanceName;
use crate::core::instance::Observation;
use crate::core::limits::Limits;
use crate::core::team::TeamName;
use tokio::sync::{mpsc, oneshot};

/// What a verb did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Something was made that was not there.
    Created,
    /// Something was there and is now as asked.
    Changed,
    /// It was already as asked.
    Unchanged,
}

impl Done {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Why a supervisor did not do as asked. Names the unit and the method or file.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// There is no connection to the supervisor now; it is being made again.
    #[error("{unit}: {method}: not connected to {supervisor}; trying again, see the journal of clauded")]
    Disconnected {
        /// The unit.
        unit: String,
        /// The method.
        method: &'static str,
        /// Which supervisor.
        supervisor: &'static str,
    },
    /// The supervisor refused.
    #[error("{unit}: {method}: {message}")]
    Refused {
        /// The unit.
        unit: String,
        /// The method.
        method: &'static str,
        /// Its words.
        message: String,
    },
    /// The job was done and failed: `failed`, `timeout`, `canceled`, `dependency` (`JobRemoved`, org.freedesktop.systemd1(5)).
    #[error("{unit}: {method}: the job ended with {result:?}{hint}")]
    Job {
        /// The unit.
        unit: String,
        /// The method.
        method: &'static str,
        /// systemd's word.
        result: String,
        /// What the unit says about it, and where to look.
        hint: String,
    },
}

/// What the supervisor is asked; the answer comes when the job is done, not when it is queued.
#[derive(Debug)]
pub enum Command {
    /// Start the instance.
    Start(InstanceName, oneshot::Sender<Result<Done, UnitError>>),
    /// Stop it.
    Stop(InstanceName, oneshot::Sender<Result<Done, UnitError>>),
    /// Stop it if it runs, then start it.
    Restart(InstanceName, oneshot::Sender<Result<Done, UnitError>>),
    /// Change the limits of its slice at once, until the next boot.
    SetLimits(InstanceName, Limits, oneshot::Sender<Result<Done, UnitError>>),
    /// Start or stop a team's target alone: its members are asked one by one, so that each can be told of.
    Target {
        /// The team.
        team: TeamName,
        /// Start it.
        up: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Done, UnitError>>,
    },
    /// Read unit files and drop-ins again (never on the path of a task).
    Reload(oneshot::Sender<Result<Done, UnitError>>),
}

impl Command {
    /// The unit that it is about, for errors.
    pub fn unit(&self) -> String {
        match self {
            Self::Start(name, _) | Self::Stop(name, _) | Self::Restart(name, _) => name.unit(),
            Self::SetLimits(name, ..) => name.slice(),
            Self::Target { team, .. } => team.target(),
            Self::Reload(_) => "manager".to_owned(),
        }
    }

    /// The instance that it is about.
    pub fn instance(&self) -> Option<&InstanceName> {
        match self {
            Self::Start(name, _) | Self::Stop(name, _) | Self::Restart(name, _) | Self::SetLimits(name, ..) => Some(name),
            Self::Target { .. } | Self::Reload(_) => None,
        }
    }

    /// systemd's method for it, for errors.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Start(..) | Self::Target { up: true, .. } => "StartUnit",
            Self::Stop(..) | Self::Target { up: false, .. } => "StopUnit",
            Self::Restart(..) => "RestartUnit",
            Self::SetLimits(..) => "SetUnitProperties",
            Self::Reload(_) => "Reload",
        }
    }

    /// Where the answer goes.
    pub fn reply(self) -> oneshot::Sender<Result<Done, UnitError>> {
        match self {
            Self::Start(_, reply)
            | Self::Stop(_, reply)
            | Self::Restart(_, reply)
            | Self::SetLimits(_, _, reply)
            | Self::Target { reply, .. }
            | Self::Reload(reply) => reply,
        }
    }
}

/// What the supervisor reports without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitEvent {
    /// The cgroup that all instances are in, below the root of the hierarchy (`/claude.slice/claude-code.slice`). It may not
    /// exist while none runs. Comes after a connection, if there are cgroups.
    Fleet(String),
    /// How an instance stands now. Comes for every known one after a connection, then whenever something changes.
    Seen(Box<Observation>),
    /// The unit is no longer loaded: stopped, and nothing is left of it.
    Gone(InstanceName),
    /// All instances have been seen since the connection was made.
    CaughtUp,
    /// The connection is lost and is being made again.
    Disconnected(String),
}

/// What an adapter says, in the order in which it came about.
#[derive(Debug)]
pub enum Report {
    /// How things stand.
    Event(UnitEvent),
    /// What a verb came to. To be given when every event before it has been passed on.
    Answer(Answer),
}

/// What a verb came to, for whoever asked.
#[derive(Debug)]
pub struct Answer {
    /// Where it goes.
    pub reply: oneshot::Sender<Result<Done, UnitError>>,
    /// What it is.
    pub outcome: Result<Done, UnitError>,
}

impl Answer {
    /// Tells whoever asked.
    pub fn give(self) {
        // They may have gone.
        let _ = self.reply.send(self.outcome);
    }
}

/// The daemon's hand on a supervisor.
#[derive(Clone, Debug)]
pub struct Units {
    commands: mpsc::Sender<Command>,
    supervisor: &'static str,
}

impl Units {
    /// A handle and the adapter's ends: commands to take. Reports go through a channel of the daemon's own.
    pub fn new(supervisor: &'static str) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(64);
        (Self { commands, supervisor }, receiver)
    }

    /// `systemd`, `systemd-user` or `process`.
    pub fn supervisor(&self) -> &'static str {
        self.supervisor
    }

    async fn ask(&self, unit: String, method: &'static str, make: impl FnOnce(oneshot::Sender<Result<Done, UnitError>>) -> Command) -> Result<Done, UnitError> {
        let gone = || UnitError::Disconnected { unit: unit.clone(), method, supervisor: self.supervisor };
        let (reply, answer) = oneshot::channel();
        self.commands.send(make(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Starts an instance and waits until it is ready.
    ///
    /// # Errors
    /// Names the unit and what its supervisor said.
    pub async fn start(&self, name: &InstanceName) -> Result<Done, UnitError> {
        self.ask(name.unit(), "StartUnit", |reply| Command::Start(name.clone(), reply)).await
    }

    /// Stops an instance and waits until nothing of it runs.
    ///
    /// # Errors
    /// Names the unit and what its supervisor said.
    pub async fn stop(&self, name: &InstanceName) -> Result<Done, UnitError> {
        self.ask(name.unit(), "StopUnit", |reply| Command::Stop(name.clone(), reply)).await
    }

    /// Stops and starts an instance.
    ///
    /// # Errors
    /// Names the unit and what its supervisor said.
    pub async fn restart(&self, name: &InstanceName) -> Result<Done, UnitError> {
        self.ask(name.unit(), "RestartUnit", |reply| Command::Restart(name.clone(), reply)).await
    }

    /// Changes the limits of an instance's slice at once.
    ///
    /// # Errors
    /// Names the slice and what its supervisor said.
    pub async fn set_limits(&self, name: &InstanceName, limits: Limits) -> Result<Done, UnitError> {
        self.ask(name.slice(), "SetUnitProperties", |reply| Command::SetLimits(name.clone(), limits, reply)).await
    }

    /// Starts or stops a team's target, and waits until that is done. Without one there is nothing to do.
    ///
    /// # Errors
    /// Names the target and what its supervisor said.
    pub async fn target(&self, team: &TeamName, up: bool) -> Result<Done, UnitError> {
        if self.supervisor != "systemd" {
            // The generator makes them, and a user's systemd has none.
            return Ok(Done::Unchanged);
        }
        let method = if up { "StartUnit" } else { "StopUnit" };
        self.ask(team.target(), method, |reply| Command::Target { team: team.clone(), up, reply }).await
    }

    /// Lets the supervisor read its configuration again.
    ///
    /// # Errors
    /// What the supervisor said.
    pub async fn reload(&self) -> Result<Done, UnitError> {
        self.ask("manager".to_owned(), "Reload", Command::Reload).await
    }
}

/// An adapter's end of the report channel that never makes it wait, however slowly the daemon takes what is said.
pub(super) fn outbox(reports: mpsc::Sender<Report>) -> mpsc::UnboundedSender<Report> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(report) = receiver.recv().await {
            if reports.send(report).await.is_err() {
                return;
            }
        }
    });
    sender
}
