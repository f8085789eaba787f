//! Both ways of merging, held against each other on a real repository. Where git itself is older than 2.38, the first is skipped.

use super::*;
use crate::core::checkout::{Origin, Source};
use crate::runner::settings::Settings;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().expect("tempdir") };
        fs::create_dir(site.root()).expect("mkdir");
        site.git(&["init", "--quiet"]);
        site
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("r:e\"p o")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"]).args(arguments);
        let output = command.current_dir(self.root()).env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A commit on top of another with these files written, or deleted.
    fn commit(&self, on: &str, files: &[(&[u8], Option<&str>)]) -> Oid {
        self.git(&["checkout", "--quiet", "--force", "--detach", on]);
        for (name, content) in files {
            let path = self.root().join(OsStr::from_bytes(name));
            match content {
                Some(content) => fs::write(path, content).expect("written"),
                None => fs::remove_file(path).expect("removed"),
            }
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
        Oid::try_from(self.git(&["rev-parse", "HEAD"])).expect("an object")
    }

    fn origin(&self) -> Origin {
        Origin { name: "shop".to_owned(), source: Source::Path(self.root()), store: PathBuf::new(), base: None }
    }

    fn settings(&self) -> Settings {
        Settings {
            name: "test-1".parse().expect("a name"),
            directory: self.root(),
            origin: None,
            state: self.dir.path().to_owned(),
            link: PathBuf::new(),
            invocation: "0a".repeat(16).parse().expect("an invocation"),
            credential: None,
            ctl: None,
            hooks: None,
            cgroup: None,
        }
    }

    fn objects(&self) -> usize {
        self.git(&["count-objects"]).split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    }
}

/// What both ways say.
async fn both(site: &Site, ours: &Oid, theirs: &Oid) -> (Merge, Merge) {
    let settings = site.settings();
    let git = Git::new(&settings, &site.origin(), &[], false).expect("git");
    let own = look::git_directory(&git).await.expect("a repository");
    let scratch = Scratch::new(&own, &settings.name);
    fs::create_dir_all(scratch.objects()).expect("made");
    let merger = Merger { git: &git, scratch: &scratch, variables: elsewhere(&scratch, &own.join("objects")) };
    let plain = merger.one_by_one(ours.as_str(), theirs.as_str()).await.unwrap_or_else(|error| Merge::Unknown(error.to_string()));
    let whole = match merger.whole(ours.as_str(), theirs.as_str()).await {
        Err(error) if error.code == Some(USAGE) => plain.clone(),
        whole => whole.unwrap_or_else(|error| Merge::Unknown(error.to_string())),
    };
    (whole, plain)
}

const LINES: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";

#[tokio::test]
async fn both_ways_find_the_same_conflicts_and_leave_nothing_behind() {
    let site = Site::new();
    let odd: &[u8] = b"n\nl \xff";
    let start = site.commit_first(&[(b"a", Some(LINES)), (b"-x", Some(LINES)), (odd, Some(LINES)), (b"bin", Some("\0\x01"))]);
    let on = |files: &[(&[u8], Option<&str>)]| site.commit(start.as_str(), files);
    let line = |n: &str, to: &str| LINES.replace(n, to);
    let (first, last) = (line("1", "first"), line("9", "last"));
    let cases: [(Oid, Oid, Merge); 8] = [
        (on(&[(b"a", Some(&first))]), on(&[(b"a", Some(&last)), (b"new", Some("n"))]), Merge::Clean),
        (on(&[(b"a", Some(&first))]), on(&[(b"a", Some(&line("1", "other")))]), Merge::Conflict(vec!["a".to_owned()])),
        (
            on(&[(b"-x", Some(&first)), (odd, Some(&first)), (b"a", Some(&first))]),
            on(&[(b"-x", Some(&line("1", "z"))), (odd, Some(&line("1", "z"))), (b"a", Some(&last))]),
            Merge::Conflict(vec!["-x".to_owned(), "n\nl \\xff".to_owned()]),
        ),
        (on(&[(b"a", None)]), on(&[(b"a", Some(&last))]), Merge::Conflict(vec!["a".to_owned()])),
        (on(&[(b"a", None)]), on(&[(b"a", None), (b"-x", Some(&last))]), Merge::Clean),
        (on(&[(b"new", Some("same"))]), on(&[(b"new", Some("same"))]), Merge::Clean),
        (on(&[(b"new", Some("one"))]), on(&[(b"new", Some("other"))]), Merge::Conflict(vec!["new".to_owned()])),
        (on(&[(b"bin", Some("\0\x02"))]), on(&[(b"bin", Some("\0\x03"))]), Merge::Conflict(vec!["bin".to_owned()])),
    ];
    let before = (site.git(&["status", "--porcelain"]), site.objects());
    for (n, (ours, theirs, expected)) in cases.iter().enumerate() {
        assert_eq!(both(&site, ours, theirs).await, (expected.clone(), expected.clone()), "case {n}");
        assert_eq!(both(&site, theirs, ours).await, (expected.clone(), expected.clone()), "case {n}, turned round");
    }
    assert_eq!((site.git(&["status", "--porcelain"]), site.objects()), before);
    let left: Vec<_> = fs::read_dir(site.root().join(".git")).expect("listed").filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    assert!(left.iter().all(|name| !name.contains("survey")), "{left:?}");
}

#[tokio::test]
async fn what_cannot_be_merged_is_said_to_be_unknown() {
    let site = Site::new();
    let start = site.commit_first(&[(b"a", Some("1"))]);
    let gone = Oid::try_from("1".repeat(40)).expect("digits");
    let (whole, plain) = both(&site, &start, &gone).await;
    assert!(matches!((&whole, &plain), (Merge::Unknown(a), Merge::Unknown(_)) if !a.is_empty()), "{whole:?} {plain:?}");
    site.git(&["checkout", "--quiet", "--orphan", "other"]);
    site.git(&["commit", "--quiet", "-m", "x"]);
    let other = Oid::try_from(site.git(&["rev-parse", "HEAD"])).expect("an object");
    let (whole, plain) = both(&site, &start, &other).await;
    assert!(matches!((&whole, &plain), (Merge::Unknown(_), Merge::Unknown(_))), "{whole:?} {plain:?}");
}

impl Site {
    fn commit_first(&self, files: &[(&[u8], Option<&str>)]) -> Oid {
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "root"]);
        self.commit("HEAD", files)
    }
}
