//! The contract on SQLite, and what is SQLite's own: the file, its damage, a full disk, its plans.

mod audit;

use super::{SqliteStore, queue, read};
use crate::core::ids::TaskId;
use crate::platform::store::contract::{self, adding};
use crate::platform::store::{Batch, StoreError, StoredWorktree};
use sqlx::Row;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

async fn open(directory: &TempDir) -> SqliteStore {
    SqliteStore::open(&directory.path().join("queue.db")).await.expect("opens")
}

macro_rules! contract {
    ($($test:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let directory = tempfile::tempdir().expect("a directory");
            contract::$test(async || open(&directory).await).await;
        }
    )*};
}

contract!(
    everything_survives_a_restart,
    a_batch_is_stored_whole_or_not_at_all,
    the_end_is_set_once_and_cleared_by_a_retry,
    reports_replace_each_other_and_cost_once,
    lists_are_filtered_and_paged_newest_first,
    pruning_takes_what_is_over_and_nothing_else,
    events_are_read_onwards_and_history_backwards,
    what_the_queue_keeps_beside_its_tasks_survives_a_restart,
    locks_come_back_as_they_were_and_their_numbers_never,
    ten_thousand_tasks,
);

/// All files of a directory with their contents.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(directory).expect("readable").map(|entry| entry.expect("an entry").path());
    files.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

/// A database with a few tasks, closed.
async fn filled() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory).await;
    store.commit(&adding(&["a"; 300])).await.expect("added");
    store.close().await;
    let path = directory.path().join("queue.db");
    assert_eq!(snapshot(directory.path()).keys().collect::<Vec<_>>(), [&path], "an orderly end leaves the file alone");
    (directory, path)
}

/// Opens what must be refused, and checks that nothing in its directory has changed.
async fn refused(path: &Path) -> StoreError {
    let directory = path.parent().expect("a directory");
    let before = snapshot(directory);
    let error = SqliteStore::open(path).await.err().unwrap_or_else(|| panic!("{} was opened", path.display()));
    assert!(snapshot(directory) == before, "{error}: {:?} became {:?}", before.keys(), snapshot(directory).keys());
    assert!(error.to_string().contains("queue.db"), "{error}");
    error
}

#[tokio::test]
async fn only_its_owner_can_read_the_file() {
    let (_directory, path) = filled().await;
    assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_missing_directory_is_not_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = SqliteStore::open(&directory.path().join("none/queue.db")).await.expect_err("refused");
    assert!(matches!(&error, StoreError::Other { verb: "create", .. }) && error.to_string().contains("none/queue.db"), "{error}");
    let error = SqliteStore::open(directory.path()).await.expect_err("refused");
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn an_empty_file_is_a_new_store() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("queue.db"), "").expect("written");
    assert_eq!(open(&directory).await.live_tasks().await.expect("readable"), []);
}

#[tokio::test]
async fn a_truncated_file_is_refused_untouched() {
    let (_directory, path) = filled().await;
    let whole = fs::read(&path).expect("readable");
    for length in [1, 15, 16, 27, 99, 100, 511, 512, 4095, 4096, 4097, 8192, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("written");
        let error = refused(&path).await;
        assert!(matches!(error, StoreError::Damaged { .. }), "{length}: {error:?}");
    }
    fs::write(&path, &whole).expect("written");
    SqliteStore::open(&path).await.expect("the whole one opens");
}

#[tokio::test]
async fn a_damaged_or_foreign_file_is_refused_untouched() {
    let (_directory, path) = filled().await;
    let whole = fs::read(&path).expect("readable");
    let mut scribbled = whole.clone();
    scribbled[whole.len() / 2..whole.len() / 2 + 6000].fill(0xa5);
    let mut headless = whole.clone();
    headless[..100].fill(0);
    for bytes in [&scribbled[..], &headless, &[b'x'; 9000], b"[store]\npath = \"x\"\n"] {
        fs::write(&path, bytes).expect("written");
        let error = refused(&path).await;
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn another_programs_database_and_a_newer_one_are_refused_untouched() {
    let (_directory, path) = filled().await;
    alter(&path, "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)").await;
    assert!(matches!(refused(&path).await, StoreError::Newer { found: 9999, known: 2..9999, .. }));
    alter(&path, "ALTER TABLE _sqlx_migrations RENAME TO other").await;
    let error = refused(&path).await;
    assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("another program"), "{error}");
}

/// Changes a closed database behind the store's back.
async fn alter(path: &Path, sql: &'static str) {
    use sqlx::{ConnectOptions, Connection};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.expect("opens");
    sqlx::query(sql).execute(&mut connection).await.expect("altered");
    connection.close().await.expect("closed");
}

/// The files as a power cut leaves them: as they are on disk while the store is open.
#[tokio::test]
async fn what_is_committed_is_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory).await;
    let cut = tempfile::tempdir().expect("a directory");
    let copy = |name: &str| {
        let from = directory.path().join(name);
        fs::copy(&from, cut.path().join(name)).expect("copied")
    };
    for count in 1..=3 {
        store.commit(&adding(&["a"])).await.expect("added");
        copy("queue.db");
        assert!(copy("queue.db-wal") > 0);
        let after = open(&cut).await;
        assert_eq!(after.live_tasks().await.expect("readable").len(), count);
        after.close().await;
    }
}

#[tokio::test]
async fn a_damaged_file_with_a_log_is_refused_with_both_untouched() {
    let (directory, path) = filled().await;
    let store = open(&directory).await;
    store.commit(&adding(&["a"])).await.expect("added");
    let cut = tempfile::tempdir().expect("a directory");
    let damaged = cut.path().join("queue.db");
    let mut bytes = fs::read(&path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 6000].fill(0xa5);
    fs::write(&damaged, bytes).expect("written");
    fs::copy(directory.path().join("queue.db-wal"), cut.path().join("queue.db-wal")).expect("copied");
    assert!(matches!(refused(&damaged).await, StoreError::Damaged { .. }));
}

/// Commits batches of long tasks until one is refused; answers how many tasks are stored.
async fn fill_up(store: &SqliteStore) -> usize {
    let before = store.live_tasks().await.expect("readable").len();
    let mut batch = adding(&["a"; 8]);
    batch.add.iter_mut().for_each(|(spec, _)| spec.prompt = "x".repeat(10_000));
    let mut tasks = before;
    let error = loop {
        match store.commit(&batch).await {
            Ok(ids) => tasks += ids.len(),
            Err(error) => break error,
        }
        assert!(tasks < 10_000, "it never fills up");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert_eq!(store.live_tasks().await.expect("readable").len(), tasks, "the failed batch left nothing");
    tasks
}

#[tokio::test]
async fn a_full_database_refuses_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory).await;
    sqlx::query("PRAGMA max_page_count = 200").execute(&store.writer).await.expect("set");
    let tasks = fill_up(&store).await;
    sqlx::query("PRAGMA max_page_count = 100000").execute(&store.writer).await.expect("set");
    store.commit(&adding(&["a"])).await.expect("there is room again");
    store.close().await;
    assert_eq!(open(&directory).await.live_tasks().await.expect("readable").len(), tasks + 1);
}

/// A small file system of its own, where this process may mount one; unmounted on drop.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(directory.path()).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        return crate::skip::skip("a full disk under the store: this process may not mount a small file system");
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 300_000]).expect("written");
    let store = open(&disk.0).await;
    let tasks = fill_up(&store).await;
    assert_eq!(fill_up(&store).await - tasks, 0, "it stays full, and says so again");
    fs::remove_file(&ballast).expect("removed");
    store.commit(&adding(&["a"])).await.expect("there is room again");
    store.close().await;
    let store = open(&disk.0).await;
    assert_eq!(store.live_tasks().await.expect("readable").len(), tasks + 1);
    store.close().await;
}

#[tokio::test]
async fn a_commit_that_is_given_up_leaves_the_store_usable() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory).await;
    let batch = adding(&["a"; 2000]);
    tokio::select! {
        biased;
        _ = store.commit(&batch) => panic!("too fast to be given up"),
        () = tokio::task::yield_now() => {}
    }
    store.commit(&Batch::default()).await.expect("usable");
    assert_eq!(store.live_tasks().await.expect("readable"), []);
}

/// Lists stay fast with many tasks because each follows an index; a plan that scans a table or sorts it fails here.
#[tokio::test]
async fn every_list_follows_an_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory).await;
    let plans = [
        (read::LIVE, "tasks_live"),
        (read::PAGE, "INTEGER PRIMARY KEY"),
        (read::PAGE_IN_STATE, "tasks_by_state"),
        (read::PAGE_OF_CLAIMED, "claims"),
        (read::PAGE_OF_INSTANCE_CLAIMED, "tasks_for_instance"),
        (read::PAGE_OF_GROUP, "terms_of_group"),
        (queue::LAST_PEAKS, "attempts_by_peak"),
        (read::PAGE_OF_INSTANCE, "tasks_on_instance"),
        (read::PAGE_OF_INSTANCE_IN_STATE, "tasks_for_instance"),
        (read::HISTORY, "events_of_instance"),
        (read::SPENT, "COVERING INDEX attempts_spent"),
    ];
    for (sql, index) in plans {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&store.writer).await.expect("explained");
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{sql}: {plan:#?}");
        let scans =
            |line: &String| line.starts_with("SCAN tasks") && !line.contains("INDEX") || line.starts_with("SCAN attempts") || line.starts_with("SCAN events");
        assert!(!plan.iter().any(scans), "{sql}: {plan:#?}");
        assert!(index != "tasks_by_state" || !plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}: {plan:#?}");
    }
}

#[tokio::test]
async fn what_the_first_schema_holds_survives_the_later_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let first = sqlx::migrate!("./migrations").iter().next().cloned().expect("the first");
    let migrator = sqlx::migrate::Migrator { migrations: vec![first].into(), ..sqlx::migrate::Migrator::DEFAULT };
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true).foreign_keys(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("made");
    migrator.run(&pool).await.expect("schema 1");
    let row = "INSERT INTO tasks (id, kind, title, created, state, reason, finished, cost, prompt) VALUES (7, 'task', 't', 1, 'failed', 'oom', 2, 5, 'p')";
    let attempt = "INSERT INTO attempts (task, number, instance, invocation, assigned, outcome, reason, transient, detail, started, finished, cost, tokens, text) \
                   VALUES (7, 1, 'a', '0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', 1, 'failed', 'oom', 0, 'd', 1, 2, 5, '{}', 'said')";
    for sql in [row, attempt, "UPDATE sqlite_sequence SET seq = 41 WHERE name = 'tasks'"] {
        sqlx::query(sql).execute(&pool).await.expect(sql);
    }
    pool.close().await;
    let store = open(&directory).await;
    let task = store.task(TaskId(7)).await.expect("read").expect("there");
    assert_eq!((task.spec.prompt.as_str(), task.task.cost.0, task.detail.as_str()), ("p", 5, "d"));
    let attempts = store.attempts(TaskId(7)).await.expect("read");
    assert_eq!(attempts.first().and_then(|a| a.report.as_ref()).map(|r| (r.text.as_str(), r.work.is_none())), Some(("said", true)));
    // The number of a task that was pruned is not given again; and a pruned task still takes its attempts with it.
    assert_eq!(store.commit(&adding(&["x"])).await.expect("added"), [TaskId(42)]);
    store.prune("2030-01-01T00:00:00Z".parse().expect("a time")).await.expect("pruned");
    assert_eq!(store.attempts(TaskId(7)).await.expect("read"), []);
}

#[tokio::test]
async fn worktrees_are_kept_until_they_are_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory).await;
    let name: crate::core::ids::InstanceName = "a-b".parse().expect("a name");
    let seen = StoredWorktree {
        repository: "r".to_owned(),
        directory: "/srv/a".to_owned(),
        branch: Some("b".to_owned()),
        bytes: Some(7),
        measured: Some("2026-01-01T00:00:00Z".parse().expect("a time")),
    };
    let put = |seen: Option<StoredWorktree>| Batch { worktrees: vec![(name.clone(), seen)], ..Batch::default() };
    store.commit(&put(Some(seen.clone()))).await.expect("stored");
    // What could not be measured this time keeps its last figure.
    store.commit(&put(Some(StoredWorktree { bytes: None, branch: None, ..seen.clone() }))).await.expect("stored");
    store.close().await;
    let store = open(&directory).await;
    assert_eq!(store.worktrees().await.expect("read"), [(name.clone(), StoredWorktree { branch: None, ..seen })]);
    store.commit(&put(None)).await.expect("stored");
    assert_eq!(store.worktrees().await.expect("read"), []);
}
