//! Plans: a boss splits a goal, its team does the tasks, a person looks at it first, and all of it over restarts of clauded.

use crate::world::World;
use serde_json::{Value, json};
use std::fs;

/// A boss and two workers, each in its own directory, up. The goal has the boss return the lines of `plans`, one each time.
fn team(plans: &[Value]) -> World {
    let world = World::new("[teams.t.members.boss]\n[teams.t.members.worker]\nreplicas = 2\nspecialties = [\"frontend\"]\n");
    for name in ["t-boss", "t-worker-1", "t-worker-2"] {
        world.worktree(name);
    }
    let lines: String = plans.iter().map(|plan| format!("{plan}\n")).collect();
    fs::write(world.path("worktrees/t-boss/plans.txt"), lines).expect("written");
    world.ok(&["team", "up", "t"]);
    world
}

const GOAL: &str = "output plans.txt";

fn plan(world: &World, options: &[&str]) -> String {
    world.ok(&[&["plan", GOAL, "--team", "t"], options].concat()).trim().to_owned()
}

fn shown(world: &World, plan: &str) -> Value {
    world.json(&["plan", "show", plan])
}

/// Waits until the event tells of that plan.
fn comes(world: &World, plan: &str, kind: &str) {
    world.event(|event| event["kind"] == kind && event["message"].as_str().is_some_and(|text| text.starts_with(&format!("plan {plan} "))));
}

fn task_of(plan: &Value, part: &str) -> String {
    let of = plan["boss_tasks"].as_array().expect("a list").iter().find(|task| task["part"] == part);
    of.unwrap_or_else(|| panic!("no {part}: {plan:#}"))["task"].to_string()
}

fn item<'p>(plan: &'p Value, id: &str) -> &'p Value {
    plan["tasks"].as_array().expect("a list").iter().find(|task| task["id"] == id).unwrap_or_else(|| panic!("no {id}: {plan:#}"))
}

fn item_state(plan: &Value, id: &str) -> (String, String) {
    let text = |field: &str| item(plan, id)[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn session(world: &World, task: &str) -> Value {
    world.json(&["task", "show", task])["history"][0]["session"].clone()
}

#[test]
fn a_boss_splits_a_goal_and_gets_what_came_of_it_over_restarts_of_the_daemon() {
    let go = "await go\nsay the first is done";
    let mut world = team(&[json!({"tasks": [
        {"id": "late", "title": "Late", "description": "say the last is done", "after": ["first"], "specialty": "frontend"},
        {"id": "first", "title": "First", "description": go, "files": ["src/**"], "type": "feature"},
        {"id": "wrong", "title": "Wrong", "description": "fail refusal"},
        {"id": "never", "title": "Never", "description": "say never", "after": ["wrong"]},
    ]})]);
    let id = plan(&world, &["--budget-usd", "3"]);
    comes(&world, &id, "plan-running");
    let first = item(&shown(&world, &id), "first")["task"].to_string();
    world.running(&first);
    let now = shown(&world, &id);
    assert_eq!((now["state"].as_str(), now["boss"].as_str(), item_state(&now, "late").0.as_str()), (Some("running"), Some("t-boss"), "pending"), "{now:#}");
    let asked = world.json(&["task", "show", &first]);
    assert_eq!(
        (&asked["team"], &asked["role"], &asked["group"], &asked["budget_usd"], &asked["type"]),
        (&json!("t"), &json!("worker"), &json!(format!("plan-{id}")), &json!(3.0), &json!("feature")),
        "{asked:#}"
    );
    world.event(|event| event["kind"] == "task-failed");
    world.end_daemon("KILL");
    world.start_daemon();
    assert_eq!(shown(&world, &id)["state"], "running", "after a restart");
    for worker in ["t-worker-1", "t-worker-2"] {
        fs::write(world.path("worktrees").join(worker).join("go"), "").expect("written");
    }
    comes(&world, &id, "plan-done");

    let done = shown(&world, &id);
    assert_eq!(item_state(&done, "first"), ("succeeded".to_owned(), String::new()), "{done:#}");
    assert_eq!(item_state(&done, "late").0, "succeeded");
    assert_eq!(item_state(&done, "wrong"), ("failed".to_owned(), "agent-error".to_owned()));
    assert_eq!(item_state(&done, "never"), ("failed".to_owned(), "dependency".to_owned()));
    assert!(done["detail"].as_str().is_some_and(|text| text.starts_with("2 of 4 tasks have succeeded")), "{done:#}");
    let (planning, last) = (task_of(&done, "plan"), task_of(&done, "follow-up"));
    let told = world.json(&["task", "show", &last]);
    let prompt = told["prompt"].as_str().expect("a prompt");
    assert!(
        prompt.contains("task 3): First\nsucceeded, by t-worker-") && prompt.contains("the model refused to answer") && prompt.contains("failed (dependency)"),
        "{prompt}"
    );
    // The boss goes on in the conversation in which it has planned.
    assert!(session(&world, &planning).is_string() && session(&world, &planning) == session(&world, &last), "{told:#}");
    assert!(world.ok(&["plan", "list", "--all"]).contains("done"));
    assert!(world.ok(&["plan", "list"]).starts_with("No plans."));
    assert_eq!(world.json(&["task", "list", "--all", "--group", &format!("plan-{id}")]).as_array().map(Vec::len), Some(6));
    let audit = world.json(&["audit", "-n", "1000"]).to_string();
    assert!(["plan-added", "plan-task", "plan-running", "plan-closing", "plan-done"].iter().all(|what| audit.contains(what)), "{audit}");
}

#[test]
fn a_bad_plan_goes_back_once_and_a_person_looks_at_the_good_one() {
    let task = |id: &str, description: &str, after: &[&str]| json!({"id": id, "title": id, "description": description, "after": after});
    let circle = json!({"tasks": [task("a", "say a", &["b"]), task("b", "say b", &["a"])]});
    let good = json!({"tasks": [task("a", "say a", &[]), task("b", "say b", &["a"])]});
    let hangs = json!({"tasks": [task("a", "hang", &[]), task("b", "say b", &["a"])]});
    let mut world = team(&[circle, good.clone(), json!({"taken": "by the task with the results"}), good, hangs, json!({"tasks": []}), json!({"tasks": [1]})]);

    let id = plan(&world, &["--review"]);
    comes(&world, &id, "plan-waiting");
    let waiting = shown(&world, &id);
    let (first, second) = (task_of(&waiting, "plan"), task_of(&waiting, "revision"));
    let again = world.json(&["task", "show", &second])["prompt"].as_str().expect("a prompt").to_owned();
    assert!(again.contains("these tasks wait for each other: a, b"), "{again}");
    assert!(session(&world, &first).is_string() && session(&world, &first) == session(&world, &second));
    world.end_daemon("KILL");
    world.start_daemon();
    assert!(world.ok(&["plan", "show", &id]).contains("claudectl plan approve"));
    assert!(world.ok(&["plan", "export", &id]).contains("description: say b"));
    let tasks = world.json(&["task", "list", "--all", "--group", &format!("plan-{id}")]);
    assert_eq!(tasks.as_array().map(Vec::len), Some(2), "nothing has begun but the boss's own: {tasks:#}");
    world.ok(&["pause", "--all"]);
    assert!(world.ok(&["plan", "approve", &id]).contains("plan 1 is running: 2 tasks"));
    assert!(world.fails(7, &["plan", "approve", &id]).contains("does not wait for approval"));
    world.ok(&["resume", "--all"]);
    comes(&world, &id, "plan-done");
    let done = shown(&world, &id);
    assert_eq!(task_of(&done, "revision"), second);
    assert_eq!(session(&world, &second), session(&world, &task_of(&done, "follow-up")));

    let id = plan(&world, &["--review"]);
    comes(&world, &id, "plan-waiting");
    world.ok(&["plan", "reject", &id, "--reason", "too coarse"]);
    let rejected = shown(&world, &id);
    assert!(rejected["state"] == "rejected" && rejected["detail"].as_str().is_some_and(|text| text.ends_with(": too coarse")), "{rejected:#}");
    assert!(item(&rejected, "a")["task"].is_null(), "{rejected:#}");

    let id = plan(&world, &[]);
    comes(&world, &id, "plan-running");
    let running = item(&shown(&world, &id), "a")["task"].to_string();
    world.running(&running);
    world.ok(&["plan", "cancel", &id]);
    assert_eq!(world.wait(&running)["state"], "cancelled");
    let cancelled = shown(&world, &id);
    assert_eq!((cancelled["state"].as_str(), item_state(&cancelled, "b").0.as_str()), (Some("cancelled"), "cancelled"), "{cancelled:#}");
    assert!(world.fails(7, &["plan", "cancel", &id]).contains("is over"));

    let id = plan(&world, &[]);
    comes(&world, &id, "plan-failed");
    let failed = shown(&world, &id);
    assert!(failed["detail"].as_str().is_some_and(|text| text.contains("cannot be used, twice: task 1: it is not an object")), "{failed:#}");
    assert_eq!(failed["boss_tasks"].as_array().map(Vec::len), Some(2), "{failed:#}");
}

#[test]
fn what_cannot_be_planned_is_refused_and_nothing_is_added() {
    let world = World::new(
        "[teams.t.members.boss]\n[teams.t.members.worker]\nprofile = \"shell\"\n[teams.alone.members.boss]\n[profiles.shell]\nagent = \"command\"\ncommand = [\"/bin/sh\"]\n",
    );
    let refused = |arguments: &[&str], status: i32, words: &str| {
        let said = world.fails(status, &[&["plan"], arguments].concat());
        assert!(said.contains(words), "{arguments:?}: {said}");
    };
    refused(&["x", "--team", "nobody"], 3, "there is no team nobody");
    refused(&["x", "--team", "alone"], 7, "nobody in alone beside alone-boss");
    refused(&["x", "--team", "t", "--boss", "t-worker"], 7, "runs another agent than Claude Code");
    refused(&["x", "--team", "t", "--boss", "alone-boss"], 7, "is no member of the team t");
    refused(&["x", "--team", "t", "--repository", "shop"], 7, "works on shop");
    refused(&[" ", "--team", "t"], 7, "goal: it is empty");
    refused(&["x", "--team", "t", "--max-tasks", "101"], 2, "101");
    refused(&["show", "9"], 3, "there is no plan 9");
    refused(&["approve", "9"], 3, "there is no plan 9");
    assert_eq!((world.json(&["plan", "list", "--all"]), world.json(&["task", "list", "--all"])), (json!([]), json!([])));
}
