//! Teams: brought up by a name, worked with, scaled while they work, and taken down, one beside another.

use crate::world::World;
use serde_json::{Value, json};
use std::fs;

/// `gemini` is the shell: any command will do.
const GEMINI: &str = "[profiles.gemini]\ncommand = [\"/bin/sh\", \"-s\"]\n";

/// The names of a team's members with what `key` says of each.
fn members(team: &Value, key: &str) -> Vec<(String, Value)> {
    let members = team["members"].as_array().expect("members");
    members.iter().map(|member| (member["name"].as_str().expect("a name").to_owned(), member[key].clone())).collect()
}

fn names(team: &Value) -> Vec<String> {
    members(team, "name").into_iter().map(|(name, _)| name).collect()
}

fn pids(world: &World, names: &[String]) -> Vec<u32> {
    names.iter().map(|name| world.runner_pid(name)).collect()
}

fn all_are(pairs: &[(String, Value)], wanted: &str) -> bool {
    !pairs.is_empty() && pairs.iter().all(|(_, value)| value == wanted)
}

#[test]
fn two_classic_teams_work_beside_each_other() {
    let world = World::new(GEMINI);
    let (red, blue) = (world.worktree("red"), world.worktree("blue"));
    let up = world.json(&["team", "up", "red"]);
    assert_eq!(up["configuration"], "created", "{up:#}");
    assert_eq!(names(&up), ["boss", "gemini", "worker-1", "worker-2", "worker-3"].map(|member| format!("red-{member}")));
    assert!(all_are(&members(&up, "result"), "changed"), "{up:#}");
    let table = world.ok(&["team", "up", "blue", "--worker", "2"]);
    assert!(table.starts_with("blue (classic): memory") && table.contains("blue-worker-2") && !table.contains("blue-worker-3"), "{table}");

    // What is up stays as it is.
    let before = (fs::read_to_string(world.path("clauded.toml.d/team-red.toml")).expect("written"), pids(&world, &names(&up)));
    for same in [&["team", "up", "red"][..], &["team", "up", "red", "worker=3", "--template", "classic"]] {
        let again = world.json(same);
        assert!(again["configuration"] == "unchanged" && all_are(&members(&again, "result"), "unchanged"), "{again:#}");
    }
    assert_eq!((fs::read_to_string(world.path("clauded.toml.d/team-red.toml")).expect("there"), pids(&world, &names(&up))), before);

    // All members of a team work in its one worktree, and in no other.
    let tasks = ["red-worker-1", "red-worker-3", "blue-worker-1"].map(|name| world.add(name, &format!("write {name}.txt here\ncost 0.25")));
    for task in &tasks {
        assert_eq!(world.wait(task)["state"], "succeeded");
    }
    assert_eq!(world.wait(&world.add("red-gemini", "cat red-worker-1.txt red-worker-3.txt && ! cat blue-worker-1.txt"))["state"], "succeeded");
    assert!(red.join("red-worker-3.txt").exists() && blue.join("blue-worker-1.txt").exists());
    let shown = world.json(&["team", "status", "red"]);
    let cost: f64 = tasks[..2].iter().filter_map(|task| world.json(&["task", "show", task])["cost_usd"].as_f64()).sum();
    assert!(shown["cost_today_usd"].as_f64().is_some_and(|today| cost > 0.5 && (today - cost).abs() < 1e-6), "not {cost}: {shown:#}");
    assert!(all_are(&members(&shown, "active"), "active") && all_are(&members(&shown, "directory"), &red.to_string_lossy()), "{shown:#}");

    // Taking one down leaves the other at its work.
    let busy = world.add("blue-worker-2", "await go\nsay done");
    world.running(&busy);
    let blues = names(&world.json(&["team", "status", "blue"]));
    let runners = pids(&world, &blues);
    let down = world.json(&["team", "down", "red", "--remove"]);
    assert_eq!(names(&down), ["worker-3", "worker-2", "worker-1", "gemini", "boss"].map(|member| format!("red-{member}")));
    assert!(down["configuration"] == "changed" && all_are(&members(&down, "result"), "changed"), "{down:#}");
    assert_eq!(pids(&world, &blues), runners);
    fs::write(blue.join("go"), "").expect("written");
    let shown = world.wait(&busy);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("succeeded"), Some(1)), "{shown:#}");
    let left = world.json(&["team", "list"]);
    assert_eq!(left.as_array().expect("teams").iter().map(|team| &team["name"]).collect::<Vec<_>>(), ["blue"]);
    assert!(!world.path("clauded.toml.d/team-red.toml").exists() && red.join("red-worker-1.txt").exists(), "the worktree stays");
    assert!(world.fails(3, &["team", "status", "red"]).contains("claudectl team up red"));
    assert!(world.ok(&["status"]).lines().all(|line| !line.starts_with("red-") || !line.contains(" active")));
    let down = world.json(&["team", "down", "blue"]);
    assert!(down["configuration"] == "unchanged" && all_are(&members(&down, "result"), "changed"), "{down:#}");
    assert!(all_are(&members(&world.json(&["team", "down", "blue"]), "result"), "unchanged"));
}

#[test]
fn members_are_in_the_groups_of_their_team_and_role() {
    let world = World::new(
        "[teams.t]\nlimits = { tasks = 500 }\n[teams.t.members.w]\nreplicas = 2\nworktree = \"shared\"\n[teams.t.members.solo]\nworktree = \"shared\"\n",
    );
    world.worktree("t");
    world.ok(&["team", "up", "t"]);
    let group = |name: &str| fs::read_to_string(format!("/proc/{}/cgroup", world.runner_pid(name))).unwrap_or_default();
    let text = group("t-w-1");
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::")).filter(|group| group.contains("clauded-")) else {
        return crate::skip::skip("groups of teams: there is no cgroup v2 tree that can be written");
    };
    assert!(own.contains("/@t/@t-w/t-w-1"), "{own}");
    assert!(group("t-w-2").contains("/@t/@t-w/t-w-2") && group("t-solo").contains("/@t/t-solo"), "{}", group("t-solo"));
    let shown = world.json(&["team", "status", "t"]);
    assert!(shown["pids"].is_null() || shown["pids"].as_u64().is_some_and(|pids| pids >= 3), "{shown:#}");
    let caps = world.json(&["status", "t-w-1"])["caps"].clone();
    let of_team = caps.as_array().expect("caps").iter().find(|cap| cap["unit"] == "@t").cloned().expect("the team's own");
    assert!(of_team["tasks_max"].is_null() || of_team["tasks_max"] == 500, "{caps:#}");
    world.ok(&["team", "down", "t"]);
    let id = fs::read_to_string(world.path("state/supervisor/cgroup-id")).expect("an ID");
    let left = std::process::Command::new("find").args(["/sys/fs/cgroup", "-path", &format!("*/clauded-{id}/@t*")]).output().expect("found");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "a group is left");
}

#[test]
fn scaling_starts_new_ones_and_lets_those_that_are_too_many_end_first() {
    let mut world = World::new("[teams.t.members.w]\nreplicas = 1\nworktree = \"shared\"\n");
    let directory = world.worktree("t");
    world.ok(&["team", "up", "t"]);
    let scaled = world.json(&["team", "scale", "t", "w=4"]);
    assert_eq!((names(&scaled), scaled["configuration"].as_str()), (vec!["t-w-2".to_owned(), "t-w-3".to_owned(), "t-w-4".to_owned()], Some("changed")));
    assert!(all_are(&members(&scaled, "result"), "changed"), "{scaled:#}");
    assert!(world.json(&["team", "scale", "t", "w=4"])["configuration"] == "unchanged");

    // The idle ones go at once, the highest number first; the busy one ends its task, over a restart of clauded.
    let task = world.add("t-w-3", "await go\nsay done");
    world.running(&task);
    let scaled = world.json(&["team", "scale", "t", "w=1"]);
    let told: Vec<_> = members(&scaled, "result").into_iter().map(|(name, result)| format!("{name} {}", result.as_str().unwrap_or_default())).collect();
    assert_eq!(told, ["t-w-4 changed", "t-w-3 draining", "t-w-2 changed"]);
    let surplus = members(&world.json(&["team", "status", "t"]), "surplus");
    assert_eq!(surplus, [("t-w-1".to_owned(), json!(false)), ("t-w-3".to_owned(), json!(true))]);
    world.end_daemon("KILL");
    world.start_daemon();
    let after = world.json(&["events"]).as_array().and_then(|all| all.last()).map(|last| last["id"].clone()).expect("events");
    fs::write(directory.join("go"), "").expect("written");
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("succeeded"), Some(1)), "{shown:#}");
    world.event(|e| e["id"].as_i64() > after.as_i64() && e["kind"] == "instance-ended" && e["instance"] == "t-w-3");
    world.event(|e| e["id"].as_i64() > after.as_i64() && e["kind"] == "task-finished");
    assert_eq!(names(&world.json(&["team", "status", "t"])), ["t-w-1"]);

    // With --now its task goes on elsewhere.
    world.ok(&["team", "scale", "t", "w=2"]);
    fs::remove_file(directory.join("go")).expect("removed");
    let first = world.add("t-w-1", "await go\nsay first");
    world.running(&first);
    let task = world.ok(&["task", "add", "--any", "await go\nsay elsewhere"]).trim().to_owned();
    world.running(&task);
    assert_eq!(world.json(&["task", "show", &task])["placed_on"], "t-w-2");
    let scaled = world.json(&["team", "scale", "t", "w=1", "--now"]);
    assert_eq!(members(&scaled, "result"), [("t-w-2".to_owned(), json!("changed"))]);
    fs::write(directory.join("go"), "").expect("written");
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["placed_on"].as_str()), (Some("succeeded"), Some("t-w-1")), "{shown:#}");
    assert_eq!(world.wait(&first)["attempts"], 1);
}

#[test]
fn one_that_became_too_many_while_clauded_was_away_is_stopped_when_it_is_back() {
    let configured = |replicas| format!("[teams.t.members.w]\nreplicas = {replicas}\nworktree = \"shared\"\n");
    let mut world = World::new(&configured(2));
    world.worktree("t");
    world.ok(&["team", "up", "t"]);
    world.end_daemon("KILL");
    world.configure(&configured(1));
    world.start_daemon();
    world.event(|e| e["kind"] == "instance-ended" && e["instance"] == "t-w-2");
    assert_eq!(names(&world.json(&["team", "status", "t"])), ["t-w-1"]);
}

#[test]
fn what_is_wrong_with_a_team_is_told_and_leaves_no_trace() {
    let world = World::new("[instances.one]\n[teams.byhand.members.w]\nreplicas = 1\n");
    for (status, arguments, words) in [
        (7, &["team", "up", "one"][..], "its slice would be in that of the team one"),
        (7, &["team", "up", "x", "--template", "clasic"], "did you mean \"classic\"?"),
        (7, &["team", "up", "x", "--repository", "shop"], "there is no [repositories.shop]"),
        (7, &["team", "up", "x", "wroker=2"], "has no role wroker; it has boss, gemini, worker"),
        (7, &["team", "up", "x", "worker=101"], "from 0 to 100"),
        (7, &["team", "down", "byhand", "--remove"], "says [teams.byhand]; take it out there"),
        (3, &["team", "down", "nobody"], "there is no team nobody"),
        (3, &["team", "scale", "nobody", "w=1"], "there is no team nobody"),
        (2, &["team", "scale", "byhand", "w"], "is not a role and a number"),
        (2, &["team", "up", "a--b"], "joined by single dashes"),
    ] {
        let told = world.fails(status, arguments);
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    assert_eq!(fs::read_dir(world.path("clauded.toml.d")).expect("listed").count(), 0);

    // One member cannot start; the others do, and who asks is told.
    world.worktree("half-boss");
    fs::write(world.path("clauded.toml.d/half.toml"), "[teams.half.members.boss]\n[teams.half.members.w]\nreplicas = 1\n").expect("written");
    let told = world.fails(1, &["team", "up", "half"]);
    assert!(told.contains("half-w-1: ") && told.contains("worktrees/half-w-1"), "{told}");
    let shown = world.json(&["team", "status", "half"]);
    assert_eq!(members(&shown, "active"), [("half-boss".to_owned(), json!("active")), ("half-w-1".to_owned(), json!("failed"))]);
    let scaled = world.json(&["team", "scale", "byhand", "w=2"]);
    assert!(scaled["notes"][0].as_str().is_some_and(|note| note.contains("the team is down")) && names(&scaled).is_empty(), "{scaled:#}");
}

#[test]
fn a_team_that_tasks_wait_for_is_not_removed() {
    let world = World::new(GEMINI);
    world.worktree("x");
    world.ok(&["team", "up", "x", "worker=1"]);
    world.ok(&["team", "down", "x"]);
    let task = world.add("x-worker-1", "say hello");
    assert!(world.fails(7, &["team", "down", "x", "--remove"]).contains(&format!("would wait for ever: {task};")));
    assert!(world.path("clauded.toml.d/team-x.toml").exists());
    world.ok(&["task", "cancel", &task]);
    world.ok(&["team", "down", "x", "--remove"]);
    assert!(!world.path("clauded.toml.d/team-x.toml").exists());
}

/// git as a person would run it, in a directory; it must succeed.
fn git(directory: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]).args(arguments).current_dir(directory);
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn each_team_has_a_new_worktree_and_branch_of_the_repository_that_its_members_share() {
    let world = World::without_daemon("");
    let repository = world.path("shop");
    fs::create_dir(&repository).expect("made");
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["commit", "--quiet", "--allow-empty", "-m", "first"]);
    world.configure(&format!("{GEMINI}[repositories.shop]\npath = \"{}\"\n", repository.display()));
    let mut world = world;
    world.start_daemon();

    // All members of both come at once to worktrees that are not there yet.
    for team in ["red", "blue"] {
        let up = world.json(&["team", "up", team, "--repository", "shop"]);
        assert!(all_are(&members(&up, "result"), "changed"), "{up:#}");
    }
    let work = |member: &str, file: &str| world.add(member, &format!("write {file} by {member}"));
    let tasks: Vec<_> =
        [("red-boss", "a"), ("red-worker-1", "b"), ("red-worker-2", "c"), ("red-worker-3", "d"), ("blue-worker-1", "e"), ("blue-worker-2", "f")]
            .map(|(member, file)| work(member, file))
            .to_vec();
    for task in &tasks {
        let shown = world.wait(task);
        assert_eq!(shown["state"], "succeeded", "{shown:#}");
    }
    for (team, files) in [("red", "a\nb\nc\nd"), ("blue", "e\nf")] {
        let worktree = world.path("worktrees").join(team);
        let branch = git(&worktree, &["branch", "--show-current"]);
        assert!(branch.starts_with("claude-") && branch.ends_with(&format!("/team/{team}")), "{branch}");
        assert_eq!(git(&repository, &["ls-tree", "--name-only", &branch]), files, "what they wrote is committed");
        assert_eq!(git(&worktree, &["status", "--porcelain"]), "");
        world.ok(&["team", "down", team, "--remove"]);
        assert!(worktree.join(".git").exists(), "the worktree stays");
    }
    assert_eq!(git(&repository, &["ls-tree", "--name-only", "main"]), "");
}
