//! Who in a task takes the most memory. The kernel tells the name of what it kills to those alone who may read its log, and a
//! runner may not.

use super::descendants;
use crate::platform::proc;

/// A process by its size.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Largest {
    /// proc(5) `comm`, without what a terminal would obey.
    pub(super) name: String,
    /// Resident memory, bytes.
    pub(super) resident: u64,
}

impl Largest {
    /// The largest of these processes, of those that still are.
    pub(super) fn of(pids: &[u32]) -> Option<Self> {
        let sizes = pids.iter().filter_map(|pid| Some((pid, descendants::resident(*pid)?)));
        let (pid, resident) = sizes.max_by_key(|(_, resident)| *resident)?;
        Some(Self { name: proc::name(*pid)?.chars().filter(|c| !c.is_control()).collect(), resident })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::{Command, Stdio};

    #[test]
    fn the_largest_process_has_its_name_and_its_size() {
        let mut small = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let (own, cat) = (std::process::id(), small.id());
        let largest = Largest::of(&[cat, own, u32::MAX]).expect("one of them");
        assert_eq!(largest.name, fs::read_to_string("/proc/self/comm").expect("proc").trim_end());
        assert!(Some(largest.resident) > descendants::resident(cat) && largest.resident > 1 << 20, "{largest:?}");
        small.kill().and_then(|()| small.wait()).expect("ended");
        assert_eq!(Largest::of(&[cat]), None, "it is gone");
    }
}
