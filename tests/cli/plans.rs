//! The real CLI as a boss that is held to the form of a plan, and as an agent that works through the MCP server.

use crate::api::Api;
use crate::fleet::fleet;
use crate::reply::Reply;
use serde_json::{Value, json};
use std::fs;

/// What its last tool has answered, in a question to the model; the CLI's own reminders may stand after it.
fn last(request: &crate::api::Request) -> String {
    request.body["messages"]
        .as_array()
        .and_then(|messages| messages.iter().rev().map(Value::to_string).find(|message| message.contains("tool_result")))
        .unwrap_or_default()
}

#[test]
fn a_boss_is_held_to_the_form_of_a_plan_and_hears_what_came_of_it() {
    let plan = json!({"tasks": [{"id": "part", "title": "The part", "description": "make the part", "role": "worker"}]});
    let wrong = json!({"tasks": [{"id": "part", "title": "The part", "description": "make the part", "role": "poet"}]});
    // What does not fit the schema is refused by the CLI itself, in the same turn.
    let api = Api::new(vec![
        Reply::Tool("StructuredOutput", wrong),
        Reply::Tool("StructuredOutput", plan),
        Reply::Text("the part is made"),
        Reply::Text("all is well"),
    ]);
    let Some(world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    fs::write(world.path("clauded.toml.d/team.toml"), "[teams.t.members.boss]\n[teams.t.members.worker]\n").expect("written");
    for name in ["t-boss", "t-worker"] {
        world.worktree(name);
    }
    crate::world::kill("HUP", world.daemon_pid());
    world.event(|event| event["kind"] == "config-reloaded");
    world.ok(&["team", "up", "t"]);
    let id = world.ok(&["plan", "everything is made", "--team", "t"]).trim().to_owned();
    world.event(|event| event["kind"] == "plan-done");
    let shown = world.json(&["plan", "show", &id]);
    assert_eq!(
        (shown["state"].as_str(), shown["tasks"][0]["state"].as_str(), shown["tasks"][0]["instance"].as_str()),
        (Some("done"), Some("succeeded"), Some("t-worker")),
        "{shown:#}"
    );
    assert_eq!(shown["boss_tasks"].as_array().map(Vec::len), Some(2), "no revision: {shown:#}");
    let asked = api.asked();
    assert_eq!(asked.len(), 4, "{asked:#?}");
    assert!(asked[0].body["tools"].to_string().contains("StructuredOutput") && asked[0].body["messages"].to_string().contains("everything is made"));
    assert!(asked[2].body["messages"].to_string().contains("make the part"));
    // The boss has its plan before it and the result after it.
    let told = asked[3].body["messages"].to_string();
    assert!(told.contains("You lead the team t") && told.contains("the part is made"), "{told}");
}

#[test]
fn the_model_locks_and_takes_tasks_on_through_the_mcp_server() {
    let tool = |name: &'static str, input: Value| Reply::Tool(name, input);
    let api = Api::new(vec![
        tool("mcp__clauded__acquire_lock", json!({"path": "src/x.txt", "reason": "by the model", "wait_seconds": 5})),
        tool("mcp__clauded__list_locks", json!({})),
        tool("mcp__clauded__claim_task", json!({"id": 2})),
        tool("mcp__clauded__report_progress", json!({"text": "half way"})),
        tool("mcp__clauded__complete_task", json!({"id": 2, "note": "done beside"})),
        tool("mcp__clauded__release_lock", json!({"path": "src/x.txt"})),
        tool("mcp__clauded__add_task", json!({"prompt": "for nobody"})),
        Reply::Text("through"),
    ]);
    let Some(world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    world.instance("a");
    world.ok(&["pause", "--all"]);
    let first = world.ok(&["task", "add", "--instance", "a", "--priority", "5", "work"]).trim().to_owned();
    let other = world.ok(&["task", "add", "another"]).trim().to_owned();
    assert_eq!(other, "2");
    world.ok(&["resume", "--all"]);
    let shown = world.wait(&first);
    assert_eq!((shown["state"].as_str(), shown["history"][0]["text"].as_str()), (Some("succeeded"), Some("through")), "{shown:#}");
    let answers: Vec<String> = api.asked()[1..].iter().map(last).collect();
    for (words, answer) in
        [r#"\"result\":\"created\""#, "by the model", r#"\"claimed_by\":\"a\""#, "changed", r#"\"state\":\"succeeded\""#, "released", "which is in no team"]
            .iter()
            .zip(&answers)
    {
        assert!(answer.contains(words), "{words}: {answer}");
    }
    let done = world.json(&["task", "show", &other]);
    assert_eq!((done["state"].as_str(), done["detail"].as_str(), done["attempts"].as_u64()), (Some("succeeded"), Some("done beside"), Some(0)), "{done:#}");
    world.event(|event| event["kind"] == "task-progress" && event["message"] == "half way");
}
