//! What the queue keeps beside its tasks: how it is written and read.

use super::queue_rows::{PauseRow, PeakRow, RaiseRow, ScheduleRow, SpendRow};
use super::read::domain;
use super::rows;
use super::{Fault, SqliteStore};
use crate::core::ids::{InstanceName, InvocationId, TaskId};
use crate::core::label::Label;
use crate::core::lock::Pattern;
use crate::core::queue::{Pause, Peak, Scope, Spent, Stored};
use crate::core::schedule::Schedule;
use crate::core::size::Raise;
use crate::core::task::{Claim, Task, TaskState};
use crate::core::terms::Terms;
use crate::core::usage::Usd;
use crate::platform::store::{ScheduleChange, StoreError};
use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::SqliteConnection;

/// Attempts that the queue learns from at its start: the last twenty of some kinds are among them.
const PEAKS: u32 = 2000;

pub(super) const LAST_PEAKS: &str = "SELECT * FROM (SELECT t.kind, a.instance, a.memory_peak, a.finished FROM attempts a JOIN tasks t ON t.id = a.task \
     WHERE a.memory_peak IS NOT NULL AND a.finished IS NOT NULL ORDER BY a.finished DESC LIMIT ?1) ORDER BY finished";

impl SqliteStore {
    /// All that the queue is made of.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn queue(&self) -> Result<Stored, StoreError> {
        let pauses: Result<Vec<PauseRow>, Fault> =
            sqlx::query_as("SELECT kind, name, paused_by, why, since FROM pauses ORDER BY kind, name").fetch_all(&self.readers).await.map_err(Fault::from);
        let pauses: Vec<(Scope, Pause)> = pauses.and_then(domain).map_err(self.at("read the pauses"))?;
        let spent: Result<Vec<SpendRow>, Fault> =
            sqlx::query_as("SELECT day, instance, cost FROM spend ORDER BY day, instance").fetch_all(&self.readers).await.map_err(Fault::from);
        let spent: Vec<Spent> = spent.and_then(domain).map_err(self.at("read what was spent"))?;
        let peaks: Result<Vec<PeakRow>, Fault> = sqlx::query_as(LAST_PEAKS).bind(PEAKS).fetch_all(&self.readers).await.map_err(Fault::from);
        let peaks: Vec<Peak> = peaks.and_then(domain).map_err(self.at("read what attempts have needed"))?;
        let raises: Result<Vec<RaiseRow>, Fault> = sqlx::query_as("SELECT instance, task, number, memory, max, high FROM raises ORDER BY instance")
            .fetch_all(&self.readers)
            .await
            .map_err(Fault::from);
        let raises: Vec<(InstanceName, Raise)> = raises.and_then(domain).map_err(self.at("read the limits that are raised"))?;
        Ok(Stored { tasks: self.live_tasks().await?, holds: self.holds().await?, pauses, spent, peaks, raises })
    }

    /// The schedules.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        let sql = "SELECT name, cron, timezone, request, created_by, created, last_run, last_task FROM schedules ORDER BY name";
        let rows: Result<Vec<ScheduleRow>, Fault> = sqlx::query_as(sql).fetch_all(&self.readers).await.map_err(Fault::from);
        rows.and_then(domain).map_err(self.at("read the schedules"))
    }
}

/// Writes the terms of a new task, if it has any.
pub(super) async fn insert_terms(connection: &mut SqliteConnection, id: TaskId, terms: &Terms) -> Result<(), Fault> {
    if *terms == Terms::default() {
        return Ok(());
    }
    let Terms { priority, group, demand, branch, after, after_failed, not_before, files } = terms;
    let labels: Vec<&str> = demand.labels.iter().map(Label::as_str).collect();
    let sql = "INSERT INTO terms (task, priority, task_group, team, role, specialty, labels, repository, branch, after_failed, start_after, files) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    sqlx::query(sql)
        .bind(id.0)
        .bind(i64::from(*priority))
        .bind(group.as_ref().map(Label::as_str))
        .bind(demand.team.as_ref().map(Label::as_str))
        .bind(demand.role.as_ref().map(Label::as_str))
        .bind(demand.specialty.as_ref().map(Label::as_str))
        .bind(labels.join(" "))
        .bind(demand.repository.as_ref().map(Label::as_str))
        .bind(branch)
        .bind(after_failed.name())
        .bind(not_before.map(Timestamp::as_microsecond))
        .bind(files.iter().map(Pattern::text).collect::<Vec<_>>().join("\n"))
        .execute(&mut *connection)
        .await?;
    for needed in after {
        insert_dependency(connection, id, *needed).await?;
    }
    Ok(())
}

pub(super) async fn insert_dependency(connection: &mut SqliteConnection, id: TaskId, needs: TaskId) -> Result<(), Fault> {
    sqlx::query("INSERT OR IGNORE INTO dependencies (task, needs) VALUES (?1, ?2)").bind(id.0).bind(needs.0).execute(connection).await?;
    Ok(())
}

/// Writes what changes of a task and stands in other tables.
pub(super) async fn update_beside(connection: &mut SqliteConnection, task: &Task) -> Result<(), Fault> {
    match &task.state {
        TaskState::Claimed(Claim { by, since, agent }) => {
            sqlx::query("INSERT OR REPLACE INTO claims (task, claimed_by, claimed, agent, agent_in) VALUES (?1, ?2, ?3, ?4, ?5)")
                .bind(task.id.0)
                .bind(by)
                .bind(since.as_microsecond())
                .bind(agent.as_ref().map(|(name, _)| name.as_str()))
                .bind(agent.as_ref().map(|(_, invocation)| InvocationId::as_str(invocation)))
                .execute(&mut *connection)
                .await?;
        }
        _ => {
            sqlx::query("DELETE FROM claims WHERE task = ?1").bind(task.id.0).execute(&mut *connection).await?;
        }
    }
    if task.note.is_empty() && task.memory.is_none() {
        sqlx::query("DELETE FROM standings WHERE task = ?1").bind(task.id.0).execute(connection).await?;
    } else {
        sqlx::query("INSERT OR REPLACE INTO standings (task, note, memory) VALUES (?1, ?2, ?3)")
            .bind(task.id.0)
            .bind(&task.note)
            .bind(task.memory.map(rows::integer))
            .execute(connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn write_pause(connection: &mut SqliteConnection, scope: &Scope, pause: Option<&Pause>) -> Result<(), Fault> {
    let Some(Pause { by, why, since }) = pause else {
        sqlx::query("DELETE FROM pauses WHERE kind = ?1 AND name = ?2").bind(scope.kind()).bind(scope.name()).execute(connection).await?;
        return Ok(());
    };
    sqlx::query("INSERT OR REPLACE INTO pauses (kind, name, paused_by, why, since) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(scope.kind())
        .bind(scope.name())
        .bind(by)
        .bind(why)
        .bind(since.as_microsecond())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn write_spend(connection: &mut SqliteConnection, day: Date, instance: &InstanceName, cost: Usd) -> Result<(), Fault> {
    let sql = "INSERT INTO spend (day, instance, cost) VALUES (?1, ?2, ?3) ON CONFLICT (day, instance) DO UPDATE SET cost = min(cost + excluded.cost, 9000000000000000000)";
    sqlx::query(sql).bind(day.to_string()).bind(instance.as_str()).bind(rows::integer(cost.0)).execute(connection).await?;
    Ok(())
}

pub(super) async fn write_raise(connection: &mut SqliteConnection, instance: &InstanceName, raise: Option<&Raise>) -> Result<(), Fault> {
    let Some(Raise { attempt, memory, max, high }) = raise else {
        sqlx::query("DELETE FROM raises WHERE instance = ?1").bind(instance.as_str()).execute(connection).await?;
        return Ok(());
    };
    sqlx::query("INSERT OR REPLACE INTO raises (instance, task, number, memory, max, high) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .bind(instance.as_str())
        .bind(attempt.task.0)
        .bind(attempt.number)
        .bind(rows::integer(*memory))
        .bind(rows::integer(*max))
        .bind(high.map(rows::integer))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn write_schedule(connection: &mut SqliteConnection, change: &ScheduleChange, added: &[TaskId]) -> Result<(), Fault> {
    match change {
        ScheduleChange::Put(schedule) => {
            let sql = "INSERT OR REPLACE INTO schedules (name, cron, timezone, request, created_by, created, last_run, last_task) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            sqlx::query(sql)
                .bind(schedule.name.as_str())
                .bind(&schedule.cron)
                .bind(&schedule.timezone)
                .bind(&schedule.request)
                .bind(&schedule.by)
                .bind(schedule.created.as_microsecond())
                .bind(schedule.last_run.map(Timestamp::as_microsecond))
                .bind(schedule.last_task.map(|id| id.0))
                .execute(connection)
                .await?;
        }
        ScheduleChange::Remove(name) => {
            sqlx::query("DELETE FROM schedules WHERE name = ?1").bind(name.as_str()).execute(connection).await?;
        }
        ScheduleChange::Ran { name, at, place } => {
            let task = place.and_then(|place| added.get(place)).map(|id| id.0);
            sqlx::query("UPDATE schedules SET last_run = ?2, last_task = coalesce(?3, last_task) WHERE name = ?1")
                .bind(name.as_str())
                .bind(at.as_microsecond())
                .bind(task)
                .execute(connection)
                .await?;
        }
    }
    Ok(())
}
