//! The repository's files as `claudectl init` leaves them: looked at first, then replaced whole. No link is followed.

use crate::ctl::failure::Failure;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What belongs to one checkout and not into the repository.
const IGNORED: [&str; 2] = ["/.claude/settings.local.json", "/.claude/worktrees/"];

/// A file as it will be.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where it is.
    pub(super) path: PathBuf,
    there: bool,
    /// `None` if it is right already.
    text: Option<String>,
}

impl Plan {
    /// What is to become of a file below a root. A text that cannot be changed is refused before anything is done.
    pub(super) fn new(root: &Path, name: &str, change: impl FnOnce(&str) -> Result<Option<String>, String>) -> Result<Self, Failure> {
        let path = root.join(name);
        let refused = |path: &Path, why: &str| Failure::Failed(format!("{} {why}; nothing was changed", path.display()));
        if let Some(directory) = path.parent().filter(|directory| *directory != root) {
            match kind(directory)? {
                None => {}
                Some(kind) if kind.is_dir() => {}
                Some(kind) if kind.is_symlink() => return Err(refused(directory, "is a symbolic link, and is not followed; make it a directory")),
                Some(_) => return Err(refused(directory, "is not a directory")),
            }
        }
        let old = match kind(&path)? {
            None => None,
            Some(kind) if kind.is_file() => Some(fs::read_to_string(&path).map_err(|error| Failure::Read { path: path.clone(), error })?),
            Some(kind) if kind.is_symlink() => return Err(refused(&path, "is a symbolic link, and is not followed; make it a file")),
            Some(_) => return Err(refused(&path, "is not a file")),
        };
        let text = change(old.as_deref().unwrap_or_default()).map_err(|why| refused(&path, &why))?;
        Ok(Self { path, there: old.is_some(), text })
    }

    /// `created`, `changed` or `unchanged`.
    pub(super) fn result(&self) -> &'static str {
        match (&self.text, self.there) {
            (None, _) => "unchanged",
            (Some(_), true) => "changed",
            (Some(_), false) => "created",
        }
    }

    /// Makes it so.
    pub(super) fn carry_out(&self) -> Result<(), Failure> {
        let Some(text) = &self.text else { return Ok(()) };
        replace(&self.path, text).map_err(|error| Failure::Write { path: self.path.clone(), error })
    }
}

fn kind(path: &Path) -> Result<Option<fs::FileType>, Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.file_type())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Read { path: path.to_owned(), error }),
    }
}

/// The whole file or none of it; its mode stays.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = directory.join(format!(".{name}.{}.claudectl", std::process::id()));
    let mut file = File::options().write(true).create_new(true).open(&draft)?;
    let written = (|| {
        file.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // The error that matters is the first.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// The text with what is to be ignored; `None` if all of it is in it.
pub(super) fn with_ignored(text: &str) -> Option<String> {
    let missing: Vec<&str> = IGNORED.into_iter().filter(|line| !text.lines().any(|have| have.trim() == *line)).collect();
    if missing.is_empty() {
        return None;
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { end };
    Some(format!("{text}{gap}{}{end}", missing.join(end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn ignored_lines_are_added_once_at_the_end() {
        let after = with_ignored("target").expect("changed");
        assert_eq!(after, "target\n/.claude/settings.local.json\n/.claude/worktrees/\n");
        assert_eq!(with_ignored(&after), None);
        assert_eq!(with_ignored("/.claude/worktrees/\r\n").as_deref(), Some("/.claude/worktrees/\r\n/.claude/settings.local.json\r\n"));
    }

    fn planned(root: &Path, name: &str) -> Result<Plan, String> {
        Plan::new(root, name, |old| Ok(Some(format!("{old}new")))).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a");
        fs::write(&file, "old").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        let plan = planned(directory.path(), "a").expect("planned");
        assert_eq!((plan.result(), fs::read_to_string(&file).expect("read").as_str()), ("changed", "old"));
        plan.carry_out().expect("done");
        assert_eq!(fs::read_to_string(&file).expect("read"), "oldnew");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        planned(directory.path(), ".claude/b").expect("planned").carry_out().expect("done");
        assert_eq!(fs::read_to_string(directory.path().join(".claude/b")).expect("read"), "new");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 2, "no draft is left");
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, elsewhere) = (directory.path().join("root"), directory.path().join("elsewhere"));
        fs::create_dir_all(&elsewhere).expect("made");
        fs::create_dir_all(root.join("d")).expect("made");
        fs::write(root.join("file"), "x").expect("written");
        fs::write(root.join("latin"), b"caf\xe9").expect("written");
        symlink(&elsewhere, root.join("link")).expect("linked");
        symlink("nowhere", root.join("dangling")).expect("linked");
        for (name, why) in [
            ("link/a", "link is a symbolic link, and is not followed"),
            ("dangling", "dangling is a symbolic link"),
            ("d", "d is not a file"),
            ("file/a", "file is not a directory"),
            ("latin", "valid UTF-8"),
        ] {
            let error = planned(&root, name).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(fs::read_dir(&elsewhere).expect("listed").count(), 0);
    }
}
