//! The GitHub workflow that is shipped: its steps, taken from the file, run as a runner would run them.

use crate::skip::skip;
use crate::worktrees::world;
use crate::world::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the job left behind.
#[derive(Debug)]
struct Job {
    status: i32,
    /// What it printed, both ways.
    printed: String,
    outputs: BTreeMap<String, String>,
    summary: String,
}

fn steps() -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/github/clauded-task.yml")).expect("readable");
    let workflow: Value = serde_saphyr::from_str(&text).expect("YAML");
    let job = &workflow["jobs"]["task"];
    assert_eq!((&job["env"]["INSTANCE"], &job["env"]["TASK"]), (&"${{ inputs.instance }}".into(), &"${{ inputs.task }}".into()));
    assert_eq!(job["defaults"]["run"]["shell"], "bash");
    let steps = job["steps"].as_array().expect("steps").clone();
    assert!(steps.iter().all(|step| step["run"].as_str().is_some_and(|run| !run.contains("${{"))), "an input is no part of a script");
    steps
}

/// Runs the job; `None` where that cannot be done.
fn run(world: &World, instance: &str, task: &str) -> Option<Job> {
    let programs = Path::new(env!("CARGO_BIN_EXE_claudectl")).parent().expect("a directory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a PATH"));
    if !std::env::split_paths(&path).any(|directory| directory.join("jq").exists()) {
        skip("the workflow: there is no jq");
        return None;
    }
    let home = world.path("github");
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir(&home).expect("made");
    let file = |name: &str| home.join(name);
    let mut job = Job { status: 0, printed: String::new(), outputs: BTreeMap::new(), summary: String::new() };
    for step in steps() {
        // The one condition that there is.
        if step["if"].as_str().is_some_and(|condition| condition == "steps.look.outputs.ended != 'true'")
            && job.outputs.get("ended").is_some_and(|e| e == "true")
        {
            continue;
        }
        let (output, summary, printed) = (file("output"), file("summary"), std::fs::File::create(file("printed")).expect("made"));
        std::fs::write(&output, "").expect("written");
        std::fs::write(file("script"), step["run"].as_str().expect("a script")).expect("written");
        // As GitHub says of `shell: bash`.
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(file("script")).current_dir(&home).env_clear().env("PATH", &path);
        bash.env("CLAUDED_SOCKET", world.path("run/api.sock")).env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
        bash.env("INSTANCE", instance).env("TASK", task).stdin(Stdio::null());
        let status = bash.stderr(printed.try_clone().expect("cloned")).stdout(printed).status().expect("bash runs");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        job.printed += &read(&file("printed"));
        job.summary = read(&summary);
        job.outputs.extend(read(&output).lines().map(|line| line.split_once('=').map(|(key, value)| (key.into(), value.into())).expect("a pair")));
        job.status = status.code().expect("it ended by itself");
        if job.status != 0 {
            break;
        }
    }
    Some(job)
}

fn add(world: &World, more: &[&str]) -> String {
    world.ok(&[&["task", "add", "--instance", "a"], more].concat()).trim().to_owned()
}

#[test]
fn a_task_is_done_and_the_job_says_where_the_work_is() {
    let world = world(&["a"], "");
    let task = add(&world, &["--title", "Add `x` | <b>", "write x.txt x\nsay ::error::not mine\nsay ::set-output name=state::evil"]);
    let Some(job) = run(&world, "a", &task) else { return };
    let id = world.json(&["status", "a"])["id"].as_str().expect("an ID").to_owned();
    let branch = format!("claude-{id}/task/add-x-b");
    assert_eq!(job.status, 0, "{job:?}");
    assert_eq!((job.outputs["state"].as_str(), job.outputs["branch"].as_str()), ("succeeded", branch.as_str()), "{job:?}");
    let rows = [format!("### Task {task}: succeeded\n"), "| Title | `Add  x    <b>` |".into(), "| Instance | `a` |".into(), format!("| Branch | `{branch}` |")];
    assert!(rows.iter().all(|row| job.summary.contains(row)), "{}", job.summary);
    // What the agent prints is between the runner's marks, where it is no command.
    let (before, after) = job.printed.split_once("::stop-commands::").expect("stopped");
    let (token, rest) = after.split_once('\n').expect("a line");
    let (inside, beyond) = rest.split_once(&format!("::{token}::\n")).expect("goes on");
    assert!(token.len() == 32 && inside.contains("not mine"), "{job:?}");
    assert!(!before.contains("not mine") && beyond.is_empty(), "{job:?}");
    // A second job on it only tells; it starts nothing.
    world.ok(&["stop", "a"]);
    let again = run(&world, "a", &task).expect("as before");
    assert_eq!((again.status, again.outputs["state"].as_str()), (0, "succeeded"), "{again:?}");
    assert_ne!(world.json(&["status", "a"])["active"], "active");
}

#[test]
fn the_job_ends_as_the_task_ends() {
    let world = world(&["a"], "");
    let task = add(&world, &["fail refusal"]);
    let Some(job) = run(&world, "a", &task) else { return };
    assert_eq!((job.status, job.outputs["state"].as_str(), job.outputs["branch"].is_empty()), (1, "failed", false), "{job:?}");
    assert!(job.summary.contains("| Detail | `") && job.summary.contains("refused to answer"), "{}", job.summary);
    let task = add(&world, &["hang"]);
    world.running(&task);
    world.ok(&["task", "cancel", &task]);
    let job = run(&world, "a", &task).expect("as before");
    assert_eq!((job.status, job.outputs["state"].as_str(), job.outputs["branch"].is_empty()), (1, "cancelled", false), "{job:?}");
    world.ok(&["stop", "a"]);
    let task = add(&world, &["never begins"]);
    world.ok(&["task", "cancel", &task]);
    let job = run(&world, "a", &task).expect("as before");
    assert_eq!((job.status, job.outputs["state"].as_str(), job.outputs["branch"].as_str()), (1, "cancelled", ""), "{job:?}");
}

#[test]
fn wrong_inputs_are_refused_and_are_no_part_of_a_script() {
    let world = world(&["a", "b"], "");
    let task = add(&world, &["say hello"]);
    let bad = [
        ("a", "999", 3, "there is no task 999"),
        ("a", "1; touch pwned", 1, "::error::task: that is no number"),
        ("a", "$(touch pwned)", 1, "::error::task: that is no number"),
        ("a", "1\n::error::mine", 1, "::error::task: that is no number"),
        ("a", "--help", 1, "::error::task: that is no number"),
        ("a", "", 1, "::error::task: that is no number"),
        ("a; touch pwned", &task, 1, "::error::instance: that is no name"),
        ("`touch pwned`", &task, 1, "::error::instance: that is no name"),
        ("--help", &task, 1, "::error::instance: that is no name"),
        ("a\n::error::mine", &task, 1, "::error::instance: that is no name"),
        ("b", &task, 1, "is for the instance a, and b would not be given it"),
    ];
    for (instance, number, status, words) in bad {
        let Some(job) = run(&world, instance, number) else { return };
        assert_eq!(job.status, status, "{instance:?} {number:?}: {job:?}");
        assert!(job.printed.contains(words) && !job.printed.contains("mine"), "{job:?}");
        assert!(job.outputs.is_empty() && job.summary.is_empty(), "{job:?}");
        assert!(!world.path("github/pwned").exists(), "{instance:?} {number:?}");
    }
    assert_eq!(world.json(&["task", "show", &task])["state"], "pending", "nothing was started");
}
