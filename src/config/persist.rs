//! `claudectl limit --persist`: writes one instance's limits into a file of its own, comments and all else in it kept.
//! What has to be written elsewhere is below.

mod repository;
mod team;

pub use repository::{RepositoryChange, declare_repository};
pub use team::{Persisted, TeamChange, persist_team, remove_team};

use super::{Config, Paths, Problems, load};
use crate::core::ids::InstanceName;
use crate::core::label::Label;
use crate::core::limits::Limits;
use crate::core::team::{Role, TeamName};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// Late in the order, so that it overrides what people wrote; theirs can still come after it.
const FILE_NAME: &str = "90-claudectl.toml";
const HEADING: &str = "# Written by `claudectl limit --persist`. Edit it as you like; comments are kept.\n\n";

/// Why something was not written. The configuration is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The configuration was wrong before, or would be wrong with the change.
    #[error("nothing was written, since the configuration would not be valid:\n{0}")]
    Invalid(#[from] Problems),
    /// What stands in the file leaves no place for it.
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
    /// Another file has the last word on a repository.
    #[error("the repository of {instance} was not written: a file that comes after {file} in the same directory sets another one", file = .file.display())]
    RepositoryOverridden {
        /// The instance.
        instance: InstanceName,
        /// The file that would have been written.
        file: PathBuf,
    },
    /// Another file has the last word on a repository's stanza.
    #[error("[repositories.{name}] was not changed: a file that comes after {file} in the same directory says something else", file = .file.display())]
    StanzaOverridden {
        /// The repository.
        name: Label,
        /// The file that would have been written.
        file: PathBuf,
    },
    /// The name is another repository's.
    #[error("[repositories.{name}] is there already, and is {is}, not {wanted}; give another name: claudectl init --name NAME")]
    OtherSource {
        /// The name.
        name: Label,
        /// What is asked for.
        wanted: String,
        /// What it is.
        is: String,
    },
    /// The repository is there under another name.
    #[error("{source_text} is [repositories.{other}] already, not {name}; say: claudectl init --name {other}")]
    OtherName {
        /// The name that is asked for.
        name: Label,
        /// The repository.
        source_text: String,
        /// Its name.
        other: String,
    },
    /// Another file has the last word on a team.
    #[error("the team {team} was not changed: the replicas of {role} are set to something else by a file that comes after {file} in the same directory", file = .file.display())]
    TeamOverridden {
        /// The team.
        team: TeamName,
        /// Its role.
        role: Role,
        /// The file that would have been written.
        file: PathBuf,
    },
    /// A role that one member fills cannot be scaled.
    #[error(
        "the role {role} of the team {team} is one member, named {team}-{role}; to have several of it, named {team}-{role}-1 and so on, write replicas into [teams.{team}.members.{role}]"
    )]
    Single {
        /// The team.
        team: TeamName,
        /// Its role.
        role: Role,
    },
    /// There is no such role.
    #[error("the team {team} has no role {role}; it has {known}; for a new one write a table [teams.{team}.members.{role}]")]
    NoRole {
        /// The team.
        team: TeamName,
        /// What was asked for.
        role: Role,
        /// Those that there are.
        known: String,
    },
    /// The team is there, and is something else than what is asked for.
    #[error("the team {team} is there already, with {key} = {is:?}, not {wanted:?}; take it down first: claudectl team down {team} --remove")]
    OtherKind {
        /// The team.
        team: TeamName,
        /// `template` or `repository`.
        key: &'static str,
        /// What is asked for.
        wanted: String,
        /// What it has.
        is: String,
    },
    /// Its stanza was written by hand.
    #[error("the team {team} was not removed: {file} says [teams.{team}]; take it out there, and run: systemctl reload clauded", file = .file.display())]
    Elsewhere {
        /// The team.
        team: TeamName,
        /// The file that has it.
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
    let texts = load::texts(paths)?;
    Config::from_texts(&texts, paths)?;
    let directory = load::drop_in_directory(paths);
    let file = directory.join(FILE_NAME);
    let old = texts.iter().find(|(path, _)| *path == file).map(|(_, text)| text.clone());
    let edited = edited(old.as_deref().unwrap_or_default(), instance, limits).map_err(|key| PersistError::Shape { file: file.clone(), key })?;
    let new = if old.is_some() { edited } else { format!("{HEADING}{edited}") };

    let texts = laid_over(texts, paths, &file, Some(new.clone()));
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

/// Writes `[instances.NAME] repository` into `clauded.toml.d/90-claudectl.toml`, as [`persist_limits`] does. Returns whether the
/// file had to be changed.
///
/// # Errors
/// See [`PersistError`]; nothing is changed then.
pub fn persist_repository(paths: &Paths, instance: &InstanceName, repository: &str) -> Result<bool, PersistError> {
    let texts = load::texts(paths)?;
    let before = Config::from_texts(&texts, paths)?;
    if before.instances.get(instance).is_some_and(|said| said.repository.as_deref() == Some(repository)) {
        return Ok(false);
    }
    let directory = load::drop_in_directory(paths);
    let file = directory.join(FILE_NAME);
    let old = texts.iter().find(|(path, _)| *path == file).map(|(_, text)| text.clone());
    let shape = |key| PersistError::Shape { file: file.clone(), key };
    let mut document = parsed(old.as_deref().unwrap_or_default()).map_err(shape)?;
    let table = stanza(&mut document, &[("instances", true), (instance.as_str(), false)]).map_err(shape)?;
    table.insert("repository", toml_edit::value(repository));
    let edited = document.to_string();
    let new = if old.is_some() { edited } else { format!("{HEADING}{edited}") };
    let config = Config::from_texts(&laid_over(texts, paths, &file, Some(new.clone())), paths)?;
    if config.instance(instance).repository.as_deref() != Some(repository) {
        return Err(PersistError::RepositoryOverridden { instance: instance.clone(), file });
    }
    replace(&directory, &file, &new).map(|()| true)
}

/// The text with the limits in it, or the key of something that is not a table.
fn edited(text: &str, instance: &InstanceName, limits: &Limits) -> Result<String, String> {
    let mut document = parsed(text)?;
    let table = stanza(&mut document, &[("instances", true), (instance.as_str(), true), ("limits", false)])?;
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

/// The texts with that one in its place, or without it.
fn laid_over(mut texts: Vec<(PathBuf, String)>, paths: &Paths, file: &Path, text: Option<String>) -> Vec<(PathBuf, String)> {
    texts.retain(|(path, _)| path != file);
    let after = texts.iter().skip_while(|(path, _)| *path == paths.config || path.as_path() < file).count();
    if let Some(text) = text {
        texts.insert(texts.len() - after, (file.to_owned(), text));
    }
    texts
}

/// It has been parsed before; the words are for a difference between the two parsers.
fn parsed(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())
}

/// The table that `path` leads to, made where it is not there: implicit ones have no heading of their own. Or the key of something
/// that is no table.
fn stanza<'d>(document: &'d mut DocumentMut, path: &[(&str, bool)]) -> Result<&'d mut dyn TableLike, String> {
    let table: &mut dyn TableLike = document.as_table_mut();
    path.iter().try_fold(table, |table, (key, implicit)| enter(table, key, *implicit))
}

fn enter<'t>(table: &'t mut dyn TableLike, key: &str, implicit: bool) -> Result<&'t mut dyn TableLike, String> {
    let item = table.entry(key).or_insert_with(|| {
        let mut new = Table::new();
        new.set_implicit(implicit);
        Item::Table(new)
    });
    item.as_table_like_mut().ok_or_else(|| key.to_owned())
}

/// The table that `path` leads to.
fn table_at<'d>(document: &'d DocumentMut, path: &[&str]) -> Option<&'d dyn TableLike> {
    let table: &dyn TableLike = document.as_table();
    path.iter().try_fold(table, |table, key| table.get(key)?.as_table_like())
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PersistError + use<> {
    let path = path.to_owned();
    move |source| PersistError::Io { verb, path, source }
}

/// Takes a file away, durably.
fn remove(directory: &Path, file: &Path) -> Result<(), PersistError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", file)(error)),
        _ => {}
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}

fn replace(directory: &Path, file: &Path, text: &str) -> Result<(), PersistError> {
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    // Hidden, so that nobody reads it half written; left over only by a crash, and then of no use.
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.new"));
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
