//! Writing: batches and pruning, each one transaction.

use super::rows::{self, TaskColumns};
use super::{Fault, SqliteStore, audit, mail, queue};
use crate::core::attempt::{Ended, Exit, Report};
use crate::core::audit::Chain;
use crate::core::ids::{AttemptId, InstanceName, InvocationId, SessionId, TaskId};
use crate::core::instance::Mark;
use crate::core::queue::Change;
use crate::core::task::{Placement, Target, Task, TaskSpec};
use crate::platform::store::{Batch, StoreError, StoredEvent, StoredWorktree};
use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};

impl SqliteStore {
    /// Commits a batch and what follows from the numbers of its new tasks, as one: what is added and given out at once costs
    /// one flush of the disk. Answers the numbers. Without new tasks `then` is not called.
    ///
    /// A report on an attempt that is not stored (pruned, or of another database), or that is another instance's, is left out; a change of a task that is not
    /// stored fails the batch, since the queue then works with something that is not there.
    ///
    /// # Errors
    /// Nothing of it is stored then, and the store stays usable.
    pub async fn commit_with(&self, batch: &Batch, then: impl FnOnce(&[TaskId]) -> Batch + Send) -> Result<Vec<TaskId>, StoreError> {
        let mut held = self.head.lock().await;
        let known = held.take();
        let work = async |connection: &mut SqliteConnection| {
            let mut chain = audit::known_or_last(known, connection).await?;
            let added = apply(&mut *connection, batch, &mut chain).await?;
            if !added.is_empty() {
                apply(connection, &then(&added), &mut chain).await?;
            }
            Ok((added, chain))
        };
        let (added, chain) = self.transaction(work).await.map_err(self.at("commit"))?;
        *held = Some(chain);
        self.heads.send_if_modified(|head| std::mem::replace(head, chain) != chain);
        Ok(added)
    }

    /// Commits a batch from which nothing follows.
    #[cfg(test)]
    pub(in crate::platform::store) async fn commit(&self, batch: &Batch) -> Result<Vec<TaskId>, StoreError> {
        self.commit_with(batch, |_| Batch::default()).await
    }

    /// Removes tasks and plans that ended, messages that were sent and events that happened before that time; answers how many of all went.
    ///
    /// Usage limits that were over by then go too. Counts of restarts stay.
    ///
    /// # Errors
    /// Nothing is removed then.
    pub async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let before = before.as_microsecond();
        let work = async |connection: &mut SqliteConnection| {
            sqlx::query("DELETE FROM holds WHERE until < ?1").bind(before).execute(&mut *connection).await?;
            let tasks = sqlx::query("DELETE FROM tasks WHERE finished IS NOT NULL AND finished < ?1").bind(before).execute(&mut *connection).await?;
            let plans = sqlx::query("DELETE FROM plans WHERE finished < ?1").bind(before).execute(&mut *connection).await?;
            let messages = sqlx::query("DELETE FROM messages WHERE at < ?1").bind(before).execute(&mut *connection).await?;
            let events = sqlx::query("DELETE FROM events WHERE at < ?1").bind(before).execute(connection).await?;
            Ok(tasks.rows_affected() + plans.rows_affected() + messages.rows_affected() + events.rows_affected())
        };
        self.transaction(work).await.map_err(self.at("prune"))
    }

    /// Runs one transaction on the writing connection.
    pub(super) async fn transaction<T>(&self, work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut connection = self.writer.acquire().await?;
        // IMMEDIATE takes the write lock at once, where it can be waited for; a lock that is upgraded later fails instead.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let error = match work(&mut transaction).await {
            Ok(answer) => match transaction.commit().await {
                Ok(()) => return Ok(answer),
                Err(error) => Fault::from(error),
            },
            Err(error) => {
                // SQLite itself has rolled back after some errors, a full disk among them. sqlx then loses count of its
                // transactions and would refuse every later one.
                let undone = transaction.rollback().await;
                if undone.is_ok() {
                    return Err(error);
                }
                error
            }
        };
        connection.close_on_drop();
        Err(error)
    }
}

async fn apply(connection: &mut SqliteConnection, batch: &Batch, chain: &mut Chain) -> Result<Vec<TaskId>, Fault> {
    let now = Timestamp::now();
    let mut added = Vec::with_capacity(batch.add.len());
    for (spec, created) in &batch.add {
        added.push(insert_task(connection, spec, *created).await?);
    }
    for (later, earlier) in &batch.links {
        if let (Some(later), Some(earlier)) = (added.get(*later), added.get(*earlier)) {
            queue::insert_dependency(connection, *later, *earlier).await?;
        }
    }
    for change in &batch.changes {
        match change {
            Change::Task(task) => update_task(connection, task, now).await?,
            Change::Attempt(placement) => insert_attempt(connection, placement, now).await?,
            Change::Report(attempt, instance, report) => write_report(connection, *attempt, instance, report).await?,
            Change::Pause(scope, pause) => queue::write_pause(connection, scope, pause.as_ref()).await?,
            Change::Raise(instance, raise) => queue::write_raise(connection, instance, raise.as_ref()).await?,
            Change::Spend(day, instance, cost) => queue::write_spend(connection, *day, instance, *cost).await?,
        }
    }
    for (attempt, at, session) in &batch.begun {
        write_begin(connection, *attempt, *at, *session).await?;
    }
    for (account, until) in &batch.holds {
        let sql = "INSERT INTO holds (account, until) VALUES (?1, ?2) ON CONFLICT (account) DO UPDATE SET until = excluded.until";
        sqlx::query(sql).bind(account).bind(until.as_microsecond()).execute(&mut *connection).await?;
    }
    for (name, mark) in &batch.marks {
        write_mark(connection, name, mark.as_ref()).await?;
    }
    for change in &batch.schedules {
        queue::write_schedule(connection, change, &added).await?;
    }
    for (name, worktree) in &batch.worktrees {
        write_worktree(connection, name, worktree.as_ref()).await?;
    }
    for change in &batch.locks {
        super::locks::write(connection, change).await?;
    }
    for event in &batch.events {
        insert_event(connection, event).await?;
    }
    for change in &batch.mail {
        mail::write(connection, change, now).await?;
    }
    for change in &batch.plans {
        super::plans::write(connection, change).await?;
    }
    audit::append(connection, chain, &batch.audit).await?;
    Ok(added)
}

async fn insert_task(connection: &mut SqliteConnection, spec: &TaskSpec, created: Timestamp) -> Result<TaskId, Fault> {
    let instance = match &spec.target {
        Target::Any => None,
        Target::Instance(name) => Some(name.as_str()),
    };
    let sql = "INSERT INTO tasks (instance, kind, title, timeout, budget, max_turns, created, state, prompt, not_before, schema) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?9, ?10)";
    let done = sqlx::query(sql)
        .bind(instance)
        .bind(spec.kind.as_str())
        .bind(&spec.title)
        .bind(spec.timeout.map(|timeout| i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX)))
        .bind(spec.budget.map(|budget| rows::integer(budget.0)))
        .bind(spec.max_turns)
        .bind(created.as_microsecond())
        .bind(&spec.prompt)
        .bind(spec.terms.not_before.map(Timestamp::as_microsecond))
        .bind(spec.schema.as_ref().map(ToString::to_string))
        .execute(&mut *connection)
        .await?;
    let id = TaskId(done.last_insert_rowid());
    queue::insert_terms(connection, id, &spec.terms).await?;
    Ok(id)
}

/// Writes what changes of a task, except its cost: that is the sum over its reports. Its placement stays as the last one.
async fn update_task(connection: &mut SqliteConnection, task: &Task, now: Timestamp) -> Result<(), Fault> {
    let TaskColumns { state, not_before, reason, placement } = TaskColumns::of(&task.state);
    let finished = task.state.is_final().then(|| now.as_microsecond());
    let sql = "UPDATE tasks SET state = ?2, not_before = ?3, reason = ?4, cancelling = ?5, attempts = ?6, failures = ?7, home = ?8, \
               finished = CASE WHEN ?9 IS NULL THEN NULL ELSE coalesce(finished, ?9) END, \
               placed_on = coalesce(?10, placed_on), placed_in = coalesce(?11, placed_in), placed_number = coalesce(?12, placed_number) WHERE id = ?1";
    let done = sqlx::query(sql)
        .bind(task.id.0)
        .bind(state)
        .bind(not_before)
        .bind(reason)
        .bind(task.cancelling)
        .bind(task.attempts)
        .bind(task.failures)
        .bind(task.home.as_ref().map(InstanceName::as_str))
        .bind(finished)
        .bind(placement.map(|placement| placement.instance.as_str()))
        .bind(placement.map(|placement| placement.invocation.as_str()))
        .bind(placement.map(|placement| placement.attempt.number))
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Fault::Refused(format!("there is no task {}", task.id)));
    }
    queue::update_beside(connection, task).await
}

async fn insert_attempt(connection: &mut SqliteConnection, placement: &Placement, now: Timestamp) -> Result<(), Fault> {
    let sql = "INSERT INTO attempts (task, number, instance, invocation, assigned) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
    sqlx::query(sql)
        .bind(placement.attempt.task.0)
        .bind(placement.attempt.number)
        .bind(placement.instance.as_str())
        .bind(placement.invocation.as_str())
        .bind(now.as_microsecond())
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_report(connection: &mut SqliteConnection, attempt: AttemptId, instance: &InstanceName, report: &Report) -> Result<(), Fault> {
    let (transient, until) = match &report.ended {
        Ended::Failed { transient, .. } => (Some(*transient), None),
        Ended::Limited { until } => (None, until.map(Timestamp::as_microsecond)),
        Ended::Succeeded | Ended::Cancelled | Ended::Interrupted => (None, None),
    };
    let (code, signal) = match report.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let tokens = serde_json::to_string(&report.agent.tokens).map_err(|error| Fault::Refused(error.to_string()))?;
    let work = report.work.as_ref().map(serde_json::to_string).transpose().map_err(|error| Fault::Refused(error.to_string()))?;
    let kernel = &report.kernel;
    // A report on an end that nobody saw does not know of the start either; the runner may have told of that.
    let sql = "UPDATE attempts SET session = coalesce(?3, session), outcome = ?4, reason = ?5, transient = ?6, limited_until = ?7, detail = ?8, \
               exit_code = ?9, exit_signal = ?10, started = iif(coalesce(?9, ?10) IS NULL, coalesce(started, ?11), ?11), finished = ?12, \
               turns = ?13, tool_calls = ?14, cost = ?15, tokens = ?16, cpu_user = ?17, cpu_system = ?18, memory_peak = ?19, io_read = ?20, io_write = ?21, cpu_stall = ?22, memory_stall = ?23, \
               io_stall = ?24, oom_kills = ?25, text = ?26, work = ?28 WHERE task = ?1 AND number = ?2 AND instance = ?27";
    sqlx::query(sql)
        .bind(attempt.task.0)
        .bind(attempt.number)
        .bind(report.session.map(|session| session.to_string()))
        .bind(report.ended.name())
        .bind(report.ended.reason().map(|reason| reason.name()))
        .bind(transient)
        .bind(until)
        .bind(&report.detail)
        .bind(code)
        .bind(signal)
        .bind(report.started.as_microsecond())
        .bind(report.finished.as_microsecond())
        .bind(rows::integer(report.agent.turns))
        .bind(rows::integer(report.agent.tool_calls))
        .bind(rows::integer(report.agent.cost.0))
        .bind(tokens)
        .bind(kernel.cpu_user_usec.map(rows::integer))
        .bind(kernel.cpu_system_usec.map(rows::integer))
        .bind(kernel.memory_peak.map(rows::integer))
        .bind(kernel.io_read_bytes.map(rows::integer))
        .bind(kernel.io_write_bytes.map(rows::integer))
        .bind(kernel.cpu_stall_usec.map(rows::integer))
        .bind(kernel.memory_stall_usec.map(rows::integer))
        .bind(kernel.io_stall_usec.map(rows::integer))
        .bind(kernel.oom_kills.map(rows::integer))
        .bind(&report.text)
        .bind(instance.as_str())
        .bind(work)
        .execute(&mut *connection)
        .await?;
    // Summed up anew, so that a report that comes twice costs once. `total` does not fail where `sum` would overflow.
    let sql = "UPDATE tasks SET cost = (SELECT CAST(min(total(cost), 9e18) AS INTEGER) FROM attempts WHERE task = ?1) WHERE id = ?1";
    sqlx::query(sql).bind(attempt.task.0).execute(connection).await?;
    Ok(())
}

async fn write_worktree(connection: &mut SqliteConnection, name: &InstanceName, worktree: Option<&StoredWorktree>) -> Result<(), Fault> {
    let Some(worktree) = worktree else {
        sqlx::query("DELETE FROM worktrees WHERE instance = ?1").bind(name.as_str()).execute(connection).await?;
        return Ok(());
    };
    let sql = "INSERT INTO worktrees (instance, repository, directory, branch, bytes, measured) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT (instance) DO UPDATE SET repository = excluded.repository, directory = excluded.directory, branch = excluded.branch, \
               bytes = coalesce(excluded.bytes, bytes), measured = excluded.measured";
    sqlx::query(sql)
        .bind(name.as_str())
        .bind(&worktree.repository)
        .bind(&worktree.directory)
        .bind(&worktree.branch)
        .bind(worktree.bytes.map(rows::integer))
        .bind(worktree.measured.map(Timestamp::as_microsecond))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_begin(connection: &mut SqliteConnection, attempt: AttemptId, at: Timestamp, session: Option<SessionId>) -> Result<(), Fault> {
    let sql = "UPDATE attempts SET started = ?3, session = coalesce(?4, session) WHERE task = ?1 AND number = ?2";
    let session = session.map(|session| session.to_string());
    sqlx::query(sql).bind(attempt.task.0).bind(attempt.number).bind(at.as_microsecond()).bind(session).execute(connection).await?;
    Ok(())
}

async fn write_mark(connection: &mut SqliteConnection, name: &InstanceName, mark: Option<&Mark>) -> Result<(), Fault> {
    let Some(Mark { active, restarts, invocation, ended }) = mark else {
        sqlx::query("DELETE FROM instances WHERE name = ?1").bind(name.as_str()).execute(connection).await?;
        return Ok(());
    };
    sqlx::query("INSERT OR REPLACE INTO instances (name, active, restarts, invocation, cause, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .bind(name.as_str())
        .bind(active.name())
        .bind(*restarts)
        .bind(invocation.as_ref().map(InvocationId::as_str))
        .bind(ended.as_ref().map(|cause| &cause.result))
        .bind(ended.as_ref().map(|cause| &cause.detail))
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_event(connection: &mut SqliteConnection, event: &StoredEvent) -> Result<(), Fault> {
    let instance = event.instance.as_ref().map(InstanceName::as_str);
    let sql = "INSERT INTO events (at, kind, instance, task, message, cause) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    sqlx::query(sql)
        .bind(event.at.as_microsecond())
        .bind(&event.kind)
        .bind(instance)
        .bind(event.task.map(|task| task.0))
        .bind(&event.message)
        .bind(&event.cause)
        .execute(&mut *connection)
        .await?;
    if event.kind == "instance-restarted" && instance.is_some() {
        let sql = "INSERT INTO restarts (instance, cause, count) VALUES (?1, ?2, 1) ON CONFLICT (instance, cause) DO UPDATE SET count = count + 1";
        sqlx::query(sql).bind(instance).bind(event.cause.as_deref().unwrap_or_default()).execute(connection).await?;
    }
    Ok(())
}
