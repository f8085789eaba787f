//! What an agent has read, a file a session in the instance's state: a line a read, the last one on a path counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest file whose content is compared; of a larger one a new time or size says enough.
const CONTENT_MAX: u64 = 16 << 20;
/// How long the notes of a session may get before they are written anew.
const NOTES_MAX: u64 = 1 << 20;

/// The notes of one session.
pub(super) struct Reads {
    file: PathBuf,
}

/// What a file was like.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    /// Nanoseconds since the epoch, and the inode: if these are the same, so is the content.
    changed: (i64, i64, u64),
    /// Of the content, where it is short enough; a file that was only touched is the same.
    content: Option<u64>,
}

impl Reads {
    /// Of that session, below the instance's state directory.
    pub(super) fn new(state: &Path, session: &str) -> Self {
        // Session IDs are UUIDs; anything else must not become a path.
        let name: String = session.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
        Self { file: state.join("reads").join(name) }
    }

    /// Whether a file has changed since this session read it; `false` if it never did.
    pub(super) fn is_stale(&self, path: &Path) -> bool {
        let Ok(text) = fs::read_to_string(&self.file) else { return false };
        let Some(then) = text.lines().rev().find_map(|line| entry(line, path)) else { return false };
        match stamp(path, |now| now.size != then.size || now.changed != then.changed) {
            Ok(now) if now.size == then.size && now.changed == then.changed => false,
            Ok(now) => now.size != then.size || now.content.is_none() || now.content != then.content,
            // One that is gone is made anew.
            Err(_) => false,
        }
    }

    /// Notes what a file is like now.
    pub(super) fn note(&self, path: &Path) -> io::Result<()> {
        let Ok(stamp) = stamp(path, |_| true) else { return Ok(()) };
        let Stamp { size, changed: (seconds, nanoseconds, inode), content } = stamp;
        let content = content.map_or_else(|| "-".to_owned(), |content| format!("{content:016x}"));
        let line = format!("{size} {seconds} {nanoseconds} {inode} {content} {}\n", escaped(path));
        if let Some(directory) = self.file.parent().filter(|directory| !directory.is_dir()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.file)?;
        // One write: hooks of parallel tool calls append to the same file.
        file.write_all(line.as_bytes())?;
        if file.metadata()?.len() > NOTES_MAX {
            self.shorten()?;
        }
        Ok(())
    }

    /// Keeps the last line on each path.
    fn shorten(&self) -> io::Result<()> {
        let text = fs::read_to_string(&self.file)?;
        let mut seen = std::collections::BTreeSet::new();
        let mut kept: Vec<&str> = text.lines().rev().filter(|line| line.splitn(6, ' ').nth(5).is_some_and(|path| seen.insert(path))).collect();
        // Half of the room at most, so that this is not done at every read.
        let mut room = NOTES_MAX / 2;
        kept.retain(|line| {
            let size = line.len() as u64 + 1;
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        kept.reverse();
        let draft = self.file.with_extension("new");
        fs::write(&draft, kept.iter().map(|line| format!("{line}\n")).collect::<String>())?;
        fs::rename(draft, &self.file)
    }
}

/// A line's stamp if it is on that path.
fn entry(line: &str, path: &Path) -> Option<Stamp> {
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next();
    let (size, seconds, nanoseconds, inode, content) = (word()?, word()?, word()?, word()?, word()?);
    if word()? != escaped(path) {
        return None;
    }
    let changed = (seconds.parse().ok()?, nanoseconds.parse().ok()?, inode.parse().ok()?);
    Some(Stamp { size: size.parse().ok()?, changed, content: u64::from_str_radix(content, 16).ok() })
}

/// A path on one line.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// What a file is like; its content too if that is `wanted`.
fn stamp(path: &Path, wanted: impl FnOnce(&Stamp) -> bool) -> io::Result<Stamp> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let mut stamp = Stamp { size: meta.len(), changed: (meta.mtime(), meta.mtime_nsec(), meta.ino()), content: None };
    if meta.is_file() && meta.len() <= CONTENT_MAX && wanted(&stamp) {
        let mut bytes = Vec::new();
        file.take(CONTENT_MAX).read_to_end(&mut bytes)?;
        stamp.content = Some(fnv(&bytes));
    }
    Ok(stamp)
}

/// FNV-1a: tells a file that was changed by accident from one that was not; nobody gains from fooling it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn touch(path: &Path, ago: u64) {
        File::options().append(true).open(path).expect("opened").set_modified(SystemTime::now() - Duration::from_secs(ago)).expect("set");
    }

    #[test]
    fn only_what_was_read_and_has_another_content_is_stale() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, other) = (directory.path().join("a\nb.rs"), directory.path().join("c.rs"));
        fs::write(&file, "one").expect("written");
        fs::write(&other, "x").expect("written");
        let (reads, elsewhere) = (Reads::new(directory.path(), "s-1"), Reads::new(directory.path(), "../s-2"));
        assert!(!reads.is_stale(&file), "never read");
        reads.note(&file).expect("noted");
        assert!(!reads.is_stale(&file));
        touch(&file, 100);
        assert!(!reads.is_stale(&file), "only touched");
        fs::write(&file, "two").expect("written");
        touch(&file, 50);
        assert!(reads.is_stale(&file));
        assert!(!elsewhere.is_stale(&file) && !reads.is_stale(&other), "another session, another file");
        reads.note(&file).expect("noted");
        assert!(!reads.is_stale(&file), "read again");
        fs::remove_file(&file).expect("removed");
        assert!(!reads.is_stale(&file), "gone");
        reads.note(&file).expect("nothing to note");
        elsewhere.note(&other).expect("noted");
        assert!(directory.path().join("reads/s-2").is_file(), "no session leaves its directory");
    }

    #[test]
    fn notes_do_not_grow_without_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, last) = (directory.path().join("a"), directory.path().join("z"));
        fs::write(&file, "one").expect("written");
        fs::write(&last, "one").expect("written");
        let reads = Reads::new(directory.path(), "s");
        reads.note(&file).expect("noted");
        let line = fs::read_to_string(&reads.file).expect("readable");
        fs::write(&reads.file, line.repeat(NOTES_MAX as usize / line.len())).expect("written");
        reads.note(&last).expect("noted");
        assert_eq!(fs::read_to_string(&reads.file).expect("readable").lines().count(), 2);
        fs::write(&file, "two!").expect("written");
        assert!(reads.is_stale(&file) && !reads.is_stale(&last));
    }
}
