//! Worktrees that are broken, agents that leave a mess, repositories that mean harm, remotes and disks that refuse.

use crate::harness::{Kind, attempt};
use crate::repository::{Site, git, try_git};
use clauded::core::attempt::{Ended, Reason, Report};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

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
    good(&mut site, 4);

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

#[test]
fn a_push_that_is_refused_fails_the_task_in_the_remotes_words_and_the_work_is_committed() {
    let mut site = Site::remote(Kind::Subreaper);
    let hook = site.host.dir.path().join("remote.git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().expect("hooks")).expect("mkdir");
    fs::write(&hook, "#!/bin/sh\necho 'branches of agents are not taken' >&2\nexit 1\n").expect("write");
    fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("chmod");
    let mut daemon = site.connect();
    let mut work = site.shell(1, "a/b", "echo x > x");
    if let Some(checkout) = &mut work.checkout {
        checkout.push = Some("origin".to_owned());
    }
    daemon.run(work);
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Publish, transient: false });
    assert!(report.detail.starts_with("the work is committed on a/b, and origin did not take it: "), "{}", report.detail);
    assert!(report.detail.contains("branches of agents are not taken") && report.detail.contains("push origin a/b, or retry the task"), "{}", report.detail);
    let work = report.work.expect("work");
    assert!(work.commits == 1 && work.push.is_some_and(|push| push.refused.is_some()));
    assert_eq!(site.content("a/b", "x"), "x");
}

/// What came of a task whose agent did that, and of the one after it.
fn mess(prepare: &str, script: &str) -> (Site, Report) {
    let mut site = Site::new(Kind::Subreaper);
    git(&site.repository(), &["branch", "other"]);
    if !prepare.is_empty() {
        let done = Command::new("sh").args(["-ec", prepare]).current_dir(site.repository()).env("GIT_CONFIG_GLOBAL", "/dev/null").status();
        assert!(done.expect("sh").success());
    }
    let mut daemon = site.connect();
    let script = format!("set -e; git config user.name Agent; git config user.email agent@example.org; {script}");
    daemon.run(site.shell(1, "a/one", &script));
    let report = daemon.finished();
    daemon.run(site.shell(2, "a/two", "git status --porcelain; git branch --show-current"));
    let next = daemon.finished();
    assert_eq!(next.ended, Ended::Succeeded, "the next task is to have a clean tree: {next:?}\nafter {report:?}");
    assert!(next.text.ends_with("a/two") && !next.text.contains(" M ") && !next.text.contains("UU"), "{next:?}");
    (site, report)
}

const CONFLICT: &str = "git checkout -q other; echo theirs > file.txt; git -c user.name=A -c user.email=a@b commit -qam theirs; git checkout -q main";

#[test]
fn a_merge_in_conflict_is_rescued_with_its_marks() {
    let (site, report) = mess(CONFLICT, "echo ours > file.txt; git commit -qam ours; git merge other || echo left; echo more > more.txt");
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Worktree, transient: false });
    assert!(report.detail.contains("a merge with 1 files in conflict") && report.detail.contains("refs/clauded/rescue/test-1/1.1"), "{}", report.detail);
    assert!(site.content("refs/clauded/rescue/test-1/1.1", "file.txt").contains("<<<<<<<"));
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "more.txt"), "more");
    assert_eq!(report.work.map(|work| work.commits), Some(1), "what it committed is on its branch");
}

#[test]
fn a_merge_that_is_resolved_is_committed_as_one() {
    let (site, report) = mess(CONFLICT, "echo ours > file.txt; git commit -qam ours; git merge other || true; echo both > file.txt; git add file.txt");
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(git(&site.repository(), &["show", "-s", "--format=%P", "a/one"]).split(' ').count(), 2);
    assert_eq!(site.content("a/one", "file.txt"), "both");
}

#[test]
fn a_rebase_half_done_and_a_bisection_are_rescued_and_given_up() {
    let (site, report) = mess(CONFLICT, "echo ours > file.txt; git commit -qam ours; git rebase other || echo left");
    assert!(report.ended.reason() == Some(Reason::Worktree) && report.detail.contains("a rebase half done"), "{report:?}");
    assert!(report.work.as_ref().is_some_and(|work| work.rescue.is_some()));
    assert_eq!(site.content("a/one", "file.txt"), "ours", "its branch has what it had");
    let (_, report) = mess("", "git bisect start; git bisect bad; echo x > x");
    assert!(report.detail.contains("a bisect half done"), "{report:?}");
}

#[test]
fn commits_on_a_detached_head_or_a_branch_of_its_own_come_to_the_tasks_branch() {
    for go in ["git checkout -q --detach", "git checkout -qb mine", "git branch -m renamed"] {
        let (site, report) = mess("", &format!("{go}; echo x > x; git add x; git commit -qm mine; echo y > y"));
        assert_eq!(report.ended, Ended::Succeeded, "{go}: {report:?}");
        assert_eq!(report.work.map(|work| (work.branch, work.commits)), Some(("a/one".to_owned(), 2)), "{go}");
        assert_eq!(site.files("a/one"), [".gitignore", "file.txt", "x", "y"], "{go}");
    }
}

#[test]
fn changes_that_an_agent_leaves_on_a_strange_branch_are_kept_off_it() {
    let (site, report) = mess(
        "git checkout -q other; echo z > z; git add z; git -c user.name=A -c user.email=a@b commit -qm z; git checkout -q main",
        "echo x > x; git add x; git commit -qm x; git checkout -q other; echo stray > stray",
    );
    assert!(report.ended.reason() == Some(Reason::Worktree) && report.detail.contains("left its changes on branch other and not on a/one"), "{report:?}");
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "stray"), "stray");
    assert_eq!(site.files("other"), [".gitignore", "file.txt", "z"]);
    // One that only looked there has nothing to lose.
    let (_, report) = mess(
        "git checkout -q other; echo z > z; git add z; git -c user.name=A -c user.email=a@b commit -qm z; git checkout -q main",
        "echo x > x; git add x; git commit -qm x; git checkout -q other",
    );
    assert_eq!((report.ended, report.work.map(|work| work.commits)), (Ended::Succeeded, Some(1)));
}

#[test]
fn commits_that_no_branch_has_are_rescued_with_a_clean_tree() {
    let (site, report) = mess("", "git checkout -q --detach; echo x > x; git add x; git commit -qm lonely; exit 3");
    assert_eq!(report.ended.reason(), Some(Reason::AgentError));
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "x"), "x");
}

#[test]
fn what_was_staged_is_kept_beside_what_stands_in_the_files() {
    let (site, _) = mess("", "echo staged > file.txt; git add file.txt; echo later > file.txt; exit 3");
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "file.txt"), "later");
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1^2", "file.txt"), "staged");
}

#[test]
fn a_repository_within_the_worktree_is_neither_committed_nor_deleted() {
    let (site, report) =
        mess("", "mkdir -p sub/in; cd sub/in; git init -q; echo x > x; git add x; git -c user.name=A -c user.email=a@b commit -qm x; cd ../..; echo y > y");
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(site.files("a/one"), [".gitignore", "file.txt", "y"]);
    assert!(site.worktree().join("sub/in/x").exists());
}

#[test]
fn names_of_files_may_be_anything() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    let names: [&[u8]; 6] = [b"-rf", b"two\nlines", b"caf\xe9", b"--upload-pack=x", b":(exclude)y", b" blank "];
    for (task, script) in [(1, "exit 3"), (2, "true")] {
        let touch: Vec<String> =
            names.iter().map(|name| format!("printf '%b' x > ./\"$(printf '{}')\"", name.iter().map(|b| format!("\\{b:03o}")).collect::<String>())).collect();
        let mut work = site.shell(task, &format!("a/{task}"), &format!("{}; ln -s /etc/passwd out; {script}", touch.join("; ")));
        work.title = "-m --amend\u{85}".to_owned();
        daemon.run(work);
        let report = daemon.finished();
        assert_eq!(report.ended == Ended::Succeeded, task == 2, "{report:?}");
        let of = if task == 2 { "a/2" } else { "refs/clauded/rescue/test-1/1.1" };
        let listed = Command::new("git").args(["ls-tree", "-r", "-z", "--name-only", of]).current_dir(site.repository()).output().expect("git").stdout;
        let listed: Vec<&[u8]> = listed.split(|b| *b == 0).collect();
        for name in names {
            assert!(listed.contains(&name), "{of} lacks {:?}: {listed:?}", OsStr::from_bytes(name));
        }
        // A link is kept as one; nobody follows it.
        assert_eq!(git(&site.repository(), &["ls-tree", of, "out"]).split(' ').next(), Some("120000"));
    }
}

#[test]
fn a_filter_that_fails_keeps_the_work_off_the_branch_and_on_a_rescue_ref() {
    let filter = "git config filter.lfs.clean 'no-such-program clean'; git config filter.lfs.required true";
    let (site, report) = mess(
        "",
        &format!("echo '*.bin filter=lfs' > .gitattributes; git add .gitattributes; git commit -qm lfs; {filter}; echo raw > big.bin; echo t > t.txt"),
    );
    assert!(report.ended.reason() == Some(Reason::Worktree) && report.detail.contains("no-such-program"), "{report:?}");
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "big.bin"), "raw");
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "t.txt"), "t");
}

#[test]
fn nothing_that_a_hostile_repository_names_is_run_unless_it_is_trusted() {
    for trusted in [false, true] {
        let mut site = Site::new(Kind::Subreaper);
        let (repository, spy) = (site.repository(), site.host.dir.path().join("spy"));
        fs::create_dir(site.host.dir.path().join("ran")).expect("mkdir");
        fs::write(&spy, format!("#!/bin/sh\ntouch {}/ran/$(basename \"$0\")-$1\nexit 0\n", site.host.dir.path().display())).expect("write");
        fs::set_permissions(&spy, PermissionsExt::from_mode(0o755)).expect("chmod");
        for hook in ["post-checkout", "pre-commit", "commit-msg", "post-commit", "pre-push", "reference-transaction", "post-index-change", "prepare-commit-msg"]
        {
            symlink(&spy, repository.join(".git/hooks").join(hook)).expect("linked");
        }
        let spy = spy.display().to_string();
        for key in [
            "core.fsmonitor",
            "core.sshCommand",
            "core.askPass",
            "core.editor",
            "sequence.editor",
            "core.pager",
            "gpg.program",
            "diff.external",
            "core.gitProxy",
        ] {
            git(&repository, &["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "config", key, &spy]);
        }
        let off = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];
        let quiet = |arguments: &[&str]| git(&repository, &[&off[..], arguments].concat());
        quiet(&["config", "commit.gpgSign", "true"]);
        quiet(&["config", "core.alternateRefsCommand", &spy]);
        quiet(&["config", "branch.main.remote", "evil"]);
        quiet(&["config", "branch.main.merge", "refs/heads/main"]);
        quiet(&["config", "remote.evil.url", &format!("ext::{spy} ext")]);
        let mut daemon = site.connect();
        let mut work = site.shell(1, "a/b", "echo x > x");
        work.profile.trust_repository = trusted;
        if let Some(checkout) = &mut work.checkout {
            checkout.push = Some("evil".to_owned());
        }
        daemon.run(work);
        let report = daemon.finished();
        let ran: Vec<_> = fs::read_dir(site.host.dir.path().join("ran")).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
        if trusted {
            assert!(ran.iter().any(|name| name.to_string_lossy().starts_with("pre-commit")), "{ran:?}");
            assert!(!ran.iter().any(|name| name.to_string_lossy().contains("ext")), "{ran:?}");
        } else {
            assert_eq!(ran, [""; 0].map(std::ffi::OsString::from), "{report:?}");
            // The branch was made and committed, and the one thing that it is refused is the transport.
            assert_eq!((report.ended.reason(), report.work.map(|work| work.commits)), (Some(Reason::Publish), Some(1)), "{}", report.detail);
        }
    }
}

#[test]
fn root_does_not_work_in_a_repository_of_others() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("root in another user's repository: the tests do not run as root");
    }
    let mut site = Site::new(Kind::Subreaper);
    let hook = site.repository().join(".git/hooks/post-checkout");
    let mark = site.host.dir.path().join("ran");
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", mark.display())).expect("write");
    fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("chmod");
    chown(site.repository(), Some(65534), None).expect("chown");
    let report = one_task(&mut site, 1);
    assert!(report.ended.reason() == Some(Reason::Worktree) && report.detail.contains("git does not run as root in a repository of others"), "{report:?}");
    assert!(!site.worktree().exists() && !mark.exists());
}

#[test]
fn an_unprivileged_runner_works_as_its_user_alone() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a runner of another user: the tests do not run as root");
    }
    let mut site = Site::new(Kind::Subreaper);
    let owner = Some(65534);
    let give = |path: &Path| assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(path).status().expect("chown").success());
    site.host.user = owner;
    let dir = site.host.dir.path().to_owned();
    give(&dir);
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("chmod");
    if Command::new(env!("CARGO_BIN_EXE_clauded-runner")).env_clear().uid_of(65534).is_none() {
        return crate::skip::skip("a runner of another user: it cannot reach the build directory");
    }
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/b", "echo x > x"));
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    let data = fs::metadata(site.worktree().join("x")).expect("there");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&data), 65534);
}

trait UidOf {
    /// Whether that user can run the program at all.
    fn uid_of(&mut self, uid: u32) -> Option<()>;
}

impl UidOf for Command {
    fn uid_of(&mut self, uid: u32) -> Option<()> {
        use std::os::unix::process::CommandExt;
        self.uid(uid).stderr(std::process::Stdio::null()).status().ok().map(drop)
    }
}

#[test]
fn a_full_disk_in_the_middle_of_a_checkout_loses_nothing_and_passes() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a full disk under a worktree: only root can mount a small file system");
    }
    let mut site = Site::new(Kind::Subreaper);
    let above = site.host.dir.path().join("small");
    fs::create_dir(&above).expect("mkdir");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]).arg(&above).status().expect("mount runs");
    assert!(mounted.success());
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _mounted = Mounted(above.clone());
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
