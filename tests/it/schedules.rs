//! Tasks that come again by the clock.

use crate::world::World;

#[test]
fn a_schedule_adds_its_task_unless_the_one_before_lives() {
    let mut world = World::new("");
    let directory = world.instance("a");
    world.ok(&["schedule", "add", "often", "--cron", "* * * * * *", "--timezone", "Europe/Berlin", "--instance", "a", "--group", "g", "await go"]);
    world.event(|event| event["kind"] == "schedule-skipped");
    let tasks = world.json(&["task", "list", "--group", "g"]);
    assert_eq!(tasks.as_array().map(Vec::len), Some(1), "one at a time: {tasks:#}");
    let first = tasks[0]["id"].to_string();
    world.end_daemon("KILL");
    world.start_daemon();
    let schedules = world.json(&["schedule", "list"]);
    assert_eq!((schedules[0]["name"].as_str(), schedules[0]["last_task"].to_string()), (Some("often"), first.clone()), "{schedules:#}");
    std::fs::write(directory.join("go"), "").expect("written");
    assert_eq!(world.wait(&first)["state"], "succeeded");
    world.event(|event| event["kind"] == "task-added" && event["task"].as_i64() != first.parse().ok());
    world.ok(&["schedule", "remove", "often"]);
    assert!(world.fails(3, &["schedule", "run", "often"]).contains("there is no schedule often"));
    world.ok(&["task", "wait", "--group", "g", "--timeout", "60s"]);
}

#[test]
fn a_missed_run_is_made_up_once_and_one_can_be_run_by_hand() {
    let world = World::new("");
    world.instance("a");
    world.ok(&["schedule", "add", "yearly", "--cron", "0 0 1 1 *", "say yearly"]);
    assert_eq!(world.ok(&["schedule", "run", "yearly"]).trim(), "schedule yearly has added its task");
    let added = world.event(|event| event["kind"] == "task-added");
    assert_eq!(world.wait(&added["task"].to_string())["state"], "succeeded");
    let refused = world.fails(7, &["schedule", "add", "yearly", "--cron", "0 0 1 1 *", "x"]);
    assert!(refused.contains("there is a schedule yearly already"), "{refused}");
    for (arguments, why) in [(["--cron", "whenever", "x"], "is no cron expression"), (["--cron", "0 0 * * *", " "], "the prompt is empty")] {
        let output = world.ctl(&[&["schedule", "add", "bad"], &arguments[..]].concat());
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    let refused = world.fails(7, &["schedule", "add", "bad", "--cron", "0 0 * * *", "--timezone", "Mars/Olympus", "x"]);
    assert!(refused.contains("\"Mars/Olympus\" is no time zone"), "{refused}");
}
