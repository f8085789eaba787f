//! Reads the agents' logs, which belong to users nobody trusts: no link below the instances' directory is followed, nothing but a plain file is opened.

use crate::core::ids::{AttemptId, InstanceName};
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most bytes of one piece.
const CHUNK: usize = 256 << 10;

/// A piece of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins: later than asked for where the beginning was rotated away.
    pub(super) offset: u64,
    /// What stands there.
    pub(super) bytes: Vec<u8>,
}

/// The logs of all instances, below `instances` (`/var/lib/claude-code/instances`).
#[derive(Clone, Debug)]
pub(super) struct Logs {
    instances: PathBuf,
}

impl Logs {
    /// Of the instances whose state is below that directory.
    pub(super) fn new(instances: PathBuf) -> Self {
        Self { instances }
    }

    /// What stands at `offset` of an attempt's log, at most 256 KiB; empty at its end, and where there is no log.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(super) fn read(&self, instance: &InstanceName, attempt: AttemptId, offset: u64) -> io::Result<Piece> {
        let directory = Path::new(instance.as_str()).join("logs");
        let prefix = format!("task-{}.{}.", attempt.task, attempt.number);
        let root = match File::open(&self.instances) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Piece { offset, bytes: Vec::new() }),
            Err(error) => return Err(named(&self.instances, "open", error)),
        };
        let Some(logs) = open_below(&root, &directory, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| named(&directory, "open", e))? else {
            return Ok(Piece { offset, bytes: Vec::new() });
        };
        // One file holds the log from byte BASE on: task-TASK.ATTEMPT.BASE.jsonl.
        let mut bases = Vec::new();
        for entry in rustix::fs::Dir::read_from(&logs).map_err(|e| named(&directory, "list", e.into()))? {
            let entry = entry.map_err(|e| named(&directory, "list", e.into()))?;
            let name = entry.file_name().to_string_lossy();
            bases.extend(name.strip_prefix(&prefix).and_then(|n| n.strip_suffix(".jsonl")).and_then(|base| base.parse::<u64>().ok()));
        }
        bases.sort_unstable();
        let Some(first) = bases.first().copied() else { return Ok(Piece { offset, bytes: Vec::new() }) };
        let mut offset = offset.max(first);
        // At the end of an older file the newer one goes on.
        for base in bases.iter().skip(bases.partition_point(|base| *base <= offset).saturating_sub(1)) {
            let name = PathBuf::from(format!("{prefix}{base}.jsonl"));
            let Some(file) = open_below(&logs, &name, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|e| named(&name, "open", e))? else { continue };
            if !file.metadata()?.is_file() {
                return Err(named(&name, "read", io::Error::other("it is not a plain file")));
            }
            offset = offset.max(*base);
            let mut bytes = vec![0; CHUNK];
            let read = file.read_at(&mut bytes, offset - base).map_err(|e| named(&name, "read", e))?;
            if read > 0 {
                bytes.truncate(read);
                return Ok(Piece { offset, bytes });
            }
        }
        Ok(Piece { offset, bytes: Vec::new() })
    }
}

/// Opens a path of plain names below a directory, name by name, so that no link is followed on the way. `None` if it is not
/// there. Not openat2(2), which says the same in one call: `RestrictSUIDSGID=` of clauded.service takes that away, since a
/// filter of system calls cannot look into its arguments.
fn open_below(directory: &File, path: &Path, flags: OFlags) -> io::Result<Option<File>> {
    let names: Vec<_> = path.iter().collect();
    let Some((last, way)) = names.split_last() else { return Ok(None) };
    let open = |at: &File, name: &OsStr, flags: OFlags| match rustix::fs::openat(at, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(io::Error::from(error)),
    };
    let mut at = None;
    for name in way {
        match open(at.as_ref().unwrap_or(directory), name, OFlags::RDONLY | OFlags::DIRECTORY)? {
            Some(next) => at = Some(next),
            None => return Ok(None),
        }
    }
    open(at.as_ref().unwrap_or(directory), last, flags)
}

fn named(path: &Path, verb: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::TaskId;
    use std::fs;

    const ATTEMPT: AttemptId = AttemptId { task: TaskId(7), number: 1 };

    fn world() -> (tempfile::TempDir, Logs, InstanceName, PathBuf) {
        let directory = tempfile::tempdir().expect("tempdir");
        let at = directory.path().join("a/logs");
        fs::create_dir_all(&at).expect("logs");
        let logs = Logs::new(directory.path().to_owned());
        (directory, logs, "a".parse().expect("valid"), at)
    }

    #[test]
    fn reads_on_through_a_rotation() {
        let (_keep, logs, name, at) = world();
        fs::write(at.join("task-7.1.100.jsonl"), "hello ").expect("write");
        fs::write(at.join("task-7.1.106.jsonl"), "world").expect("write");
        fs::write(at.join("task-7.10.0.jsonl"), "another attempt").expect("write");
        let read = |offset| logs.read(&name, ATTEMPT, offset).expect("readable");
        assert_eq!(read(0), Piece { offset: 100, bytes: b"hello ".to_vec() });
        assert_eq!(read(106), Piece { offset: 106, bytes: b"world".to_vec() });
        assert_eq!(read(111), Piece { offset: 111, bytes: Vec::new() });
    }

    #[test]
    fn many_empty_pieces_are_no_way_to_end_the_daemon() {
        let (_keep, logs, name, at) = world();
        for base in 0..3000 {
            fs::write(at.join(format!("task-7.1.{base}.jsonl")), "").expect("write");
        }
        fs::write(at.join("task-7.1.3000.jsonl"), "end").expect("write");
        let read = std::thread::Builder::new().stack_size(256 << 10).spawn(move || logs.read(&name, ATTEMPT, 0).expect("readable"));
        assert_eq!(read.expect("a thread").join().expect("it ends"), Piece { offset: 3000, bytes: b"end".to_vec() });
    }

    #[test]
    fn there_may_be_no_log() {
        let (_keep, logs, name, _) = world();
        assert_eq!(logs.read(&name, ATTEMPT, 5).expect("no error").bytes, b"");
        assert_eq!(logs.read(&"b".parse().expect("valid"), ATTEMPT, 0).expect("no error").bytes, b"");
    }

    #[test]
    fn follows_no_link_and_opens_nothing_but_files() {
        let (keep, logs, name, at) = world();
        fs::write(keep.path().join("secret"), "root's").expect("write");
        std::os::unix::fs::symlink(keep.path().join("secret"), at.join("task-7.1.0.jsonl")).expect("link");
        assert!(logs.read(&name, ATTEMPT, 0).is_err());
        fs::remove_file(at.join("task-7.1.0.jsonl")).expect("remove");
        nix::unistd::mkfifo(&at.join("task-7.1.0.jsonl"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        assert!(logs.read(&name, ATTEMPT, 0).is_err_and(|e| e.to_string().contains("not a plain file")));
        fs::rename(keep.path().join("a"), keep.path().join("real")).expect("rename");
        std::os::unix::fs::symlink(keep.path().join("real"), keep.path().join("a")).expect("link");
        assert!(logs.read(&name, ATTEMPT, 0).is_err());
    }
}
