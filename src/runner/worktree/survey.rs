//! What the worktree changes, told while an agent works in it: no file, no branch, and not the agent's index is touched.

use super::git::{Git, GitError};
use super::rescue::ADD;
use super::standing::Standing;
use super::{WorktreeError, branch, look};
use crate::core::checkout::Origin;
use crate::core::forecast::{FILES_MAX, Oid, Survey, path_text};
use crate::core::ids::InstanceName;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is larger is named, and is not in the snapshot: a survey must not fill the disk.
const SIZE_MAX: u64 = 8 << 20;
/// Where more files are not committed, those that git does not know are not in the snapshot.
const TAKEN_MAX: usize = 5000;

/// Whose the snapshots are.
const WHO: &str = "survey@clauded.invalid";

/// Files of ours in the worktree's git directory, beside those of git and of other members; gone with this value.
pub(super) struct Scratch {
    index: PathBuf,
    objects: PathBuf,
}

impl Scratch {
    pub(super) fn new(own: &Path, instance: &InstanceName) -> Self {
        let scratch = Self { index: own.join(format!("clauded.survey.{instance}")), objects: own.join(format!("clauded.survey.{instance}.objects")) };
        scratch.clear();
        scratch
    }

    /// An index that is not there yet.
    pub(super) fn index(&self) -> &Path {
        &self.index
    }

    /// A directory that is not there yet.
    pub(super) fn objects(&self) -> &Path {
        &self.objects
    }

    fn clear(&self) {
        let _ = fs::remove_file(&self.index);
        let _ = fs::remove_file(self.index.with_file_name(format!("{}.lock", self.index.file_name().unwrap_or_default().display())));
        let _ = fs::remove_dir_all(&self.objects);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Surveys the worktree.
///
/// # Errors
/// It is none, or nobody knows what its work started from.
pub(in crate::runner) async fn survey(git: &Git<'_>, origin: &Origin, instance: &InstanceName, state: &Path) -> Result<Survey, WorktreeError> {
    let own = look::git_directory(git).await?;
    let common = look::common_directory(git).await?;
    let head = look::head(git).await?;
    let base = base(git, origin, state, &head).await?;
    let scratch = Scratch::new(&own, instance);
    let (snapshot, left_out, partial) = match snapshot(git, &own, &head, &scratch).await {
        Ok(taken) => taken,
        Err(error) => (head, BTreeSet::new(), Some(format!("what is not committed cannot be read: {error}"))),
    };
    let call = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--end-of-options", &base, &snapshot, "--"];
    let mut files: BTreeSet<Vec<u8>> = names(&git.call(&call).bytes().await?).collect();
    files.extend(left_out);
    let more = files.len().saturating_sub(FILES_MAX);
    let oid = |text: String| Oid::try_from(text).map_err(WorktreeError::Refused);
    Ok(Survey {
        store: identity(&common),
        worktree: identity(&own),
        base: oid(base)?,
        snapshot: oid(snapshot)?,
        partial,
        files: files.iter().take(FILES_MAX).map(|path| path_text(path)).collect(),
        more_files: u64::try_from(more).unwrap_or(u64::MAX),
    })
}

/// What tells a directory from all others of the host (stat(2)).
fn identity(path: &Path) -> String {
    fs::metadata(path).map(|data| format!("{:x}:{:x}", data.dev(), data.ino())).unwrap_or_else(|_| path.display().to_string())
}

/// Where the work leaves the base: what came to it from there since is not its own.
async fn base(git: &Git<'_>, origin: &Origin, state: &Path, head: &str) -> Result<String, WorktreeError> {
    let now = branch::base(git, origin, false).await;
    if let Ok(now) = &now
        && let Some(shared) = git.maybe(&["merge-base", "--end-of-options", now, head]).await
    {
        return Ok(shared);
    }
    let standing = Standing::read(state);
    let begun = standing.last.and_then(|last| standing.branches.get(&last.task)).map(|branch| branch.base.clone());
    begun.ok_or_else(|| now.err().unwrap_or_else(|| WorktreeError::Refused("its branch and the base have no commit in common".to_owned())))
}

fn names(answer: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    answer.split(|b| *b == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec)
}

/// A commit of all that stands in the files; what is not in it, and why, where something is missing that should be.
async fn snapshot(git: &Git<'_>, own: &Path, head: &str, scratch: &Scratch) -> Result<(String, BTreeSet<Vec<u8>>, Option<String>), GitError> {
    let changed = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "HEAD", "--"];
    let unknown = ["ls-files", "--others", "--exclude-standard", "-z", "--full-name", "--", ":/"];
    let changed = match git.call(&changed).bytes().await {
        Ok(changed) => changed,
        // Of a filter that fails, perhaps, as in `look::status`.
        Err(_) => git.call(&changed).settings(&look::filters_off(git).await).bytes().await?,
    };
    let unknown = git.call(&unknown).bytes().await?;
    let changed: BTreeSet<Vec<u8>> = names(&changed).collect();
    // With all files one by one, a directory is a repository of its own, and nothing of this worktree.
    let (nested, unknown): (Vec<_>, Vec<_>) = names(&unknown).partition(|path| path.ends_with(b"/"));
    if changed.is_empty() && unknown.is_empty() {
        return Ok((head.to_owned(), BTreeSet::new(), None));
    }
    let mut partial = Vec::new();
    let crowd = changed.len() + unknown.len() > TAKEN_MAX;
    if crowd {
        partial.push(format!("more than {TAKEN_MAX} files are not committed, and those that git does not know are not looked into"));
    }
    let large = |path: &&Vec<u8>| fs::symlink_metadata(git.directory().join(OsStr::from_bytes(path))).is_ok_and(|data| data.is_file() && data.len() > SIZE_MAX);
    let mut left_out: BTreeSet<Vec<u8>> = changed.iter().chain(&unknown).filter(large).cloned().collect();
    if !left_out.is_empty() {
        partial.push(format!("{} files over {} MiB are not looked into", left_out.len(), SIZE_MAX >> 20));
    }
    if look::copy_index(own, scratch.index()).is_err() {
        with_index(git, scratch, &["read-tree", "HEAD"], Vec::new(), &[]).await?;
    }
    let excluded: Vec<Vec<u8>> = nested.into_iter().chain(left_out.iter().cloned()).collect();
    let list = look::everything_but(&excluded);
    let [add, .., from, nul] = ADD;
    let how = if crowd { "--update" } else { "--all" };
    let add = [add, how, "--ignore-errors", from, nul];
    // What cannot be read is said, and the rest is taken all the same; but a filter that fails stops all of it.
    let mut off = Vec::new();
    if let Err(error) = with_index(git, scratch, &add, list.clone(), &[]).await {
        partial.push(error.words().to_owned());
        off = look::filters_off(git).await;
        if !off.is_empty() {
            let _ = with_index(git, scratch, &add, list, &off).await;
        }
    }
    let tree = with_index(git, scratch, &["write-tree"], Vec::new(), &off).await?;
    if crowd {
        left_out.extend(unknown);
    }
    let partial = Some(partial.join("; ")).filter(|why| !why.is_empty());
    if tree == git.text(&["rev-parse", "--verify", "--quiet", &format!("{head}^{{tree}}")]).await? {
        return Ok((head.to_owned(), left_out, partial));
    }
    Ok((commit(git, &tree, head).await?, left_out, partial))
}

/// The same content is the same commit, whenever it is looked at: a survey that finds nothing new leaves nothing new.
async fn commit(git: &Git<'_>, tree: &str, parent: &str) -> Result<String, GitError> {
    let call = ["commit-tree", "--no-gpg-sign", "-p", parent, "-F", "-", tree];
    let call = git.call(&call).input("A look at work that is not committed\n").with("GIT_AUTHOR_NAME", "clauded").with("GIT_AUTHOR_EMAIL", WHO);
    let call = call.with("GIT_COMMITTER_NAME", "clauded").with("GIT_COMMITTER_EMAIL", WHO);
    call.with("GIT_AUTHOR_DATE", "@0 +0000").with("GIT_COMMITTER_DATE", "@0 +0000").text().await
}

async fn with_index(git: &Git<'_>, scratch: &Scratch, arguments: &[&str], input: Vec<u8>, settings: &[String]) -> Result<String, GitError> {
    let whole = ["core.splitIndex=false".to_owned()];
    git.call(arguments).input(input).settings(&whole).settings(settings).with("GIT_INDEX_FILE", scratch.index()).text().await
}
