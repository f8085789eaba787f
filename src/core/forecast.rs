//! What tasks that run change in one repository, which of them touch the same files, and whether their work still merges.
//!
//! A runner surveys its worktree while its agent works; clauded pairs the surveys here, and has pairs merged by one of the two.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most files that are named of one worktree.
pub const FILES_MAX: usize = 2000;
/// Longest path, in bytes (`PATH_MAX`, limits.h).
const PATH_MAX: usize = 4096;
/// Most merges that one runner is asked for at once.
pub const MERGES_MAX: usize = 64;
/// Most files that are named of a pair.
pub const NAMED_MAX: usize = 50;
/// Most pairs that are told; the rest is counted.
pub const PAIRS_MAX: usize = 200;

/// The name of a git object: 40 or 64 digits. Nothing else can get into a command line by way of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Oid(String);

impl Oid {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Oid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits { Ok(Self(text)) } else { Err(format!("{:?} is no name of a git object", text.chars().take(80).collect::<String>())) }
    }
}

impl From<Oid> for String {
    fn from(oid: Oid) -> Self {
        oid.0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path as git has it, as text: what is not UTF-8 is written out, so that two different paths stay two.
pub fn path_text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// What stands in a worktree, committed or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Which object store its commits are in; worktrees of one repository share one.
    pub store: String,
    /// Which worktree; members of a team may share one.
    pub worktree: String,
    /// The commit that its work starts from.
    pub base: Oid,
    /// A commit of all that stands in it now, on no branch.
    pub snapshot: Oid,
    /// Why `snapshot` has not all of it, if so.
    pub partial: Option<String>,
    /// The files that differ from the base.
    pub files: Vec<String>,
    /// How many more there are.
    pub more_files: u64,
}

impl Survey {
    /// Cut to its bounds: it is somebody else's word.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let cut = |text: &mut String, most: usize| text.truncate(text.floor_char_boundary(most));
        cut(&mut self.store, 200);
        cut(&mut self.worktree, 200);
        self.partial.iter_mut().for_each(|why| cut(why, 1000));
        let (known, all) = (self.files.len(), self.files);
        let files: BTreeSet<String> = all.into_iter().filter(|path| !path.is_empty() && path.len() <= PATH_MAX).take(FILES_MAX).collect();
        let left = u64::try_from(known.saturating_sub(FILES_MAX)).unwrap_or(u64::MAX);
        self.more_files = self.more_files.saturating_add(left);
        self.files = files.into_iter().collect();
        self
    }
}

/// Whether the work in two worktrees merges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "what")]
pub enum Merge {
    /// It does, without a person.
    Clean,
    /// These files are in conflict.
    Conflict(Vec<String>),
    /// Nobody knows, and why.
    Unknown(String),
}

impl Merge {
    /// Its place among others, with what matters most first.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Conflict(_) => 0,
            Self::Unknown(_) => 1,
            Self::Clean => 2,
        }
    }

    /// Cut to its bounds: it is somebody else's word.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Clean => Self::Clean,
            Self::Conflict(files) => Self::Conflict(files.into_iter().filter(|path| path.len() <= PATH_MAX).take(NAMED_MAX).collect()),
            Self::Unknown(mut why) => {
                why.truncate(why.floor_char_boundary(1000));
                Self::Unknown(why)
            }
        }
    }

    /// The name in the API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Conflict(_) => "conflict",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Two that touch the same files; the lesser first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap<Id> {
    /// One of them.
    pub one: Id,
    /// The other.
    pub other: Id,
    /// The files, the first of them.
    pub files: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// Whether their work merges.
    pub merge: Merge,
}

/// All who touch the same files, those with the most of them first; the second number is of those that are too many to tell.
/// Who shares a worktree sees the other's work at once, and is no pair.
pub fn overlaps<Id: Ord + Clone>(surveys: &BTreeMap<Id, Survey>) -> (Vec<Overlap<Id>>, usize) {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    let mut touched: Vec<(&Id, &Survey, Vec<usize>)> = Vec::new();
    for (id, survey) in surveys {
        let mut files: Vec<usize> = Vec::with_capacity(survey.files.len());
        for file in &survey.files {
            files.push(*numbers.entry(file).or_insert_with(|| {
                names.push(file);
                names.len() - 1
            }));
        }
        files.sort_unstable();
        files.dedup();
        touched.push((id, survey, files));
    }
    let mut pairs = Vec::new();
    for (at, (one, a, ours)) in touched.iter().enumerate() {
        for (other, b, theirs) in touched.iter().skip(at + 1).filter(|(_, b, _)| (&a.store, &a.worktree) != (&b.store, &b.worktree)) {
            let both = common(ours, theirs);
            if !both.is_empty() {
                pairs.push(((*one, a), (*other, b), both));
            }
        }
    }
    // As many as there are the first of: the sort keeps their order.
    pairs.sort_by_key(|(.., both)| std::cmp::Reverse(both.len()));
    let rest = pairs.len().saturating_sub(PAIRS_MAX);
    let tell = |((one, a), (other, b), both): ((&Id, &&Survey), (&Id, &&Survey), Vec<usize>)| {
        let mut files: Vec<String> = both.iter().filter_map(|number| names.get(*number)).map(|name| (*name).to_owned()).collect();
        files.sort();
        let more = files.len().saturating_sub(NAMED_MAX);
        files.truncate(NAMED_MAX);
        let why = if a.store == b.store { "nobody has tried it" } else { "they are separate clones, and neither has the other's commits" };
        Overlap { one: one.clone(), other: other.clone(), files, more, merge: Merge::Unknown(why.to_owned()) }
    };
    (pairs.into_iter().take(PAIRS_MAX).map(tell).collect(), rest)
}

/// What two sorted lists have in common.
fn common(a: &[usize], b: &[usize]) -> Vec<usize> {
    let (mut rest, mut both) = (b.iter().copied().peekable(), Vec::new());
    for number in a {
        while rest.next_if(|other| other < number).is_some() {}
        if rest.peek() == Some(number) {
            both.push(*number);
        }
    }
    both
}

/// Whom to ask for which merges: the one of each pair, where both are in one store.
pub fn questions<Id: Ord + Clone>(surveys: &BTreeMap<Id, Survey>, overlaps: &[Overlap<Id>]) -> BTreeMap<Id, Vec<Id>> {
    let mut asked: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for Overlap { one, other, .. } in overlaps {
        if let (Some(a), Some(b)) = (surveys.get(one), surveys.get(other))
            && a.store == b.store
        {
            // Who has been asked less answers sooner.
            let count = |id: &Id| asked.get(id).map_or(0, Vec::len);
            let (who, whom) = if count(other) < count(one) { (other, one) } else { (one, other) };
            if count(who) < MERGES_MAX {
                asked.entry(who.clone()).or_default().push(whom.clone());
            }
        }
    }
    asked
}

/// Puts the answer to such a question where it belongs.
pub fn answer<Id: PartialEq>(overlaps: &mut [Overlap<Id>], who: &Id, whom: &Id, merge: Merge) {
    let pair = overlaps.iter_mut().find(|pair| (&pair.one, &pair.other) == (who, whom) || (&pair.one, &pair.other) == (whom, who));
    if let Some(pair) = pair {
        pair.merge = merge;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn survey(store: u8, worktree: u8, files: &[&str]) -> Survey {
        let oid = || Oid::try_from("0".repeat(40)).expect("digits");
        Survey {
            store: store.to_string(),
            worktree: worktree.to_string(),
            base: oid(),
            snapshot: oid(),
            partial: None,
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            more_files: 0,
        }
    }

    #[test]
    fn who_touches_the_same_files_is_paired_and_one_of_them_is_asked() {
        let surveys = BTreeMap::from([
            ("a", survey(1, 1, &["x", "y", "only-a"])),
            ("b", survey(1, 2, &["x", "only-b"])),
            ("c", survey(2, 3, &["y", "z"])),
            ("d", survey(1, 2, &["x", "only-b"])),
        ]);
        let (mut pairs, more) = overlaps(&surveys);
        let shown: Vec<_> = pairs.iter().map(|pair| (pair.one, pair.other, pair.files.join(" "), pair.merge.name())).collect();
        let expected = [("a", "b", "x"), ("a", "c", "y"), ("a", "d", "x")].map(|(one, other, file)| (one, other, file.to_owned(), "unknown"));
        assert_eq!((shown, more), (expected.to_vec(), 0), "b and d are one worktree");
        assert!(matches!(&pairs[1].merge, Merge::Unknown(why) if why.contains("separate clones")));
        // a is asked once, and then the one that has not been asked; nobody about c, whose commits are elsewhere.
        assert_eq!(questions(&surveys, &pairs), BTreeMap::from([("a", vec!["b"]), ("d", vec!["a"])]));
        answer(&mut pairs, &"d", &"a", Merge::Conflict(vec!["x".to_owned()]));
        assert_eq!(pairs[2].merge, Merge::Conflict(vec!["x".to_owned()]));
    }

    #[test]
    fn a_foreign_word_is_cut_to_its_bounds() {
        let many: Vec<String> = (0..FILES_MAX + 5).map(|n| format!("{n:05}")).collect();
        let long = "x".repeat(PATH_MAX + 1);
        let cut = Survey { files: many, more_files: 2, store: "é".repeat(500), partial: Some(long.clone()), ..survey(1, 1, &[]) }.bounded();
        assert_eq!((cut.files.len(), cut.more_files, cut.store.len()), (FILES_MAX, 7, 200));
        assert!(cut.partial.is_some_and(|why| why.len() <= 1000));
        assert_eq!(Survey { files: vec![String::new(), long, "ok".to_owned(), "ok".to_owned()], ..survey(1, 1, &[]) }.bounded().files, ["ok"]);
        assert_eq!(Merge::Conflict(vec!["f".to_owned(); 1000]).bounded(), Merge::Conflict(vec!["f".to_owned(); NAMED_MAX]));
        for text in ["", "HEAD", "-x", "--upload-pack=/bin/sh", &"g".repeat(40), &"A".repeat(40), &"a".repeat(41), &format!("{}\n", "a".repeat(39))] {
            assert!(Oid::try_from(text.to_owned()).is_err(), "{text:?}");
            assert!(serde_json::from_value::<Oid>(serde_json::json!(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn different_paths_stay_different() {
        assert_eq!(path_text("src/é\n-x".as_bytes()), "src/é\n-x");
        assert_eq!((path_text(b"a\xff"), path_text(b"a\xfe")), ("a\\xff".to_owned(), "a\\xfe".to_owned()));
    }

    proptest! {
        #[test]
        fn pairs_are_those_with_files_in_common_and_no_others(
            worlds in prop::collection::vec((0..2u8, 0..6u8, prop::collection::btree_set("[a-h]", 0..5)), 0..9),
        ) {
            let made = |(store, worktree, files): &(u8, u8, BTreeSet<String>)| {
                survey(*store, *worktree, &files.iter().map(String::as_str).collect::<Vec<_>>())
            };
            let surveys: BTreeMap<usize, Survey> = worlds.iter().map(made).enumerate().collect();
            let (pairs, more) = overlaps(&surveys);
            prop_assert_eq!(more, 0);
            for (one, a) in &surveys {
                for (other, b) in surveys.range(one + 1..) {
                    let both: Vec<String> = a.files.iter().filter(|file| b.files.contains(file)).cloned().collect();
                    let apart = (&a.store, &a.worktree) != (&b.store, &b.worktree);
                    let found: Vec<_> = pairs.iter().filter(|pair| (pair.one, pair.other) == (*one, *other)).collect();
                    prop_assert_eq!(found.len(), usize::from(apart && !both.is_empty()));
                    prop_assert!(found.iter().all(|pair| pair.files == both && pair.more == 0));
                }
            }
            prop_assert!(pairs.iter().all(|pair| pair.one < pair.other));
            // The same whoever comes first.
            let turned: BTreeMap<usize, Survey> = surveys.iter().map(|(id, survey)| (100 - id, survey.clone())).collect();
            let set = |pairs: &[Overlap<usize>], of: &dyn Fn(usize) -> usize| -> BTreeSet<(usize, usize, Vec<String>)> {
                pairs.iter().map(|pair| (of(pair.one).min(of(pair.other)), of(pair.one).max(of(pair.other)), pair.files.clone())).collect()
            };
            prop_assert_eq!(set(&pairs, &|id| id), set(&overlaps(&turned).0, &|id| 100 - id));
            // Each pair in one store is asked about once, and nothing else is.
            let asked: Vec<(usize, usize)> =
                questions(&surveys, &pairs).into_iter().flat_map(|(who, whom)| whom.into_iter().map(move |whom| (who.min(whom), who.max(whom)))).collect();
            let within: BTreeSet<(usize, usize)> =
                pairs.iter().filter(|pair| surveys[&pair.one].store == surveys[&pair.other].store).map(|pair| (pair.one, pair.other)).collect();
            prop_assert_eq!(asked.len(), within.len());
            prop_assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), within);
        }
    }

    #[test]
    fn a_hundred_worktrees_that_all_changed_everything_are_told_in_bounds() {
        let files: Vec<String> = (0..FILES_MAX).map(|n| format!("src/{n}.rs")).collect();
        let surveys: BTreeMap<u8, Survey> = (0..100).map(|n| (n, Survey { files: files.clone(), ..survey(1, n, &[]) })).collect();
        let (pairs, more) = overlaps(&surveys);
        assert_eq!((pairs.len(), more), (PAIRS_MAX, 100 * 99 / 2 - PAIRS_MAX));
        assert!(pairs.iter().all(|pair| (pair.files.len(), pair.more) == (NAMED_MAX, FILES_MAX - NAMED_MAX)));
        assert!(questions(&surveys, &pairs).values().all(|asked| asked.len() <= MERGES_MAX));
    }
}
