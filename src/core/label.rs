//! A plain name that people give to things: groups, teams, roles, specialties, labels, repositories, schedules.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest label, in bytes.
const LABEL_MAX: usize = 64;

/// 1 to 64 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`: safe in a path, a unit's name and a metric's label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// Why a text is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name; use 1 to 64 letters, digits, '_', '.' and '-', not beginning with '.' or '-'")]
pub struct InvalidLabel(String);

impl Label {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'-';
        let ok = (1..=LABEL_MAX).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(plain);
        if ok { Ok(Self(text.to_owned())) } else { Err(InvalidLabel(text.chars().take(LABEL_MAX + 1).collect())) }
    }
}

impl TryFrom<String> for Label {
    type Error = InvalidLabel;

    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain() {
        for text in ["a", "feature-x", "v1.2_rc", "9", &"x".repeat(64)] {
            assert_eq!(text.parse::<Label>().map(|label| label.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(text.parse::<Label>().is_err_and(|error| error.to_string().contains("is no name; use 1 to 64")), "{text:?}");
        }
    }
}
