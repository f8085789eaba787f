//! Repositories that mean harm: what they name is not run, and never as root in what belongs to others.

use crate::forecast::ask;
use crate::harness::{Kind, appears};
use crate::repository::{Site, git, try_git};
use clauded::core::attempt::{Ended, Reason};
use clauded::core::forecast::Oid;
use clauded::proto::link::{Answer, Job};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

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
        let mut work = site.pushed(1, "a/b", "echo x > x", "evil");
        work.profile.trust_repository = trusted;
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
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/1", "touch made.txt"));
    let report = daemon.finished();
    assert!(report.ended.reason() == Some(Reason::Worktree) && report.detail.contains("git does not run as root in a repository of others"), "{report:?}");
    assert!(!site.worktree().exists() && !mark.exists());
}

/// Whatever is asked of a runner of root's, git does not run in a repository of others, even where root has set git's own guard aside.
#[test]
fn root_does_nothing_at_all_in_a_repository_of_others() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("root in another user's repository: the tests do not run as root");
    }
    const REFUSED: &str = "git does not run as root in a repository of others";
    for theirs in ["repository", "repository/.git", "work/.git"] {
        let mut site = Site::new(Kind::Subreaper);
        let mark = site.host.dir.path().join("ran");
        let home = site.host.dir.path().join("home");
        fs::create_dir(&home).expect("mkdir");
        fs::write(home.join(".gitconfig"), "[safe]\n\tdirectory = *\n").expect("write");
        let mut daemon = site.connect();
        // Its repository changes hands while it works, so that also what is at its end is tried.
        daemon.run(site.shell(1, "a/b", "echo x > x; touch ../ready; while [ ! -e ../go ]; do sleep 0.01; done"));
        appears(&site.host.dir.path().join("ready"));
        let spy = site.host.dir.path().join("spy");
        fs::write(&spy, format!("#!/bin/sh\ntouch {}\n", mark.display())).expect("write");
        fs::set_permissions(&spy, PermissionsExt::from_mode(0o755)).expect("chmod");
        git(&site.repository(), &["config", "filter.spy.clean", &spy.display().to_string()]);
        fs::write(site.repository().join(".git/info/attributes"), "* filter=spy\n").expect("write");
        chown(site.host.dir.path().join(theirs), Some(65534), None).expect("chown");
        let oid: Oid = "1".repeat(40).try_into().expect("an object");
        let running = [Job::Survey, Job::Merge { ours: oid.clone(), with: vec![oid] }, Job::History];
        for job in running.clone() {
            let answer = ask(&mut daemon, 1, job.clone());
            assert!(matches!(&answer, Answer::Refused(why) if why.contains(REFUSED)), "{theirs}: {job:?}: {answer:?}");
        }
        fs::write(site.host.dir.path().join("go"), "").expect("write");
        let report = daemon.finished();
        assert!(report.ended.reason() == Some(Reason::Worktree) && report.detail.contains(REFUSED), "{theirs}: {report:?}");
        for job in running.into_iter().chain([Job::Look, Job::Remove, Job::Tidy]) {
            let answer = ask(&mut daemon, 2, job.clone());
            assert!(matches!(&answer, Answer::Refused(why) if why.contains(REFUSED)), "{theirs}: {job:?}: {answer:?}");
        }
        // A runner that starts, and finds what the one before left there.
        daemon.run(site.shell(2, "a/c", "sleep 600"));
        let report = daemon.finished();
        assert!(report.ended.reason() == Some(Reason::Worktree) && report.detail.contains(REFUSED), "{theirs}: {report:?}");
        site.host.signal(nix::sys::signal::Signal::SIGTERM);
        site.host.wait();
        let _daemon = site.connect();
        site.host.says(REFUSED);
        assert!(!mark.exists(), "{theirs}");
    }
}

#[test]
fn a_runner_of_roots_rescues_nothing_from_a_repository_that_has_become_anothers() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("root in another user's repository: the tests do not run as root");
    }
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/b", "echo half > half.txt; sleep 600"));
    appears(&site.worktree().join("half.txt"));
    site.host.signal(nix::sys::signal::Signal::SIGKILL);
    site.host.wait();
    chown(site.repository(), Some(65534), None).expect("chown");
    let mut daemon = site.connect();
    let report = daemon.finished();
    assert_eq!((report.ended.reason(), report.work), (Some(Reason::Lost), None));
    assert!(site.host.log().contains("is not rescued yet; it stays in the worktree: ") && site.worktree().join("half.txt").exists(), "{}", site.host.log());
    assert!(site.host.log().contains("git does not run as root in a repository of others"), "{}", site.host.log());
}

/// Programs that the settings of a remote name, with a remote that would have git run them.
#[test]
fn nothing_that_a_remote_of_a_hostile_repository_names_is_run() {
    let remotes = [
        ("core.sshCommand", "ssh://127.0.0.1:1/x"),
        ("core.gitProxy", "git://127.0.0.1:1/x"),
        ("remote.evil.receivepack", ""),
        ("remote.evil.uploadpack", ""),
        ("remote.evil.vcs", "ext::x"),
    ];
    for (key, url) in remotes {
        let mut site = Site::remote(Kind::Subreaper);
        site.origin.source = clauded::core::checkout::Source::Path(site.repository());
        site.host.environment.retain(|(key, _)| !key.starts_with("CLAUDED_REPOSITORY"));
        site.host.environment.extend(site.origin.variables());
        let dir = site.host.dir.path().to_owned();
        let program = |path: &Path, script: &str| {
            fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("write");
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("chmod");
        };
        let (ran, spoke, tools, spy) = (dir.join("ran"), dir.join("spoke"), dir.join("tools"), dir.join("spy"));
        program(&spy, &format!("echo \"$@\" >> {}; exit 1", ran.display()));
        fs::create_dir(&tools).expect("mkdir");
        // The way that is left; it goes to no network.
        program(&tools.join("ssh"), &format!("echo \"$@\" >> {}; exit 1", spoke.display()));
        site.host.environment.push(("PATH", format!("{}:{}", tools.display(), std::env::var("PATH").expect("a path"))));
        let quiet = |arguments: &[&str]| git(&site.repository(), arguments);
        quiet(&["config", key, &spy.display().to_string()]);
        quiet(&["config", "branch.main.remote", "evil"]);
        quiet(&["config", "branch.main.merge", "refs/heads/main"]);
        let there = dir.join("remote.git").display().to_string();
        quiet(&["config", "remote.evil.url", if url.is_empty() { &there } else { url }]);
        let mut daemon = site.connect();
        daemon.run(site.pushed(1, "a/b", "echo x > x", "evil"));
        let report = daemon.finished();
        assert!(!ran.exists(), "{key} was run: {}", fs::read_to_string(&ran).unwrap_or_default());
        assert_eq!(report.work.as_ref().map(|work| work.commits), Some(1), "{key}: {report:?}");
        // It is the remote that was meant, and that one was spoken to.
        let wanted = if url.is_empty() { None } else { Some(Reason::Publish) };
        assert_eq!(report.ended.reason(), wanted, "{key}: {report:?}");
        assert_eq!(spoke.exists(), key == "core.sshCommand", "{key}");
        assert_eq!(try_git(Path::new(&there), &["rev-parse", "--verify", "a/b"]).status.success(), url.is_empty(), "{key}");
    }
}

#[test]
fn an_unprivileged_runner_works_as_its_user_alone() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("a runner of another user: the tests do not run as root");
    }
    let mut site = Site::new(Kind::Subreaper);
    // All that a repository may have run says as whom.
    let dir = site.host.dir.path().to_owned();
    let ids = dir.join("ids");
    let spy = format!("#!/bin/sh\necho \"$(basename \"$0\") $(id -u)\" >> {}\n[ $# -eq 0 ] || exit 0\nexec cat\n", ids.display());
    for name in [".git/hooks/pre-commit", ".git/hooks/post-checkout", "filter"] {
        let path = site.repository().join(name);
        fs::write(&path, &spy).expect("write");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    let filter = site.repository().join("filter").display().to_string();
    fs::write(site.repository().join(".git/info/exclude"), "/filter\n").expect("write");
    fs::write(site.repository().join(".gitattributes"), "*.txt filter=spy\n").expect("write");
    let quiet = |arguments: &[&str]| git(&site.repository(), &[&["-c", "core.hooksPath=/dev/null"], arguments].concat());
    quiet(&["add", "."]);
    quiet(&["commit", "--quiet", "-m", "attributes"]);
    quiet(&["config", "filter.spy.clean", &filter]);
    quiet(&["config", "filter.spy.smudge", &filter]);
    site.host.user = Some(65534);
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(&dir).status().expect("chown").success());
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("chmod");
    if Command::new(env!("CARGO_BIN_EXE_clauded-runner")).env_clear().uid(65534).stderr(Stdio::null()).status().is_err() {
        return crate::skip::skip("a runner of another user: it cannot reach the build directory");
    }
    let mut daemon = site.connect();
    let mut work = site.shell(1, "a/b", "echo x > x.txt");
    work.profile.trust_repository = true;
    daemon.run(work);
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    let data = fs::metadata(site.worktree().join("x.txt")).expect("there");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&data), 65534);
    for job in [Job::Look, Job::Survey, Job::History] {
        let answer = ask(&mut daemon, 1, job);
        assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
    }
    let ids = fs::read_to_string(ids).expect("they ran");
    for what in ["filter", "pre-commit", "post-checkout"] {
        assert!(ids.lines().any(|line| line == format!("{what} 65534")), "{what} did not run: {ids}");
    }
    assert!(ids.lines().all(|line| line.ends_with(" 65534")), "{ids}");
}
