//! `claudectl init`: a repository's own file, `clauded.toml.d/repository-NAME.toml`.

use super::team::Persisted;
use super::{PersistError, enter, laid_over, parsed, replace, stanza};
use crate::config::{Config, Paths, Repository, load};
use crate::core::checkout::Source;
use crate::core::label::Label;
use toml_edit::{Array, Item, TableLike, value};

/// What is to be said of a repository; the rest stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryChange {
    /// `path` or `url`.
    pub source: Source,
    /// `default-branch`.
    pub default_branch: Option<String>,
    /// The command of `verify`.
    pub verify: Option<Vec<String>>,
    /// What is said of a repository that is new, where nothing is said above: of one that is there an operator may have left it out.
    pub proposed_branch: Option<String>,
    /// Likewise.
    pub proposed_verify: Option<Vec<String>>,
}

/// Writes what `change` says into the repository's file. Checked first: with it the whole configuration is valid, and says what is
/// wanted. Durable, like [`super::persist_limits`]; not for two callers at once. With `dry_run` it is checked alone.
///
/// Returns with it the repository as it will be.
///
/// # Errors
/// See [`PersistError`]; nothing is changed then.
pub fn declare_repository(paths: &Paths, name: &Label, change: &RepositoryChange, dry_run: bool) -> Result<(Persisted, Repository), PersistError> {
    let texts = load::texts(paths)?;
    let before = Config::from_texts(&texts, paths)?;
    let known = before.repositories.get(name.as_str());
    refuse_other_source(&before, name, known, &change.source)?;
    let (branch, verify) = match known {
        None => (change.default_branch.as_ref().or(change.proposed_branch.as_ref()), change.verify.as_ref().or(change.proposed_verify.as_ref())),
        Some(known) => (
            change.default_branch.as_ref().filter(|branch| known.default_branch.as_ref() != Some(branch)),
            change.verify.as_ref().filter(|command| known.verify.as_ref().map(|verify| &verify.command) != Some(command)),
        ),
    };
    if let Some(known) = known.filter(|_| branch.is_none() && verify.is_none()) {
        return Ok((Persisted::Unchanged, known.clone()));
    }
    let directory = load::drop_in_directory(paths);
    let file = directory.join(format!("repository-{name}.toml"));
    let old = texts.iter().find(|(path, _)| *path == file).map(|(_, text)| text.clone());
    let source = known.is_none().then_some(&change.source);
    let checked = known.is_some_and(|known| known.verify.is_some());
    let edited = edited(old.as_deref().unwrap_or_default(), name, source, branch, verify, checked);
    let edited = edited.map_err(|key| PersistError::Shape { file: file.clone(), key })?;
    let new =
        if old.is_some() { edited } else { format!("# The repository {name}, written by claudectl init. Edit it as you like; comments are kept.\n\n{edited}") };
    let config = Config::from_texts(&laid_over(texts, paths, &file, Some(new.clone())), paths)?;
    let as_wanted = |is: &&Repository| {
        is.source == change.source
            && branch.is_none_or(|branch| is.default_branch.as_ref() == Some(branch))
            && verify.is_none_or(|command| is.verify.as_ref().map(|verify| &verify.command) == Some(command))
    };
    let Some(after) = config.repositories.get(name.as_str()).filter(as_wanted).cloned() else {
        return Err(PersistError::StanzaOverridden { name: name.clone(), file });
    };
    if !dry_run {
        replace(&directory, &file, &new)?;
    }
    Ok((if known.is_none() { Persisted::Created } else { Persisted::Changed }, after))
}

/// A name is one repository, and a repository has one name: locks would not meet otherwise.
fn refuse_other_source(config: &Config, name: &Label, known: Option<&Repository>, wanted: &Source) -> Result<(), PersistError> {
    let wanted_text = wanted.to_string();
    match known {
        Some(known) if known.source != *wanted => Err(PersistError::OtherSource { name: name.clone(), wanted: wanted_text, is: known.source.to_string() }),
        Some(_) => Ok(()),
        None => match config.repositories.iter().find(|(_, other)| other.source == *wanted) {
            Some((other, _)) => Err(PersistError::OtherName { name: name.clone(), source_text: wanted_text, other: other.clone() }),
            None => Ok(()),
        },
    }
}

/// The text with the change in it, or the key of something that is not a table. `checked`: something says `verify` already, perhaps
/// as a table with a time limit, which stays.
fn edited(text: &str, name: &Label, source: Option<&Source>, branch: Option<&String>, verify: Option<&Vec<String>>, checked: bool) -> Result<String, String> {
    let mut document = parsed(text)?;
    let table = stanza(&mut document, &[("repositories", true), (name.as_str(), false)])?;
    match source {
        Some(Source::Path(path)) => drop(table.insert("path", value(path.to_string_lossy().into_owned()))),
        Some(Source::Url(url)) => drop(table.insert("url", value(url))),
        None => {}
    }
    if let Some(branch) = branch {
        set(table, "default-branch", value(branch));
    }
    if let Some(command) = verify {
        let command = value(command.iter().collect::<Array>());
        match table.get_mut("verify") {
            Some(Item::Value(list)) if list.is_array() => set(table, "verify", command),
            None if !checked => set(table, "verify", command),
            _ => set(enter(table, "verify", false)?, "command", command),
        }
    }
    Ok(document.to_string())
}

/// Puts a value in its place; what stands beside the old one stays.
fn set(table: &mut dyn TableLike, key: &str, mut new: Item) {
    if let (Some(Item::Value(old)), Item::Value(new)) = (table.get(key), &mut new) {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert(key, new);
}

#[cfg(test)]
mod tests;
