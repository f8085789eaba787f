//! Whether commits merge, found out without a worktree: by `git merge-tree`, or with git before 2.38 by the plumbing that merges
//! were made of, which follows no renames.

use super::git::{Call, Git, GitError};
use super::survey::Scratch;
use super::{WorktreeError, look};
use crate::core::forecast::{MERGES_MAX, Merge, NAMED_MAX, Oid, path_text};
use crate::core::ids::InstanceName;
use crate::platform::durable::FileError;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// Most files that are merged one by one.
const ONE_BY_ONE: usize = 100;
/// The exit status of a git that does not know an option (git's `usage_with_options`).
const USAGE: i32 = 129;

/// Whether a commit merges with each of the others. What is written on the way goes away again.
///
/// # Errors
/// The worktree is none.
pub(in crate::runner) async fn merges(git: &Git<'_>, instance: &InstanceName, ours: &Oid, with: &[Oid]) -> Result<Vec<Merge>, WorktreeError> {
    let own = look::git_directory(git).await?;
    let scratch = Scratch::new(&own, instance);
    let objects = git.directory().join(git.text(&["rev-parse", "--git-path", "objects"]).await?);
    fs::create_dir_all(scratch.objects()).map_err(FileError::of("create directory", scratch.objects()))?;
    let merger = Merger { git, scratch: &scratch, variables: elsewhere(&scratch, &objects) };
    let mut answers = Vec::new();
    for theirs in with.iter().take(MERGES_MAX) {
        answers.push(merger.merge(ours.as_str(), theirs.as_str()).await.unwrap_or_else(|error| Merge::Unknown(error.words().to_owned())));
    }
    Ok(answers)
}

/// New objects go to a directory of their own, and all others are read where they are.
fn elsewhere(scratch: &Scratch, objects: &Path) -> [(&'static str, OsString); 3] {
    // Within quotes, since a colon would end the path.
    let quoted = objects.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    [
        ("GIT_OBJECT_DIRECTORY", scratch.objects().into()),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", format!("\"{quoted}\"").into()),
        // Of a partial clone: what is not there is not fetched now.
        ("GIT_NO_LAZY_FETCH", "1".into()),
    ]
}

struct Merger<'m, 'g> {
    git: &'m Git<'g>,
    scratch: &'m Scratch,
    variables: [(&'static str, OsString); 3],
}

impl<'g> Merger<'_, 'g> {
    async fn merge(&self, ours: &str, theirs: &str) -> Result<Merge, GitError> {
        match self.whole(ours, theirs).await {
            Err(error) if error.code == Some(USAGE) => self.one_by_one(ours, theirs).await,
            done => done,
        }
    }

    /// As git merges since 2.38.
    async fn whole(&self, ours: &str, theirs: &str) -> Result<Merge, GitError> {
        let call = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs];
        let (code, answer) = self.call(&call, &[]).answers(1).await?;
        let mut parts = answer.split(|b| *b == 0);
        let tree = parts.next().map(|tree| String::from_utf8_lossy(tree).into_owned());
        Ok(match (code, tree.map(Oid::try_from)) {
            (0, _) => Merge::Clean,
            (_, Some(Ok(_))) => conflict(parts.filter(|path| !path.is_empty()).map(path_text)),
            // It says 1 too where it cannot even begin.
            _ => Merge::Unknown("one of the two commits is not in this repository any more".to_owned()),
        })
    }

    /// As `git merge-resolve` does it: the trees first, then each file that both have changed.
    async fn one_by_one(&self, ours: &str, theirs: &str) -> Result<Merge, GitError> {
        let Some(base) = self.git.maybe(&["merge-base", ours, theirs]).await else {
            return Ok(Merge::Unknown("they have no commit in common".to_owned()));
        };
        let index = [("GIT_INDEX_FILE", self.scratch.index().into())];
        let _ = fs::remove_file(self.scratch.index());
        self.call(&["read-tree", "-i", "-m", "--aggressive", &base, ours, theirs], &index).bytes().await?;
        let unmerged = self.call(&["ls-files", "--unmerged", "-z"], &index).bytes().await?;
        let mut files: BTreeMap<&[u8], Vec<(&str, &str)>> = BTreeMap::new();
        for entry in unmerged.split(|b| *b == 0) {
            let tab = entry.iter().position(|b| *b == b'\t').unwrap_or(entry.len());
            let words = std::str::from_utf8(entry.get(..tab).unwrap_or_default()).unwrap_or_default();
            if let (Some(path), [mode, oid, _stage]) = (entry.get(tab + 1..), words.split(' ').collect::<Vec<_>>().as_slice()) {
                files.entry(path).or_default().push((mode, oid));
            }
        }
        if files.len() > ONE_BY_ONE {
            return Ok(Merge::Unknown(format!("{} files would have to be merged, and this git (before 2.38) merges them one by one", files.len())));
        }
        let mut conflicts = Vec::new();
        for (path, versions) in &files {
            // Else one has deleted or made what the other has changed, or it is a link.
            let merges = match versions.as_slice() {
                [base, ours, theirs] if versions.iter().all(|(mode, _)| mode.starts_with("100")) => self.file([base.1, ours.1, theirs.1]).await?,
                _ => false,
            };
            if !merges {
                conflicts.push(path_text(path));
            }
        }
        Ok(if conflicts.is_empty() { Merge::Clean } else { conflict(conflicts.into_iter()) })
    }

    /// Whether three versions of a file merge.
    async fn file(&self, [base, ours, theirs]: [&str; 3]) -> Result<bool, GitError> {
        let mut paths = Vec::new();
        for (name, oid) in [("ours", ours), ("base", base), ("theirs", theirs)] {
            let path = self.scratch.objects().join(name);
            let content = self.call(&["cat-file", "blob", oid], &[]).bytes().await?;
            if fs::write(&path, content).is_err() {
                return Ok(false);
            }
            paths.push(path.to_string_lossy().into_owned());
        }
        let [ours, base, theirs] = paths.as_slice() else { return Ok(false) };
        match self.call(&["merge-file", "-p", "-q", ours, base, theirs], &[]).bytes().await {
            Ok(_) => Ok(true),
            // The number of conflicts, or 255: it is no text.
            Err(error) if error.code.is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn call<'c>(&'c self, arguments: &'c [&'c str], more: &[(&'static str, OsString)]) -> Call<'c, 'g> {
        self.variables.iter().chain(more).fold(self.git.call(arguments), |call, (key, value)| call.with(key, value.clone()))
    }
}

fn conflict(paths: impl Iterator<Item = String>) -> Merge {
    let files: BTreeSet<String> = paths.collect();
    Merge::Conflict(files.into_iter().take(NAMED_MAX).collect())
}

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;
