//! What the API shows, made from what the store and the engine have.

use super::engine::State;
use crate::core::attempt::{Exit, Report};
use crate::core::delivery::Delivery;
use crate::core::ids::{InstanceName, TaskId};
use crate::core::instance::{ActiveState, Observation};
use crate::core::queue::Wait;
use crate::core::task::{Target, TaskState};
use crate::platform::cgroup::{Caps, Group};
use crate::platform::store::{StoredAttempt, StoredEvent, StoredTask};
use crate::proto::api;
use jiff::Timestamp;
use std::path::Path;

/// An event.
pub(super) fn event(event: StoredEvent) -> api::Event {
    api::Event {
        id: event.id,
        at: event.at.to_string(),
        kind: event.kind,
        instance: event.instance.map(Into::into),
        task: event.task.map(|t| t.0),
        message: event.message,
        cause: event.cause,
    }
}

/// Tasks as lists show them.
pub(super) fn tasks(state: &State, stored: &[StoredTask]) -> Vec<api::Task> {
    stored.iter().map(|one| task(state, one)).collect()
}

/// A task as lists show it.
pub(super) fn task(state: &State, stored: &StoredTask) -> api::Task {
    let StoredTask { task, spec, .. } = stored;
    // The queue's own is as it stands now, a moment after it was stored.
    let now = Timestamp::now();
    let wait = state.queue.task(task.id).filter(|live| matches!(live.state, TaskState::Pending { .. })).and_then(|live| state.queue.why(live, now));
    api::Task {
        id: task.id.0,
        kind: task.kind.to_string(),
        title: spec.title.clone(),
        state: task.state.name().to_owned(),
        reason: match task.state {
            TaskState::Failed(reason) => Some(reason.to_string()),
            _ => None,
        },
        detail: detail(state, stored, wait.as_ref()),
        instance: match &task.target {
            Target::Instance(name) => Some(name.to_string()),
            Target::Any => None,
        },
        placed_on: task.state.placement().map(|p| &p.instance).or(task.home.as_ref()).map(ToString::to_string),
        attempts: task.attempts,
        created: task.created.to_string(),
        not_before: match task.state {
            TaskState::Pending { not_before } => not_before.map(|t| t.to_string()),
            _ => None,
        },
        finished: stored.finished.map(|t| t.to_string()),
        cost_usd: task.cost.dollars(),
        priority: task.terms.priority.into(),
        group: task.terms.group.as_ref().map(ToString::to_string),
        waits_for: wait.filter(|_| matches!(task.state, TaskState::Pending { .. })).map(|wait| wait.name().to_owned()),
        claimed_by: match &task.state {
            TaskState::Claimed(claim) => Some(claim.by.clone()),
            _ => None,
        },
    }
}

/// Why a task stands where it stands, in a sentence.
fn detail(state: &State, stored: &StoredTask, wait: Option<&Wait>) -> String {
    let last = if stored.detail.is_empty() { String::new() } else { format!(" (last time: {})", stored.detail) };
    match &stored.task.state {
        TaskState::Pending { not_before } => match (wait, not_before) {
            (Some(wait), _) => format!("{wait}{last}"),
            (None, Some(at)) => format!("waits until {at}{last}"),
            (None, None) => format!("waits for a free instance{last}"),
        },
        TaskState::Assigned(placement) => format!("given to {}, which has not confirmed yet", placement.instance),
        TaskState::Running(placement) if stored.task.cancelling => format!("being ended on {}", placement.instance),
        TaskState::Running(placement) => match state.progress.get(&placement.instance).filter(|p| p.attempt == placement.attempt) {
            Some(progress) => said(state, stored.task.id, &progress.doing),
            None => format!("runs on {}", placement.instance),
        },
        TaskState::Verifying(placement) | TaskState::Publishing(placement) if stored.task.cancelling => format!("being ended on {}", placement.instance),
        TaskState::Verifying(placement) => format!("its work is checked on {}", placement.instance),
        TaskState::Publishing(placement) => format!("its work is committed and sent on from {}", placement.instance),
        TaskState::Claimed(claim) => said(state, stored.task.id, &format!("claimed by {} since {}", claim.by, claim.since)),
        TaskState::Succeeded | TaskState::Failed(_) | TaskState::Cancelled if !stored.task.note.is_empty() => stored.task.note.clone(),
        TaskState::Succeeded | TaskState::Failed(_) | TaskState::Cancelled => stored.detail.clone(),
    }
}

/// What its agent says of a task, and what is seen of it.
fn said(state: &State, task: TaskId, seen: &str) -> String {
    state.headway.of(task).map_or_else(|| seen.to_owned(), |said| format!("{said} ({seen})"))
}

/// An attempt with all that is known of it.
pub(super) fn attempt(stored: &StoredAttempt) -> api::Attempt {
    let base = api::Attempt {
        number: stored.attempt.number,
        instance: stored.instance.to_string(),
        invocation: stored.invocation.to_string(),
        assigned: stored.assigned.to_string(),
        started: stored.started.map(|at| at.to_string()),
        session: stored.session.map(|s| s.to_string()),
        ..api::Attempt::default()
    };
    let Some(report) = &stored.report else { return base };
    let Report { ended, detail, exit, session, started, finished, agent, kernel, text, work } = report;
    let seconds = |usec: Option<u64>| usec.map(|u| std::time::Duration::from_micros(u).as_secs_f64());
    let tokens = agent
        .tokens
        .iter()
        .map(|(model, t)| (model.clone(), api::TokenCounts { input: t.input, output: t.output, cache_read: t.cache_read, cache_creation: t.cache_creation }));
    api::Attempt {
        started: Some(started.to_string()),
        finished: Some(finished.to_string()),
        outcome: Some(ended.name().to_owned()),
        reason: ended.reason().map(|r| r.to_string()),
        detail: detail.clone(),
        exit_code: exit.and_then(|e| if let Exit::Code(code) = e { Some(code) } else { None }),
        signal: exit.and_then(|e| if let Exit::Signal(number) = e { Some(number) } else { None }),
        session: session.map(|s| s.to_string()).or(base.session),
        turns: agent.turns,
        tool_calls: agent.tool_calls,
        cost_usd: agent.cost.dollars(),
        tokens: tokens.collect(),
        cpu_user_seconds: seconds(kernel.cpu_user_usec),
        cpu_system_seconds: seconds(kernel.cpu_system_usec),
        memory_peak_bytes: kernel.memory_peak,
        io_read_bytes: kernel.io_read_bytes,
        io_write_bytes: kernel.io_write_bytes,
        cpu_stall_seconds: seconds(kernel.cpu_stall_usec),
        memory_stall_seconds: seconds(kernel.memory_stall_usec),
        io_stall_seconds: seconds(kernel.io_stall_usec),
        oom_kills: kernel.oom_kills,
        text: text.clone(),
        work: work.as_deref().map(delivery),
        ..base
    }
}

/// What an attempt left in its repository.
fn delivery(work: &Delivery) -> api::Work {
    let Delivery { repository, branch, base, head, commits, files, more_files, rescue, verify, push, disk_bytes } = work;
    api::Work {
        repository: repository.clone(),
        branch: branch.clone(),
        base: base.clone(),
        head: head.clone(),
        commits: *commits,
        files: files.iter().map(|file| api::ChangedFile { status: file.status.clone(), path: file.path.clone() }).collect(),
        more_files: *more_files,
        rescue: rescue.clone(),
        verify: verify.as_ref().map(|v| api::Verification { passed: v.passed, runs: v.runs, ended: v.ended.clone(), output: v.output.clone() }),
        pushed_to: push.as_ref().filter(|push| push.refused.is_none()).map(|push| push.remote.clone()),
        push_refused: push.as_ref().and_then(|push| push.refused.clone()),
        disk_bytes: *disk_bytes,
    }
}

/// An instance as lists show it, without what is read from its cgroup.
pub(super) fn instance(state: &State, name: &InstanceName) -> api::Instance {
    let seen = state.fleet.get(name);
    api::Instance {
        name: name.to_string(),
        configured: state.config.instances.contains_key(name),
        active: seen.map_or(ActiveState::Inactive, |s| s.active).to_string(),
        sub: seen.map_or("dead", |s| s.sub.as_str()).to_owned(),
        connected: state.queue.is_linked(name),
        status: status(state, name, seen),
        task: state.queue.busy(name).map(|a| a.task.0),
        since: seen.and_then(|s| s.since).map(|t| t.to_string()),
        restarts: state.fleet.restarts(name),
        ..api::Instance::default()
    }
}

fn status(state: &State, name: &InstanceName, seen: Option<&Observation>) -> String {
    let Some(seen) = seen else { return "not running".to_owned() };
    match seen.active {
        ActiveState::Failed => seen.cause().detail,
        ActiveState::Inactive => "not running".to_owned(),
        ActiveState::Activating if seen.sub.starts_with("auto-restart") => format!("waits for its restart: {}", seen.cause().detail),
        _ => match state.progress.get(name) {
            Some(progress) => format!("task {}: {} ({})", progress.attempt.task, said(state, progress.attempt.task, &progress.doing), progress.usage.cost),
            None => seen.status_text.clone(),
        },
    }
}

/// What is read from the cgroup of an instance's slice at `slice`.
pub(super) fn add_usage(instance: &mut api::Instance, slice: &Group, caps: &[api::Cap]) {
    let stats = slice.stats();
    instance.memory_bytes = stats.memory_current;
    instance.pids = stats.pids_current;
    let usec = stats.cpu_user_usec.zip(stats.cpu_system_usec).map(|(user, system)| user.saturating_add(system));
    instance.cpu_seconds = usec.map(|u| std::time::Duration::from_micros(u).as_secs_f64());
    instance.memory_limit_bytes = caps.iter().filter_map(|c| c.memory_max).min();
}

/// The caps on the way from an instance's service to the root of the hierarchy.
pub(super) fn caps(mount: &Path, control_group: &str) -> Vec<api::Cap> {
    let mut caps = Vec::new();
    let mut path = Path::new(control_group.trim_start_matches('/'));
    while let Some(unit) = path.file_name() {
        caps.push(cap(unit.to_string_lossy().into_owned(), &Group::at(mount.join(path)).caps()));
        path = path.parent().unwrap_or_else(|| Path::new(""));
    }
    caps
}

fn cap(unit: String, caps: &Caps) -> api::Cap {
    #[expect(clippy::cast_precision_loss, reason = "a quota in µs is far below 2^53")]
    let percent = |(quota, period): (u64, u64)| quota as f64 / period.max(1) as f64 * 100.0;
    api::Cap {
        unit,
        memory_max: caps.memory_max,
        memory_high: caps.memory_high,
        swap_max: caps.swap_max,
        cpu_percent: caps.cpu_max.map(percent),
        cpu_weight: caps.cpu_weight,
        io_weight: caps.io_weight,
        tasks_max: caps.pids_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::attempt::Ended;
    use crate::core::delivery::{ChangedFile, Push, Verification};
    use crate::core::ids::{AttemptId, SessionId};
    use crate::core::usage::{AgentUsage, KernelUsage, Tokens, Usd};
    use jiff::Timestamp;

    /// No two numbers are the same: a field that is put in another's place is seen.
    #[test]
    fn each_field_of_a_report_is_shown_as_itself() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let (first, last) = (SessionId(uuid::Uuid::from_u128(1)), SessionId(uuid::Uuid::from_u128(2)));
        let report = Report {
            ended: Ended::Succeeded,
            detail: "why".to_owned(),
            exit: Some(Exit::Code(6)),
            session: Some(last),
            started: at(3),
            finished: at(4),
            agent: AgentUsage {
                turns: 11,
                tool_calls: 12,
                cost: Usd(13_000_000),
                tokens: [("model".to_owned(), Tokens { input: 21, output: 22, cache_read: 23, cache_creation: 24 })].into(),
            },
            kernel: KernelUsage {
                cpu_user_usec: Some(31_000_000),
                cpu_system_usec: Some(32_000_000),
                memory_peak: Some(33),
                io_read_bytes: Some(34),
                io_write_bytes: Some(35),
                cpu_stall_usec: Some(36_000_000),
                memory_stall_usec: Some(37_000_000),
                io_stall_usec: Some(38_000_000),
                oom_kills: Some(39),
            },
            text: "last words".to_owned(),
            work: Some(Box::new(Delivery {
                repository: "r".to_owned(),
                branch: "b".to_owned(),
                base: Some("c".to_owned()),
                head: Some("d".to_owned()),
                commits: 41,
                files: vec![ChangedFile { status: "M".to_owned(), path: "e".to_owned() }],
                more_files: 42,
                rescue: Some("f".to_owned()),
                verify: Some(Verification { passed: true, runs: 43, ended: "g".to_owned(), output: "h".to_owned() }),
                push: Some(Push { remote: "i".to_owned(), refused: None }),
                disk_bytes: Some(44),
            })),
        };
        let mut stored = StoredAttempt {
            attempt: AttemptId { task: TaskId(5), number: 7 },
            instance: "a".parse().expect("a name"),
            invocation: crate::core::ids::InvocationId::from_bytes(&[8; 16]).expect("not zero"),
            assigned: at(1),
            started: Some(at(2)),
            session: Some(first),
            report: None,
        };
        let running = api::Attempt {
            number: 7,
            instance: "a".to_owned(),
            invocation: "08".repeat(16),
            assigned: at(1).to_string(),
            started: Some(at(2).to_string()),
            session: Some(first.to_string()),
            ..api::Attempt::default()
        };
        assert_eq!(attempt(&stored), running);
        stored.report = Some(report.clone());
        let ended = api::Attempt {
            started: Some(at(3).to_string()),
            finished: Some(at(4).to_string()),
            outcome: Some("succeeded".to_owned()),
            detail: "why".to_owned(),
            exit_code: Some(6),
            session: Some(last.to_string()),
            turns: 11,
            tool_calls: 12,
            cost_usd: 13.0,
            tokens: [("model".to_owned(), api::TokenCounts { input: 21, output: 22, cache_read: 23, cache_creation: 24 })].into(),
            cpu_user_seconds: Some(31.0),
            cpu_system_seconds: Some(32.0),
            memory_peak_bytes: Some(33),
            io_read_bytes: Some(34),
            io_write_bytes: Some(35),
            cpu_stall_seconds: Some(36.0),
            memory_stall_seconds: Some(37.0),
            io_stall_seconds: Some(38.0),
            oom_kills: Some(39),
            text: "last words".to_owned(),
            work: Some(api::Work {
                repository: "r".to_owned(),
                branch: "b".to_owned(),
                base: Some("c".to_owned()),
                head: Some("d".to_owned()),
                commits: 41,
                files: vec![api::ChangedFile { status: "M".to_owned(), path: "e".to_owned() }],
                more_files: 42,
                rescue: Some("f".to_owned()),
                verify: Some(api::Verification { passed: true, runs: 43, ended: "g".to_owned(), output: "h".to_owned() }),
                pushed_to: Some("i".to_owned()),
                push_refused: None,
                disk_bytes: Some(44),
            }),
            ..running
        };
        assert_eq!(attempt(&stored), ended);
        let ended_by = Ended::Failed { reason: crate::core::attempt::Reason::Oom, transient: false };
        stored.report = Some(Report { ended: ended_by, exit: Some(Exit::Signal(9)), session: None, ..report });
        let failed = api::Attempt {
            outcome: Some("failed".to_owned()),
            reason: Some("oom".to_owned()),
            exit_code: None,
            signal: Some(9),
            session: Some(first.to_string()),
            ..ended
        };
        assert_eq!(attempt(&stored), failed);
    }
}
