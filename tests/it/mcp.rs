//! What agents do through the MCP server: as their own instance alone, whatever they say.

use crate::world::World;
use serde_json::{Value, json};
use std::fs;

/// Speaks to `claudectl mcp`: request by request, each when the one before is answered.
const DRIVER: &str = r#"rm -f "$3.in"; mkfifo "$3.in"; : > "$3"
"$1" --socket "$2" mcp < "$3.in" >> "$3" &
exec 3> "$3.in"
asked=0
while read -r line; do
  echo "$line" >&3
  case "$line" in *'"id"'*) asked=$((asked + 1)); until [ "$(grep -c '"id"' "$3")" -ge "$asked" ]; do sleep 0.02; done;; esac
done
"#;

/// The line of a prompt that has an agent call these tools; the answers go to a file in its directory.
fn calling(world: &World, file: &str, calls: &[(&str, Value)]) -> String {
    let driver = world.path("mcp.sh");
    fs::write(&driver, DRIVER).expect("written");
    let client = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}});
    let mut lines =
        vec![json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}), json!({"jsonrpc": "2.0", "method": "notifications/initialized"})];
    let call = |(place, (name, arguments)): (usize, &(&str, Value))| json!({"jsonrpc": "2.0", "id": place + 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
    lines.extend(calls.iter().enumerate().map(call));
    let requests = world.path(&format!("{file}.requests"));
    fs::write(&requests, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("written");
    let (ctl, socket) = (env!("CARGO_BIN_EXE_claudectl"), world.path("run/api.sock"));
    format!("run sh {} {ctl} {} {file} < {}", driver.display(), socket.display(), requests.display())
}

/// What the tools have answered: whether it was refused, and the text.
fn answers(directory: &std::path::Path, file: &str) -> Vec<(bool, String)> {
    let text = fs::read_to_string(directory.join(file)).expect("answered");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    let tools = lines.iter().filter(|line| line["id"] != 0);
    tools
        .map(|line| (line["result"]["isError"] == true, line["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()))
        .collect()
}

#[test]
fn an_agent_locks_claims_and_completes_as_itself_alone() {
    let world = World::new("[teams.t.members.boss]\n[teams.t.members.worker]\n[instances.alone]\n");
    let (boss, worker) = (world.worktree("t-boss"), world.worktree("t-worker"));
    let alone = world.instance("alone");
    world.ok(&["team", "up", "t"]);
    world.ok(&["pause", "--all"]);
    let theirs = world.ok(&["task", "add", "--team", "t", "--role", "nobody", "for whom it may concern"]).trim().to_owned();
    let own = world.ok(&["task", "add", "--team", "t", "--role", "boss", "--priority", "-5", "say mine"]).trim().to_owned();
    let number = |text: &str| text.parse::<i64>().expect("a number");
    let calls = [
        ("acquire_lock", json!({"path": "src/x.rs", "reason": "to change it"})),
        ("list_locks", json!({})),
        ("claim_task", json!({"id": number(&own)})),
        ("claim_task", json!({"id": number(&theirs)})),
        ("report_progress", json!({"text": "reading the parser"})),
        ("report_progress", json!({"text": "again"})),
        ("add_task", json!({"prompt": "say added", "role": "worker"})),
        ("add_task", json!({"prompt": "say added", "instance": "alone"})),
    ];
    // Before its other task, which it is to claim.
    let line = format!("{}\nawait go", calling(&world, "first", &calls));
    let task = world.ok(&["task", "add", "--instance", "t-boss", "--priority", "5", &line]).trim().to_owned();
    world.ok(&["resume", "--all"]);
    world.event(|event| event["kind"] == "task-progress" && event["message"] == "reading the parser");
    world.event(|event| event["kind"] == "task-claimed");
    let added = world.event(|event| event["kind"] == "task-added" && event["message"] == "say added")["task"].to_string();
    let shown = world.json(&["task", "show", &task]);
    assert!(shown["detail"].as_str().is_some_and(|detail| detail.starts_with("reading the parser (")), "{shown:#}");
    let given = world.wait(&added);
    assert_eq!(
        (&given["team"], &given["role"], &given["group"], &given["state"]),
        (&json!("t"), &json!("worker"), &json!("agents-t"), &json!("succeeded")),
        "{given:#}"
    );
    assert!(world.ok(&["audit", "--task", &added]).contains("instance:t-boss"));

    let lock = world.json(&["lock", "list"])["locks"][0].clone();
    assert_eq!((&lock["pattern"], &lock["instance"], &lock["task"]), (&json!("src/x.rs"), &json!("t-boss"), &json!(number(&task))), "{lock:#}");
    // Another's lock, another's claim, another's task.
    let theft = [
        ("release_lock", json!({"id": lock["id"]})),
        ("release_lock", json!({})),
        ("complete_task", json!({"id": number(&own)})),
        ("release_task", json!({"id": number(&own)})),
        ("report_progress", json!({"text": "mine", "task": number(&task)})),
    ];
    let thief = world.wait(&world.add("t-worker", &calling(&world, "theft", &theft)));
    assert_eq!(thief["state"], "succeeded", "{thief:#}");
    let refused = answers(&worker, "theft");
    for (words, (error, text)) in
        ["is held by t-boss", "say with id", "is claimed by t-boss", "is claimed by t-boss", "is not with instance t-worker"].iter().zip(&refused)
    {
        assert!(*error && text.contains(words), "{words}: {refused:#?}");
    }
    assert_eq!(refused.len(), 5, "{refused:#?}");
    assert_eq!(world.json(&["task", "show", &own])["claimed_by"], "t-boss");
    // What is in no team adds nothing.
    let outside = world.wait(&world.add("alone", &calling(&world, "outside", &[("add_task", json!({"prompt": "x"}))])));
    assert_eq!(outside["state"], "succeeded");
    assert!(answers(&alone, "outside")[0].1.contains("which is in no team"));

    let said = answers(&boss, "first");
    let expect = [
        "\"result\":\"created\"",
        "to change it",
        "\"state\":\"claimed\"",
        "",
        "changed",
        "less than 5 seconds",
        "\"group\":\"agents-t\"",
        "is not in your team",
    ];
    let wrong = [false, false, false, true, false, true, false, true];
    for ((words, wrong), (error, text)) in expect.iter().zip(wrong).zip(&said) {
        assert!(*error == wrong && text.contains(words), "{words}: {said:#?}");
    }
    assert_eq!(said.len(), 8, "{said:#?}");
    // It ends what it has claimed itself, and its lock goes with its task.
    fs::write(boss.join("go"), "").expect("written");
    assert_eq!(world.wait(&task)["state"], "succeeded");
    assert_eq!(world.json(&["lock", "list"])["locks"], json!([]));
    let end = [("complete_task", json!({"id": number(&own), "note": "done beside it"})), ("release_lock", json!({"path": "src/x.rs"}))];
    world.wait(&world.add("t-boss", &calling(&world, "end", &end)));
    let ended = world.json(&["task", "show", &own]);
    assert_eq!((&ended["state"], &ended["detail"]), (&json!("succeeded"), &json!("done beside it")), "{ended:#}");
}

#[test]
fn what_an_agent_adds_adds_nothing_itself() {
    let world = World::new("[teams.t.members.worker]\n");
    let directory = world.worktree("t-worker");
    world.ok(&["team", "up", "t"]);
    let deeper = calling(&world, "deeper", &[("add_task", json!({"prompt": "say too deep"}))]);
    let task = world.add("t-worker", &calling(&world, "first", &[("add_task", json!({"prompt": deeper})), ("add_task", json!({"prompt": "say once more"}))]));
    assert_eq!(world.wait(&task)["state"], "succeeded");
    world.ok(&["task", "wait", "--group", "agents-t", "--timeout", "60s"]);
    let refused = answers(&directory, "deeper");
    assert!(refused[0].0 && refused[0].1.contains("such tasks add no others"), "{refused:#?}");
    assert_eq!(world.json(&["task", "list", "--all"]).as_array().map(Vec::len), Some(3));
}
