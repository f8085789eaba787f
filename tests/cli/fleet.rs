//! The whole clauded with the real CLI as its agent.

use crate::api::Api;
use crate::program;
use crate::reply::Reply;
use crate::stage::{KEY, MODEL, environment};
use crate::world::{World, kill};
use serde_json::Value;
use std::fs;

/// A clauded whose agents are the CLI, with its credential in a file.
pub(crate) fn fleet(api: &Api, variable: &str) -> Option<World> {
    let program = program::find()?;
    let mut world = World::without_daemon("");
    let key = world.path("key");
    fs::write(&key, KEY).expect("written");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("made private");
    let environment: Vec<String> = environment(api).iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
    // Over the profile that the world has for the scripted agent.
    let profile = format!(
        "[profiles.claude]\ncommand = \"{}\"\nmodel = \"{MODEL}\"\nkill-grace = \"5s\"\ncredential-file = \"{}\"\ncredential-variable = \"{variable}\"\n\
         environment = {{ {} }}\n",
        program.display(),
        key.display(),
        environment.join(", ")
    );
    fs::write(world.path("clauded.toml.d/cli.toml"), profile).expect("written");
    world.start_daemon();
    Some(world)
}

fn history(task: &Value) -> &[Value] {
    task["history"].as_array().expect("attempts")
}

#[test]
fn a_task_goes_through_the_whole() {
    let api = Api::new(vec![Reply::bash("echo hi > made.txt"), Reply::Text("made it")]);
    let Some(world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    let directory = world.instance("a");
    let shown = world.wait(&world.add("a", "make it"));
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    let attempt = &history(&shown)[0];
    assert_eq!((attempt["text"].as_str(), attempt["turns"].as_u64(), attempt["exit_code"].as_i64()), (Some("made it"), Some(2), Some(0)), "{attempt:#}");
    assert!(attempt["cost_usd"].as_f64().is_some_and(|usd| (usd - 0.01212).abs() < 1e-9), "{attempt:#}");
    assert_eq!(fs::read_to_string(directory.join("made.txt")).expect("made"), "hi\n");
    assert_eq!(world.holders(KEY), [world.path("key")], "the credential is written down elsewhere");
    let log = world.ok(&["task", "log", &world.json(&["task", "list", "--all"]).as_array().map_or_else(String::new, |l| l[0]["id"].to_string())]);
    assert!(log.contains("made it"), "{log}");
}

#[test]
fn a_killed_runners_task_goes_on_in_the_same_session() {
    let api = Api::new(vec![Reply::bash("echo once >> made.txt"), Reply::Never, Reply::Text("resumed")]);
    let Some(world) = fleet(&api, "ANTHROPIC_API_KEY") else { return };
    let directory = world.instance("a");
    let task = world.add("a", "make it");
    api.await_questions(2);
    kill("KILL", world.runner_pid("a"));
    let shown = world.wait(&task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    let history = history(&shown);
    assert!(history.len() == 2 && history[0]["session"].is_string() && history[0]["session"] == history[1]["session"], "{shown:#}");
    assert_eq!(fs::read_to_string(directory.join("made.txt")).expect("made"), "once\n");
    assert!(api.asked()[2].body["messages"].to_string().contains("echo once"), "the conversation was not resumed");
}

#[test]
fn a_usage_limit_holds_the_task_until_its_reset() {
    let api = Api::new(vec![Reply::bash("true"), Reply::LimitedFor(12), Reply::Text("after the reset")]);
    let Some(world) = fleet(&api, "CLAUDE_CODE_OAUTH_TOKEN") else { return };
    world.instance("a");
    let task = world.add("a", "work");
    let event = world.event(|e| e["kind"] == "task-finished");
    assert_eq!(event["cause"], "limited", "{event:#}");
    let at = |time: &Value| time.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).expect("a time");
    let waiting = world.json(&["task", "show", &task]);
    let reset = at(&waiting["not_before"]);
    let wait = reset.duration_since(at(&waiting["history"][0]["started"]));
    // From the answer on; what came before it is the CLI's start.
    assert!(wait.as_secs() < 60, "this is not the reset that the API told: {waiting:#}");
    let shown = world.wait(&task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    let history = history(&shown);
    assert!(at(&history[1]["started"]) >= reset, "it did not wait: {shown:#}");
    assert_eq!((history.len(), history[0]["outcome"].as_str()), (2, Some("limited")), "{shown:#}");
    assert_eq!(history[0]["session"], history[1]["session"]);
    assert_eq!(history[1]["text"], "after the reset");
}
