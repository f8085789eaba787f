//! The store in one SQLite file.

use super::{Batch, StoreError, StoredAttempt, StoredEvent, StoredTask, TaskFilter};
use crate::core::ids::{InstanceName, SessionId, TaskId};
use crate::core::task::Task;
use jiff::Timestamp;
use std::path::Path;

/// A handle on the file; cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// Newer, damaged or unreadable; the file is untouched then.
    pub async fn open(_path: &Path) -> Result<Self, StoreError> {
        Ok(Self {})
    }

    /// Commits a batch, and answers the numbers of its new tasks.
    ///
    /// # Errors
    /// Nothing of it is stored then.
    pub async fn commit(&self, _batch: &Batch) -> Result<Vec<TaskId>, StoreError> {
        Ok(Vec::new())
    }

    /// All tasks that have not ended, for [`crate::core::queue::Queue::load`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn live_tasks(&self) -> Result<Vec<Task>, StoreError> {
        Ok(Vec::new())
    }

    /// The usage limits stored last, account and reset time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn holds(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        Ok(Vec::new())
    }

    /// One task.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn task(&self, _id: TaskId) -> Result<Option<StoredTask>, StoreError> {
        Ok(None)
    }

    /// Tasks, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn tasks(&self, _filter: &TaskFilter) -> Result<Vec<StoredTask>, StoreError> {
        Ok(Vec::new())
    }

    /// The attempts of a task, first one first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn attempts(&self, _id: TaskId) -> Result<Vec<StoredAttempt>, StoreError> {
        Ok(Vec::new())
    }

    /// The last session of a task on an instance, to be resumed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn last_session(&self, _id: TaskId, _instance: &InstanceName) -> Result<Option<SessionId>, StoreError> {
        Ok(None)
    }

    /// Events with a number above `after`, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn events_after(&self, _after: i64, _limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(Vec::new())
    }

    /// The last events of an instance whose kind begins with `instance-` or `limits-`, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn instance_history(&self, _name: &InstanceName, _limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(Vec::new())
    }

    /// How often each instance was restarted (`instance-restarted`), by cause.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn restarts(&self) -> Result<Vec<(InstanceName, String, u64)>, StoreError> {
        Ok(Vec::new())
    }

    /// Removes tasks that ended, and events that happened, before that time; answers how many rows went.
    ///
    /// # Errors
    /// Nothing is removed then.
    pub async fn prune(&self, _before: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }
}
