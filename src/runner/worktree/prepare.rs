//! The repository and the instance's worktree of it: cloned, attached, repaired. What is there and whole is left as it is.

use super::git::Git;
use super::{WorktreeError, look};
use crate::core::checkout::{Origin, Source};
use crate::runner::durable::{self, FileError};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long another runner may hold the repository: it may be cloning it.
const HOLD: Duration = Duration::from_secs(60 * 60);
/// How long a lock of git's may be somebody's who is at work.
const STALE: Duration = Duration::from_secs(2);
/// In the worktree's git directory, once the worktree is whole.
const MADE: &str = "clauded-made";

/// What preparing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runner) enum Prepared {
    /// The worktree is new.
    Created,
    /// It was repaired.
    Changed,
    /// It was as it should be.
    Unchanged,
}

/// Sees to it that the directory is a worktree of the repository.
///
/// # Errors
/// What stands in the way, and what to do; nothing that was in the directory is touched then.
pub(in crate::runner) async fn prepare(git: &Git<'_>, origin: &Origin) -> Result<Prepared, WorktreeError> {
    as_its_owner(origin)?;
    let common = repository(git, origin).await?;
    let _held = hold(&common.join("clauded.lock")).await?;
    attach(git, origin, &common).await
}

/// root may work in a repository of root's only: its settings can name programs.
fn as_its_owner(origin: &Origin) -> Result<(), WorktreeError> {
    let place = match &origin.source {
        Source::Path(path) => path,
        // Its clone is made by us, so it is ours; one that is there may be anyone's.
        Source::Url(_) => &origin.store,
    };
    let owner = fs::metadata(place).map(|data| data.uid());
    if nix::unistd::geteuid().is_root()
        && let Ok(owner @ 1..) = owner
    {
        return Err(WorktreeError::Refused(format!(
            "{} belongs to user {owner}, and this runner is root's: git does not run as root in a repository of others; run the instance as that user ([instances.NAME] user)",
            place.display()
        )));
    }
    Ok(())
}

/// The repository's common directory; a clone is made if there is none.
async fn repository(git: &Git<'_>, origin: &Origin) -> Result<PathBuf, WorktreeError> {
    match &origin.source {
        Source::Path(path) => {
            if !path.is_dir() {
                let advice = format!("{} is not there; make it with git init or git clone, or correct [repositories.{}] path", path.display(), origin.name);
                return Err(WorktreeError::Refused(advice));
            }
            let git = git.at(path);
            let git = match path.parent() {
                Some(parent) => git.within_ceiling(parent),
                None => git,
            };
            match common_directory(&git).await {
                Ok(common) => Ok(common),
                Err(error) if error.words().contains("not a git repository") => Err(WorktreeError::Refused(format!(
                    "{} is no git repository; make it with git init or git clone, or correct [repositories.{}] path",
                    path.display(),
                    origin.name
                ))),
                Err(error) => Err(error.into()),
            }
        }
        Source::Url(url) => {
            clone(git, origin, url).await?;
            Ok(origin.store.clone())
        }
    }
}

async fn common_directory(git: &Git<'_>) -> Result<PathBuf, super::git::GitError> {
    let answer = PathBuf::from(git.text(&["rev-parse", "--git-common-dir"]).await?);
    let path = git.directory().join(answer);
    Ok(fs::canonicalize(&path).unwrap_or(path))
}

/// Makes the bare clone that all worktrees of the repository share. One that was cut short stands under another name.
async fn clone(git: &Git<'_>, origin: &Origin, url: &str) -> Result<(), WorktreeError> {
    let store = &origin.store;
    let parent = store.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(FileError::of("create directory", parent))?;
    let _held = hold(&store.with_extension("lock")).await?;
    if store.is_dir() {
        let git = git.at(store);
        // The configuration may have moved on.
        if git.maybe(&["config", "--get", "remote.origin.url"]).await.as_deref() != Some(url) {
            git.run(&["config", "remote.origin.url", url]).await?;
        }
        return Ok(());
    }
    let draft = store.with_extension("new");
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(FileError::of("remove", &draft))?;
    }
    let above = git.at(parent);
    above.run(&["init", "--quiet", "--bare", "--", &draft.to_string_lossy()]).await?;
    let inside = git.at(&draft);
    inside.run(&["config", "remote.origin.url", url]).await?;
    inside.run(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]).await?;
    inside.call(&["fetch", "--progress", "--no-tags", "origin"]).network().bytes().await?;
    // Without it the repository's own HEAD is asked for anew.
    let _ = inside.call(&["remote", "set-head", "origin", "--auto"]).network().bytes().await;
    fs::rename(&draft, store).map_err(FileError::of("rename to", store))?;
    Ok(())
}

/// Keeps other runners away for as long as the answer lives.
pub(super) async fn hold(path: &Path) -> Result<nix::fcntl::Flock<File>, WorktreeError> {
    let until = Instant::now() + HOLD;
    loop {
        if let Some(lock) = durable::lock(path)? {
            return Ok(lock);
        }
        if Instant::now() > until {
            return Err(WorktreeError::Held(format!("another runner has held {} for an hour (fuser names it)", path.display())));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn attach(git: &Git<'_>, origin: &Origin, common: &Path) -> Result<Prepared, WorktreeError> {
    let directory = git.directory();
    let refuse = |why: String| {
        let advice = format!("{} {why}; move it away, or set another directory for this instance", directory.display());
        Err(WorktreeError::Refused(advice))
    };
    let registered = registered(common, directory);
    match fs::metadata(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return add(git, origin, common, registered.is_some()).await,
        Err(error) => return Err(FileError::of("look at", directory)(error).into()),
        Ok(data) if !data.is_dir() => return refuse("is not a directory".to_owned()),
        Ok(_) => {}
    }
    let link = directory.join(".git");
    if fs::symlink_metadata(&link).is_err() {
        let empty = fs::read_dir(directory).map_err(FileError::of("read directory", directory))?.next().is_none();
        return match registered {
            // Its link to the repository was lost, or never written.
            Some(own) => {
                fs::write(&link, format!("gitdir: {}\n", own.display())).map_err(FileError::of("write", &link))?;
                whole(git, &own, true).await
            }
            None if empty => add(git, origin, common, false).await,
            None => refuse(format!("is not empty and is no worktree of {}", origin.source)),
        };
    }
    match common_directory(git).await {
        Ok(found) if same(&found, common) => {
            let own = look::git_directory(git).await?;
            let moved = link.is_file() && !points_back(&own, &link);
            if moved {
                if let Some(other) = points_to(&own).filter(|other| other.exists()) {
                    return refuse(format!("is a copy of the worktree {}", other.display()));
                }
                git.run(&["worktree", "repair"]).await?;
            }
            whole(git, &own, moved).await
        }
        Ok(found) => refuse(format!("is a worktree of {}, not of {}", found.display(), origin.source)),
        // The repository was moved: its worktrees point to where it was.
        Err(_) => match own_entry(&link, common) {
            Some(own) => {
                git.at(common).run(&["worktree", "repair", "--", &directory.to_string_lossy()]).await?;
                whole(git, &own, true).await
            }
            None => refuse(format!("has a .git that leads nowhere, and is no worktree of {}", origin.source)),
        },
    }
}

/// The worktree's part of the repository that says it is at that directory, whether or not anything is there.
fn registered(common: &Path, directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(common.join("worktrees")).ok()?.filter_map(Result::ok);
    entries.map(|entry| entry.path()).find(|own| points_back(own, &directory.join(".git")))
}

/// Where a worktree's part of the repository says that its worktree is.
fn points_to(own: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(own.join("gitdir")).ok()?;
    Some(own.join(text.trim_end_matches('\n')))
}

/// A path without links, whose last two parts need not exist.
fn resolved(link: &Path) -> Option<PathBuf> {
    let directory = link.parent()?;
    let known = fs::canonicalize(directory).or_else(|_| match (directory.parent(), directory.file_name()) {
        (Some(above), Some(name)) => fs::canonicalize(above).map(|above| above.join(name)),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    });
    Some(known.ok()?.join(link.file_name()?))
}

fn points_back(own: &Path, link: &Path) -> bool {
    points_to(own).is_some_and(|there| there == link || (resolved(&there).is_some() && resolved(&there) == resolved(link)))
}

/// The entry of this repository that a link means which names it by a path of before.
fn own_entry(link: &Path, common: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(link).ok()?;
    let named = Path::new(text.strip_prefix("gitdir: ")?.trim_end_matches('\n'));
    let own = common.join("worktrees").join(named.file_name()?);
    (points_to(&own)? == link).then_some(own)
}

fn same(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// A new worktree at the base, on no branch yet.
async fn add(git: &Git<'_>, origin: &Origin, common: &Path, registered: bool) -> Result<Prepared, WorktreeError> {
    let directory = git.directory();
    let base = super::branch::base(&git.at(common), origin, false).await?;
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(FileError::of("create directory", parent))?;
    }
    let path = directory.to_string_lossy();
    let mut call = vec!["worktree", "add", "--quiet", "--detach"];
    if registered {
        // It is known and gone: nothing can be lost. Twice, since one that was cut short is locked.
        call.extend(["--force", "--force"]);
    }
    call.extend(["--", &path, &base]);
    git.at(common).write(&call).await?;
    let own = look::git_directory(git).await?;
    whole(git, &own, false).await?;
    Ok(Prepared::Created)
}

/// Ends what a predecessor left half done in a worktree that is attached.
async fn whole(git: &Git<'_>, own: &Path, mut changed: bool) -> Result<Prepared, WorktreeError> {
    for name in ["index.lock", "HEAD.lock"] {
        changed |= unlock(&own.join(name)).await?;
    }
    let (index, made, locked) = (own.join("index"), own.join(MADE), own.join("locked"));
    // `git worktree add` locks what it makes, and was killed. Nobody has worked there yet.
    let begun = !made.exists() && fs::read_to_string(&locked).is_ok_and(|text| text.starts_with("initializing"));
    if begun {
        fs::remove_file(&locked).map_err(FileError::of("remove", &locked))?;
        git.write(&["reset", "--quiet", "--hard"]).await?;
        changed = true;
    }
    match git.call(&["ls-files", "--unmerged", "-z"]).bytes().await {
        Err(error) if error.words().contains("index") => {
            fs::rename(&index, own.join("index.damaged")).map_err(FileError::of("rename", &index))?;
        }
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    if !index.exists() {
        // Made anew from HEAD; the files stay as they are.
        git.run(&["reset", "--quiet"]).await?;
        changed = true;
    }
    if !made.exists() {
        fs::write(&made, "").map_err(FileError::of("write", &made))?;
    }
    Ok(if changed { Prepared::Changed } else { Prepared::Unchanged })
}

/// Removes a lock of a git that was killed: no other git of ours runs here, and one of a person's is given its time.
async fn unlock(lock: &Path) -> Result<bool, WorktreeError> {
    let until = Instant::now() + STALE;
    while lock.exists() {
        if Instant::now() > until {
            fs::remove_file(lock).map_err(FileError::of("remove", lock))?;
            tracing::warn!("a lock that a killed git left is removed: {}", lock.display());
            return Ok(true);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}
