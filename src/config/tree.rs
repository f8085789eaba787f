//! A parsed file as a tree in which every value knows where it stands, and how one file is laid over another.

use super::problem::{Place, Problem};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Syntax errors told of one file: what follows the first few is mostly their echo.
const SYNTAX_ERRORS_MAX: usize = 5;

/// A table's entries by key.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and the place of its key.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a configuration can say.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// What no key takes; the name of its type.
    Other(&'static str),
}

impl Value {
    /// For messages: "is a number".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Float(_) => "a number with a point",
            Self::Boolean(_) => "true or false",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// From byte offsets to lines.
struct Lines {
    file: Arc<Path>,
    /// Offsets of the line feeds.
    feeds: Vec<usize>,
}

impl Lines {
    fn new(file: &Path, text: &str) -> Self {
        Self { file: file.into(), feeds: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    fn place(&self, offset: usize) -> Place {
        Place { file: Arc::clone(&self.file), line: Some(1 + self.feeds.partition_point(|feed| *feed < offset)) }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table.iter().map(|(key, value)| (key.get_ref().to_string(), self.node(key.span().start, value.get_ref()))).collect()
    }

    fn node(&self, offset: usize, value: &DeValue<'_>) -> Node {
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("a number out of range"),
            },
            DeValue::Float(number) => number.as_str().parse().map_or(Value::Other("a number out of range"), Value::Float),
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => Value::Array(items.iter().map(|item| self.node(item.span().start, item.get_ref())).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { place: self.place(offset), value }
    }
}

/// Parses one file's text.
pub(super) fn parse(file: &Path, text: &str) -> Result<Table, Vec<Problem>> {
    let lines = Lines::new(file, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(lines.table(table.get_ref()));
    }
    let problem = |error: &toml::de::Error| {
        let place = error.span().map_or(Place { file: Arc::clone(&lines.file), line: None }, |span| lines.place(span.start));
        Problem::at(&place, "", format!("not valid TOML: {}", error.message().replace('\n', "; ")))
    };
    Err(errors.iter().take(SYNTAX_ERRORS_MAX).map(problem).collect())
}

/// Lays `over` on `under`: tables merge key by key, anything else is replaced.
pub(super) fn merge(under: &mut Table, over: Table) {
    for (key, node) in over {
        match under.entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(node);
            }
            Entry::Occupied(mut slot) => match (&mut slot.get_mut().value, node) {
                (Value::Table(under), Node { value: Value::Table(over), .. }) => merge(under, over),
                (_, node) => {
                    slot.insert(node);
                }
            },
        }
    }
}

/// The place of the entry that `path` leads to, or of the last table on the way that is there.
pub(super) fn place_of<'t>(tree: &'t Table, path: &[&str]) -> Option<&'t Place> {
    let (first, rest) = path.split_first()?;
    let node = tree.get(*first)?;
    match &node.value {
        Value::Table(table) => place_of(table, rest).or(Some(&node.place)),
        _ => Some(&node.place),
    }
}
