//! The plans, as the engine sees to them: what became of their tasks in this turn, and what follows, in the same commit.

use super::engine::State;
use super::turn::{Additions, Turn};
use crate::core::audit::Actor;
use crate::core::ids::TaskId;
use crate::core::plan::{Change, Crew, Effect, Order, Part, PlanId, Plans};
use crate::core::queue::{self, Queue};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;
use tokio::sync::oneshot;

/// A task that a plan adds, on its way to its number.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Its place in the batch.
    at: usize,
    plan: PlanId,
    part: Part,
    item: String,
}

/// Moves every plan as far as it goes, at the end of a turn.
pub(super) fn settle(state: &mut State, now: Timestamp, turn: &mut Turn) {
    let State { queue, plans, .. } = state;
    if plans.is_empty() {
        return;
    }
    for change in &turn.batch.changes {
        match change {
            queue::Change::Report(attempt, name, report) => {
                plans.heard(attempt.task, name, report.work.as_ref().map(|work| work.branch.as_str()), &report.text);
            }
            queue::Change::Task(task) => plans.stands(task),
            queue::Change::Attempt(_) | queue::Change::Pause(..) | queue::Change::Spend(..) | queue::Change::Raise(..) => {}
        }
    }
    turn.actor = Actor::clauded();
    let follows = plans.settle(|task| queue.task(task).is_some(), |order| crew(queue, order), now);
    effects(queue, turn, follows, now);
}

/// Who there is to do what a plan asks for.
pub(super) fn crew(queue: &Queue, order: &Order) -> Crew {
    Crew::of(queue.rules(), order)
}

/// Does what the plans want done, or puts it into the turn.
pub(super) fn effects(queue: &mut Queue, turn: &mut Turn, effects: Vec<Effect>, now: Timestamp) {
    for effect in effects {
        match effect {
            Effect::Save(change) => turn.batch.plans.push(change),
            Effect::Tell { plan, kind, message } => turn.note_of(format!("plan {plan}"), kind, None, message, now),
            Effect::Cancel(task) => {
                let (_, effects) = queue.cancel(task, now);
                turn.effects(effects, now);
            }
            Effect::Add(plan, additions) => {
                let first = turn.batch.add.len();
                let expected = additions.iter().enumerate().map(|(place, one)| Expected { at: first + place, plan, part: one.part, item: one.item.clone() });
                turn.planned.extend(expected);
                let specs = additions.into_iter().map(|one| (one.spec, one.after)).collect();
                // Nobody waits for the numbers.
                turn.add(Additions { specs, ended: BTreeSet::new() }, now, oneshot::channel().0);
            }
        }
    }
}

/// The tasks of plans have their numbers.
pub(super) fn numbered(plans: &mut Plans, queue: &mut Queue, expected: &[Expected], ids: &[TaskId], now: Timestamp, turn: &mut Turn) {
    for Expected { at, plan, part, item } in expected {
        let Some(id) = ids.get(*at) else { continue };
        turn.actor = Actor::clauded();
        let (change, end) = plans.added(*plan, *part, item, *id);
        save(turn, change, now);
        if let Some(task) = end {
            let (_, effects) = queue.cancel(task, now);
            turn.effects(effects, now);
        }
    }
}

/// Puts a task's place in its plan into the turn, with its row in the audit.
fn save(turn: &mut Turn, change: Change, now: Timestamp) {
    if let Change::Task(plan, task, part, item) = &change {
        let details = json!({"part": part.name(), "item": item});
        turn.audit("plan-task", now, |entry| entry.of(format!("plan {plan}")).of_task(Some(*task)).with(&details));
    }
    turn.batch.plans.push(change);
}
