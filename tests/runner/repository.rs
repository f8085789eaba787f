//! A real repository for a runner, and what git says of it.

use crate::harness::{Daemon, Host, Kind, PATIENCE};
use clauded::core::checkout::{Author, Checkout, Origin, Source, Verify};
use clauded::core::ids::InstanceId;
use clauded::proto::link::Work;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs git as a person would, in a directory.
pub(crate) fn try_git(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"]);
    command.args(arguments).current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").output().expect("git runs")
}

/// Likewise; it must succeed. Answers what it printed.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = try_git(directory, arguments);
    assert!(output.status.success(), "git {arguments:?} in {}: {}", directory.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A host whose instance has a repository.
pub(crate) struct Site {
    pub host: Host,
    pub origin: Origin,
}

impl Site {
    /// With a local repository of one commit; the instance's directory does not exist yet.
    pub(crate) fn new(kind: Kind) -> Self {
        Self::of(kind, |repository| Source::Path(repository.to_owned()))
    }

    /// With a clone of a bare remote.
    pub(crate) fn remote(kind: Kind) -> Self {
        let site = Self::of(kind, |repository| Source::Url(format!("file://{}", repository.with_file_name("remote.git").display())));
        let remote = site.repository().with_file_name("remote.git");
        git(site.host.dir.path(), &["clone", "--quiet", "--bare", "repository", &remote.to_string_lossy()]);
        git(&site.repository(), &["remote", "add", "origin", &remote.to_string_lossy()]);
        site
    }

    fn of(kind: Kind, source: impl FnOnce(&Path) -> Source) -> Self {
        let mut host = Host::new(kind);
        fs::remove_dir(host.directory()).expect("rmdir");
        let repository = host.dir.path().join("repository");
        fs::create_dir(&repository).expect("mkdir");
        git(&repository, &["init", "--quiet"]);
        fs::write(repository.join("file.txt"), "one\n").expect("write");
        fs::write(repository.join(".gitignore"), "ignored/\n").expect("write");
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "--quiet", "-m", "first"]);
        let origin = Origin { name: "shop".to_owned(), source: source(&repository), store: host.dir.path().join("store/shop.git"), base: None };
        host.environment.extend(origin.variables());
        host.environment.push(("HOME", host.dir.path().join("home").display().to_string()));
        Self { host, origin }
    }

    /// The repository that the tests commit to.
    pub(crate) fn repository(&self) -> PathBuf {
        self.host.dir.path().join("repository")
    }

    /// The instance's worktree.
    pub(crate) fn worktree(&self) -> PathBuf {
        self.host.directory()
    }

    pub(crate) fn checkout(&self, branch: &str) -> Box<Checkout> {
        let name = "test-1".parse().expect("a name");
        Box::new(Checkout {
            origin: self.origin.clone(),
            branch: branch.to_owned(),
            shared: false,
            id: InstanceId::of(&[1; 16], &name),
            kind: "feature".parse().expect("a kind"),
            author: Author { name: "Claude Code (test-1)".to_owned(), email: "test-1@example.org".to_owned() },
            locks: None,
            verify: None,
            verify_attempts: 2,
            push: None,
            caches: Vec::new(),
            caches_directory: self.host.dir.path().join("caches"),
        })
    }

    /// Work for a shell in the worktree, on that branch.
    pub(crate) fn shell(&self, task: i64, branch: &str, script: &str) -> Work {
        let mut work = self.host.shell(script);
        work.attempt = crate::harness::attempt(task, 1);
        work.checkout = Some(self.checkout(branch));
        work
    }

    /// The same, whose branch goes to a remote.
    pub(crate) fn pushed(&self, task: i64, branch: &str, script: &str, remote: &str) -> Work {
        let mut work = self.shell(task, branch, script);
        work.checkout.as_mut().expect("a repository").push = Some(remote.to_owned());
        work
    }

    /// Work for the scripted agent, with a check.
    pub(crate) fn checked(&self, prompt: &str, check: &str) -> Work {
        let mut work = self.host.scripted(prompt);
        let mut checkout = self.checkout("a/checked");
        let command = ["/bin/sh", "-c", check].map(str::to_owned).to_vec();
        checkout.verify = Some(Verify { command, timeout: PATIENCE, memory: None });
        work.checkout = Some(checkout);
        work
    }

    /// A runner that is connected.
    pub(crate) fn connect(&mut self) -> Daemon {
        self.host.connect()
    }

    /// What git says is not committed in the worktree.
    pub(crate) fn status(&self) -> String {
        git(&self.worktree(), &["status", "--porcelain"])
    }

    /// The files of a commit or a ref, one a line.
    pub(crate) fn files(&self, of: &str) -> Vec<String> {
        git(&self.worktree(), &["ls-tree", "-r", "--name-only", of]).lines().map(str::to_owned).collect()
    }

    /// A file's content in a commit or a ref.
    pub(crate) fn content(&self, of: &str, path: &str) -> String {
        git(&self.worktree(), &["show", &format!("{of}:{path}")])
    }
}
