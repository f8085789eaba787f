//! The CLI's program: installed from npm in the one version that this layer was written against.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// npm takes another version by itself where Node is old, so it is pinned. The program brings its own runtime.
const VERSION: &str = "2.1.329";

/// The program; `None`, said aloud, where it cannot be had. In CI that is a failure.
pub(crate) fn find() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(install) {
        Ok(path) => Some(path),
        Err(why) => {
            crate::skip::skip(&format!("the real CLI cannot be had: {why}"));
            None
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory").join("tools");
    let place = tools.join(format!("claude-{VERSION}"));
    let program = place.join("node_modules/@anthropic-ai/claude-code/bin/claude.exe");
    if speaks(&program) {
        return Ok(program);
    }
    fs::create_dir_all(&tools).map_err(|e| format!("{}: {e}", tools.display()))?;
    // Beside its place, and moved there when it is whole: an installation cut short is never taken for one.
    let draft = tempfile::tempdir_in(&tools).map_err(|e| format!("{}: {e}", tools.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(draft.path()).arg(format!("@anthropic-ai/claude-code@{VERSION}"));
    let output = npm.stdin(Stdio::null()).output().map_err(|e| format!("npm: {e}"))?;
    if !output.status.success() {
        return Err(format!("npm install fails: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let _ = fs::remove_dir_all(&place);
    fs::rename(draft.path(), &place).map_err(|e| format!("{}: {e}", place.display()))?;
    if speaks(&program) { Ok(program) } else { Err(format!("{} does not say that it is {VERSION}", program.display())) }
}

fn speaks(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    output.is_ok_and(|o| o.status.success() && String::from_utf8_lossy(&o.stdout).starts_with(VERSION))
}
