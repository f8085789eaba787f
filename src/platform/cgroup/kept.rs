//! Groups that are read over and over, as by every scrape: their files stay open, and a number costs one pread(2).
//! Opening and closing a kernfs file costs about three times as much as reading it.

use super::stats::{self, Caps, Files, Stats};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Files that are read of one group.
const FILES: u64 = 16;
/// After that long a missing file is looked for again: a controller may have been enabled meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A group that nobody reads for that long gives up its place when another needs it: longer than anyone's scrape interval.
const UNUSED: Duration = Duration::from_secs(900);

/// The open files of many groups, within half of the descriptors that the process may have; groups beyond that are read all
/// the same, at a higher price.
pub struct Kept {
    groups: Mutex<HashMap<PathBuf, Open>>,
    most: usize,
}

/// One group.
struct Open {
    directory: OwnedFd,
    files: Vec<(&'static str, Option<OwnedFd>)>,
    buffer: Vec<u8>,
    /// When the missing files were last looked for.
    looked: Instant,
    used: Instant,
    /// A file was removed while it was open: with its group, or with its controller.
    gone: bool,
}

impl Default for Kept {
    fn default() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self::at_most(usize::try_from(descriptors / 2 / FILES).unwrap_or(usize::MAX))
    }
}

impl Kept {
    fn at_most(groups: usize) -> Self {
        Self { groups: Mutex::default(), most: groups }
    }

    /// The numbers and the limits of the group at `path`, the weights excepted. A group that does not exist has none; one
    /// that was removed and made again is read anew.
    pub fn read(&self, path: &Path) -> (Stats, Caps) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(group) = groups.get_mut(path) {
            let numbers = group.numbers(now);
            if !group.gone {
                return numbers;
            }
            groups.remove(path);
        }
        let Some(mut group) = Open::new(path, now) else { return Default::default() };
        let numbers = group.numbers(now);
        if group.gone {
            return Default::default();
        }
        if groups.len() >= self.most {
            groups.retain(|_, group| now.duration_since(group.used) < UNUSED);
        }
        // Without an open file nothing would tell of its removal.
        if groups.len() < self.most && group.files.iter().any(|(_, file)| file.is_some()) {
            groups.insert(path.to_owned(), group);
        }
        numbers
    }
}

impl Open {
    fn new(path: &Path, now: Instant) -> Option<Self> {
        let directory = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        Some(Self { directory, files: Vec::new(), buffer: vec![0; stats::BUFFER], looked: now, used: now, gone: false })
    }

    fn numbers(&mut self, now: Instant) -> (Stats, Caps) {
        self.used = now;
        if now.duration_since(self.looked) >= LOOK_AGAIN {
            self.looked = now;
            self.files.retain(|(_, file)| file.is_some());
        }
        (stats::stats(self), stats::limits(self))
    }

    /// The place of a file in `files`; it is opened if it was not there yet.
    fn place(&mut self, name: &'static str) -> Option<usize> {
        if let Some(at) = self.files.iter().position(|(known, _)| *known == name) {
            return Some(at);
        }
        match openat(&self.directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(file) => self.files.push((name, Some(file))),
            Err(Errno::ENOENT) => self.files.push((name, None)),
            // Out of descriptors, for example: the next time may be better.
            Err(_) => return None,
        }
        self.files.len().checked_sub(1)
    }
}

impl Files for Open {
    fn read(&mut self, name: &'static str) -> Option<&str> {
        if self.gone {
            return None;
        }
        let at = self.place(name)?;
        let file = self.files.get(at)?.1.as_ref()?;
        match stats::whole(file, &mut self.buffer) {
            Ok(length) => std::str::from_utf8(self.buffer.get(..length)?).ok(),
            Err(error) => {
                self.gone = error == Errno::ENODEV;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scratch;
    use super::*;

    fn descriptors_below(path: &Path) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").expect("proc").filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        links.filter(|link| link.starts_with(path)).count()
    }

    fn busy(group: &super::super::Group) -> u64 {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "read go; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().expect("sh");
        group.enter(child.id()).expect("moved");
        drop(child.stdin.take());
        child.wait().expect("ended");
        group.stats().cpu_user_usec.expect("cpu.stat")
    }

    #[test]
    fn a_group_that_is_made_again_gives_its_own_numbers() {
        let Some(scratch) = Scratch::new("kept") else { return };
        let (kept, path) = (Kept::at_most(8), scratch.group().path().join("inner"));
        let used = |kept: &Kept| kept.read(&path).0.cpu_user_usec;
        assert_eq!(used(&kept), None, "not made yet");
        let group = scratch.group().child("inner").expect("made");
        let spent = busy(&group);
        assert!(spent > 0);
        assert_eq!(used(&kept), Some(spent));
        assert!(descriptors_below(&path) > 3, "its files stay open");
        assert_eq!(kept.read(&path), (group.stats(), kept.read(&path).1), "as a reader that opens them anew sees it");
        group.remove().expect("removed");
        assert_eq!(kept.read(&path), Default::default(), "a group that is gone has no numbers");
        assert_eq!(descriptors_below(scratch.group().path()), 0, "nor descriptors");
        let group = scratch.group().child("inner").expect("made again");
        assert_eq!(used(&kept), Some(0), "not those of its predecessor");
        assert_eq!(used(&kept), group.stats().cpu_user_usec);
        // Removed and made again between two reads: the old descriptors say ENODEV, and the new files are opened.
        let spent = busy(&group);
        assert_eq!(used(&kept), Some(spent));
        group.remove().expect("removed");
        scratch.group().child("inner").expect("made for the third time");
        assert_eq!(used(&kept), Some(0));
    }

    #[test]
    fn groups_beyond_the_bound_are_read_and_not_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let kept = Kept::at_most(2);
        for round in 0..3 {
            for name in ["a", "b", "c"] {
                let path = directory.path().join(name);
                std::fs::create_dir_all(&path).expect("made");
                std::fs::write(path.join("memory.current"), format!("{round}\n")).expect("written");
                assert_eq!(kept.read(&path).0.memory_current, Some(round), "{name}");
            }
            assert_eq!(descriptors_below(directory.path()), 2 * 2, "two groups, each with its directory and one file");
        }
    }

    #[test]
    fn a_file_that_comes_later_is_found_in_time() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("pids.current"), "1\n").expect("written");
        let begin = Instant::now();
        let mut group = Open::new(directory.path(), begin).expect("a directory");
        assert_eq!(group.numbers(begin).0.memory_current, None);
        std::fs::write(directory.path().join("memory.current"), "7\n").expect("written");
        assert_eq!(group.numbers(begin + LOOK_AGAIN / 2).0.memory_current, None);
        assert_eq!(group.numbers(begin + LOOK_AGAIN).0.memory_current, Some(7));
    }
}
