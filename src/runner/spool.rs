//! Events that the daemon has not acknowledged: one numbered file each, kept over restarts, removed on Ack.
//! What a full disk refuses stays in memory and is tried again.

use crate::core::ids::AttemptId;
use crate::platform::durable::{self, FileError};
use crate::proto::link::Event;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

struct Held {
    event: Event,
    stored: bool,
}

/// The directory `spool`, and what could not be written to it.
pub(super) struct Spool {
    directory: PathBuf,
    next: u64,
    held: BTreeMap<u64, Held>,
    /// The newest acknowledged file, kept empty of meaning but for its number: numbers count up over restarts.
    last: Option<PathBuf>,
}

impl Spool {
    /// Reads what an earlier runner left. A file that cannot be read is set aside and named in the journal.
    ///
    /// # Errors
    /// Names the directory.
    pub(super) fn open(state: &Path) -> Result<Self, FileError> {
        let mut spool = Self { directory: state.join("spool"), next: 1, held: BTreeMap::new(), last: None };
        for name in durable::names(&spool.directory)? {
            let path = spool.directory.join(&name);
            let Some((seq, kind)) = name.split_once('.').and_then(|(n, kind)| Some((n.parse::<u64>().ok()?, kind))) else { continue };
            spool.next = spool.next.max(seq.saturating_add(1));
            match kind {
                "json" => match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                    Some(event) => {
                        spool.held.insert(seq, Held { event, stored: true });
                    }
                    None => {
                        tracing::error!(path = %path.display(), "a spooled event cannot be read; it is set aside");
                        let _ = fs::rename(&path, path.with_extension("bad"));
                    }
                },
                "acked" => spool.last = Some(path),
                _ => {}
            }
        }
        Ok(spool)
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.directory.join(format!("{seq:020}.json"))
    }

    /// Takes an event, writes it to disk if that is possible, and answers its number.
    pub(super) fn push(&mut self, event: Event) -> u64 {
        let seq = self.next;
        self.next = self.next.saturating_add(1);
        self.held.insert(seq, Held { event, stored: false });
        self.store();
        seq
    }

    /// Writes what is only in memory; answers whether nothing is any more.
    pub(super) fn store(&mut self) -> bool {
        let directory = self.directory.clone();
        for (seq, held) in self.held.iter_mut().filter(|(_, held)| !held.stored) {
            let path = directory.join(format!("{seq:020}.json"));
            let written = serde_json::to_vec(&held.event).map_err(|e| FileError::of("encode", &path)(e.into())).and_then(|bytes| durable::write(&path, &bytes));
            match written {
                Ok(()) => held.stored = true,
                Err(error) => {
                    tracing::error!("an event cannot be spooled; it is kept in memory and tried again: {error}");
                    return false;
                }
            }
        }
        true
    }

    /// Whether something is only in memory.
    pub(super) fn has_unstored(&self) -> bool {
        self.held.values().any(|held| !held.stored)
    }

    /// The daemon has everything up to and with that number.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        let later = self.held.split_off(&seq.saturating_add(1));
        let acknowledged = std::mem::replace(&mut self.held, later);
        for (seq, held) in acknowledged {
            if held.stored {
                let (path, mark) = (self.path(seq), self.path(seq).with_extension("acked"));
                // Not flushed: after a power cut the event is sent once more, which does no harm.
                let done = fs::rename(&path, &mark).map_err(FileError::of("rename", &path));
                let done = done.and_then(|()| self.last.replace(mark).map_or(Ok(()), |old| durable::remove(&old)));
                if let Err(error) = done {
                    tracing::warn!("an acknowledged event stays in the spool; the daemon will get it again: {error}");
                }
            }
        }
    }

    /// What waits for the daemon, oldest first.
    pub(super) fn events(&self) -> impl ExactSizeIterator<Item = (u64, &Event)> {
        self.held.iter().map(|(seq, held)| (*seq, &held.event))
    }

    /// Whether anything of that attempt waits for the daemon.
    pub(super) fn holds(&self, attempt: AttemptId) -> bool {
        self.held.values().any(|held| attempt_of(&held.event) == attempt)
    }

    /// Whether the end of that attempt waits for the daemon: on disk, or (`stored` false) anywhere.
    pub(super) fn holds_end(&self, attempt: AttemptId, stored: bool) -> bool {
        self.held.values().any(|held| (held.stored || !stored) && matches!(&held.event, Event::Finished { attempt: a, .. } if *a == attempt))
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

fn attempt_of(event: &Event) -> AttemptId {
    match event {
        Event::Started { attempt, .. } | Event::Delivered { attempt, .. } | Event::Entered { attempt, .. } | Event::Finished { attempt, .. } => *attempt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::TaskId;

    fn event(task: i64) -> Event {
        Event::Started { attempt: AttemptId { task: TaskId(task), number: 1 }, session: None, pid: 1, cgroup: String::new() }
    }

    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        durable::directory(&dir.path().join("spool")).expect("directory");
        dir
    }

    #[test]
    fn events_survive_and_numbers_count_on_even_when_all_is_acknowledged() {
        let dir = state();
        let mut spool = Spool::open(dir.path()).expect("open");
        assert_eq!((spool.push(event(1)), spool.push(event(2)), spool.push(event(3))), (1, 2, 3));
        spool.acknowledge(2);
        let mut spool = Spool::open(dir.path()).expect("open");
        assert_eq!(spool.events().map(|(seq, e)| (seq, e.clone())).collect::<Vec<_>>(), [(3, event(3))]);
        spool.acknowledge(3);
        let mut spool = Spool::open(dir.path()).expect("open");
        assert!(spool.is_empty());
        assert_eq!(spool.push(event(4)), 4);
        spool.acknowledge(4);
        assert_eq!(durable::names(&dir.path().join("spool")).expect("names").len(), 1, "one mark is left");
    }

    #[test]
    fn a_refused_write_is_kept_and_tried_again() {
        let dir = state();
        let mut spool = Spool::open(dir.path()).expect("open");
        fs::remove_dir(dir.path().join("spool")).expect("take the directory away");
        spool.push(event(1));
        assert!(spool.has_unstored() && spool.holds(AttemptId { task: TaskId(1), number: 1 }));
        durable::directory(&dir.path().join("spool")).expect("directory");
        assert!(spool.store() && !spool.has_unstored());
        assert_eq!(Spool::open(dir.path()).expect("open").events().len(), 1);
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let dir = state();
        fs::write(dir.path().join("spool/00000000000000000007.json"), "{half").expect("write");
        let mut spool = Spool::open(dir.path()).expect("open");
        assert!(spool.is_empty());
        assert_eq!(spool.push(event(1)), 8);
        assert!(dir.path().join("spool/00000000000000000007.bad").exists());
    }
}
