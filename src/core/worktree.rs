//! Which worktrees may go: what is clean, merged or expired, and locked by nobody.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What its runner sees of a worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The branch that is checked out.
    pub branch: Option<String>,
    /// Whether something in it is not committed, a repository within it included.
    pub dirty: bool,
    /// What git has begun and not ended: a merge, a rebase.
    pub half_done: Option<String>,
    /// Whether a branch or another ref leads to what is checked out.
    pub kept: bool,
    /// Whether the base contains what is checked out.
    pub merged: bool,
    /// Why it is locked (git-worktree(1)), if it is.
    pub locked: Option<String>,
    /// What it takes on disk, bytes, where that could be counted.
    pub bytes: Option<u64>,
}

/// What becomes of a worktree, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes.
    Goes(String),
    /// It stays.
    Stays(String),
}

impl Facts {
    /// Why it cannot be removed without losing something.
    pub fn obstacle(&self) -> Option<String> {
        if let Some(operation) = &self.half_done {
            return Some(format!("a {operation} in it is half done"));
        }
        if self.dirty {
            return Some("it has uncommitted changes".to_owned());
        }
        if !self.kept {
            return Some("no branch leads to the commit that is checked out".to_owned());
        }
        self.locked.as_ref().map(|why| if why.is_empty() { "it is locked".to_owned() } else { format!("it is locked: {why}") })
    }

    /// What becomes of it, if it was last worked in at that time and may be removed `keep` after that.
    pub fn fate(&self, last_used: Option<Timestamp>, keep: Option<Duration>, now: Timestamp) -> Fate {
        if let Some(obstacle) = self.obstacle() {
            return Fate::Stays(obstacle);
        }
        if self.merged {
            return Fate::Goes("it is clean, and the base contains all of it".to_owned());
        }
        let Some(keep) = keep else {
            return Fate::Stays("its branch is not merged, and the repository says no keep".to_owned());
        };
        let idle = last_used.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        match idle {
            Some(idle) if idle >= keep => Fate::Goes(format!("it is clean, and nobody has worked in it for {}", days(idle))),
            Some(idle) => Fate::Stays(format!("its branch is not merged, and it was worked in {} ago", days(idle))),
            None => Fate::Stays("its branch is not merged, and nobody knows when it was last worked in".to_owned()),
        }
    }
}

fn days(time: Duration) -> String {
    match time.as_secs() / 86_400 {
        0 => format!("{} h", time.as_secs() / 3600),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_and_done_with_goes() {
        let clean = Facts { branch: Some("b".into()), kept: true, ..Facts::default() };
        let at = |hours: i64| Timestamp::from_second(hours * 3600).expect("a time");
        let keep = Some(Duration::from_secs(3 * 86_400));
        let fate = |facts: &Facts, keep, now| match facts.fate(Some(at(0)), keep, at(now)) {
            Fate::Goes(why) => format!("goes: {why}"),
            Fate::Stays(why) => format!("stays: {why}"),
        };
        let merged = Facts { merged: true, ..clean.clone() };
        assert_eq!(fate(&merged, None, 0), "goes: it is clean, and the base contains all of it");
        assert_eq!(fate(&clean, keep, 72), "goes: it is clean, and nobody has worked in it for 3 days");
        assert_eq!(fate(&clean, keep, 71), "stays: its branch is not merged, and it was worked in 2 days ago");
        assert_eq!(fate(&clean, None, 9999), "stays: its branch is not merged, and the repository says no keep");
        // A clock that was set back makes nothing older.
        assert!(fate(&clean, keep, -500).starts_with("stays"));
        assert!(matches!(clean.fate(None, keep, at(999)), Fate::Stays(_)));
        for (facts, why) in [
            (Facts { dirty: true, ..merged.clone() }, "uncommitted"),
            (Facts { half_done: Some("rebase".into()), ..merged.clone() }, "a rebase in it is half done"),
            (Facts { kept: false, ..merged.clone() }, "no branch leads"),
            (Facts { locked: Some(String::new()), ..merged.clone() }, "it is locked"),
            (Facts { locked: Some("on a stick".into()), ..merged.clone() }, "it is locked: on a stick"),
        ] {
            let said = fate(&facts, keep, 9999);
            assert!(said.starts_with("stays: ") && said.contains(why), "{said}");
        }
    }
}
