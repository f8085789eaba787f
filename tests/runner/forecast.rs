//! A worktree is surveyed while an agent works in it, and the agent notices nothing.

use crate::harness::{Daemon, Kind, appears, both};
use crate::repository::{Site, git, try_git};
use clauded::core::attempt::Ended;
use clauded::core::forecast::{Merge, Oid, Survey};
use clauded::proto::link::{Answer, FromDaemon, FromRunner, Job};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(crate) fn ask(daemon: &mut Daemon, id: u64, job: Job) -> Answer {
    daemon.send(&FromDaemon::Ask { id, job });
    loop {
        match daemon.next().expect("the runner is there") {
            FromRunner::Answer { id: answered, answer } if answered == id => return answer,
            FromRunner::Event { seq, event } => {
                assert!(!format!("{event:?}").starts_with("Finished"), "{event:?}");
                daemon.send(&FromDaemon::Ack { seq });
            }
            _ => {}
        }
    }
}

fn survey(daemon: &mut Daemon, id: u64) -> Survey {
    match ask(daemon, id, Job::Survey) {
        Answer::Survey(survey) => *survey,
        other => panic!("{other:?}"),
    }
}

/// All files below a directory with their contents, and when each was last written.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let (mut open, mut found) = (vec![directory.to_owned()], Vec::new());
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("listed").map(|entry| entry.expect("an entry")) {
            let data = entry.metadata().expect("its data");
            match data.is_dir() {
                true => open.push(entry.path()),
                false => found.push((entry.path(), fs::read(entry.path()).unwrap_or_default(), data.modified().expect("a time"))),
            }
        }
    }
    found.sort();
    found
}

/// What the agent and its git can see: the files, the index, HEAD, the branches.
fn visible(site: &Site) -> impl PartialEq {
    let own = PathBuf::from(git(&site.worktree(), &["rev-parse", "--absolute-git-dir"]));
    let refs = git(&site.repository(), &["for-each-ref"]);
    (contents(&site.worktree()), contents(&own), refs)
}

fn oid(text: String) -> Oid {
    Oid::try_from(text).expect("an object")
}

/// A commit on the first one with that file, by plumbing: nothing is checked out.
fn commit(site: &Site, file: &str, content: &str) -> Oid {
    let index = site.host.dir.path().join("other.index");
    let run = |arguments: &[&str], input: &str| {
        use std::io::Write;
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(arguments).current_dir(site.repository());
        command.env("GIT_INDEX_FILE", &index).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("git runs");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    run(&["read-tree", "main"], "");
    let blob = run(&["hash-object", "-w", "--stdin"], content);
    run(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{file}")], "");
    let tree = run(&["write-tree"], "");
    oid(run(&["commit-tree", "-p", "main", "-m", "other", &tree], ""))
}

const WORK: &str = "echo two >> file.txt
echo staged > staged.txt; git add staged.txt; echo unstaged >> staged.txt
echo done > committed.txt; git add committed.txt; git -c user.name=a -c user.email=a@example.org commit --quiet -m mine -- committed.txt
mkdir ignored; touch ignored/x
printf x > ./-x; printf x > \"$(printf 'n\\nl')\"; printf x > \"$(printf 'b\\377')\"; printf x > ':(top)'
mkdir nested; git init --quiet nested; touch nested/y
head -c 9000000 /dev/zero > large.bin
touch .git-ready; mv .git-ready ../ready
while [ ! -e ../go ]; do sleep 0.01; done";

#[test]
fn a_running_task_is_surveyed_and_notices_nothing() {
    both(|kind| {
        let mut site = Site::new(kind);
        let mut daemon = site.connect();
        daemon.run(site.shell(7, "a/b", WORK));
        daemon.started();
        appears(&site.host.dir.path().join("ready"));
        // Looked at without a lock, so that it is not the test that writes the index.
        let status = || git(&site.worktree(), &["--no-optional-locks", "status", "--porcelain"]);
        let before = (visible(&site), status());
        let found = survey(&mut daemon, 1);
        assert!((visible(&site), status()) == before, "the agent's files, index and branches are not as they were");

        let main = git(&site.repository(), &["rev-parse", "main"]);
        assert_eq!(found.base.as_str(), main);
        let files = ["-x", ":(top)", "b\\xff", "committed.txt", "file.txt", "large.bin", "n\nl", "staged.txt"];
        assert_eq!((found.files.as_slice(), found.more_files), (files.map(str::to_owned).as_slice(), 0));
        assert_eq!(found.partial.as_deref(), Some("1 files over 8 MiB are not looked into"));
        let snapshot = found.snapshot.as_str();
        assert_eq!(site.content(snapshot, "file.txt"), "one\ntwo");
        assert_eq!(site.content(snapshot, "staged.txt"), "staged\nunstaged");
        let inside = site.files(snapshot).join(" ");
        assert!(!inside.contains("large.bin") && !inside.contains("nested") && !inside.contains("ignored/"), "{inside}");
        // No branch leads there, and looking again makes nothing new.
        assert_eq!(git(&site.repository(), &["for-each-ref", "--contains", snapshot]), "");
        assert_eq!(survey(&mut daemon, 2), found);

        let (clean, conflict) = (commit(&site, "other.txt", "x\n"), commit(&site, "file.txt", "one\nthree\n"));
        let gone = oid("1".repeat(40));
        let asked = Job::Merge { ours: found.snapshot.clone(), with: vec![clean, conflict, gone] };
        match ask(&mut daemon, 3, asked) {
            Answer::Merges(merges) => {
                assert_eq!(merges[..2], [Merge::Clean, Merge::Conflict(vec!["file.txt".to_owned()])]);
                assert!(matches!(&merges[2..], [Merge::Unknown(_)]), "{merges:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ask(&mut daemon, 4, Job::History), Answer::History(vec![vec![".gitignore".to_owned(), "file.txt".to_owned()]]));
        // What would change the worktree is refused as before.
        assert!(matches!(ask(&mut daemon, 5, Job::Look), Answer::Refused(why) if why.contains("task 7")));
        assert!((visible(&site), status()) == before);

        fs::write(site.host.dir.path().join("go"), "").expect("written");
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
        let work = report.work.expect("it has a repository");
        assert_eq!((work.commits, work.rescue), (2, None));
        assert!(site.files("a/b").contains(&"staged.txt".to_owned()));
    });
}

#[test]
fn a_hostile_repository_runs_nothing_when_it_is_surveyed_and_a_filter_that_fails_is_said() {
    let mut site = Site::new(Kind::Subreaper);
    let ran = site.host.dir.path().join("ran");
    let program = site.host.dir.path().join("evil");
    fs::write(&program, format!("#!/bin/sh\ntouch {}\n", ran.display())).expect("written");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    for key in ["core.fsmonitor", "diff.external", "core.pager", "gpg.program", "core.editor"] {
        git(&site.repository(), &["config", key, &program.to_string_lossy()]);
    }
    git(&site.repository(), &["config", "filter.bad.clean", "/nonexistent/filter"]);
    git(&site.repository(), &["config", "filter.bad.required", "true"]);
    fs::write(site.repository().join("tracked.bad"), "x").expect("written");
    git(&site.repository(), &["-c", "core.fsmonitor=false", "-c", "core.editor=true", "add", "."]);
    git(&site.repository(), &["-c", "core.fsmonitor=false", "commit", "--quiet", "--no-gpg-sign", "-m", "second"]);
    let mut daemon = site.connect();
    let script = "echo '*.bad filter=bad' > .gitattributes; echo x > x.bad; echo xx >> tracked.bad; echo y > y.txt; touch ../ready; while [ ! -e ../go ]; do sleep 0.01; done";
    daemon.run(site.shell(7, "a/b", script));
    daemon.started();
    appears(&site.host.dir.path().join("ready"));
    let found = survey(&mut daemon, 1);
    assert!(found.partial.as_deref().is_some_and(|why| why.contains("filter")), "{found:?}");
    assert_eq!(found.files, [".gitattributes", "tracked.bad", "x.bad", "y.txt"], "what can be read is, and the rest as it is");
    assert!(matches!(ask(&mut daemon, 2, Job::History), Answer::History(commits) if commits.len() == 2));
    assert!(!ran.exists(), "the repository's programs did not run");
}

#[test]
fn work_is_told_from_what_came_to_it_from_the_base() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    let script = "echo mine > mine.txt; touch ../ready; while [ ! -e ../merge ]; do sleep 0.01; done
        git -c user.name=a -c user.email=a@example.org merge --quiet main; touch ../merged; while [ ! -e ../go ]; do sleep 0.01; done";
    daemon.run(site.shell(7, "a/b", script));
    daemon.started();
    let there = |name: &str| site.host.dir.path().join(name);
    appears(&there("ready"));
    fs::write(site.repository().join("theirs.txt"), "x").expect("written");
    git(&site.repository(), &["add", "."]);
    git(&site.repository(), &["commit", "--quiet", "-m", "second"]);
    fs::write(there("merge"), "").expect("written");
    appears(&there("merged"));
    let found = survey(&mut daemon, 1);
    assert_eq!(found.files, ["mine.txt"]);
    assert_eq!(found.base.as_str(), git(&site.repository(), &["rev-parse", "main"]));
}

#[test]
fn the_object_store_is_tidied_when_git_finds_it_time_and_the_repository_does_not_say_never() {
    for (auto, expected) in [("1", true), ("0", false)] {
        let mut site = Site::new(Kind::Subreaper);
        for n in 0..1500 {
            fs::write(site.repository().join(format!("f{n}")), n.to_string()).expect("written");
        }
        git(&site.repository(), &["-c", "gc.auto=0", "add", "."]);
        git(&site.repository(), &["-c", "gc.auto=0", "commit", "--quiet", "-m", "many"]);
        git(&site.repository(), &["config", "gc.auto", auto]);
        let mut daemon = site.connect();
        assert_eq!(ask(&mut daemon, 1, Job::Tidy), Answer::Tidied);
        let packs = fs::read_dir(site.repository().join(".git/objects/pack")).expect("listed").count();
        assert_eq!(packs > 0, expected, "gc.auto = {auto}");
        assert!(try_git(&site.repository(), &["fsck", "--strict"]).status.success());
        assert_eq!(site.status(), "", "the worktree is as it was");
    }
}

#[test]
fn a_name_that_is_not_utf8_stays_itself() {
    // As the test above makes it, in case a shell's printf differs.
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(site.shell(7, "a/b", "touch ../ready; while [ ! -e ../go ]; do sleep 0.01; done"));
    daemon.started();
    appears(&site.host.dir.path().join("ready"));
    for name in [&b"\xfe"[..], b"\xff", b"../x/../y".as_slice()] {
        let _ = fs::write(site.worktree().join(std::ffi::OsStr::from_bytes(name)), "x");
    }
    assert_eq!(survey(&mut daemon, 1).files, ["\\xfe", "\\xff"]);
}
