//! Eight instances on one repository, a hundred tasks with dependencies and overlapping files, while clauded, runners and agents are
//! killed at random: every task ends once, no work is lost, no two hold one lock, no worktree is left dirty and unnamed.

mod proof;
mod work;

use crate::kills::{Random, kill_attempt, kill_one};
use crate::world::{DEADLINE, World};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use work::Task;

const INSTANCES: u64 = 8;
const TASKS: usize = 100;

/// What happens while they work.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// One more task.
    Add,
    /// A process with that name is killed. Of git that is the agent's or the runner's own.
    Kill(&'static str),
    /// All processes of an attempt are killed at once.
    Tree,
    Restart,
    Cancel,
}

const BLOWS: [(Blow, usize); 9] = [
    (Blow::Add, TASKS),
    (Blow::Kill("clauded"), 7),
    (Blow::Kill("clauded-runner"), 9),
    (Blow::Kill("sh"), 10),
    (Blow::Kill("git"), 8),
    (Blow::Kill("claudectl"), 3),
    (Blow::Tree, 5),
    (Blow::Restart, 3),
    (Blow::Cancel, 3),
];

fn git_command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(arguments).current_dir(directory);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

/// Runs git, which must succeed; answers its output.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = git_command(directory, arguments).output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?} in {}: {output:?}", directory.display());
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A world with a bare repository, some files on its `main`, and the instances that work on it.
fn world() -> World {
    let mut world = World::without_daemon("");
    let (root, seed) = (world.path(""), world.path("seed"));
    git(&root, &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
    git(&root, &["init", "--quiet", "--initial-branch=main", "seed"]);
    for file in work::FILES {
        fs::write(seed.join(file), "base\n").expect("written");
    }
    git(&seed, &["add", "--all"]);
    git(&seed, &["commit", "--quiet", "--message", "base"]);
    git(&seed, &["push", "--quiet", "../origin.git", "main"]);
    fs::create_dir(world.path("papers")).expect("made");
    let mut configuration = format!(
        "[repositories.shop]\nurl = \"file://{}\"\npush = \"origin\"\nlock-policy = \"refuse\"\nverify = [\"sh\", \"-c\", \"! ls broken-* 2>&1\"]\n\
         [profiles.sh]\nagent = \"command\"\ncommand = [\"/bin/sh\", \"-s\"]\nkill-grace = \"1s\"\nverify-attempts = 1\n[defaults]\nprofile = \"sh\"\n",
        world.path("origin.git").display()
    );
    for name in names() {
        configuration.push_str(&format!("[instances.{name}]\nrepository = \"shop\"\n"));
    }
    world.configure(&configuration);
    world.start_daemon();
    for name in names() {
        world.ok(&["start", &name]);
    }
    world
}

fn names() -> impl Iterator<Item = String> {
    (1..=INSTANCES).map(|n| format!("i{n}"))
}

#[test]
fn every_task_ends_once_and_no_work_is_lost_whoever_is_killed() {
    let mut random = Random::seeded();
    let mut world = world();
    let mut blows: Vec<Blow> = BLOWS.into_iter().flat_map(|(blow, times)| std::iter::repeat_n(blow, times)).collect();
    random.shuffle(&mut blows);
    let mut tasks: Vec<Task> = Vec::new();
    for blow in blows {
        // A moment that nobody chose.
        std::thread::sleep(Duration::from_millis(random.below(500)));
        match blow {
            Blow::Add => tasks.push(work::add(&world, &tasks, &mut random)),
            Blow::Kill("clauded") => {
                world.end_daemon("KILL");
                std::thread::sleep(Duration::from_millis(random.below(500)));
                world.start_daemon();
            }
            Blow::Kill(name) => until(&world, || kill_one(&world, name, &mut random)),
            Blow::Tree => until(&world, || kill_attempt(&world, &mut random)),
            Blow::Restart => {
                let name = format!("i{}", 1 + random.below(INSTANCES));
                // One that was given up is refused.
                let _ = world.ctl(&["restart", &name]);
            }
            Blow::Cancel if !tasks.is_empty() => {
                // It may have ended.
                let _ = world.ctl(&["task", "cancel", &tasks[random.below_len(tasks.len())].id]);
            }
            Blow::Cancel => {}
        }
    }
    let end = Instant::now() + 3 * DEADLINE;
    let has_ended = |task: &Value| ["succeeded", "failed", "cancelled"].contains(&task["state"].as_str().unwrap_or_default());
    loop {
        let listed = world.json(&["task", "list", "--all"]);
        let open: Vec<&Value> = listed.as_array().expect("a list").iter().filter(|task| !has_ended(task)).collect();
        if open.is_empty() {
            break;
        }
        if Instant::now() > end {
            let kept = proof::keep(&world);
            panic!("{open:#?} do not end; all of it is kept in {}\n{}", kept.display(), world.ok(&["status"]));
        }
        start(&world);
        std::thread::sleep(Duration::from_millis(200));
    }
    proof::hold(&mut world, &tasks);
}

/// Kills somebody as soon as there is one, if that is soon.
fn until(world: &World, mut kill: impl FnMut() -> bool) {
    if kill() {
        return;
    }
    start(world);
    let end = Instant::now() + Duration::from_secs(1);
    while !kill() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A runner that was killed too often is given up, as it should be; an operator starts it again.
fn start(world: &World) {
    for name in names() {
        let _ = world.ctl(&["start", &name]);
    }
}
