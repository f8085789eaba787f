//! The only input: which files there are, whether they can be trusted, and their texts.

use super::Paths;
use super::problem::{Problem, Problems};
use nix::fcntl::OFlag;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes; no configuration comes near it.
const FILE_MAX: u64 = 1 << 20;

/// The main file and those of `clauded.toml.d`, in the order in which they override each other, with their texts.
///
/// A file that is not there is left out; whatever else is wrong with one is a problem, since defaults in place of limits that
/// somebody wrote down would be worse than no start at all.
pub(super) fn texts(paths: &Paths) -> Result<Vec<(PathBuf, String)>, Problems> {
    let mut problems = Vec::new();
    let mut texts = Vec::new();
    if let Some(parent) = paths.config.parent() {
        problems.extend(directory(parent).err());
    }
    for file in files(paths, &mut problems) {
        match read(&file) {
            Ok(Some(text)) => texts.push((file, text)),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(Problems::new(problems)) }
}

/// The directory of the files laid over the main one: `clauded.toml` has `clauded.toml.d`.
pub(super) fn drop_in_directory(paths: &Paths) -> PathBuf {
    let mut name = paths.config.clone().into_os_string();
    name.push(".d");
    name.into()
}

fn files(paths: &Paths, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let drop_ins = drop_in_directory(paths);
    if let Err(problem) = directory(&drop_ins) {
        problems.push(problem);
        return vec![paths.config.clone()];
    }
    let mut names = Vec::new();
    match fs::read_dir(&drop_ins) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => names.push(entry.path()),
                    Err(error) => problems.push(Problem::of_file(&drop_ins, format!("cannot list it: {error}"))),
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => problems.push(Problem::of_file(&drop_ins, format!("cannot list it: {error}"))),
    }
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    names.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !hidden(path));
    names.sort();
    names.insert(0, paths.config.clone());
    names
}

fn directory(path: &Path) -> Result<(), Problem> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => Err(Problem::of_file(path, "is not a directory; move it away")),
        Ok(metadata) => trusted(path, &metadata),
        Err(error) if missing(path, &error) => Ok(()),
        Err(error) => Err(Problem::of_file(path, format!("cannot look at it: {error}"))),
    }
}

/// Whether there is nothing at all at `path`. A symbolic link that leads nowhere is something.
fn missing(path: &Path, error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn read(path: &Path) -> Result<Option<String>, Problem> {
    // O_NONBLOCK: opening a pipe would wait for a writer. What is then looked at and read is the same open file.
    let file = match OpenOptions::new().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()).open(path) {
        Ok(file) => file,
        Err(error) if missing(path, &error) => return Ok(None),
        Err(error) => return Err(Problem::of_file(path, format!("cannot open it: {error}; mend it or move it away"))),
    };
    let metadata = file.metadata().map_err(|error| Problem::of_file(path, format!("cannot look at it: {error}")))?;
    if !metadata.is_file() {
        return Err(Problem::of_file(path, "is not a regular file; move it away"));
    }
    trusted(path, &metadata)?;
    contents(path, file).map(Some)
}

fn contents(path: &Path, file: File) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| Problem::of_file(path, format!("cannot read it: {error}")))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Problem::of_file(path, "is longer than a megabyte; that is no configuration"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        Problem { line: Some(line), ..Problem::of_file(path, "is not UTF-8 here; save it as UTF-8") }
    })
}

/// Refuses what somebody other than root or the calling user owns or may write: who writes here chooses what the agents run
/// and as whom. Writing by a group is allowed to root's group (gid 0) and, in a file of the caller's own, to the caller's
/// own group, since many distributions give each user one.
fn trusted(path: &Path, metadata: &Metadata) -> Result<(), Problem> {
    let (me, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let (owner, mode) = (metadata.uid(), metadata.mode());
    if owner != 0 && owner != me {
        return Err(Problem::of_file(path, format!("belongs to user {owner}, who is neither root nor the one who reads it; chown it to root")));
    }
    if metadata.is_dir() && mode & 0o1000 != 0 {
        // Sticky, such as /tmp: others can neither move nor remove what is in it, and each file is looked at itself.
        return Ok(());
    }
    if mode & 0o002 != 0 {
        return Err(Problem::of_file(path, format!("everyone may write to it (mode {:04o}); chmod o-w it", mode & 0o7777)));
    }
    let own_group = metadata.gid() == 0 || (owner == me && me != 0 && metadata.gid() == group);
    if mode & 0o020 != 0 && !own_group {
        return Err(Problem::of_file(path, format!("group {} may write to it (mode {:04o}); chmod g-w it", metadata.gid(), mode & 0o7777)));
    }
    Ok(())
}
