//! What a lock costs: taking and giving back one among a growing number of others, with 100 requests waiting, decided and durably
//! on disk. Prints one JSON object. Called with the path of a database, a place and a number, it fills that with so many locks.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use clauded::core::lock::{Acquired, Answer, Bond, Change, Effect, LockId, Locks, Mode, Owner, Pattern, Request, Scope};
use clauded::platform::store::{Batch, SqliteStore};
use jiff::Timestamp;
use std::time::{Duration, Instant};

const HELD: [usize; 4] = [0, 1_000, 10_000, 100_000];
const ROUNDS: usize = 2_000;
/// Commits that are timed.
const COMMITS: u32 = 500;

fn owner(n: usize) -> Owner {
    Owner::Person { uid: u32::try_from(n).ok(), name: format!("owner-{n}") }
}

fn request(n: usize, pattern: Pattern) -> Request {
    request_in("shop", n, pattern)
}

fn request_in(place: &str, n: usize, pattern: Pattern) -> Request {
    let scope = Scope { place: place.into(), pattern };
    Request { scope, mode: Mode::Exclusive, owner: owner(n), bond: Bond::default(), reason: String::new(), ttl: Duration::from_secs(3600), priority: 0 }
}

fn path(n: usize) -> Pattern {
    Pattern::path(&format!("src/part-{}/module-{}/file-{n}.rs", n % 7, n % 100)).unwrap()
}

/// Files of many owners, and what there is to store of them.
fn table(place: &str, held: usize, now: Timestamp) -> (Locks, Vec<Change>) {
    let (mut locks, mut changes) = (Locks::default(), Vec::new());
    for n in 0..held {
        let (acquired, effects) = locks.acquire(request_in(place, n / 100, path(n)), false, now);
        assert!(matches!(acquired, Acquired::Created(_)));
        changes.extend(saved(effects));
    }
    (locks, changes)
}

fn saved(effects: Vec<Effect>) -> Vec<Change> {
    effects.into_iter().filter_map(|effect| if let Effect::Save(change) = effect { Some(change) } else { None }).collect()
}

fn granted(effects: &[Effect]) -> Option<LockId> {
    effects.iter().find_map(|effect| if let Effect::Answer(_, Answer::Granted(id), _) = effect { Some(*id) } else { None })
}

async fn keep(store: &SqliteStore, locks: Vec<Change>) {
    store.commit_with(&Batch { locks, ..Batch::default() }, |_| Batch::default()).await.unwrap();
}

fn taken(acquired: &Acquired) -> Option<LockId> {
    match acquired {
        Acquired::Created(id) => Some(*id),
        _ => None,
    }
}

/// Seconds of one round.
fn each(rounds: usize, mut work: impl FnMut(usize)) -> f64 {
    let begun = Instant::now();
    (0..rounds).for_each(&mut work);
    begun.elapsed().as_secs_f64() / f64::from(u32::try_from(rounds).unwrap())
}

fn take_and_give_back(locks: &mut Locks, pattern: impl Fn(usize) -> Pattern) -> f64 {
    each(ROUNDS, |n| {
        let (acquired, _) = locks.acquire(request(1_000_000, pattern(n)), false, Timestamp::UNIX_EPOCH);
        locks.release(taken(&acquired).unwrap(), &owner(1_000_000), false, Timestamp::UNIX_EPOCH).unwrap();
    })
}

/// One file goes from hand to hand in a line of 100.
fn from_hand_to_hand(locks: &mut Locks) -> f64 {
    let wanted = || Pattern::path("hot.rs").unwrap();
    let first = locks.acquire(request(2_000_000, wanted()), false, Timestamp::UNIX_EPOCH).0;
    let mut holder = (taken(&first).unwrap(), 2_000_000);
    for n in 1..=100 {
        assert!(matches!(locks.acquire(request(2_000_000 + n, wanted()), true, Timestamp::UNIX_EPOCH).0, Acquired::Waits(_)));
    }
    let cost = each(ROUNDS, |n| {
        let effects = locks.release(holder.0, &owner(holder.1), false, Timestamp::UNIX_EPOCH).unwrap();
        holder = (granted(&effects).unwrap(), 2_000_000 + (n + 1) % 101);
        assert!(matches!(locks.acquire(request(2_000_000 + n % 101, wanted()), true, Timestamp::UNIX_EPOCH).0, Acquired::Waits(_)));
    });
    for n in 0..=100 {
        let own: Vec<LockId> = locks.iter().filter(|lock| lock.owner == owner(2_000_000 + n)).map(|lock| lock.id).collect();
        own.into_iter().for_each(|id| drop(locks.release(id, &owner(2_000_000 + n), false, Timestamp::UNIX_EPOCH)));
    }
    cost
}

/// Seconds of a step that is on disk when it is answered, among those locks: one is taken or given back; one is handed on in a
/// line of 100.
async fn durable(locks: &mut Locks, held: Vec<Change>) -> (f64, f64) {
    // On the disk of the working tree: /tmp may be memory.
    let directory = tempfile::tempdir_in("target").unwrap();
    let store = SqliteStore::open(&directory.path().join("locks.db")).await.unwrap();
    keep(&store, held).await;
    let begun = Instant::now();
    for n in 0..COMMITS / 2 {
        let (acquired, effects) = locks.acquire(request(3_000_000, Pattern::path(&format!("d-{n}")).unwrap()), false, Timestamp::UNIX_EPOCH);
        keep(&store, saved(effects)).await;
        keep(&store, saved(locks.release(taken(&acquired).unwrap(), &owner(3_000_000), false, Timestamp::UNIX_EPOCH).unwrap())).await;
    }
    let one = begun.elapsed().as_secs_f64() / f64::from(COMMITS);

    let wanted = || Pattern::path("handed-on.rs").unwrap();
    let (first, effects) = locks.acquire(request(4_000_000, wanted()), false, Timestamp::UNIX_EPOCH);
    keep(&store, saved(effects)).await;
    let mut holder = taken(&first).unwrap();
    for n in 1..=100 {
        assert!(matches!(locks.acquire(request(4_000_000 + n, wanted()), true, Timestamp::UNIX_EPOCH).0, Acquired::Waits(_)));
    }
    let begun = Instant::now();
    for n in 0..COMMITS as usize {
        let effects = locks.release(holder, &owner(4_000_000 + n % 101), false, Timestamp::UNIX_EPOCH).unwrap();
        holder = granted(&effects).unwrap();
        keep(&store, saved(effects)).await;
        assert!(matches!(locks.acquire(request(4_000_000 + n % 101, wanted()), true, Timestamp::UNIX_EPOCH).0, Acquired::Waits(_)));
    }
    let handed = begun.elapsed().as_secs_f64() / f64::from(COMMITS);
    store.close().await;
    (one, handed)
}

/// A database that a clauded begins with.
async fn fill(path: &str, place: &str, held: usize) {
    let store = SqliteStore::open(path.as_ref()).await.unwrap();
    keep(&store, table(place, held, Timestamp::now()).1).await;
    store.close().await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [path, place, held] = arguments.as_slice() {
        return runtime.block_on(fill(path, place, held.parse().unwrap()));
    }
    let rows: Vec<_> = HELD
        .into_iter()
        .map(|held| {
            let (mut locks, changes) = table("shop", held, Timestamp::UNIX_EPOCH);
            let file = take_and_give_back(&mut locks, |n| Pattern::path(&format!("new/file-{n}.rs")).unwrap());
            let glob = take_and_give_back(&mut locks, |n| Pattern::glob(&format!("new/module-{n}/**/*.rs")).unwrap());
            let refused =
                each(ROUNDS, |n| drop(locks.acquire(request(1_000_000, if held == 0 { path(n) } else { path(n % held) }), false, Timestamp::UNIX_EPOCH)));
            let everything = each(3, |_| drop(locks.acquire(request(1_000_001, Pattern::glob("**").unwrap()), false, Timestamp::UNIX_EPOCH)));
            let waiting = from_hand_to_hand(&mut locks);
            let (durable, handed) = runtime.block_on(durable(&mut locks, changes));
            serde_json::json!({
                "held": held, "file_s": file, "glob_s": glob, "refused_s": refused, "everything_s": everything, "waiting_s": waiting,
                "durable_s": durable, "handed_s": handed,
            })
        })
        .collect();
    println!("{}", serde_json::Value::from(rows));
}
