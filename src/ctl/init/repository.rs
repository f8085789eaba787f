//! What there is to say about the repository: its root, where agents get it from, its branch. git runs as the caller, and nothing that
//! the repository names runs with it.

use crate::core::checkout::Source;
use crate::core::ids::UNIT_PREFIX;
use crate::core::label::Label;
use crate::ctl::failure::Failure;
use crate::ctl::program::{Answer, SERVICE_PATH, ask, find};
use nix::unistd::{Uid, User, geteuid};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// How long git may take; it reads a few small files.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of the repository's settings names programs.
const OFF: [&str; 6] = ["--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];

/// A repository that somebody works in.
#[derive(Debug)]
pub(super) struct Repository {
    /// The root of the working tree.
    pub(super) root: PathBuf,
    /// The repository itself: the main working tree, or a bare one.
    pub(super) home: PathBuf,
    /// The user who has it.
    owner: Uid,
    /// The URL of `origin`, if it is one.
    remote: Option<String>,
    /// The branch that `origin` has as its own.
    remote_branch: Option<String>,
    /// The local branches.
    branches: Vec<String>,
}

impl Repository {
    /// The one around a directory.
    pub(super) async fn around(directory: &Path) -> Result<Self, Failure> {
        let start = fs::canonicalize(directory).map_err(|error| Failure::Read { path: directory.to_owned(), error })?;
        let found = start.ancestors().find(|path| fs::symlink_metadata(path.join(".git")).is_ok());
        let around = found
            .ok_or_else(|| Failure::Failed(format!("{} is in no git repository; make one with `git init`, or name another directory", start.display())))?;
        let owner = fs::metadata(around).map_err(|error| Failure::Read { path: around.to_owned(), error })?.uid();
        if geteuid().is_root() && owner != 0 {
            let name = user_name(owner);
            let around = around.display();
            return Err(Failure::Failed(format!(
                "{around} belongs to {name}, and git does not run as root in the repository of another: sudo -u {name} claudectl init {around}"
            )));
        }
        let git = Git::new(around)?;
        let root = PathBuf::from(git.must(&["rev-parse", "--show-toplevel"]).await?);
        let (own, common) = (root.join(git.must(&["rev-parse", "--git-dir"]).await?), root.join(git.must(&["rev-parse", "--git-common-dir"]).await?));
        let home = if own == common { root.clone() } else { home_of(&common) };
        let remote = match git.maybe(&["config", "--get", "remote.origin.url"]).await?.map(|text| text.parse()) {
            Some(Ok(Source::Url(url))) => Some(url),
            Some(Err(why)) if why.contains("password") => {
                return Err(Failure::Failed(format!("the URL of the remote origin {why}; take it out there, or give another with --url")));
            }
            // A path: what it means on another's behalf is theirs to say.
            _ => None,
        };
        let remote_branch = git.maybe(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]).await?;
        let remote_branch = remote_branch.and_then(|name| name.strip_prefix("origin/").map(str::to_owned));
        let branches = git.maybe(&["for-each-ref", "--count=1000", "--format=%(refname:strip=2)", "refs/heads/"]).await?.unwrap_or_default();
        let branches = branches.lines().map(str::to_owned).collect();
        Ok(Self { root, home, owner: Uid::from_raw(owner), remote, remote_branch, branches })
    }

    /// Where agents get it from, if nobody says: from the repository itself if they own it, else from where it came.
    pub(super) fn source(&self, own_daemon: bool) -> Source {
        let theirs = own_daemon || instances_user().is_some_and(|user| user == self.owner);
        match &self.remote {
            Some(url) if !theirs => Source::Url(url.clone()),
            _ => Source::Path(self.home.clone()),
        }
    }

    /// Whether agents of the host's clauded cannot work in it, since it is another's.
    pub(super) fn is_anothers(&self) -> bool {
        instances_user().is_some_and(|user| user != self.owner)
    }

    /// The branch that work starts from, if that is certain: whoever works here may be on any.
    pub(super) fn branch(&self, source: &Source) -> Option<String> {
        let local = |name: &str| self.branches.iter().any(|branch| branch == name);
        let usable = |name: &&String| matches!(source, Source::Url(_)) || local(name);
        let usual = || match (local("main"), local("master")) {
            (true, false) => Some("main".to_owned()),
            (false, true) => Some("master".to_owned()),
            _ => None,
        };
        match self.branches.as_slice() {
            _ if self.remote_branch.as_ref().is_some_and(|name| usable(&name)) => self.remote_branch.clone(),
            // What stands here need not be there.
            _ if matches!(source, Source::Url(_)) => None,
            [only] => Some(only.clone()),
            _ => usual(),
        }
    }

    /// A name from the directory's, as far as it makes one.
    pub(super) fn name(&self) -> Result<Label, Failure> {
        let base = self.home.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name_from(&base).ok_or_else(|| Failure::Usage(format!("{base:?} makes no name for a repository; give one with --name")))
    }
}

fn name_from(base: &str) -> Option<Label> {
    let base = base.strip_suffix(".git").unwrap_or(base);
    let mapped: String = base.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' }).collect();
    let short: String = mapped.trim_matches(['-', '.']).chars().take(64).collect();
    short.trim_end_matches(['-', '.']).parse().ok()
}

/// The repository whose common directory that is (gitrepository-layout(5)).
fn home_of(common: &Path) -> PathBuf {
    let common = fs::canonicalize(common).unwrap_or_else(|_| common.to_owned());
    match common.parent() {
        Some(parent) if common.file_name().is_some_and(|name| name == ".git") => parent.to_owned(),
        _ => common,
    }
}

fn instances_user() -> Option<Uid> {
    User::from_name(UNIT_PREFIX).ok().flatten().map(|user| user.uid)
}

fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| format!("#{uid}"), |user| user.name)
}

struct Git<'a> {
    program: PathBuf,
    path: String,
    directory: &'a Path,
}

impl<'a> Git<'a> {
    fn new(directory: &'a Path) -> Result<Self, Failure> {
        let path = std::env::var("PATH").unwrap_or_else(|_| SERVICE_PATH.to_owned());
        let program = find("git", &path).ok_or_else(|| Failure::Failed(format!("there is no git on {path}; install it: sudo apt install git")))?;
        Ok(Self { program, path, directory })
    }

    async fn run(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let mut command = Command::new(&self.program);
        command.args(OFF).arg("-C").arg(self.directory).args(arguments).env_clear().env("PATH", &self.path).env("LC_ALL", "C");
        if let Some(home) = std::env::var_os("HOME") {
            command.env("HOME", home);
        }
        ask(command, PATIENCE).await.map_err(Failure::Failed)
    }

    /// What it answers, without the line's end.
    async fn must(&self, arguments: &[&str]) -> Result<String, Failure> {
        let answer = self.run(arguments).await?;
        let said = || Failure::Failed(format!("git {} in {} fails: {}", arguments.join(" "), self.directory.display(), answer.complaint));
        if answer.ok { Ok(trimmed(&answer.text)) } else { Err(said()) }
    }

    /// The same, where there may be nothing to answer.
    async fn maybe(&self, arguments: &[&str]) -> Result<Option<String>, Failure> {
        let answer = self.run(arguments).await?;
        Ok(Some(trimmed(&answer.text)).filter(|text| answer.ok && !text.is_empty()))
    }
}

fn trimmed(text: &str) -> String {
    text.strip_suffix('\n').unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_the_directorys() {
        let name = |base: &str| name_from(base).map(|name| name.as_str().to_owned()).unwrap_or_default();
        assert_eq!(["shop", "My Shop!", ".hidden", "shop.git", "", "…", ".git"].map(name), ["shop", "My-Shop", "hidden", "shop", "", "", ""]);
        assert_eq!(name(&format!("{}.x", "a".repeat(63))), "a".repeat(63), "no dot at its end");
    }

    #[test]
    fn a_branch_is_proposed_only_if_it_is_certain() {
        let branch = |remote: Option<&str>, branches: &[&str], source: &str| {
            let repository = Repository {
                root: "/r".into(),
                home: "/r".into(),
                owner: Uid::from_raw(0),
                remote: None,
                remote_branch: remote.map(str::to_owned),
                branches: branches.iter().map(|name| (*name).to_owned()).collect(),
            };
            repository.branch(&source.parse().expect("a source")).unwrap_or_default()
        };
        assert_eq!(branch(None, &["topic"], "/r"), "topic");
        assert_eq!(branch(None, &["main", "topic"], "/r"), "main");
        assert_eq!(branch(None, &["main", "master"], "/r"), "");
        assert_eq!(branch(None, &["main"], "https://a/b"), "", "the remote's own branch is not known here");
        assert_eq!(branch(Some("next"), &["main"], "https://a/b"), "next");
        assert_eq!(branch(Some("next"), &["main"], "/r"), "main", "work does not start from a branch that is not there");
    }
}
