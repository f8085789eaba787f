//! Work as it should go.

use crate::harness::attempt;
use crate::reply::Reply;
use crate::stage::{ANSWER, KEY, MODEL, Stage};
use clauded::core::attempt::{Ended, Exit};
use clauded::core::usage::{Tokens, Usd};
use std::fs;
use std::path::Path;

#[test]
fn a_question_is_answered_and_accounted_for() {
    let Some(mut stage) = Stage::new(vec![Reply::Text("forty-two")]) else { return };
    let report = stage.host.report(stage.work("what is the answer?"));
    assert_eq!((&report.ended, report.text.as_str(), report.exit), (&Ended::Succeeded, "forty-two", Some(Exit::Code(0))), "{report:?}");
    assert_eq!((report.agent.turns, report.agent.tool_calls, report.agent.cost), (1, 0, Usd(ANSWER)));
    assert_eq!(report.agent.tokens[MODEL], Tokens { input: 1000, output: 50, cache_read: 300, cache_creation: 200 });
    let asked = stage.api.asked();
    assert_eq!((asked.len(), asked[0].body["model"].as_str()), (1, Some(MODEL)));
    assert!(asked[0].body["messages"].to_string().contains("what is the answer?"));
    assert_eq!(asked[0].headers.get("x-api-key").map(String::as_str), Some(KEY), "the credential did not reach the agent");
    assert_eq!(asked[0].headers.get("x-claude-code-session-id").cloned(), report.session.map(|s| s.to_string()));
}

#[test]
fn a_file_is_written_in_the_worktree() {
    let Some(mut stage) = Stage::new(Vec::new()) else { return };
    let file = stage.host.directory().join("hello.txt");
    stage.api.then(vec![Reply::write(&file.display().to_string(), "hello\n"), Reply::Text("written")]);
    let report = stage.host.report(stage.work("write it"));
    assert_eq!((&report.ended, report.text.as_str()), (&Ended::Succeeded, "written"), "{report:?}");
    assert_eq!(fs::read_to_string(file).expect("written"), "hello\n");
    assert_eq!((report.agent.turns, report.agent.tool_calls, report.agent.cost), (2, 1, Usd(2 * ANSWER)));
}

#[test]
fn a_session_goes_on_and_each_attempt_pays_for_itself() {
    let Some(mut stage) = Stage::new(vec![Reply::Text("one"), Reply::Text("two"), Reply::bash("true"), Reply::Text("three")]) else { return };
    let mut daemon = stage.host.connect();
    let mut session = None;
    for (number, text, answers) in [(1, "one", 1), (2, "two", 1), (3, "three", 2)] {
        let mut work = stage.work(&format!("say {text}"));
        (work.attempt, work.resume) = (attempt(1, number), session);
        daemon.run(work);
        let report = daemon.finished();
        assert_eq!((&report.ended, report.text.as_str()), (&Ended::Succeeded, text), "{report:?}");
        assert_eq!((report.agent.cost, report.agent.tokens[MODEL].input), (Usd(answers * ANSWER), answers * 1000), "attempt {number}");
        assert!(session.is_none() || session == report.session, "another session");
        session = report.session;
    }
    let last = stage.api.asked()[2].body["messages"].to_string();
    assert!(last.contains("say one") && last.contains("two") && last.contains("say three"), "the conversation was not resumed: {last}");
}

#[test]
fn an_unknown_session_begins_anew() {
    let Some(mut stage) = Stage::new(vec![Reply::Text("here")]) else { return };
    let mut work = stage.work("go on");
    let unknown = clauded::core::ids::SessionId(uuid::Uuid::new_v4());
    work.resume = Some(unknown);
    let report = stage.host.report(work);
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert!(report.session.is_some_and(|s| s != unknown));
}

/// The CLI binds a socket below TMPDIR, whose path may not be longer than 107 bytes (unix(7)).
#[test]
fn a_state_directory_too_long_for_a_socket_is_no_trouble() {
    let Some(mut stage) = Stage::new(vec![Reply::bash("echo hi"), Reply::Text("done")]) else { return };
    let state = stage.host.dir.path().join("x".repeat(100));
    stage.host.environment.push(("STATE_DIRECTORY", state.display().to_string()));
    let report = stage.host.report(stage.work("hello"));
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert!(state.join("claude/projects").is_dir());
}

#[test]
fn nothing_is_written_beside_the_instances_own_directories() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("what the CLI writes elsewhere: only root has a mount namespace");
    }
    let Some(mut stage) = Stage::new(vec![Reply::bash("echo hi > made.txt; cd /"), Reply::Text("done")]) else { return };
    let mut work = stage.work("make it");
    // An empty /tmp of its own, with this test's directory and the CLI in it: what else appears there came from the CLI.
    let script = r#"set -e
        root=$1 project=$2; shift 2
        mkdir /run/kept 2>/dev/null || mount -t tmpfs none /run && mkdir -p /run/kept
        mkdir /run/project; mount --bind "$root" /run/kept; mount --bind "$project" /run/project
        mount -t tmpfs none /tmp; mount -t tmpfs none /var/tmp
        mkdir -p "$root" "$project"; mount --bind /run/kept "$root"; mount --bind /run/project "$project"; cd "$root/work"
        find /tmp /var/tmp -xdev | sort >"$root/before"
        "$@"
        find /tmp /var/tmp -xdev | sort | comm -13 "$root/before" - >"$root/strays""#;
    let wrapped = ["unshare", "--mount", "sh", "-c", script, "sh", &stage.host.dir.path().display().to_string(), env!("CARGO_MANIFEST_DIR")].map(str::to_owned);
    work.profile.command.splice(0..0, wrapped);
    let root = stage.host.dir.path().to_owned();
    let report = stage.host.report(work);
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(fs::read_to_string(stage.host.directory().join("made.txt")).expect("written"), "hi\n");
    assert_eq!(fs::read_to_string(root.join("strays")).expect("looked for"), "", "files elsewhere");
    // The CLI's own log of its MCP servers, which it clears itself, is the one thing that it keeps where caches are.
    let strays: Vec<_> =
        files(&root.join("home")).into_iter().filter(|file| !file.contains("/.cache/claude-cli-nodejs/") || !file.contains("/mcp-logs-clauded/")).collect();
    assert_eq!(strays, Vec::<String>::new(), "files in the home directory");
    assert_eq!(entries(&stage.host.directory()), ["made.txt"]);
    assert!(!entries(&stage.host.state().join("claude/projects")).is_empty(), "the transcript is not in CLAUDE_CONFIG_DIR");
}

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory).expect("listed").map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_result_by_json_schema_is_the_reports_text_or_a_failure() {
    let schema = serde_json::json!({"type": "object", "required": ["steps"], "properties": {"steps": {"type": "array", "items": {"type": "string"}}}});
    let output = serde_json::json!({"steps": ["one", "two"]});
    let Some(mut stage) = Stage::new(vec![Reply::Tool("StructuredOutput", output.clone())]) else { return };
    let with_schema = |mut work: clauded::proto::link::Work| {
        work.schema = Some(schema.clone());
        work
    };
    let report = stage.host.report(with_schema(stage.work("plan it")));
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&report.text).expect("JSON"), output);

    let Some(mut stage) = Stage::new(vec![Reply::Text("I would rather not"); 20]) else { return };
    let report = stage.host.report(with_schema(stage.work("plan it")));
    assert!(matches!(report.ended, Ended::Failed { transient: false, .. }) && report.detail.contains("without a result that fits"), "{report:?}");
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<String> {
    let found = fs::read_dir(directory).expect("listed").map(|e| e.expect("an entry").path());
    found.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path.display().to_string()] }).collect()
}
