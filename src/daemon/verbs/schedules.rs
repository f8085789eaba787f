//! The verbs on schedules.

use super::{Verbs, refused};
use crate::core::label::Label;
use crate::core::schedule::Schedule;
use crate::daemon::schedules::{self, Entry};
use crate::http::service::{Answer, Caller, Schedules, ServiceError};
use crate::platform::store::ScheduleChange;
use crate::proto::api;
use jiff::Timestamp;

fn no_such(name: &Label) -> ServiceError {
    refused(404, "no-such-schedule", format!("there is no schedule {name}; list them with: claudectl schedule list"))
}

fn shown(entry: &Entry) -> api::Schedule {
    let Schedule { name, cron, timezone, by, created, last_run, last_task, .. } = &entry.schedule;
    api::Schedule {
        name: name.to_string(),
        cron: cron.clone(),
        timezone: timezone.clone(),
        title: entry.spec.title.clone(),
        by: by.clone(),
        created: created.to_string(),
        next_run: entry.due.map(|at| at.to_string()),
        last_run: last_run.map(|at| at.to_string()),
        last_task: last_task.map(|id| id.0),
    }
}

impl Schedules for Verbs {
    fn schedules(&self) -> Answer<'_, Vec<api::Schedule>> {
        Box::pin(async { self.look(|state| state.schedules.iter().map(shown).collect()).await })
    }

    fn add_schedule(&self, caller: Caller, new: api::NewSchedule) -> Answer<'_, api::Schedule> {
        Box::pin(async move {
            let invalid = |detail: String| refused(422, "invalid-schedule", detail);
            let name: Label = new.name.parse().map_err(|error: crate::core::label::InvalidLabel| invalid(format!("name: {error}")))?;
            let request = serde_json::to_string(&new.task).map_err(|error| invalid(error.to_string()))?;
            let schedule = Schedule {
                name: name.clone(),
                cron: new.cron,
                timezone: new.timezone.unwrap_or_default(),
                request,
                by: caller.description.clone(),
                created: Timestamp::now(),
                last_run: None,
                last_task: None,
            };
            let entry = Entry::new(schedule, Timestamp::now()).map_err(invalid)?;
            self.check_target(&entry.spec).await?;
            let added = self.settle(&caller, move |state, now, turn| {
                if state.schedules.get(&entry.schedule.name).is_some() {
                    return Err(refused(
                        409,
                        "schedule-exists",
                        format!("there is a schedule {0} already; remove it first: claudectl schedule remove {0}", entry.schedule.name),
                    ));
                }
                let Schedule { name, cron, by, .. } = &entry.schedule;
                turn.note_of(format!("schedule {name}"), "schedule-added", None, format!("schedule {name} ({cron}) added by {by}"), now);
                turn.batch.schedules.push(ScheduleChange::Put(entry.schedule.clone()));
                let shown = shown(&entry);
                state.schedules.insert(entry);
                Ok(shown)
            });
            added.await?
        })
    }

    fn remove_schedule(&self, caller: Caller, name: Label) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let by = caller.description.clone();
            let removed = self.settle(&caller, move |state, now, turn| {
                if !state.schedules.remove(&name) {
                    return Err(no_such(&name));
                }
                turn.note_of(format!("schedule {name}"), "schedule-removed", None, format!("schedule {name} removed by {by}"), now);
                turn.batch.schedules.push(ScheduleChange::Remove(name));
                Ok(api::Outcome { result: "changed".to_owned(), message: String::new() })
            });
            removed.await?
        })
    }

    fn run_schedule(&self, caller: Caller, name: Label) -> Answer<'_, api::Outcome> {
        Box::pin(async move {
            let ran = self.settle(&caller, move |state, now, turn| match schedules::run(state, &name, now, turn) {
                None => Err(no_such(&name)),
                Some(true) => Ok(api::Outcome { result: "created".to_owned(), message: String::new() }),
                Some(false) => Ok(api::Outcome { result: "unchanged".to_owned(), message: "its task of before has not ended".to_owned() }),
            });
            ran.await?
        })
    }
}
