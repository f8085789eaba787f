//! What has to hold when all tasks have ended, looked at from outside: in the audit, in git, in /proc, on disk.

use super::work::{Kind, Task};
use super::{git, git_command, names};
use crate::kills::strangers;
use crate::world::World;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What is wrong; all of it is told at once.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }
}

/// A task as it ended.
struct Ended<'t> {
    asked: &'t Task,
    shown: Value,
}

impl Ended<'_> {
    fn state(&self) -> &str {
        self.shown["state"].as_str().unwrap_or_default()
    }

    fn reason(&self) -> &str {
        self.shown["reason"].as_str().unwrap_or_default()
    }

    /// The refs that the task names, in full: its branches and what was rescued of it.
    fn refs(&self) -> BTreeSet<String> {
        let works = self.shown["history"].as_array().expect("attempts").iter().map(|attempt| &attempt["work"]);
        let of = |work: &Value| [work["branch"].as_str().map(|name| format!("refs/heads/{name}")), work["rescue"].as_str().map(str::to_owned)];
        works.flat_map(of).flatten().collect()
    }

    fn id(&self) -> &str {
        &self.asked.id
    }
}

pub(super) fn hold(world: &mut World, tasks: &[Task]) {
    let ended: Vec<Ended<'_>> = tasks.iter().map(|asked| Ended { asked, shown: world.json(&["task", "show", &asked.id]) }).collect();
    let mut wrong = Wrong::default();
    witnesses(world, &mut wrong);
    once(world, &ended, &mut wrong);
    ends(&ended, &mut wrong);
    repositories(world, &ended, &mut wrong);
    worktrees(world, &ended, &mut wrong);
    usable(world, &mut wrong);
    nothing_is_left(world, &mut wrong);
    let verdict = world.ok(&["audit", "verify"]);
    wrong.unless(verdict.starts_with("The audit is intact: "), || verdict.clone());
    let mut states = BTreeMap::new();
    for task in &ended {
        *states.entry(format!("{:?} {} {}", task.asked.kind, task.state(), task.reason())).or_insert(0) += 1;
    }
    let circles = lines(world, "circles").len();
    let attempts: u64 = ended.iter().filter_map(|task| task.shown["attempts"].as_u64()).sum();
    eprintln!("{attempts} attempts, {circles} circles of waits: {states:#?}");
    if !wrong.0.is_empty() {
        panic!("{} things are wrong; all of it is kept in {}:\n{}", wrong.0.len(), keep(world).display(), wrong.0.join("\n"));
    }
}

/// Copies the world's directory to where somebody can look at it.
pub(super) fn keep(world: &World) -> PathBuf {
    let kept = world.path("").with_extension("kept");
    let _ = std::process::Command::new("cp").arg("-a").arg(world.path("")).arg(&kept).status();
    kept
}

fn lines(world: &World, paper: &str) -> Vec<String> {
    fs::read_to_string(world.path("papers").join(paper)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// No lock was given twice, no task ran beside itself.
fn witnesses(world: &World, wrong: &mut Wrong) {
    lines(world, "violations").into_iter().for_each(|line| wrong.0.push(format!("held twice: {line}")));
}

/// By the audit: one attempt of a task at a time, one end, nothing after it, and nothing begun before what it comes after has ended.
fn once(world: &World, ended: &[Ended<'_>], wrong: &mut Wrong) {
    let mut rows = world.json(&["audit", "-n", "100000"]).as_array().expect("rows").clone();
    rows.sort_by_key(|row| row["seq"].as_i64());
    let mut of: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for row in &rows {
        if let (Some(task), Some(what), Some(seq)) = (row["task"].as_i64(), row["what"].as_str(), row["seq"].as_i64()) {
            of.entry(task.to_string()).or_default().push((seq, what.to_owned()));
        }
    }
    let mut end_of = BTreeMap::new();
    for task in ended {
        let (mut given, mut ends) = (false, Vec::new());
        for (seq, what) in of.get(task.id()).into_iter().flatten() {
            match what.as_str() {
                "task-assigned" => {
                    wrong.unless(!given, || format!("task {} is given out while an attempt is under way (row {seq})", task.id()));
                    wrong.unless(ends.is_empty(), || format!("task {} is given out after its end (row {seq})", task.id()));
                    given = true;
                }
                "task-pending" => given = false,
                "task-succeeded" | "task-failed" | "task-cancelled" => {
                    given = false;
                    ends.push(*seq);
                }
                _ => {}
            }
        }
        wrong.unless(ends.len() == 1, || format!("task {} has {} ends: {:?}", task.id(), ends.len(), of.get(task.id())));
        end_of.insert(task.id(), ends.first().copied().unwrap_or(i64::MAX));
    }
    for task in ended {
        let began = of.get(task.id()).into_iter().flatten().find(|(_, what)| what == "task-assigned").map(|(seq, _)| *seq);
        for needed in &task.asked.after {
            let end = end_of.get(needed.as_str()).copied().unwrap_or(i64::MAX);
            wrong.unless(began.is_none_or(|began| began > end), || format!("task {} began before {needed}, which it comes after, had ended", task.id()));
        }
    }
}

/// How each ended fits what it does and what it comes after.
fn ends(ended: &[Ended<'_>], wrong: &mut Wrong) {
    let by_id: BTreeMap<&str, &Ended<'_>> = ended.iter().map(|task| (task.id(), task)).collect();
    for task in ended {
        let how = (task.state(), task.reason());
        let in_vain = task.asked.after.iter().any(|needed| by_id.get(needed.as_str()).is_some_and(|needed| needed.state() != "succeeded"));
        let dependency = how == ("failed", "dependency");
        let doomed = in_vain && !task.asked.released;
        wrong.unless(dependency == doomed || how.0 == "cancelled", || format!("task {} ended as {how:?}, which does not fit what it comes after", task.id()));
        // A hundred times killed it is lost, an operator may cancel it, and a check that was killed has not passed.
        let killed_check = how == ("failed", "verify-failed") && task.shown["detail"].as_str().is_some_and(|detail| detail.contains("signal 9"));
        let fits = killed_check
            || matches!(how, ("cancelled", _) | ("failed", "lost" | "dependency"))
            || match task.asked.kind {
                Kind::Fails => how == ("failed", "agent-error"),
                Kind::Breaks => how == ("failed", "verify-failed"),
                // Of a second attempt only what another holds counts.
                Kind::Sneaks => matches!(how, ("failed", "locks") | ("succeeded", _)),
                _ => how.0 == "succeeded",
            };
        wrong.unless(fits, || format!("task {} ({:?}) ended as {how:?}: {}", task.id(), task.asked.kind, task.shown["detail"]));
    }
}

/// Everything that was ever written or committed is on a ref that its task names; a branch that was pushed is in the origin.
fn repositories(world: &World, ended: &[Ended<'_>], wrong: &mut Wrong) {
    let (store, origin) = (world.path("worktrees/.repositories/shop.git"), world.path("origin.git"));
    for repository in [&store, &origin] {
        let output = git_command(repository, &["fsck", "--connectivity-only", "--no-dangling"]).output().expect("git runs");
        wrong.unless(output.status.success(), || format!("{} is damaged: {output:?}", repository.display()));
    }
    let base = git(&origin, &["rev-parse", "main"]);
    let every: BTreeMap<String, String> = git(&store, &["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/clauded"])
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(name, at)| (name.to_owned(), at.to_owned())))
        .collect();
    let added = |name: &str| -> BTreeSet<String> {
        let range = format!("{base}..{name}");
        git(&store, &["log", "-p", "-m", "--format=", &range]).lines().filter_map(|line| line.strip_prefix('+').map(str::to_owned)).collect()
    };
    let anywhere: BTreeMap<&String, BTreeSet<String>> = every.keys().map(|name| (name, added(name))).collect();
    let (writes, commits) = (lines(world, "writes"), lines(world, "commits"));
    for task in ended {
        let refs = task.refs();
        for name in refs.iter().filter(|name| !every.contains_key(*name)) {
            // An attempt that had nothing to say of its branch.
            wrong.0.push(format!("task {} names {name}, which is not there", task.id()));
        }
        for line in &writes {
            let Some((attempt, file)) = line.strip_prefix(&format!("{} ", task.id())).and_then(|rest| rest.split_once(' ')) else { continue };
            let text = format!("task {} attempt {attempt} {file}", task.id());
            let named = refs.iter().any(|name| anywhere.get(name).is_some_and(|added| added.contains(&text)));
            wrong.unless(named, || {
                let unnamed: Vec<_> = anywhere.iter().filter(|(_, added)| added.contains(&text)).map(|(name, _)| name.as_str()).collect();
                format!(
                    "lost: {text:?} of task {} ({:?}, {} {}) is on none of {refs:?}, but on {unnamed:?}",
                    task.id(),
                    task.asked.kind,
                    task.state(),
                    task.reason()
                )
            });
        }
        for commit in commits.iter().filter_map(|line| line.strip_prefix(&format!("{} ", task.id()))) {
            let contains = |name: &&String| git_command(&store, &["merge-base", "--is-ancestor", commit, name]).status().is_ok_and(|status| status.success());
            wrong.unless(refs.iter().any(|name| contains(&name)), || format!("lost: commit {commit} of task {} is on none of {refs:?}", task.id()));
        }
        let last = task.shown["history"].as_array().and_then(|history| history.last()).map(|last| last["work"].clone()).unwrap_or_default();
        if task.state() == "succeeded" {
            let branch = format!("refs/heads/{}", last["branch"].as_str().unwrap_or_default());
            let there = git_command(&origin, &["rev-parse", "--verify", &branch]).output().expect("git runs");
            let there = String::from_utf8_lossy(&there.stdout).trim().to_owned();
            wrong.unless(Some(there.as_str()) == last["head"].as_str(), || {
                format!("task {} succeeded and its branch {branch} is not pushed: {last}", task.id())
            });
        }
    }
}

/// Each worktree is clean, or what stands there is on a rescue ref that a task names.
fn worktrees(world: &World, ended: &[Ended<'_>], wrong: &mut Wrong) {
    let store = world.path("worktrees/.repositories/shop.git");
    let rescues: BTreeSet<String> = ended.iter().flat_map(Ended::refs).filter(|name| name.starts_with("refs/clauded/rescue/")).collect();
    let kept: BTreeSet<String> = git(&store, &["for-each-ref", "--format=%(refname) %(tree)", "refs/clauded/rescue"])
        .lines()
        .filter_map(|line| line.split_once(' ').filter(|(name, _)| rescues.contains(*name)).map(|(_, tree)| tree.to_owned()))
        .collect();
    for name in names() {
        let worktree = world.path("worktrees").join(&name);
        let output = git_command(&worktree, &["status", "--porcelain"]).output().expect("git runs");
        wrong.unless(output.status.success(), || format!("the worktree of {name} is no worktree: {output:?}"));
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        if !status.is_empty() {
            let index = world.path(&format!("{name}.index"));
            let with_index = |arguments: &[&str]| {
                let output = git_command(&worktree, arguments).env("GIT_INDEX_FILE", &index).output().expect("git runs");
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            };
            with_index(&["add", "--all"]);
            let tree = with_index(&["write-tree"]);
            wrong.unless(kept.contains(&tree), || format!("the worktree of {name} is dirty, and no rescue ref that a task names has it:\n{status}"));
        }
    }
}

/// Work goes on in each worktree, and clears away what a git has left that was killed at the very end.
fn usable(world: &World, wrong: &mut Wrong) {
    super::start(world);
    let add = |name: String| world.ok(&["task", "add", "--instance", &name, "exit 0"]).trim().to_owned();
    let ids: Vec<String> = names().map(add).collect();
    let arguments: Vec<&str> = ["task", "wait", "--timeout", "3min"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let output = world.ctl(&arguments);
    wrong.unless(output.status.success(), || format!("not each worktree can be worked in: {output:?}"));
    let store = world.path("worktrees/.repositories/shop.git");
    let left = std::process::Command::new("find").arg(&store).args(["-name", "*.lock", "-o", "-name", "clauded.index"]).output().expect("find runs");
    for path in String::from_utf8_lossy(&left.stdout).lines().filter(|path| !path.ends_with("clauded.lock")) {
        wrong.0.push(format!("{path} is left"));
    }
}

/// No lock, no wait, no process, no record of an attempt.
fn nothing_is_left(world: &mut World, wrong: &mut Wrong) {
    let table = world.json(&["lock", "list"]);
    wrong.unless(table["locks"].as_array().is_some_and(Vec::is_empty) && table["waiting"].as_array().is_some_and(Vec::is_empty), || {
        format!("locks are left: {table:#}")
    });
    for name in names() {
        let status = world.json(&["status", &name]);
        wrong.unless(status["task"].is_null(), || format!("{name} has a task: {status:#}"));
        world.ok(&["stop", &name]);
        let records = world.path("instances/instances").join(&name);
        wrong.unless(!has_records(&records), || format!("a record of an attempt is left in {}", records.display()));
    }
    let left = strangers(world, &BTreeSet::new());
    wrong.unless(left.is_empty(), || format!("processes are left: {left:?}"));
}

fn has_records(state: &Path) -> bool {
    fs::read_dir(state.join("attempts")).is_ok_and(|mut records| records.next().is_some())
}
