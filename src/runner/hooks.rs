//! The settings that every Claude Code agent gets beside its own: `claudectl hook` before it edits a file and after it reads one.

use super::environment;
use crate::platform::durable::{self, FileError};
use serde_json::json;
use std::path::{Path, PathBuf};

/// How long Claude Code waits for a hook, in seconds; longer than the hook waits for clauded.
const TIMEOUT: u32 = 10;

/// `claudectl`, beside the runner (a build tree), below the same prefix, or on the PATH.
pub(super) fn claudectl(own: Option<&Path>, path: &str) -> Option<PathBuf> {
    let directory = own.and_then(Path::parent);
    let beside = directory.map(|directory| directory.join("claudectl"));
    // PREFIX/lib/clauded/clauded-runner and PREFIX/bin/claudectl.
    let prefix = directory.and_then(Path::parent).and_then(Path::parent).map(|prefix| prefix.join("bin/claudectl"));
    let named = [beside, prefix].into_iter().flatten().find(|file| environment::program(&file.to_string_lossy(), "").is_ok());
    named.or_else(|| environment::program("claudectl", path).ok())
}

/// Writes the settings into the instance's state.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(state: &Path, claudectl: &Path) -> Result<PathBuf, FileError> {
    // The command goes through a shell.
    let program = format!("'{}'", claudectl.to_string_lossy().replace('\'', r"'\''"));
    let hook = |name: &str, tools: &str| {
        let run = json!({"type": "command", "command": format!("{program} hook {name}"), "timeout": TIMEOUT});
        json!([{"matcher": tools, "hooks": [run]}])
    };
    let settings = json!({"hooks": {
        "PreToolUse": hook("pre-tool-use", "Edit|Write|MultiEdit|NotebookEdit"),
        "PostToolUse": hook("post-tool-use", "Read|Edit|Write|MultiEdit|NotebookEdit"),
    }});
    let file = state.join("settings.json");
    durable::write(&file, settings.to_string().as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn claudectl_is_found_where_it_is_installed_and_may_be_missing() {
        let prefix = tempfile::tempdir().expect("a directory");
        let own = prefix.path().join("lib/clauded/clauded-runner");
        assert_eq!(claudectl(Some(&own), "/nonexistent"), None);
        for place in ["bin", "lib/clauded"] {
            let program = prefix.path().join(place).join("claudectl");
            std::fs::create_dir_all(program.parent().expect("one")).expect("made");
            std::fs::write(&program, "").expect("written");
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("set");
            assert_eq!(claudectl(Some(&own), "/nonexistent"), Some(program.clone()));
            assert_eq!(claudectl(None, &program.parent().expect("one").to_string_lossy()), Some(program));
        }
    }

    #[test]
    fn every_tool_that_reads_or_writes_a_file_has_its_hook() {
        let state = tempfile::tempdir().expect("a directory");
        let file = write(state.path(), Path::new("/opt/claudectl")).expect("written");
        let settings: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("JSON");
        let writers = ["Edit", "MultiEdit", "NotebookEdit", "Write"];
        for (event, mut wanted) in [("PreToolUse", writers.to_vec()), ("PostToolUse", [&writers[..], &["Read"]].concat())] {
            let matcher = settings.pointer(&format!("/hooks/{event}/0/matcher")).and_then(|m| m.as_str()).expect("one");
            let mut tools: Vec<_> = matcher.split('|').collect();
            tools.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(tools, wanted, "{event}");
        }
    }

    #[test]
    fn no_path_breaks_out_of_the_command() {
        let state = tempfile::tempdir().expect("a directory");
        let file = write(state.path(), Path::new("/opt/it's here; true/claudectl")).expect("written");
        let settings: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("JSON");
        let command = settings.pointer("/hooks/PreToolUse/0/hooks/0/command").and_then(|c| c.as_str());
        assert_eq!(command, Some(r"'/opt/it'\''s here; true/claudectl' hook pre-tool-use"));
    }
}
