//! The repository and the instance's worktree of it: cloned, attached, repaired. What is there and whole is left as it is.

use super::git::Git;
use super::stale::unlock_own;
use super::{WorktreeError, look};
use crate::core::checkout::{Origin, Source};
use crate::platform::durable::{self, FileError};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long another runner may hold the repository: it may be cloning it.
const HOLD: Duration = Duration::from_secs(60 * 60);
/// Our own lock in a git directory, which the kernel opens.
pub(super) const OURS: &str = "clauded.lock";
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
    let common = repository(git, origin).await?;
    let _held = hold(&common).await?;
    attach(git, origin, &common).await
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
            match look::common_directory(&git).await {
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

/// Makes the bare clone that all worktrees of the repository share. One that was cut short stands under another name.
async fn clone(git: &Git<'_>, origin: &Origin, url: &str) -> Result<(), WorktreeError> {
    let store = &origin.store;
    let parent = store.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(FileError::of("create directory", parent))?;
    let _held = hold_file(&store.with_extension("lock")).await?;
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

/// Keeps other runners away from a git directory for as long as the answer lives.
pub(super) async fn hold(git_directory: &Path) -> Result<nix::fcntl::Flock<File>, WorktreeError> {
    hold_file(&git_directory.join(OURS)).await
}

async fn hold_file(path: &Path) -> Result<nix::fcntl::Flock<File>, WorktreeError> {
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
                enter(git, origin, common, &own, &link).await?;
                whole(git, &own, true).await
            }
            None if empty => add(git, origin, common, false).await,
            None => refuse(format!("is not empty and is no worktree of {}", origin.source)),
        };
    }
    match look::common_directory(git).await {
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
        Err(_) => match own_entry(&link, common) {
            Some(own) if is_incomplete(&own) => {
                enter(git, origin, common, &own, &link).await?;
                whole(git, &own, true).await
            }
            // The repository was moved: its worktrees point to where it was.
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

/// The entry of this repository that a link means: one that is gone or cut short, or that is named by a path of before.
fn own_entry(link: &Path, common: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(link).ok()?;
    let named = Path::new(text.strip_prefix("gitdir: ")?.trim_end_matches('\n'));
    let own = common.join("worktrees").join(named.file_name()?);
    let ours = named.parent().is_some_and(|entries| same(entries, &common.join("worktrees"))) || !own.parent()?.exists() && named.starts_with(common);
    let to_be_made = is_incomplete(&own) && ours && points_to(&own).is_none_or(|there| there == link);
    (to_be_made || points_to(&own).as_deref() == Some(link)).then_some(own)
}

/// Whether a `git worktree add` was killed before it had written, or while it took back, what makes a worktree's part of the
/// repository one (gitrepository-layout(5)).
fn is_incomplete(own: &Path) -> bool {
    let head = fs::read_to_string(own.join("HEAD")).unwrap_or_default();
    head.trim_end().chars().all(|c| c == '0') || ["commondir", "gitdir"].iter().any(|name| fs::read(own.join(name)).unwrap_or_default().is_empty())
}

/// Completes a worktree's part of the repository. At the base: whatever stands in the files is then a change, and is kept like one.
async fn enter(git: &Git<'_>, origin: &Origin, common: &Path, own: &Path, link: &Path) -> Result<(), WorktreeError> {
    if !is_incomplete(own) {
        return Ok(());
    }
    let base = super::branch::base(&git.at(common), origin, false).await?;
    fs::create_dir_all(own).map_err(FileError::of("create directory", own))?;
    for (name, text) in [("commondir", "../..".to_owned()), ("gitdir", link.display().to_string()), ("HEAD", base)] {
        let path = own.join(name);
        fs::write(&path, format!("{text}\n")).map_err(FileError::of("write", &path))?;
    }
    let directory = git.directory();
    if fs::read_dir(directory).map_err(FileError::of("read directory", directory))?.count() == 1 {
        // Nothing is checked out: it is to be made as git would have made it.
        let locked = own.join("locked");
        fs::write(&locked, "initializing\n").map_err(FileError::of("write", &locked))?;
    }
    tracing::warn!("{} was cut short, and is completed", own.display());
    Ok(())
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
    let (index, made, locked) = (own.join("index"), own.join(MADE), own.join("locked"));
    // `git worktree add` locks what it makes, and was killed. Nobody has worked there yet.
    let begun = !made.exists() && fs::read_to_string(&locked).is_ok_and(|text| text.starts_with("initializing"));
    if begun {
        fs::remove_file(&locked).map_err(FileError::of("remove", &locked))?;
        unlock_own(&own.join("index.lock")).await?;
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
        unlock_own(&own.join("index.lock")).await?;
        // Made anew from HEAD; the files stay as they are.
        git.run(&["reset", "--quiet"]).await?;
        changed = true;
    }
    if !made.exists() {
        fs::write(&made, "").map_err(FileError::of("write", &made))?;
    }
    Ok(if changed { Prepared::Changed } else { Prepared::Unchanged })
}
