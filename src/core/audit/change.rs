//! What the audit says of the queue's decisions: derived from what is stored, so that nothing is stored without a row.

use super::{Actor, Entry};
use crate::core::limits::MemoryLimit;
use crate::core::queue::Change;
use crate::core::task::{Task, TaskState};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

impl Actor {
    /// The row about a decision that it caused.
    ///
    /// An agent's words (the report's text and detail) are not in it: what an agent has read may be secret.
    pub fn caused(&self, change: &Change, at: Timestamp) -> Option<Entry> {
        match change {
            Change::Task(task) => Some(self.moved(task, at)),
            // The task's own row, which always comes with it, says as much.
            Change::Attempt(_) => None,
            // Why is left out: of an account's pause that is an agent's word.
            Change::Pause(scope, pause) => {
                let what = if pause.is_some() { "paused" } else { "resumed" };
                Some(self.did(what, at).of(scope.to_string()).of_instance(scope.instance()))
            }
            // That it is raised or has its own again is told when it is so, with a row.
            Change::Raise(..) => None,
            // What was spent is in the report's row.
            Change::Spend(..) => None,
            Change::Report(attempt, instance, report) => {
                let mut details = Map::new();
                details.insert("attempt".to_owned(), attempt.number.into());
                details.insert("outcome".to_owned(), report.ended.name().into());
                if let Some(reason) = report.ended.reason() {
                    details.insert("reason".to_owned(), reason.name().into());
                }
                if let Some(exit) = report.exit {
                    details.insert("exit".to_owned(), exit.to_string().into());
                }
                details.insert("cost_usd".to_owned(), json!(report.agent.cost.dollars()));
                Some(self.did("attempt-reported", at).of_task(Some(attempt.task)).of_instance(Some(instance)).with(&Value::Object(details)))
            }
        }
    }

    fn moved(&self, task: &Task, at: Timestamp) -> Entry {
        let what = if task.cancelling && !task.state.is_final() { "task-cancelling".to_owned() } else { format!("task-{}", task.state.name()) };
        let mut details = Map::new();
        details.insert("attempts".to_owned(), task.attempts.into());
        if let Some(memory) = task.memory {
            details.insert("memory".to_owned(), MemoryLimit::Bytes(memory).to_string().into());
        }
        match &task.state {
            TaskState::Pending { not_before: Some(until) } => {
                details.insert("not_before".to_owned(), until.to_string().into());
            }
            TaskState::Claimed(claim) => {
                details.insert("by".to_owned(), claim.by.clone().into());
            }
            TaskState::Failed(reason) => {
                details.insert("reason".to_owned(), reason.name().into());
            }
            TaskState::Assigned(placement) => {
                details.insert("invocation".to_owned(), placement.invocation.as_str().into());
            }
            _ => {}
        }
        // Where it is, or else where it belongs: how an instance's task has ended is told of that instance, too.
        let instance = task.state.rests_on().map(|(instance, _)| instance).or_else(|| task.bound_to());
        self.did(what, at).of_task(Some(task.id)).of_instance(instance).with(&Value::Object(details))
    }
}
