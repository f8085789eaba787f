//! `claudectl limit --persist`: writes one instance's limits into a file of its own, comments and all else in it kept.

use super::{Config, Paths, Problems, load};
use crate::core::ids::InstanceName;
use crate::core::limits::Limits;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// Late in the order, so that it overrides what people wrote; theirs can still come after it.
const FILE_NAME: &str = "90-claudectl.toml";
const HEADING: &str = "# Written by `claudectl limit --persist`. Edit it as you like; comments are kept.\n\n";

/// Why limits were not written. The configuration is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The configuration was wrong before, or would be wrong with these limits.
    #[error("the limits were not written, since the configuration is not valid with them:\n{0}")]
    Invalid(#[from] Problems),
    /// What stands in the file leaves no place for limits.
    #[error("{file}: {key} is not a table there; make it one, or remove it", file = .file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The key in the way.
        key: String,
    },
    /// Another file has the last word.
    #[error("the limits of {instance} were not written: a file that comes after {file} in the same directory sets them to something else", file = .file.display())]
    Overridden {
        /// The instance.
        instance: InstanceName,
        /// The file that would have been written.
        file: PathBuf,
    },
    /// The file could not be written.
    #[error("{verb} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Writes what `limits` says into `[instances.NAME.limits]` of `clauded.toml.d/90-claudectl.toml` and leaves the rest, so that
/// the instance keeps them over restarts. Returns whether the file had to be changed.
///
/// Checked first: with the limits the whole configuration is still valid, and no later file overrides them. Written
/// durably: a temporary file, fsync, rename, fsync of the directory. Not for two callers at once.
///
/// # Errors
/// See [`PersistError`]; nothing is changed then.
pub fn persist_limits(paths: &Paths, instance: &InstanceName, limits: &Limits) -> Result<bool, PersistError> {
    if limits.is_empty() {
        return Ok(false);
    }
    let mut texts = load::texts(paths)?;
    Config::from_texts(&texts, paths)?;
    let directory = load::drop_in_directory(paths);
    let file = directory.join(FILE_NAME);
    let old = texts.iter().find(|(path, _)| *path == file).map(|(_, text)| text.clone());
    let edited = edited(old.as_deref().unwrap_or_default(), instance, limits).map_err(|key| PersistError::Shape { file: file.clone(), key })?;
    let new = if old.is_some() { edited } else { format!("{HEADING}{edited}") };

    texts.retain(|(path, _)| *path != file);
    let after = texts.iter().skip_while(|(path, _)| *path == paths.config || *path < file).count();
    texts.insert(texts.len() - after, (file.clone(), new.clone()));
    let config = Config::from_texts(&texts, paths)?;
    let resolved = config.instance(instance).limits;
    if limits.or(resolved) != resolved {
        return Err(PersistError::Overridden { instance: instance.clone(), file });
    }
    if old.as_deref() == Some(&new) {
        return Ok(false);
    }
    replace(&directory, &file, &new).map(|()| true)
}

/// The text with the limits in it, or the key of something that is not a table.
fn edited(text: &str, instance: &InstanceName, limits: &Limits) -> Result<String, String> {
    // It has been parsed before; the words are for a difference between the two parsers.
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for (key, implicit) in [("instances", true), (instance.as_str(), true), ("limits", false)] {
        let item = table.entry(key).or_insert_with(|| {
            let mut new = Table::new();
            new.set_implicit(implicit);
            Item::Table(new)
        });
        table = item.as_table_like_mut().ok_or_else(|| key.to_owned())?;
    }
    for (key, value) in said(limits) {
        match table.get_mut(key) {
            Some(Item::Value(old)) if old.as_str() != Some(&value) => {
                let decor = old.decor().clone();
                *old = value.into();
                *old.decor_mut() = decor;
            }
            Some(Item::Value(_)) => {}
            _ => {
                table.insert(key, toml_edit::value(value));
            }
        }
    }
    Ok(document.to_string())
}

/// The keys of the configuration and their values.
fn said(limits: &Limits) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("memory", limits.memory.map(|l| l.to_string())),
        ("memory-high", limits.memory_high.map(|l| l.to_string())),
        ("swap", limits.swap.map(|l| l.to_string())),
        ("cpu", limits.cpu.map(|l| l.to_string())),
        ("cpu-weight", limits.cpu_weight.map(|l| l.to_string())),
        ("io-weight", limits.io_weight.map(|l| l.to_string())),
        ("tasks", limits.tasks.map(|l| l.to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)))
}

fn replace(directory: &Path, file: &Path, text: &str) -> Result<(), PersistError> {
    let failed = |verb, path: &Path| {
        let path = path.to_owned();
        move |source| PersistError::Io { verb, path, source }
    };
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    // Hidden, so that nobody reads it half written; left over only by a crash, and then of no use.
    let temporary = directory.join(format!(".{FILE_NAME}.new"));
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(failed("remove", &temporary)(error));
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary).map_err(failed("create", &temporary))?;
    let written = new.write_all(text.as_bytes()).and_then(|()| new.set_permissions(fs::Permissions::from_mode(0o644))).and_then(|()| new.sync_all());
    if let Err(error) = written.map_err(failed("write", &temporary)).and_then(|()| fs::rename(&temporary, file).map_err(failed("rename to", file))) {
        // The error that matters is the first; the left-over is removed by the next try at the latest.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}
