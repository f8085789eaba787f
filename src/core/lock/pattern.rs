//! What a lock is on: a path or globs below the root of a worktree, checked and normalised; and whether two can match one path.
//!
//! A glob's names know `*`, `?`, `[a-z]`, `[!a]`, `\` and `{a,b}`; `**` stands for any number of directories, at the end for all that
//! is below. Whether two globs have a path in common is decided exactly, by walking through both at once.

use std::fmt;

/// Longest path, in bytes (`PATH_MAX`, limits.h).
pub(super) const PATH_MAX: usize = 4096;
/// Longest glob, in bytes: the walk through two of them costs their product.
pub(super) const GLOB_MAX: usize = 512;
/// Most globs that a lock may stand for, braces written out.
pub const GLOBS_MAX: usize = 64;
/// What a name in a path may consist of: everything but `/` and control characters.
const ALPHABET: [Range; 4] = [(0x20, 0x2e), (0x30, 0x7e), (0xa0, 0xd7ff), (0xe000, 0x10_ffff)];

type Range = (u32, u32);

/// Why a text is no path or glob to lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing.
    #[error("the path is empty; name a file, or \"**\" for everything")]
    Empty,
    /// Over `PATH_MAX` or `GLOB_MAX`.
    #[error("the path has {0} bytes; a path has at most {PATH_MAX}, a glob {GLOB_MAX}")]
    Long(usize),
    /// From the root of the file system.
    #[error("{0:?} is absolute; write it from the root of the worktree")]
    Absolute(String),
    /// `..`
    #[error("{0:?} has \"..\" in it; write the path that is meant, from the root of the worktree")]
    Parent(String),
    /// A line feed, an escape, …
    #[error("{0:?} has control characters; such a file cannot be locked by its name, lock its directory")]
    Control(String),
    /// `a**`
    #[error("{0:?}: \"**\" stands alone between slashes, as in \"src/**/test.rs\"; use \"*\" within a name")]
    DoubleStar(String),
    /// `[a`
    #[error("{0:?}: a '[' has no ']'; a '[' of the file's own name is written \"\\[\", or given as a path and not as a glob")]
    Bracket(String),
    /// `[!…]` of everything.
    #[error("{0:?}: a '[…]' that no character fits")]
    NoCharacter(String),
    /// `{a`
    #[error("{0:?}: a '{{' has no '}}'; a '{{' of the file's own name is written \"\\{{\", or given as a path and not as a glob")]
    Brace(String),
    /// `{a,b}{c,d}…`
    #[error("{0:?} stands for more than {GLOBS_MAX} globs; lock a directory, or use \"*\"")]
    Many(String),
}

/// What a lock is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    kind: Kind,
    text: String,
    /// The globs of a feature, as the configuration had them.
    globs: Vec<String>,
    ways: Vec<Way>,
}

/// How a [`Pattern`] was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file by its path, or a directory with all that is in it by its path and a slash.
    Path,
    /// A glob.
    Glob,
    /// A name that the repository's configuration binds to globs.
    Feature,
}

impl Kind {
    /// The name in the API and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Glob => "glob",
            Self::Feature => "feature",
        }
    }
}

/// One of the globs that a pattern stands for, or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Path(String),
    Glob(Vec<Part>),
}

/// A piece of a glob between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// `**`: any number of names, none included.
    Directories,
    Literal(String),
    Name(Vec<Token>),
}

/// A piece of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Star,
    /// One character of these.
    One(Vec<Range>),
}

impl Pattern {
    /// A file, or with a slash at the end a directory and all that is below it. No character but the slash means anything.
    ///
    /// # Errors
    /// The path leaves the worktree, or cannot be told on one line.
    pub fn path(text: &str) -> Result<Self, InvalidPattern> {
        checked(text, PATH_MAX)?;
        let names: Vec<&str> = names(text)?;
        let directory = text.ends_with('/');
        let path = names.join("/");
        let way = match directory {
            true => Way::Glob(names.iter().map(|name| Part::Literal((*name).to_owned())).chain(below_here()).collect()),
            false => Way::Path(path.clone()),
        };
        let text = if directory { format!("{path}/") } else { path };
        Ok(Self { kind: Kind::Path, text, globs: Vec::new(), ways: vec![way] })
    }

    /// A glob.
    ///
    /// # Errors
    /// It leaves the worktree, or is none.
    pub fn glob(text: &str) -> Result<Self, InvalidPattern> {
        Ok(Self { kind: Kind::Glob, text: text.to_owned(), globs: Vec::new(), ways: ways(text)? })
    }

    /// A feature: a name for globs.
    ///
    /// # Errors
    /// There is no glob, there are too many, or one is none.
    pub fn feature(name: &str, globs: &[String]) -> Result<Self, InvalidPattern> {
        let mut all = Vec::new();
        for glob in globs {
            all.extend(ways(glob)?);
        }
        match all.len() {
            0 => Err(InvalidPattern::Empty),
            1..=GLOBS_MAX => Ok(Self { kind: Kind::Feature, text: name.to_owned(), globs: globs.to_vec(), ways: all }),
            _ => Err(InvalidPattern::Many(name.to_owned())),
        }
    }

    /// How it was asked for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The path, the glob, or the feature's name.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The globs of a feature.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// Whether that path, as [`Pattern::path`] has it, is one of these.
    pub fn matches(&self, path: &str) -> bool {
        self.ways.iter().any(|way| way.matches(path))
    }

    /// Whether there can be a path that is one of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.ways.iter().any(|a| other.ways.iter().any(|b| a.overlaps(b)))
    }

    /// Whether every path of the other is surely one of these too.
    pub fn covers(&self, other: &Self) -> bool {
        let covered = |way: &Way| match way {
            Way::Path(path) => self.matches(path),
            Way::Glob(_) => self.ways.contains(way) || self.ways.iter().any(|own| own.has_all_of(&way.directory())),
        };
        other.ways.iter().all(covered)
    }

    pub(super) fn ways(&self) -> &[Way] {
        &self.ways
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Feature => write!(f, "feature {}", self.text),
            Kind::Path | Kind::Glob => f.write_str(&self.text),
        }
    }
}

impl Way {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Path(own) => own == path,
            Self::Glob(parts) => {
                let names: Vec<&str> = path.split('/').collect();
                let (star, meet) = (
                    |i: usize| parts.get(i) == Some(&Part::Directories),
                    |i: usize, j: usize| match (parts.get(i), names.get(j)) {
                        (Some(part), Some(name)) => part.matches(name),
                        _ => false,
                    },
                );
                meets(parts.len(), names.len(), star, |_| false, meet)
            }
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(path), way) | (way, Self::Path(path)) => way.matches(path),
            (Self::Glob(a), Self::Glob(b)) => {
                let star = |parts: &[Part], i: usize| parts.get(i) == Some(&Part::Directories);
                let meet = |i: usize, j: usize| matches!((a.get(i), b.get(j)), (Some(a), Some(b)) if a.overlaps(b));
                meets(a.len(), b.len(), |i| star(a, i), |j| star(b, j), meet)
            }
        }
    }

    /// Whether it is a directory with all that is below, and the other one is that or below it.
    fn has_all_of(&self, directory: &str) -> bool {
        let Self::Glob(parts) = self else { return false };
        let own = self.directory();
        let below = directory.strip_prefix(own.as_str()).is_some_and(|rest| own.is_empty() || rest.is_empty() || rest.starts_with('/'));
        below && parts.ends_with(&below_here()) && parts.iter().take_while(|part| matches!(part, Part::Literal(_))).count() + 2 == parts.len()
    }

    /// The directory that all its paths are in; empty if that is the root.
    pub(super) fn directory(&self) -> String {
        let Self::Glob(parts) = self else { return String::new() };
        let literal = parts.iter().map_while(|part| if let Part::Literal(name) = part { Some(name.as_str()) } else { None });
        literal.collect::<Vec<_>>().join("/")
    }
}

impl Part {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Directories => false,
            Self::Literal(own) => own == name,
            Self::Name(tokens) => {
                let characters: Vec<u32> = name.chars().map(u32::from).collect();
                let meet = |i: usize, j: usize| match (tokens.get(i), characters.get(j)) {
                    (Some(Token::One(set)), Some(c)) => set.iter().any(|(from, to)| (from..=to).contains(&c)),
                    _ => false,
                };
                meets(tokens.len(), characters.len(), |i| tokens.get(i) == Some(&Token::Star), |_| false, meet)
            }
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directories, _) | (_, Self::Directories) => false,
            (Self::Literal(name), part) | (part, Self::Literal(name)) => part.matches(name),
            (Self::Name(a), Self::Name(b)) => {
                let star = |tokens: &[Token], i: usize| tokens.get(i) == Some(&Token::Star);
                let meet = |i: usize, j: usize| match (a.get(i), b.get(j)) {
                    (Some(Token::One(a)), Some(Token::One(b))) => a.iter().any(|x| b.iter().any(|y| x.0 <= y.1 && y.0 <= x.1)),
                    _ => false,
                };
                meets(a.len(), b.len(), |i| star(a, i), |j| star(b, j), meet)
            }
        }
    }
}

/// Whether two sequences have a common word: each may have places that stand for any number of pieces (`star`), and `meet` says
/// whether two other pieces can be the same. Every pair of places is looked at once.
fn meets(a: usize, b: usize, a_star: impl Fn(usize) -> bool, b_star: impl Fn(usize) -> bool, meet: impl Fn(usize, usize) -> bool) -> bool {
    let width = b + 1;
    let mut seen = vec![false; (a + 1) * width];
    let mut open = vec![(0, 0)];
    while let Some((i, j)) = open.pop() {
        if i > a || j > b {
            continue;
        }
        match seen.get_mut(i * width + j) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        if i == a && j == b {
            return true;
        }
        let (x, y) = (i < a && a_star(i), j < b && b_star(j));
        if x {
            open.extend([(i + 1, j), (i, j + 1)]);
        }
        if y {
            open.extend([(i, j + 1), (i + 1, j)]);
        }
        if !x && !y && i < a && j < b && meet(i, j) {
            open.push((i + 1, j + 1));
        }
    }
    false
}

/// `**` at the end: whatever is below, at least one name.
fn below_here() -> [Part; 2] {
    [Part::Directories, Part::Name(vec![Token::Star])]
}

fn checked(text: &str, longest: usize) -> Result<(), InvalidPattern> {
    if text.len() > longest {
        return Err(InvalidPattern::Long(text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidPattern::Control(text.to_owned()));
    }
    if text.starts_with('/') {
        return Err(InvalidPattern::Absolute(text.to_owned()));
    }
    Ok(())
}

/// The names between the slashes, at least one; none of them `.` or `..`.
fn names(text: &str) -> Result<Vec<&str>, InvalidPattern> {
    let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    match names.as_slice() {
        [] => Err(InvalidPattern::Empty),
        names if names.contains(&"..") => Err(InvalidPattern::Parent(text.to_owned())),
        _ => Ok(names),
    }
}

/// The globs that a text stands for.
fn ways(text: &str) -> Result<Vec<Way>, InvalidPattern> {
    checked(text, GLOB_MAX)?;
    let mut written = Vec::new();
    write_out("", text, text, &mut written)?;
    written.iter().map(|glob| way(glob, text)).collect()
}

/// Writes the first pair of braces of `rest` out, and what follows from there. `whole` is for messages.
fn write_out(done: &str, rest: &str, whole: &str, into: &mut Vec<String>) -> Result<(), InvalidPattern> {
    let Some(open) = special(rest, |c, _| c == '{') else {
        into.push(format!("{done}{rest}"));
        return if into.len() > GLOBS_MAX { Err(InvalidPattern::Many(whole.to_owned())) } else { Ok(()) };
    };
    let (before, inside) = rest.split_at(open);
    let inside = inside.get(1..).unwrap_or_default();
    let mut depth = 0usize;
    let mut cuts = Vec::new();
    let end = special(inside, |c, at| {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return true,
            '}' => depth -= 1,
            ',' if depth == 0 => cuts.push(at),
            _ => {}
        }
        false
    });
    let Some(end) = end else { return Err(InvalidPattern::Brace(whole.to_owned())) };
    let after = inside.get(end + 1..).unwrap_or_default();
    let mut from = 0;
    for to in cuts.into_iter().chain([end]) {
        let choice = inside.get(from..to).unwrap_or_default();
        write_out(&format!("{done}{before}"), &format!("{choice}{after}"), whole, into)?;
        from = to + 1;
    }
    Ok(())
}

/// The first character that is wanted, not escaped and not within `[…]`, and where it is.
fn special(text: &str, mut wanted: impl FnMut(char, usize) -> bool) -> Option<usize> {
    let (mut escaped, mut class) = (false, None);
    for (at, c) in text.char_indices() {
        match (escaped, class) {
            (true, _) => escaped = false,
            _ if c == '\\' => escaped = true,
            // The first character of a class, after a '!', may be a ']' that does not close it.
            (_, Some(open)) if c == ']' && at > open + 1 && !(at == open + 2 && text.get(open + 1..).is_some_and(|t| t.starts_with(['!', '^']))) => {
                class = None
            }
            (_, Some(_)) => {}
            _ if c == '[' => class = Some(at),
            _ if wanted(c, at) => return Some(at),
            _ => {}
        }
    }
    None
}

/// A glob without braces. `whole` is for messages.
fn way(glob: &str, whole: &str) -> Result<Way, InvalidPattern> {
    let mut parts: Vec<Part> = Vec::new();
    checked(glob, PATH_MAX)?;
    for name in names(glob)? {
        let part = if name == "**" { Part::Directories } else { part(name, whole)? };
        if part != Part::Directories || parts.last() != Some(&Part::Directories) {
            parts.push(part);
        }
    }
    let last = parts.last() == Some(&Part::Directories);
    if last {
        parts.pop();
    }
    if last || glob.ends_with('/') {
        parts.extend(below_here());
    }
    let literal: Option<Vec<&str>> = parts.iter().map(|part| if let Part::Literal(name) = part { Some(name.as_str()) } else { None }).collect();
    Ok(match literal {
        Some(names) => Way::Path(names.join("/")),
        None => Way::Glob(parts),
    })
}

/// A name of a glob.
fn part(name: &str, whole: &str) -> Result<Part, InvalidPattern> {
    let (mut tokens, mut literal) = (Vec::new(), String::new());
    let mut plain = true;
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        let token = match c {
            '*' if tokens.last() == Some(&Token::Star) => return Err(InvalidPattern::DoubleStar(whole.to_owned())),
            '*' => Token::Star,
            '?' => Token::One(ALPHABET.to_vec()),
            '[' => Token::One(class(&mut rest, whole)?),
            _ => {
                let own = if c == '\\' { rest.next().unwrap_or('\\') } else { c };
                literal.push(own);
                tokens.push(Token::One(vec![(own.into(), own.into())]));
                continue;
            }
        };
        plain = false;
        tokens.push(token);
    }
    match literal.as_str() {
        ".." if plain => Err(InvalidPattern::Parent(whole.to_owned())),
        _ if plain => Ok(Part::Literal(literal)),
        _ => Ok(Part::Name(tokens)),
    }
}

/// The rest of a `[…]`.
fn class(rest: &mut std::str::Chars<'_>, whole: &str) -> Result<Vec<Range>, InvalidPattern> {
    let unclosed = || InvalidPattern::Bracket(whole.to_owned());
    let mut ranges: Vec<Range> = Vec::new();
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    let mut first = true;
    loop {
        let c = match rest.next().ok_or_else(unclosed)? {
            ']' if !first => break,
            '\\' => rest.next().ok_or_else(unclosed)?,
            c => c,
        };
        first = false;
        let ahead = rest.as_str();
        let to = if ahead.starts_with('-') && !ahead.starts_with("-]") {
            rest.next();
            match rest.next().ok_or_else(unclosed)? {
                '\\' => rest.next().ok_or_else(unclosed)?,
                to => to,
            }
        } else {
            c
        };
        ranges.push((c.into(), to.into()));
    }
    let set: Vec<Range> = if negated { without(&ALPHABET, &ranges) } else { within(&ALPHABET, &ranges) };
    if set.is_empty() { Err(InvalidPattern::NoCharacter(whole.to_owned())) } else { Ok(set) }
}

fn within(all: &[Range], some: &[Range]) -> Vec<Range> {
    let cut = |(a, b): (&Range, &Range)| (a.0.max(b.0), a.1.min(b.1));
    some.iter().flat_map(|s| all.iter().map(move |a| cut((a, s)))).filter(|(from, to)| from <= to).collect()
}

fn without(all: &[Range], some: &[Range]) -> Vec<Range> {
    let mut left = all.to_vec();
    for (from, to) in some.iter().filter(|(from, to)| from <= to) {
        let before = left.iter().map(|(a, b)| (*a, (*b).min(from.saturating_sub(1)))).filter(|(a, b)| a <= b && *from > 0);
        let after = left.iter().map(|(a, b)| ((*a).max(to + 1), *b)).filter(|(a, b)| a <= b);
        left = before.chain(after).collect();
    }
    left
}
