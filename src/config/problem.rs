//! What is wrong with a configuration: one line each, with the file, the line, the key and what to do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where something stands: a file, and a line of it where that is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: Arc<Path>,
    pub(super) line: Option<usize>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// The key with its tables, `instances.feature-x.limits.memory`; empty where no key is meant.
    pub key: String,
    /// What is wrong and what to do, in one line.
    pub message: String,
}

impl Problem {
    pub(super) fn at(place: &Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: place.file.to_path_buf(), line: place.line, key: key.into(), message: message.into() }
    }

    /// Of a file or directory as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, key: String::new(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    /// `FILE:LINE: key: what is wrong; what to do`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Everything that is wrong, in the order of the files and lines. Never empty when it is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self(problems)
    }

    /// All of them.
    pub fn all(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    /// One line a problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
