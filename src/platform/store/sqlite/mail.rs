//! Messages and their letters.

use super::{Fault, SqliteStore, rows};
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use crate::core::message::{Change, Draft, Help, Letter, Message, MessageId, Post, Progress};
use crate::platform::store::{StoreError, StoredLetter, StoredMessage};
use jiff::Timestamp;
use sqlx::{FromRow, SqliteConnection};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most characters of a text in a list: a page of the longest would not fit the daemon's memory.
const HEAD: u32 = 400;

macro_rules! select_messages {
    ($text:expr, $rest:expr) => {
        concat!(
            "SELECT id, at, sender, from_instance, from_task, from_number, kind, recipient, reply_to, hops, task, until, ",
            $text,
            " AS text, length(CAST(text AS BLOB)) AS bytes FROM messages ",
            $rest
        )
    };
}

/// Pages below ?1, at most ?2, of or to instance ?3; texts up to ?4.
pub(super) const PAGE: &str = select_messages!("substr(text, 1, ?4)", "WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
pub(super) const PAGE_OF_INSTANCE: &str = select_messages!(
    "substr(text, 1, ?4)",
    "WHERE id IN (SELECT id FROM (SELECT id FROM messages WHERE from_instance = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2) \
     UNION SELECT message FROM (SELECT message FROM letters WHERE recipient = ?3 AND message < ?1 ORDER BY message DESC LIMIT ?2)) ORDER BY id DESC LIMIT ?2"
);

#[derive(FromRow)]
struct MessageRow {
    id: i64,
    at: i64,
    sender: String,
    from_instance: Option<String>,
    from_task: Option<i64>,
    from_number: Option<u32>,
    kind: String,
    recipient: String,
    reply_to: Option<i64>,
    hops: u32,
    task: Option<i64>,
    until: Option<i64>,
    text: String,
    bytes: i64,
}

impl MessageRow {
    fn message(self) -> Result<Message, Fault> {
        let from = self.from_instance.as_deref().map(|name| rows::parse("from_instance", name)).transpose()?;
        let attempt = self.from_task.zip(self.from_number).map(|(task, number)| AttemptId { task: TaskId(task), number });
        let (kind, reply_to) = (rows::parse("kind", &self.kind)?, self.reply_to.map(MessageId));
        let draft = Draft { sender: self.sender, from, attempt, kind, to: self.recipient, reply_to, text: self.text };
        Ok(Message { id: MessageId(self.id), at: rows::time("at", self.at)?, draft, hops: self.hops })
    }
}

#[derive(FromRow)]
struct LetterRow {
    message: i64,
    recipient: String,
    uuid: String,
    state: String,
    task: Option<i64>,
    number: Option<u32>,
    moved: i64,
}

impl LetterRow {
    fn letter(&self) -> Result<Letter, Fault> {
        let task = self.task.map(TaskId);
        let attempt = task.zip(self.number).map(|(task, number)| AttemptId { task, number });
        let progress = match (self.state.as_str(), attempt, task) {
            ("pending", ..) => Progress::Pending,
            ("expired", ..) => Progress::Expired,
            ("sent", Some(attempt), _) => Progress::Sent(attempt),
            ("delivered", Some(attempt), _) => Progress::Delivered(attempt),
            ("queued", _, Some(task)) => Progress::Queued(task),
            (other, ..) => return Err(Fault::Row(format!("column state: {other:?} does not go with its task"))),
        };
        Ok(Letter { to: rows::parse("recipient", &self.recipient)?, uuid: rows::parse("uuid", &self.uuid)?, progress })
    }
}

/// Writes one change.
pub(super) async fn write(connection: &mut SqliteConnection, change: &Change, now: Timestamp) -> Result<(), Fault> {
    match change {
        Change::Posted(message, letters) => {
            insert(connection, message).await?;
            for Letter { to, uuid, .. } in letters {
                let sql = "INSERT INTO letters (message, recipient, uuid, state, moved) VALUES (?1, ?2, ?3, 'pending', ?4)";
                let query = sqlx::query(sql).bind(message.id.0).bind(to.as_str()).bind(uuid.to_string()).bind(message.at.as_microsecond());
                query.execute(&mut *connection).await?;
            }
        }
        Change::Moved(id, to, progress) => {
            let (task, number) = match progress {
                Progress::Pending | Progress::Expired => (None, None),
                Progress::Sent(attempt) | Progress::Delivered(attempt) => (Some(attempt.task.0), Some(attempt.number)),
                Progress::Queued(task) => (Some(task.0), None),
            };
            let sql = "UPDATE letters SET state = ?3, task = ?4, number = ?5, moved = ?6 WHERE message = ?1 AND recipient = ?2";
            let query = sqlx::query(sql).bind(id.0).bind(to.as_str()).bind(progress.name()).bind(task).bind(number).bind(now.as_microsecond());
            query.execute(connection).await?;
        }
        Change::Asked(id, task, until) => {
            let sql = "UPDATE messages SET task = ?2, until = ?3 WHERE id = ?1";
            sqlx::query(sql).bind(id.0).bind(task.0).bind(until.as_microsecond()).execute(connection).await?;
        }
    }
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, message: &Message) -> Result<(), Fault> {
    let Message { id, at, draft, hops } = message;
    let sql = "INSERT INTO messages (id, at, sender, from_instance, from_task, from_number, kind, recipient, reply_to, hops, text) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    sqlx::query(sql)
        .bind(id.0)
        .bind(at.as_microsecond())
        .bind(&draft.sender)
        .bind(draft.from.as_ref().map(InstanceName::as_str))
        .bind(draft.attempt.map(|attempt| attempt.task.0))
        .bind(draft.attempt.map(|attempt| attempt.number))
        .bind(draft.kind.name())
        .bind(&draft.to)
        .bind(draft.reply_to.map(|id| id.0))
        .bind(*hops)
        .bind(&draft.text)
        .execute(connection)
        .await?;
    Ok(())
}

impl SqliteStore {
    /// All that is on its way, and what is counted for the tasks that have not ended.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn post(&self) -> Result<Post, StoreError> {
        self.load_post().await.map_err(self.at("read the messages on their way"))
    }

    async fn load_post(&self) -> Result<Post, Fault> {
        let mut snapshot = self.readers.begin().await?;
        let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetch_optional(&mut *snapshot).await?;
        let waiting: Vec<LetterRow> = sqlx::query_as("SELECT * FROM letters WHERE state IN ('pending', 'sent')").fetch_all(&mut *snapshot).await?;
        let sql = select_messages!(
            "text",
            "WHERE id IN (SELECT message FROM letters WHERE state IN ('pending', 'sent')) OR task IN (SELECT id FROM tasks WHERE finished IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM messages AS answer WHERE answer.reply_to = messages.id AND answer.kind = 'answer')"
        );
        let found: Vec<MessageRow> = sqlx::query_as(sql).fetch_all(&mut *snapshot).await?;
        let sql = "SELECT from_task, from_number, count(*) FROM messages \
                   WHERE from_task IN (SELECT id FROM tasks WHERE finished IS NULL) AND kind <> 'answer' GROUP BY from_task, from_number";
        let sent: Vec<(i64, u32, u32)> = sqlx::query_as(sql).fetch_all(&mut *snapshot).await?;
        let sql = "SELECT task, max(hops) FROM (SELECT letters.task, hops FROM letters JOIN messages ON id = message \
                   WHERE letters.task IN (SELECT id FROM tasks WHERE finished IS NULL) AND state IN ('delivered', 'queued') \
                   UNION ALL SELECT task, hops FROM messages WHERE task IN (SELECT id FROM tasks WHERE finished IS NULL)) GROUP BY task";
        let hops: Vec<(i64, u32)> = sqlx::query_as(sql).fetch_all(&mut *snapshot).await?;
        snapshot.rollback().await?;
        let (mut messages, mut helps) = (BTreeMap::new(), Vec::new());
        for row in found {
            let asked = row.task.zip(row.until);
            let message = Arc::new(row.message()?);
            if let Some((task, until)) = asked {
                helps.push(Help { message: message.clone(), task: TaskId(task), until: rows::time("until", until)? });
            }
            messages.insert(message.id.0, message);
        }
        let letter = |row: &LetterRow| Ok(messages.get(&row.message).cloned().zip(Some(row.letter()?)));
        let letters: Vec<_> = waiting.iter().map(letter).collect::<Result<Vec<_>, Fault>>()?.into_iter().flatten().collect();
        let sent = sent.into_iter().map(|(task, number, count)| (AttemptId { task: TaskId(task), number }, count));
        Ok(Post::load(last.unwrap_or(0).saturating_add(1), letters, helps, sent, hops.into_iter().map(|(task, hops)| (TaskId(task), hops))))
    }

    /// Messages, newest first, long texts cut.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn messages(&self, filter: &crate::core::message::MessageQuery) -> Result<Vec<StoredMessage>, StoreError> {
        let sql = if filter.instance.is_some() { PAGE_OF_INSTANCE } else { PAGE };
        let rows: Result<Vec<MessageRow>, Fault> = sqlx::query_as(sql)
            .bind(filter.before.map_or(i64::MAX, |id| id.0))
            .bind(filter.limit)
            .bind(filter.instance.as_ref().map(InstanceName::as_str))
            .bind(HEAD)
            .fetch_all(&self.readers)
            .await
            .map_err(Fault::from);
        async { self.with_letters(rows?).await }.await.map_err(self.at("list messages"))
    }

    /// One message.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn message(&self, id: MessageId) -> Result<Option<StoredMessage>, StoreError> {
        let rows: Result<Vec<MessageRow>, Fault> =
            sqlx::query_as(select_messages!("text", "WHERE id = ?1")).bind(id.0).fetch_all(&self.readers).await.map_err(Fault::from);
        let found = async { self.with_letters(rows?).await }.await.map_err(self.at("read a message"))?;
        Ok(found.into_iter().next())
    }

    async fn with_letters(&self, rows: Vec<MessageRow>) -> Result<Vec<StoredMessage>, Fault> {
        let ids = serde_json::Value::from(rows.iter().map(|row| row.id).collect::<Vec<_>>()).to_string();
        let sql = "SELECT * FROM letters WHERE message IN (SELECT value FROM json_each(?1)) ORDER BY message, recipient";
        let letters: Vec<LetterRow> = sqlx::query_as(sql).bind(&ids).fetch_all(&self.readers).await?;
        let sql = "SELECT reply_to, id FROM messages WHERE reply_to IN (SELECT value FROM json_each(?1)) ORDER BY id";
        let answers: Vec<(i64, i64)> = sqlx::query_as(sql).bind(&ids).fetch_all(&self.readers).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, bytes, task) = (row.id, rows::natural(row.bytes), row.task.map(TaskId));
            let of = |letter: &&LetterRow| letter.message == id;
            let letter = |row: &LetterRow| Ok(StoredLetter { letter: row.letter()?, moved: rows::time("moved", row.moved)? });
            let letters = letters.iter().filter(of).map(letter).collect::<Result<_, Fault>>()?;
            let answers = answers.iter().filter(|(to, _)| *to == id).map(|(_, answer)| MessageId(*answer)).collect();
            found.push(StoredMessage { message: row.message()?, bytes, task, letters, answers });
        }
        Ok(found)
    }
}
