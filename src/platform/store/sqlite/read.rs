//! Reading: what the queue, the API and the metrics ask for.

use super::rows::{self, AttemptRow, EventRow, MarkRow, StoredTaskRow, TaskRow};
use super::{Fault, SqliteStore};
use crate::core::ids::{InstanceName, SessionId, TaskId};
use crate::core::instance::Mark;
use crate::core::label::Label;
use crate::core::task::Task;
use crate::core::usage::Usd;
use crate::platform::store::{StoreError, StoredAttempt, StoredEvent, StoredTask, StoredWorktree, TaskFilter};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The columns of a [`TaskRow`].
macro_rules! task_columns {
    () => {
        "id, instance, kind, budget, created, state, not_before, reason, cancelling, attempts, failures, home, cost, placed_on, placed_in, placed_number, \
         priority, task_group, team, role, specialty, labels, terms.repository AS term_repository, terms.branch AS term_branch, after_failed, start_after, terms.files AS term_files, \
         (SELECT group_concat(needs) FROM dependencies WHERE task = tasks.id) AS needs, claimed_by, claimed, agent, agent_in, note, memory"
    };
}

/// Where they come from.
macro_rules! from_tasks {
    () => {
        " FROM tasks LEFT JOIN terms ON terms.task = tasks.id LEFT JOIN claims ON claims.task = tasks.id LEFT JOIN standings ON standings.task = tasks.id "
    };
}

/// A query for [`StoredTaskRow`]s, up to its conditions. Pages are without the prompts: a page of the longest would not fit the
/// daemon's memory.
macro_rules! select_tasks {
    ($rest:expr) => {
        select_tasks!("'' AS prompt, NULL AS schema", $rest)
    };
    ($long:expr, $rest:expr) => {
        concat!(
            "SELECT ",
            task_columns!(),
            ", title, ",
            $long,
            ", timeout, max_turns, finished, \
             (SELECT detail FROM attempts WHERE task = tasks.id ORDER BY number DESC LIMIT 1) AS detail",
            from_tasks!(),
            $rest
        )
    };
}

/// One page for or on an instance: a page along either index, and the newest of both. Takes a condition on the state.
macro_rules! select_of_instance {
    ($state:expr) => {
        select_tasks!(concat!(
            "WHERE id IN (SELECT id FROM (SELECT id FROM tasks WHERE instance = ?3 AND id < ?1 ",
            $state,
            " ORDER BY id DESC LIMIT ?2) UNION SELECT id FROM (SELECT id FROM tasks WHERE placed_on = ?3 AND id < ?1 ",
            $state,
            " ORDER BY id DESC LIMIT ?2)) ORDER BY id DESC LIMIT ?2"
        ))
    };
}

pub(super) const LIVE: &str = concat!("SELECT ", task_columns!(), from_tasks!(), "WHERE finished IS NULL ORDER BY id");
/// Pages of tasks below ?1, at most ?2, on instance ?3, in state ?4.
pub(super) const PAGE: &str = select_tasks!("WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
pub(super) const PAGE_IN_STATE: &str = select_tasks!("WHERE state = ?4 AND claimed_by IS NULL AND id < ?1 ORDER BY id DESC LIMIT ?2");
pub(super) const PAGE_OF_CLAIMED: &str =
    select_tasks!("WHERE id IN (SELECT task FROM claims WHERE task < ?1 ORDER BY task DESC LIMIT ?2) ORDER BY id DESC LIMIT ?2");
pub(super) const PAGE_OF_INSTANCE: &str = select_of_instance!("");
pub(super) const PAGE_OF_INSTANCE_IN_STATE: &str = select_of_instance!("AND state = ?4 AND id NOT IN (SELECT task FROM claims)");
pub(super) const PAGE_OF_INSTANCE_CLAIMED: &str = select_of_instance!("AND id IN (SELECT task FROM claims)");
/// The same of group ?5; in whatever state, or in state ?4 alone.
pub(super) const PAGE_OF_GROUP: &str = select_tasks!(
    "WHERE id IN (SELECT t.task FROM terms t JOIN tasks s ON s.id = t.task LEFT JOIN claims c ON c.task = t.task WHERE t.task_group = ?5 AND t.task < ?1 \
     AND (?4 IS NULL OR iif(c.task IS NULL, s.state, 'claimed') = ?4) AND (?3 IS NULL OR s.instance = ?3 OR s.placed_on = ?3) \
     ORDER BY t.task DESC LIMIT ?2) ORDER BY id DESC LIMIT ?2"
);
pub(super) const SPENT: &str = "SELECT instance, sum(cost) FROM attempts WHERE finished >= ?1 AND cost > 0 GROUP BY instance";
pub(super) const HISTORY: &str = "SELECT id, at, kind, instance, task, message, cause FROM events \
     WHERE instance = ?1 AND (kind LIKE 'instance-%' OR kind LIKE 'limits-%') ORDER BY id DESC LIMIT ?2";

impl SqliteStore {
    /// All tasks that have not ended, for [`crate::core::queue::Queue::load`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn live_tasks(&self) -> Result<Vec<Task>, StoreError> {
        let rows: Result<Vec<TaskRow>, Fault> = sqlx::query_as(LIVE).fetch_all(&self.readers).await.map_err(Fault::from);
        rows.and_then(domain).map_err(self.at("read the live tasks"))
    }

    /// The usage limits stored last, account and reset time; those that are over may be among them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn holds(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let rows: Result<Vec<(String, i64)>, Fault> =
            sqlx::query_as("SELECT account, until FROM holds ORDER BY account").fetch_all(&self.readers).await.map_err(Fault::from);
        let time = |(account, until)| Ok((account, rows::time("until", until)?));
        rows.and_then(|rows| rows.into_iter().map(time).collect()).map_err(self.at("read the usage limits"))
    }

    /// One task.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn task(&self, id: TaskId) -> Result<Option<StoredTask>, StoreError> {
        let row: Result<Option<StoredTaskRow>, Fault> =
            sqlx::query_as(select_tasks!("prompt, schema", "WHERE id = ?1")).bind(id.0).fetch_optional(&self.readers).await.map_err(Fault::from);
        row.and_then(|row| row.map(StoredTask::try_from).transpose()).map_err(self.at("read a task"))
    }

    /// Tasks, newest first, without their prompts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<StoredTask>, StoreError> {
        let claimed = filter.state.as_deref() == Some("claimed");
        let sql = match (&filter.instance, &filter.state) {
            _ if filter.group.is_some() => PAGE_OF_GROUP,
            (None, None) => PAGE,
            (None, Some(_)) if claimed => PAGE_OF_CLAIMED,
            (None, Some(_)) => PAGE_IN_STATE,
            (Some(_), None) => PAGE_OF_INSTANCE,
            (Some(_), Some(_)) if claimed => PAGE_OF_INSTANCE_CLAIMED,
            (Some(_), Some(_)) => PAGE_OF_INSTANCE_IN_STATE,
        };
        let rows: Result<Vec<StoredTaskRow>, Fault> = sqlx::query_as(sql)
            .bind(filter.before.map_or(i64::MAX, |id| id.0))
            .bind(filter.limit)
            .bind(filter.instance.as_ref().map(InstanceName::as_str))
            .bind(&filter.state)
            .bind(filter.group.as_ref().map(Label::as_str))
            .fetch_all(&self.readers)
            .await
            .map_err(Fault::from);
        rows.and_then(domain).map_err(self.at("list tasks"))
    }

    /// The attempts of a task, first one first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn attempts(&self, id: TaskId) -> Result<Vec<StoredAttempt>, StoreError> {
        let rows: Result<Vec<AttemptRow>, Fault> =
            sqlx::query_as("SELECT * FROM attempts WHERE task = ?1 ORDER BY number").bind(id.0).fetch_all(&self.readers).await.map_err(Fault::from);
        rows.and_then(domain).map_err(self.at("read a task's attempts"))
    }

    /// The last session of a task on an instance, to be resumed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn last_session(&self, id: TaskId, instance: &InstanceName) -> Result<Option<SessionId>, StoreError> {
        let sql = "SELECT session FROM attempts WHERE task = ?1 AND instance = ?2 AND session IS NOT NULL ORDER BY number DESC LIMIT 1";
        let text: Result<Option<String>, Fault> =
            sqlx::query_scalar(sql).bind(id.0).bind(instance.as_str()).fetch_optional(&self.readers).await.map_err(Fault::from);
        text.and_then(|text| rows::session(text.as_deref())).map_err(self.at("read a task's session"))
    }

    /// Events with a number above `after`, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn events_after(&self, after: i64, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = "SELECT id, at, kind, instance, task, message, cause FROM events WHERE id > ?1 ORDER BY id LIMIT ?2";
        let rows: Result<Vec<EventRow>, Fault> = sqlx::query_as(sql).bind(after).bind(limit).fetch_all(&self.readers).await.map_err(Fault::from);
        rows.and_then(domain).map_err(self.at("read events"))
    }

    /// What the attempts that ended since then have cost, by instance.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn spent_since(&self, since: Timestamp) -> Result<BTreeMap<InstanceName, Usd>, StoreError> {
        let rows: Result<Vec<(String, i64)>, Fault> = sqlx::query_as(SPENT).bind(since.as_microsecond()).fetch_all(&self.readers).await.map_err(Fault::from);
        let cost = |(name, cost): (String, i64)| Ok((rows::parse("instance", &name)?, Usd(rows::natural(cost))));
        rows.and_then(|rows| rows.into_iter().map(cost).collect()).map_err(self.at("add up what was spent"))
    }

    /// How many tasks are in each state.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn task_counts(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT state, count(*) - iif(state = 'pending', (SELECT count(*) FROM claims), 0) FROM tasks GROUP BY state \
                   UNION ALL SELECT 'claimed', count(*) FROM claims";
        let rows: Result<Vec<(String, i64)>, Fault> = sqlx::query_as(sql).fetch_all(&self.readers).await.map_err(Fault::from);
        let rows = rows.map_err(self.at("count tasks"))?;
        Ok(rows.into_iter().map(|(state, count)| (state, u64::try_from(count).unwrap_or_default())).collect())
    }

    /// The number and the time of the last event, if there is one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn last_event(&self) -> Result<Option<(i64, Timestamp)>, StoreError> {
        let sql = "SELECT id, at FROM events ORDER BY id DESC LIMIT 1";
        let last: Result<Option<(i64, i64)>, Fault> = sqlx::query_as(sql).fetch_optional(&self.readers).await.map_err(Fault::from);
        last.and_then(|last| last.map(|(id, at)| Ok((id, rows::time("at", at)?))).transpose()).map_err(self.at("read the last event"))
    }

    /// What is kept of the last look at each instance that was loaded then.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn marks(&self) -> Result<Vec<(InstanceName, Mark)>, StoreError> {
        let sql = "SELECT name, active, restarts, invocation, cause, detail FROM instances ORDER BY name";
        let rows: Result<Vec<MarkRow>, Fault> = sqlx::query_as(sql).fetch_all(&self.readers).await.map_err(Fault::from);
        rows.and_then(domain).map_err(self.at("read the instances"))
    }

    /// What was last told of each worktree.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn worktrees(&self) -> Result<Vec<(InstanceName, StoredWorktree)>, StoreError> {
        type Row = (String, String, String, Option<String>, Option<i64>, Option<i64>);
        let sql = "SELECT instance, repository, directory, branch, bytes, measured FROM worktrees ORDER BY instance";
        let rows: Result<Vec<Row>, Fault> = sqlx::query_as(sql).fetch_all(&self.readers).await.map_err(Fault::from);
        let meant = |(name, repository, directory, branch, bytes, measured): Row| {
            let measured = measured.map(|at| rows::time("measured", at)).transpose()?;
            Ok((rows::parse("instance", &name)?, StoredWorktree { repository, directory, branch, bytes: bytes.map(rows::natural), measured }))
        };
        rows.and_then(|rows| rows.into_iter().map(meant).collect()).map_err(self.at("read the worktrees"))
    }

    /// The last events of an instance whose kind begins with `instance-` or `limits-`, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn instance_history(&self, name: &InstanceName, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let rows: Result<Vec<EventRow>, Fault> = sqlx::query_as(HISTORY).bind(name.as_str()).bind(limit).fetch_all(&self.readers).await.map_err(Fault::from);
        rows.and_then(domain).map_err(self.at("read an instance's history"))
    }

    /// How often each instance was restarted (`instance-restarted`), by cause (empty where nobody told); pruning does not lower it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn restarts(&self) -> Result<Vec<(InstanceName, String, u64)>, StoreError> {
        let rows: Result<Vec<(String, String, i64)>, Fault> =
            sqlx::query_as("SELECT instance, cause, count FROM restarts ORDER BY instance, cause").fetch_all(&self.readers).await.map_err(Fault::from);
        let count = |(name, cause, count): (String, String, i64)| Ok((rows::parse("instance", &name)?, cause, rows::natural(count)));
        rows.and_then(|rows| rows.into_iter().map(count).collect()).map_err(self.at("read the restarts"))
    }
}

/// From rows to what they mean.
pub(super) fn domain<R, T: TryFrom<R, Error = Fault>>(rows: Vec<R>) -> Result<Vec<T>, Fault> {
    rows.into_iter().map(T::try_from).collect()
}
