//! What the generator makes: files and symbolic links, and how they get on disk.

use super::WriteError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// One file or link, its path relative to the output directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) content: Content,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Content {
    /// A file with that text.
    Text(String),
    /// A symbolic link to that path.
    Link(PathBuf),
}

/// Writes all of them. systemd empties the directory before it calls its generators, so nothing is there to be kept.
pub(super) fn write(directory: &Path, outputs: &[Output]) -> Result<(), WriteError> {
    for output in outputs {
        let path = directory.join(&output.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(WriteError::new("create", parent))?;
        }
        match &output.content {
            Content::Text(text) => fs::write(&path, text).map_err(WriteError::new("write", &path))?,
            Content::Link(target) => match symlink(target, &path) {
                // Run by hand into a directory that has been used.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.map_err(WriteError::new("link", &path))?,
            },
        }
    }
    Ok(())
}
