//! The terms on which a task enters the queue: how urgent it is, what it comes after, who may take it, what it counts with.

use super::ids::TaskId;
use super::label::Label;
use super::lock::{InvalidPattern, Pattern};
use super::refname::{BRANCH_MAX, check_branch};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Most dependencies of one task, so that its end stays cheap.
pub const AFTER_MAX: usize = 1000;
/// Most paths and globs of one task: a directory says more than its files.
pub const FILES_MAX: usize = 20;

/// How urgent a task is: -10 to 10, more is sooner, 0 where nothing is said. A step is worth as much as having waited
/// `[queue] ageing` longer, so that nothing waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Priority(i8);

/// Why terms are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTerms {
    /// Not -10 to 10.
    #[error("a priority is a number from -10 to 10; more is sooner")]
    Priority,
    /// Not one of the two.
    #[error("after-failed is \"fail\" or \"release\"")]
    AfterFailed,
    /// More than [`AFTER_MAX`].
    #[error("a task comes after at most {AFTER_MAX} others, and this one names {0}; let one task stand for a group of them")]
    After(usize),
    /// More than [`FILES_MAX`].
    #[error("a task names at most {FILES_MAX} files, and this one names {0}; name their directory (\"src/\") or a glob (\"src/**/*.rs\")")]
    Files(usize),
    /// Not a path or glob.
    #[error("{0}")]
    File(#[from] InvalidPattern),
    /// Not a branch's name.
    #[error("{0:?} cannot be a branch: {1}")]
    Branch(String, &'static str),
}

impl Priority {
    /// -10 to 10.
    pub fn get(self) -> i8 {
        self.0
    }

    /// The place in the queue: whoever came first, each step of priority being worth `ageing` of waiting. Microseconds.
    pub fn rank(self, created: Timestamp, ageing: Duration) -> i64 {
        let worth = i64::try_from(ageing.as_micros()).unwrap_or(i64::MAX);
        created.as_microsecond().saturating_sub(worth.saturating_mul(i64::from(self.0)))
    }
}

impl TryFrom<i64> for Priority {
    type Error = InvalidTerms;

    fn try_from(number: i64) -> Result<Self, InvalidTerms> {
        i8::try_from(number).ok().filter(|n| (-10..=10).contains(n)).map(Self).ok_or(InvalidTerms::Priority)
    }
}

impl From<Priority> for i64 {
    fn from(priority: Priority) -> Self {
        priority.0.into()
    }
}

impl FromStr for Priority {
    type Err = InvalidTerms;

    fn from_str(text: &str) -> Result<Self, InvalidTerms> {
        text.parse::<i64>().map_err(|_| InvalidTerms::Priority)?.try_into()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of a task when one that it comes after fails or is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterFailed {
    /// It fails too, and so do those that come after it.
    #[default]
    Fail,
    /// It is done all the same.
    Release,
}

impl AfterFailed {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Release => "release",
        }
    }
}

impl FromStr for AfterFailed {
    type Err = InvalidTerms;

    fn from_str(text: &str) -> Result<Self, InvalidTerms> {
        [Self::Fail, Self::Release].into_iter().find(|one| one.name() == text).ok_or(InvalidTerms::AfterFailed)
    }
}

/// What an instance must bring to take a task; the default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// It is a member of that team.
    pub team: Option<Label>,
    /// It has that role there.
    pub role: Option<Label>,
    /// It has that specialty.
    pub specialty: Option<Label>,
    /// It has all of these.
    pub labels: BTreeSet<Label>,
    /// It works on that repository.
    pub repository: Option<Label>,
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { team, role, specialty, labels, repository } = self;
        let named = |what: &str, label: &Option<Label>| label.as_ref().map(|label| format!("{what} {label}"));
        let parts = [named("team", team), named("role", role), named("specialty", specialty), named("repository", repository)];
        let labels = labels.iter().map(|label| format!("label {label}"));
        f.write_str(&parts.into_iter().flatten().chain(labels).collect::<Vec<_>>().join(", "))
    }
}

/// All terms; the default is a task without any. They never change once the task is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How urgent it is.
    pub priority: Priority,
    /// What it counts with: groups can be listed, paused and limited.
    pub group: Option<Label>,
    /// What an instance must bring to take it.
    pub demand: Demand,
    /// The branch that it is about, for the agent and for people.
    pub branch: Option<String>,
    /// It waits while one of these is in the queue.
    pub after: BTreeSet<TaskId>,
    /// What becomes of it when one of them fails.
    pub after_failed: AfterFailed,
    /// Not before that time.
    pub not_before: Option<Timestamp>,
    /// Which files it will touch, as far as whoever added it knows. A forecast, and no lock.
    pub files: Vec<Pattern>,
}

/// Files that somebody names: a glob where there is any of `*?[{` in it, else a file by its path, or with a slash at the end a
/// directory with all that is in it.
///
/// # Errors
/// It is neither, and why.
pub fn files(text: &str) -> Result<Pattern, InvalidPattern> {
    if text.contains(['*', '?', '[', '{']) { Pattern::glob(text) } else { Pattern::path(text) }
}

impl Terms {
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validated(self) -> Result<Self, InvalidTerms> {
        if self.after.len() > AFTER_MAX {
            return Err(InvalidTerms::After(self.after.len()));
        }
        if self.files.len() > FILES_MAX {
            return Err(InvalidTerms::Files(self.files.len()));
        }
        if let Some(branch) = &self.branch {
            check_branch(branch).map_err(|why| InvalidTerms::Branch(branch.chars().take(BRANCH_MAX).collect(), why))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_priority_is_worth_a_span_of_waiting() {
        let (hour, at) = (Duration::from_secs(3600), |s| Timestamp::from_second(s).expect("a time"));
        let priority = |n: i64| Priority::try_from(n).expect("valid");
        let rank = |n, s| priority(n).rank(at(s), hour);
        assert!(rank(1, 7200) > rank(0, 3599) && rank(1, 7200) < rank(0, 3601));
        assert!(rank(-10, 0) > rank(0, 35_999) && rank(-10, 0) < rank(0, 36_001));
        assert_eq!([-11, 11, i64::MAX].map(Priority::try_from), [const { Err(InvalidTerms::Priority) }; 3]);
        // The longest that a configuration can say does not wrap.
        assert!(priority(10).rank(at(0), Duration::MAX) < priority(-10).rank(at(0), Duration::MAX));
    }

    #[test]
    fn bad_terms_are_refused() {
        let branch = |name: &str| Terms { branch: Some(name.to_owned()), ..Terms::default() }.validated();
        for name in ["feat/x", "claude-1234abcd/feat/user-auth", "a"] {
            assert!(branch(name).is_ok(), "{name}");
        }
        for name in ["", "-x", "a..b", "a b", "a\nb", "a~1", "/a", "a/", "a.lock", "a/.b", "@", "x@{1}", &"x".repeat(201)] {
            assert!(branch(name).is_err(), "{name:?}");
        }
        let files: Result<Vec<_>, _> = ["src/a.rs", "src/", "src/**/*.rs", "{a,b}/x"].map(super::files).into_iter().collect();
        let files = files.expect("valid");
        assert_eq!(files.iter().map(|one| one.kind().name()).collect::<Vec<_>>(), ["path", "path", "glob", "glob"]);
        assert!(files[1].matches("src/x/y") && !files[0].matches("src/a.rsx"));
        for text in ["", "/etc/passwd", "../x", "a/../../x", "a\nb", "src/[a", "**x"] {
            assert!(super::files(text).is_err(), "{text:?}");
        }
        let every = Terms { files: vec![files[0].clone(); FILES_MAX + 1], ..Terms::default() };
        assert_eq!(every.validated(), Err(InvalidTerms::Files(FILES_MAX + 1)));
        let many = Terms { after: (0..1001).map(TaskId).collect(), ..Terms::default() };
        assert_eq!(many.validated(), Err(InvalidTerms::After(1001)));
    }
}
