//! Kills of everything at random moments; after each, nothing acknowledged is lost and nothing runs twice at once.

use crate::world::{World, environment, kill, processes};
use std::collections::BTreeSet;
use std::fs;

/// Kills; the seed is printed, and taken from CLAUDED_CHAOS_SEED to repeat a run.
const KILLS: usize = 100;
/// Tasks at most, so that all of them can end.
const TASKS: usize = 120;
const INSTANCES: usize = 4;

/// xorshift64*: all that is asked of it is to be repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

#[test]
fn no_task_is_lost_and_none_runs_twice_at_once() {
    let seed = std::env::var("CLAUDED_CHAOS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()) | 1);
    eprintln!("CLAUDED_CHAOS_SEED={seed}");
    let mut random = Random(seed);
    let mut world = World::new("[profiles.sh]\nagent = \"command\"\ncommand = [\"/bin/sh\", \"-s\"]\nkill-grace = \"1s\"\n[defaults]\nprofile = \"sh\"\n");
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("i{n}")).collect();
    for name in &names {
        world.instance(name);
    }
    let marks = world.path("marks");
    fs::create_dir(&marks).expect("made");
    let mut tasks = BTreeSet::new();
    let mut killed = [0; 3];
    for round in 0.. {
        if killed.iter().sum::<usize>() >= KILLS {
            break;
        }
        // The agent holds a lock named after its task for as long as it runs: a second one at the same time is a violation.
        let script = format!(
            "t={0}/$CLAUDED_TASK; exec 9>$t.lock; flock -n 9 || {{ echo twice >> {0}/violations; exit 1; }}; sleep 0.$(( $$ % 5 + 1 )); echo done >> $t.done",
            marks.display()
        );
        if tasks.len() < TASKS {
            let added = world.ctl(&["task", "add", "--any", &script]);
            if added.status.success() {
                tasks.insert(String::from_utf8_lossy(&added.stdout).trim().to_owned());
            }
        }
        // A moment that nobody chose.
        std::thread::sleep(std::time::Duration::from_millis(random.below(80)));
        match random.below(10) {
            0 | 1 => {
                world.end_daemon("KILL");
                world.start_daemon();
                killed[0] += 1;
            }
            2 => killed[1] += kill_one(&world, "clauded-runner", &mut random),
            _ => killed[2] += kill_one(&world, "sh", &mut random),
        }
        assert!(!marks.join("violations").exists(), "round {round}: a task ran twice at once");
    }
    eprintln!("killed: clauded {}, runners {}, agents {}", killed[0], killed[1], killed[2]);
    assert!(killed[0] >= 10 && killed[1] >= 4 && killed[2] >= 20, "too little was killed to prove anything: {killed:?}");
    for name in &names {
        // A runner that was killed too often has been given up, as it should; start it again as an operator would.
        let _ = world.ctl(&["start", name]);
    }
    for task in &tasks {
        let shown = world.wait(task);
        let state = shown["state"].as_str().unwrap_or_default();
        assert!(state == "succeeded" || (state == "failed" && shown["reason"] == "lost"), "{shown:#}");
        let done = fs::read_to_string(marks.join(format!("{task}.done"))).unwrap_or_default().lines().count();
        assert!(state != "succeeded" || done >= 1, "task {task} is said to have succeeded and has not run to its end: {shown:#}");
    }
    assert!(!marks.join("violations").exists(), "a task ran twice at once");
    let mark = world.path("").into_os_string().into_encoded_bytes();
    for name in &names {
        world.ok(&["stop", name]);
    }
    let left: Vec<u32> = processes().filter(|p| *p != world.daemon_pid() && environment(*p).windows(mark.len()).any(|w| w == mark)).collect();
    assert!(left.is_empty(), "processes are left: {left:?}");
}

/// Kills one process of this world with that name, if there is one; answers how many it killed.
fn kill_one(world: &World, name: &str, random: &mut Random) -> usize {
    let mark = world.path("").into_os_string().into_encoded_bytes();
    let named = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    let found: Vec<u32> = processes().filter(named).filter(|pid| environment(*pid).windows(mark.len()).any(|w| w == mark)).collect();
    if found.is_empty() {
        return 0;
    }
    let at = usize::try_from(random.below(u64::try_from(found.len()).expect("few"))).expect("few");
    kill("KILL", found[at]);
    1
}
