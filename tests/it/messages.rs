//! Messages to agents that run, wait or die, and from them.

use crate::kills::kill_agent;
use crate::world::{DEADLINE, World, kill};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Looks at a message until it is there and as it should be.
fn until(world: &World, id: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let output = world.ctl(&["messages", id, "-o", "json"]);
        // None, while there is no such message.
        let message = serde_json::from_slice(&output.stdout).ok();
        if let Some(message) = message.filter(&fits) {
            return message;
        }
        assert!(Instant::now() < deadline, "{output:?}\n{}", world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn state(message: &Value, to: usize) -> &str {
    message["letters"][to]["state"].as_str().unwrap_or_default()
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn ctl(world: &World) -> String {
    format!("CLAUDED_SOCKET={} {}", world.path("run/api.sock").display(), env!("CARGO_BIN_EXE_claudectl"))
}

#[test]
fn a_running_agent_gets_it_between_two_steps_an_idle_one_as_a_task_and_one_that_is_away_later() {
    let world = World::new("[instances.b]\n");
    let directory = world.instance("a");
    let task = world.add("a", "append inbox begun\nawait go\nsay end");
    world.running(&task);
    let first = world.ok(&["send", "a", "append inbox first"]).trim().to_owned();
    let shown = until(&world, &first, |message| state(message, 0) == "delivered");
    assert_eq!(shown["letters"][0]["task"].to_string(), task, "{shown:#}");
    fs::write(directory.join("go"), "").expect("written");
    assert_eq!(world.wait(&task)["state"], "succeeded");

    let second = world.ok(&["send", "a", "append inbox second"]).trim().to_owned();
    let shown = until(&world, &second, |message| state(message, 0) == "queued");
    let made = world.wait(&shown["letters"][0]["task"].to_string());
    assert_eq!(
        (made["type"].as_str(), made["state"].as_str(), made["title"].as_str().map(|t| t.starts_with("Message 2 from "))),
        (Some("message"), Some("succeeded"), Some(true))
    );
    assert_eq!(lines(&directory.join("inbox")), ["begun", "first", "second"]);

    let third = world.ok(&["send", "b", "append inbox third"]).trim().to_owned();
    assert_eq!(state(&world.json(&["messages", &third]), 0), "pending", "b does not run");
    let there = world.instance("b");
    let shown = until(&world, &third, |message| state(message, 0) == "queued");
    world.wait(&shown["letters"][0]["task"].to_string());
    assert_eq!(lines(&there.join("inbox")), ["third"]);
    assert!(world.fails(3, &["send", "nobody", "x"]).contains("no instance \"nobody\""));
    assert!(world.fails(7, &["send", "a", ""]).contains("text: it is empty"));
}

#[test]
fn a_team_and_all_get_it_and_each_once() {
    let world = World::new("");
    for name in ["t-a", "t-b", "other"] {
        world.instance(name);
    }
    let tasks: Vec<_> = ["t-a", "t-b", "other"].iter().map(|name| world.add(name, "await go")).collect();
    tasks.iter().for_each(|task| world.running(task));
    let team = world.ok(&["send", "t", "append inbox team"]).trim().to_owned();
    let all = world.ok(&["broadcast", "append inbox all"]).trim().to_owned();
    let delivered = |count: usize| move |m: &Value| m["letters"].as_array().is_some_and(|l| l.len() == count && l.iter().all(|l| l["state"] == "delivered"));
    until(&world, &team, delivered(2));
    until(&world, &all, delivered(3));
    for name in ["t-a", "t-b", "other"] {
        fs::write(world.path("worktrees").join(name).join("go"), "").expect("written");
    }
    tasks.iter().for_each(|task| assert_eq!(world.wait(task)["state"], "succeeded"));
    for (name, expected) in [("t-a", vec!["team", "all"]), ("t-b", vec!["team", "all"]), ("other", vec!["all"])] {
        assert_eq!(lines(&world.path("worktrees").join(name).join("inbox")), expected, "{name}");
    }
}

#[test]
fn an_agent_writes_as_itself_reads_its_own_and_is_stopped_in_a_loop() {
    let world = World::new("");
    let directory = world.instance("a");
    world.instance("b");
    let send = format!("{} send", ctl(&world));
    // b is told by a, and so on: each message is a task that sends the next one.
    let prompt = format!("run {send} b 'run {send} a \"say you\" > told 2>&1'");
    let task = world.wait(&world.add("a", &prompt));
    assert_eq!(task["state"], "succeeded", "{task:#}");
    let shown = until(&world, "2", |message| !message["letters"].as_array().is_some_and(Vec::is_empty));
    assert_eq!((shown["sender"].as_str(), shown["to"].as_str(), shown["hops"].as_u64()), (Some("instance:b"), Some("a"), Some(1)), "{shown:#}");
    let rows = world.json(&["audit", "--who", "instance:b", "--what", "message-posted"]);
    assert_eq!((rows.as_array().map(Vec::len), rows[0]["subject"].as_str()), (Some(1), Some("message 2")), "{rows:#}");
    assert!(!world.ok(&["audit", "-n", "1000"]).contains("say you"), "what it says is in no row");

    let asks = format!("run {} messages --instance b > others 2>&1; {} messages > own 2>&1; {} audit > rows 2>&1", ctl(&world), ctl(&world), ctl(&world));
    assert_eq!(world.wait(&world.add("a", &asks))["state"], "succeeded");
    let read = |name: &str| fs::read_to_string(directory.join(name)).expect("written");
    assert!(read("others").contains("own instance alone") && read("rows").contains("needs an operator"), "{}", read("others"));
    assert!(read("own").contains("instance:b"), "{}", read("own"));

    let many = format!("run for n in $(seq 21); do {send} b 'say x' 2>>refused; done");
    assert_eq!(world.wait(&world.add("a", &many))["state"], "succeeded");
    let refused = lines(&directory.join("refused"));
    assert!(refused.len() == 1 && refused[0].contains("you have sent 20 messages in this attempt"), "{refused:?}");
}

#[test]
fn a_call_for_help_brings_the_answer_back_to_a_person_and_to_an_agent() {
    let world = World::new("");
    assert!(world.fails(7, &["help", "is anybody there?"]).contains("nobody else is there"));
    world.instance("shop-backend");
    // It is connected once it has done something.
    world.wait(&world.add("shop-backend", "say hello"));
    assert_eq!(world.ok(&["help", "--specialty", "backend", "say forty-two"]).trim(), "forty-two");
    assert!(world.fails(7, &["help", "--specialty", "frontend", "x"]).contains("with the specialty \"frontend\""));
    let silent = world.ctl(&["help", "--timeout", "1s", "hang"]);
    assert_eq!((silent.status.code(), String::from_utf8_lossy(&silent.stdout).trim()), (Some(1), "There is no answer: nobody has answered in time"));
    world.ok(&["restart", "shop-backend"]);
    world.wait(&world.add("shop-backend", "say back"));

    let directory = world.instance("a");
    let task = world.add("a", &format!("run {} help 'say append inbox answered' > asked\nawait inbox", ctl(&world)));
    assert_eq!(world.wait(&task)["state"], "succeeded");
    assert_eq!(lines(&directory.join("inbox")), ["answered"]);
    assert!(lines(&directory.join("asked"))[0].contains("the answer comes as a message"));
    assert!(world.ok(&["help", "task", "add"]).contains("--instance"), "help for a command is still help");
}

#[test]
fn help_comes_from_a_free_one_with_the_specialty_rather_than_from_a_busy_one() {
    let world = World::new("");
    // By name the busy one is the first, and one without the specialty is free.
    for name in ["a-backend", "a-front", "b-backend"] {
        world.instance(name);
        world.wait(&world.add(name, "say hello"));
    }
    let busy = world.add("a-backend", "await go");
    world.running(&busy);
    let ask = &["help", "--specialty", "backend", "--timeout", "1min", "run basename \"$PWD\""];
    assert_eq!(world.ok(ask).trim(), "b-backend");
    // Where all who fit are busy, the first of them answers when it has done its own.
    let other = world.add("b-backend", "await go");
    world.running(&other);
    let asked = world.ctl_command(ask).stdout(std::process::Stdio::piped()).spawn().expect("claudectl runs");
    world.until("the question waits", || !world.json(&["task", "list", "--state", "pending"]).as_array().is_none_or(Vec::is_empty));
    fs::write(world.path("worktrees/a-backend/go"), "").expect("written");
    let answer = asked.wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "a-backend", "{answer:?}");
    fs::write(world.path("worktrees/b-backend/go"), "").expect("written");
    assert_eq!(world.wait(&other)["state"], "succeeded");
}

/// What the sessions of an instance's agents have been told by these messages, each as often as it is in them.
fn heard(world: &World, instance: &str) -> Vec<String> {
    let sessions = world.path("instances/instances").join(instance).join("claude/scripted-sessions");
    let sessions = fs::read_dir(sessions).expect("listed").map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("read"));
    let heard = sessions.flat_map(|text| serde_json::from_str::<Value>(&text).expect("JSON")["heard"].as_array().expect("a list").clone());
    let lines = heard.flat_map(|text| text.as_str().expect("a text").lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter_map(|line| line.strip_prefix("append inbox ").map(str::to_owned)).collect()
}

/// Three of these kills lose an attempt, and each such pause is twice the one before.
const ROUNDS: usize = 5;

/// Kills of clauded, the runner and the agent while messages come; the agent goes on in its session, and has each message once.
#[test]
fn each_message_arrives_once_whatever_dies() {
    let mut world = World::new("");
    let directory = world.instance("a");
    let task = world.add("a", "await go\nsay end");
    let mut ids = Vec::new();
    for round in 0..ROUNDS {
        world.running(&task);
        for n in 0..3 {
            ids.push(world.ok(&["send", "a", &format!("append inbox m{round}.{n}")]).trim().to_owned());
        }
        match round % 3 {
            0 => {
                world.end_daemon("KILL");
                world.start_daemon();
            }
            1 => kill("KILL", world.runner_pid("a")),
            // Of that task: one that is made of a message has no part in this.
            _ => world.until("the agent is killed", || kill_agent(&world, &task)),
        }
        let deadline = Instant::now() + DEADLINE;
        while world.json(&["task", "show", &task])["state"] != "running" {
            // Back-off and start limits are not what this is about.
            let _ = world.ctl(&["start", "a"]);
            assert!(Instant::now() < deadline, "{}", world.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    for id in &ids {
        until(&world, id, |message| matches!(state(message, 0), "delivered" | "queued"));
    }
    fs::write(directory.join("go"), "").expect("written");
    assert_eq!(world.wait(&task)["state"], "succeeded");
    for row in ids.iter().map(|id| world.json(&["messages", id])) {
        if row["letters"][0]["state"] == "queued" {
            world.wait(&row["letters"][0]["task"].to_string());
        }
    }
    let mut expected: Vec<_> = (0..ROUNDS).flat_map(|round| (0..3).map(move |n| format!("m{round}.{n}"))).collect();
    expected.sort();
    let mut told = heard(&world, "a");
    told.sort();
    assert_eq!(told, expected, "each is in one session, once\n{}", world.log());
    let mut inbox = lines(&directory.join("inbox"));
    inbox.sort();
    // An agent that is killed between a deed and its note of it does it again, whatever it was told.
    inbox.dedup();
    assert_eq!(inbox, expected, "{}", world.log());
}
