//! What a lock costs: taking and giving back one among a growing number of others, with 100 requests waiting, and durably on
//! disk. Prints one JSON object.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use clauded::core::lock::{Acquired, Bond, Effect, LockId, Locks, Mode, Owner, Pattern, Request, Scope};
use clauded::platform::store::{Batch, SqliteStore};
use jiff::Timestamp;
use std::time::{Duration, Instant};

const HELD: [usize; 4] = [0, 1_000, 10_000, 100_000];
const ROUNDS: usize = 2_000;

fn owner(n: usize) -> Owner {
    Owner::Person { uid: u32::try_from(n).ok(), name: format!("owner-{n}") }
}

fn request(n: usize, pattern: Pattern) -> Request {
    let scope = Scope { place: "shop".into(), pattern };
    Request { scope, mode: Mode::Exclusive, owner: owner(n), bond: Bond::default(), reason: String::new(), ttl: Duration::from_secs(3600), priority: 0 }
}

fn path(n: usize) -> Pattern {
    Pattern::path(&format!("src/part-{}/module-{}/file-{n}.rs", n % 7, n % 100)).unwrap()
}

/// Files of many owners.
fn table(held: usize) -> Locks {
    let mut locks = Locks::default();
    for n in 0..held {
        assert!(matches!(locks.acquire(request(n / 100, path(n)), false, Timestamp::UNIX_EPOCH).0, Acquired::Created(_)));
    }
    locks
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
        let next = effects.iter().find_map(|effect| if let Effect::Answer(_, clauded::core::lock::Answer::Granted(id), _) = effect { Some(*id) } else { None });
        holder = (next.unwrap(), 2_000_000 + (n + 1) % 101);
        assert!(matches!(locks.acquire(request(2_000_000 + n % 101, wanted()), true, Timestamp::UNIX_EPOCH).0, Acquired::Waits(_)));
    });
    for n in 0..=100 {
        let own: Vec<LockId> = locks.iter().filter(|lock| lock.owner == owner(2_000_000 + n)).map(|lock| lock.id).collect();
        own.into_iter().for_each(|id| drop(locks.release(id, &owner(2_000_000 + n), false, Timestamp::UNIX_EPOCH)));
    }
    cost
}

/// Seconds of a lock that is on disk when it is answered.
async fn durable(locks: &mut Locks) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("locks.db")).await.unwrap();
    let begun = Instant::now();
    for n in 0..500u32 {
        let (_, effects) = locks.acquire(request(3_000_000, Pattern::path(&format!("d-{n}")).unwrap()), false, Timestamp::UNIX_EPOCH);
        let changes = effects.into_iter().filter_map(|effect| if let Effect::Save(change) = effect { Some(change) } else { None }).collect();
        store.commit_with(&Batch { locks: changes, ..Batch::default() }, |_| Batch::default()).await.unwrap();
    }
    begun.elapsed().as_secs_f64() / 500.0
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows: Vec<_> = HELD
        .into_iter()
        .map(|held| {
            let mut locks = table(held);
            let file = take_and_give_back(&mut locks, |n| Pattern::path(&format!("new/file-{n}.rs")).unwrap());
            let glob = take_and_give_back(&mut locks, |n| Pattern::glob(&format!("new/module-{n}/**/*.rs")).unwrap());
            let refused = each(ROUNDS, |n| drop(locks.acquire(request(1_000_000, if held == 0 { path(n) } else { path(n % held) }), false, Timestamp::UNIX_EPOCH)));
            let everything = each(3, |_| drop(locks.acquire(request(1_000_001, Pattern::glob("**").unwrap()), false, Timestamp::UNIX_EPOCH)));
            let waiting = from_hand_to_hand(&mut locks);
            let durable = runtime.block_on(durable(&mut locks));
            serde_json::json!({ "held": held, "file_s": file, "glob_s": glob, "refused_s": refused, "everything_s": everything, "waiting_s": waiting, "durable_s": durable })
        })
        .collect();
    println!("{}", serde_json::Value::from(rows));
}
