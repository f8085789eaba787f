//! The rows of what the queue keeps beside its tasks: terms, pauses, what was spent, what was needed, schedules.

use super::Fault;
use super::rows::{self, natural, parse, time};
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::queue::{Pause, Peak, Scope, Spent};
use crate::core::schedule::Schedule;
use crate::core::size::Raise;
use crate::core::terms::{self, Demand, Priority, Terms};
use crate::core::usage::Usd;
use sqlx::FromRow;

/// The terms of a task; all of it is NULL where it has none.
#[derive(FromRow)]
pub(super) struct TermsRow {
    priority: Option<i64>,
    task_group: Option<String>,
    team: Option<String>,
    role: Option<String>,
    specialty: Option<String>,
    labels: Option<String>,
    term_repository: Option<String>,
    term_branch: Option<String>,
    after_failed: Option<String>,
    start_after: Option<i64>,
    term_files: Option<String>,
    /// The numbers of what it comes after, separated by commas.
    needs: Option<String>,
}

impl TryFrom<TermsRow> for Terms {
    type Error = Fault;

    fn try_from(row: TermsRow) -> Result<Self, Fault> {
        let label = |column: &str, text: Option<String>| text.map(|text| parse::<Label>(column, &text)).transpose();
        let priority = Priority::try_from(row.priority.unwrap_or(0)).map_err(|error| rows::unreadable("priority", error))?;
        let labels = row.labels.as_deref().unwrap_or_default().split_whitespace().map(|text| parse("labels", text));
        let files = row.term_files.as_deref().unwrap_or_default().lines().map(terms::files);
        let needs = row.needs.as_deref().unwrap_or_default().split(',').filter(|text| !text.is_empty());
        Ok(Self {
            priority,
            group: label("task_group", row.task_group)?,
            demand: Demand {
                team: label("team", row.team)?,
                role: label("role", row.role)?,
                specialty: label("specialty", row.specialty)?,
                labels: labels.collect::<Result<_, _>>()?,
                repository: label("repository", row.term_repository)?,
            },
            branch: row.term_branch,
            after: needs.map(|text| parse("needs", text).map(TaskId)).collect::<Result<_, _>>()?,
            after_failed: row.after_failed.as_deref().map(|text| parse("after_failed", text)).transpose()?.unwrap_or_default(),
            files: files.collect::<Result<_, _>>().map_err(|error| rows::unreadable("files", error))?,
            not_before: row.start_after.map(|at| time("start_after", at)).transpose()?,
        })
    }
}

#[derive(FromRow)]
pub(super) struct PauseRow {
    kind: String,
    name: String,
    paused_by: String,
    why: String,
    since: i64,
}

impl TryFrom<PauseRow> for (Scope, Pause) {
    type Error = Fault;

    fn try_from(row: PauseRow) -> Result<Self, Fault> {
        let scope = Scope::new(&row.kind, &row.name).map_err(|error| Fault::Row(format!("pauses: {error}")))?;
        Ok((scope, Pause { by: row.paused_by, why: row.why, since: time("since", row.since)? }))
    }
}

#[derive(FromRow)]
pub(super) struct SpendRow {
    day: String,
    instance: String,
    cost: i64,
}

impl TryFrom<SpendRow> for Spent {
    type Error = Fault;

    fn try_from(row: SpendRow) -> Result<Self, Fault> {
        Ok(Self { day: parse("day", &row.day)?, instance: parse("instance", &row.instance)?, cost: Usd(natural(row.cost)) })
    }
}

#[derive(FromRow)]
pub(super) struct PeakRow {
    kind: String,
    instance: String,
    memory_peak: i64,
}

impl TryFrom<PeakRow> for Peak {
    type Error = Fault;

    fn try_from(row: PeakRow) -> Result<Self, Fault> {
        Ok(Self { kind: parse("kind", &row.kind)?, instance: parse("instance", &row.instance)?, bytes: rows::natural(row.memory_peak) })
    }
}

#[derive(FromRow)]
pub(super) struct RaiseRow {
    instance: String,
    task: i64,
    number: u32,
    memory: i64,
    max: i64,
    high: Option<i64>,
}

impl TryFrom<RaiseRow> for (InstanceName, Raise) {
    type Error = Fault;

    fn try_from(row: RaiseRow) -> Result<Self, Fault> {
        let attempt = AttemptId { task: TaskId(row.task), number: row.number };
        Ok((parse("instance", &row.instance)?, Raise { attempt, memory: natural(row.memory), max: natural(row.max), high: row.high.map(natural) }))
    }
}

#[derive(FromRow)]
pub(super) struct ScheduleRow {
    name: String,
    cron: String,
    timezone: String,
    request: String,
    created_by: String,
    created: i64,
    last_run: Option<i64>,
    last_task: Option<i64>,
}

impl TryFrom<ScheduleRow> for Schedule {
    type Error = Fault;

    fn try_from(row: ScheduleRow) -> Result<Self, Fault> {
        Ok(Self {
            name: parse("name", &row.name)?,
            cron: row.cron,
            timezone: row.timezone,
            request: row.request,
            by: row.created_by,
            created: time("created", row.created)?,
            last_run: row.last_run.map(|at| time("last_run", at)).transpose()?,
            last_task: row.last_task.map(TaskId),
        })
    }
}
