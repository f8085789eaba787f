//! Which parts of a repository change together, as its history tells, and which tasks can therefore run side by side.
//!
//! A part is a feature that the configuration names, or, for a file that no feature covers, the directory that it is in. The
//! measure is the confidence of an association rule over commits (Zimmermann et al., "Mining version histories to guide software
//! changes", ICSE 2004): of the commits that change the rarer part, the share that changes the other one too.

use super::lock::{Kind, Pattern};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A commit that changes more parts says nothing about any two of them: a reformatting, a move, an import.
const PARTS_MAX: usize = 12;
/// Two parts have to have changed together that often before it is more than chance.
const TOGETHER_MIN: u32 = 3;
/// From this confidence on one part depends on another.
const CONFIDENCE_MIN: f64 = 0.5;

/// Most files of a repository that a glob is held against.
const FILES_KNOWN: usize = 5000;

/// How often parts have changed, alone and together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coupling {
    changed: BTreeMap<String, u32>,
    /// The lesser name first.
    together: BTreeMap<(String, String), u32>,
}

/// Two parts that change together.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependency {
    /// One of them; the lesser name.
    pub one: String,
    /// The other.
    pub other: String,
    /// In how many commits.
    pub commits: u32,
    /// Of the commits that changed the rarer one, the share with both, 0 to 1.
    pub confidence: f64,
}

/// The directory that a file of no feature stands for: of `a/b/c/d.rs` that is `a/b`, and of a file at the top `.`.
pub fn directory(path: &str) -> String {
    let parents: Vec<&str> = path.split('/').collect();
    match parents.split_last() {
        Some((_, [])) | None => ".".to_owned(),
        Some((_, above)) => above.iter().take(2).copied().collect::<Vec<_>>().join("/"),
    }
}

impl Coupling {
    /// From the parts that each commit changed.
    pub fn of(commits: impl IntoIterator<Item = BTreeSet<String>>) -> Self {
        let mut coupling = Self::default();
        for parts in commits.into_iter().filter(|parts| parts.len() <= PARTS_MAX) {
            for (at, one) in parts.iter().enumerate() {
                *coupling.changed.entry(one.clone()).or_default() += 1;
                for other in parts.iter().skip(at + 1) {
                    *coupling.together.entry((one.clone(), other.clone())).or_default() += 1;
                }
            }
        }
        coupling
    }

    /// What depends on what, the strongest first.
    pub fn dependencies(&self) -> Vec<Dependency> {
        let mut found: Vec<Dependency> = self.together.keys().filter_map(|(one, other)| self.between(one, other)).collect();
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(b.commits.cmp(&a.commits)).then_with(|| (&a.one, &a.other).cmp(&(&b.one, &b.other))));
        found
    }

    /// Whether and how far two parts depend on each other.
    pub fn between(&self, one: &str, other: &str) -> Option<Dependency> {
        let (one, other) = if one <= other { (one, other) } else { (other, one) };
        let key = (one.to_owned(), other.to_owned());
        let commits = self.together.get(&key).copied().filter(|n| *n >= TOGETHER_MIN)?;
        let rarer = self.changed.get(one).min(self.changed.get(other)).copied()?;
        let confidence = f64::from(commits) / f64::from(rarer.max(1));
        (confidence >= CONFIDENCE_MIN).then_some(Dependency { one: key.0, other: key.1, commits, confidence })
    }

    /// Why work on these two sets of parts should not go on at once, if so: a feature of both, or two parts that depend on each
    /// other. Two may work in one directory.
    pub fn conflict(&self, ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> Option<Clash> {
        if let Some(common) = ours.intersection(theirs).find(|part| !part.ends_with('/')) {
            return Some(Clash::Same(common.clone()));
        }
        let pairs = ours.iter().flat_map(|one| theirs.iter().map(move |other| (one, other)));
        let strongest = pairs.filter_map(|(one, other)| self.between(one, other)).max_by(|a, b| a.confidence.total_cmp(&b.confidence));
        strongest.map(Clash::Dependent)
    }

    /// Why two should not run at once: a file of both, before all that is guessed.
    fn clash(&self, ours: &Reach, theirs: &Reach) -> Option<Clash> {
        ours.meets(theirs).map(Clash::Same).or_else(|| self.conflict(&ours.parts, &theirs.parts))
    }

    /// Of waiting tasks, in the order of the queue, those that can run beside what runs and beside each other; and for each of
    /// the others, what is in the way. A task of which nobody knows what it touches is in nobody's way and is left out of both.
    pub fn side_by_side<Id: Clone>(&self, running: &[(Id, Reach)], waiting: &[(Id, Reach)]) -> Proposal<Id> {
        let mut taken: Vec<(Id, &Reach)> = running.iter().filter(|(_, reach)| reach.is_known()).map(|(id, reach)| (id.clone(), reach)).collect();
        let mut proposal = Proposal { together: Vec::new(), later: Vec::new() };
        for (id, reach) in waiting.iter().filter(|(_, reach)| reach.is_known()) {
            match taken.iter().find_map(|(other, theirs)| self.clash(reach, theirs).map(|clash| (other.clone(), clash))) {
                Some((other, clash)) => proposal.later.push((id.clone(), other, clash)),
                None => {
                    proposal.together.push(id.clone());
                    taken.push((id.clone(), reach));
                }
            }
        }
        proposal
    }
}

/// What some work touches, as far as anybody knows.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// The files that it has changed.
    pub changed: BTreeSet<String>,
    /// What it was said to touch, or has locked.
    pub named: Vec<Pattern>,
    /// The parts that these are in.
    pub parts: BTreeSet<String>,
}

impl Reach {
    /// Whether anything is known of it.
    pub fn is_known(&self) -> bool {
        !(self.changed.is_empty() && self.named.is_empty() && self.parts.is_empty())
    }

    /// A file of both, or what stands for some.
    fn meets(&self, other: &Self) -> Option<String> {
        let matched = |named: &[Pattern], files: &BTreeSet<String>| files.iter().find(|file| named.iter().any(|one| one.matches(file))).cloned();
        let both = || {
            let pairs = self.named.iter().flat_map(|one| other.named.iter().map(move |theirs| (one, theirs)));
            // The one that says more.
            pairs.into_iter().find(|(one, theirs)| one.overlaps(theirs)).map(|(one, theirs)| if one.covers(theirs) { theirs } else { one }.text().to_owned())
        };
        let file = self.changed.intersection(&other.changed).next().cloned();
        file.or_else(|| matched(&self.named, &other.changed)).or_else(|| matched(&other.named, &self.changed)).or_else(both)
    }
}

/// The parts of a repository: its features, and the directories of all other files.
#[derive(Clone, Debug)]
pub struct Parts<'p> {
    features: &'p BTreeMap<String, Pattern>,
    /// Files that there are, as far as the history and the running tasks tell.
    files: BTreeSet<&'p str>,
}

impl<'p> Parts<'p> {
    /// Of a repository with these features, and these files as far as is known.
    pub fn new(features: &'p BTreeMap<String, Pattern>, files: impl IntoIterator<Item = &'p str>) -> Self {
        Self { features, files: files.into_iter().take(FILES_KNOWN).collect() }
    }

    /// The features that a file is in, else its directory, with a slash.
    pub fn of(&self, file: &str) -> BTreeSet<String> {
        let parts: BTreeSet<String> = self.features.iter().filter(|(_, globs)| globs.matches(file)).map(|(name, _)| name.clone()).collect();
        if parts.is_empty() { [format!("{}/", directory(file))].into() } else { parts }
    }

    /// The reach of work that has changed these files, and is said to touch those.
    pub fn reach(&self, changed: impl IntoIterator<Item = &'p str>, named: Vec<Pattern>) -> Reach {
        let changed: BTreeSet<String> = changed.into_iter().map(str::to_owned).collect();
        let mut parts: BTreeSet<String> = changed.iter().flat_map(|file| self.of(file)).collect();
        for one in &named {
            parts.extend(self.features.iter().filter(|(_, globs)| globs.overlaps(one)).map(|(name, _)| name.clone()));
            match one.kind() {
                Kind::Path if !one.text().ends_with('/') => parts.extend(self.of(one.text())),
                _ => parts.extend(self.files.iter().filter(|file| one.matches(file)).flat_map(|file| self.of(file))),
            }
        }
        Reach { changed, named, parts }
    }

    /// What changes together, from the files of each commit.
    pub fn coupling<'c>(&self, commits: impl IntoIterator<Item = &'c Vec<String>>) -> Coupling {
        Coupling::of(commits.into_iter().map(|files| files.iter().flat_map(|file| self.of(file)).collect()))
    }
}

/// Why two tasks should not run at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Clash {
    /// Both touch this part.
    Same(String),
    /// They touch parts that change together.
    Dependent(Dependency),
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(what) => write!(f, "both touch {what}"),
            Self::Dependent(Dependency { one, other, commits, confidence }) => {
                write!(f, "{one} and {other} change together ({commits} commits, {:.0} %)", confidence * 100.0)
            }
        }
    }
}

/// Which tasks can run side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal<Id> {
    /// These can.
    pub together: Vec<Id>,
    /// This one should wait for that one, and why.
    pub later: Vec<(Id, Id, Clash)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn history(lines: &[(&str, usize)]) -> Coupling {
        Coupling::of(lines.iter().flat_map(|(line, times)| std::iter::repeat_n(parts(line), *times)))
    }

    #[test]
    fn what_changes_together_depends_and_what_once_did_does_not() {
        let coupling = history(&[("api client", 6), ("api", 20), ("docs api", 2), ("docs", 1), ("ui", 5)]);
        let found: Vec<_> = coupling.dependencies().into_iter().map(|d| (d.one, d.other, d.commits, d.confidence)).collect();
        assert_eq!(found, [("api".to_owned(), "client".to_owned(), 6, 1.0)], "docs changed with api only twice");
        assert_eq!(coupling.between("client", "api"), coupling.between("api", "client"));
    }

    #[test]
    fn a_commit_that_changes_everything_says_nothing() {
        let all: String = (0..=PARTS_MAX).map(|n| format!("p{n} ")).collect();
        assert_eq!(history(&[(&all, 50)]), Coupling::default());
    }

    #[test]
    fn a_file_of_no_feature_stands_for_its_directory() {
        assert_eq!(["README.md", "src/a.rs", "src/http/a.rs", "src/http/tests/deep/a.rs"].map(directory), [".", "src", "src/http", "src/http"]);
    }

    #[test]
    fn tasks_are_proposed_in_order_and_what_is_in_the_way_is_named() {
        let coupling = history(&[("api client", 6)]);
        let on = |id: u8, text: &str| (id, Reach { parts: parts(text), ..Reach::default() });
        let running = [on(1, "api src/")];
        let waiting = [on(2, "client"), on(3, "docs src/"), on(4, "docs ui"), on(5, ""), on(6, "ui")];
        let Proposal { together, later } = coupling.side_by_side(&running, &waiting);
        assert_eq!(together, [3, 6]);
        assert!(matches!(&later[..], [(2, 1, Clash::Dependent(d)), (4, 3, Clash::Same(same))] if d.one == "api" && same == "docs"), "{later:?}");
    }

    #[test]
    fn files_come_before_features_and_features_before_directories() {
        let glob = |text: &str| Pattern::glob(text).expect("a glob");
        let features = BTreeMap::from([("auth".to_owned(), glob("src/auth/**")), ("login".to_owned(), glob("**/login.*"))]);
        let known = ["src/auth/a.rs", "src/http/a.rs", "src/http/b.rs", "ui/login.ts"];
        let map = Parts::new(&features, known);
        assert_eq!(map.of("src/auth/login.rs"), parts("auth login"));
        assert_eq!([map.of("README.md"), map.of("src/http/x/y.rs")], [parts("./"), parts("src/http/")]);
        let named = |texts: &[&str]| map.reach([], texts.iter().map(|text| crate::core::terms::files(text).expect("files")).collect());
        assert_eq!(named(&["src/"]).parts, parts("auth login src/http/"), "what can be in it, and what is");
        assert_eq!(named(&["docs/x.md"]).parts, parts("docs/"));
        let commits: Vec<Vec<String>> = std::iter::repeat_n(vec!["src/auth/a.rs".to_owned(), "src/http/b.rs".to_owned()], 4).collect();
        let coupling = map.coupling(&commits);
        let running = [(1, map.reach(["src/http/a.rs", "docs/a.md"], Vec::new()))];
        let waiting =
            [(2, named(&["src/http/*"])), (3, named(&["src/http/b.rs"])), (4, named(&["src/auth/x.rs"])), (5, named(&["docs/b.md"])), (6, named(&["docs/"]))];
        let Proposal { together, later } = coupling.side_by_side(&running, &waiting);
        assert_eq!(together, [3, 5], "other files of a directory are free");
        let why: Vec<_> = later.iter().map(|(id, other, clash)| (*id, *other, clash.to_string())).collect();
        assert_eq!(
            why,
            [
                (2, 1, "both touch src/http/a.rs".to_owned()),
                (4, 1, "auth and src/http/ change together (4 commits, 100 %)".to_owned()),
                (6, 1, "both touch docs/a.md".to_owned())
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_proposed_is_in_anothers_way(
            commits in prop::collection::vec(prop::collection::btree_set("[a-f]", 1..4), 0..60),
            waiting in prop::collection::vec(prop::collection::btree_set("[a-f]", 0..3), 0..10),
        ) {
            let coupling = Coupling::of(commits);
            let waiting: Vec<_> = waiting.into_iter().map(|parts| Reach { parts, ..Reach::default() }).enumerate().collect();
            let proposal = coupling.side_by_side(&[], &waiting);
            let of = |id: &usize| &waiting[*id].1;
            for (at, one) in proposal.together.iter().enumerate() {
                for other in proposal.together.iter().skip(at + 1) {
                    prop_assert_eq!(coupling.conflict(&of(one).parts, &of(other).parts), None);
                }
            }
            let known = waiting.iter().filter(|(_, reach)| reach.is_known()).count();
            prop_assert_eq!(proposal.together.len() + proposal.later.len(), known);
            prop_assert!(coupling.dependencies().iter().all(|d| d.confidence <= 1.0 && d.one < d.other));
        }
    }
}
