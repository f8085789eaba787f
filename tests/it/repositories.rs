//! `claudectl init`, with a real daemon and real git: what it writes is in force, it can be repeated, and it breaks nobody's session.

use crate::worktrees::git;
use crate::world::World;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// A repository of one commit.
fn repository(world: &World, name: &str) -> PathBuf {
    let root = world.path(name);
    fs::create_dir(&root).expect("made");
    git(&root, &["init", "--quiet"]);
    fs::write(root.join("Makefile"), "test:\n\ttrue\n").expect("written");
    git(&root, &["add", "."]);
    git(&root, &["commit", "--quiet", "-m", "first"]);
    root
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What a run says of each thing, from the last part of its name.
fn results(world: &World, arguments: &[&str]) -> Vec<(String, String)> {
    let output = world.ctl(&[&["init", "-o", "json"], arguments].concat());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let steps = said["steps"].as_array().expect("steps").iter();
    let word = |value: &Value| value.as_str().expect("a word").rsplit('/').next().unwrap_or_default().to_owned();
    steps.map(|step| (word(&step["what"]), word(&step["result"]))).collect()
}

fn all(stanza: &str, files: &str) -> Vec<(String, String)> {
    [("[repositories.shop]", stanza), ("settings.json", files), (".gitignore", files)].map(|(what, result)| (what.to_owned(), result.to_owned())).into()
}

#[test]
fn a_repository_is_prepared_by_one_command_that_can_be_repeated() {
    let mut world = World::new("");
    let shop = repository(&world, "shop");
    let deep = shop.join("deep/er");
    fs::create_dir_all(&deep).expect("made");
    assert_eq!(results(&world, &["--dry-run", text(&deep)]), all("created", "created"));
    assert_eq!(git(&shop, &["status", "--porcelain"]), "");
    let stanza = world.path("clauded.toml.d/repository-shop.toml");
    assert!(!stanza.exists());

    let said = world.ok(&["init", text(&deep)]);
    let root = text(&shop);
    assert_eq!(
        said,
        format!(
            "[repositories.shop]: created; {root}, branch main, checked by: make test\n{root}/.claude/settings.json: created\n{root}/.gitignore: created\n"
        )
    );
    assert_eq!(git(&shop, &["status", "--porcelain", "--untracked-files=all"]), "?? .claude/settings.json\n?? .gitignore");
    fs::write(shop.join(".claude/settings.local.json"), "{}").expect("written");
    assert!(!git(&shop, &["status", "--porcelain", "--untracked-files=all"]).contains("local"));
    // The note of it may be stored after the answer.
    world.event(|event| event["kind"] == "repository-set");
    let row = world.json(&["audit", "--what", "repository-set"]);
    assert_eq!((row[0]["subject"].as_str(), row.as_array().map(Vec::len)), (Some("shop"), Some(1)), "{row}");

    // What an operator makes of it stays, and the second run changes no byte.
    fs::write(&stanza, read(&stanza).replace("[\"make\", \"test\"]", "[\"false\"] # for now")).expect("written");
    let files = || [&stanza, &shop.join(".claude/settings.json"), &shop.join(".gitignore")].map(|file| read(file));
    let before = files();
    assert_eq!(results(&world, &[root]), all("unchanged", "unchanged"));
    assert_eq!(files(), before);
    assert_eq!(world.json(&["audit", "--what", "repository-set"]), row, "nothing was set");
    // It is in force, as it stands in the file, and still is after a restart.
    world.ok(&["worktree", "add", "a", "--repository", "shop"]);
    world.end_daemon("TERM");
    world.start_daemon();
    world.ok(&["start", "a"]);
    let failed = world.wait(&world.add("a", "write x.txt x"));
    assert_eq!(failed["reason"], "verify-failed", "{failed}");
    assert_eq!(results(&world, &["--verify", "make test", root])[0].1, "changed");
    let task = world.wait(&world.add("a", "write y.txt y"));
    assert_eq!(task["state"], "succeeded", "{task}");
    assert!(read(&stanza).contains("verify = [\"make\", \"test\"] # for now"));
}

#[test]
fn without_clauded_the_files_are_prepared_and_the_stanza_is_said() {
    let mut world = World::without_daemon("");
    let shop = repository(&world, "shop");
    let output = world.ctl(&["init", text(&shop)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stanza = format!("[repositories.shop]\n  path = \"{}\"\n  default-branch = \"main\"\n  verify = [\"make\", \"test\"]\n", shop.display());
    assert!(said.contains("[repositories.shop]: not done; clauded is not running at ") && said.contains(&stanza), "{said}");
    assert!(said.contains("/etc/clauded/clauded.toml.d/repository-shop.toml, and run: systemctl reload clauded"), "{said}");
    assert!(shop.join(".claude/settings.json").exists() && shop.join(".gitignore").exists());
    world.start_daemon();
    assert_eq!(results(&world, &[text(&shop)]), all("created", "unchanged"));
}

#[test]
fn a_clone_is_told_by_its_url_and_a_linked_worktree_by_its_repository() {
    let world = World::new("");
    let origin = repository(&world, "origin");
    let url = format!("file://{}", origin.display());
    let clone = world.path("shop");
    git(&world.path(""), &["clone", "--quiet", &url, text(&clone)]);
    git(&clone, &["checkout", "--quiet", "-b", "topic"]);
    let said = world.ok(&["init", "--dry-run", text(&clone)]);
    assert!(said.starts_with(&format!("[repositories.shop]: would be created; {url}, branch main, checked by: make test\n")), "{said}");
    let said = world.ok(&["init", "--path", text(&clone), text(&clone)]);
    assert!(said.starts_with(&format!("[repositories.shop]: created; {}, branch main, checked by: make test\n", clone.display())), "{said}");
    let linked = world.path("linked");
    git(&clone, &["worktree", "add", "--quiet", "-b", "other", text(&linked)]);
    let said = world.ok(&["init", "--path", text(&clone), text(&linked)]);
    assert!(said.starts_with("[repositories.shop]: unchanged; ") && said.contains("/linked/.gitignore: created"), "{said}");
}

#[test]
fn what_is_in_the_way_is_named_and_left_alone() {
    let world = World::new("");
    let shop = repository(&world, "shop");
    let refused = |code: i32, arguments: &[&str], words: &str| {
        let said = world.fails(code, &[&["init"], arguments].concat());
        assert!(said.contains(words), "{said}\nlacks {words}");
    };
    let root = text(&shop);
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    refused(1, &[text(&elsewhere)], "is in no git repository; make one with `git init`");
    symlink(&elsewhere, shop.join(".claude")).expect("linked");
    refused(1, &[root], "/shop/.claude is a symbolic link, and is not followed; make it a directory; nothing was changed");
    fs::remove_file(shop.join(".claude")).expect("removed");
    fs::create_dir(shop.join(".claude")).expect("made");
    fs::write(shop.join(".claude/settings.json"), "{\"hooks\": [,]}").expect("written");
    refused(1, &[root], "/shop/.claude/settings.json is not JSON: expected value at line 1 column 12; nothing was changed");
    assert_eq!(read(&shop.join(".claude/settings.json")), "{\"hooks\": [,]}");
    fs::write(shop.join(".claude/settings.json"), "{}").expect("written");
    // What clauded refuses leaves the files as they are too.
    refused(7, &["--branch=--upload-pack=x", root], "cannot be a branch");
    refused(7, &["--name", "shop.git", root], "ends with '.' or \".git\"");
    refused(2, &["--name", "../x", root], "is no name");
    refused(2, &["--url", "ext::sh -c x", root], "is no URL");
    let other = repository(&world, "other");
    world.ok(&["init", "--name", "store", text(&other)]);
    refused(7, &["--name", "store", root], "[repositories.store] is there already, and is ");
    refused(7, &[text(&other)], "is [repositories.store] already, not other; say: claudectl init --name store");
    assert_eq!((read(&shop.join(".claude/settings.json")).as_str(), shop.join(".gitignore").exists()), ("{}", false));
    let written: Vec<_> = fs::read_dir(world.path("clauded.toml.d")).expect("listed").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(written, ["repository-store.toml"]);
    // A hostile repository's programs are not run.
    git(&shop, &["config", "core.fsmonitor", &format!("touch {}", world.path("run-by-git").display())]);
    git(&shop, &["config", "remote.origin.url", "https://me:secret@example.org/x"]);
    refused(1, &[root], "the URL of the remote origin has a password in it");
    git(&shop, &["config", "--unset", "remote.origin.url"]);
    world.ok(&["init", root]);
    assert!(!world.path("run-by-git").exists());
}

/// Runs the hook that `init` has written, as Claude Code does: through a shell, with the tool's JSON.
fn hook(world: &World, root: &Path, path: &str, socket: &Path) -> Output {
    let settings: Value = serde_json::from_str(&read(&root.join(".claude/settings.json"))).expect("JSON");
    let command = settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"].as_str().expect("a command").to_owned();
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", &command])
        .env_clear()
        .env("PATH", path)
        .env("CLAUDED_SOCKET", socket)
        .env("CLAUDE_PROJECT_DIR", root)
        .current_dir(world.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell runs");
    let input = json!({"session_id": "s", "cwd": root, "tool_name": "Edit", "tool_input": {"file_path": root.join("x.txt")}});
    // Without claudectl nobody reads it.
    let _ = child.stdin.take().expect("piped").write_all(input.to_string().as_bytes());
    child.wait_with_output().expect("waited for")
}

#[test]
fn peoples_sessions_take_locks_beside_the_agents_and_go_on_without_clauded() {
    let mut world = World::new("");
    let origin = repository(&world, "origin");
    let clone = world.path("shop");
    git(&world.path(""), &["clone", "--quiet", &format!("file://{}", origin.display()), text(&clone)]);
    world.ok(&["init", "--verify", "true", text(&clone)]);
    let programs = Path::new(env!("CARGO_BIN_EXE_claudectl")).parent().expect("a directory");
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let socket = world.path("run/api.sock");
    let passes = |output: &Output| output.status.success() && output.stdout.is_empty() && output.stderr.is_empty();

    let taken = hook(&world, &clone, &path, &socket);
    assert!(passes(&taken), "{taken:?}");
    let locks = world.json(&["lock", "list"]);
    assert_eq!((locks["locks"][0]["place"].as_str(), locks["locks"][0]["pattern"].as_str()), (Some("shop"), Some("x.txt")), "{locks}");
    world.ok(&["worktree", "add", "a", "--repository", "shop"]);
    world.ok(&["start", "a"]);
    let refused = world.wait(&world.add("a", "edit x.txt mine"));
    assert!(refused.to_string().contains("hook error: x.txt is held by "), "{refused}");
    world.ok(&["lock", "release", "--all"]);
    world.ok(&["lock", "acquire", "--repository", "shop", "x.txt"]);
    let lock = world.json(&["lock", "list"])["locks"][0]["id"].to_string();
    world.ok(&["lock", "transfer", &lock, "a"]);
    let denied = hook(&world, &clone, &path, &socket);
    assert!(denied.status.success() && String::from_utf8_lossy(&denied.stdout).contains("\"permissionDecision\":\"deny\""), "{denied:?}");

    // Status 2 alone would stop the tool.
    world.end_daemon("TERM");
    let away = hook(&world, &clone, &path, &socket);
    assert_eq!((away.status.code(), away.stdout.as_slice()), (Some(1), b"".as_slice()), "{away:?}");
    assert!(String::from_utf8_lossy(&away.stderr).contains("the tool goes on without a lock"), "{away:?}");
    let missing = hook(&world, &clone, "/nonexistent", &socket);
    assert!(passes(&missing), "{missing:?}");
    assert_eq!(world.ctl(&["hook", "pre-tool-use", "--no-such-option"]).status.code(), Some(1));
}
