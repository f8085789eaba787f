//! The store in one SQLite file: one connection that writes, a few that read, every write a transaction that is on disk
//! (write-ahead log, `synchronous = FULL`) when it returns.

mod audit;
mod fault;
mod locks;
mod mail;
mod open;
mod plans;
mod queue;
mod queue_rows;
mod read;
mod rows;
mod write;

use super::StoreError;
use crate::core::audit::Chain;
use fault::Fault;
use sqlx::SqlitePool;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// A handle on the file; cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    path: Arc<Path>,
    writer: SqlitePool,
    readers: SqlitePool,
    /// The end of the audit's chain, while it is known. Whoever holds it is the one that writes.
    head: Arc<Mutex<Option<Chain>>>,
    /// The same, for those who keep it elsewhere.
    heads: Arc<watch::Sender<Chain>>,
}

impl SqliteStore {
    /// Closes the file: waits for what is under way, and folds the write-ahead log into the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Changes the database behind the store's back.
    #[cfg(test)]
    pub async fn alter(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.writer).await.expect("altered");
    }

    /// Names the file and what was being done in an error.
    fn at(&self, verb: &'static str) -> impl Fn(Fault) -> StoreError + '_ {
        move |fault| fault.at(&self.path, verb)
    }
}

#[cfg(test)]
mod tests;
