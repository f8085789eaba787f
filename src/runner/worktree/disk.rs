//! What a worktree takes on disk.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The bytes that everything below a directory takes, as du(1) counts: blocks, and a file with several names once. No link is
/// followed. `None` if it takes longer than `most` to count.
pub(in crate::runner) fn usage(directory: &Path, most: Duration) -> Option<u64> {
    let until = Instant::now() + most;
    let (mut waiting, mut seen, mut bytes) = (vec![directory.to_owned()], BTreeSet::new(), 0u64);
    while let Some(path) = waiting.pop() {
        if Instant::now() > until {
            return None;
        }
        // What cannot be read, or went away meanwhile, is not counted.
        for entry in fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok) {
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                waiting.push(entry.path());
            } else if data.nlink() > 1 && !seen.insert((data.dev(), data.ino())) {
                continue;
            }
            bytes = bytes.saturating_add(data.blocks().saturating_mul(512));
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_links_not_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("a")).expect("made");
        fs::write(dir.path().join("a/big"), vec![1; 1 << 20]).expect("written");
        let once = usage(dir.path(), Duration::from_secs(60)).expect("in time");
        assert!((1 << 20..2 << 20).contains(&once), "{once}");
        fs::hard_link(dir.path().join("a/big"), dir.path().join("again")).expect("linked");
        std::os::unix::fs::symlink("/", dir.path().join("out")).expect("linked");
        assert_eq!(usage(dir.path(), Duration::from_secs(60)), Some(once));
        assert_eq!(usage(dir.path(), Duration::ZERO), None);
    }
}
