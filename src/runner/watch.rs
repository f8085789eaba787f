//! When to end a running agent that does not end by itself: its time, its silence, its memory. Time is monotonic, so that a
//! jumping clock neither ends nor prolongs a task.

use crate::core::profile::Profile;
use crate::core::verdict::StopCause;
use std::time::Duration;
use tokio::time::Instant;

/// The bounds of one attempt.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` lies beyond what the clock can say.
    ends: Option<Instant>,
    stall: Duration,
    pressure_percent: f64,
    pressure_time: Duration,
    pressed_since: Option<Instant>,
    last_output: Instant,
}

impl Watch {
    /// Begins now.
    pub(super) fn new(profile: &Profile, timeout: Duration, now: Instant) -> Self {
        Self {
            ends: now.checked_add(timeout),
            stall: profile.stall_timeout,
            pressure_percent: f64::from(profile.pressure_percent),
            pressure_time: profile.pressure_time,
            pressed_since: None,
            last_output: now,
        }
    }

    /// The agent printed something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_output = now;
    }

    /// Looks at the clock and at the full memory pressure, per cent of the last ten seconds, where it is known.
    pub(super) fn look(&mut self, now: Instant, pressure: Option<f64>) -> Option<StopCause> {
        match pressure {
            Some(percent) if percent >= self.pressure_percent => self.pressed_since = self.pressed_since.or(Some(now)),
            _ => self.pressed_since = None,
        }
        if self.ends.is_some_and(|ends| now >= ends) {
            return Some(StopCause::Timeout);
        }
        if self.pressed_since.is_some_and(|since| now.duration_since(since) >= self.pressure_time) {
            return Some(StopCause::MemoryPressure);
        }
        (now.duration_since(self.last_output) >= self.stall).then_some(StopCause::Stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::task::tests::profile;

    #[test]
    fn each_bound_by_itself() {
        let profile = Profile { stall_timeout: Duration::from_secs(10), pressure_percent: 60, pressure_time: Duration::from_secs(5), ..profile(&["agent"]) };
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut watch = Watch::new(&profile, Duration::from_secs(30), start);
        assert_eq!(watch.look(at(9), None), None);
        assert_eq!(watch.look(at(10), None), Some(StopCause::Stalled));
        watch.heard(at(10));
        assert_eq!(watch.look(at(11), Some(60.0)), None);
        assert_eq!(watch.look(at(15), Some(59.9)), None, "a pause begins the time anew");
        assert_eq!(watch.look(at(16), Some(99.0)), None);
        watch.heard(at(16));
        assert_eq!(watch.look(at(21), Some(99.0)), Some(StopCause::MemoryPressure));
        assert_eq!(watch.look(at(30), None), Some(StopCause::Timeout));
    }

    #[test]
    fn an_endless_timeout_never_ends() {
        let mut watch = Watch::new(&Profile { stall_timeout: Duration::MAX, ..profile(&["agent"]) }, Duration::MAX, Instant::now());
        assert_eq!(watch.look(Instant::now() + Duration::from_secs(1 << 30), None), None);
    }
}
