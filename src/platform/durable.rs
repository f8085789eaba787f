//! Files that are whole or not there, and on disk when the call returns: write, fsync, rename, fsync of the directory.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An I/O error with what was being done to which file.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {path}: {source}")]
pub struct FileError {
    /// What was being done.
    pub verb: &'static str,
    /// To what.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: names the verb and the path.
    pub fn of(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { verb, path, source }
    }
}

/// Puts the bytes into the file, which then survives a power cut (fsync(2), rename(2)). Its mode is 0600.
///
/// # Errors
/// Names the file; an older file of that name is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(FileError::of("create", &draft))?;
        file.write_all(bytes).map_err(FileError::of("write", &draft))?;
        file.sync_all().map_err(FileError::of("fsync", &draft))?;
        fs::rename(&draft, path).map_err(FileError::of("rename to", path))
    })();
    if written.is_err() {
        // On a full disk the half-written draft is the first thing that can go.
        let _ = fs::remove_file(&draft);
        return written;
    }
    match path.parent() {
        Some(directory) => File::open(directory).and_then(|d| d.sync_all()).map_err(FileError::of("fsync", directory)),
        None => Ok(()),
    }
}

/// Makes a directory that only its owner can enter (0700), and its parents; one that exists is fine.
///
/// # Errors
/// Names the directory.
pub fn directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FileError::of("create directory", path))
}

/// Takes the lock that a file stands for; the kernel gives it back when the process ends, however it does (flock(2)). `None` if
/// another process has it.
///
/// # Errors
/// Names the file.
pub fn lock(path: &Path) -> Result<Option<Flock<File>>, FileError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(FileError::of("open", path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(FileError::of("lock", path)(error.into())),
    }
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// Names the file.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a directory, sorted, drafts left out.
///
/// # Errors
/// Names the directory.
pub fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let entries = fs::read_dir(path).map_err(FileError::of("read directory", path))?;
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|n| !n.ends_with(".new")).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_draft() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.json");
        write(&path, b"one").expect("write");
        fs::create_dir(dir.path().join("a.json.new")).expect("an obstacle");
        let error = write(&path, b"two").expect_err("the draft cannot be made").to_string();
        assert!(error.contains("create") && error.contains("a.json.new"), "{error}");
        assert_eq!(fs::read(&path).expect("read"), b"one");
    }

    #[test]
    fn an_error_names_the_verb_and_the_path() {
        let error = write(Path::new("/dev/full/x"), b"x").expect_err("not a directory").to_string();
        assert!(error.starts_with("create /dev/full/x.new: "), "{error}");
    }

    #[test]
    fn a_lock_is_had_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("lock");
        let held = lock(&path).expect("opened");
        assert!(held.is_some() && lock(&path).expect("opened").is_none());
        drop(held);
        assert!(lock(&path).expect("opened").is_some());
    }

    #[test]
    fn names_are_sorted_and_drafts_are_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["b", "a", "c.new"] {
            fs::write(dir.path().join(name), "").expect("write");
        }
        assert_eq!(names(dir.path()).expect("names"), ["a", "b"]);
        assert!(remove(&dir.path().join("gone")).is_ok());
    }
}
