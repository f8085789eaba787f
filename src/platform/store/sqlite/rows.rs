//! Rows as they stand in the file, and the way from them to the domain.

use super::Fault;
use super::queue_rows::TermsRow;
use crate::core::attempt::{Ended, Exit, Report};
use crate::core::ids::{AttemptId, InstanceName, SessionId, TaskId};
use crate::core::instance::{ActiveState, ExitCause, Mark};
use crate::core::task::{Claim, Placement, Target, Task, TaskSpec, TaskState};
use crate::core::terms::Terms;
use crate::core::usage::{AgentUsage, KernelUsage, Usd};
use crate::platform::store::{StoredAttempt, StoredEvent, StoredTask};
use jiff::Timestamp;
use sqlx::FromRow;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// SQLite's integers are signed; what does not fit is cut to the greatest.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn time(column: &str, micros: i64) -> Result<Timestamp, Fault> {
    Timestamp::from_microsecond(micros).map_err(|error| unreadable(column, error))
}

pub(super) fn parse<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T, Fault> {
    text.parse().map_err(|error| unreadable(column, error))
}

pub(super) fn unreadable(column: &str, error: impl Display) -> Fault {
    Fault::Row(format!("column {column}: {error}"))
}

fn missing(column: &str) -> Fault {
    unreadable(column, "it is empty")
}

/// The columns of a [`TaskState`].
pub(super) struct TaskColumns<'a> {
    pub(super) state: &'static str,
    pub(super) not_before: Option<i64>,
    pub(super) reason: Option<&'static str>,
    pub(super) placement: Option<&'a Placement>,
}

impl<'a> TaskColumns<'a> {
    pub(super) fn of(state: &'a TaskState) -> Self {
        let (not_before, reason) = match state {
            TaskState::Pending { not_before } => (not_before.map(Timestamp::as_microsecond), None),
            TaskState::Failed(reason) => (None, Some(reason.name())),
            TaskState::Assigned(_)
            | TaskState::Running(_)
            | TaskState::Verifying(_)
            | TaskState::Publishing(_)
            | TaskState::Claimed(_)
            | TaskState::Succeeded
            | TaskState::Cancelled => (None, None),
        };
        // A claimed one has a row in `claims`, and is pending as far as this table goes.
        let name = if matches!(state, TaskState::Claimed(_)) { "pending" } else { state.name() };
        Self { state: name, not_before, reason, placement: state.placement() }
    }
}

/// The part of a task that the queue needs.
#[derive(FromRow)]
pub(super) struct TaskRow {
    id: i64,
    instance: Option<String>,
    kind: String,
    budget: Option<i64>,
    created: i64,
    state: String,
    not_before: Option<i64>,
    reason: Option<String>,
    cancelling: bool,
    attempts: u32,
    failures: u32,
    home: Option<String>,
    cost: i64,
    placed_on: Option<String>,
    placed_in: Option<String>,
    placed_number: Option<u32>,
    #[sqlx(flatten)]
    terms: TermsRow,
    claimed_by: Option<String>,
    claimed: Option<i64>,
    agent: Option<String>,
    agent_in: Option<String>,
    note: Option<String>,
    memory: Option<i64>,
}

impl TaskRow {
    fn claim(&self) -> Result<Option<Claim>, Fault> {
        let Some(by) = self.claimed_by.clone() else { return Ok(None) };
        let agent = match self.agent.as_deref().zip(self.agent_in.as_deref()) {
            Some((name, invocation)) => Some((parse("agent", name)?, parse("agent_in", invocation)?)),
            None => None,
        };
        Ok(Some(Claim { by, since: time("claimed", self.claimed.ok_or_else(|| missing("claimed"))?)?, agent }))
    }

    fn placement(&self) -> Result<Placement, Fault> {
        let number = self.placed_number.ok_or_else(|| missing("placed_number"))?;
        Ok(Placement {
            attempt: AttemptId { task: TaskId(self.id), number },
            instance: parse("placed_on", self.placed_on.as_deref().ok_or_else(|| missing("placed_on"))?)?,
            invocation: parse("placed_in", self.placed_in.as_deref().ok_or_else(|| missing("placed_in"))?)?,
        })
    }

    fn state(&self) -> Result<TaskState, Fault> {
        if let Some(claim) = self.claim()? {
            return Ok(TaskState::Claimed(claim));
        }
        Ok(match self.state.as_str() {
            "pending" => TaskState::Pending { not_before: self.not_before.map(|at| time("not_before", at)).transpose()? },
            "assigned" => TaskState::Assigned(self.placement()?),
            "running" => TaskState::Running(self.placement()?),
            "verifying" => TaskState::Verifying(self.placement()?),
            "publishing" => TaskState::Publishing(self.placement()?),
            "succeeded" => TaskState::Succeeded,
            "failed" => TaskState::Failed(parse("reason", self.reason.as_deref().ok_or_else(|| missing("reason"))?)?),
            "cancelled" => TaskState::Cancelled,
            other => return Err(unreadable("state", format!("{other:?} is no state"))),
        })
    }
}

impl TryFrom<TaskRow> for Task {
    type Error = Fault;

    fn try_from(row: TaskRow) -> Result<Self, Fault> {
        Ok(Self {
            state: row.state()?,
            id: TaskId(row.id),
            target: match &row.instance {
                Some(name) => Target::Instance(parse("instance", name)?),
                None => Target::Any,
            },
            kind: parse("kind", &row.kind)?,
            created: time("created", row.created)?,
            attempts: row.attempts,
            failures: row.failures,
            home: row.home.as_deref().map(|name| parse("home", name)).transpose()?,
            cost: Usd(natural(row.cost)),
            budget: row.budget.map(|budget| Usd(natural(budget))),
            cancelling: row.cancelling,
            terms: Arc::new(Terms::try_from(row.terms)?),
            note: row.note.unwrap_or_default(),
            memory: row.memory.map(natural),
        })
    }
}

/// All of a task.
#[derive(FromRow)]
pub(super) struct StoredTaskRow {
    #[sqlx(flatten)]
    task: TaskRow,
    title: String,
    prompt: String,
    timeout: Option<i64>,
    max_turns: Option<u32>,
    schema: Option<String>,
    detail: Option<String>,
    finished: Option<i64>,
}

impl TryFrom<StoredTaskRow> for StoredTask {
    type Error = Fault;

    fn try_from(row: StoredTaskRow) -> Result<Self, Fault> {
        let task = Task::try_from(row.task)?;
        let spec = TaskSpec {
            target: task.target.clone(),
            kind: task.kind.clone(),
            title: row.title,
            prompt: row.prompt,
            timeout: row.timeout.map(|micros| Duration::from_micros(natural(micros))),
            budget: task.budget,
            max_turns: row.max_turns,
            schema: row.schema.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| Fault::Row(format!("schema: {error}")))?,
            terms: task.terms.clone(),
        };
        let finished = row.finished.map(|at| time("finished", at)).transpose()?;
        Ok(Self { task, spec, detail: row.detail.unwrap_or_default(), finished })
    }
}

/// An attempt.
#[derive(FromRow)]
pub(super) struct AttemptRow {
    task: i64,
    number: u32,
    instance: String,
    invocation: String,
    assigned: i64,
    session: Option<String>,
    outcome: Option<String>,
    reason: Option<String>,
    transient: Option<bool>,
    limited_until: Option<i64>,
    detail: Option<String>,
    exit_code: Option<i32>,
    exit_signal: Option<i32>,
    started: Option<i64>,
    finished: Option<i64>,
    turns: Option<i64>,
    tool_calls: Option<i64>,
    cost: Option<i64>,
    tokens: Option<String>,
    cpu_user: Option<i64>,
    cpu_system: Option<i64>,
    memory_peak: Option<i64>,
    io_read: Option<i64>,
    io_write: Option<i64>,
    cpu_stall: Option<i64>,
    memory_stall: Option<i64>,
    io_stall: Option<i64>,
    oom_kills: Option<i64>,
    text: Option<String>,
    work: Option<String>,
}

impl AttemptRow {
    fn ended(&self, outcome: &str) -> Result<Ended, Fault> {
        Ok(match outcome {
            "succeeded" => Ended::Succeeded,
            "cancelled" => Ended::Cancelled,
            "interrupted" => Ended::Interrupted,
            "limited" => Ended::Limited { until: self.limited_until.map(|at| time("limited_until", at)).transpose()? },
            "failed" => Ended::Failed {
                reason: parse("reason", self.reason.as_deref().ok_or_else(|| missing("reason"))?)?,
                transient: self.transient.ok_or_else(|| missing("transient"))?,
            },
            other => return Err(unreadable("outcome", format!("{other:?} is no outcome"))),
        })
    }

    fn report(&self) -> Result<Option<Report>, Fault> {
        let Some(outcome) = &self.outcome else { return Ok(None) };
        let tokens = self.tokens.as_deref().ok_or_else(|| missing("tokens"))?;
        let count = |value: Option<i64>| natural(value.unwrap_or(0));
        Ok(Some(Report {
            ended: self.ended(outcome)?,
            detail: self.detail.clone().unwrap_or_default(),
            exit: self.exit_code.map(Exit::Code).or(self.exit_signal.map(Exit::Signal)),
            session: session(self.session.as_deref())?,
            started: time("started", self.started.ok_or_else(|| missing("started"))?)?,
            finished: time("finished", self.finished.ok_or_else(|| missing("finished"))?)?,
            agent: AgentUsage {
                turns: count(self.turns),
                tool_calls: count(self.tool_calls),
                cost: Usd(count(self.cost)),
                tokens: serde_json::from_str(tokens).map_err(|error| unreadable("tokens", error))?,
            },
            kernel: KernelUsage {
                cpu_user_usec: self.cpu_user.map(natural),
                cpu_system_usec: self.cpu_system.map(natural),
                memory_peak: self.memory_peak.map(natural),
                io_read_bytes: self.io_read.map(natural),
                io_write_bytes: self.io_write.map(natural),
                cpu_stall_usec: self.cpu_stall.map(natural),
                memory_stall_usec: self.memory_stall.map(natural),
                io_stall_usec: self.io_stall.map(natural),
                oom_kills: self.oom_kills.map(natural),
            },
            text: self.text.clone().unwrap_or_default(),
            work: self.work.as_deref().map(serde_json::from_str).transpose().map_err(|error| unreadable("work", error))?,
        }))
    }
}

/// A session as the file has it.
pub(super) fn session(text: Option<&str>) -> Result<Option<SessionId>, Fault> {
    text.map(|text| parse("session", text).map(SessionId)).transpose()
}

impl TryFrom<AttemptRow> for StoredAttempt {
    type Error = Fault;

    fn try_from(row: AttemptRow) -> Result<Self, Fault> {
        Ok(Self {
            attempt: AttemptId { task: TaskId(row.task), number: row.number },
            instance: parse("instance", &row.instance)?,
            invocation: parse("invocation", &row.invocation)?,
            assigned: time("assigned", row.assigned)?,
            started: row.started.map(|at| time("started", at)).transpose()?,
            session: session(row.session.as_deref())?,
            report: row.report()?,
        })
    }
}

/// What is kept of a look.
#[derive(FromRow)]
pub(super) struct MarkRow {
    name: String,
    active: String,
    restarts: u32,
    invocation: Option<String>,
    cause: Option<String>,
    detail: Option<String>,
}

impl TryFrom<MarkRow> for (InstanceName, Mark) {
    type Error = Fault;

    fn try_from(row: MarkRow) -> Result<Self, Fault> {
        let mark = Mark {
            active: ActiveState::from_name(&row.active),
            restarts: row.restarts,
            invocation: row.invocation.as_deref().map(|id| parse("invocation", id)).transpose()?,
            ended: row.cause.zip(row.detail).map(|(result, detail)| ExitCause { result, detail }),
        };
        Ok((parse("name", &row.name)?, mark))
    }
}

/// An event.
#[derive(FromRow)]
pub(super) struct EventRow {
    id: i64,
    at: i64,
    kind: String,
    instance: Option<String>,
    task: Option<i64>,
    message: String,
    cause: Option<String>,
}

impl TryFrom<EventRow> for StoredEvent {
    type Error = Fault;

    fn try_from(row: EventRow) -> Result<Self, Fault> {
        Ok(Self {
            id: row.id,
            at: time("at", row.at)?,
            kind: row.kind,
            instance: row.instance.as_deref().map(|name| parse("instance", name)).transpose()?,
            task: row.task.map(TaskId),
            message: row.message,
            cause: row.cause,
        })
    }
}
