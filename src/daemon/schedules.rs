//! The schedules: which is due, and the task that it adds, in the engine's turn.

use super::engine::State;
use super::turn::Turn;
use crate::core::ids::TaskId;
use crate::core::label::Label;
use crate::core::schedule::{Schedule, Timing};
use crate::core::task::TaskSpec;
use crate::platform::store::ScheduleChange;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// One schedule, ready to run.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As it is kept.
    pub(super) schedule: Schedule,
    timing: Timing,
    /// When it is due next: found once a run, since the engine asks in each turn.
    pub(super) due: Option<Timestamp>,
    /// The task that it adds.
    pub(super) spec: TaskSpec,
}

/// All schedules by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedules(BTreeMap<Label, Entry>);

/// The time zone of that name; the host's where it is empty.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    if name.is_empty() {
        return Ok(TimeZone::system());
    }
    TimeZone::get(name).map_err(|_| format!("{name:?} is no time zone; it is such as \"Europe/Berlin\" or \"UTC\" (timedatectl list-timezones)"))
}

impl Schedules {
    /// Those that are stored. One that cannot be read any more is left out, and said.
    pub(super) fn load(stored: Vec<Schedule>, now: Timestamp) -> Self {
        let entry = |schedule: Schedule| {
            let name = schedule.name.clone();
            let made = Entry::new(schedule, now).map_err(|error| tracing::error!("the schedule {name} is not in force: {error}")).ok()?;
            Some((name, made))
        };
        Self(stored.into_iter().filter_map(entry).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    pub(super) fn get(&self, name: &Label) -> Option<&Entry> {
        self.0.get(name)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.0.insert(entry.schedule.name.clone(), entry);
    }

    pub(super) fn remove(&mut self, name: &Label) -> bool {
        self.0.remove(name).is_some()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.values().filter_map(|entry| entry.due).min()
    }

    /// A run has added that task.
    pub(super) fn ran(&mut self, name: &Label, task: TaskId) {
        if let Some(entry) = self.0.get_mut(name) {
            entry.schedule.last_task = Some(task);
        }
    }
}

impl Entry {
    /// Checked.
    pub(super) fn new(schedule: Schedule, now: Timestamp) -> Result<Self, String> {
        let timing = Timing::new(&schedule.cron, zone(&schedule.timezone)?, now).map_err(|error| error.to_string())?;
        let request = serde_json::from_str(&schedule.request).map_err(|error| error.to_string())?;
        let spec = super::verbs::spec::spec(request).map_err(|error| error.detail)?;
        if !spec.terms.after.is_empty() || spec.terms.not_before.is_some() {
            return Err("after and not_before mean nothing in a schedule; leave them out".to_owned());
        }
        Ok(Self { due: timing.due(&schedule), schedule, timing, spec })
    }
}

/// Runs what is due.
pub(super) fn run_due(state: &mut State, now: Timestamp, turn: &mut Turn) {
    let due = state.schedules.0.values().filter(|entry| entry.due.is_some_and(|at| at <= now));
    for name in due.map(|entry| entry.schedule.name.clone()).collect::<Vec<_>>() {
        run(state, &name, now, turn);
    }
}

/// Adds a schedule's task, unless the one before lives; then it is passed over. `None` if there is no such schedule.
pub(super) fn run(state: &mut State, name: &Label, now: Timestamp, turn: &mut Turn) -> Option<bool> {
    let queue = &state.queue;
    let Entry { schedule, timing, due, spec } = state.schedules.0.get_mut(name)?;
    let lives = schedule.last_task.filter(|id| queue.task(*id).is_some());
    // Two runs in one turn: the first one's task has no number yet.
    let lives = lives.is_some() || turn.scheduled.iter().any(|(other, _)| other == name);
    schedule.last_run = Some(now);
    *due = timing.due(schedule);
    let mut place = None;
    if lives {
        let message = format!("the run of the schedule {name} is passed over: its task of before has not ended");
        turn.note_of(format!("schedule {name}"), "schedule-skipped", schedule.last_task, message, now);
    } else {
        turn.audit("schedule-ran", now, |entry| entry.of(format!("schedule {name}")));
        let at = turn.add_one(spec.clone(), now);
        turn.scheduled.push((name.clone(), at));
        place = Some(at);
    }
    turn.batch.schedules.push(ScheduleChange::Ran { name: name.clone(), at: now, place });
    Some(!lives)
}
