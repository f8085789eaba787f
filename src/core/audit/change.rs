//! What the audit says of the queue's decisions: derived from what is stored, so that nothing is stored without a row.

use super::{Actor, Entry};
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
        match &task.state {
            TaskState::Pending { not_before: Some(until) } => {
                details.insert("not_before".to_owned(), until.to_string().into());
            }
            TaskState::Failed(reason) => {
                details.insert("reason".to_owned(), reason.name().into());
            }
            TaskState::Assigned(placement) => {
                details.insert("invocation".to_owned(), placement.invocation.as_str().into());
            }
            _ => {}
        }
        let instance = task.state.placement().map(|placement| &placement.instance);
        self.did(what, at).of_task(Some(task.id)).of_instance(instance).with(&Value::Object(details))
    }
}
