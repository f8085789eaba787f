//! What an attempt left in its repository: commits, changed files, how the check went, what was pushed, what was rescued.

use super::ids::{AttemptId, InstanceId, InstanceName, SessionId};
use super::refname::short_kind;
use serde::{Deserialize, Serialize};

/// Most changed files that are named.
pub const FILES_MAX: usize = 1000;
/// Most bytes of a check's output that are kept.
pub const OUTPUT_MAX: usize = 64 << 10;
/// Longest subject of a commit, in characters.
const SUBJECT_MAX: usize = 72;
/// Most characters of a commit's body.
const BODY_MAX: usize = 4000;

/// A stage of an attempt after its agent is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The agent works, perhaps again.
    Running,
    /// The work is checked.
    Verifying,
    /// The work is committed and pushed.
    Publishing,
}

/// A file that differs from the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// `A`, `M`, `D` or `T` (git-diff(1), `--name-status`).
    pub status: String,
    /// Where, from the repository's root; what is not UTF-8 is replaced.
    pub path: String,
}

/// How the check of the work went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether the last run passed.
    pub passed: bool,
    /// How often it was run.
    pub runs: u32,
    /// How the last run ended, in words.
    pub ended: String,
    /// The last of its output, at most [`OUTPUT_MAX`] bytes.
    pub output: String,
}

/// How the push went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The remote.
    pub remote: String,
    /// Why it was refused; `None` if it was taken.
    pub refused: Option<String>,
}

/// What an attempt left in its repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The repository's name in the configuration.
    pub repository: String,
    /// The task's branch.
    pub branch: String,
    /// The commit that it started from.
    pub base: Option<String>,
    /// The branch's tip at the end.
    pub head: Option<String>,
    /// Commits between the two.
    pub commits: u32,
    /// The files that differ between the two, at most [`FILES_MAX`].
    pub files: Vec<ChangedFile>,
    /// How many more there are.
    pub more_files: u32,
    /// The ref that keeps what could not be committed.
    pub rescue: Option<String>,
    /// The check, if there was one.
    pub verify: Option<Verification>,
    /// The push, if there was one.
    pub push: Option<Push>,
    /// What the worktree takes on disk, bytes, once it was measured.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
}

/// What a commit of clauded's says of its origin.
#[derive(Clone, Debug)]
pub struct Trailers<'a> {
    /// The attempt.
    pub attempt: AttemptId,
    /// The instance.
    pub instance: &'a InstanceName,
    /// Its stable ID.
    pub id: &'a InstanceId,
    /// The agent's conversation.
    pub session: Option<SessionId>,
}

/// The message of a commit of what an agent left: `type: title`, its words, trailers (git-interpret-trailers(1)).
pub fn message(kind: &str, title: &str, body: &str, trailers: &Trailers<'_>) -> String {
    let mut subject = format!("{}: {}", short_kind(kind), one_line(title));
    if subject.chars().count() > SUBJECT_MAX {
        subject = subject.chars().take(SUBJECT_MAX - 1).collect::<String>().trim_end().to_owned() + "…";
    }
    let body: String = body.trim().chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).take(BODY_MAX).collect();
    let body = if body.trim().is_empty() { String::new() } else { format!("{}\n\n", body.trim_end()) };
    let session = trailers.session.map(|session| format!("Claude-Session: {session}\n")).unwrap_or_default();
    format!("{subject}\n\n{body}Clauded-Task: {}\nClauded-Instance: {} ({})\n{session}", trailers.attempt, trailers.instance, trailers.id)
}

fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The ref that keeps what an attempt left uncommitted.
pub fn rescue_ref(instance: &InstanceName, attempt: AttemptId) -> String {
    // An instance's name may end with ".lock" or '.' or have ".." in it, and a ref's part may not.
    let name: String = instance.as_str().replace("..", "_.").trim_end_matches('.').replace(".lock", "_lock");
    format!("refs/clauded/rescue/{name}/{attempt}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::TaskId;

    fn trailers<'a>(instance: &'a InstanceName, id: &'a InstanceId) -> Trailers<'a> {
        Trailers { attempt: AttemptId { task: TaskId(7), number: 2 }, instance, id, session: Some(SessionId(uuid::Uuid::nil())) }
    }

    #[test]
    fn a_commit_says_what_and_who() {
        let instance: InstanceName = "feature-x".parse().expect("a name");
        let id = InstanceId::of(&[1; 16], &instance);
        let text = message("feature", "Add  the\nlogin", "It is done.\u{0}\n\n", &trailers(&instance, &id));
        let end = format!("Clauded-Task: 7.2\nClauded-Instance: feature-x ({id})\nClaude-Session: 00000000-0000-0000-0000-000000000000\n");
        assert_eq!(text, format!("feat: Add the login\n\nIt is done.\n\n{end}"));
        let text = message("task", &"word ".repeat(40), "", &trailers(&instance, &id));
        assert_eq!(text.lines().next().map(|line| line.chars().count() <= 72 && line.ends_with('…')), Some(true), "{text}");
        assert_eq!(text.lines().nth(2), Some("Clauded-Task: 7.2"));
    }

    #[test]
    fn any_instance_has_a_ref() {
        for name in ["a", "a.lock", "a..b", "a.", "a.lock-b"] {
            let name = rescue_ref(&name.parse().expect("a name"), AttemptId { task: TaskId(1), number: 2 });
            assert_eq!(crate::core::refname::check_branch(&name), Ok(()), "{name}");
        }
    }
}
