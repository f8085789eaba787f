//! `claudectl team up|scale|down --remove`: a team's own file, `clauded.toml.d/team-NAME.toml`.

use super::{FILE_NAME, PersistError, enter, laid_over, parsed, remove, replace, stanza, table_at};
use crate::config::{CLASSIC, Config, Paths, load};
use crate::core::team::{Role, TeamName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, value};

/// What is to be said of a team; the rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeamChange {
    /// `template` of a team that is new; [`CLASSIC`] if nothing is said.
    pub template: Option<String>,
    /// `repository` of a team that is new.
    pub repository: Option<String>,
    /// `replicas` of its roles.
    pub replicas: BTreeMap<Role, u32>,
}

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persisted {
    /// The team is new.
    Created,
    /// It was changed.
    Changed,
    /// All was said already.
    Unchanged,
}

/// Writes what `change` says into the team's file. Checked first: with it the whole configuration is valid, and says what is
/// wanted. Durable, like [`super::persist_limits`]; not for two callers at once.
///
/// # Errors
/// See [`PersistError`]; nothing is changed then.
pub fn persist_team(paths: &Paths, team: &TeamName, change: &TeamChange) -> Result<Persisted, PersistError> {
    let texts = load::texts(paths)?;
    let before = Config::from_texts(&texts, paths)?;
    let known = before.teams.get(team);
    refuse_other_kind(team, known, change)?;
    let directory = load::drop_in_directory(paths);
    let file = file_of(&directory, team);
    let old = texts.iter().find(|(path, _)| *path == file).map(|(_, text)| text.clone());
    let with = |replicas: &BTreeMap<&Role, &u32>| {
        let edited = edited(old.as_deref().unwrap_or_default(), team, known.is_none().then_some(change), replicas);
        let edited = edited.map_err(|key| PersistError::Shape { file: file.clone(), key })?;
        let edited =
            if old.is_some() { edited } else { format!("# The team {team}, written by claudectl team. Edit it as you like; comments are kept.\n\n{edited}") };
        let config = Config::from_texts(&laid_over(texts.clone(), paths, &file, Some(edited.clone())), paths)?;
        Ok::<_, PersistError>((edited, config))
    };
    // A word that is no role yet would be a new one with all defaults.
    let (new, base) = if known.is_none() { with(&BTreeMap::new())? } else { (String::new(), before.clone()) };
    let roles = || base.teams.get(team).into_iter().flat_map(|of| of.roles.keys());
    if let Some(role) = change.replicas.keys().find(|role| !roles().any(|known| known == *role)) {
        let known = roles().map(Role::as_str).collect::<Vec<_>>().join(", ");
        return Err(PersistError::NoRole { team: team.clone(), role: role.clone(), known });
    }
    let said = |config: &Config, role: &Role| config.teams.get(team)?.roles.get(role)?.replicas;
    let replicas: BTreeMap<_, _> = change.replicas.iter().filter(|(role, count)| said(&before, role) != Some(**count)).collect();
    if known.is_some() && replicas.is_empty() {
        return Ok(Persisted::Unchanged);
    }
    // A role of one member has no number in its name; with replicas it would be renamed, and its worktree with it.
    if let Some((role, _)) = known.and_then(|of| replicas.keys().find_map(|role| of.roles.get_key_value(*role).filter(|(_, of)| of.replicas.is_none()))) {
        return Err(PersistError::Single { team: team.clone(), role: role.clone() });
    }
    let (edited, after) = if replicas.is_empty() { (new, base) } else { with(&replicas)? };
    if let Some((role, _)) = change.replicas.iter().find(|(role, count)| said(&after, role) != Some(**count)) {
        return Err(PersistError::TeamOverridden { team: team.clone(), role: role.clone(), file });
    }
    replace(&directory, &file, &edited)?;
    Ok(if known.is_none() { Persisted::Created } else { Persisted::Changed })
}

/// Takes a team's stanza away, and what `claudectl limit --persist` has written for its members. Returns whether it was there.
///
/// # Errors
/// See [`PersistError`]; the team stays then.
pub fn remove_team(paths: &Paths, team: &TeamName) -> Result<bool, PersistError> {
    let texts = load::texts(paths)?;
    let before = Config::from_texts(&texts, paths)?;
    if !before.teams.contains_key(team) {
        return Ok(false);
    }
    let directory = load::drop_in_directory(paths);
    let (file, limits) = (file_of(&directory, team), directory.join(FILE_NAME));
    let text_of = |file: &Path| texts.iter().find(|(path, _)| path == file).map(|(_, text)| text.as_str());
    let shape = |file: &Path| {
        let file = file.to_owned();
        move |key| PersistError::Shape { file, key }
    };
    let own = match text_of(&file) {
        Some(text) => without(text, "teams", |name| name == team.as_str()).map_err(shape(&file))?,
        None => None,
    };
    let theirs = |name: &str| name.parse().is_ok_and(|name| team.contains(&name));
    let kept = text_of(&limits).map(|text| without(text, "instances", theirs)).transpose().map_err(shape(&limits))?;
    let changed = kept.clone().filter(|kept| kept.as_deref() != text_of(&limits));
    let mut left = laid_over(texts.clone(), paths, &file, own.clone());
    if let Some(kept) = &changed {
        left = laid_over(left, paths, &limits, kept.clone());
    }
    let after = Config::from_texts(&left, paths)?;
    if after.teams.contains_key(team) {
        let says = |(_, text): &&(PathBuf, String)| text.parse::<DocumentMut>().is_ok_and(|document| table_at(&document, &["teams", team.as_str()]).is_some());
        let file = left.iter().find(says).map_or_else(|| paths.config.clone(), |(path, _)| path.clone());
        return Err(PersistError::Elsewhere { team: team.clone(), file });
    }
    let put = |file: &Path, text: Option<&str>| text.map_or_else(|| remove(&directory, file), |text| replace(&directory, file, text));
    put(&file, own.as_deref())?;
    if let Some(kept) = &changed {
        put(&limits, kept.as_deref())?;
    }
    Ok(true)
}

fn file_of(directory: &Path, team: &TeamName) -> PathBuf {
    directory.join(format!("team-{team}.toml"))
}

fn refuse_other_kind(team: &TeamName, known: Option<&crate::config::TeamConfig>, change: &TeamChange) -> Result<(), PersistError> {
    let Some(known) = known else { return Ok(()) };
    let differs = |key, wanted: &Option<String>, is: &Option<String>| {
        let wanted = wanted.as_ref().filter(|wanted| Some(*wanted) != is.as_ref())?;
        Some(PersistError::OtherKind { team: team.clone(), key, wanted: wanted.clone(), is: is.clone().unwrap_or_else(|| "none".to_owned()) })
    };
    let template = differs("template", &change.template, &known.template);
    template.or_else(|| differs("repository", &change.repository, &known.repository)).map_or(Ok(()), Err)
}

/// The text with the change in it, or the key of something that is not a table.
fn edited(text: &str, team: &TeamName, new: Option<&TeamChange>, replicas: &BTreeMap<&Role, &u32>) -> Result<String, String> {
    let mut document = parsed(text)?;
    let table = stanza(&mut document, &[("teams", true), (team.as_str(), false)])?;
    if let Some(new) = new {
        table.insert("template", value(new.template.as_deref().unwrap_or(CLASSIC)));
        if let Some(repository) = &new.repository {
            table.insert("repository", value(repository));
        }
    }
    for (role, count) in replicas {
        let members = enter(table, "members", true)?;
        enter(members, role.as_str(), false)?.insert("replicas", value(i64::from(**count)));
    }
    Ok(document.to_string())
}

/// The text without those tables of `parent`; `None` where nothing else is said in it.
fn without(text: &str, parent: &str, gone: impl Fn(&str) -> bool) -> Result<Option<String>, String> {
    let mut document = parsed(text)?;
    if let Some(item) = document.get_mut(parent) {
        let table = item.as_table_like_mut().ok_or_else(|| parent.to_owned())?;
        let names: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).filter(|name| gone(name)).collect();
        if names.is_empty() {
            return Ok(Some(text.to_owned()));
        }
        names.iter().for_each(|name| drop(table.remove(name)));
        if table.is_empty() {
            document.remove(parent);
        }
    }
    Ok((!document.is_empty()).then(|| document.to_string()))
}
