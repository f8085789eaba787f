//! One connection's life: catch up, then answer every signal about one of our units with one look at it. Whoever was
//! touched while being looked at is looked at again, so a burst of signals costs two looks and none is missed. A verb is
//! answered after a look: who then asks for the state is told what the verb did.

use super::calls::{Systemd, is_away};
use super::signals::{Signal, Subject, listen};
use super::verbs::{JobEnd, Listeners, perform};
use super::{Bus, Command};
use crate::core::ids::{FLEET_SLICE, InstanceName};
use crate::core::instance::Observation;
use crate::platform::units::{Answer, Report, UnitEvent};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tokio::sync::mpsc;

/// What is known of one instance in this connection.
#[derive(Default)]
struct Known {
    looking: bool,
    again: bool,
    /// Whether [`UnitEvent::CaughtUp`] waits for it.
    awaited: bool,
    last: Option<Box<Observation>>,
    /// For those who wait for it.
    answers: Vec<Answer>,
}

/// The result of one look.
type Looked = (InstanceName, zbus::Result<Option<Observation>>);

/// What a verb came to, with the instance that it touched, if it was about one.
type Performed = (Option<InstanceName>, Answer);

/// One connection.
pub(super) struct Session {
    systemd: Systemd,
    bus: Bus,
    signals: mpsc::UnboundedReceiver<Signal>,
    looks: (mpsc::UnboundedSender<Looked>, mpsc::UnboundedReceiver<Looked>),
    answers: (mpsc::UnboundedSender<Performed>, mpsc::UnboundedReceiver<Performed>),
    known: HashMap<InstanceName, Known>,
    /// Whether a [`UnitEvent::CaughtUp`] is owed.
    behind: bool,
    listeners: Listeners,
    reports: mpsc::UnboundedSender<Report>,
}

impl Session {
    pub(super) async fn connect(bus: Bus, reports: mpsc::UnboundedSender<Report>) -> zbus::Result<Self> {
        let systemd = Systemd::connect(bus).await?;
        let signals = listen(&systemd, bus).await?;
        systemd.subscribe().await?;
        let (looks, answers) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let mut session = Self { systemd, bus, signals, looks, answers, known: HashMap::new(), behind: false, listeners: Listeners::default(), reports };
        let root = session.systemd.call(session.systemd.manager.control_group()).await?;
        session.report(UnitEvent::Fleet(format!("{}/claude.slice/{FLEET_SLICE}", root.trim_end_matches('/'))));
        session.catch_up().await?;
        Ok(session)
    }

    /// Runs until the connection is lost, and says how; `None` when nobody holds the handle any more.
    pub(super) async fn run(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<zbus::Error> {
        loop {
            let outcome = tokio::select! {
                signal = self.signals.recv() => self.heard(signal.unwrap_or(Signal::End)).await,
                look = self.looks.1.recv() => look.map_or(Ok(()), |(name, found)| self.looked(name, found)),
                command = commands.recv() => match command {
                    None => return None,
                    Some(command) => {
                        let performed = perform(self.systemd.clone(), self.bus.supervisor(), self.listeners.clone(), command);
                        let answers = self.answers.0.clone();
                        tokio::spawn(async move {
                            if let Err(unheard) = answers.send(performed.await) {
                                // The session is over; the next one looks at everything anyway.
                                unheard.0.1.give();
                            }
                        });
                        Ok(())
                    }
                },
                answer = self.answers.1.recv() => {
                    if let Some((about, answer)) = answer {
                        self.look_and_answer(about, answer);
                    }
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                return Some(error);
            }
        }
    }

    async fn heard(&mut self, signal: Signal) -> zbus::Result<()> {
        match signal {
            Signal::Touched(Subject::Service(name)) => self.look(name, false),
            Signal::Touched(Subject::Slice(name)) if self.known.contains_key(&name) => self.look(name, false),
            Signal::Touched(Subject::Slice(_)) => {}
            Signal::JobRemoved(path, result) => self.listeners.tell(&JobEnd::Removed { path, result }),
            Signal::Reloaded => self.catch_up().await?,
            Signal::Owner(false) => {}
            Signal::Owner(true) => {
                // A new systemd process on the bus: what it did since the old one left was told to nobody.
                self.systemd.subscribe().await?;
                self.listeners.tell(&JobEnd::Unknown);
                self.catch_up().await?;
            }
            Signal::End => return Err(zbus::Error::Failure("the message bus closed the connection".to_owned())),
        }
        Ok(())
    }

    /// Looks at every instance that is loaded or was known, and promises [`UnitEvent::CaughtUp`] for when all are seen.
    async fn catch_up(&mut self) -> zbus::Result<()> {
        let mut names = self.systemd.list().await?;
        names.extend(self.known.keys().cloned());
        self.behind = true;
        for name in names {
            self.look(name, true);
        }
        self.tell_if_caught_up();
        Ok(())
    }

    fn look_and_answer(&mut self, about: Option<InstanceName>, answer: Answer) {
        let Some(name) = about else { return self.say(Report::Answer(answer)) };
        self.look(name.clone(), false);
        self.known.entry(name).or_default().answers.push(answer);
    }

    fn look(&mut self, name: InstanceName, awaited: bool) {
        let known = self.known.entry(name.clone()).or_default();
        known.awaited |= awaited;
        if known.looking {
            known.again = true;
            return;
        }
        known.looking = true;
        let (systemd, found) = (self.systemd.clone(), self.looks.0.clone());
        tokio::spawn(async move {
            let look = systemd.look(&name).await;
            // The session may be over.
            let _ = found.send((name, look));
        });
    }

    fn looked(&mut self, name: InstanceName, found: zbus::Result<Option<Observation>>) -> zbus::Result<()> {
        let Entry::Occupied(mut entry) = self.known.entry(name.clone()) else { return Ok(()) };
        let known = entry.get_mut();
        known.looking = false;
        let found = match found {
            Err(error) if is_away(&error) => {
                // systemd is executing itself anew: all are looked at again when it is back.
                tracing::debug!(instance = %name, %error, "systemd is away");
                return Ok(());
            }
            found => found?,
        };
        let again = std::mem::take(&mut known.again);
        let answers = if again { Vec::new() } else { std::mem::take(&mut known.answers) };
        match found {
            Some(seen) if known.last.as_deref() == Some(&seen) && !known.awaited => {}
            Some(seen) => {
                let seen = Box::new(seen);
                known.last = Some(seen.clone());
                self.report(UnitEvent::Seen(seen));
            }
            // Whether it comes back is seen by the look that is due.
            None if again => {}
            None => {
                entry.remove();
                self.report(UnitEvent::Gone(name.clone()));
            }
        }
        answers.into_iter().for_each(|answer| self.say(Report::Answer(answer)));
        if again {
            self.look(name, false);
        } else if let Some(known) = self.known.get_mut(&name) {
            known.awaited = false;
        }
        self.tell_if_caught_up();
        Ok(())
    }

    fn tell_if_caught_up(&mut self) {
        if self.behind && !self.known.values().any(|known| known.awaited) {
            self.behind = false;
            self.report(UnitEvent::CaughtUp);
        }
    }

    fn report(&self, event: UnitEvent) {
        self.say(Report::Event(event));
    }

    fn say(&self, report: Report) {
        // Without a listener there is nobody to tell; the handle's end is what ends the adapter.
        let _ = self.reports.send(report);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.listeners.close();
    }
}
