//! What agents say of how they get on, in memory: the last sentence of each task that has not ended.

use crate::core::ids::TaskId;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// Longest sentence, in bytes.
pub(super) const SAID_MAX: usize = 300;
/// No task is spoken of more often: each is an event that is kept.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Nor more than so many times.
const TIMES_MAX: u32 = 500;

/// Why a sentence is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooOften {
    /// Within the pause.
    #[error("less than {} seconds ago you have said something of this task; go on with your work", PAUSE.as_secs())]
    Now,
    /// Over the bound.
    #[error("{TIMES_MAX} times you have said something of this task, and no more is taken; say the rest in your result")]
    Ever,
}

#[derive(Clone, Debug)]
struct Said {
    text: String,
    at: Timestamp,
    times: u32,
}

/// All that was said.
#[derive(Debug, Default)]
pub(super) struct Headway(BTreeMap<TaskId, Said>);

impl Headway {
    /// Keeps a sentence, and forgets those of tasks that have ended.
    pub(super) fn say(&mut self, task: TaskId, text: &str, now: Timestamp, lives: impl Fn(TaskId) -> bool) -> Result<(), TooOften> {
        self.0.retain(|task, _| lives(*task));
        let before = self.0.get(&task);
        // A clock that was set back silences nobody.
        if before.is_some_and(|said| said.at <= now && now.duration_since(said.at) < PAUSE) {
            return Err(TooOften::Now);
        }
        let times = before.map_or(0, |said| said.times);
        if times >= TIMES_MAX {
            return Err(TooOften::Ever);
        }
        self.0.insert(task, Said { text: text.to_owned(), at: now, times: times + 1 });
        Ok(())
    }

    /// The last sentence.
    pub(super) fn of(&self, task: TaskId) -> Option<&str> {
        self.0.get(&task).map(|said| said.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_nobody_talks_without_end() {
        let (mut said, task) = (Headway::default(), TaskId(1));
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(said.say(task, "one", at(100), |_| true), Ok(()));
        assert_eq!(said.say(task, "two", at(104), |_| true), Err(TooOften::Now));
        assert_eq!(said.say(TaskId(2), "another", at(104), |_| true), Ok(()));
        assert_eq!(said.of(task), Some("one"));
        assert_eq!(said.say(task, "back in time", at(50), |_| true), Ok(()));
        for n in 2..500 {
            assert_eq!(said.say(task, "more", at(1000 * n), |_| true), Ok(()));
        }
        assert_eq!(said.say(task, "too much", at(1_000_000), |_| true), Err(TooOften::Ever));
        assert_eq!(said.say(TaskId(2), "x", at(2_000_000), |task| task == TaskId(2)), Ok(()));
        assert_eq!(said.of(task), None, "it has ended");
    }
}
