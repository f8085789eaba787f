//! Names and numbers that identify things: instances, tasks, attempts, invocations, agent sessions.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest instance name, in bytes.
pub const NAME_MAX: usize = 64;

/// The template unit's part before the `@`.
pub const UNIT_PREFIX: &str = "claude-code";

/// The slice that caps the whole fleet.
pub const FLEET_SLICE: &str = "claude-code.slice";

/// The name of an instance: the `NAME` of `claude-code@NAME.service`.
///
/// Dash-separated segments of ASCII letters, digits, `_` and `.`, at most [`NAME_MAX`] bytes. A segment may not begin
/// with a dot, so that a name is also a safe file name. systemd.slice(5) forbids `--` and dashes at the ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

/// Why a text is not an instance name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid instance name {given:?}: {why}; a name is 1 to 64 letters, digits, '_' and '.', in parts joined by single dashes, no part beginning with '.'")]
pub struct InvalidName {
    given: String,
    why: &'static str,
}

impl InstanceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The service's unit name, `claude-code@NAME.service`.
    pub fn unit(&self) -> String {
        format!("{UNIT_PREFIX}@{}.service", self.0)
    }

    /// The slice that bounds this instance, `claude-code-NAME.slice`.
    pub fn slice(&self) -> String {
        format!("{UNIT_PREFIX}-{}.slice", self.0)
    }

    /// The target that starts and stops a team of this name, `claude-code-NAME.target`.
    pub fn target(&self) -> String {
        format!("{UNIT_PREFIX}-{}.target", self.0)
    }

    /// The instance of a unit name, if it is one of ours and its name is valid.
    pub fn from_unit(unit: &str) -> Option<Self> {
        unit.strip_prefix(UNIT_PREFIX)?.strip_prefix('@')?.strip_suffix(".service")?.parse().ok()
    }

    /// Whether this name's slice contains the other's: `feature` contains `feature-a`, since slices nest by dashes.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('-'))
    }
}

impl FromStr for InstanceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| {
            let mut given: String = text.chars().take(NAME_MAX).collect();
            if given.len() < text.len() {
                given.push('…');
            }
            Err(InvalidName { given, why })
        };
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > NAME_MAX {
            return refuse("it is longer than 64 bytes");
        }
        for segment in text.split('-') {
            if segment.is_empty() {
                return refuse("a dash stands at an end or beside another dash");
            }
            if segment.starts_with('.') {
                return refuse("a part begins with '.'");
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
                return refuse("it has a character that is not allowed");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for InstanceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An instance's short stable ID: 8 hexadecimal digits, the same for as long as the machine and the name are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// The first four bytes of a UUID of version 5, with the machine's ID (machine-id(5)) as the name space.
    pub fn of(machine: &[u8; 16], name: &InstanceName) -> Self {
        let uuid = uuid::Uuid::new_v5(&uuid::Uuid::from_bytes(*machine), name.as_str().as_bytes());
        Self(uuid.simple().to_string().chars().take(8).collect())
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A task's number, given by the store in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub i64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One execution of a task. With the [`InvocationId`] it fences whoever claims to report on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The task.
    pub task: TaskId,
    /// 1 for the first execution.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.number)
    }
}

/// systemd's invocation ID: one start of one unit, 32 lower-case hexadecimal digits (systemd.exec(5), `$INVOCATION_ID`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvocationId(String);

impl InvocationId {
    /// From the property's 16 bytes; `None` for the all-zero ID of a unit that never ran, or another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 16 || bytes.iter().all(|b| *b == 0) {
            return None;
        }
        Some(Self(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InvocationId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
        if plain.len() == 32 && plain.bytes().all(|b| b.is_ascii_hexdigit()) { Ok(Self(plain)) } else { Err("an invocation ID is 32 hexadecimal digits") }
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The agent's own conversation, resumed after an interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub uuid::Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names() {
        for name in ["a", "feature-x", "boss_1", "v1.2-rc.3", &"x".repeat(64)] {
            assert_eq!(name.parse::<InstanceName>().map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn bad_names_are_refused_with_the_rule() {
        for name in ["", "a--b", "-a", "a-", "a/b", "..", "a-..", ".hidden", "a b", "naïve", "a@b", "a\n", &"x".repeat(300)] {
            let refused = name.parse::<InstanceName>().map_err(|e| e.to_string());
            assert!(refused.as_ref().is_err_and(|e| e.contains("joined by single dashes") && e.len() < 400), "{name:?}: {refused:?}");
        }
    }

    #[test]
    fn units_and_slices() {
        let name: InstanceName = "feature-a".parse().expect("valid");
        assert_eq!(name.unit(), "claude-code@feature-a.service");
        assert_eq!(name.slice(), "claude-code-feature-a.slice");
        assert_eq!(InstanceName::from_unit("claude-code@feature-a.service"), Some(name.clone()));
        assert_eq!(InstanceName::from_unit("claude-code@.service"), None);
        assert_eq!(InstanceName::from_unit("ssh.service"), None);
        let outer: InstanceName = "feature".parse().expect("valid");
        assert!(outer.contains(&name) && !name.contains(&outer) && !outer.contains(&outer));
    }

    #[test]
    fn instance_ids_are_stable() {
        let name = |text: &str| text.parse::<InstanceName>().expect("valid");
        // What is printed in branches and commits may never change.
        assert_eq!(InstanceId::of(&[1; 16], &name("feature-a")).as_str(), "a3d03e2b");
        assert_ne!(InstanceId::of(&[1; 16], &name("a")), InstanceId::of(&[1; 16], &name("b")));
        assert_ne!(InstanceId::of(&[1; 16], &name("a")), InstanceId::of(&[2; 16], &name("a")));
    }

    #[test]
    fn invocation_ids() {
        assert_eq!(InvocationId::from_bytes(&[0; 16]), None);
        assert_eq!(InvocationId::from_bytes(&[0xab; 16]).map(|i| i.to_string()), Some("ab".repeat(16)));
        assert!("xyz".parse::<InvocationId>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<InstanceName>() {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(!text.contains("--") && !text.contains('/') && !text.contains(".."[..].trim()) || !text.split('-').any(|s| s.starts_with('.')));
                prop_assert_eq!(InstanceName::from_unit(&name.unit()), Some(name));
            }
        }
    }
}
