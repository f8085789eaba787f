//! What a working day looks like.

use crate::world::{World, alive};
use serde_json::Value;

fn last(task: &Value) -> &Value {
    task["history"].as_array().and_then(|h| h.last()).expect("an attempt")
}

#[test]
fn a_task_succeeds_and_is_accounted_for() {
    let world = World::new("");
    let directory = world.instance("a");
    let task = world.add("a", "write hello.txt hi there\ncost 0.05\nturns 3\nsay all done");
    let shown = world.wait(&task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    assert_eq!(std::fs::read_to_string(directory.join("hello.txt")).expect("written").trim(), "hi there");
    let attempt = last(&shown);
    assert_eq!(attempt["outcome"], "succeeded");
    assert_eq!(attempt["exit_code"], 0);
    assert!(attempt["text"].as_str().is_some_and(|t| t.contains("all done")), "{attempt:#}");
    assert!(attempt["cost_usd"].as_f64().is_some_and(|c| c >= 0.05), "{attempt:#}");
    assert!(attempt["turns"].as_u64().is_some_and(|n| n >= 3), "{attempt:#}");
    assert!(attempt["session"].is_string() && !attempt["tokens"].as_object().expect("tokens").is_empty());
    let log = world.ok(&["task", "log", &task]);
    assert!(log.contains("all done"), "{log}");
}

#[test]
fn a_log_is_followed_while_its_task_runs() {
    let world = World::new("");
    let directory = world.instance("a");
    // Ended before the server would answer for want of news (25 s): what comes must come of itself.
    let task = world.ok(&["task", "add", "--instance", "a", "--timeout", "20s", "say early\nawait go\nsay late"]).trim().to_owned();
    let log = world.follow(&["task", "log", "-f", &task]);
    assert!(log.find(|line| line.contains("early")).is_some(), "nothing is told before the end: {}", world.log());
    // Its agent waits for this file, so that the line came while it ran.
    std::fs::write(directory.join("go"), "").expect("written");
    assert!(log.find(|line| line.contains("late")).is_some(), "the rest does not follow: {}", world.log());
    assert!(log.find(|line| line.contains("early") || line.contains("late")).is_none(), "a line is told twice");
    assert_eq!(world.wait(&task)["state"], "succeeded");
}

#[test]
fn a_credential_is_its_agents_and_nobody_elses() {
    const SECRET: &str = "sk-for-the-agent-and-for-nobody-else";
    let mut world = World::without_daemon("");
    let key = world.path("key");
    std::fs::write(&key, SECRET).expect("written");
    world.configure(&format!(
        "[profiles.sh]\nagent = \"command\"\ncommand = [\"/bin/sh\", \"-s\"]\ncredential-file = \"{}\"\n[instances.s]\nprofile = \"sh\"\n",
        key.display()
    ));
    world.start(world.daemon_command().env("CLAUDED_LOG", "trace"));
    world.instance("s");
    let has_it = format!("[ \"$ANTHROPIC_API_KEY\" = \"$(cat {})\" ]", key.display());
    let task = world.add("s", &has_it);
    assert_eq!(world.wait(&task)["state"], "succeeded", "the agent does not have its credential");
    let failed = world.add("s", "exit 3");
    assert_eq!(world.wait(&failed)["state"], "failed");
    world.ok(&["restart", "s"]);

    let (daemon, runner) = (format!("/proc/{}", world.daemon_pid()), format!("/proc/{}", world.runner_pid("s")));
    for file in ["cmdline", "environ"].into_iter().flat_map(|file| [format!("{daemon}/{file}"), format!("{runner}/{file}")]) {
        let text = std::fs::read(&file).expect("read");
        assert!(!String::from_utf8_lossy(&text).contains(SECRET), "it is in {file}");
    }
    let commands: [&[&str]; 6] = [&["status"], &["status", "s"], &["task", "list", "--all"], &["task", "show", &task], &["task", "log", &failed], &["events"]];
    for command in commands {
        assert!(![world.ok(command), world.ok(&[command, &["-o", "json"]].concat())].concat().contains(SECRET), "claudectl {command:?} tells it");
    }
    for path in ["/metrics", "/api/v1/health", "/agents/status", "/api/agents", "/api/tasks"] {
        assert!(!world.get(path).contains(SECRET), "{path} tells it");
    }
    world.end_daemon("TERM");
    assert_eq!(world.holders(SECRET), [key], "it is written down elsewhere");
}

#[test]
fn an_instance_does_one_task_at_a_time_in_order() {
    let world = World::new("");
    let directory = world.instance("a");
    let tasks: Vec<_> = (0..5).map(|n| world.add("a", &format!("append order.txt {n}"))).collect();
    for task in &tasks {
        assert_eq!(world.wait(task)["state"], "succeeded");
    }
    let order = std::fs::read_to_string(directory.join("order.txt")).expect("written");
    assert_eq!(order.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn tasks_for_anyone_use_every_instance() {
    let world = World::new("");
    world.instance("a");
    world.instance("b");
    let tasks: Vec<_> = (0..2).map(|_| world.ok(&["task", "add", "--any", "sleep 1s"]).trim().to_owned()).collect();
    let mut places: Vec<_> = tasks.iter().map(|t| world.wait(t)["placed_on"].as_str().expect("placed").to_owned()).collect();
    places.sort();
    assert_eq!(places, ["a", "b"]);
}

#[test]
fn a_command_is_judged_by_its_exit_status() {
    let world = World::new("[profiles.sh]\nagent = \"command\"\ncommand = [\"/bin/sh\", \"-s\"]\n[instances.s]\nprofile = \"sh\"\n");
    world.instance("s");
    let good = world.wait(&world.add("s", "echo fine; exit 0"));
    assert_eq!(good["state"], "succeeded", "{good:#}");
    assert_eq!(last(&good)["text"], "fine");
    let bad = world.wait(&world.add("s", "echo broken >&2; exit 3"));
    assert_eq!((bad["state"].as_str(), bad["reason"].as_str()), (Some("failed"), Some("agent-error")), "{bad:#}");
    assert_eq!(last(&bad)["exit_code"], 3);
}

#[test]
fn every_reason_is_told_apart() {
    let world = World::new(
        "[profiles.quick]\nagent = \"claude\"\ncommand = \"AGENT\"\nstall-timeout = \"1s\"\nkill-grace = \"1s\"\n[instances.q]\nprofile = \"quick\"\n"
            .replace("AGENT", crate::world::AGENT)
            .as_str(),
    );
    world.instance("a");
    world.instance("q");
    let ended = |task: &str| {
        let shown = world.wait(task);
        (shown["state"].as_str().unwrap_or_default().to_owned(), shown["reason"].as_str().unwrap_or_default().to_owned())
    };
    let failed = |reason: &str| ("failed".to_owned(), reason.to_owned());
    assert_eq!(ended(world.ok(&["task", "add", "--instance", "a", "--timeout", "1s", "hang"]).trim()), failed("timeout"));
    assert_eq!(ended(world.ok(&["task", "add", "--instance", "a", "--budget-usd", "0.01", "cost 0.02\nsleep 1s\ncost 0.02\nsay no"]).trim()), failed("budget"));
    assert_eq!(ended(&world.add("a", "noresult")), failed("agent-error"));
    let stalled = world.add("q", "hang");
    world.event(|e| e["kind"] == "task-finished" && e["cause"] == "stalled");
    world.ok(&["task", "cancel", &stalled]);
    assert_eq!(ended(&stalled).0, "cancelled");
}

#[test]
fn a_running_task_is_cancelled_with_all_its_processes() {
    let world = World::new("");
    let directory = world.instance("a");
    let task = world.add("a", "daemonize 600s daemon.pid\nhang");
    world.running(&task);
    let pid = loop {
        // The agent writes its daemon's number as its first act; the task's log grows when it has.
        world.ok(&["task", "log", &task]);
        if let Some(pid) = std::fs::read_to_string(directory.join("daemon.pid")).ok().and_then(|p| p.trim().parse::<u32>().ok()) {
            break pid;
        }
    };
    assert!(alive(pid));
    world.ok(&["task", "cancel", &task]);
    assert_eq!(world.wait(&task)["state"], "cancelled");
    assert!(!alive(pid), "the agent's daemon has survived");
    assert!(world.fails(7, &["task", "cancel", &task]).contains("has ended already"));
}

#[test]
fn a_usage_limit_holds_the_account_and_the_task_goes_on_in_its_session() {
    let world = World::new("");
    world.instance("a");
    world.instance("b");
    let reset = jiff::Timestamp::now().as_second() + 15;
    let task = world.add("a", &format!("once fail limit {reset}\nsay after the reset"));
    world.event(|e| e["kind"] == "task-finished" && e["cause"] == "limited");
    let health: Value = serde_json::from_str(&world.get("/api/v1/health")).expect("JSON");
    let until = jiff::Timestamp::from_second(reset).expect("a time").to_string();
    assert_eq!(health["holds"], serde_json::json!({ "claude": until }), "{health:#}");
    let other = world.add("b", "say hello");
    let shown = world.json(&["task", "show", &other]);
    assert_eq!(shown["state"], "pending", "an account at its limit was given work: {shown:#}");
    assert!(shown["detail"].as_str().is_some_and(|d| d.contains("usage limit")), "{shown:#}");
    let shown = world.wait(&task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    let history = shown["history"].as_array().expect("attempts");
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["outcome"], "limited");
    assert_eq!(history[0]["session"], history[1]["session"]);
    assert_eq!(world.wait(&other)["state"], "succeeded");
}

#[test]
fn an_ended_task_is_tried_again_when_a_person_says_so() {
    let world = World::new("");
    world.instance("a");
    let task = world.add("a", "once noresult\nsay better now");
    assert_eq!(world.wait(&task)["reason"], "agent-error");
    world.ok(&["task", "retry", &task]);
    let shown = world.wait(&task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    assert_eq!(shown["attempts"], 2);
}

#[test]
fn without_a_login_the_account_is_paused_and_the_task_waits_for_whoever_mends_it() {
    let world = World::new("");
    world.instance("a");
    let task = world.add("a", "once fail auth\nsay logged in now");
    let event = world.event(|event| event["kind"] == "account-paused");
    assert!(event["message"].as_str().is_some_and(|text| text.ends_with("then: claudectl resume --account claude")), "{event:#}");
    let waits = world.json(&["task", "show", &task]);
    assert_eq!(
        (waits["state"].as_str(), waits["waits_for"].as_str(), last(&waits)["reason"].as_str()),
        (Some("pending"), Some("paused"), Some("auth")),
        "{waits:#}"
    );
    assert!(world.ok(&["status"]).contains("account claude is paused by clauded"));
    world.ok(&["resume", "--account", "claude"]);
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("succeeded"), Some(2)), "{shown:#}");
}

#[test]
fn limits_that_are_kept_at_the_same_time_are_all_kept() {
    let world = World::new("");
    let names: Vec<String> = (0..12).map(|n| format!("i{n}")).collect();
    let limit = |name: &String| {
        world
            .ctl_command(&["limit", name, "--memory", "1G", "--persist"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("claudectl")
    };
    // Where there are no cgroups the limit is written all the same, and then said not to be in force.
    for mut child in names.iter().map(limit).collect::<Vec<_>>() {
        child.wait().expect("ended");
    }
    let text = std::fs::read_to_string(world.path("clauded.toml.d/90-claudectl.toml")).expect("written");
    let lost: Vec<_> = names.iter().filter(|name| !text.contains(&format!("instances.{name}.limits"))).collect();
    assert!(lost.is_empty(), "{lost:?} are not in\n{text}");
}

/// Where no unit says so, the kernel does all the same: who descends from a runner, or is in its cgroup, is its agent, even one
/// whose parents are gone.
#[test]
fn an_agent_is_known_as_the_agent_of_its_instance() {
    let world = World::new("[profiles.shell]\nagent = \"command\"\ncommand = [\"sh\"]\n[instances.a]\nprofile = \"shell\"");
    world.instance("a");
    let ctl = format!("CLAUDED_SOCKET={} {} task add --instance a true", world.path("run/api.sock").display(), env!("CARGO_BIN_EXE_claudectl"));
    for (prompt, file) in
        [(format!("{ctl} 2>direct; true"), "direct"), (format!("mkfifo end; (setsid sh -c 'exec 3>end; {ctl} 2>orphan' &); cat end"), "orphan")]
    {
        let task = world.wait(&world.add("a", &prompt));
        assert_eq!(task["state"], "succeeded", "{task:#}");
        let refusal = std::fs::read_to_string(world.path("worktrees/a").join(file)).expect("it was refused");
        assert!(refusal.contains("you are the agent of instance a, which is in no team"), "{refusal}");
    }
    assert!(world.json(&["task", "list", "--all"]).as_array().is_some_and(|tasks| tasks.len() == 2), "nothing was added");
}

#[test]
fn the_result_of_a_task_fits_its_schema_or_it_fails() {
    let world = World::new("[profiles.sh]\nagent = \"command\"\ncommand = [\"/bin/sh\", \"-s\"]\n[instances.s]\nprofile = \"sh\"\n");
    let schema = world.path("schema.json");
    std::fs::write(&schema, "{\"type\": \"object\"}").expect("written");
    let file = schema.to_string_lossy().into_owned();
    world.instance("a");
    let add = |prompt: &str| world.ok(&["task", "add", "--instance", "a", "--schema", &file, prompt]).trim().to_owned();
    let good = world.wait(&add("output {\"steps\": [1, 2]}"));
    assert_eq!((good["state"].as_str(), last(&good)["text"].as_str()), (Some("succeeded"), Some("{\"steps\":[1,2]}")), "{good:#}");
    assert_eq!(good["schema"], serde_json::json!({"type": "object"}));
    let bad = world.wait(&add("say no"));
    assert_eq!((bad["state"].as_str(), bad["reason"].as_str()), (Some("failed"), Some("agent-error")), "{bad:#}");
    assert!(bad["detail"].as_str().is_some_and(|d| d.contains("without a result that fits the JSON schema; it said: no")), "{bad:#}");
    // Without a schema nothing is asked for.
    assert_eq!(world.wait(&world.add("a", "say no"))["state"], "succeeded");
    assert!(world.fails(2, &["task", "add", "--schema", &file, "x"]).contains("--instance"));
    assert!(world.fails(7, &["task", "add", "--schema", &file, "--any", "x"]).contains("name such an instance"));
    assert!(world.fails(7, &["task", "add", "--schema", &file, "--instance", "s", "x"]).contains("only if its agent is Claude Code"));
    std::fs::write(&schema, "[1]").expect("written");
    assert!(world.fails(7, &["task", "add", "--schema", &file, "--instance", "a", "x"]).contains("a JSON schema is an object"));
    std::fs::write(&schema, "{").expect("written");
    assert!(world.fails(2, &["task", "add", "--schema", &file, "--instance", "a", "x"]).contains("it is not JSON"));
}
