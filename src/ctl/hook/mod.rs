//! `claudectl hook`: what Claude Code runs around its tools. Before an edit it takes the lock on the file, and refuses a file that
//! has changed since this agent read it; after a read it notes what was read. Where it cannot do its work the tool goes on: what
//! was changed without a lock is found before the commit.

mod reads;
mod request;

use super::args::Global;
use super::failure::{Failure, Outcome};
use super::lock::place::{PlaceError, Worktree};
use crate::config::Paths;
use crate::core::label::Label;
use crate::proto::api::{NewLock, Problem};
use clap::Subcommand;
use reads::Reads;
use serde::Deserialize;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Longest input: a whole file's content comes with it.
const INPUT_MAX: u64 = 64 << 20;

/// Which hook.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum HookCommand {
    /// Before Edit, Write, MultiEdit and NotebookEdit: takes the lock on the file, or refuses
    #[command(
        after_help = "Examples:\n  {\"matcher\": \"Edit|Write|MultiEdit|NotebookEdit\", \"hooks\": [{\"type\": \"command\", \"command\": \"claudectl hook pre-tool-use\"}]}"
    )]
    PreToolUse {
        /// The repository, by its name in the configuration, for sessions of people; an agent's own is known
        #[arg(long, value_name = "NAME")]
        repository: Option<Label>,
    },
    /// After Read, Edit, Write, MultiEdit and NotebookEdit: notes what the file was like
    #[command(
        after_help = "Examples:\n  {\"matcher\": \"Read|Edit|Write|MultiEdit|NotebookEdit\", \"hooks\": [{\"type\": \"command\", \"command\": \"claudectl hook post-tool-use\"}]}"
    )]
    PostToolUse,
}

/// What Claude Code says of the tool; of what it writes nothing is needed.
#[derive(Debug, Deserialize)]
struct Input {
    session_id: String,
    cwd: PathBuf,
    tool_name: String,
    #[serde(default)]
    tool_input: ToolInput,
}

#[derive(Debug, Default, Deserialize)]
struct ToolInput {
    file_path: Option<PathBuf>,
    notebook_path: Option<PathBuf>,
}

/// What becomes of the tool.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes on.
    Pass,
    /// It goes on, though this could not be told: why.
    Unknown(String),
    /// It does not: why, for the model.
    Deny(String),
}

/// Runs a hook. Says what is to be said to Claude Code, and no more: its exit status would be a verdict too.
pub(super) fn run(global: &Global, command: &HookCommand) -> Result<Outcome, Failure> {
    match (judge(global, command), command) {
        (Verdict::Pass, _) | (Verdict::Deny(_), HookCommand::PostToolUse) => Ok(Outcome::Done),
        (Verdict::Unknown(why), _) => Err(Failure::Failed(format!("{why}; the tool goes on without a lock"))),
        (Verdict::Deny(reason), HookCommand::PreToolUse { .. }) => {
            let decision = serde_json::json!({"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": reason});
            let line = format!("{}\n", serde_json::json!({ "hookSpecificOutput": decision }));
            io::stdout().write_all(line.as_bytes()).map_err(Failure::Output)?;
            Ok(Outcome::Done)
        }
    }
}

fn judge(global: &Global, command: &HookCommand) -> Verdict {
    let mut text = Vec::new();
    if let Err(error) = io::stdin().take(INPUT_MAX).read_to_end(&mut text) {
        return Verdict::Unknown(format!("cannot read the hook's input: {error}"));
    }
    let input: Input = match serde_json::from_slice(&text) {
        Ok(input) => input,
        Err(error) => return Verdict::Unknown(format!("the hook's input is not what Claude Code writes: {error}")),
    };
    let Some(path) = input.tool_input.file_path.as_ref().or(input.tool_input.notebook_path.as_ref()) else { return Verdict::Pass };
    let path = input.cwd.join(path);
    let reads = std::env::var_os("CLAUDED_STATE").filter(|state| !state.is_empty()).map(|state| Reads::new(Path::new(&state), &input.session_id));
    match command {
        HookCommand::PreToolUse { .. } if input.tool_name == "Read" => Verdict::Pass,
        HookCommand::PreToolUse { repository } => match lock(global, repository.as_ref(), &input.cwd, &path) {
            Verdict::Pass if reads.is_some_and(|reads| reads.is_stale(&path)) => Verdict::Deny(format!(
                "{} has changed since you read it: someone else has written to it. Nothing was written. Read it again, then make your change to what is there now.",
                path.display()
            )),
            verdict => verdict,
        },
        HookCommand::PostToolUse => match reads.map(|reads| reads.note(&path)) {
            Some(Err(error)) => Verdict::Unknown(format!("cannot note what was read: {error}")),
            _ => Verdict::Pass,
        },
    }
}

/// Takes the lock on a file of the worktree; files elsewhere are nobody's.
fn lock(global: &Global, repository: Option<&Label>, cwd: &Path, path: &Path) -> Verdict {
    let tree = match Worktree::around(cwd) {
        Ok(tree) => tree,
        Err(PlaceError::NoWorktree(_)) => return Verdict::Pass,
        Err(error) => return Verdict::Unknown(error.to_string()),
    };
    let name = match tree.name(cwd, path) {
        Ok(name) => name,
        Err(PlaceError::Outside { .. }) => return Verdict::Pass,
        Err(error @ PlaceError::Leads { .. }) => return Verdict::Deny(error.to_string()),
        Err(error) => return Verdict::Unknown(error.to_string()),
    };
    let socket = match &global.socket {
        Some(socket) => socket.clone(),
        None if global.user => Paths::user().api_socket(),
        None => Paths::system().api_socket(),
    };
    let lock = NewLock { path: Some(name), ..NewLock::default() };
    let wanted = match repository.filter(|_| !tree.is_said() && is_project(&tree)) {
        Some(repository) => NewLock { place: Some(repository.to_string()), ..lock },
        None => super::lock::at(&tree, lock),
    };
    let body = match serde_json::to_vec(&wanted) {
        Ok(body) => body,
        Err(error) => return Verdict::Unknown(format!("cannot write the request as JSON: {error}")),
    };
    match request::post(&socket, "/api/v1/locks", &body) {
        Ok((200, _)) => Verdict::Pass,
        Ok((status, body)) => {
            let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
            match problem.code.as_str() {
                "locked" | "too-many-locks" => Verdict::Deny(problem.detail),
                _ => Verdict::Unknown(format!("clauded gives no lock: {} (HTTP status {status})", problem.detail)),
            }
        }
        Err(error) => Verdict::Unknown(format!("clauded cannot be asked at {}: {error}", socket.display())),
    }
}

/// Whether the worktree is the one whose settings have the hook, and not a repository within it.
fn is_project(tree: &Worktree) -> bool {
    let project = std::env::var_os("CLAUDE_PROJECT_DIR").filter(|project| !project.is_empty());
    project.is_none_or(|project| Worktree::around(Path::new(&project)).is_ok_and(|around| around == *tree))
}
