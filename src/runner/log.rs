//! An attempt's log on disk: at most two files, each at most half of the bound, the file's name telling at which byte it begins.
//! A write that fails is counted and the agent goes on.

use super::drain::Line;
use crate::core::ids::AttemptId;
use crate::platform::durable::{self, FileError};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How many attempts' logs an instance keeps.
const ATTEMPTS_KEPT: usize = 100;

/// The log of one attempt.
#[derive(Debug)]
pub(super) struct AttemptLog {
    directory: PathBuf,
    prefix: String,
    half: u64,
    file: Option<(File, PathBuf)>,
    older: Option<PathBuf>,
    /// Byte offset at which the current file begins.
    base: u64,
    length: u64,
    failures: u64,
}

impl AttemptLog {
    /// A new log of at most `max` bytes on disk. Removes the logs of attempts long gone. Nothing is written yet.
    pub(super) fn new(state: &Path, attempt: AttemptId, max: u64) -> Self {
        let directory = state.join("logs");
        prune(&directory);
        Self { directory, prefix: format!("task-{attempt}"), half: (max / 2).max(1), file: None, older: None, base: 0, length: 0, failures: 0 }
    }

    /// All bytes that were logged, those rotated away included.
    pub(super) fn bytes(&self) -> u64 {
        self.base.saturating_add(self.length)
    }

    /// Lines that could not be written.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// A line of the agent's standard output, as it is.
    pub(super) fn stdout(&mut self, line: &Line<'_>) {
        match line {
            Line::Whole(bytes) => self.line(bytes),
            Line::Cut { head, length } => {
                self.line(head);
                self.note(&format!("the line above had {length} bytes; its end is left out"));
            }
        }
    }

    /// A line of its standard error.
    pub(super) fn stderr(&mut self, line: &Line<'_>) {
        let (Line::Whole(bytes) | Line::Cut { head: bytes, .. }) = line;
        self.line(json!({"stream": "stderr", "text": String::from_utf8_lossy(bytes)}).to_string().as_bytes());
    }

    /// A line of the check of its work.
    pub(super) fn check(&mut self, line: &Line<'_>) {
        let (Line::Whole(bytes) | Line::Cut { head: bytes, .. }) = line;
        self.line(json!({"stream": "verify", "text": String::from_utf8_lossy(bytes)}).to_string().as_bytes());
    }

    /// A remark of the runner's own.
    pub(super) fn note(&mut self, text: &str) {
        self.line(json!({"stream": "clauded", "text": text}).to_string().as_bytes());
    }

    fn line(&mut self, bytes: &[u8]) {
        // A line that no file could hold is cut, so that the bound holds whatever comes.
        let room = usize::try_from(self.half).unwrap_or(usize::MAX).saturating_sub(1);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        if let Err(error) = self.write(bytes) {
            if self.failures == 0 {
                tracing::warn!("the attempt's log cannot be written; its agent goes on: {error}");
            }
            self.failures = self.failures.saturating_add(1);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let size = bytes.len() as u64 + 1;
        if self.length > 0 && self.length + size > self.half {
            self.rotate()?;
        }
        let before = self.length;
        let (file, path) = self.open()?;
        let wrote = file.write_all(bytes).and_then(|()| file.write_all(b"\n")).map_err(FileError::of("write", path));
        match wrote {
            Ok(()) => {
                self.length += size;
                Ok(())
            }
            Err(error) => {
                // Half a line would make a riddle of the next one.
                if let Some((file, _)) = &mut self.file {
                    let _ = file.set_len(before).and_then(|()| file.seek(SeekFrom::Start(before)));
                }
                Err(error)
            }
        }
    }

    fn open(&mut self) -> Result<(&mut File, &PathBuf), FileError> {
        if self.file.is_none() {
            let path = self.directory.join(format!("{}.{}.jsonl", self.prefix, self.base));
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(FileError::of("create", &path))?;
            self.file = Some((file, path));
        }
        match &mut self.file {
            Some((file, path)) => Ok((file, path)),
            None => Err(FileError::of("open", &self.directory)(std::io::ErrorKind::NotFound.into())),
        }
    }

    fn rotate(&mut self) -> Result<(), FileError> {
        if let Some(older) = self.older.take() {
            durable::remove(&older)?;
        }
        self.older = self.file.take().map(|(_, path)| path);
        self.base += self.length;
        self.length = 0;
        Ok(())
    }
}

/// Removes the logs of all but the newest attempts, by the files' times.
fn prune(directory: &Path) {
    let Ok(names) = durable::names(directory) else { return };
    let mut attempts: std::collections::BTreeMap<String, (std::time::SystemTime, Vec<PathBuf>)> = std::collections::BTreeMap::new();
    for name in names {
        let Some((attempt, _base)) = name.strip_suffix(".jsonl").and_then(|n| n.rsplit_once('.')) else { continue };
        let path = directory.join(&name);
        let Ok(modified) = path.metadata().and_then(|m| m.modified()) else { continue };
        let entry = attempts.entry(attempt.to_owned()).or_insert((modified, Vec::new()));
        entry.0 = entry.0.max(modified);
        entry.1.push(path);
    }
    let mut by_age: Vec<_> = attempts.into_values().collect();
    by_age.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    for path in by_age.into_iter().skip(ATTEMPTS_KEPT).flat_map(|(_, paths)| paths) {
        if let Err(error) = durable::remove(&path) {
            tracing::warn!("an old log stays: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::TaskId;
    use std::fs;

    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        durable::directory(&dir.path().join("logs")).expect("directory");
        dir
    }

    fn log(dir: &Path, max: u64) -> AttemptLog {
        AttemptLog::new(dir, AttemptId { task: TaskId(3), number: 1 }, max)
    }

    #[test]
    fn the_newest_bytes_are_kept_within_the_bound_and_names_tell_where_they_begin() {
        let dir = state();
        let mut log = log(dir.path(), 1000);
        let all: String = (0..500).map(|n| format!("line {n}\n")).collect();
        for line in all.lines() {
            log.stdout(&Line::Whole(line.as_bytes()));
        }
        assert_eq!(log.bytes(), all.len() as u64);
        let names = durable::names(&dir.path().join("logs")).expect("names");
        assert_eq!(names.len(), 2, "{names:?}");
        for name in names {
            let base: usize = name.strip_prefix("task-3.1.").and_then(|n| n.strip_suffix(".jsonl")).and_then(|n| n.parse().ok()).expect("a base");
            let text = fs::read_to_string(dir.path().join("logs").join(&name)).expect("read");
            assert!(text.len() <= 500 && all[base..].starts_with(&text), "{name}");
        }
    }

    #[test]
    fn long_lines_and_errors_are_marked() {
        let dir = state();
        let mut log = log(dir.path(), 10_000);
        log.stdout(&Line::Cut { head: b"abc", length: 52_428_800 });
        log.stderr(&Line::Whole(b"bad \xff byte"));
        log.stdout(&Line::Whole(&[b'x'; 20_000]));
        let text: String = durable::names(&dir.path().join("logs"))
            .expect("names")
            .iter()
            .map(|n| fs::read_to_string(dir.path().join("logs").join(n)).expect("read"))
            .collect();
        assert!(text.contains("abc\n") && text.contains("52428800 bytes") && text.contains(r#""stream":"stderr""#) && text.len() < 10_000);
    }

    #[test]
    fn a_failed_write_is_counted_and_later_ones_succeed() {
        let dir = state();
        let mut log = log(dir.path(), 1000);
        fs::remove_dir(dir.path().join("logs")).expect("take the directory away");
        log.stdout(&Line::Whole(b"lost"));
        assert_eq!((log.failures(), log.bytes()), (1, 0));
        durable::directory(&dir.path().join("logs")).expect("directory");
        log.stdout(&Line::Whole(b"kept"));
        assert_eq!(fs::read_to_string(dir.path().join("logs/task-3.1.0.jsonl")).expect("read"), "kept\n");
    }

    #[test]
    fn old_logs_go() {
        let dir = state();
        for n in 0..ATTEMPTS_KEPT + 5 {
            let path = dir.path().join(format!("logs/task-{n}.1.0.jsonl"));
            fs::write(&path, "x").expect("write");
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
            File::options().write(true).open(&path).and_then(|f| f.set_modified(time)).expect("set time");
        }
        let _ = log(dir.path(), 1000);
        assert_eq!(durable::names(&dir.path().join("logs")).expect("names").len(), ATTEMPTS_KEPT);
        assert!(!dir.path().join("logs/task-4.1.0.jsonl").exists() && dir.path().join("logs/task-5.1.0.jsonl").exists());
    }
}
