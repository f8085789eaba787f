//! The cases.

use crate::stage::{BURST, Kind, Stage, WATCHDOG, command};
use clauded::core::ids::InstanceName;
use clauded::core::instance::{ActiveState, Observation};
use clauded::core::limits::{CpuQuota, Limits, MemoryLimit, TasksMax};
use clauded::platform::cgroup::{Group, mount};
use clauded::platform::units::{Done, UnitError};
use futures_util::future::BoxFuture;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Why it says nothing about a supervisor of that kind.
    pub(crate) inapplicable: fn(Kind) -> Option<&'static str>,
    pub(crate) run: fn(Stage) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($name:ident $(, $inapplicable:expr)?;)*) => {
        /// All of them.
        pub(crate) const ALL: &[Case] = &[$(Case {
            name: stringify!($name),
            inapplicable: { let _always: fn(Kind) -> Option<&'static str> = |_| None; $(let _always: fn(Kind) -> Option<&'static str> = $inapplicable;)? _always },
            run: |stage| Box::pin($name(stage)),
        }),*];
    };
}

cases! {
    starts_and_stops_once;
    what_a_verb_did_is_told_before_it_is_answered;
    a_restart_is_a_new_invocation;
    what_fails_is_started_again_and_at_last_given_up;
    what_a_restart_cannot_mend_is_not_restarted;
    a_runner_that_is_not_ready_in_time_is_ended;
    a_runner_that_does_not_answer_is_ended_and_started_again;
    a_killed_runner_is_started_again;
    a_runner_that_does_not_stop_is_killed;
    nothing_of_a_stopped_instance_is_left;
    a_new_daemon_adopts_without_disturbing;
    a_new_daemon_sees_the_end_of_what_it_adopted;
    a_runner_is_found_that_was_not_on_record_in_time, process_only;
    without_a_record_no_runner_is_started_and_a_failed_one_is_written_later, process_only;
    a_reload_puts_new_limits_on_what_runs, process_only;
    limits_are_set_and_read_back;
    limits_set_behind_its_back_are_seen, systemd_only;
    unknown_units_are_refused, systemd_only;
    systemd_may_execute_itself_anew, systemd_only;
    the_bus_may_be_restarted, systemd_only;
}

fn systemd_only(kind: Kind) -> Option<&'static str> {
    (kind == Kind::Process).then_some("there is no systemd behind this supervisor")
}

fn process_only(kind: Kind) -> Option<&'static str> {
    (kind != Kind::Process).then_some("systemd keeps its own records")
}

/// What only a kernel with the controllers shows. tests/vm/cases/process.sh has one, and says so; in CI that case runs, and
/// nothing is left out here for good.
fn not_checked(what: &str) {
    assert!(std::env::var_os("CLAUDED_TEST_CONTROLLERS").is_none(), "{what}");
    if std::env::var_os("CI").is_none_or(|ci| ci != "true") {
        crate::skip::skip(what);
    }
}

fn name(text: &str) -> InstanceName {
    text.parse().expect("a name")
}

fn is_running(seen: &Observation) -> bool {
    seen.active == ActiveState::Active && seen.sub == "running"
}

fn pid(seen: &Observation) -> Pid {
    Pid::from_raw(i32::try_from(seen.main_pid).expect("a pid"))
}

async fn what_a_verb_did_is_told_before_it_is_answered(mut stage: Stage) {
    let name = name("good-order");
    for _ in 0..5 {
        stage.units.start(&name).await.expect("started");
        let seen = stage.seen_before_the_answer(&name).await;
        assert!(seen.as_ref().is_some_and(is_running), "{seen:#?}");
        let first = seen.and_then(|seen| seen.invocation);
        stage.units.restart(&name).await.expect("restarted");
        let seen = stage.seen_before_the_answer(&name).await;
        assert!(seen.as_ref().is_some_and(|seen| is_running(seen) && seen.invocation != first), "{seen:#?}");
        stage.units.stop(&name).await.expect("stopped");
        let seen = stage.seen_before_the_answer(&name).await;
        assert!(seen.as_ref().is_none_or(|seen| seen.active == ActiveState::Inactive), "{seen:#?}");
    }
}

async fn started(stage: &mut Stage, name: &InstanceName) -> Observation {
    assert_eq!(stage.units.start(name).await.expect("started"), Done::Changed);
    stage.seen(name, "running", is_running).await
}

async fn stopped(stage: &mut Stage, name: &InstanceName) {
    stage.units.stop(name).await.expect("stopped");
    stage.gone(name).await;
}

async fn starts_and_stops_once(mut stage: Stage) {
    let name = name("good-once");
    assert_eq!(stage.units.stop(&name).await.expect("nothing to do"), Done::Unchanged);
    let seen = started(&mut stage, &name).await;
    let seen = if seen.status_text.is_empty() { stage.seen(&name, "its status", |seen| !seen.status_text.is_empty()).await } else { seen };
    assert_eq!((seen.status_text.as_str(), seen.result.as_str(), seen.restarts), ("good and ready", "success", 0));
    assert!(seen.main_pid > 1 && seen.invocation.is_some() && seen.since.is_some(), "{seen:#?}");
    assert_eq!(stage.units.start(&name).await.expect("started"), Done::Unchanged);
    assert_eq!(stage.units.stop(&name).await.expect("stopped"), Done::Changed);
    assert!(!is_alive(pid(&seen)), "the runner is still there");
    stage.gone(&name).await;
    assert_eq!(stage.units.stop(&name).await.expect("nothing to do"), Done::Unchanged);
}

async fn a_restart_is_a_new_invocation(mut stage: Stage) {
    let name = name("good-restart");
    let before = started(&mut stage, &name).await;
    assert_eq!(stage.units.restart(&name).await.expect("restarted"), Done::Changed);
    let after = stage.seen(&name, "the new invocation", |seen| is_running(seen) && seen.invocation != before.invocation).await;
    assert!(after.main_pid != before.main_pid && after.restarts == 0, "{after:#?}");
    stopped(&mut stage, &name).await;
    // What does not run is started.
    assert_eq!(stage.units.restart(&name).await.expect("restarted"), Done::Changed);
    stage.seen(&name, "running", is_running).await;
    stopped(&mut stage, &name).await;
}

async fn what_fails_is_started_again_and_at_last_given_up(mut stage: Stage) {
    let name = name("failing-a");
    // It may fail before or after the start is answered.
    let _ = stage.units.start(&name).await;
    let seen = stage.seen(&name, "a restart", |seen| seen.restarts >= 1 && seen.exec_main_code == 1).await;
    assert_eq!((seen.result.as_str(), seen.exec_main_status), ("exit-code", 1));
    let seen = stage.seen(&name, "giving up", |seen| seen.active == ActiveState::Failed).await;
    assert!(usize::try_from(seen.restarts).expect("small") >= BURST - 1, "{seen:#?}");
    // systemd keeps the result of the last exit, the process supervisor says why it gave up.
    assert!(["exit-code", "start-limit-hit"].contains(&seen.result.as_str()), "{seen:#?}");
    // By hand it may be tried again at once.
    let _ = stage.units.start(&name).await;
    stage.seen(&name, "a restart after giving up", |seen| seen.restarts >= 1 && seen.active != ActiveState::Failed).await;
    stage.units.stop(&name).await.expect("stopped");
}

async fn what_a_restart_cannot_mend_is_not_restarted(mut stage: Stage) {
    let name = name("config-a");
    let error = stage.units.start(&name).await.expect_err("it cannot start");
    assert!(matches!(&error, UnitError::Job { result, .. } if result == "failed"), "{error:?}");
    assert!(error.to_string().contains("no such directory: /nowhere"), "{error}");
    let seen = stage.seen(&name, "the failure", |seen| seen.active == ActiveState::Failed).await;
    assert_eq!((seen.exec_main_code, seen.exec_main_status, seen.restarts), (1, 78, 0));
    assert_eq!(seen.cause().detail, "the runner failed (exit status 78): no such directory: /nowhere");
    stage.stays(&name, 3 * std::time::Duration::from_millis(200), |seen| seen.active == ActiveState::Failed && seen.restarts == 0).await;
}

async fn a_runner_that_is_not_ready_in_time_is_ended(mut stage: Stage) {
    let name = name("slow-a");
    let error = stage.units.start(&name).await.expect_err("it is never ready");
    assert!(matches!(&error, UnitError::Job { result, .. } if result == "failed" || result == "timeout"), "{error:?}");
    stage.seen(&name, "the timeout", |seen| seen.result == "timeout").await;
    stage.units.stop(&name).await.expect("stopped");
}

async fn a_runner_that_does_not_answer_is_ended_and_started_again(mut stage: Stage) {
    let name = name("deaf-a");
    let before = started(&mut stage, &name).await;
    stage.seen(&name, "the watchdog's verdict", |seen| seen.result == "watchdog").await;
    stage.seen(&name, "a restart", |seen| is_running(seen) && seen.invocation != before.invocation && seen.restarts == 1).await;
    stage.units.stop(&name).await.expect("stopped");
}

async fn a_killed_runner_is_started_again(mut stage: Stage) {
    let name = name("good-killed");
    let before = started(&mut stage, &name).await;
    kill(pid(&before), Signal::SIGKILL).expect("killed");
    let dead = stage.seen(&name, "its death", |seen| seen.result == "signal").await;
    assert_eq!((dead.exec_main_code, dead.exec_main_status), (2, 9));
    assert!(dead.sub.starts_with("auto-restart"), "{dead:#?}");
    let after = stage.seen(&name, "a restart", |seen| is_running(seen) && seen.restarts == 1).await;
    assert!(after.invocation.is_some() && after.invocation != before.invocation);
    stopped(&mut stage, &name).await;
}

async fn a_runner_that_does_not_stop_is_killed(mut stage: Stage) {
    let name = name("stubborn-a");
    let seen = started(&mut stage, &name).await;
    assert_eq!(stage.units.stop(&name).await.expect("stopped"), Done::Changed);
    assert!(!is_alive(pid(&seen)), "the runner is still there");
    let seen = stage.seen(&name, "the verdict", |seen| seen.active == ActiveState::Failed).await;
    assert_eq!((seen.result.as_str(), seen.exec_main_code, seen.exec_main_status), ("timeout", 2, 9));
}

async fn nothing_of_a_stopped_instance_is_left(mut stage: Stage) {
    let name = name("brood-a");
    stage.units.start(&name).await.expect("started");
    let seen = stage.seen(&name, "its child", |seen| is_running(seen) && seen.status_text.starts_with("child ")).await;
    let child = Pid::from_raw(seen.status_text["child ".len()..].parse().expect("a pid"));
    kill(child, None).expect("it is there");
    let group = mount().filter(|_| !seen.control_group.is_empty()).map(|mount| Group::at(mount.join(seen.control_group.trim_start_matches('/'))));
    if let Some(group) = &group {
        assert!(group.processes().expect("read").contains(&seen.main_pid), "{group:?}");
    }
    stopped(&mut stage, &name).await;
    assert!(!is_alive(child), "its child is still there");
    if let Some(group) = group {
        assert!(!group.populated().expect("read"));
    }
}

/// A process that nobody has waited for yet is dead.
fn is_alive(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.rsplit_once(')').expect("a name").1.starts_with(" Z"))
}

async fn a_new_daemon_adopts_without_disturbing(mut stage: Stage) {
    let name = name("good-adopted");
    let before = started(&mut stage, &name).await;
    stage.restart_daemon().await;
    let after = stage.seen(&name, "the adopted runner", is_running).await;
    assert_eq!((after.main_pid, &after.invocation), (before.main_pid, &before.invocation));
    // Its watchdog messages reach the new daemon.
    stage.stays(&name, WATCHDOG + WATCHDOG / 2, |seen| is_running(seen) && seen.main_pid == before.main_pid).await;
    assert_eq!(stage.units.start(&name).await.expect("it runs"), Done::Unchanged);
    assert_eq!(stage.units.stop(&name).await.expect("stopped"), Done::Changed);
    assert!(!is_alive(pid(&before)), "the runner is still there");
    stage.gone(&name).await;
}

async fn a_new_daemon_sees_the_end_of_what_it_adopted(mut stage: Stage) {
    let name = name("good-orphan");
    let before = started(&mut stage, &name).await;
    stage.restart_daemon().await;
    stage.seen(&name, "the adopted runner", is_running).await;
    kill(pid(&before), Signal::SIGKILL).expect("killed");
    let after = stage.seen(&name, "a restart", |seen| is_running(seen) && seen.restarts == 1).await;
    assert_ne!(after.invocation, before.invocation);
    // And one that ends while there is no daemon is found ended.
    stage.restart_daemon().await;
    stage.seen(&name, "the adopted runner", |seen| is_running(seen) && seen.restarts == 1).await;
    stopped(&mut stage, &name).await;
}

async fn a_runner_is_found_that_was_not_on_record_in_time(mut stage: Stage) {
    let name = name("good-unrecorded");
    let before = started(&mut stage, &name).await;
    let file = stage.path("state/instances/good-unrecorded.json");
    let record = std::fs::read_to_string(&file).expect("on record");
    assert!(record.contains(&format!("\"pid\":{}", before.main_pid)), "{record}");
    // What a daemon leaves that is killed right after the start: everything but the process.
    let mut intended: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    (intended["process"]["pid"], intended["process"]["began"], intended["process"]["since"]) = (0.into(), 0.into(), serde_json::Value::Null);
    stage
        .restart_daemon_after(|| {
            std::fs::write(&file, intended.to_string()).expect("written");
        })
        .await;
    let after = stage.seen(&name, "the adopted runner", is_running).await;
    assert_eq!((after.main_pid, &after.invocation), (before.main_pid, &before.invocation));
    // And where it never came to a start, it is started.
    kill(pid(&before), Signal::SIGKILL).expect("killed");
    stage.seen(&name, "a restart", |seen| is_running(seen) && seen.restarts == 1).await;
    stopped(&mut stage, &name).await;
    stage
        .restart_daemon_after(|| {
            std::fs::write(&file, intended.to_string()).expect("written");
        })
        .await;
    stage.seen(&name, "its start", |seen| is_running(seen) && seen.main_pid != before.main_pid).await;
    stopped(&mut stage, &name).await;
}

async fn without_a_record_no_runner_is_started_and_a_failed_one_is_written_later(mut stage: Stage) {
    let name = name("gated-a");
    let (records, away) = (stage.path("state/instances"), stage.path("away"));
    std::fs::rename(&records, &away).expect("moved");
    let error = stage.units.start(&name).await.expect_err("it cannot be recorded").to_string();
    assert!(error.contains("instances/.gated-a.new: No such file"), "{error}");
    let seen = stage.seen(&name, "its failure", |seen| seen.result == "resources").await;
    assert!(seen.main_pid == 0 && seen.status_text.contains("gated-a"), "{seen:#?}");
    std::fs::rename(&away, &records).expect("moved back");

    let seen = stage.seen(&name, "the start", |seen| seen.main_pid != 0).await;
    std::fs::rename(&records, &away).expect("moved");
    std::fs::write(stage.path("run/go"), "").expect("written");
    let ready = stage.seen(&name, "running", is_running).await;
    assert_eq!(ready.main_pid, seen.main_pid);
    std::fs::rename(&away, &records).expect("moved back");
    let since = ready.since.expect("ready").as_microsecond().to_string();
    let deadline = std::time::Instant::now() + 10 * WATCHDOG;
    while !std::fs::read_to_string(records.join("gated-a.json")).expect("on record").contains(&since) {
        assert!(std::time::Instant::now() < deadline, "it is not recorded later");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stopped(&mut stage, &name).await;
}

async fn a_reload_puts_new_limits_on_what_runs(mut stage: Stage) {
    let name = name("good-reload");
    let seen = started(&mut stage, &name).await;
    assert_eq!(stage.units.reload().await.expect("reloaded"), Done::Unchanged);
    *stage.configured.lock().expect("not poisoned") = Limits { tasks: Some(TasksMax::Count(77)), ..Limits::default() };
    assert_eq!(stage.units.reload().await.expect("reloaded"), Done::Changed);
    assert_eq!(stage.units.reload().await.expect("reloaded"), Done::Unchanged);
    let instance = mount().expect("cgroup v2").join(seen.control_group.trim_start_matches('/'));
    if instance.join("pids.max").exists() {
        stage.seen(&name, "the limit", |seen| seen.limits.tasks == Some(TasksMax::Count(77))).await;
        let fleet = instance.parent().expect("the fleet's group");
        assert_eq!((Group::at(&instance).caps().pids_max, Group::at(fleet).caps().pids_max), (Some(77), Some(77)));
    } else {
        not_checked("the files of a group after a reload: this kernel gives it no controllers");
    }
    stopped(&mut stage, &name).await;
}

async fn limits_are_set_and_read_back(mut stage: Stage) {
    let name = name("good-limits");
    let seen = started(&mut stage, &name).await;
    let limits = Limits {
        memory: Some(MemoryLimit::Bytes(256 << 20)),
        memory_high: Some(MemoryLimit::Bytes(200 << 20)),
        swap: Some(MemoryLimit::Bytes(1 << 20)),
        cpu: Some(CpuQuota::Percent(150)),
        cpu_weight: "50".parse().ok(),
        tasks: Some(TasksMax::Count(123)),
        io_weight: None,
    };
    let instance = Group::at(mount().expect("cgroup v2").join(seen.control_group.trim_start_matches('/')));
    let is_systemd = stage.units.supervisor() == "systemd";
    let slice = if is_systemd { Group::at(instance.path().parent().expect("a slice")) } else { instance };
    let has_controllers = slice.path().join("memory.max").exists();
    if !is_systemd && !has_controllers {
        not_checked("the files of a group with limits: this kernel gives it no controllers");
        let error = stage.units.set_limits(&name, limits).await.expect_err("there are no controllers here").to_string();
        assert!(error.contains("memory.max") && error.contains("controller"), "{error}");
        return stopped(&mut stage, &name).await;
    }
    assert_eq!(stage.units.set_limits(&name, limits).await.expect("set"), Done::Changed);
    let seen = stage.seen(&name, "the limits", |seen| seen.limits.memory == limits.memory).await;
    assert_eq!(Limits { io_weight: None, ..seen.limits }, limits);
    assert!(is_running(&seen), "{seen:#?}");
    assert_eq!(stage.units.set_limits(&name, limits).await.expect("set"), Done::Unchanged);
    if has_controllers {
        let caps = slice.caps();
        assert_eq!((caps.memory_max, caps.memory_high, caps.swap_max), (Some(256 << 20), Some(200 << 20), Some(1 << 20)));
        assert_eq!((caps.cpu_max, caps.cpu_weight, caps.pids_max), (Some((150_000, 100_000)), Some(50), Some(123)));
    } else {
        not_checked("the files of a slice with limits: this kernel gives it no controllers");
    }
    stopped(&mut stage, &name).await;
}

async fn limits_set_behind_its_back_are_seen(mut stage: Stage) {
    let name = name("good-behind");
    started(&mut stage, &name).await;
    command("systemctl", &["set-property", "--runtime", &name.slice(), "MemoryMax=77M"]);
    stage.seen(&name, "the limit", |seen| seen.limits.memory == Some(MemoryLimit::Bytes(77 << 20))).await;
    command("systemctl", &["set-property", &name.slice(), "TasksMax=55"]);
    stage.seen(&name, "the lasting limit", |seen| seen.limits.tasks == Some(TasksMax::Count(55))).await;
    stopped(&mut stage, &name).await;
}

async fn unknown_units_are_refused(stage: Stage) {
    std::fs::rename("/run/systemd/system/claude-code@.service", "/run/claude-code.away").expect("moved");
    stage.units.reload().await.expect("reloaded");
    let error = stage.units.start(&name("good-nowhere")).await.expect_err("no such unit");
    std::fs::rename("/run/claude-code.away", "/run/systemd/system/claude-code@.service").expect("moved back");
    stage.units.reload().await.expect("reloaded");
    assert!(matches!(&error, UnitError::Refused { unit, .. } if unit == "claude-code@good-nowhere.service"), "{error:?}");
    assert!(error.to_string().contains("not found"), "{error}");
}

async fn systemd_may_execute_itself_anew(mut stage: Stage) {
    let (one, two) = (name("good-reexec"), name("good-reexec2"));
    let before = started(&mut stage, &one).await;
    command("systemctl", &["daemon-reexec"]);
    let after = started(&mut stage, &two).await;
    assert!(is_running(&after));
    kill(pid(&before), Signal::SIGKILL).expect("killed");
    stage.seen(&one, "a restart", |seen| is_running(seen) && seen.restarts == 1).await;
    stopped(&mut stage, &one).await;
    stopped(&mut stage, &two).await;
}

async fn the_bus_may_be_restarted(mut stage: Stage) {
    let name = name("good-bus");
    let before = started(&mut stage, &name).await;
    command("systemctl", &["restart", "dbus"]);
    stage.disconnected().await;
    stage.caught_up().await;
    let after = stage.seen(&name, "running", is_running).await;
    assert_eq!(after.main_pid, before.main_pid);
    stopped(&mut stage, &name).await;
}
