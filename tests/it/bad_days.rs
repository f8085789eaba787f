//! What must not get worse when something goes wrong.

use crate::world::{World, alive, kill};
use serde_json::Value;
use std::fs;

fn sessions(task: &Value) -> Vec<&Value> {
    task["history"].as_array().expect("attempts").iter().map(|a| &a["session"]).collect()
}

#[test]
fn killing_the_daemon_disturbs_no_agent_and_loses_nothing() {
    let mut world = World::new("");
    world.instance("a");
    let task = world.add("a", "sleep 3s\nsay survived");
    world.running(&task);
    let runner = world.runner_pid("a");
    world.end_daemon("KILL");
    world.start_daemon();
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("succeeded"), Some(1)), "{shown:#}");
    assert_eq!(world.runner_pid("a"), runner, "the runner was replaced");
}

#[test]
fn what_ends_while_the_daemon_is_away_is_told_when_it_is_back() {
    let mut world = World::new("");
    let directory = world.instance("a");
    let task = world.add("a", "sleep 1s\nwrite done.txt yes");
    world.running(&task);
    world.end_daemon("TERM");
    let spool = world.path("instances/instances/a/spool");
    wait_for_file(&directory.join("done.txt"));
    wait_until(|| fs::read_dir(&spool).is_ok_and(|d| d.count() > 0), "the result is not in the spool");
    world.start_daemon();
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("succeeded"), Some(1)), "{shown:#}");
}

#[test]
fn what_happens_to_an_instance_while_the_daemon_is_away_is_told_once() {
    let mut world = World::new("");
    world.instance("a");
    let runner = world.runner_pid("a");
    world.end_daemon("KILL");
    kill("KILL", runner);
    world.start_daemon();
    world.event(|e| e["kind"] == "instance-restarted" && e["instance"] == "a");
    world.event(|e| e["kind"] == "instance-started" && e["message"] != format!("runs as process {runner}"));
    for _ in 0..2 {
        world.end_daemon("TERM");
        world.start_daemon();
    }
    let status = world.json(&["status", "a"]);
    let told = |kind: &str| status["history"].as_array().expect("events").iter().filter(|e| e["kind"] == kind).count();
    assert_eq!((status["restarts"].as_u64(), told("instance-restarted"), told("instance-started")), (Some(1), 1, 2), "{status:#}");
}

#[test]
fn a_killed_runner_is_restarted_and_its_task_goes_on_in_the_same_session() {
    let world = World::new("");
    let directory = world.instance("a");
    // Counted as done before it is: it is not done again if the kill falls between a deed and its note.
    let task = world.add("a", "once append runs.txt x\nawait go\nsay resumed");
    world.running(&task);
    wait_for_file(&directory.join("runs.txt"));
    kill("KILL", world.runner_pid("a"));
    world.event(|e| e["kind"] == "instance-restarted" && e["instance"] == "a");
    fs::write(directory.join("go"), "").expect("written");
    let shown = world.wait(&task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    let sessions = sessions(&shown);
    assert!(sessions.len() == 2 && sessions[0].is_string() && sessions[0] == sessions[1], "{shown:#}");
    assert_eq!(fs::read_to_string(directory.join("runs.txt")).expect("written").trim(), "x", "the session began anew");
    let status = world.json(&["status", "a"]);
    assert_eq!(status["restarts"], 1, "{status:#}");
    assert!(status["history"].to_string().contains("instance-restarted"), "{status:#}");
}

#[test]
fn a_killed_agent_is_lost_and_tried_again() {
    let world = World::new("");
    let directory = world.instance("a");
    let task = world.add("a", "pid agent.pid\nawait go\nsay again");
    wait_for_file(&directory.join("agent.pid"));
    let pid = fs::read_to_string(directory.join("agent.pid")).expect("read").trim().parse().expect("a number");
    kill("KILL", pid);
    let event = world.event(|e| e["kind"] == "task-finished");
    assert_eq!(event["cause"], "lost", "{event:#}");
    fs::write(directory.join("go"), "").expect("written");
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("succeeded"), Some(2)), "{shown:#}");
}

#[test]
fn stopping_an_instance_keeps_its_task_for_later() {
    let world = World::new("");
    let directory = world.instance("a");
    let task = world.add("a", "append runs.txt x\nawait go\nsay later");
    wait_for_file(&directory.join("runs.txt"));
    world.ok(&["stop", "a"]);
    let shown = world.json(&["task", "show", &task]);
    assert_eq!(shown["state"], "pending", "{shown:#}");
    assert_eq!(shown["history"][0]["outcome"], "interrupted", "{shown:#}");
    assert!(shown["detail"].as_str().is_some_and(|d| d.contains("claudectl start a")), "{shown:#}");
    fs::write(directory.join("go"), "").expect("written");
    world.ok(&["start", "a"]);
    let shown = world.wait(&task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    let sessions = sessions(&shown);
    assert_eq!(sessions[0], sessions[1]);
}

#[test]
fn a_missing_directory_is_said_in_one_line() {
    let world = World::new("");
    let error = world.fails(7, &["start", "nowhere"]);
    assert!(error.contains("worktrees/nowhere") && error.contains("does not exist"), "{error}");
    let status = world.json(&["status", "nowhere"]);
    assert_eq!(status["active"], "failed");
    assert!(status["status"].as_str().is_some_and(|s| s.contains("does not exist")), "{status:#}");
    assert_eq!(status["restarts"], 0, "what a restart cannot mend was restarted: {status:#}");
}

#[test]
fn bad_names_are_refused_with_the_rule() {
    let world = World::new("");
    for name in ["a--b", "a/b", "..", "näme", &"x".repeat(300)] {
        let error = world.fails(2, &["start", name]);
        assert!(error.contains("joined by single dashes"), "{name}: {error}");
    }
    let error = world.fails(3, &["task", "add", "--instance", "tpyo", "say hi"]);
    assert!(error.contains("claudectl start tpyo"), "{error}");
}

#[test]
fn an_agent_that_is_not_there_fails_its_task_by_name() {
    let world = World::new("[profiles.gone]\nagent = \"command\"\ncommand = \"/no/such/agent\"\n[instances.g]\nprofile = \"gone\"\n");
    world.instance("g");
    let task = world.add("g", "anything");
    let event = world.event(|e| e["kind"] == "task-finished");
    assert_eq!(event["cause"], "spawn", "{event:#}");
    assert!(event["message"].as_str().is_some_and(|m| m.contains("/no/such/agent")), "{event:#}");
    world.ok(&["task", "cancel", &task]);
}

#[test]
fn a_second_daemon_on_the_same_state_refuses() {
    let world = World::new("");
    let output = world.daemon_command().output().expect("clauded runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("another clauded"), "{output:?}");
    world.ok(&["status"]);
}

#[test]
fn a_damaged_store_is_refused_and_not_touched() {
    let world = World::without_daemon("");
    let path = world.path("state/clauded.db");
    let garbage = b"SQLite format 3\0 this is not a database".repeat(100);
    fs::write(&path, &garbage).expect("written");
    let output = world.daemon_command().output().expect("clauded runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("clauded.db") && error.contains("not a usable database"), "{error}");
    assert_eq!(fs::read(&path).expect("read"), garbage);
}

#[test]
fn a_wrong_configuration_stops_the_start_and_names_every_problem() {
    let world = World::without_daemon("[instances.a]\nprofil = \"claude\"\n[instances.a.limits]\nmemory = \"lots\"\n");
    let output = world.daemon_command().output().expect("clauded runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("clauded.toml:") && error.contains("profile") && error.contains("lots"), "{error}");
    // As ExecReload= of the unit asks before it tells the daemon.
    let checked = world.daemon_command().arg("--check").output().expect("clauded runs");
    assert_eq!((output.status.code(), checked.status.code()), (Some(78), Some(1)));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("lots"));
}

#[test]
fn a_wrong_reload_leaves_the_old_configuration_in_force() {
    let world = World::new("");
    world.instance("a");
    world.configure("[instances.a]\nprofile = \"no-such-profile\"\n");
    kill("HUP", world.daemon_pid());
    wait_until(|| world.log().contains("the configuration was not changed"), "the reload was not refused");
    assert_eq!(world.wait(&world.add("a", "say still here"))["state"], "succeeded");
    world.configure("[instances.b]\n");
    kill("HUP", world.daemon_pid());
    world.event(|e| e["kind"] == "config-reloaded");
    assert!(world.json(&["status"]).to_string().contains("\"b\""));
    assert!(!world.log().contains("systemctl restart") && !world.log().contains('\x1b'), "{}", world.log());
    fs::write(world.path("clauded.toml.d/store.toml"), "[store]\npath = \"/elsewhere\"\n").expect("written");
    kill("HUP", world.daemon_pid());
    wait_until(|| world.log().contains("only after `systemctl restart clauded`: [store] path\n"), "it does not say that the store stays where it is");
}

#[test]
fn a_reload_that_is_asked_for_while_clauded_starts_is_done_when_it_serves() {
    let mut world = World::without_daemon("");
    let notify = world.begin(&mut world.daemon_command());
    let socket = world.path("run/api.sock");
    world.until("it listens", || socket.exists());
    kill("HUP", world.daemon_pid());
    world.ready(&notify);
    world.event(|e| e["kind"] == "config-reloaded");
}

#[test]
fn a_clauded_that_is_told_to_stop_while_it_starts_ends_in_order() {
    let mut world = World::without_daemon("");
    let _notify = world.begin(&mut world.daemon_command());
    let socket = world.path("run/api.sock");
    world.until("it listens", || socket.exists());
    assert!(world.end_daemon("TERM").is_some_and(|status| status.success()), "{}", world.log());
}

#[test]
fn a_worktree_deleted_under_a_task_costs_only_that_task() {
    let world = World::new("");
    let directory = world.instance("a");
    let go = world.path("go");
    let task = world.add("a", &format!("append x.txt x\nawait {}\nwrite y.txt y", go.display()));
    wait_for_file(&directory.join("x.txt"));
    fs::remove_dir_all(&directory).expect("removed");
    fs::write(go, "").expect("written");
    let shown = world.wait(&task);
    assert!(shown["history"].to_string().contains("y.txt: No such file") || shown["state"] == "failed", "{shown:#}");
    assert!(alive(world.runner_pid("a")), "the runner went with the task");
    let error = world.wait(&world.add("a", "say hi"));
    assert_eq!(error["reason"], "spawn", "{error:#}");
    assert!(error["detail"].as_str().is_some_and(|d| d.contains("worktrees/a")), "the missing directory is not named: {error:#}");
}

#[test]
fn a_full_disk_refuses_what_is_new_and_loses_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a full disk: only root can mount a small file system");
    }
    let mut world = World::without_daemon("");
    let (state, drop_ins) = (world.path("state"), world.path("clauded.toml.d"));
    let _disks = [Mounted::at(&state, "rw"), Mounted::at(&drop_ins, "rw")];
    let persisted = || fs::read_to_string(drop_ins.join("90-claudectl.toml"));
    world.start_daemon();
    world.instance("a");
    world.instance("b");
    let runner = world.runner_pid("b");
    // Where there are no cgroups the limit is written all the same, and then said not to be in force.
    world.ctl(&["limit", "a", "--memory", "2G", "--persist"]);
    let kept = persisted().expect("written");
    let task = world.add("a", "sleep 1s\nsay kept");
    let filler = state.join("filler");
    fill(&filler);
    let mut refused = None;
    for _ in 0..200 {
        let output = world.ctl(&["task", "add", "--instance", "a", &format!("say {}", "x".repeat(20_000))]);
        if !output.status.success() {
            refused = Some(output);
            break;
        }
    }
    let refused = refused.expect("the disk is full and tasks are still taken");
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no space left"), "{refused:?}");
    // Nor is a runner started of which a new daemon would not know.
    kill("KILL", runner);
    wait_until(|| world.log().contains("cannot start the runner"), "a runner was started without a record");
    assert!(world.log().contains("supervisor/instances/.b.new: No space left"), "{}", world.log());
    fill(&drop_ins.join("filler"));
    let refused = world.fails(7, &["limit", "a", "--memory", "3G", "--persist"]);
    assert!(refused.contains("90-claudectl.toml") && refused.contains("No space left"), "{refused}");
    assert_eq!(persisted().ok(), Some(kept), "the limits of before are not whole");
    fs::remove_file(&filler).expect("removed");
    wait_until(|| world.json(&["status", "b"])["main_pid"].as_u64().is_some_and(|pid| pid != 0), "b does not come back");
    let shown = world.wait(&task);
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("succeeded"), Some(1)), "{shown:#}");
    world.ok(&["stop", "a", "b"]);
    world.end_daemon("TERM");
}

#[test]
fn a_store_where_nothing_can_be_written_is_refused_with_what_allows_it() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a read-only place for the store: only root can mount one");
    }
    let world = World::without_daemon("");
    let place = world.path("elsewhere");
    fs::create_dir(&place).expect("made");
    let _disk = Mounted::at(&place, "ro");
    let token = format!("[store]\npath = \"{0}/clauded.db\"\n", world.path("state").display());
    for (more, key) in [("", "[store] path"), (token.as_str(), "[api] token-file")] {
        let text = format!("[store]\npath = \"{0}/clauded.db\"\n[api]\ntoken-file = \"{0}/token\"\n", place.display());
        fs::write(world.path("clauded.toml.d/1.toml"), text).expect("written");
        fs::write(world.path("clauded.toml.d/2.toml"), more).expect("written");
        let output = world.daemon_command().output().expect("clauded runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(key) && error.contains(&format!("ReadWritePaths={}", place.display())), "{error}");
    }
}

#[test]
fn without_cgroups_memory_is_bounded_for_each_process_and_that_is_said() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a host without cgroups: only root can make one");
    }
    let mut world = World::without_daemon("[defaults.limits]\nmemory = \"1G\"\n");
    let daemon = world.daemon_command();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", "umount --all --lazy --types cgroup2; exec \"$0\" \"$@\""]).arg(daemon.get_program()).args(daemon.get_args());
    world.start(command.stdin(std::process::Stdio::null()));
    world.instance("a");
    assert!(world.log().contains("no cgroups: limits are rlimits of each process alone"), "{}", world.log());
    let limits = fs::read_to_string(format!("/proc/{}/limits", world.runner_pid("a"))).expect("the runner's limits");
    let data = limits.lines().find_map(|line| line.strip_prefix("Max data size")).expect("it has that line");
    assert_eq!(data.split_whitespace().collect::<Vec<_>>(), ["1073741824", "1073741824", "bytes"], "{limits}");
    // It works all the same.
    assert_eq!(world.wait(&world.add("a", "say unbounded"))["state"], "succeeded");
}

/// A small file system, unmounted when dropped, also by a test that fails.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn at(place: &std::path::Path, option: &str) -> Self {
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size=2m,mode=0700,{option}"), "tmpfs"]).arg(place).status();
        assert!(mounted.is_ok_and(|status| status.success()), "{} is not mounted", place.display());
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, since something of a test that failed may still be there.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Writes until nothing more fits.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("made");
    let block = [0u8; 4096];
    while file.write_all(&block).is_ok() {}
}

fn wait_for_file(path: &std::path::Path) {
    wait_until(|| fs::metadata(path).is_ok_and(|m| m.len() > 0), &format!("{} was not written", path.display()));
}

/// Waits for what announces itself to nobody: a file of another process.
fn wait_until(mut holds: impl FnMut() -> bool, otherwise: &str) {
    let end = std::time::Instant::now() + crate::world::DEADLINE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "{otherwise}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
