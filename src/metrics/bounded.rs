//! Label values that come from outside, bounded: the first so many distinct ones keep their names, the rest are `other`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// What every value beyond the bound is called.
const OTHER: &str = "other";

/// One label's values.
#[derive(Debug)]
pub(super) struct Bounded {
    most: usize,
    seen: Mutex<HashSet<String>>,
}

impl Bounded {
    /// At most `most` distinct values and `other`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, seen: Mutex::default() }
    }

    /// The value, or `other` if there are too many already.
    pub(super) fn admit<'a>(&self, value: &'a str) -> &'a str {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(value) {
            return value;
        }
        if seen.len() >= self.most {
            return OTHER;
        }
        seen.insert(value.to_owned());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_keep_their_names() {
        let labels = Bounded::new(2);
        assert_eq!(["a", "b", "c", "a", "d", "b"].map(|value| labels.admit(value)), ["a", "b", "other", "a", "other", "b"]);
    }
}
