//! The hooks of `--settings`, run as the real program runs them; only the answer of a refusal is understood.

use crate::flags::Flags;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs the hooks of an event for a tool that writes a file; answers the reason of the first that refuses.
pub(crate) fn run(flags: &Flags, session: &str, event: &str, tool: &str, file: &str) -> Option<String> {
    let settings: Value = serde_json::from_str(&std::fs::read_to_string(flags.settings.as_ref()?).ok()?).ok()?;
    let matching =
        settings["hooks"][event].as_array()?.iter().filter(|entry| entry["matcher"].as_str().is_some_and(|tools| tools.split('|').any(|t| t == tool)));
    let cwd = std::env::current_dir().ok()?;
    let names = if tool == "NotebookEdit" { "notebook_path" } else { "file_path" };
    let input = json!({"session_id": session, "cwd": cwd, "hook_event_name": event, "tool_name": tool, "tool_input": {names: cwd.join(file)}});
    for hook in matching.flat_map(|entry| entry["hooks"].as_array().cloned().unwrap_or_default()) {
        let mut child = Command::new("sh").args(["-c", hook["command"].as_str()?]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        child.stdin.take()?.write_all(input.to_string().as_bytes()).ok()?;
        let answer: Value = serde_json::from_slice(&child.wait_with_output().ok()?.stdout).unwrap_or_default();
        if answer["hookSpecificOutput"]["permissionDecision"] == "deny" {
            return answer["hookSpecificOutput"]["permissionDecisionReason"].as_str().map(str::to_owned);
        }
    }
    None
}
