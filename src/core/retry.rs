//! Which failures are tried again, how often and when.

use super::attempt::{Ended, Reason, Report};
use jiff::Timestamp;
use std::time::Duration;

/// Wait at a usage limit whose reset time the agent did not tell.
pub const LIMIT_UNKNOWN: Duration = Duration::from_secs(15 * 60);

/// Wait at a usage limit whose reset time had come when the attempt ended: the agent took that long, or the clocks differ.
pub const LIMIT_OVER: Duration = Duration::from_secs(60);

/// No back-off is longer.
pub const LONGEST: Duration = Duration::from_secs(300);

/// What follows from an attempt's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The end of the task.
    Final,
    /// Again, after that time; it counts as a failure.
    Again(Duration),
    /// Again at once; it does not count.
    Resume,
}

/// The first wait and how many times, for failures of that reason.
fn rule(reason: Reason, transient: bool) -> Option<(Duration, u32)> {
    match (reason, transient) {
        (Reason::Lost, _) => Some((Duration::from_secs(5), 5)),
        (Reason::Stalled, _) => Some((Duration::from_secs(30), 2)),
        (Reason::Spawn, _) => Some((Duration::from_secs(10), 2)),
        (Reason::AgentError, true) => Some((Duration::from_secs(30), 4)),
        // A remote that cannot be reached, a worktree that another process holds.
        (Reason::Worktree, true) => Some((Duration::from_secs(10), 4)),
        // The same limit, time, budget or login would end it the same way; the last two are no attempts' ends.
        (
            Reason::AgentError
            | Reason::Oom
            | Reason::MemoryPressure
            | Reason::Timeout
            | Reason::Auth
            | Reason::Budget
            | Reason::VerifyFailed
            | Reason::Worktree
            | Reason::Publish
            | Reason::Locks
            | Reason::Dependency
            | Reason::Reported,
            _,
        ) => None,
    }
}

/// When the usage limit resets that an attempt has met, if it has met one.
pub fn reset(report: &Report) -> Option<Timestamp> {
    match report.ended {
        Ended::Limited { until: Some(until) } if until > report.finished => Some(until),
        Ended::Limited { until: Some(_) } => report.finished.checked_add(LIMIT_OVER).ok(),
        Ended::Limited { until: None } => report.finished.checked_add(LIMIT_UNKNOWN).ok(),
        _ => None,
    }
}

/// What to do after an attempt that ended so, when `failures` in a row went before it.
///
/// The wait doubles with each failure and is stretched by up to a quarter by `jitter` (0.0 to 1.0), so that tasks that
/// failed together do not come back together.
pub fn after(ended: &Ended, failures: u32, jitter: f64) -> Next {
    match ended {
        Ended::Succeeded | Ended::Cancelled => Next::Final,
        Ended::Limited { .. } | Ended::Interrupted => Next::Resume,
        // Not the task's fault: its account is paused, and it waits for that.
        Ended::Failed { reason: Reason::Auth, .. } => Next::Resume,
        Ended::Failed { reason, transient } => match rule(*reason, *transient) {
            Some((first, times)) if failures < times => Next::Again(first.mul_f64(f64::from(1u32 << failures.min(10)) * (1.0 + jitter.clamp(0.0, 1.0) / 4.0))),
            _ => Next::Final,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: Reason, transient: bool) -> Ended {
        Ended::Failed { reason, transient }
    }

    #[test]
    fn back_off_doubles_and_ends() {
        let lost = failed(Reason::Lost, true);
        let waits: Vec<_> = (0..7).map(|n| after(&lost, n, 0.0)).collect();
        let seconds = |n| Next::Again(Duration::from_secs(n));
        assert_eq!(waits, [seconds(5), seconds(10), seconds(20), seconds(40), seconds(80), Next::Final, Next::Final]);
        assert_eq!(after(&lost, 0, 1.0), Next::Again(Duration::from_millis(6250)));
    }

    #[test]
    fn the_longest_is_the_longest() {
        let every = Reason::ALL.into_iter().flat_map(|reason| [false, true].map(|transient| failed(reason, transient)));
        let waits = every.flat_map(|ended| (0..20).map(move |failures| after(&ended, failures, 1.0)));
        let longest = waits.filter_map(|next| if let Next::Again(wait) = next { Some(wait) } else { None }).max();
        assert_eq!(longest, Some(LONGEST));
    }

    #[test]
    fn what_would_fail_the_same_way_is_not_repeated() {
        for reason in [Reason::Oom, Reason::Timeout, Reason::Budget, Reason::MemoryPressure, Reason::VerifyFailed, Reason::Publish, Reason::Locks] {
            assert_eq!(after(&failed(reason, true), 0, 0.0), Next::Final);
        }
        assert_eq!(after(&failed(Reason::AgentError, false), 0, 0.0), Next::Final);
        assert_ne!(after(&failed(Reason::AgentError, true), 0, 0.0), Next::Final);
    }

    #[test]
    fn interruptions_and_limits_do_not_count() {
        assert_eq!(after(&Ended::Interrupted, 99, 0.0), Next::Resume);
        assert_eq!(after(&Ended::Limited { until: None }, 99, 0.0), Next::Resume);
        assert_eq!(after(&failed(Reason::Auth, false), 99, 0.0), Next::Resume, "the account is paused instead");
    }
}
