//! The systemd supervisor: the only place that speaks D-Bus. A task that keeps one connection, makes it again when it is
//! lost, and then looks at everything anew.

mod calls;
mod dropins;
mod properties;
mod session;
mod signals;
mod verbs;

use super::units::{Command, Report, UnitError, UnitEvent, Units, outbox};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::time::Duration;
use tokio::sync::mpsc;

/// Which bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system's.
    System,
    /// The user's.
    Session,
}

impl Bus {
    fn supervisor(self) -> &'static str {
        match self {
            Self::System => "systemd",
            Self::Session => "systemd-user",
        }
    }
}

/// Starts the adapter. It connects, and connects again whenever it must, for as long as the handle lives.
pub fn spawn(bus: Bus, reports: mpsc::Sender<Report>) -> Units {
    let (units, commands) = Units::new(bus.supervisor());
    tokio::spawn(run(bus, commands, outbox(reports)));
    units
}

async fn run(bus: Bus, mut commands: mpsc::Receiver<Command>, reports: mpsc::UnboundedSender<Report>) {
    let delays = || {
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(Duration::from_secs(2)).with_jitter().without_max_times().build()
    };
    let mut delay = delays();
    let mut told = false;
    loop {
        let lost = match connect(bus, &mut commands, &reports).await {
            Attempt::Connected(mut session) => {
                (delay, told) = (delays(), false);
                match session.run(&mut commands).await {
                    Some(error) => error,
                    None => return,
                }
            }
            Attempt::Failed(error) => error,
            Attempt::Unwanted => return,
        };
        // Said once for each loss: the attempts that follow say nothing new.
        if !told {
            tracing::warn!(supervisor = bus.supervisor(), error = %lost, "lost the connection to systemd; trying again");
            told = true;
            if reports.send(Report::Event(UnitEvent::Disconnected(lost.to_string()))).is_err() {
                return;
            }
        }
        if !refuse_for(bus, &mut commands, tokio::time::sleep(delay.next().unwrap_or(Duration::from_secs(2)))).await {
            return;
        }
    }
}

enum Attempt {
    Connected(session::Session),
    Failed(zbus::Error),
    Unwanted,
}

/// Connects, refusing commands meanwhile.
async fn connect(bus: Bus, commands: &mut mpsc::Receiver<Command>, reports: &mpsc::UnboundedSender<Report>) -> Attempt {
    let connecting = session::Session::connect(bus, reports.clone());
    tokio::pin!(connecting);
    let mut outcome = None;
    if !refuse_for(bus, commands, async { outcome = Some(connecting.await) }).await {
        return Attempt::Unwanted;
    }
    match outcome {
        Some(Ok(session)) => Attempt::Connected(session),
        Some(Err(error)) => Attempt::Failed(error),
        None => Attempt::Unwanted,
    }
}

/// Answers commands with [`UnitError::Disconnected`] until `until` is over; `false` if nobody holds the handle any more.
async fn refuse_for(bus: Bus, commands: &mut mpsc::Receiver<Command>, until: impl Future<Output = ()>) -> bool {
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return true,
            command = commands.recv() => match command {
                None => return false,
                Some(command) => {
                    let (unit, method) = (command.unit(), command.method());
                    // Whoever asked may have gone.
                    let _ = command.reply().send(Err(UnitError::Disconnected { unit, method, supervisor: bus.supervisor() }));
                }
            },
        }
    }
}
