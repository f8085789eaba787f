//! Random numbers that can be repeated, and processes of a world that die of them.

use crate::world::{DEADLINE, World, alive, environment, kill, processes};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// xorshift64*: all that is asked of it is to be repeatable.
pub(crate) struct Random(u64);

impl Random {
    /// Begins with the seed in CLAUDED_CHAOS_SEED, or another one each time; it is printed, so that a run can be repeated.
    pub(crate) fn seeded() -> Self {
        let seed = std::env::var("CLAUDED_CHAOS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()) | 1);
        eprintln!("CLAUDED_CHAOS_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    pub(crate) fn below_len(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).expect("few"))).expect("few")
    }

    /// So many times of a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below_len(all.len())]
    }

    /// Brings them into some order.
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below_len(last + 1));
        }
    }
}

/// Every process of this world is the daemon, a runner that the daemon knows, or comes from one; what is on its way out may go.
pub(crate) fn all_accounted_for(world: &World, names: &[String]) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let known: BTreeSet<u32> =
            names.iter().filter_map(|name| world.json(&["status", name])["main_pid"].as_u64()).filter_map(|pid| u32::try_from(pid).ok()).collect();
        let strangers = strangers(world, &known);
        if strangers.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "nobody answers for {strangers:?}: {}\n{}", world.ok(&["status"]), world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process, its parent, and so on.
fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    let parent = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok();
    std::iter::successors(Some(pid), parent)
}

/// All processes of this world: they have its directory in their environment.
fn ours(world: &World) -> impl Iterator<Item = u32> {
    let mark = world.path("").into_os_string().into_encoded_bytes();
    processes().filter(move |pid| environment(*pid).windows(mark.len()).any(|w| w == mark))
}

/// The processes of this world that are neither the daemon nor come from one of those.
pub(crate) fn strangers(world: &World, known: &BTreeSet<u32>) -> Vec<u32> {
    let is_accounted = |pid: u32| pid == world.daemon_pid() || ancestors(pid).any(|pid| known.contains(&pid));
    ours(world).filter(|pid| alive(*pid) && !is_accounted(*pid)).collect()
}

fn is_named(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// Kills one process of this world with that name, if there is one.
pub(crate) fn kill_one(world: &World, name: &str, random: &mut Random) -> bool {
    let found: Vec<u32> = ours(world).filter(|pid| is_named(*pid, name)).collect();
    if !found.is_empty() {
        kill("KILL", random.of(&found));
    }
    !found.is_empty()
}

/// Kills the scripted agent of a task, if it is there.
pub(crate) fn kill_agent(world: &World, task: &str) -> bool {
    let mark = format!("CLAUDED_TASK={task}");
    let is_its = |pid: &u32| environment(*pid).split(|b| *b == 0).any(|variable| variable == mark.as_bytes());
    let agent = ours(world).filter(is_its).find(|pid| is_named(*pid, "scripted-agent"));
    agent.into_iter().for_each(|pid| kill("KILL", pid));
    agent.is_some()
}

/// Kills all processes of one attempt of this world at once, if one is under way.
pub(crate) fn kill_attempt(world: &World, random: &mut Random) -> bool {
    let of = |pid: u32| environment(pid).split(|b| *b == 0).find(|variable| variable.starts_with(b"CLAUDED_ATTEMPT=")).map(<[u8]>::to_vec);
    let all: Vec<(u32, Vec<u8>)> = ours(world).filter_map(|pid| Some((pid, of(pid)?))).collect();
    if all.is_empty() {
        return false;
    }
    let (_, attempt) = &all[random.below_len(all.len())];
    all.iter().filter(|(_, of)| of == attempt).for_each(|(pid, _)| kill("KILL", *pid));
    true
}
