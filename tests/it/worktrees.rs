//! Several instances on one real repository: a branch for each task, nothing lost whoever is killed.

use crate::world::{World, kill};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]).args(arguments).current_dir(directory);
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A world with a repository `shop` of one commit, and the instances that work on it.
pub(crate) fn world(instances: &[&str], more: &str) -> World {
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
    world.until("the first file is written", || first.exists());
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

    let fates = world.json(&["worktree", "gc"]);
    assert_eq!(fate(&fates, "a"), (false, "its instance runs".to_owned()));
    assert!(world.fails(7, &["worktree", "remove", "a"]).contains("a runs; stop it first: claudectl stop a"));

    world.ok(&["stop", "a", "b"]);
    // One that waits is not given to a runner that is there for its worktree alone.
    let waits = add(&world, &["--instance", "b", "--title", "later", "write later.txt x"]);
    fs::write(world.path("worktrees/b/by-hand.txt"), "x").expect("write");
    git(&world.path("repository"), &["merge", "--quiet", &branch]);
    let dry = world.json(&["worktree", "gc", "--dry-run"]);
    assert_eq!(fate(&dry, "a"), (true, "it is clean, and the base contains all of it".to_owned()));
    assert_eq!(fate(&dry, "b"), (false, "it has uncommitted changes".to_owned()));
    assert!(world.path("worktrees/a/a.txt").exists(), "a dry run removes nothing");
    let refused = world.fails(7, &["worktree", "remove", "b"]);
    assert!(refused.contains("the worktree of b stays: it has uncommitted changes"), "{refused}");

    assert!(fate(&world.json(&["worktree", "gc"]), "a").0);
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

/// What becomes of an instance's worktree, and why.
fn fate(fates: &Value, name: &str) -> (bool, String) {
    let fate = fates.as_array().expect("fates").iter().find(|fate| fate["instance"] == name).expect("it is there").clone();
    (fate["goes"].as_bool().unwrap_or_default(), fate["why"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_worktree_stays_for_what_git_says_of_it_and_goes_by_hand_or_when_its_time_is_over() {
    let mut world = world(&["a", "b"], "keep = \"1h\"");
    world.ok(&["start", "a", "b"]);
    for name in ["a", "b"] {
        let task = add(&world, &["--instance", name, "--title", name, &format!("write {name}.txt x")]);
        assert_eq!(world.wait(&task)["state"], "succeeded");
    }
    world.ok(&["stop", "a", "b"]);
    let (a, repository) = (world.path("worktrees/a"), world.path("repository"));
    let branch = git(&a, &["branch", "--show-current"]);
    let why = |dry: &[&str]| fate(&world.json(&[&["worktree", "gc"], dry].concat()), "a");
    let young = (false, "its branch is not merged, and it was worked in 0 h ago".to_owned());
    assert_eq!(why(&[]), young);

    git(&repository, &["worktree", "lock", "--reason", "on a stick", &a.display().to_string()]);
    let locked = (false, "it is locked: on a stick".to_owned());
    assert_eq!(why(&[]), locked);
    let refused = world.fails(7, &["worktree", "remove", "a"]);
    assert!(refused.contains("the worktree of a stays: it is locked: on a stick"), "{refused}");
    git(&repository, &["worktree", "unlock", &a.display().to_string()]);

    // A commit that no branch has; and one that a tag keeps.
    git(&a, &["checkout", "--quiet", "--detach"]);
    git(&a, &["commit", "--quiet", "--allow-empty", "-m", "lonely"]);
    assert_eq!(why(&[]), (false, "no branch leads to the commit that is checked out".to_owned()));
    git(&a, &["tag", "kept"]);
    assert_eq!(why(&[]), young);
    git(&a, &["checkout", "--quiet", &branch]);

    // Half done, though nothing in it is changed.
    git(&a, &["bisect", "start"]);
    assert_eq!(why(&[]), (false, "a bisect in it is half done".to_owned()));
    git(&a, &["bisect", "reset"]);
    let refused = world.fails(3, &["worktree", "remove", "nobody"]);
    assert!(refused.contains("nobody has no worktree of a repository"), "{refused}");

    // By hand it goes although it is young and not merged: its branch has all of it.
    world.ok(&["worktree", "remove", "a"]);
    assert!(!a.exists() && world.path("worktrees/b/b.txt").exists());
    assert!(!git(&repository, &["worktree", "list"]).contains("worktrees/a"));
    assert_eq!(git(&repository, &["show", &format!("{branch}:a.txt")]), "x");
    world.event(|e| e["kind"] == "worktree-removed" && e["instance"] == "a");
    let listed = world.json(&["worktree", "list"]);
    assert!(listed[0]["instance"] == "a" && listed[0]["disk_bytes"].is_null() && listed[1]["instance"] == "b", "{listed}");

    // Its time is over at once.
    let text = fs::read_to_string(world.path("clauded.toml")).expect("readable").replace("keep = \"1h\"", "keep = \"1ms\"");
    fs::write(world.path("clauded.toml"), text).expect("written");
    world.end_daemon("TERM");
    world.start_daemon();
    let fates = world.json(&["worktree", "gc"]);
    assert_eq!(fate(&fates, "b"), (true, "it is clean, and nobody has worked in it for 0 h".to_owned()));
    assert!(!world.path("worktrees/b").exists());
}

#[test]
fn a_worktree_stays_while_processes_are_left_in_the_cgroup_of_its_instance() {
    let world = world(&["a"], "");
    world.ok(&["start", "a"]);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", world.runner_pid("a"))).expect("its groups");
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::")).filter(|group| group.contains("clauded-")) else {
        return crate::skip::skip("a cgroup with processes of an instance that has stopped: there is no cgroup v2 tree that can be written");
    };
    let group = clauded::platform::cgroup::mount().expect("it is mounted").join(own.trim_start_matches('/').trim_end_matches("/runner"));
    let task = add(&world, &["--instance", "a", "--title", "a", "write a.txt x"]);
    world.wait(&task);
    git(&world.path("repository"), &["merge", "--quiet", &git(&world.path("worktrees/a"), &["branch", "--show-current"])]);
    world.ok(&["stop", "a"]);
    // As if the kernel could not end one of its processes.
    let below = group.join("runner");
    fs::create_dir_all(&below).expect("made");
    let mut left = Command::new("sleep").arg("600").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("started");
    fs::write(below.join("cgroup.procs"), left.id().to_string()).expect("moved");
    let said = format!("processes are left in its cgroup {}: {}; end them first", group.display(), left.id());
    let dry = fate(&world.json(&["worktree", "gc", "--dry-run"]), "a");
    let wet = fate(&world.json(&["worktree", "gc"]), "a");
    let refused = world.ctl(&["worktree", "remove", "a"]);
    let lives = left.try_wait().expect("asked").is_none();
    left.kill().expect("killed");
    left.wait().expect("ended");
    assert_eq!((&dry, &wet), (&(false, said.clone()), &(false, said.clone())));
    assert_eq!(refused.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("the worktree of a stays: {said}")), "{refused:?}");
    assert!(lives && world.path("worktrees/a/a.txt").exists(), "nothing was started there that would have ended it");
    assert_eq!(fate(&world.json(&["worktree", "gc"]), "a"), (true, "it is clean, and the base contains all of it".to_owned()));
    assert!(!world.path("worktrees/a").exists());
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
