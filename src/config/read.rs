//! Reads tables key by key and notes every problem on the way instead of stopping at the first.

use super::problem::{Place, Problem};
use super::tree::{Node, Table, Value};
use std::cell::RefCell;
use std::path::Path;

/// Collects problems.
pub(super) struct Reader {
    whole: Place,
    problems: RefCell<Vec<Problem>>,
}

impl Reader {
    /// `file` is named where no better place is known.
    pub(super) fn new(file: &Path) -> Self {
        Self { whole: Place { file: file.into(), line: None }, problems: RefCell::default() }
    }

    pub(super) fn problem(&self, place: Option<&Place>, key: String, message: String) {
        self.problems.borrow_mut().push(Problem::at(place.unwrap_or(&self.whole), key, message));
    }

    pub(super) fn finish(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// The outermost table.
    pub(super) fn root<'t>(&'t self, tree: &'t Table) -> Section<'t> {
        Section { reader: self, key: String::new(), place: None, table: Some(tree), known: Vec::new() }
    }
}

/// A table being read; one that is not there reads as empty.
pub(super) struct Section<'t> {
    reader: &'t Reader,
    key: String,
    place: Option<&'t Place>,
    table: Option<&'t Table>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The value of `key` if it is there and `read` takes it.
    pub(super) fn get<T>(&mut self, key: &'static str, read: impl FnOnce(&'t Node) -> Result<T, String>) -> Option<T> {
        self.known.push(key);
        let node = self.table?.get(key)?;
        read(node).map_err(|message| self.reader.problem(Some(&node.place), dotted(&self.key, key), message)).ok()
    }

    /// The table `key`.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'t> {
        self.known.push(key);
        self.child(key)
    }

    /// The tables in the table `key`, by their names.
    pub(super) fn each(&mut self, key: &'static str) -> Vec<(&'t str, Section<'t>)> {
        let mut parent = self.section(key);
        let names = parent.table.into_iter().flat_map(Table::keys);
        names.map(|name| (name.as_str(), parent.child(name))).collect()
    }

    fn child(&mut self, key: &str) -> Section<'t> {
        let mut child = Section { reader: self.reader, key: dotted(&self.key, key), place: self.place, table: None, known: Vec::new() };
        if let Some(node) = self.table.and_then(|table| table.get(key)) {
            child.place = Some(&node.place);
            match &node.value {
                Value::Table(table) => child.table = Some(table),
                other => child.problem("", format!("is {}, must be a table; write it as [{}]", other.kind(), child.key)),
            }
        }
        child
    }

    /// Notes that something is wrong with `key`, or with the table itself where `key` is empty.
    pub(super) fn problem(&self, key: &str, message: String) {
        let node = self.table.and_then(|table| table.get(key));
        let name = if key.is_empty() { self.key.clone() } else { dotted(&self.key, key) };
        self.reader.problem(node.map(|node| &node.place).or(self.place), name, message);
    }

    /// Whether `key` is said.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether `key` is said and is a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).is_some_and(|node| matches!(node.value, Value::Table(_)))
    }

    /// Says of every key that nobody asked for that it is unknown.
    pub(super) fn finish(self) {
        for key in self.table.into_iter().flat_map(Table::keys).filter(|key| !self.known.contains(&key.as_str())) {
            let hint = match suggestion(key, self.known.iter().copied()) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.problem(key, format!("unknown key; {hint}"));
        }
    }
}

/// The candidate that is most like what was written, if any is alike at all.
pub(super) fn suggestion<'c>(given: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // 0.8 takes a wrong, a missing or a swapped letter and `_` for `-`, and refuses words that only begin alike.
    candidates
        .map(|known| (strsim::jaro_winkler(given, known), known))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// `parent.key`, quoted as TOML wants it where the key is not a bare one.
pub(super) fn dotted(parent: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}
