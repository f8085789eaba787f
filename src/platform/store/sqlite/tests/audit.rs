//! The audit as it is stored: in the transaction of what it tells of, and whatever is done to the file shows.

use super::open;
use crate::core::audit::AuditQuery;
use crate::core::audit::{Actor, Broken, Chain, Entry, TRIMMED, Who};
use crate::core::ids::TaskId;
use crate::platform::store::Batch;
use crate::platform::store::contract::{adding, at, changing, name};
use crate::platform::store::sqlite::{SqliteStore, audit};
use sqlx::Row;
use tempfile::TempDir;

fn row(what: &str, second: i64) -> Entry {
    Actor::local(Who::User { uid: 1000, name: Some("ann".to_owned()), pid: 7 }).did(what, at(second))
}

fn rows(rows: Vec<Entry>) -> Batch {
    Batch { audit: rows, ..Batch::default() }
}

async fn with(count: i64) -> (TempDir, SqliteStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory).await;
    for n in 1..=count {
        store.commit(&rows(vec![row(&format!("w{n}"), n)])).await.expect("stored");
    }
    (directory, store)
}

async fn whats(store: &SqliteStore, filter: AuditQuery) -> Vec<String> {
    let found = store.audit(&AuditQuery { limit: 100, ..filter }).await.expect("read");
    found.into_iter().map(|row| row.entry.what).collect()
}

async fn broken(store: &SqliteStore, kept: Option<Chain>) -> Vec<Broken> {
    store.check_audit(kept).await.expect("checked").broken
}

#[tokio::test]
async fn rows_are_stored_with_what_they_tell_of_or_not_at_all() {
    let (directory, store) = with(2).await;
    let (_other, another) = with(0).await;
    another.commit(&adding(&["x"])).await.expect("stored");
    // A change of a task that is not stored here.
    let unknown = another.task(TaskId(1)).await.expect("read").expect("there").task;
    let bad = Batch { audit: vec![row("bad", 3)], ..changing(vec![crate::core::queue::Change::Task(Box::new(unknown))]) };
    store.commit(&bad).await.expect_err("refused");
    let both = store.commit_with(&Batch { audit: vec![row("a", 4)], ..adding(&["x"]) }, |_| rows(vec![row("b", 5), row("c", 6)])).await;
    assert_eq!(both.expect("stored"), [TaskId(1)]);
    let expected = ["w1", "w2", "a", "b", "c"];
    let all = AuditQuery { after: Some(0), ..AuditQuery::default() };
    assert_eq!(whats(&store, all.clone()).await, expected);
    let head = store.audit_head().await.expect("read");
    assert_eq!((head.seq, *store.audit_heads().borrow()), (5, head));
    store.close().await;
    let store = open(&directory).await;
    assert_eq!(*store.audit_heads().borrow(), head, "known from the start");
    store.commit(&rows(vec![row("d", 7)])).await.expect("stored");
    let check = store.check_audit(Some(head)).await.expect("checked");
    assert_eq!((check.broken, check.rows, check.first, check.head_compared), (vec![], 6, 1, true));
}

#[tokio::test]
async fn whatever_is_done_to_the_file_shows_at_the_row() {
    let cases: [(&'static str, Broken); 8] = [
        ("UPDATE audit SET who = 'user:bob' WHERE seq = 3", Broken::Changed(3)),
        ("UPDATE audit SET at = at + 1 WHERE seq = 3", Broken::Changed(3)),
        ("UPDATE audit SET details = '{\"x\":1}' WHERE seq = 5", Broken::Changed(5)),
        ("UPDATE audit SET hash = upper(hash) || 'x' WHERE seq = 2", Broken::Changed(2)),
        ("DELETE FROM audit WHERE seq = 4", Broken::Missing { expected: 4, found: 5 }),
        (
            "UPDATE audit SET seq = CASE seq WHEN 2 THEN -3 WHEN 3 THEN 2 ELSE seq END WHERE seq IN (2, 3); UPDATE audit SET seq = 3 WHERE seq = -3",
            Broken::Changed(2),
        ),
        ("DELETE FROM audit WHERE seq <= 2", Broken::Missing { expected: 1, found: 3 }),
        ("INSERT INTO audit_anchor SELECT 1, seq, hash FROM audit WHERE seq = 2; DELETE FROM audit WHERE seq <= 2", Broken::Beheaded(2)),
    ];
    for (sql, expected) in cases {
        let (_directory, store) = with(6).await;
        let head = store.audit_head().await.expect("read");
        assert_eq!(broken(&store, Some(head)).await, []);
        for part in sql.split("; ") {
            store.alter(part).await;
        }
        assert_eq!(broken(&store, Some(head)).await.first(), Some(&expected), "{sql}");
    }
    // The end cut off: what is left fits, and only the head that is kept apart tells.
    let (_directory, store) = with(6).await;
    let head = store.audit_head().await.expect("read");
    store.alter("DELETE FROM audit WHERE seq > 4").await;
    assert_eq!(broken(&store, None).await, []);
    assert_eq!(broken(&store, Some(head)).await, [Broken::Head(6)]);
    // …or, if clauded still runs, the gap to the next row.
    store.commit(&rows(vec![row("later", 9)])).await.expect("stored");
    assert_eq!(broken(&store, None).await, [Broken::Missing { expected: 5, found: 7 }]);
    // All hashes made anew from an altered row on: only the head tells.
    let (_directory, store) = with(3).await;
    let head = store.audit_head().await.expect("read");
    assert_eq!(broken(&store, Some(Chain { seq: 3, hash: "ab".repeat(32).parse().expect("a hash") })).await, [Broken::Head(3)]);
    assert!(store.has_audit(head).await.expect("read") && !store.has_audit(Chain { seq: 4, ..head }).await.expect("read"));
}

#[tokio::test]
async fn the_oldest_rows_go_by_age_and_by_number_and_the_rest_still_fits() {
    let (_directory, store) = with(20).await;
    let early = store.audit_head().await.expect("read");
    assert_eq!(store.trim_audit(at(1), 100).await.expect("nothing to do"), 0);
    assert_eq!(store.trim_audit(at(6), 100).await.expect("trimmed"), 5, "those of before the sixth second");
    assert_eq!(store.trim_audit(at(6), 100).await.expect("nothing to do"), 0);
    assert_eq!(store.trim_audit(at(0), 10).await.expect("trimmed"), 7, "21 rows, and the one that tells of it");
    let left = whats(&store, AuditQuery { after: Some(0), ..AuditQuery::default() }).await;
    assert_eq!((left.len(), left.first().map(String::as_str), left.last().map(String::as_str)), (10, Some("w13"), Some(TRIMMED)));
    let check = store.check_audit(Some(early)).await.expect("checked");
    assert_eq!((check.broken, check.first, check.rows, check.head_compared), (vec![], 13, 10, true));
    let check = store.check_audit(Some(Chain { seq: 3, ..early })).await.expect("checked");
    assert!(check.broken.is_empty() && !check.head_compared);
    store.alter("UPDATE audit_anchor SET seq = 13, hash = (SELECT hash FROM audit WHERE seq = 13)").await;
    store.alter("DELETE FROM audit WHERE seq = 13").await;
    assert_eq!(broken(&store, None).await, [Broken::Beheaded(13)], "no row tells of that");
    let (_directory, store) = with(3).await;
    assert_eq!(store.trim_audit(at(1000), 100).await.expect("trimmed"), 3);
    assert_eq!(store.trim_audit(jiff::Timestamp::MAX, 100).await.expect("nothing to do"), 0, "the row that tells of it stays alone");
    assert_eq!(broken(&store, None).await, []);
    store.commit(&rows(vec![row("next", 5000)])).await.expect("stored");
    assert_eq!(broken(&store, None).await, []);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_both_ways() {
    let (_directory, store) = with(0).await;
    let (a, b) = (name("a"), name("b"));
    let agent = Actor::runner(a.clone()).did("y", at(4)).of_task(Some(TaskId(2))).of_instance(Some(&b)).of("lock x");
    store.commit(&rows(vec![row("x", 1).of_instance(Some(&a)), row("y", 2).of_task(Some(TaskId(1))), row("z", 3), agent])).await.expect("stored");
    let all = AuditQuery::default;
    for (filter, expected) in [
        (all(), vec!["y", "z", "y", "x"]),
        (AuditQuery { after: Some(1), ..all() }, vec!["y", "z", "y"]),
        (AuditQuery { before: Some(3), ..all() }, vec!["y", "x"]),
        (AuditQuery { instance: Some(a), ..all() }, vec!["x"]),
        (AuditQuery { task: Some(TaskId(2)), ..all() }, vec!["y"]),
        (AuditQuery { who: Some("runner:a".into()), ..all() }, vec!["y"]),
        (AuditQuery { what: Some("y".into()), ..all() }, vec!["y", "y"]),
        (AuditQuery { since: Some(at(2)), until: Some(at(4)), ..all() }, vec!["z", "y"]),
    ] {
        assert_eq!(whats(&store, filter.clone()).await, expected, "{filter:?}");
    }
    let read = store.audit(&AuditQuery { task: Some(TaskId(2)), limit: 1, ..all() }).await.expect("read").remove(0);
    assert_eq!((read.seq, read.entry.subject.as_deref(), read.entry.instance.as_deref()), (4, Some("lock x"), Some("b")));
}

#[tokio::test]
async fn every_page_follows_an_index() {
    let (_directory, store) = with(0).await;
    let all = AuditQuery { limit: 10, ..AuditQuery::default() };
    for (filter, index) in [
        (all.clone(), "INTEGER PRIMARY KEY"),
        (AuditQuery { after: Some(5), ..all.clone() }, "INTEGER PRIMARY KEY"),
        (AuditQuery { since: Some(at(1)), until: Some(at(2)), ..all.clone() }, "INTEGER PRIMARY KEY"),
        (AuditQuery { instance: Some(name("a")), before: Some(9), ..all.clone() }, "INTEGER PRIMARY KEY"),
        (AuditQuery { task: Some(TaskId(1)), after: Some(9), ..all.clone() }, "audit_of_task"),
        (AuditQuery { who: Some("token".into()), ..all.clone() }, "INTEGER PRIMARY KEY"),
        (AuditQuery { what: Some("x".into()), ..all.clone() }, "INTEGER PRIMARY KEY"),
    ] {
        let explain = format!("EXPLAIN QUERY PLAN {}", audit::page(&filter).sql().as_str());
        let found = sqlx::query(sqlx::AssertSqlSafe(explain)).fetch_all(&store.writer).await.expect("explained");
        let plan: Vec<String> = found.iter().map(|row| row.get("detail")).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{filter:?}: {plan:#?}");
        assert!(!plan.iter().any(|line| line.starts_with("SCAN") || line.contains("TEMP B-TREE")), "{filter:?}: {plan:#?}");
    }
}
