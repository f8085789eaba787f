//! The locks: written with the batch that they belong to, read at start.

use super::rows::{self, parse, time};
use super::{Fault, SqliteStore};
use crate::core::ids::{InstanceName, InvocationId, TaskId};
use crate::core::lock::{Bond, Change, Kind, Lock, LockId, Mode, Owner, Pattern, Scope};
use crate::platform::store::StoreError;
use sqlx::{FromRow, SqliteConnection};
use std::time::Duration;

impl SqliteStore {
    /// All locks that are held, for [`crate::core::lock::Locks::load`], and the highest number that was ever given.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn locks(&self) -> Result<(Vec<Lock>, i64), StoreError> {
        let rows: Result<Vec<LockRow>, Fault> = sqlx::query_as("SELECT * FROM locks ORDER BY id").fetch_all(&self.readers).await.map_err(Fault::from);
        let last: Result<Option<i64>, Fault> =
            sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'locks'").fetch_optional(&self.readers).await.map_err(Fault::from);
        let locks: Result<Vec<Lock>, Fault> = rows.and_then(|rows| rows.into_iter().map(Lock::try_from).collect());
        locks.and_then(|locks| Ok((locks, last?.unwrap_or(0)))).map_err(self.at("read the locks"))
    }
}

pub(super) async fn write(connection: &mut SqliteConnection, change: &Change) -> Result<(), Fault> {
    let lock = match change {
        Change::Held(lock) => lock,
        Change::Gone(id) => {
            sqlx::query("DELETE FROM locks WHERE id = ?1").bind(id.0).execute(connection).await?;
            return Ok(());
        }
    };
    let (uid, person) = match &lock.owner {
        Owner::Person { uid, name } => (*uid, Some(name)),
        Owner::Agent { .. } => (None, None),
    };
    let sql = "INSERT OR REPLACE INTO locks (id, place, kind, pattern, globs, mode, instance, task, attempt, invocation, uid, person, reason, since, ttl, expires) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    sqlx::query(sql)
        .bind(lock.id.0)
        .bind(&lock.scope.place)
        .bind(lock.scope.pattern.kind().name())
        .bind(lock.scope.pattern.text())
        .bind(lock.scope.pattern.globs().join("\n"))
        .bind(lock.mode.name())
        .bind(lock.owner.instance().map(InstanceName::as_str))
        .bind(lock.owner.task().map(|task| task.0))
        .bind(lock.bond.attempt)
        .bind(lock.bond.invocation.as_ref().map(InvocationId::as_str))
        .bind(uid)
        .bind(person)
        .bind(&lock.reason)
        .bind(lock.since.as_microsecond())
        .bind(i64::try_from(lock.ttl.as_micros()).unwrap_or(i64::MAX))
        .bind(lock.expires.as_microsecond())
        .execute(connection)
        .await?;
    Ok(())
}

#[derive(FromRow)]
struct LockRow {
    id: i64,
    place: String,
    kind: String,
    pattern: String,
    globs: String,
    mode: String,
    instance: Option<String>,
    task: Option<i64>,
    attempt: Option<u32>,
    invocation: Option<String>,
    uid: Option<u32>,
    person: Option<String>,
    reason: String,
    since: i64,
    ttl: i64,
    expires: i64,
}

impl TryFrom<LockRow> for Lock {
    type Error = Fault;

    fn try_from(row: LockRow) -> Result<Self, Fault> {
        let wrong = |column: &str, text: &str| Fault::Row(format!("column {column}: {text:?} is none"));
        let pattern = match row.kind.as_str() {
            kind if kind == Kind::Path.name() => Pattern::path(&row.pattern),
            kind if kind == Kind::Glob.name() => Pattern::glob(&row.pattern),
            kind if kind == Kind::Feature.name() => Pattern::feature(&row.pattern, &row.globs.lines().map(str::to_owned).collect::<Vec<_>>()),
            kind => return Err(wrong("kind", kind)),
        };
        let owner = match (row.instance, row.person) {
            (Some(instance), _) => Owner::Agent { instance: parse("instance", &instance)?, task: row.task.map(TaskId) },
            (None, Some(name)) => Owner::Person { uid: row.uid, name },
            (None, None) => return Err(wrong("person", "")),
        };
        Ok(Self {
            id: LockId(row.id),
            scope: Scope { place: row.place, pattern: pattern.map_err(|error| rows::unreadable("pattern", error))? },
            mode: match row.mode.as_str() {
                mode if mode == Mode::Shared.name() => Mode::Shared,
                mode if mode == Mode::Exclusive.name() => Mode::Exclusive,
                mode => return Err(wrong("mode", mode)),
            },
            owner,
            bond: Bond { attempt: row.attempt, invocation: row.invocation.as_deref().map(|id| parse("invocation", id)).transpose()? },
            reason: row.reason,
            since: time("since", row.since)?,
            ttl: Duration::from_micros(rows::natural(row.ttl)),
            expires: time("expires", row.expires)?,
        })
    }
}
