//! Size classes: how much memory an instance is given for a task that has run out of it there, and how it gets its own limit back.

use super::ids::AttemptId;
use super::limits::{Limits, MemoryLimit};

/// The kernel counts memory in these.
const PAGE: u64 = 4096;

/// What bounds the memory of an instance, in bytes, as the kernel has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Its own `memory.max`.
    pub max: Option<u64>,
    /// Its own `memory.high`.
    pub high: Option<u64>,
    /// The groups around it that have a `memory.max`, by name: its role's, its team's, the fleet's, whatever else there is.
    pub around: Vec<(String, u64)>,
}

/// How it went to set limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They are in force.
    Done,
    /// Somebody else has set others meanwhile, which stay: the limit in bytes, if there is one.
    Left(Option<u64>),
    /// The supervisor has refused.
    Failed(String),
}

/// A limit that is raised for one attempt: what it was, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    /// For whom.
    pub attempt: AttemptId,
    /// The limit meanwhile, in bytes.
    pub memory: u64,
    /// The instance's own `memory.max`.
    pub max: u64,
    /// The instance's own `memory.high`, if it has one.
    pub high: Option<u64>,
}

impl Raise {
    /// The limits for the attempt. Throttling begins as far below the limit as before.
    pub fn up(&self) -> Limits {
        let share = |high: u64| u128::from(high) * u128::from(self.memory) / u128::from(self.max.max(1));
        let high = self.high.map(|high| u64::try_from(share(high)).unwrap_or(u64::MAX) / PAGE * PAGE).map(|high| high.max(PAGE));
        limits(self.memory, high)
    }

    /// The instance's own.
    pub fn down(&self) -> Limits {
        limits(self.max, self.high)
    }

    /// Whether that limit, read from the kernel, is the raised one: if not, somebody else has set it.
    pub fn is_in_force(&self, max: Option<u64>) -> bool {
        max.is_some_and(|max| max / PAGE == self.memory / PAGE)
    }
}

fn limits(memory: u64, high: Option<u64>) -> Limits {
    let high = high.map_or(MemoryLimit::Infinity, MemoryLimit::Bytes);
    Limits { memory: Some(MemoryLimit::Bytes(memory)), memory_high: Some(high), ..Limits::default() }
}

/// The next size class for a task that has run out of memory within these bounds.
///
/// # Errors
/// Why there is none, to follow "not tried again with more memory: ".
pub fn larger(classes: &[u64], bounds: &Bounds) -> Result<u64, String> {
    let words = |bytes: u64| MemoryLimit::Bytes(bytes);
    let Some(max) = bounds.max else {
        return Err("the instance has no limit of its own that could be raised".to_owned());
    };
    let Some(class) = classes.iter().copied().filter(|class| class / PAGE > max / PAGE).min() else {
        return Err(format!("no size class is above its limit of {}", words(max)));
    };
    match bounds.around.iter().filter(|(_, most)| *most < class).min_by_key(|(_, most)| *most) {
        Some((name, most)) => Err(format!("the next size class is {}, and {name} has {} for all that is in it", words(class), words(*most))),
        None => Ok(class),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::TaskId;
    use proptest::prelude::*;

    const GIGA: u64 = 1 << 30;

    fn bounds(max: Option<u64>, around: &[(&str, u64)]) -> Bounds {
        Bounds { max, high: None, around: around.iter().map(|(name, most)| ((*name).to_owned(), *most)).collect() }
    }

    fn raise(max: u64, high: Option<u64>, memory: u64) -> Raise {
        Raise { attempt: AttemptId { task: TaskId(1), number: 2 }, memory, max, high }
    }

    #[test]
    fn the_next_class_is_the_one_above_the_instances_own_limit() {
        let classes = [2 * GIGA, 4 * GIGA, 8 * GIGA];
        let next = |max| larger(&classes, &bounds(Some(max), &[]));
        assert_eq!((next(GIGA), next(2 * GIGA), next(3 * GIGA)), (Ok(2 * GIGA), Ok(4 * GIGA), Ok(4 * GIGA)));
        assert_eq!(next(8 * GIGA), Err("no size class is above its limit of 8G".to_owned()));
        assert_eq!(larger(&classes, &bounds(None, &[])), Err("the instance has no limit of its own that could be raised".to_owned()));
    }

    #[test]
    fn what_is_around_it_has_to_allow_it() {
        let classes = [2 * GIGA, 4 * GIGA];
        let team = |most| larger(&classes, &bounds(Some(2 * GIGA), &[("claude-code.slice", 64 * GIGA), ("claude-code-t.slice", most)]));
        assert_eq!(team(4 * GIGA), Ok(4 * GIGA));
        assert_eq!(team(3 * GIGA), Err("the next size class is 4G, and claude-code-t.slice has 3G for all that is in it".to_owned()));
    }

    #[test]
    fn throttling_moves_with_the_limit_and_both_come_back() {
        let half = raise(2 * GIGA, Some(GIGA), 4 * GIGA);
        assert_eq!(half.up().directives(), [("MemoryMax", "4G".to_owned()), ("MemoryHigh", "2G".to_owned())]);
        assert_eq!(half.down().directives(), [("MemoryMax", "2G".to_owned()), ("MemoryHigh", "1G".to_owned())]);
        assert_eq!(raise(GIGA, None, 2 * GIGA).up().directives(), [("MemoryMax", "2G".to_owned()), ("MemoryHigh", "infinity".to_owned())]);
        assert!(half.is_in_force(Some(4 * GIGA)) && !half.is_in_force(Some(5 * GIGA)) && !half.is_in_force(None));
    }

    proptest! {
        #[test]
        fn a_class_is_above_the_limit_and_within_all_bounds(classes in prop::collection::vec(1u64..1 << 50, 0..5), max in 1u64..1 << 50, around in prop::collection::vec(1u64..1 << 50, 0..4)) {
            let around: Vec<_> = around.into_iter().map(|most| ("x".to_owned(), most)).collect();
            let bounds = Bounds { max: Some(max), high: Some(max), around: around.clone() };
            if let Ok(class) = larger(&classes, &bounds) {
                prop_assert!(class > max && classes.contains(&class) && around.iter().all(|(_, most)| class <= *most));
                let up = raise(max, Some(max), class).up();
                prop_assert!(!up.high_is_above_max());
            }
        }
    }
}
