//! Locks, with real agents' hooks: what one has another does not write, and nothing is held past its end.

use crate::world::World;
use serde_json::Value;

/// Two instances in worktrees of one repository; their agents are shells, or scripted.
const SHOP: &str = "features = { auth = [\"src/auth/**\", \"login.*\"] }\n\
    [profiles.shell]\nagent = \"command\"\ncommand = [\"sh\", \"-e\"]\n\
    [instances.a]\nrepository = \"shop\"\n[instances.b]\nrepository = \"shop\"\n[instances.c]\nrepository = \"shop\"\nprofile = \"shell\"\n";

pub(crate) fn shop() -> World {
    with("warn", "")
}

/// With that policy, and more in the configuration.
pub(crate) fn with(policy: &str, more: &str) -> World {
    let mut world = World::without_daemon("");
    let shop = world.path("shop");
    let git = |arguments: &[&str]| crate::worktrees::git(&shop, arguments);
    std::fs::create_dir(&shop).expect("made");
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "first"]);
    world.configure(&format!("[repositories.shop]\npath = \"{}\"\nlock-policy = \"{policy}\"\n{SHOP}{more}", shop.display()));
    world.start_daemon();
    for name in ["a", "b", "c"] {
        world.instance(name);
    }
    world
}

/// A file that the agents wait for, outside of their worktrees.
pub(crate) fn go(world: &World) -> String {
    world.path("go").display().to_string()
}

pub(crate) fn locks(world: &World) -> Vec<(String, String)> {
    let table = world.json(&["lock", "list"]);
    let locks = table["locks"].as_array().expect("a list").iter();
    locks.map(|lock| (lock["pattern"].as_str().expect("a pattern").to_owned(), lock["owner"].as_str().expect("an owner").to_owned())).collect()
}

pub(crate) fn said(task: &Value) -> &str {
    task["history"].as_array().and_then(|attempts| attempts.last()).and_then(|attempt| attempt["text"].as_str()).unwrap_or_default()
}

/// Those who wait, once there are so many.
pub(crate) fn waiting(world: &World, count: usize) -> Vec<Value> {
    let end = std::time::Instant::now() + crate::world::DEADLINE;
    loop {
        let table = world.json(&["lock", "list"]);
        let waiting = table["waiting"].as_array().expect("a list").clone();
        if waiting.len() == count {
            return waiting;
        }
        assert!(std::time::Instant::now() < end, "{table:#}");
        std::thread::yield_now();
    }
}

/// claudectl in a worktree, as a person there calls it.
fn in_worktree(world: &World, instance: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = world.ctl_command(arguments);
    command.current_dir(world.path("worktrees").join(instance)).env_remove("CLAUDED_WORKTREE").env_remove("VISUAL");
    command
}

/// Takes a lock as whoever runs the tests.
pub(crate) fn take(world: &World, more: &[&str]) -> Value {
    world.json(&[&["lock", "acquire", "--repository", "shop"], more].concat())
}

#[test]
fn an_agent_does_not_write_what_another_has_locked_and_is_told_who_has_it() {
    let world = shop();
    let first = world.add("a", &format!("edit x.txt mine\nsay written\nawait {}\nsay done", go(&world)));
    world.event(|e| e["kind"] == "lock-acquired");
    assert_eq!(locks(&world), [("x.txt".to_owned(), format!("a (task {first})"))]);
    let second = world.wait(&world.add("b", "edit y.txt free\nedit x.txt yours"));
    assert_eq!(second["state"], "succeeded", "{second:#}");
    let wanted = format!("hook error: x.txt is held by a (task {first}) until that task ends. You may wait for it");
    assert!(said(&second).contains(&wanted), "{}", said(&second));
    assert!(!world.path("worktrees/b/x.txt").exists() && world.path("worktrees/b/y.txt").exists());
    assert_eq!(locks(&world).len(), 1, "what b had ended with its task");
    std::fs::write(go(&world), "").expect("written");
    assert_eq!(world.wait(&first)["state"], "succeeded");
    assert_eq!(locks(&world), []);
    let third = world.wait(&world.add("b", "edit x.txt yours"));
    assert_eq!((third["state"].as_str(), world.path("worktrees/b/x.txt").exists()), (Some("succeeded"), true));
    let kinds = world.json(&["events"]);
    let of_locks = kinds.as_array().expect("events").iter().filter(|e| e["kind"].as_str().is_some_and(|kind| kind.starts_with("lock-")));
    let told: Vec<&str> = of_locks.map(|e| e["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(told, ["lock-acquired", "lock-acquired", "lock-refused", "lock-released", "lock-released", "lock-acquired", "lock-released"]);
}

#[test]
fn a_killed_agent_and_a_cancelled_task_hold_nothing() {
    let world = shop();
    let lost = world.add("a", "once edit x.txt 1\nonce crash\nsay again");
    assert_eq!(world.wait(&lost)["state"], "succeeded");
    assert_eq!(locks(&world), []);
    let cancelled = world.add("a", "edit x.txt 1\nhang");
    world.event(|e| e["kind"] == "lock-acquired" && e["task"] == cancelled.parse::<i64>().expect("a number"));
    world.ok(&["task", "cancel", &cancelled]);
    assert_eq!(world.wait(&cancelled)["state"], "cancelled");
    assert_eq!(locks(&world), []);
}

#[test]
fn an_interrupted_task_keeps_its_locks_and_goes_on_under_them() {
    let mut world = shop();
    let task = world.add("a", &format!("edit x.txt 1\nawait {}\nedit x.txt 2\nsay done", go(&world)));
    world.event(|e| e["kind"] == "lock-acquired");
    world.ok(&["stop", "a"]);
    assert_eq!(locks(&world), [("x.txt".to_owned(), format!("a (task {task})"))]);
    // The table is what the store has, after a power cut of the daemon too.
    world.end_daemon("KILL");
    world.start_daemon();
    assert_eq!(locks(&world), [("x.txt".to_owned(), format!("a (task {task})"))]);
    let refused = world.wait(&world.add("b", "edit x.txt no"));
    assert!(said(&refused).contains("x.txt is held by a"), "{}", said(&refused));
    std::fs::write(go(&world), "").expect("written");
    world.ok(&["start", "a"]);
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_i64()), (Some("succeeded"), Some(2)), "{shown:#}");
    assert_eq!(std::fs::read_to_string(world.path("worktrees/a/x.txt")).ok().as_deref(), Some("2\n"));
    assert_eq!(locks(&world), []);
}

#[test]
fn who_waits_gets_it_when_it_is_free_and_who_hangs_up_leaves_the_line() {
    let world = shop();
    let holder = world.add("a", &format!("edit old.rs mine\nawait {}", go(&world)));
    world.event(|e| e["kind"] == "lock-acquired");
    // c's shell is an agent: it locks files of its own worktree.
    let task = world.add("c", &format!("{ctl} lock acquire --glob '*.rs' --wait=5min; {ctl} lock list; echo got it", ctl = env!("CARGO_BIN_EXE_claudectl")));
    let first = waiting(&world, 1);
    assert_eq!((first[0]["owner"].as_str(), first[0]["position"].as_i64()), (Some(format!("c (task {task})").as_str()), Some(1)), "{first:#?}");
    let mut gone = world.ctl_command(&["lock", "acquire", "--repository", "shop", "--glob", "**", "--wait"]);
    let mut gone = gone.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("claudectl");
    let second = waiting(&world, 2);
    assert!(second[1]["waits_for"].as_str().is_some_and(|way| way.contains("comes first")), "{second:#?}");
    gone.kill().expect("killed");
    gone.wait().expect("ended");
    waiting(&world, 1);
    std::fs::write(go(&world), "").expect("written");
    world.wait(&holder);
    let shown = world.wait(&task);
    assert!(shown["state"] == "succeeded" && said(&shown).contains("got it"), "{shown:#}");
    assert_eq!(locks(&world), []);
}

#[test]
fn an_agent_acts_on_its_own_locks_alone_and_an_operator_on_all() {
    let world = shop();
    let id = take(&world, &["x.txt"])["id"].to_string();
    let script = format!(
        "ctl={ctl}; for line in 'release --id {id}' 'release --id {id} --force' 'steal x.txt' 'transfer {id} c' 'acquire --repository other x' 'acquire ../b/x.txt'; \
         do $ctl lock $line 2>>../../said && echo \"$line: done\" >>../../said; done; $ctl lock acquire z.txt >/dev/null; while [ ! -e {} ]; do :; done",
        go(&world),
        ctl = env!("CARGO_BIN_EXE_claudectl"),
    );
    let task = world.add("c", &script);
    world.event(|e| e["kind"] == "lock-acquired" && e["instance"] == "c");
    let refused = std::fs::read_to_string(world.path("said")).expect("said");
    assert_eq!(refused.lines().count(), 6, "{refused}");
    assert!(!refused.contains(": done"), "{refused}");
    for (n, word) in
        ["is held by", "agents act on their own locks alone", "agents may not do that", "is held by", "neither a repository", "x.txt is held by root"]
            .into_iter()
            .enumerate()
    {
        assert!(refused.lines().nth(n).is_some_and(|line| line.contains(word)), "{word}: {refused}");
    }
    let own = locks(&world)[1].clone();
    assert_eq!(own, ("z.txt".to_owned(), format!("c (task {task})")));
    assert!(world.fails(7, &["lock", "acquire", "--repository", "shop", "z.txt"]).contains("is held by c"));
    assert!(world.fails(4, &["lock", "release", "--id", "2"]).contains("--force"));
    world.ok(&["lock", "transfer", &id, "c"]);
    assert_eq!(locks(&world)[0].1, format!("c (task {task})"));
    let stolen = world.json(&["lock", "steal", "--repository", "shop", "z.txt", "--reason", "hotfix"]);
    assert_eq!(stolen["result"], "created");
    world.event(|e| e["kind"] == "lock-stolen" && e["instance"] == "c" && e["message"].as_str().is_some_and(|m| m.ends_with("hotfix")));
    std::fs::write(go(&world), "").expect("written");
    world.wait(&task);
    world.ok(&["lock", "release", "--all"]);
    assert_eq!(locks(&world), []);
}

#[test]
fn bad_input_is_refused_with_what_to_do() {
    let world = shop();
    for (arguments, word) in [
        (&["--glob", "a**"][..], "stands alone between slashes"),
        (&["--glob", "[a"], "has no ']'"),
        (&["../x"], "has \"..\" in it"),
        (&["/etc/passwd"], "absolute"),
        (&["a\nb"], "control characters"),
        (&["--feature", "nope"], "known there: auth"),
        (&["x", "--ttl", "8days"], "7 days"),
        (&["x", "--reason", "a\nb"], "one line"),
    ] {
        let said = world.fails(7, &[&["lock", "acquire", "--repository", "shop"], arguments].concat());
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert_eq!(locks(&world), []);
}

/// An editor that writes the list of locks into the file.
fn editor(world: &World) -> String {
    let script = world.path("editor");
    std::fs::write(&script, "#!/bin/sh\n\"$CTL\" lock list > \"$1\"\n").expect("written");
    std::process::Command::new("chmod").arg("+x").arg(&script).status().expect("chmod");
    script.display().to_string()
}

#[test]
fn edit_says_who_has_the_file_and_waits_if_it_is_to() {
    let world = shop();
    let holder = world.add("a", &format!("edit x.txt mine\nawait {}", go(&world)));
    world.event(|e| e["kind"] == "lock-acquired");
    world.wait(&world.add("b", "say here"));
    let edit = |more: &[&str]| {
        let mut command = in_worktree(&world, "b", &[&["edit", "x.txt"], more].concat());
        command.env("EDITOR", editor(&world)).env("CTL", env!("CARGO_BIN_EXE_claudectl"));
        command
    };
    let refused = edit(&[]).output().expect("ran");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(7) && told.contains(&format!("x.txt is held by a (task {holder}) until that task ends")), "{refused:?}");
    let file = world.path("worktrees/b/x.txt");
    assert!(!file.exists(), "no editor was opened");
    let waits = edit(&["--wait=5min"]).stderr(std::process::Stdio::piped()).spawn().expect("started");
    waiting(&world, 1);
    assert!(!file.exists(), "no editor is open yet");
    std::fs::write(go(&world), "").expect("written");
    let done = waits.wait_with_output().expect("ended");
    assert!(done.status.success(), "{done:?}");
    let seen = std::fs::read_to_string(&file).expect("the editor wrote");
    assert!(seen.contains("x.txt") && !seen.contains("(task"), "the lock was the person's by then: {seen}");
    assert_eq!(world.wait(&holder)["state"], "succeeded");
    assert_eq!(locks(&world), []);
}

#[test]
fn a_link_that_leads_out_of_the_worktree_is_neither_locked_nor_written_through() {
    let world = shop();
    let outside = world.path("outside");
    std::fs::create_dir(&outside).expect("made");
    // One to a directory, and one to a file that is not there yet.
    let links = format!("run ln -s {0} out; ln -s {0}/new.txt new.txt", outside.display());
    for link in ["out/x.txt", "new.txt"] {
        let shown = world.wait(&world.add("a", &format!("{links}\nedit {link} no")));
        let told = said(&shown);
        assert!(told.contains("hook error") && told.contains("leads out of the worktree") && told.contains("outside"), "{told}");
        for command in [&["lock", "acquire", link][..], &["lock", "acquire", "--wait", link], &["edit", link]] {
            let refused = in_worktree(&world, "a", command).env("EDITOR", "touch").output().expect("ran");
            let told = String::from_utf8_lossy(&refused.stderr);
            assert!(refused.status.code() == Some(2) && told.contains("leads out of the worktree"), "{command:?}: {refused:?}");
        }
    }
    assert_eq!(std::fs::read_dir(&outside).expect("listed").count(), 0);
    let events = world.json(&["events"]);
    assert!(!events.as_array().expect("events").iter().any(|e| e["kind"] == "lock-acquired"), "{events:#}");
}

#[test]
fn a_feature_stands_for_its_files_until_it_is_released() {
    let world = shop();
    assert_eq!(take(&world, &["--feature", "auth"])["kind"], "feature");
    for file in ["login.txt", "src/auth/deep/x.rs"] {
        let refused = world.wait(&world.add("a", &format!("run mkdir -p src/auth/deep\nedit {file} no")));
        assert!(said(&refused).contains("hook error: feature auth is held by"), "{file}: {}", said(&refused));
        assert!(!world.path("worktrees/a").join(file).exists());
    }
    assert!(!said(&world.wait(&world.add("a", "edit other.txt yes"))).contains("hook error"), "the feature has no such file");
    world.ok(&["lock", "release", "--repository", "shop", "--feature", "auth"]);
    assert_eq!(locks(&world), []);
    let task = world.add("a", &format!("edit login.txt yes\nawait {}", go(&world)));
    world.event(|e| e["kind"] == "lock-acquired" && e["task"] == task.parse::<i64>().expect("a number"));
    // And a file of it stands in the feature's way.
    let refused = world.fails(7, &["lock", "acquire", "--repository", "shop", "--feature", "auth"]);
    assert!(refused.contains(&format!("login.txt is held by a (task {task})")), "{refused}");
    std::fs::write(go(&world), "").expect("written");
    assert_eq!(world.wait(&task)["state"], "succeeded");
    assert_eq!(std::fs::read_to_string(world.path("worktrees/a/login.txt")).ok().as_deref(), Some("yes\n"));
}

#[test]
fn every_tool_that_writes_asks_first() {
    let world = shop();
    take(&world, &["held/"]);
    for (tool, name) in [("edit", "Write"), ("multiedit", "MultiEdit"), ("notebook", "NotebookEdit")] {
        let file = format!("{tool}.ipynb");
        let shown = world.wait(&world.add("a", &format!("run mkdir -p held\n{tool} {file} yes\n{tool} held/{file} no")));
        assert!(said(&shown).contains(&format!("PreToolUse:{name} hook error: held/ is held by")), "{tool}: {}", said(&shown));
        world.event(|e| e["kind"] == "lock-acquired" && e["message"].as_str().is_some_and(|message| message.contains(&format!(" on {file} "))));
        let tree = world.path("worktrees/a");
        assert_eq!((tree.join(&file).exists(), tree.join("held").join(&file).exists()), (true, false), "{tool}");
    }
    let events = world.json(&["events"]);
    assert!(!events.as_array().expect("events").iter().any(|e| e["kind"] == "lock-missing"), "{events:#}");
}

#[test]
fn edit_locks_while_the_editor_is_open() {
    let world = shop();
    let file = world.path("worktrees/a/notes.txt");
    let edit = |editor: &str| {
        let mut command = in_worktree(&world, "a", &["edit", "notes.txt"]);
        command.env("EDITOR", editor);
        command
    };
    let done = edit(&editor(&world)).env("CTL", env!("CARGO_BIN_EXE_claudectl")).output().expect("ran");
    assert!(done.status.success(), "{done:?}");
    let seen = std::fs::read_to_string(&file).expect("the editor wrote");
    assert!(seen.contains("notes.txt") && seen.contains("shop"), "{seen}");
    assert_eq!(locks(&world), []);
    // Told to end, it gives the lock back all the same.
    let mut child = edit("tail -f").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("started");
    world.event(|e| e["kind"] == "lock-acquired" && e["id"].as_i64().is_some_and(|id| id > 0) && locks(&world).len() == 1);
    crate::world::kill("TERM", child.id());
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    assert_eq!(locks(&world), []);
}

#[test]
fn a_file_that_another_has_written_to_since_is_not_overwritten() {
    let world = shop();
    let file = world.path("worktrees/a/x.txt");
    let task = world.add("a", &format!("edit x.txt one\nsay read\nawait {}\nedit x.txt two\nedit y.txt new", go(&world)));
    world.event(|e| e["kind"] == "lock-acquired");
    world.until("the read is noted", || std::fs::read_dir(world.path("instances/instances/a/reads")).is_ok_and(|mut reads| reads.next().is_some()));
    std::fs::write(&file, "theirs").expect("written");
    std::fs::write(go(&world), "").expect("written");
    let shown = world.wait(&task);
    assert!(said(&shown).contains("has changed since you read it"), "{shown:#}");
    assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), Some("theirs"));
    assert!(world.path("worktrees/a/y.txt").exists());
}

#[test]
fn what_was_changed_without_a_lock_is_told_or_refused_before_the_commit() {
    let world = with("refuse", "");
    let fine = world.wait(&world.add("a", "edit x.txt 1"));
    assert_eq!(fine["state"], "succeeded", "{fine:#}");
    // Written past the hooks, as a shell does.
    take(&world, &["z.txt"]);
    let refused = world.wait(&world.add("b", "edit y.txt 1\nwrite w.txt 1\nwrite z.txt 1"));
    assert_eq!((refused["state"].as_str(), refused["reason"].as_str()), (Some("failed"), Some("locks")), "{refused:#}");
    let detail = refused["detail"].as_str().expect("a sentence");
    assert!(detail.contains("w.txt, z.txt (held by root)") && !detail.contains("y.txt") && detail.contains("kept on refs/clauded/rescue/b/"), "{detail}");
    let shop = std::fs::read_to_string(world.path("clauded.toml")).expect("readable").replace("\"refuse\"", "\"warn\"");
    std::fs::write(world.path("clauded.toml"), shop).expect("written");
    crate::world::kill("HUP", world.daemon_pid());
    world.event(|e| e["kind"] == "config-reloaded");
    let told = world.wait(&world.add("c", "echo 1 >v.txt"));
    assert_eq!(told["state"], "succeeded", "{told:#}");
    world.event(|e| e["kind"] == "lock-missing" && e["instance"] == "c" && e["message"] == "a file was changed without a lock: v.txt");
}
