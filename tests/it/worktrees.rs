//! Several instances on one real repository: a branch for each task, nothing lost whoever is killed.

use crate::world::{World, kill};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]).args(arguments).current_dir(directory);
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A world with a repository `shop` of one commit, and the instances that work on it.
fn world(instances: &[&str], more: &str) -> World {
    let mut world = World::without_daemon("");
    let repository = world.path("repository");
    fs::create_dir(&repository).expect("mkdir");
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["commit", "--quiet", "--allow-empty", "-m", "first"]);
    let stanzas: String = instances.iter().map(|name| format!("[instances.{name}]\nrepository = \"shop\"\n")).collect();
    world.configure(&format!("[repositories.shop]\npath = \"{}\"\n{more}\n{stanzas}", repository.display()));
    world.start_daemon();
    world
}

fn add(world: &World, arguments: &[&str]) -> String {
    world.ok(&[&["task", "add"], arguments].concat()).trim().to_owned()
}

/// What the last attempt at a task left in its repository.
fn left(world: &World, task: &str) -> Value {
    let shown = world.json(&["task", "show", task]);
    shown["history"].as_array().and_then(|history| history.last()).map(|last| last["work"].clone()).unwrap_or_default()
}

#[test]
fn each_task_has_its_branch_on_one_repository() {
    let world = world(&["a", "b", "c"], "verify = \"true\"");
    world.ok(&["start", "a", "b", "c"]);
    let tasks: Vec<String> = (0..6).map(|n| add(&world, &["--type", "feature", "--title", &format!("Number {n}"), &format!("write {n}.txt {n}")])).collect();
    let mut branches = std::collections::BTreeSet::new();
    for (n, task) in tasks.iter().enumerate() {
        world.wait(task);
        let work = left(&world, task);
        let branch = work["branch"].as_str().expect("a branch").to_owned();
        let on = world.json(&["task", "show", task])["placed_on"].as_str().expect("an instance").to_owned();
        let id = world.json(&["status", &on])["id"].as_str().expect("an ID").to_owned();
        assert_eq!(branch, format!("claude-{id}/feat/number-{n}"));
        assert_eq!(git(&world.path("repository"), &["show", &format!("{branch}:{n}.txt")]), n.to_string());
        assert_eq!((work["commits"].as_u64(), work["verify"]["passed"].as_bool()), (Some(1), Some(true)), "{work}");
        assert!(work["disk_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
        branches.insert(branch);
    }
    assert_eq!(branches.len(), 6);
    assert_eq!(git(&world.path("repository"), &["status", "--porcelain"]), "");
    let shown = world.ok(&["task", "show", &tasks[0]]);
    assert!(shown.contains("in shop, 1 commit, ") && shown.contains("A 0.txt") && shown.contains("passed"), "{shown}");
}

#[test]
fn a_killed_runner_goes_on_in_the_same_dirty_tree() {
    let world = world(&["a"], "");
    world.ok(&["start", "a"]);
    let go = world.path("go");
    let task = add(&world, &["--title", "Long", &format!("write first.txt 1\nawait {}\nwrite second.txt 2", go.display())]);
    world.running(&task);
    let first = world.path("worktrees/a/first.txt");
    let until = std::time::Instant::now() + crate::world::DEADLINE;
    while !first.exists() {
        assert!(std::time::Instant::now() < until, "{}", world.log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    kill("KILL", world.runner_pid("a"));
    fs::write(&go, "").expect("write");
    world.wait(&task);
    let work = left(&world, &task);
    assert_eq!(work["commits"], 1, "{work}");
    let files: Vec<_> = work["files"].as_array().expect("files").iter().map(|file| file["path"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(files, ["first.txt", "second.txt"]);
    assert!(work["rescue"].is_null(), "nothing was left over: {work}");
}

#[test]
fn work_that_does_not_pass_its_check_is_kept_and_the_task_says_why() {
    let world = world(&["a"], "verify = [\"sh\", \"-c\", \"echo never good; exit 7\"]");
    world.ok(&["start", "a"]);
    let task = add(&world, &["--title", "Bad", "write x.txt x"]);
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["reason"].as_str()), (Some("failed"), Some("verify-failed")), "{shown}");
    assert_eq!(shown["detail"], "its work does not pass its check (run 3 times): exit status 7: never good");
    let work = left(&world, &task);
    assert_eq!(git(&world.path("repository"), &["show", &format!("{}:x.txt", work["rescue"].as_str().expect("kept"))]), "x");
    assert_eq!(work["verify"]["runs"], 3);
}

#[test]
fn worktrees_are_listed_and_go_when_nothing_is_lost_with_them() {
    let world = world(&["a", "b"], "");
    world.ok(&["start", "a", "b"]);
    for name in ["a", "b"] {
        let task = add(&world, &["--instance", name, "--title", name, &format!("write {name}.txt x")]);
        assert_eq!(world.wait(&task)["state"], "succeeded");
    }
    let trees = world.json(&["worktree", "list"]);
    let branch = trees[0]["branch"].as_str().expect("a branch").to_owned();
    assert!(trees[0]["instance"] == "a" && branch.ends_with("/task/a") && trees[0]["disk_bytes"].as_u64().is_some_and(|n| n > 0), "{trees}");
    assert!(world.ok(&["metrics"]).contains("clauded_worktree_disk_bytes{instance=\"a\"} "));

    let why = |fates: &Value, name: &str| {
        let fate = fates.as_array().expect("fates").iter().find(|fate| fate["instance"] == name).expect("it is there").clone();
        (fate["goes"].as_bool().unwrap_or_default(), fate["why"].as_str().unwrap_or_default().to_owned())
    };
    let fates = world.json(&["worktree", "gc"]);
    assert_eq!(why(&fates, "a"), (false, "its instance runs".to_owned()));
    assert!(world.fails(7, &["worktree", "remove", "a"]).contains("a runs; stop it first: claudectl stop a"));

    world.ok(&["stop", "a", "b"]);
    // One that waits is not given to a runner that is there for its worktree alone.
    let waits = add(&world, &["--instance", "b", "--title", "later", "write later.txt x"]);
    fs::write(world.path("worktrees/b/by-hand.txt"), "x").expect("write");
    git(&world.path("repository"), &["merge", "--quiet", &branch]);
    let dry = world.json(&["worktree", "gc", "--dry-run"]);
    assert_eq!(why(&dry, "a"), (true, "it is clean, and the base contains all of it".to_owned()));
    assert_eq!(why(&dry, "b"), (false, "it has uncommitted changes".to_owned()));
    assert!(world.path("worktrees/a/a.txt").exists(), "a dry run removes nothing");
    let refused = world.fails(7, &["worktree", "remove", "b"]);
    assert!(refused.contains("the worktree of b stays: it has uncommitted changes"), "{refused}");

    assert!(why(&world.json(&["worktree", "gc"]), "a").0);
    assert!(!world.path("worktrees/a").exists() && world.path("worktrees/b/by-hand.txt").exists());
    assert_eq!(git(&world.path("repository"), &["show", &format!("{branch}:a.txt")]), "x");
    assert!(!git(&world.path("repository"), &["worktree", "list"]).contains("worktrees/a"));
    assert_eq!(world.json(&["task", "show", &waits])["attempts"], 0);
    // An instance whose worktree has gone has it again when it starts; and the task that waited is done in a clean one.
    world.ok(&["start", "a", "b"]);
    assert_eq!(world.wait(&waits)["state"], "succeeded");
    let task = add(&world, &["--instance", "a", "--title", "again", "write again.txt x"]);
    assert_eq!(world.wait(&task)["state"], "succeeded");
}

#[test]
fn a_worktree_is_added_by_one_command_and_a_wrong_one_changes_nothing() {
    let world = world(&["a"], "");
    let refused = world.fails(7, &["worktree", "add", "new", "--repository", "shp"]);
    assert!(refused.contains("there is no [repositories.shp]; did you mean \"shop\"?"), "{refused}");
    assert!(!world.path("clauded.toml.d/90-claudectl.toml").exists());
    world.ok(&["worktree", "add", "new", "--repository", "shop"]);
    assert!(world.path("worktrees/new/.git").exists());
    let written = fs::read_to_string(world.path("clauded.toml.d/90-claudectl.toml")).expect("written");
    assert!(written.contains("[instances.new]\nrepository = \"shop\"\n"), "{written}");
    assert_eq!(world.json(&["status", "new"])["active"], "inactive");
    world.ok(&["start", "new"]);
    let task = add(&world, &["--instance", "new", "--title", "x", "write x.txt x"]);
    assert_eq!(world.wait(&task)["history"][0]["work"]["commits"], 1);
}
