//! Kills of everything at random moments; after each, nothing acknowledged is lost and nothing runs twice at once.

use crate::kills::{Random, all_accounted_for, kill_one, strangers};
use crate::world::{DEADLINE, World};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// What is killed, a hundred in all; the seed of their order is printed, and taken from CLAUDED_CHAOS_SEED to repeat a run.
const KILLS: [(&str, usize); 4] = [("clauded", 20), ("clauded-runner", 20), ("sh", 40), ("scripted-agent", 20)];
const INSTANCES: usize = 5;
/// The one whose agent has sessions to go on with.
const RESUMING: &str = "c";

#[test]
fn no_task_is_lost_and_none_runs_twice_at_once() {
    let mut random = Random::seeded();
    let mut world = World::new(
        "[profiles.sh]\nagent = \"command\"\ncommand = [\"/bin/sh\", \"-s\"]\nkill-grace = \"1s\"\n[defaults]\nprofile = \"sh\"\n[instances.c]\nprofile = \"claude\"\n",
    );
    let mut names: Vec<String> = (1..INSTANCES).map(|n| format!("i{n}")).collect();
    names.push(RESUMING.to_owned());
    for name in &names {
        world.instance(name);
    }
    let marks = world.path("marks");
    fs::create_dir(&marks).expect("made");
    let mut tasks = BTreeSet::new();
    let mut victims: Vec<&str> = KILLS.iter().flat_map(|(name, times)| std::iter::repeat_n(*name, *times)).collect();
    while !victims.is_empty() {
        let victim = victims.swap_remove(random.below_len(victims.len()));
        let deadline = Instant::now() + DEADLINE;
        loop {
            // One line for the shell, which the scripted agent says; the other is the same to both.
            // The shell holds a lock named after its task for as long as it runs: a second one at the same time is a violation.
            // Any other end of flock(1) than its own 99 is not: it may itself have been killed, as "sh", before its exec.
            // A child of the shell that is killed, as "sh" too, is no failure of the task's.
            let script = format!(
                "trap 'exit 0' EXIT; t={0}/$CLAUDED_TASK; exec 9>>$t.lock; until flock -n -E 99 9; do [ $? != 99 ] || {{ echo \"$t: $CLAUDED_ATTEMPT beside $(cat $t.lock)\" >> {0}/violations; exit 1; }}; done; echo $CLAUDED_ATTEMPT >&9; sleep 0.$(( $$ % 5 + 1 )); echo done >> $t.done\nsleep 0.2s",
                marks.display()
            );
            tasks.insert(world.ok(&["task", "add", "--any", &script]).trim().to_owned());
            // A moment that nobody chose.
            std::thread::sleep(Duration::from_millis(random.below(80)));
            if victim == "clauded" {
                world.end_daemon("KILL");
                world.start_daemon();
                break;
            }
            if kill_one(&world, victim, &mut random) {
                break;
            }
            assert!(Instant::now() < deadline, "no {victim} to kill: {}\n{}", world.ok(&["status"]), world.log());
            // Runners wait before they are started again, or were given up after too many kills; an operator starts them.
            for name in &names {
                let _ = world.ctl(&["start", name]);
            }
        }
        all_accounted_for(&world, &names);
        let violations = fs::read_to_string(marks.join("violations")).unwrap_or_default();
        assert_eq!(violations, "", "a task ran twice at once, {} kills before the end: {}", victims.len(), world.log());
        let listed = world.json(&["task", "list", "--all"]);
        let known: BTreeSet<String> = listed.as_array().expect("a list").iter().map(|t| t["id"].to_string().trim_matches('"').to_owned()).collect();
        assert!(tasks.is_subset(&known), "lost, {} kills before the end: {:?}", victims.len(), tasks.difference(&known).collect::<Vec<_>>());
    }
    for name in &names {
        // A runner that was killed too often has been given up, as it should; start it again as an operator would.
        let _ = world.ctl(&["start", name]);
    }
    let mut resumed = 0;
    for task in &tasks {
        let shown = world.wait(task);
        let history = shown["history"].as_array().expect("attempts");
        resumed += history.windows(2).filter(|two| two[0]["session"].is_string() && two[0]["session"] == two[1]["session"]).count();
        let state = shown["state"].as_str().unwrap_or_default();
        assert!(state == "succeeded" || (state == "failed" && shown["reason"] == "lost"), "{shown:#}");
        let done = fs::read_to_string(marks.join(format!("{task}.done"))).unwrap_or_default().lines().count();
        let by_shell = history.last().is_some_and(|attempt| attempt["instance"] != RESUMING);
        assert!(state != "succeeded" || !by_shell || done >= 1, "task {task} is said to have succeeded and has not run to its end: {shown:#}");
    }
    assert!(resumed > 0, "no session was gone on with");
    assert!(!marks.join("violations").exists(), "a task ran twice at once");
    for name in &names {
        world.ok(&["stop", name]);
    }
    let left = strangers(&world, &BTreeSet::new());
    assert!(left.is_empty(), "processes are left: {left:?}");
}
