//! Members that a team has too many: each is given nothing more, ends what it does, and is stopped. What to do follows from the
//! configuration and the fleet as they are, so that it goes on after a restart of clauded.

use super::engine::{Input, State, look};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::instance::ActiveState;
use crate::platform::units::Units;
use crate::proto::api;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};

/// After what there may be something to do.
const CAUSES: [&str; 4] = ["config-reloaded", "instance-started", "task-finished", "task-assigned"];

/// Looks once all instances have been seen, and then whenever something has happened, until the engine or the events are gone.
pub(super) async fn watch(engine: mpsc::Sender<Input>, units: Units, mut events: broadcast::Receiver<api::Event>, mut seen_all: watch::Receiver<bool>) {
    if seen_all.wait_for(|all| *all).await.is_err() {
        return;
    }
    loop {
        let Some(surplus) = look(&engine, surplus).await else { return };
        for (name, _) in &surplus {
            if engine.send(Input::Draining(name.clone())).await.is_err() {
                return;
            }
        }
        // Asked again: what was given to one of them before it was told is seen now, and nothing is given to it after that.
        for (name, task) in if surplus.is_empty() { Vec::new() } else { look(&engine, self::surplus).await.unwrap_or_default() } {
            if task.is_none() && surplus.iter().any(|(told, _)| *told == name) {
                tokio::spawn(stop(engine.clone(), units.clone(), name));
            }
        }
        loop {
            match events.recv().await {
                Ok(event) if !CAUSES.contains(&event.kind.as_str()) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// Stops an instance that is not to come back, and lets go of what began there.
async fn stop(engine: mpsc::Sender<Input>, units: Units, name: InstanceName) {
    match units.stop(&name).await {
        Ok(_) => {
            tracing::info!(instance = %name, "{name} was one too many of its team, and is stopped");
            // The engine lives as long as the daemon.
            let _ = engine.send(Input::Retired(name)).await;
        }
        Err(error) => tracing::error!(instance = %name, "{name} is one too many of its team, and cannot be stopped: {error}"),
    }
}

/// Those that run and are too many, and the task that each still has.
fn surplus(state: &State) -> Vec<(InstanceName, Option<TaskId>)> {
    let runs = state.fleet.iter().filter(|seen| matches!(seen.active, ActiveState::Active | ActiveState::Activating | ActiveState::Reloading));
    let too_many = runs.filter(|seen| state.config.surplus_of(&seen.name).is_some());
    too_many.map(|seen| (seen.name.clone(), task_of(state, &seen.name))).collect()
}

/// The task that an instance has, whether its runner is connected now or not.
pub(super) fn task_of(state: &State, name: &InstanceName) -> Option<TaskId> {
    state.queue.tasks().find(|task| task.state.placement().is_some_and(|placement| placement.instance == *name)).map(|task| task.id)
}
