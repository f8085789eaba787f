//! The queue as people use it: order, dependencies, groups, pauses, claims, files.

use crate::world::{World, kill};
use serde_json::Value;
use std::fs;

fn add(world: &World, arguments: &[&str]) -> String {
    world.ok(&[&["task", "add"], arguments].concat()).trim().to_owned()
}

fn shown(world: &World, task: &str) -> Value {
    world.json(&["task", "show", task])
}

#[test]
fn tasks_come_after_each_other_the_urgent_first_over_a_restart_of_the_daemon() {
    let mut world = World::new("");
    let directory = world.worktree("a");
    let note = |text: &str| format!("append order.txt {text}");
    world.ok(&["start", "a"]);
    let first = add(&world, &["await go\nappend order.txt first"]);
    world.running(&first);
    let later = add(&world, &["--priority", "-2", &note("later")]);
    let last = add(&world, &["--after", &format!("{first},{later}"), "--priority", "10", &note("last")]);
    let urgent = add(&world, &["--priority", "10", "--after", &first, &note("urgent")]);
    let detail = shown(&world, &last);
    assert_eq!((detail["state"].as_str(), detail["waits_for"].as_str()), (Some("pending"), Some("dependency")), "{detail:#}");
    assert_eq!(detail["detail"], format!("waits for tasks {first}, {later} to end"));
    world.end_daemon("KILL");
    world.start_daemon();
    assert_eq!(shown(&world, &last)["detail"], format!("waits for tasks {first}, {later} to end"), "after a restart");
    fs::write(directory.join("go"), "").expect("written");
    for task in [&first, &urgent, &later, &last] {
        assert_eq!(world.wait(task)["state"], "succeeded");
    }
    let order = fs::read_to_string(directory.join("order.txt")).expect("written");
    assert_eq!(order.split_whitespace().collect::<Vec<_>>(), ["first", "urgent", "later", "last"]);
}

#[test]
fn a_failed_one_takes_those_that_come_after_it_along_unless_they_are_released() {
    let world = World::new("");
    world.instance("a");
    // All of them are there before the first begins.
    world.ok(&["pause", "--all"]);
    let broken = add(&world, &["noresult"]);
    let after = add(&world, &["--after", &broken, "say no"]);
    let chained = add(&world, &["--after", &after, "say no"]);
    let released = add(&world, &["--after", &broken, "--after-failed", "release", "say yes"]);
    world.ok(&["resume", "--all"]);
    assert_eq!(world.wait(&released)["state"], "succeeded");
    assert_eq!(world.wait(&broken)["state"], "failed");
    for (task, needed) in [(&after, &broken), (&chained, &after)] {
        let task = world.wait(task);
        assert_eq!((task["state"].as_str(), task["reason"].as_str()), (Some("failed"), Some("dependency")), "{task:#}");
        assert_eq!(task["detail"], format!("task {needed}, which it comes after, failed"));
    }
    let refused = world.fails(7, &["task", "add", "--after", &broken, "x"]);
    assert!(refused.contains(&format!("after: task {broken} has failed; retry it first (claudectl task retry {broken})")), "{refused}");
    assert!(world.fails(3, &["task", "add", "--after", "999", "x"]).contains("after: there is no task 999"));
    // A person's retry passes over what has failed.
    world.ok(&["task", "retry", &chained]);
    assert_eq!(world.wait(&chained)["state"], "succeeded");
}

#[test]
fn a_group_is_bounded_listed_paused_and_ended_as_one() {
    let world = World::new("[queue.groups.g]\nmax-concurrent-tasks = 1\n");
    let directory = world.instance("a");
    world.instance("b");
    let one = add(&world, &["--group", "g", "--instance", "a", "await go"]);
    world.running(&one);
    let two = add(&world, &["--group", "g", "say two"]);
    let other = add(&world, &["say other"]);
    assert_eq!(world.wait(&other)["state"], "succeeded", "others pass");
    let waits = shown(&world, &two);
    assert_eq!(waits["detail"], "waits for a place: group g runs at most 1 at once (max-concurrent-tasks of [queue.groups.g])");
    assert!(world.get("/metrics").contains("clauded_group_tasks{group=\"g\",state=\"pending\"} 1"));
    world.ok(&["pause", "--group", "g", "--reason", "lunch"]);
    fs::write(directory.join("go"), "").expect("written");
    assert_eq!(world.wait(&one)["state"], "succeeded", "what runs goes on");
    let detail = shown(&world, &two)["detail"].as_str().expect("a sentence").to_owned();
    assert!(detail.starts_with("waits while group g is paused (by ") && detail.contains(": lunch); let it go on with: claudectl resume --group g"), "{detail}");
    assert!(world.ok(&["status"]).contains("group g is paused by"));
    let listed: Vec<i64> = world.json(&["task", "list", "--group", "g"]).as_array().expect("a list").iter().filter_map(|task| task["id"].as_i64()).collect();
    assert_eq!(listed, [two.parse::<i64>().expect("a number"), one.parse().expect("a number")]);
    let ended = world.ok(&["task", "cancel", "--group", "g"]);
    assert!(ended.starts_with(&format!("task {two} cancelled")), "{ended}");
    assert!(world.ok(&["task", "cancel", "--group", "g"]).contains("No task of the group g is left"));
    assert_eq!(world.ok(&["resume", "--group", "g"]).trim(), "group g goes on");
    assert!(world.ok(&["resume", "--group", "g"]).contains("it is not paused"));
    let again = add(&world, &["--group", "g", "say again"]);
    world.ok(&["task", "wait", "--group", "g", "--timeout", "60s"]);
    assert_eq!(shown(&world, &again)["state"], "succeeded");
}

#[test]
fn a_pause_of_everything_outlives_the_daemon() {
    let mut world = World::new("");
    world.instance("a");
    world.ok(&["pause", "--all", "--reason", "release day"]);
    let task = add(&world, &["say hi"]);
    world.end_daemon("KILL");
    world.start_daemon();
    let detail = shown(&world, &task)["detail"].as_str().expect("a sentence").to_owned();
    assert!(detail.starts_with("waits while the queue is paused (by "), "{detail}");
    assert!(world.get("/metrics").contains("clauded_pauses{kind=\"all\"} 1"));
    world.ok(&["resume", "--all"]);
    assert_eq!(world.wait(&task)["state"], "succeeded");
}

#[test]
fn a_person_claims_a_task_and_completes_it() {
    let mut world = World::new("");
    world.instance("a");
    world.ok(&["pause", "--instance", "a"]);
    let task = add(&world, &["--group", "g", "by hand, please"]);
    let next = add(&world, &["--group", "g", "say next"]);
    let claimed = world.ok(&["task", "claim", "--as", "alice"]);
    assert!(claimed.starts_with(&format!("task {task} claimed: claimed by alice since ")) && claimed.contains("by hand, please"), "{claimed}");
    assert!(world.fails(7, &["task", "claim", &task, "--as", "bob"]).contains(&format!("task {task} is with alice")));
    world.ok(&["resume", "--instance", "a"]);
    assert_eq!(world.wait(&next)["state"], "succeeded", "the next one is given out, this one is not");
    world.end_daemon("KILL");
    world.start_daemon();
    let shown_now = shown(&world, &task);
    assert_eq!((shown_now["state"].as_str(), shown_now["claimed_by"].as_str(), shown_now["attempts"].as_u64()), (Some("claimed"), Some("alice"), Some(0)));
    assert_eq!(world.json(&["task", "list", "--state", "claimed"])[0]["id"].to_string(), task);
    assert!(world.get("/metrics").contains("clauded_tasks{state=\"claimed\"} 1"));
    world.ok(&["pause", "--instance", "a"]);
    let like = add(&world, &["--group", "g", "like it"]);
    let completed = world.ok(&["task", "complete", &task, "--note", "merged by hand"]);
    assert!(completed.contains(&format!("task {task} succeeded: merged by hand")) && completed.contains(&format!("next: {like} like it;")), "{completed}");
    assert!(world.fails(7, &["task", "complete", &task]).contains("has ended"));
    world.ok(&["task", "claim", &like]);
    world.ok(&["resume", "--instance", "a"]);
    world.ok(&["task", "release", &like]);
    assert_eq!(world.wait(&like)["state"], "succeeded");
}

#[test]
fn an_agents_claim_goes_back_when_its_unit_ends() {
    let world = World::new("[profiles.sh]\nagent = \"command\"\ncommand = [\"/bin/sh\", \"-s\"]\n[instances.s]\nprofile = \"sh\"\n");
    world.instance("s");
    world.ok(&["pause", "--instance", "s"]);
    let wanted = add(&world, &["--group", "other", "--specialty", "none-has-it", "x"]);
    let free = add(&world, &["--group", "wanted", "--instance", "s", "--priority", "-10", "echo done"]);
    let ctl = format!("{} --socket {}", env!("CARGO_BIN_EXE_claudectl"), world.path("run/api.sock").display());
    // It claims what it may have, and is refused what it may not, and what is not its own to end.
    let script = format!(
        "{ctl} task claim {wanted} && exit 3; {ctl} task claim {free} --as somebody-else || exit 4; {ctl} pause --all && exit 5; {ctl} task complete {wanted} && exit 6; sleep 1000"
    );
    let task = add(&world, &["--instance", "s", "--priority", "10", &script]);
    world.ok(&["resume", "--instance", "s"]);
    world.event(|event| event["kind"] == "task-claimed" && event["task"].as_i64() == free.parse().ok());
    let claimed = shown(&world, &free);
    assert_eq!((claimed["state"].as_str(), claimed["claimed_by"].as_str()), (Some("claimed"), Some("s")), "{claimed:#}");
    kill("KILL", world.runner_pid("s"));
    world.ok(&["task", "cancel", &task]);
    assert_eq!(world.wait(&free)["state"], "succeeded", "its unit has ended, and the task went back");
}

#[test]
fn a_file_is_added_whole_or_not_at_all_and_what_is_exported_can_be_added_again() {
    let world = World::new("");
    world.worktree("a");
    world.ok(&["pause", "--all"]);
    world.ok(&["start", "a"]);
    let file = world.path("plan.yaml");
    let path = file.to_str().expect("UTF-8");
    let plan = "queue:\n  - id: design\n    type: feature\n    description: append order.txt design\n    assigned_to: a\n    status: pending\n    branch: claude-1234abcd/feat/x\n\
                \x20 - id: old\n    description: was done before\n    status: completed\n\
                \x20 - id: test\n    description: append order.txt test\n    after: [code, old]\n    priority: 10\n\
                \x20 - id: code\n    description: append order.txt code\n    after: design\n    group: g\n";
    fs::write(&file, plan.replace("assigned_to: a", "assigned_to: nobody").replace("after: design", "after: desing")).expect("written");
    let refused = world.fails(7, &["task", "import", path]);
    assert!(refused.contains("plan.yaml: nothing was added"), "{refused}");
    assert!(refused.contains("line 2: assigned_to: there is no instance nobody"), "{refused}");
    assert!(refused.contains("line 15: after: there is no task with the id \"desing\" in this file"), "{refused}");
    assert_eq!(world.json(&["task", "list"]), serde_json::json!([]), "nothing was added");
    fs::write(&file, plan).expect("written");
    let imported = world.json(&["task", "import", path]);
    let numbers: Vec<String> = imported["tasks"].as_array().expect("a list").iter().map(|one| one["task"].to_string()).collect();
    assert_eq!(numbers.len(), 3, "{imported:#}");
    assert_eq!(shown(&world, &numbers[1])["after"], serde_json::json!([numbers[2].parse::<i64>().expect("a number")]));
    assert_eq!(shown(&world, &numbers[0])["branch"], "claude-1234abcd/feat/x");

    let exported = world.ok(&["task", "export"]);
    fs::write(&file, &exported).expect("written");
    world.ok(&["task", "import", path]);
    let twice = world.ok(&["task", "export"]);
    assert_eq!(twice.matches("append order.txt test").count(), exported.matches("append order.txt test").count() * 2, "{twice}");
    world.ok(&["resume", "--all"]);
    for number in &numbers {
        assert_eq!(world.wait(number)["state"], "succeeded");
    }
    world.ok(&["task", "wait", "--group", "g", "--timeout", "60s"]);
    let order = fs::read_to_string(world.path("worktrees/a/order.txt")).expect("written");
    let place = |text: &str| order.split_whitespace().position(|word| word == text).expect("done");
    assert!(place("design") < place("code") && place("code") < place("test"), "{order}");
}

#[test]
fn a_budget_of_the_day_ends_what_runs_and_keeps_the_rest_until_it_is_raised() {
    let mut world = World::new("[instances.a]\nbudget = { day = 0.10 }\n");
    world.instance("a");
    let cheap = add(&world, &["cost 0.04\nsay fine"]);
    assert_eq!(world.wait(&cheap)["state"], "succeeded");
    // What is left is less than this costs.
    let dear = add(&world, &["cost 0.08\nsay much"]);
    world.event(|event| event["kind"] == "task-finished" && event["cause"] == "budget" && event["task"].as_i64() == dear.parse().ok());
    let waiting = shown(&world, &dear);
    assert_eq!((waiting["state"].as_str(), waiting["waits_for"].as_str()), (Some("pending"), Some("budget")), "{waiting:#}");
    world.end_daemon("KILL");
    world.start_daemon();
    let status = world.ok(&["status"]);
    assert!(status.contains("spent today: $0.1"), "what was spent is not forgotten: {status}");
    world.configure("[instances.a]\nbudget = { day = 5.0 }\n");
    kill("HUP", world.daemon_pid());
    assert_eq!(world.wait(&dear)["state"], "succeeded");
    assert!(world.get("/metrics").contains("clauded_spend_today_usd{instance=\"a\"} 0."));
}
