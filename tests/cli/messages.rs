//! Messages to the real CLI, and its use of clauded's own MCP server.

use crate::api::Api;
use crate::fleet::fleet;
use crate::reply::Reply;
use crate::world::{DEADLINE, World};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Looks until it is so.
fn until<T>(world: &World, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{}\n{}", world.ok(&["messages"]), world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All that is below a directory, as text.
fn below(directory: &Path) -> String {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    entries.map(|path| if path.is_dir() { below(&path) } else { String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned() }).collect()
}

fn state(world: &World, id: &str) -> Value {
    world.json(&["messages", id])["letters"][0]["state"].clone()
}

#[test]
fn a_message_is_in_what_the_model_reads_next() {
    let api = Api::new(vec![Reply::bash("until [ -e go ]; do :; done; echo went on"), Reply::Text("I have read it")]);
    let Some(world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    let directory = world.instance("a");
    let task = world.add("a", "wait for it");
    api.await_questions(1);
    let id = world.ok(&["send", "a", "the build is broken since noon"]).trim().to_owned();
    // Its program has it, and the tool still runs.
    until(&world, || below(&world.path("instances/instances/a/logs")).contains("command_lifecycle").then_some(()));
    assert_eq!(state(&world, &id), "sent");
    fs::write(directory.join("go"), "").expect("written");
    assert_eq!(world.wait(&task)["state"], "succeeded");
    until(&world, || (state(&world, &id) == "delivered").then_some(()));
    let asked = api.asked();
    let read = asked[1].body["messages"].to_string();
    assert!(
        asked.len() == 2 && read.contains("went on") && read.contains("the build is broken since noon") && read.contains("Message 1 from the user"),
        "{read}"
    );
    let shown = world.json(&["task", "show", &task]);
    assert_eq!(shown["history"][0]["text"], "I have read it", "{shown:#}");
}

#[test]
fn the_model_acts_through_the_mcp_server_as_its_instance() {
    let call = Reply::Tool("mcp__clauded__send_message", json!({"to": "b", "text": "from one model to another"}));
    let look = Reply::Tool("mcp__clauded__inbox", json!({}));
    let nobody = Reply::Tool("mcp__clauded__send_message", json!({"to": "nobody", "text": "x"}));
    let api = Api::new(vec![call, look, nobody, Reply::Text("sent")]);
    let Some(world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    fs::write(world.path("clauded.toml.d/b.toml"), "[instances.b]\n").expect("written");
    crate::world::kill("HUP", world.daemon_pid());
    world.event(|event| event["kind"] == "config-reloaded");
    world.instance("a");
    let task = world.wait(&world.add("a", "tell b"));
    assert_eq!((&task["state"], &task["history"][0]["text"]), (&"succeeded".into(), &"sent".into()), "{task:#}");
    let message = world.json(&["messages", "1"]);
    assert_eq!((message["sender"].as_str(), message["text"].as_str()), (Some("instance:a"), Some("from one model to another")), "{message:#}");
    let asked = api.asked();
    let results: Vec<String> =
        asked[1..].iter().map(|request| request.body["messages"].as_array().and_then(|m| m.last()).map(Value::to_string).unwrap_or_default()).collect();
    assert!(results[0].contains(r#"\"id\":1"#) && results[1].contains("from one model to another"), "{results:#?}");
    assert!(results[2].contains("there is no instance") && results[2].contains(r#""is_error":true"#), "{results:#?}");
}
