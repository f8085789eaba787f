//! One file per attempt that may have processes: on disk before its agent starts, gone when its end is spooled.

use crate::core::ids::{AttemptId, SessionId, TaskId};
use crate::platform::durable::{self, FileError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What a successor has to know of an attempt whose runner went away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The attempt.
    pub(super) attempt: AttemptId,
    /// The agent's conversation, if it has one.
    pub(super) session: Option<SessionId>,
    /// When it began.
    pub(super) started: Timestamp,
    /// An orderly stop of the instance had begun: the attempt was interrupted, not lost.
    pub(super) stopping: bool,
}

/// The directory `attempts`.
#[derive(Clone, Debug)]
pub(super) struct Records {
    directory: PathBuf,
}

impl Records {
    /// The records in an instance's state directory.
    pub(super) fn new(state: &Path) -> Self {
        Self { directory: state.join("attempts") }
    }

    fn path(&self, attempt: AttemptId) -> PathBuf {
        self.directory.join(format!("{attempt}.json"))
    }

    /// Writes or replaces a record; it survives a power cut. A stop that was noted stays noted.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn write(&self, record: &Record) -> Result<(), FileError> {
        let path = self.path(record.attempt);
        let stopping = record.stopping || self.read(record.attempt).is_some_and(|before| before.stopping);
        let bytes = serde_json::to_vec(&Record { stopping, ..record.clone() }).map_err(|e| FileError::of("encode", &path)(e.into()))?;
        durable::write(&path, &bytes)
    }

    /// Notes that an orderly stop has begun.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn mark_stopping(&self, attempt: AttemptId) -> Result<(), FileError> {
        match self.read(attempt) {
            Some(record) => self.write(&Record { stopping: true, ..record }),
            None => Ok(()),
        }
    }

    /// Forgets an attempt.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn remove(&self, attempt: AttemptId) -> Result<(), FileError> {
        durable::remove(&self.path(attempt))
    }

    fn read(&self, attempt: AttemptId) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path(attempt)).ok()?).ok()
    }

    /// All attempts that have a record. A record that cannot be read still names its attempt by its file name.
    ///
    /// # Errors
    /// Names the directory.
    pub(super) fn all(&self) -> Result<Vec<Record>, FileError> {
        let attempts = durable::names(&self.directory)?.into_iter().filter_map(|name| {
            let (task, number) = name.strip_suffix(".json")?.split_once('.')?;
            Some(AttemptId { task: TaskId(task.parse().ok()?), number: number.parse().ok()? })
        });
        let unreadable = |attempt| Record { attempt, session: None, started: Timestamp::now(), stopping: false };
        Ok(attempts.map(|attempt| self.read(attempt).unwrap_or_else(|| unreadable(attempt))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_until_they_are_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        durable::directory(&dir.path().join("attempts")).expect("directory");
        let records = Records::new(dir.path());
        let attempt = AttemptId { task: TaskId(7), number: 2 };
        let record = Record { attempt, session: Some(SessionId(uuid::Uuid::nil())), started: Timestamp::UNIX_EPOCH, stopping: false };
        records.write(&record).expect("write");
        assert_eq!(records.all().expect("read").first(), Some(&record));
        records.mark_stopping(attempt).expect("mark");
        // The attempt, which knows nothing of the stop, goes on in another session.
        let record = Record { session: None, ..record };
        records.write(&record).expect("write");
        assert_eq!(records.all().expect("read"), [Record { stopping: true, ..record }]);
        records.remove(attempt).expect("remove");
        records.mark_stopping(attempt).expect("nothing to mark");
        assert_eq!(records.all().expect("read"), []);
    }

    #[test]
    fn garbage_still_names_its_attempt() {
        let dir = tempfile::tempdir().expect("tempdir");
        durable::directory(&dir.path().join("attempts")).expect("directory");
        fs::write(dir.path().join("attempts/9.1.json"), "{half").expect("write");
        fs::write(dir.path().join("attempts/notes.txt"), "").expect("write");
        let all = Records::new(dir.path()).all().expect("read");
        assert!(matches!(all.as_slice(), [Record { attempt: AttemptId { task: TaskId(9), number: 1 }, session: None, .. }]), "{all:?}");
    }
}
