//! Which files the last commits of the base have changed together.

use super::git::Git;
use super::{WorktreeError, branch};
use crate::core::checkout::Origin;
use crate::core::forecast::path_text;

/// How many commits are looked at.
const COMMITS: &str = "500";
/// A commit with more files is a move, an import, a reformatting, and says nothing about what belongs together.
const FILES_MAX: usize = 100;
/// Most that is told, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// The files of each commit, the newest first.
///
/// # Errors
/// The base is gone.
pub(in crate::runner) async fn history(git: &Git<'_>, origin: &Origin) -> Result<Vec<Vec<String>>, WorktreeError> {
    let base = branch::base(git, origin, false).await?;
    let call = ["log", "--no-merges", "--no-renames", "--no-color", "--no-ext-diff", "--name-only", "-z", "--format=%x00%H", "-n", COMMITS, &base, "--"];
    Ok(parse(&git.call(&call).bytes().await?))
}

/// `\0HASH\0`, and of a commit that changes something `\n` and its files, each with `\0` at its end.
fn parse(answer: &[u8]) -> Vec<Vec<String>> {
    let (mut commits, mut bytes) = (Vec::new(), 0usize);
    let mut parts = answer.split(|b| *b == 0).peekable();
    while let Some(part) = parts.next() {
        if !part.is_empty() {
            continue;
        }
        // The hash.
        parts.next();
        let mut files = Vec::new();
        while let Some(path) = parts.next_if(|part| !part.is_empty()) {
            let path = if files.is_empty() { path.strip_prefix(b"\n").unwrap_or(path) } else { path };
            files.push(path_text(path));
        }
        bytes += files.iter().map(String::len).sum::<usize>();
        if bytes > BYTES_MAX {
            break;
        }
        if (1..=FILES_MAX).contains(&files.len()) {
            commits.push(files);
        }
    }
    commits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_told_apart_whatever_their_files_are_called() {
        let many: String = (0..=FILES_MAX).map(|n| format!("{n}\0")).collect();
        let text = format!("\0h1\0\0h2\0\na\0b\0\0h3\0\n\nodd\0n\nl\0-x\0\0h4\0\n{many}\0h5\0\nlast\0");
        assert_eq!(parse(text.as_bytes()), [vec!["a", "b"], vec!["\nodd", "n\nl", "-x"], vec!["last"]]);
        assert!(parse(b"").is_empty());
        let long = format!("\0h\0\n{}\0\0h\0\nb\0", "x".repeat(BYTES_MAX + 1));
        assert!(parse(long.as_bytes()).is_empty());
    }
}
