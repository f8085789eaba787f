//! The last good output, kept in one file: it is there whole or not at all.

use super::WriteError;
use super::output::Output;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const FILE_NAME: &str = "last-good.json";

/// Keeps `outputs` in `directory`.
pub(super) fn keep(directory: &Path, outputs: &[Output]) -> Result<(), WriteError> {
    fs::create_dir_all(directory).map_err(WriteError::new("create", directory))?;
    let (file, temporary) = (directory.join(FILE_NAME), directory.join(format!(".{FILE_NAME}.new")));
    let text = serde_json::to_vec(outputs).map_err(|error| WriteError::new("encode", &file)(error.into()))?;
    fs::write(&temporary, text).map_err(WriteError::new("write", &temporary))?;
    fs::rename(&temporary, &file).map_err(WriteError::new("rename to", &file))
}

/// What was kept, if anything was.
pub(super) fn last(directory: &Path) -> Result<Option<Vec<Output>>, WriteError> {
    let file = directory.join(FILE_NAME);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WriteError::new("read", &file)(error)),
    };
    let owner = fs::metadata(&file).map_err(WriteError::new("look at", &file))?.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(WriteError::new("trust", &file)(std::io::Error::new(ErrorKind::PermissionDenied, format!("it belongs to user {owner}"))));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| WriteError::new("decode", &file)(error.into()))
}
