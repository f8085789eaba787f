//! Finds the patterns that may meet a given one without looking at all of them: files by their path, globs by the directory that
//! all of their paths are in.

use super::Scope;
use super::pattern::Way;
use std::collections::{BTreeMap, BTreeSet};

/// Patterns by where they are, each known by a number.
#[derive(Debug)]
pub(super) struct Index<I> {
    places: BTreeMap<String, Place<I>>,
}

#[derive(Debug)]
struct Place<I> {
    files: BTreeMap<String, BTreeSet<I>>,
    globs: BTreeMap<String, BTreeSet<I>>,
}

impl<I> Default for Index<I> {
    fn default() -> Self {
        Self { places: BTreeMap::new() }
    }
}

impl<I: Ord + Copy> Index<I> {
    /// Enters a pattern.
    pub(super) fn add(&mut self, scope: &Scope, id: I) {
        let place = self.places.entry(scope.place.clone()).or_insert_with(|| Place { files: BTreeMap::new(), globs: BTreeMap::new() });
        for way in scope.pattern.ways() {
            let ids = match way {
                Way::Path(path) => place.files.entry(path.clone()).or_default(),
                Way::Glob(_) => place.globs.entry(way.directory()).or_default(),
            };
            ids.insert(id);
        }
    }

    /// Takes it out again.
    pub(super) fn remove(&mut self, scope: &Scope, id: I) {
        let Some(place) = self.places.get_mut(&scope.place) else { return };
        for way in scope.pattern.ways() {
            let (ids, key) = match way {
                Way::Path(path) => (&mut place.files, path.clone()),
                Way::Glob(_) => (&mut place.globs, way.directory()),
            };
            if let Some(found) = ids.get_mut(&key) {
                found.remove(&id);
                if found.is_empty() {
                    ids.remove(&key);
                }
            }
        }
        if place.files.is_empty() && place.globs.is_empty() {
            self.places.remove(&scope.place);
        }
    }

    /// Everything that may meet the pattern, in order; what does not may be among it.
    pub(super) fn near(&self, scope: &Scope) -> BTreeSet<I> {
        let mut found = BTreeSet::new();
        let Some(place) = self.places.get(&scope.place) else { return found };
        for way in scope.pattern.ways() {
            let directory = match way {
                Way::Path(path) => {
                    found.extend(place.files.get(path).into_iter().flatten());
                    path.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned()
                }
                Way::Glob(_) => {
                    let directory = way.directory();
                    found.extend(below(&place.files, &directory));
                    found.extend(below(&place.globs, &directory));
                    directory
                }
            };
            let mut above = Some(directory.as_str());
            while let Some(directory) = above {
                found.extend(place.globs.get(directory).into_iter().flatten());
                above = match directory.rsplit_once('/') {
                    Some((parent, _)) => Some(parent),
                    None if directory.is_empty() => None,
                    None => Some(""),
                };
            }
        }
        found
    }
}

/// What is filed below a directory, the directory itself not included.
fn below<'m, I>(map: &'m BTreeMap<String, BTreeSet<I>>, directory: &str) -> impl Iterator<Item = &'m I> {
    // '0' follows '/'.
    let (from, to) = match directory {
        "" => (String::new(), None),
        directory => (format!("{directory}/"), Some(format!("{directory}0"))),
    };
    map.range(from..).take_while(move |(key, _)| to.as_ref().is_none_or(|to| *key < to)).flat_map(|(_, ids)| ids)
}
