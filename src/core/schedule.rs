//! Tasks that come again by the clock: when the next one is due. Pure: the time zone is an argument, read by who may read files.

use super::ids::TaskId;
use super::label::Label;
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::str::FromStr;

/// A schedule as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its name.
    pub name: Label,
    /// When: five fields of crontab(5), or six with seconds first.
    pub cron: String,
    /// The time zone's IANA name; empty for the host's.
    pub timezone: String,
    /// The task that it adds, as the API's request.
    pub request: String,
    /// Who made it, for people.
    pub by: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last due.
    pub last_run: Option<Timestamp>,
    /// The task that it added last.
    pub last_task: Option<TaskId>,
}

/// Why a text is no time table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTiming {
    /// Not a cron expression.
    #[error("{0:?} is no cron expression ({1}); it has five fields: minute hour day month weekday, such as \"0 6 * * MON-FRI\" (crontab(5))")]
    Cron(String, String),
    /// One that never comes.
    #[error("{0:?} never comes: there is no such day")]
    Never(String),
}

/// When something comes again.
#[derive(Clone, Debug)]
pub struct Timing {
    cron: Cron,
    zone: TimeZone,
}

impl Timing {
    /// From an expression, in a time zone.
    ///
    /// # Errors
    /// It is none, or it never comes.
    pub fn new(expression: &str, zone: TimeZone, now: Timestamp) -> Result<Self, InvalidTiming> {
        let cron = Cron::from_str(expression).map_err(|error| InvalidTiming::Cron(expression.to_owned(), error.to_string()))?;
        let timing = Self { cron, zone };
        if timing.after(now).is_none() { Err(InvalidTiming::Never(expression.to_owned())) } else { Ok(timing) }
    }

    /// The first time after that one.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        self.cron.find_next_occurrence(&time.to_zoned(self.zone.clone()), false).ok().map(|zoned| zoned.timestamp()).filter(|next| *next > time)
    }

    /// The next time of a schedule: one that was missed is due at once, and once only.
    pub fn due(&self, schedule: &Schedule) -> Option<Timestamp> {
        self.after(schedule.last_run.unwrap_or(schedule.created))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn timing(expression: &str, zone: &str) -> Result<Timing, InvalidTiming> {
        Timing::new(expression, TimeZone::get(zone).expect("a zone"), time("2026-01-01T00:00:00Z"))
    }

    #[test]
    fn the_next_time_is_the_zones() {
        let daily = timing("0 6 * * *", "Europe/Berlin").expect("valid");
        assert_eq!(daily.after(time("2026-01-10T05:00:00Z")), Some(time("2026-01-11T05:00:00Z")), "not the same time again");
        assert_eq!(daily.after(time("2026-07-10T03:59:59Z")), Some(time("2026-07-10T04:00:00Z")), "summer time");
        // The night in which the clock goes forward has no half past two.
        let night = timing("30 2 * * *", "Europe/Berlin").expect("valid");
        let next = night.after(time("2026-03-28T12:00:00Z")).expect("a time");
        assert!(next >= time("2026-03-29T00:30:00Z") && next <= time("2026-03-30T00:30:00Z"), "{next}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(timing("every day", "UTC"), Err(InvalidTiming::Cron(..))));
        assert!(matches!(timing("61 * * * *", "UTC"), Err(InvalidTiming::Cron(..))));
        assert!(timing("0 0 31 2 *", "UTC").is_err());
    }

    #[test]
    fn a_missed_time_is_due_once() {
        let hourly = timing("0 * * * *", "UTC").expect("valid");
        let schedule = Schedule {
            name: "n".parse().expect("a name"),
            cron: "0 * * * *".into(),
            timezone: "UTC".into(),
            request: String::new(),
            by: String::new(),
            created: time("2026-01-01T00:30:00Z"),
            last_run: None,
            last_task: None,
        };
        assert_eq!(hourly.due(&schedule), Some(time("2026-01-01T01:00:00Z")));
        let ran = Schedule { last_run: Some(time("2026-01-03T09:15:00Z")), ..schedule };
        assert_eq!(hourly.due(&ran), Some(time("2026-01-03T10:00:00Z")), "those that were missed are over");
    }

    proptest! {
        #[test]
        fn time_goes_on(seconds in 0i64..4_000_000_000, step in 1u8..30, hour in 0u8..24) {
            let timing = timing(&format!("*/{step} {hour} * * *"), "America/New_York").expect("valid");
            let now = Timestamp::from_second(seconds).expect("a time");
            let next = timing.after(now);
            prop_assert!(next.is_some_and(|next| next > now), "{:?}", next);
        }
    }
}
