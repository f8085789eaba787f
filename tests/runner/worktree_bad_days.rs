//! Worktrees that are broken, gits that are killed, remotes and disks that refuse.

use crate::harness::{Kind, appears, attempt};
use crate::repository::{Site, git, try_git};
use clauded::core::attempt::{Ended, Reason, Report};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Runs a task that commits one file, in a runner that is started for it.
fn one_task(site: &mut Site, task: i64) -> Report {
    let mut daemon = site.connect();
    daemon.run(site.shell(task, &format!("a/{task}"), "echo x > made.txt; git status --porcelain"));
    let report = daemon.finished();
    site.host.signal(nix::sys::signal::Signal::SIGTERM);
    site.host.wait();
    report
}

fn good(site: &mut Site, task: i64) {
    let report = one_task(site, task);
    let log = site.host.log();
    assert_eq!((&report.ended, report.text.as_str()), (&Ended::Succeeded, "?? made.txt"), "task {task}: {report:?}\n{log}");
    assert_eq!(report.work.map(|work| work.commits), Some(1));
}

/// The worktree's own part of the repository.
fn own(site: &Site) -> PathBuf {
    git(&site.worktree(), &["rev-parse", "--absolute-git-dir"]).into()
}

#[test]
fn whatever_has_become_of_a_worktree_it_is_repaired() {
    let mut site = Site::new(Kind::Subreaper);
    good(&mut site, 1);

    fs::remove_dir_all(site.worktree()).expect("rm -r");
    good(&mut site, 2);

    fs::remove_file(site.worktree().join(".git")).expect("rm");
    good(&mut site, 3);

    fs::write(own(&site).join("index.lock"), "").expect("write");
    fs::write(own(&site).join("HEAD.lock"), "").expect("write");
    fs::write(own(&site).join("AUTO_MERGE.lock"), "").expect("write");
    // Of what all worktrees share: made when no git of now was there.
    let shared = PathBuf::from(git(&site.worktree(), &["rev-parse", "--path-format=absolute", "--git-common-dir"])).join("packed-refs.lock");
    let made = SystemTime::now() - Duration::from_secs(3600);
    fs::File::create(&shared).and_then(|file| file.set_modified(made)).expect("made");
    good(&mut site, 4);
    assert!(!shared.exists());

    fs::write(own(&site).join("index"), "garbage").expect("write");
    good(&mut site, 5);
    fs::remove_file(own(&site).join("index")).expect("rm");
    good(&mut site, 6);

    // Cut short by a kill while git was making it.
    let (there, link) = (own(&site), fs::read(site.worktree().join(".git")).expect("read"));
    fs::remove_dir_all(site.worktree()).expect("rm -r");
    fs::create_dir(site.worktree()).expect("mkdir");
    fs::write(site.worktree().join(".git"), &link).expect("write");
    fs::write(site.worktree().join("file.txt"), "o").expect("half of it");
    fs::remove_file(there.join("index")).expect("rm");
    fs::remove_file(there.join("clauded-made")).expect("rm");
    fs::write(there.join("index.lock"), "").expect("write");
    fs::write(there.join("locked"), "initializing").expect("write");
    good(&mut site, 7);

    // Likewise, with half of what makes it one; and while git took back what it had made.
    let there = own(&site);
    fs::write(there.join("HEAD"), format!("{}\n", "0".repeat(40))).expect("write");
    fs::remove_file(there.join("commondir")).expect("rm");
    fs::write(site.worktree().join("kept.txt"), "x").expect("write");
    good(&mut site, 71);
    let kept = git(&site.repository(), &["for-each-ref", "--format=%(refname)", "refs/clauded/rescue/test-1/"]);
    assert_eq!(git(&site.repository(), &["show", &format!("{}:kept.txt", kept.lines().last().expect("a ref"))]), "x", "{kept}");
    fs::remove_dir_all(own(&site)).expect("rm -r");
    good(&mut site, 72);
    fs::remove_dir_all(own(&site)).expect("rm -r");
    for name in ["file.txt", ".gitignore", "made.txt"] {
        fs::remove_file(site.worktree().join(name)).expect("rm");
    }
    let before = git(&site.repository(), &["for-each-ref", "refs/clauded"]);
    good(&mut site, 73);
    assert_eq!(git(&site.repository(), &["for-each-ref", "refs/clauded"]), before, "there was nothing to keep");

    // The instance's directory is another one now, and somebody has moved the worktree there.
    let moved = site.host.dir.path().join("moved");
    fs::rename(site.worktree(), &moved).expect("mv");
    fs::rename(&moved, site.worktree().with_file_name("work2")).expect("mv");
    site.host.environment.push(("CLAUDED_DIRECTORY", site.worktree().with_file_name("work2").display().to_string()));
    let report = one_task(&mut site, 8);
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(git(&site.repository(), &["worktree", "list"]).lines().count(), 2, "it was repaired, not made once more");
}

#[test]
fn a_repository_that_was_moved_is_found_again_by_its_worktree() {
    let mut site = Site::new(Kind::Subreaper);
    good(&mut site, 1);
    fs::write(site.worktree().join("kept.txt"), "x").expect("write");
    let there = site.host.dir.path().join("elsewhere");
    fs::rename(site.repository(), &there).expect("mv");
    site.origin.source = clauded::core::checkout::Source::Path(there.clone());
    site.host.environment.retain(|(key, _)| !key.starts_with("CLAUDED_REPOSITORY"));
    site.host.environment.extend(site.origin.variables());
    let report = one_task(&mut site, 2);
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(git(&there, &["show", "refs/clauded/rescue/test-1/1.1:kept.txt"]), "x");
}

#[test]
fn what_is_no_worktree_of_the_repository_is_left_alone_and_the_task_says_so() {
    let refused = |prepare: &dyn Fn(&Site), words: &str| {
        let mut site = Site::new(Kind::Subreaper);
        prepare(&site);
        let before = Command::new("find").arg(site.worktree()).output().expect("find").stdout;
        let report = one_task(&mut site, 1);
        assert_eq!(report.ended, Ended::Failed { reason: Reason::Worktree, transient: false }, "{report:?}");
        assert!(report.detail.contains(words), "{}\nlacks {words}", report.detail);
        assert!(site.host.log().contains("the worktree cannot be used"), "said before there was a task: {}", site.host.log());
        assert_eq!(Command::new("find").arg(site.worktree()).output().expect("find").stdout, before);
    };
    refused(
        &|site| {
            fs::create_dir(site.worktree()).expect("mkdir");
            fs::write(site.worktree().join("precious"), "x").expect("write");
        },
        "is not empty and is no worktree of",
    );
    refused(&|site| fs::write(site.worktree(), "x").expect("write"), "is not a directory; move it away");
    refused(
        &|site| {
            fs::create_dir(site.worktree()).expect("mkdir");
            git(&site.worktree(), &["init", "--quiet"]);
        },
        "is a worktree of",
    );
    refused(
        &|site| {
            git(&site.repository(), &["worktree", "add", "--quiet", "--detach", "../original"]);
            assert!(Command::new("cp").args(["-a", "original", "work"]).current_dir(site.host.dir.path()).status().expect("cp").success());
        },
        "is a copy of the worktree",
    );
    refused(&|site| fs::rename(site.repository(), site.host.dir.path().join("gone")).expect("mv"), "is not there; make it with git init");
    refused(&|site| fs::remove_dir_all(site.repository().join(".git")).expect("rm"), "is no git repository");
    refused(&|site| drop(git(&site.repository(), &["checkout", "--quiet", "--detach"])), "set [repositories.shop] default-branch");
}

#[test]
fn a_base_that_is_gone_fails_the_task_and_touches_nothing() {
    for remote in [false, true] {
        let mut site = if remote { Site::remote(Kind::Subreaper) } else { Site::new(Kind::Subreaper) };
        let mut daemon = site.connect();
        daemon.run(site.shell(1, "a/b", "echo x > x; exit 1"));
        daemon.finished();
        let mut work = site.shell(2, "a/c", "touch ran");
        if let Some(checkout) = &mut work.checkout {
            checkout.origin.base = Some("release".to_owned());
        }
        daemon.run(work);
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Failed { reason: Reason::Worktree, transient: false });
        assert!(report.detail.contains("the base branch \"release\" is not in") && report.detail.contains("default-branch"), "{}", report.detail);
        assert!(!site.worktree().join("ran").exists());
        assert_eq!(git(&site.worktree(), &["show", "refs/clauded/rescue/test-1/1.1:x"]), "x");
    }
}

#[test]
fn a_remote_that_cannot_be_reached_may_be_there_later() {
    let mut site = Site::remote(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/b", "true"));
    assert_eq!(daemon.finished().ended, Ended::Succeeded);
    fs::rename(site.host.dir.path().join("remote.git"), site.host.dir.path().join("away.git")).expect("mv");
    daemon.run(site.shell(2, "a/c", "true"));
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Worktree, transient: true }, "{report:?}");
}

/// Has the runner find a git that is killed at some of its calls, as `cases` of sh(1) on its arguments say, with marks in `$here`.
/// Answers that directory.
fn killed_git(site: &mut Site, cases: &str) -> std::path::PathBuf {
    let here = site.host.dir.path().join("tools");
    fs::create_dir(&here).expect("mkdir");
    let path = std::env::var("PATH").expect("a path");
    let script = format!("#!/bin/sh\nhere={}\ncase \" $* \" in\n{cases}\nesac\nPATH={path}; exec git \"$@\"\n", here.display());
    fs::write(here.join("git"), script).expect("write");
    fs::set_permissions(here.join("git"), fs::Permissions::from_mode(0o755)).expect("chmod");
    site.host.environment.push(("PATH", format!("{}:{path}", here.display())));
    here
}

#[test]
fn a_git_that_was_killed_is_no_fault_of_the_tasks() {
    let mut site = Site::remote(Kind::Subreaper);
    // Dies of the first push, of the first questions about the work, and of each fetch for the second task. For the third it is the
    // other end of the fetch that dies, in the middle of a sentence (gitprotocol-v2(5)).
    let cases = "*' push '*) [ -e $here/pushed ] || { touch $here/pushed; kill -9 $$; };;\n\
                 *' rev-list '*) [ -e $here/counted ] || { touch $here/counted; kill -9 $$; };;\n\
                 *' diff '*) [ -e $here/compared ] || { touch $here/compared; kill -9 $$; };;\n\
                 *' fetch '*) [ ! -e $here/broken ] || kill -9 $$; [ ! -e $here/far ] || for a; do shift\n                 case $a in --upload-pack=*) a=\"--upload-pack=printf '000eversion 2\\n'; kill -9 \\$\\$ #\";; esac; set -- \"$@\" \"$a\"; done;;";
    let tools = killed_git(&mut site, cases);
    let mut daemon = site.connect();
    daemon.run(site.pushed(1, "a/one", "echo x > x.txt", "origin"));
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert!(["pushed", "counted", "compared"].iter().all(|died| tools.join(died).exists()));
    let work = report.work.expect("work");
    assert!(work.commits == 1 && work.files.len() == 1 && work.push.is_some_and(|push| push.refused.is_none()), "what was done is known, and pushed");
    for (task, broken) in [(2, "broken"), (3, "far")] {
        fs::write(tools.join(broken), "").expect("write");
        daemon.run(site.shell(task, "a/two", "touch ran"));
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Failed { reason: Reason::Worktree, transient: true }, "{report:?}");
        fs::remove_file(tools.join(broken)).expect("removed");
    }
}

#[test]
fn what_a_failed_task_leaves_is_named_though_the_git_that_keeps_it_was_killed() {
    let mut site = Site::new(Kind::Subreaper);
    let tools = killed_git(&mut site, "*' commit-tree '*) [ -e $here/died ] || { touch $here/died; kill -9 $$; };;");
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/one", "echo x > x.txt; exit 3"));
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Failed { reason: Reason::AgentError, transient: false }, "{report:?}");
    assert!(tools.join("died").exists());
    let kept = report.work.and_then(|work| work.rescue).expect("a rescue ref");
    assert_eq!(site.content(&kept, "x.txt"), "x");
}

#[test]
fn a_push_that_is_refused_fails_the_task_in_the_remotes_words_and_the_work_is_committed() {
    let mut site = Site::remote(Kind::Subreaper);
    let hook = site.host.dir.path().join("remote.git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().expect("hooks")).expect("mkdir");
    fs::write(&hook, "#!/bin/sh\necho 'branches of agents are not taken' >&2\nexit 1\n").expect("write");
    fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("chmod");
    let mut daemon = site.connect();
    daemon.run(site.pushed(1, "a/b", "echo x > x", "origin"));
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Publish, transient: false });
    assert!(report.detail.starts_with("the work is committed on a/b, and origin did not take it: "), "{}", report.detail);
    assert!(report.detail.contains("branches of agents are not taken") && report.detail.contains("push origin a/b, or retry the task"), "{}", report.detail);
    let work = report.work.expect("work");
    assert!(work.commits == 1 && work.push.is_some_and(|push| push.refused.is_some()));
    assert_eq!(site.content("a/b", "x"), "x");
}

#[test]
fn a_push_that_the_instances_stop_cuts_short_is_made_by_the_next_attempt() {
    let mut site = Site::remote(Kind::Subreaper);
    let (here, remote) = (site.host.dir.path().join("here"), site.host.dir.path().join("remote.git"));
    let hook = remote.join("hooks/pre-receive");
    fs::create_dir_all(remote.join("hooks")).expect("mkdir");
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\nsleep 600\n", here.display())).expect("write");
    fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("chmod");
    let pushed = |number: u32, script: &str| {
        let mut work = site.pushed(1, "a/b", script, "origin");
        work.attempt = attempt(1, number);
        work
    };
    let works = [pushed(1, "echo x > x"), pushed(2, "exit 0")];
    let mut daemon = site.connect();
    let [first, second] = works;
    daemon.run(first);
    appears(&here);
    site.host.signal(nix::sys::signal::Signal::SIGTERM);
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Interrupted, "{report:?}");
    assert!(report.detail.ends_with("; the work is committed on a/b, and not pushed to origin"), "{}", report.detail);
    site.host.wait();
    fs::remove_file(&hook).expect("removed");
    let mut daemon = site.connect();
    daemon.run(second);
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(git(&remote, &["show", "a/b:x"]), "x");
}

#[test]
fn a_branch_that_the_remote_has_with_other_commits_is_left_as_it_is() {
    let mut site = Site::remote(Kind::Subreaper);
    git(&site.repository(), &["checkout", "--quiet", "-b", "a/b"]);
    git(&site.repository(), &["commit", "--quiet", "--allow-empty", "-m", "theirs"]);
    git(&site.repository(), &["push", "--quiet", "origin", "a/b"]);
    let theirs = git(&site.repository(), &["rev-parse", "a/b"]);
    let mut daemon = site.connect();
    daemon.run(site.pushed(1, "a/b", "echo x > x", "origin"));
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Publish, transient: false }, "{report:?}");
    assert!(report.detail.contains("origin did not take it: ") && report.detail.contains("(non-fast-forward)"), "{}", report.detail);
    assert_eq!(git(&site.host.dir.path().join("remote.git"), &["rev-parse", "a/b"]), theirs);
    let work = report.work.expect("work");
    assert!(work.commits == 1 && work.push.is_some_and(|push| push.refused.is_some()));
    assert_eq!(site.content("a/b", "x"), "x");
}

#[test]
fn a_default_branch_may_have_any_name_that_git_takes() {
    for name in ["-x", "--upload-pack=x", "refs/heads/main", "a;b$(c)", "caf\u{e9}"] {
        for remote in [false, true] {
            let mut site = if remote { Site::remote(Kind::Subreaper) } else { Site::new(Kind::Subreaper) };
            let there = if remote { site.host.dir.path().join("remote.git") } else { site.repository() };
            let full = format!("refs/heads/{name}");
            git(&site.repository(), &["commit", "--quiet", "--allow-empty", "-m", "second"]);
            let commit = git(&site.repository(), &["rev-parse", "HEAD"]);
            git(&site.repository(), &["push", "--quiet", &there.display().to_string(), &format!("HEAD:{full}")]);
            git(&there, &["symbolic-ref", "HEAD", &full]);
            git(&there, &["update-ref", "-d", "refs/heads/main"]);
            let mut daemon = site.connect();
            daemon.run(site.shell(1, "a/b", "echo x > x"));
            let report = daemon.finished();
            assert_eq!(report.ended, Ended::Succeeded, "{name}, remote {remote}: {report:?}");
            assert_eq!(report.work.and_then(|work| work.base).as_ref(), Some(&commit), "{name}, remote {remote}");
        }
    }
}

#[test]
fn a_full_disk_in_the_middle_of_a_checkout_loses_nothing_and_passes() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a full disk under a worktree: only root can mount a small file system");
    }
    let mut site = Site::new(Kind::Subreaper);
    let above = site.host.dir.path().join("small");
    let _mounted = Mounted::small(&above);
    site.host.environment.push(("CLAUDED_DIRECTORY", above.join("tree").display().to_string()));
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/one", "echo precious > precious.txt; exit 3"));
    assert_eq!(daemon.finished().ended.reason(), Some(Reason::AgentError));
    // The new base has more than the disk.
    for n in 0..8 {
        fs::write(site.repository().join(format!("big{n}")), vec![b'x'; 512 << 10]).expect("write");
    }
    git(&site.repository(), &["add", "."]);
    git(&site.repository(), &["commit", "--quiet", "-m", "big"]);
    daemon.run(site.shell(2, "a/two", "true"));
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Worktree, transient: true }, "{report:?}");
    assert!(report.detail.contains("unable to write file"), "{}", report.detail);
    assert_eq!(git(&site.repository(), &["show", "refs/clauded/rescue/test-1/1.1:precious.txt"]), "precious");
    git(&site.repository(), &["rm", "-q", "big0", "big1", "big2", "big3", "big4", "big5", "big6", "big7"]);
    git(&site.repository(), &["commit", "--quiet", "-m", "small again"]);
    let mut again = site.shell(2, "a/two", "git status --porcelain; cat file.txt");
    again.attempt = attempt(2, 2);
    daemon.run(again);
    let report = daemon.finished();
    assert_eq!((&report.ended, report.text.as_str()), (&Ended::Succeeded, "one"), "{report:?}");
    assert_eq!(report.work.map(|work| work.branch).as_deref(), Some("a/two"));
    assert!(try_git(&site.repository(), &["fsck", "--no-dangling"]).status.success());
}

/// A file system of 2 MiB; gone with this value.
struct Mounted(PathBuf);

impl Mounted {
    fn small(at: &Path) -> Self {
        fs::create_dir(at).expect("mkdir");
        let mounted = Self(at.to_owned());
        mounted.mount("size=2m,mode=0700");
        mounted
    }

    fn grow(&self) {
        self.mount("remount,size=32m");
    }

    fn mount(&self, options: &str) {
        assert!(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.0).status().expect("mount runs").success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_from_the_first_is_tried_again_and_leaves_nothing_half_made() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a full disk under a first worktree: only root can mount a small file system");
    }
    for clone in [false, true] {
        let mut site = if clone { Site::remote(Kind::Subreaper) } else { Site::new(Kind::Subreaper) };
        let above = site.host.dir.path().join("small");
        let mounted = Mounted::small(&above);
        if clone {
            site.origin.store = above.join("store/shop.git");
            site.host.environment.retain(|(key, _)| !key.starts_with("CLAUDED_REPOSITORY"));
            site.host.environment.extend(site.origin.variables());
        } else {
            site.host.environment.push(("CLAUDED_DIRECTORY", above.join("tree").display().to_string()));
        }
        // What does not become smaller when it is packed.
        let mut noise = vec![0; 4 << 20];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("open"), &mut noise).expect("read");
        fs::write(site.repository().join("big"), noise).expect("write");
        git(&site.repository(), &["add", "."]);
        git(&site.repository(), &["commit", "--quiet", "-m", "big"]);
        if clone {
            git(&site.repository(), &["push", "--quiet", "origin", "main"]);
        }
        let mut daemon = site.connect();
        daemon.run(site.shell(1, "a/one", "touch ran"));
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Failed { reason: Reason::Worktree, transient: true }, "clone {clone}: {report:?}");
        assert!(report.detail.contains("No space left on device") || report.detail.contains("unable to write file"), "{}", report.detail);
        mounted.grow();
        let mut again = site.shell(1, "a/one", "git status --porcelain; wc -c < big; touch ran");
        again.attempt = attempt(1, 2);
        daemon.run(again);
        let report = daemon.finished();
        assert_eq!((&report.ended, report.text.as_str()), (&Ended::Succeeded, "4194304"), "clone {clone}: {report:?}");
        assert_eq!(report.work.map(|work| (work.branch, work.commits)), Some(("a/one".to_owned(), 1)));
        let common = if clone { site.origin.store.clone() } else { site.repository() };
        assert_eq!(git(&common, &["worktree", "list"]).lines().count(), 2, "clone {clone}");
        let beside = fs::read_dir(common.parent().expect("above")).expect("listed").map(|entry| entry.expect("an entry").file_name());
        assert!(beside.into_iter().all(|name| !name.to_string_lossy().ends_with(".new")), "a half-made clone is left");
        assert!(try_git(&common, &["fsck", "--no-dangling"]).status.success());
    }
}
