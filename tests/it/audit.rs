//! The audit of a real day, and what was done to its file.

use crate::world::{DEADLINE, World};
use std::time::Instant;

#[test]
fn who_did_what_is_written_down_and_what_is_done_to_the_file_shows() {
    let mut world = World::new("[audit]\nmax-rows = 100000");
    world.instance("a");
    let task = world.add("a", "say the-secret-prompt\nsay done");
    world.wait(&task);
    world.ok(&["restart", "a"]);
    let rows = world.json(&["audit", "--task", &task]);
    let whats: Vec<_> = rows.as_array().expect("rows").iter().map(|row| row["what"].as_str().expect("a word")).collect();
    assert_eq!(whats, ["task-added", "task-assigned", "task-running", "attempt-reported", "task-succeeded"]);
    let user = format!("uid\":{}", nix::unistd::geteuid());
    assert!(rows[0].to_string().contains(&user) && rows[2]["who"] == "runner:a" && rows[2]["origin"] == "link", "{rows:#}");
    let all = world.json(&["audit", "-n", "1000"]);
    for what in ["instance-start", "instance-started", "instance-restart"] {
        assert!(all.as_array().is_some_and(|rows| rows.iter().any(|row| row["what"] == what && row["instance"] == "a")), "{what}: {all:#}");
    }
    let yaml: serde_json::Value = serde_saphyr::from_str(&world.ok(&["audit", "--task", &task, "-o", "yaml"])).expect("YAML");
    assert_eq!(yaml, rows);
    let mine = world.json(&["audit", "--who", rows[0]["who"].as_str().expect("a word").trim_start_matches("user:"), "--what", "task-added", "--since", "1h"]);
    assert_eq!(mine.as_array().map(Vec::len), Some(1), "{mine:#}");
    // The title is the prompt's first line; the rest of it is nowhere.
    assert!(!all.to_string().contains("say done"), "{all:#}");

    let followed = world.follow(&["audit", "-f", "--what", "task-added", "-n", "1"]);
    assert!(followed.find(|line| line.contains(&format!("task {task} "))).is_some());
    let next = world.add("a", "say more");
    assert!(followed.find(|line| line.contains(&format!("task {next} "))).is_some(), "a row that is written is followed");
    drop(followed);
    world.wait(&next);

    assert!(world.ok(&["audit", "verify"]).starts_with("The audit is intact: "));
    let database = world.path("state/clauded.db");
    let alter = |sql: &str| {
        let done = std::process::Command::new("python3")
            .args(["-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"])
            .arg(&database)
            .arg(sql)
            .output()
            .expect("python3 runs");
        assert!(done.status.success(), "{done:?}");
    };
    world.end_daemon("TERM");
    alter("DELETE FROM audit WHERE seq > (SELECT max(seq) - 2 FROM audit)");
    world.start_daemon();
    let verdict = String::from_utf8(world.ctl(&["audit", "verify"]).stdout).expect("text");
    assert!(verdict.starts_with("The audit is NOT intact.\n") && verdict.contains("before clauded was started"), "{verdict}");
    alter("UPDATE audit SET who = 'user:somebody' WHERE seq = 3");
    let output = world.ctl(&["audit", "verify"]);
    let verdict = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(verdict.contains("row 3 does not fit") && verdict.contains("2 rows fit, up to row 2."), "{verdict}");
}

#[test]
fn the_audit_of_one_instance_has_its_rows_and_no_others() {
    let world = World::new("");
    let tasks = ["a", "b"].map(|name| {
        world.instance(name);
        let task = world.add(name, "say done");
        world.wait(&task);
        task
    });
    let of = |name: &str| world.json(&["audit", "--instance", name, "-n", "1000"]).as_array().expect("rows").clone();
    for (name, own) in ["a", "b"].into_iter().zip(&tasks) {
        let rows = of(name);
        assert!(rows.iter().all(|row| row["instance"] == name), "{rows:#?}");
        for what in ["instance-start", "task-added", "task-running", "task-succeeded"] {
            assert_eq!(rows.iter().filter(|row| row["what"] == what).count(), 1, "{what} of {name}: {rows:#?}");
        }
        let own: i64 = own.parse().expect("a number");
        assert!(rows.iter().filter(|row| !row["task"].is_null()).all(|row| row["task"] == own), "{rows:#?}");
    }
    let both = world.json(&["audit", "--instance", "b", "--what", "task-succeeded", "--task", &tasks[0]]);
    assert_eq!(both, serde_json::json!([]), "what is asked for together holds together");
    assert_eq!(world.json(&["audit", "--instance", "nobody"]), serde_json::json!([]));
}

#[test]
fn the_audit_is_kept_as_long_and_as_large_as_the_configuration_says() {
    // The least that may be said is 1000 rows; an instance that is not there has its tasks wait.
    let many = "[instances.a]\n";
    let mut world = World::new(many);
    let tasks: String = (0..1200).map(|n| format!("  - description: task {n}\n    assigned_to: a\n")).collect();
    std::fs::write(world.path("plan.yaml"), format!("queue:\n{tasks}")).expect("written");
    world.ok(&["task", "import", &world.path("plan.yaml").display().to_string()]);
    let rows = |world: &World| world.json(&["audit", "-n", "5000"]).as_array().expect("rows").clone();
    assert!(rows(&world).len() >= 1200);
    for (kept, most) in [("max-rows = 1000", 1000), ("keep = \"1us\"", 10)] {
        world.end_daemon("TERM");
        world.configure(&format!("{many}[audit]\n{kept}\n"));
        world.start_daemon();
        let end = Instant::now() + DEADLINE;
        // Page by page: what is trimmed between two pages is missing, and the row that says so may come after the last.
        loop {
            let left = rows(&world);
            if left.len() <= most && left.iter().any(|row| row["what"] == "audit-trimmed") {
                break;
            }
            assert!(Instant::now() < end, "{kept}: {} rows\n{}", left.len(), world.log());
        }
        assert!(world.ok(&["audit", "verify"]).starts_with("The audit is intact: "), "{kept}");
    }
}
