//! The audit: rows are added within the transaction of what they tell of, read in pages, checked from end to end.

use super::{Fault, SqliteStore, rows};
use crate::core::audit::{Actor, AuditQuery, Broken, Chain, Digest, Entry, TRIMMED, Trimmed};
use crate::platform::store::{AuditCheck, AuditRow, StoreError};
use jiff::Timestamp;
use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection};

/// Rows that are removed in one transaction: others wait for it.
const TRIM_STEP: i64 = 10_000;
/// Rows that are read at a time for the check.
const CHECK_STEP: i64 = 2_000;

const INSERT: &str = "INSERT INTO audit (seq, at, who, uid, pid, acting, origin, what, instance, task, subject, details, hash) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
const SELECT: &str = "SELECT seq, at, who, uid, pid, acting, origin, what, instance, task, subject, details, hash FROM audit";

/// A row as it stands in the file.
#[derive(FromRow)]
struct Row {
    seq: i64,
    at: i64,
    who: String,
    uid: Option<u32>,
    pid: Option<u32>,
    acting: Option<i64>,
    origin: String,
    what: String,
    instance: Option<String>,
    task: Option<i64>,
    subject: Option<String>,
    details: String,
    hash: String,
}

impl Row {
    fn parts(self) -> (i64, Entry, String) {
        let Self { seq, at, who, uid, pid, acting, origin, what, instance, task, subject, details, hash } = self;
        (seq, Entry { at, who, uid, pid, acting, origin, what, instance, task, subject, details }, hash)
    }
}

/// The end of the chain as it is stored.
pub(super) async fn last(connection: &mut SqliteConnection) -> Result<Chain, Fault> {
    let sql = "SELECT seq, hash FROM (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) UNION ALL SELECT seq, hash FROM audit_anchor LIMIT 1";
    place(sqlx::query_as(sql).fetch_optional(connection).await?)
}

async fn anchor(connection: &mut SqliteConnection) -> Result<Chain, Fault> {
    place(sqlx::query_as("SELECT seq, hash FROM audit_anchor").fetch_optional(connection).await?)
}

fn place(row: Option<(i64, String)>) -> Result<Chain, Fault> {
    row.map_or(Ok(Chain::default()), |(seq, hash)| Ok(Chain { seq, hash: rows::parse("hash", &hash)? }))
}

/// Adds rows at the end of the chain.
pub(super) async fn append(connection: &mut SqliteConnection, chain: &mut Chain, entries: &[Entry]) -> Result<(), Fault> {
    for entry in entries {
        let Chain { seq, hash } = chain.add(entry);
        sqlx::query(INSERT)
            .bind(seq)
            .bind(entry.at)
            .bind(&entry.who)
            .bind(entry.uid)
            .bind(entry.pid)
            .bind(entry.acting)
            .bind(&entry.origin)
            .bind(&entry.what)
            .bind(entry.instance.as_deref())
            .bind(entry.task)
            .bind(entry.subject.as_deref())
            .bind(&entry.details)
            .bind(hash.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The query of a page. It follows the task's index, or the numbers from one end until the page is full.
pub(super) fn page(filter: &AuditQuery) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(SELECT);
    let (from, to) = (filter.after.unwrap_or(0), filter.before.unwrap_or(i64::MAX));
    query.push(" WHERE seq > ").push_bind(from).push(" AND seq < ").push_bind(to);
    if let Some(task) = filter.task {
        query.push(" AND task = ").push_bind(task.0);
    }
    let texts = [
        (" AND instance = ", filter.instance.as_ref().map(|name| name.as_str().to_owned())),
        (" AND who = ", filter.who.clone()),
        (" AND what = ", filter.what.clone()),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition).push_bind(text);
        }
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(since.as_microsecond());
    }
    if let Some(until) = filter.until {
        query.push(" AND at < ").push_bind(until.as_microsecond());
    }
    query.push(if filter.after.is_some() { " ORDER BY seq LIMIT " } else { " ORDER BY seq DESC LIMIT " }).push_bind(filter.limit);
    query
}

impl SqliteStore {
    /// Rows of the audit: newest first, or with `after` oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn audit(&self, filter: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        let found: Result<Vec<Row>, Fault> = page(filter).build_query_as().fetch_all(&self.readers).await.map_err(Fault::from);
        let row = |row: Row| {
            let (seq, entry, hash) = row.parts();
            AuditRow { seq, entry, hash }
        };
        found.map(|rows| rows.into_iter().map(row).collect()).map_err(self.at("read the audit"))
    }

    /// The end of the audit's chain.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn audit_head(&self) -> Result<Chain, StoreError> {
        let found = async { last(&mut *self.readers.acquire().await?).await };
        found.await.map_err(self.at("read the audit's end"))
    }

    /// Whether that place is one of the chain's, or of a row that has been removed for age.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn has_audit(&self, place: Chain) -> Result<bool, StoreError> {
        let work = async {
            let mut connection = self.readers.acquire().await?;
            let begin = anchor(&mut connection).await?;
            if place.seq <= begin.seq {
                return Ok(place.seq < begin.seq || place.hash == begin.hash);
            }
            let hash: Option<String> = sqlx::query_scalar("SELECT hash FROM audit WHERE seq = ?1").bind(place.seq).fetch_optional(&mut *connection).await?;
            Ok(hash.is_some_and(|hash| hash == place.hash.to_string()))
        };
        work.await.map_err(self.at("compare the audit's head"))
    }

    /// The end of the audit's chain, whenever it has moved.
    pub fn audit_heads(&self) -> tokio::sync::watch::Receiver<Chain> {
        self.heads.subscribe()
    }

    /// Computes all hashes anew. `kept` is the head that was kept apart, read before this is called.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn check_audit(&self, kept: Option<Chain>) -> Result<AuditCheck, StoreError> {
        let work = async {
            // One transaction sees one state of the file, whatever is added or removed meanwhile.
            let mut snapshot = self.readers.begin().await?;
            let check = check(&mut snapshot, kept).await;
            snapshot.rollback().await?;
            check
        };
        work.await.map_err(self.at("check the audit"))
    }

    /// Removes the oldest rows: those before that time, and those beyond that many. Answers how many went.
    ///
    /// # Errors
    /// What was removed in earlier steps stays removed.
    pub async fn trim_audit(&self, before: Timestamp, most: u64) -> Result<u64, StoreError> {
        let (before, most) = (before.as_microsecond(), rows::integer(most).max(1));
        let mut removed = 0;
        loop {
            let mut held = self.head.lock().await;
            let known = held.take();
            let work = async |connection: &mut SqliteConnection| {
                let mut chain = known_or_last(known, connection).await?;
                let gone = trim(connection, &mut chain, before, most).await?;
                Ok((gone, chain))
            };
            let (gone, chain) = self.transaction(work).await.map_err(self.at("trim the audit"))?;
            *held = Some(chain);
            self.heads.send_if_modified(|head| std::mem::replace(head, chain) != chain);
            removed += gone;
            if gone < rows::natural(TRIM_STEP) {
                return Ok(removed);
            }
        }
    }
}

/// The end of the chain, which is only read anew after a transaction that failed.
pub(super) async fn known_or_last(known: Option<Chain>, connection: &mut SqliteConnection) -> Result<Chain, Fault> {
    match known {
        Some(chain) => Ok(chain),
        None => last(connection).await,
    }
}

async fn trim(connection: &mut SqliteConnection, chain: &mut Chain, before: i64, most: i64) -> Result<u64, Fault> {
    let first: Option<i64> = sqlx::query_scalar("SELECT min(seq) FROM audit").fetch_one(&mut *connection).await?;
    let Some(first) = first else { return Ok(0) };
    let young: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM audit WHERE at >= ?1 ORDER BY seq LIMIT 1").bind(before).fetch_optional(&mut *connection).await?;
    let old = young.map_or(chain.seq, |seq| seq - 1);
    // The row that tells of it counts too.
    let through = old.max(chain.seq.saturating_add(1).saturating_sub(most)).min(first.saturating_add(TRIM_STEP - 1)).min(chain.seq);
    // A row alone that tells of a removal is not worth another one.
    if through < first || through == first && is_trim(connection, first).await? {
        return Ok(0);
    }
    let hash: String = sqlx::query_scalar("SELECT hash FROM audit WHERE seq = ?1").bind(through).fetch_one(&mut *connection).await?;
    let trimmed = Trimmed { through, hash: rows::parse("hash", &hash)? };
    sqlx::query("INSERT INTO audit_anchor (one, seq, hash) VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash")
        .bind(through)
        .bind(hash)
        .execute(&mut *connection)
        .await?;
    let details = serde_json::to_value(trimmed).map_err(|error| Fault::Refused(error.to_string()))?;
    let told = Actor::clauded().did(TRIMMED, Timestamp::now()).with(&details);
    let gone = sqlx::query("DELETE FROM audit WHERE seq <= ?1").bind(through).execute(&mut *connection).await?.rows_affected();
    append(connection, chain, &[told]).await?;
    Ok(gone)
}

async fn is_trim(connection: &mut SqliteConnection, seq: i64) -> Result<bool, Fault> {
    let what: Option<String> = sqlx::query_scalar("SELECT what FROM audit WHERE seq = ?1").bind(seq).fetch_optional(connection).await?;
    Ok(what.as_deref() == Some(TRIMMED))
}

async fn check(connection: &mut SqliteConnection, kept: Option<Chain>) -> Result<AuditCheck, Fault> {
    let begin = anchor(connection).await?;
    let mut chain = begin;
    let mut check = AuditCheck { first: begin.seq.saturating_add(1), head_compared: kept.is_none_or(|kept| kept.seq >= begin.seq), ..AuditCheck::default() };
    let mut vouched = begin.seq == 0;
    let head = |chain: &Chain| kept.filter(|kept| kept.seq == chain.seq && kept.hash != chain.hash).map(|kept| Broken::Head(kept.seq));
    check.broken.extend(head(&chain));
    'rows: loop {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE seq > ?1 ORDER BY seq LIMIT ?2"));
        let rows: Vec<Row> = sqlx::query_as(sql).bind(chain.seq).bind(CHECK_STEP).fetch_all(&mut *connection).await?;
        let full = rows.len() == usize::try_from(CHECK_STEP).unwrap_or(usize::MAX);
        for row in rows {
            let (seq, entry, hash) = row.parts();
            // A text that is no hash is not the right one either.
            let hash: Digest = hash.parse().unwrap_or_default();
            match chain.follow(seq, &entry, hash) {
                Ok(()) => {}
                Err(told @ Broken::Mismatch(_)) => check.broken.push(told),
                Err(broken) => {
                    check.broken.push(broken);
                    break 'rows;
                }
            }
            check.rows += 1;
            check.broken.extend(head(&chain));
            vouched |= entry.trimmed().is_some_and(|trimmed| trimmed.through == begin.seq && trimmed.hash == begin.hash);
        }
        if !full {
            if !vouched {
                check.broken.push(Broken::Beheaded(begin.seq));
            }
            if let Some(kept) = kept.filter(|kept| kept.seq > chain.seq) {
                check.broken.push(Broken::Head(kept.seq));
            }
            break;
        }
    }
    check.last = chain;
    Ok(check)
}
