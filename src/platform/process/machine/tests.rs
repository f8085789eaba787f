//! The machine against a clock of the test's own.

use super::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn id(n: u8) -> InvocationId {
    InvocationId::from_bytes(&[n; 16]).expect("not zero")
}

fn running(now: Instant) -> Machine {
    let mut machine = Machine::new(Policy::default());
    assert_eq!(machine.start(now), [Effect::Launch]);
    machine.launched(id(1));
    assert_eq!(machine.state(), (ActiveState::Activating, "start"));
    assert_eq!(machine.said("READY=1\nSTATUS=waiting", now), [Effect::Started(Ok(Done::Changed))]);
    assert_eq!((machine.state(), machine.status_text.as_str()), ((ActiveState::Active, "running"), "waiting"));
    machine
}

#[test]
fn a_start_of_what_runs_changes_nothing_and_a_stop_ends_it_once() {
    let now = Instant::now();
    let mut machine = running(now);
    assert_eq!(machine.start(now), [Effect::Started(Ok(Done::Unchanged))]);
    assert!(machine.stop(now).contains(&Effect::Terminate));
    assert!(!machine.stop(now).contains(&Effect::Terminate));
    assert_eq!(machine.state(), (ActiveState::Deactivating, "stop-sigterm"));
    assert_eq!(machine.ended(Exit::Signal(15, false), now), [Effect::Stopped(Ok(Done::Changed))]);
    assert_eq!((machine.state(), machine.result), ((ActiveState::Inactive, "dead"), "success"));
    assert_eq!(machine.stop(now), [Effect::Stopped(Ok(Done::Unchanged))]);
}

#[test]
fn a_runner_that_does_not_stop_is_killed() {
    let now = Instant::now();
    let mut machine = running(now);
    machine.stop(now);
    assert_eq!(machine.due(now + 89 * SECOND), []);
    assert_eq!(machine.due(now + 90 * SECOND), [Effect::Kill]);
    assert_eq!(machine.deadline(), None);
    machine.ended(Exit::Signal(9, false), now);
    assert_eq!((machine.state(), machine.result), ((ActiveState::Failed, "failed"), "timeout"));
}

#[test]
fn a_failure_is_started_again_after_a_pause_and_counted() {
    let now = Instant::now();
    let mut machine = running(now);
    machine.ended(Exit::Status(1), now);
    assert_eq!((machine.state(), machine.result, machine.exec_main), ((ActiveState::Activating, "auto-restart"), "exit-code", (1, 1)));
    assert_eq!(machine.due(now + 9 * SECOND), []);
    assert_eq!(machine.due(now + 10 * SECOND), [Effect::Launch]);
    assert_eq!(machine.restarts, 1);
    // A start by hand counts from the beginning.
    machine.ended(Exit::Signal(11, true), now);
    assert_eq!((machine.result, machine.exec_main), ("core-dump", (3, 11)));
    assert_eq!(machine.start(now), [Effect::Launch]);
    assert_eq!(machine.restarts, 0);
}

#[test]
fn what_a_restart_cannot_mend_is_not_restarted() {
    let now = Instant::now();
    let mut machine = Machine::new(Policy::default());
    machine.start(now);
    machine.said("STATUS=no such directory: /x", now);
    assert_eq!(machine.ended(Exit::Status(78), now), [Effect::Started(Err("failed")), Effect::Stopped(Ok(Done::Changed))]);
    assert_eq!((machine.state(), machine.result, machine.status_text.as_str()), ((ActiveState::Failed, "failed"), "exit-code", "no such directory: /x"));
    assert_eq!(machine.deadline(), None);
}

#[test]
fn a_crash_loop_is_given_up_and_forgiven_by_hand() {
    let mut now = Instant::now();
    let mut machine = Machine::new(Policy::default());
    machine.start(now);
    for launch in 2..=5 {
        machine.ended(Exit::Status(1), now);
        now += 10 * SECOND;
        assert_eq!(machine.due(now), [Effect::Launch], "launch {launch}");
    }
    machine.ended(Exit::Status(1), now);
    now += 10 * SECOND;
    assert_eq!(machine.due(now), [Effect::Started(Err("failed"))]);
    assert_eq!((machine.state(), machine.result), ((ActiveState::Failed, "failed"), "start-limit-hit"));
    assert_eq!(machine.start(now), [Effect::Launch]);
}

#[test]
fn slow_failures_are_no_crash_loop() {
    let mut now = Instant::now();
    let mut machine = Machine::new(Policy::default());
    machine.start(now);
    for _ in 0..20 {
        now += 140 * SECOND;
        machine.ended(Exit::Status(1), now);
        now += 10 * SECOND;
        assert_eq!(machine.due(now), [Effect::Launch]);
    }
}

#[test]
fn a_start_that_is_never_ready_times_out() {
    let now = Instant::now();
    let mut machine = Machine::new(Policy::default());
    machine.start(now);
    assert_eq!(machine.due(now + 59 * SECOND), []);
    assert_eq!(machine.due(now + 60 * SECOND), [Effect::Terminate]);
    let effects = machine.ended(Exit::Signal(15, false), now + 61 * SECOND);
    assert_eq!(effects.first(), Some(&Effect::Started(Err("timeout"))));
    assert_eq!((machine.state().1, machine.result), ("auto-restart", "timeout"));
}

#[test]
fn the_watchdog_waits_as_long_as_it_is_fed() {
    let now = Instant::now();
    let mut machine = running(now);
    machine.said("WATCHDOG=1", now + 59 * SECOND);
    assert_eq!(machine.due(now + 118 * SECOND), []);
    assert_eq!(machine.due(now + 119 * SECOND), [Effect::Abort]);
    assert_eq!(machine.state().1, "stop-watchdog");
    assert_eq!(machine.due(now + 128 * SECOND), []);
    assert_eq!(machine.due(now + 129 * SECOND), [Effect::Kill]);
    machine.ended(Exit::Signal(6, true), now);
    assert_eq!((machine.state().1, machine.result), ("auto-restart", "watchdog"));
}

#[test]
fn a_restart_is_a_stop_and_a_start() {
    let now = Instant::now();
    let mut machine = running(now);
    machine.restarts = 3;
    assert_eq!(machine.restart(now), [Effect::Terminate]);
    assert_eq!(machine.ended(Exit::Status(0), now), [Effect::Stopped(Ok(Done::Changed)), Effect::Launch]);
    assert_eq!(machine.restarts, 0);
    // A stop in the middle of it wins.
    machine.said("READY=1", now);
    machine.restart(now);
    assert_eq!(machine.stop(now), [Effect::Started(Err("canceled"))]);
    assert_eq!(machine.ended(Exit::Status(0), now), [Effect::Stopped(Ok(Done::Changed))]);
}

#[test]
fn an_adopted_runner_whose_end_nobody_told_is_started_again_unless_it_said_goodbye() {
    let now = Instant::now();
    let mut machine = Machine::adopted(Policy::default(), id(1), 2, now);
    assert_eq!((machine.state().1, machine.restarts), ("running", 2));
    machine.ended(Exit::Unknown, now);
    assert_eq!((machine.state().1, machine.result, machine.exec_main), ("auto-restart", "unknown", (0, 0)));
    let mut machine = Machine::adopted(Policy::default(), id(1), 2, now);
    machine.said("STOPPING=1", now);
    machine.ended(Exit::Unknown, now);
    assert_eq!(machine.state().1, "dead");
}
