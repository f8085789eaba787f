//! The head of the audit's chain, kept in a file of its own: whoever cuts rows off the end of the store, or puts an older one in
//! its place, has to change that too. It is written a little after the rows, and so may be behind them, but never ahead.

use crate::core::audit::{Actor, Chain, MISMATCH};
use crate::platform::durable::{self, FileError};
use crate::platform::store::{Batch, SqliteStore, StoreError};
use jiff::Timestamp;
use serde_json::json;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// Shortest time between two writes: each costs a flush of the disk.
const PAUSE: Duration = Duration::from_secs(5);

/// The file.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join("audit.head")
}

/// The head as it was kept last; `None` before the first time.
pub(super) fn kept(state: &Path) -> io::Result<Option<Chain>> {
    let path = path(state);
    let told = |error: io::Error| io::Error::new(error.kind(), format!("read {}: {error}", path.display()));
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| told(io::Error::new(ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(told(error)),
    }
}

/// Compares the head that was kept with the store, before anything is added to it. What does not fit is told of in the audit itself,
/// since the file will be written anew.
pub(super) async fn compare(store: &SqliteStore, state: &Path) -> Result<(), StoreError> {
    let kept = match kept(state) {
        Ok(None) => return Ok(()),
        Ok(Some(kept)) => kept,
        Err(error) => {
            tracing::error!("the head of the audit is not compared: {error}");
            return Ok(());
        }
    };
    if store.has_audit(kept).await? {
        return Ok(());
    }
    let found = store.audit_head().await?;
    tracing::error!("the audit is not as this clauded left it: row {} had another hash, or rows are missing at the end; see: claudectl audit verify", kept.seq);
    let row = Actor::clauded().did(MISMATCH, Timestamp::now()).with(&json!({"kept": kept, "found": found}));
    store.commit_with(&Batch { audit: vec![row], ..Batch::default() }, |_| Batch::default()).await.map(drop)
}

/// Keeps the head until `stopped`, and once more then.
pub(super) async fn keep(state: PathBuf, mut heads: watch::Receiver<Chain>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let mut over = false;
    while !over {
        over = tokio::select! {
            changed = heads.changed() => changed.is_err() || {
                keep_one(&state, &mut heads).await;
                tokio::time::timeout(PAUSE, &mut stopped).await.is_ok()
            },
            () = &mut stopped => true,
        };
    }
    keep_one(&state, &mut heads).await;
}

async fn keep_one(state: &Path, heads: &mut watch::Receiver<Chain>) {
    let (state, head) = (state.to_owned(), *heads.borrow_and_update());
    // A writer that breaks off has been told of by the panic hook.
    let _ = tokio::task::spawn_blocking(move || write(&state, head)).await;
}

/// Writes the head, durably. Where that fails, the one of before stays and still holds.
fn write(state: &Path, head: Chain) {
    let path = path(state);
    let bytes = serde_json::to_vec(&head).map_err(|error| FileError::of("encode", &path)(error.into()));
    if let Err(error) = bytes.and_then(|bytes| durable::write(&path, &bytes)) {
        tracing::warn!("{error}; the audit's head of before stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::audit::AuditQuery;

    async fn add(store: &SqliteStore, what: &str) {
        let row = Actor::clauded().did(what, Timestamp::now());
        store.commit_with(&Batch { audit: vec![row], ..Batch::default() }, |_| Batch::default()).await.expect("stored");
    }

    async fn whats(store: &SqliteStore) -> Vec<String> {
        let rows = store.audit(&AuditQuery { after: Some(0), limit: 100, ..AuditQuery::default() }).await.expect("read");
        rows.into_iter().map(|row| row.entry.what).collect()
    }

    #[tokio::test]
    async fn an_end_that_was_cut_off_while_clauded_was_away_is_told_of_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path();
        let store = SqliteStore::open(&state.join("a.db")).await.expect("opens");
        compare(&store, state).await.expect("nothing to compare");
        for what in ["a", "b", "c"] {
            add(&store, what).await;
        }
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let keeper = tokio::spawn(keep(state.to_owned(), store.audit_heads(), async { drop(stopped.await) }));
        add(&store, "d").await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while kept(state).expect("readable").is_none_or(|head| head.seq < 4) {
            assert!(tokio::time::Instant::now() < deadline, "the head is not kept");
            tokio::task::yield_now().await;
        }
        compare(&store, state).await.expect("compared");
        assert_eq!(whats(&store).await, ["a", "b", "c", "d"], "nothing to tell of");
        add(&store, "e").await;
        drop(stop);
        keeper.await.expect("it ends");
        assert_eq!(kept(state).expect("readable").map(|head| head.seq), Some(5), "the last one is kept at the end, without a pause");
        store.alter("DELETE FROM audit WHERE seq > 2").await;
        store.close().await;
        let store = SqliteStore::open(&state.join("a.db")).await.expect("opens");
        compare(&store, state).await.expect("compared");
        assert_eq!(whats(&store).await, ["a", "b", MISMATCH]);
        write(state, store.audit_head().await.expect("read"));
        compare(&store, state).await.expect("compared");
        assert_eq!(whats(&store).await.len(), 3, "told once");
        let check = store.check_audit(kept(state).expect("readable")).await.expect("checked");
        assert_eq!(check.broken, [crate::core::audit::Broken::Mismatch(3)]);
    }

    #[test]
    fn a_file_that_is_no_head_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(path(directory.path()), "{\"seq\":1,\"hash\":\"x\"}").expect("written");
        let error = kept(directory.path()).expect_err("refused").to_string();
        assert!(error.contains("audit.head") && error.contains("64 hexadecimal digits"), "{error}");
    }
}
