//! Who supervises the instances: which adapter that is, how it is started, and what becomes of what it says.

use super::engine::Input;
use super::launch;
use super::runners::Runners;
use crate::config::{Config, Paths, Supervisor};
use crate::core::ids::InstanceName;
use crate::platform::units::{Report, UnitEvent, Units};
use crate::platform::{process, systemd};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, watch};

/// Looks at units on their way to the engine.
const REPORTS: usize = 256;

/// Whom to ask for instances: what the configuration says, or what is there (sd_booted(3)).
pub(super) fn supervisor(wanted: Supervisor, user: bool, booted: bool) -> Supervisor {
    match wanted {
        Supervisor::Auto if !booted => Supervisor::Process,
        Supervisor::Auto if user => Supervisor::SystemdUser,
        Supervisor::Auto => Supervisor::Systemd,
        chosen => chosen,
    }
}

/// Starts the adapter of the supervisor.
pub(super) fn supervise(which: Supervisor, paths: &Paths, config: &Arc<RwLock<Arc<Config>>>) -> (Units, mpsc::Receiver<Report>) {
    let (reports, said) = mpsc::channel(REPORTS);
    let units = match which {
        Supervisor::Auto | Supervisor::Systemd => systemd::spawn(systemd::Bus::System, reports),
        Supervisor::SystemdUser => systemd::spawn(systemd::Bus::Session, reports),
        Supervisor::Process => {
            let (paths_of, config, fleet) = (paths.clone(), config.clone(), config.clone());
            let launch = move |name: &InstanceName| {
                let config = config.read().unwrap_or_else(PoisonError::into_inner).clone();
                launch::launch(&config, &paths_of, name)
            };
            process::spawn(
                process::Settings {
                    state: paths.state.join("supervisor"),
                    runtime: paths.runtime.clone(),
                    launch: Box::new(launch),
                    fleet: Box::new(move || fleet.read().unwrap_or_else(PoisonError::into_inner).fleet.limits),
                    policy: process::Policy::default(),
                },
                reports,
            )
        }
    };
    (units, said)
}

/// The instances that are started with clauded, where no boot does it.
pub(super) fn autostarted(config: &Config) -> Vec<InstanceName> {
    config.instances.iter().filter(|(_, instance)| instance.autostart).map(|(name, _)| name.clone()).collect()
}

/// Passes on what the supervisor says, in its order: a verb that is answered has been seen to be done by the engine. Once everything
/// has been seen, starts what no boot starts without systemd.
pub(super) async fn watch_units(
    mut said: mpsc::Receiver<Report>,
    engine: mpsc::Sender<Input>,
    units: Units,
    runners: Arc<Runners>,
    mut autostart: Vec<InstanceName>,
    caught_up: watch::Sender<bool>,
) {
    while let Some(report) = said.recv().await {
        let event = match report {
            Report::Event(event) => event,
            Report::Answer(answer) => {
                answer.give();
                continue;
            }
        };
        let complete = event == UnitEvent::CaughtUp;
        runners.take(&event);
        if engine.send(Input::Unit(event)).await.is_err() {
            return;
        }
        if complete {
            caught_up.send_replace(true);
            for name in autostart.drain(..) {
                let units = units.clone();
                tokio::spawn(async move {
                    if let Err(error) = units.start(&name).await {
                        tracing::error!(instance = %name, "autostart of {name}: {error}");
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::units::{Answer, Done};
    use tokio::sync::oneshot;

    #[test]
    fn the_supervisor_is_the_one_that_is_there_unless_the_configuration_says_another() {
        use Supervisor::{Auto, Process, Systemd, SystemdUser};
        for (user, booted, there) in [(false, true, Systemd), (true, true, SystemdUser), (false, false, Process), (true, false, Process)] {
            assert_eq!(supervisor(Auto, user, booted), there, "user {user}, booted {booted}");
            for chosen in [Systemd, SystemdUser, Process] {
                assert_eq!(supervisor(chosen, user, booted), chosen, "user {user}, booted {booted}");
            }
        }
    }

    #[tokio::test]
    async fn a_verb_is_answered_when_the_engine_has_what_was_seen_before() {
        let (says, said) = mpsc::channel(4);
        let (engine, mut inputs) = mpsc::channel(1);
        let (reply, mut answer) = oneshot::channel();
        let (caught_up, _) = watch::channel(false);
        let name: InstanceName = "a".parse().expect("a name");
        let answered = Report::Answer(Answer { reply, outcome: Ok(Done::Changed) });
        for report in [Report::Event(UnitEvent::Gone(name.clone())), Report::Event(UnitEvent::Gone(name)), answered] {
            says.send(report).await.expect("room");
        }
        drop(says);
        let runners = Arc::new(Runners::default());
        let watched = tokio::spawn(watch_units(said, engine, Units::new("process").0, runners, Vec::new(), caught_up));
        // Nothing of what comes after the second passes it, however long that takes.
        while inputs.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(answer.try_recv().is_err(), "it is done, and the engine has not seen it");
        for _ in 0..2 {
            assert!(matches!(inputs.recv().await, Some(Input::Unit(UnitEvent::Gone(_)))));
        }
        assert!(matches!(answer.await, Ok(Ok(Done::Changed))));
        watched.await.expect("it ends with the supervisor");
    }
}
