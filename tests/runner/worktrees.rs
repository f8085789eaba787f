//! Worktrees as they should go: made, branched, checked, committed, pushed; and what is not committed is never lost.

use crate::harness::{Kind, appears, attempt, both};
use crate::repository::{Site, git, try_git};
use clauded::core::attempt::{Ended, Reason};
use clauded::core::checkout::Cache;
use clauded::core::delivery::{ChangedFile, Stage};
use clauded::proto::link::{Event, FromDaemon};
use std::fs;

#[test]
fn a_worktree_is_made_and_the_work_committed_on_its_own_branch() {
    both(|kind| {
        let mut site = Site::new(kind);
        let main = git(&site.repository(), &["rev-parse", "main"]);
        let mut daemon = site.connect();
        let mut work = site.shell(7, "claude-1/feat/user-auth", "echo two >> file.txt; echo new > new.txt; mkdir ignored; touch ignored/x; echo it is done");
        work.title = "User auth".to_owned();
        daemon.run(work);
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
        let work = report.work.expect("it has a repository");
        let (branch, head) = ("claude-1/feat/user-auth", work.head.clone().expect("a commit"));
        assert_eq!((work.repository.as_str(), work.branch.as_str(), work.base.as_deref(), work.commits), ("shop", branch, Some(&*main), 1));
        let file = |status: &str, path: &str| ChangedFile { status: status.to_owned(), path: path.to_owned() };
        assert_eq!((work.files, work.more_files), (vec![file("M", "file.txt"), file("A", "new.txt")], 0));
        assert!(work.rescue.is_none() && work.push.is_none() && work.verify.is_none() && work.disk_bytes.is_some_and(|bytes| bytes > 0));
        // In the repository itself, whose own files and branch are as they were.
        assert_eq!(git(&site.repository(), &["rev-parse", branch]), head);
        assert_eq!(git(&site.repository(), &["rev-parse", "HEAD"]), main);
        assert_eq!(git(&site.repository(), &["status", "--porcelain"]), "");
        let said = git(&site.repository(), &["log", "-1", "--format=%an <%ae>%n%B", branch]);
        let id = &site.checkout("x").id;
        assert_eq!(
            said,
            format!("Claude Code (test-1) <test-1@example.org>\nfeat: User auth\n\nit is done\n\nClauded-Task: 7.1\nClauded-Instance: test-1 ({id})")
        );
        assert_eq!(git(&site.repository(), &["log", "-1", "--format=%(trailers:key=Clauded-Task,valueonly)", branch]).trim(), "7.1");
        assert_eq!(site.status(), "");
        assert!(site.worktree().join("ignored/x").exists());
    });
}

#[test]
fn a_runner_makes_its_worktree_before_there_is_a_task_and_finds_it_again() {
    let mut site = Site::new(Kind::Subreaper);
    let daemon = site.connect();
    site.host.says("is made");
    assert!(site.worktree().join("file.txt").exists());
    site.host.signal(nix::sys::signal::Signal::SIGTERM);
    site.host.wait();
    drop(daemon);
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/b", "echo x > x"));
    assert_eq!(daemon.finished().work.map(|w| w.commits), Some(1));
    assert_eq!(site.host.log().matches("is made").count(), 1, "{}", site.host.log());
    assert!(!site.host.log().contains("is repaired"), "{}", site.host.log());
}

#[test]
fn a_remote_is_cloned_once_its_base_fetched_for_each_task_and_the_branch_pushed() {
    let mut site = Site::remote(Kind::Subreaper);
    let mut daemon = site.connect();
    for (task, text) in [(1, "one"), (2, "two")] {
        fs::write(site.repository().join("base.txt"), text).expect("write");
        git(&site.repository(), &["add", "."]);
        git(&site.repository(), &["commit", "--quiet", "-m", text]);
        git(&site.repository(), &["push", "--quiet", "origin", "main"]);
        daemon.run(site.pushed(task, &format!("a/{text}"), "cp base.txt seen.txt", "origin"));
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
        let work = report.work.expect("work");
        assert_eq!(work.base.as_deref(), Some(&*git(&site.repository(), &["rev-parse", "main"])));
        assert!(work.push.is_some_and(|push| push.remote == "origin" && push.refused.is_none()));
        git(&site.repository(), &["fetch", "--quiet", "origin"]);
        assert_eq!(git(&site.repository(), &["show", &format!("origin/a/{text}:seen.txt")]), text);
    }
    assert_eq!(fs::read_dir(site.origin.store.parent().expect("above")).expect("listed").filter(|e| e.as_ref().is_ok_and(|e| e.path().is_dir())).count(), 1);
}

#[test]
fn the_same_task_goes_on_in_the_tree_as_it_left_it_and_another_begins_in_a_clean_one() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/one", "echo half > half.txt; git rm -q file.txt; mkdir -p ignored; echo kept > ignored/k; exit 3"));
    let report = daemon.finished();
    assert_eq!(report.ended.reason(), Some(Reason::AgentError));
    // It is safe at once, and stays where it is.
    let kept = report.work.and_then(|work| work.rescue).expect("kept");
    assert_eq!(kept, "refs/clauded/rescue/test-1/1.1");
    assert_eq!(site.files(&kept), [".gitignore", "half.txt"]);
    let mut again = site.shell(1, "a/one", "cat half.txt; echo more >> half.txt; exit 3");
    again.attempt = attempt(1, 2);
    daemon.run(again);
    let report = daemon.finished();
    assert!(report.text.contains("half"), "{report:?}");

    // Something that nobody of ours has seen.
    fs::write(site.worktree().join("by-hand.txt"), "x").expect("write");
    daemon.run(site.shell(2, "a/two", "ls"));
    let report = daemon.finished();
    assert_eq!((report.ended, report.text.as_str()), (Ended::Succeeded, "file.txt\nignored"));
    let kept = "refs/clauded/rescue/test-1/1.2";
    assert_eq!(site.content(kept, "half.txt"), "half\nmore");
    assert!(site.files(kept).contains(&"by-hand.txt".to_owned()));
    assert!(site.host.task_log().contains(kept));
    assert_eq!(git(&site.worktree(), &["branch", "--show-current"]), "a/two");

    // The first goes on on its own branch, with all that it had left there.
    let mut again = site.shell(1, "a/one", "git branch --show-current; ls; cat half.txt; exit 3");
    again.attempt = attempt(1, 3);
    daemon.run(again);
    let report = daemon.finished();
    assert_eq!(report.text, "a/one\nby-hand.txt\nhalf.txt\nignored\nhalf\nmore");
    // Once: what it then leaves is what counts. And nowhere else: somebody has gone on with the branch.
    daemon.run(site.shell(3, "a/three", "ls"));
    assert_eq!(daemon.finished().text, "file.txt\nignored");
    git(&site.repository(), &["worktree", "add", "--quiet", "../by-hand", "a/one"]);
    git(&site.host.dir.path().join("by-hand"), &["commit", "--quiet", "--allow-empty", "-m", "on"]);
    git(&site.repository(), &["worktree", "remove", "../by-hand"]);
    let mut again = site.shell(1, "a/one", "git status --porcelain; ls");
    again.attempt = attempt(1, 4);
    daemon.run(again);
    let report = daemon.finished();
    assert_eq!((report.ended, report.text.as_str()), (Ended::Succeeded, "file.txt\nignored"));
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.3", "half.txt"), "half\nmore");
}

#[test]
fn what_an_attempt_left_whose_runner_was_killed_is_named_in_its_report() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    let here = site.host.dir.path().join("here");
    daemon.run(site.shell(
        1,
        "a/one",
        &format!("echo half > half.txt; git -c user.name=a -c user.email=a@localhost commit -q --allow-empty -m own; touch {}; sleep 600", here.display()),
    ));
    appears(&here);
    site.host.signal(nix::sys::signal::Signal::SIGKILL);
    site.host.wait();
    let mut daemon = site.connect();
    let report = daemon.finished();
    assert_eq!(report.ended.reason(), Some(Reason::Lost), "{report:?}");
    let work = report.work.expect("what it left");
    assert_eq!((work.branch.as_str(), work.commits, work.rescue.as_deref()), ("a/one", 1, Some("refs/clauded/rescue/test-1/1.1")));
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "half.txt"), "half");
    assert_eq!(site.status(), "?? half.txt", "the task goes on in it");
}

#[test]
fn what_an_interrupted_attempt_leaves_is_named_too() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/one", "echo half > half.txt; sleep 600"));
    appears(&site.worktree().join("half.txt"));
    site.host.signal(nix::sys::signal::Signal::SIGTERM);
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Interrupted, "{report:?}");
    assert_eq!(report.work.and_then(|work| work.rescue).as_deref(), Some("refs/clauded/rescue/test-1/1.1"));
}

#[test]
fn a_git_of_the_agents_that_was_killed_does_not_keep_its_work_from_being_committed() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/one", "echo x > x.txt; touch $(git rev-parse --git-dir)/index.lock $(git rev-parse --git-common-dir)/refs/heads/a/one.lock"));
    let report = daemon.finished();
    assert_eq!((report.ended, report.work.map(|work| work.commits)), (Ended::Succeeded, Some(1)));
}

#[test]
fn a_branch_that_exists_is_never_taken_over() {
    let mut site = Site::new(Kind::Subreaper);
    git(&site.repository(), &["branch", "a/same"]);
    let mut daemon = site.connect();
    for (task, wanted) in [(1, "a/same-1"), (2, "a/same-2")] {
        daemon.run(site.shell(task, "a/same", "echo $CLAUDED_TASK > x"));
        assert_eq!(daemon.finished().work.map(|work| work.branch).as_deref(), Some(wanted));
    }
    assert_eq!(git(&site.repository(), &["rev-parse", "a/same"]), git(&site.repository(), &["rev-parse", "main"]));
}

#[test]
fn what_does_not_pass_its_check_goes_back_to_the_agent_in_its_session() {
    both(|kind| {
        let mut site = Site::new(kind);
        let mut daemon = site.connect();
        // The agent does what the check prints.
        daemon.run(site.checked("write a.txt x\nsay first", "cat b.txt 2>/dev/null || { echo write b.txt mended; echo say second; exit 1; }"));
        let (mut stages, mut sessions) = (Vec::new(), Vec::new());
        let report = loop {
            match daemon.event().1 {
                Event::Started { session, .. } => sessions.push(session),
                Event::Entered { stage, .. } => stages.push(stage),
                Event::Finished { report, .. } => break *report,
                Event::Delivered { .. } => {}
            }
        };
        assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
        assert_eq!(stages, [Stage::Verifying, Stage::Running, Stage::Verifying, Stage::Publishing]);
        assert_eq!(sessions, [report.session]);
        let work = report.work.expect("work");
        let verify = work.verify.expect("checked");
        assert_eq!((verify.passed, verify.runs, verify.ended.as_str(), verify.output.as_str()), (true, 2, "exit status 0", "mended\n"));
        assert_eq!(work.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a.txt", "b.txt"]);
        // Both processes' answers are on the account.
        assert_eq!(report.agent.cost.0 / 1000, 6060 * report.agent.turns / 1000, "{:?}", report.agent);
        assert!(report.agent.turns >= 4, "{:?}", report.agent);
        assert!(site.host.task_log().contains(r#"{"stream":"verify","text":"mended"}"#), "{}", site.host.task_log());
        assert!(site.host.survivors().is_empty());
    });
}

#[test]
fn a_check_that_fails_for_good_fails_the_task_and_loses_nothing() {
    both(|kind| {
        let mut site = Site::new(kind);
        let mut daemon = site.connect();
        let mut work = site.checked("write a.txt x\nsay done", "setsid sleep 600 & echo 'a.txt is wrong' >&2; exit 4");
        if let Some(checkout) = &mut work.checkout {
            checkout.verify_attempts = 1;
        }
        daemon.run(work);
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Failed { reason: Reason::VerifyFailed, transient: false });
        assert_eq!(report.detail, "its work does not pass its check (run 2 times): exit status 4: a.txt is wrong");
        let work = report.work.expect("work");
        assert_eq!((work.commits, work.rescue.as_deref()), (0, Some("refs/clauded/rescue/test-1/1.1")));
        assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "a.txt"), "x");
        assert!(site.host.survivors().is_empty());
    });
}

#[test]
fn a_check_has_its_own_bounds_and_not_the_agents_login() {
    both(|kind| {
        let mut site = Site::new(kind);
        let key = site.host.dir.path().join("key");
        fs::write(&key, "sk-secret").expect("write");
        site.host.environment.push(("CLAUDED_CREDENTIAL_FILE", key.display().to_string()));
        let mut daemon = site.connect();
        let mut work = site.checked("write a.txt x", "echo key=$ANTHROPIC_API_KEY cache=$CARGO_TARGET_DIR; cat /proc/self/cgroup; sleep 600");
        if let Some(checkout) = &mut work.checkout {
            (checkout.verify_attempts, checkout.caches) = (0, vec![Cache::Cargo]);
            if let Some(verify) = &mut checkout.verify {
                verify.timeout = std::time::Duration::from_secs(1);
            }
        }
        daemon.run(work);
        let report = daemon.finished();
        let verify = report.work.and_then(|work| work.verify).expect("checked");
        assert_eq!((report.ended.reason(), verify.ended.as_str()), (Some(Reason::VerifyFailed), "it was ended after 1s"));
        assert!(verify.output.starts_with(&format!("key= cache={}\n", site.host.dir.path().join("caches/cargo").display())), "{verify:?}");
        assert_eq!(verify.output.trim_end().ends_with("/verify-1"), kind == Kind::Cgroup, "{verify:?}");
    });
}

#[test]
fn a_check_has_a_memory_budget_of_its_own_or_its_lack_is_said() {
    both(|kind| {
        let mut site = Site::new(kind);
        let mut daemon = site.connect();
        let mut work = site.checked("write a.txt x", "");
        if let Some(verify) = work.checkout.as_mut().and_then(|checkout| checkout.verify.as_mut()) {
            verify.memory = Some(64 << 20);
            // Its group is gone with it.
            verify.command = ["/bin/sh", "-c", "cat \"$0/verify-1/memory.max\" 2>&1; true"].map(str::to_owned).to_vec();
            verify.command.push(site.host.cgroup.as_ref().map(|group| group.display().to_string()).unwrap_or_default());
        }
        daemon.run(work);
        let report = daemon.finished();
        assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
        let said = report.work.and_then(|work| work.verify).expect("checked").output;
        if said.contains("No such file") {
            let bounded = site.host.log().contains("the check's memory is bounded by the instance's alone");
            // tests/vm/cases/coordination.sh asks a kernel that has the controller.
            assert_eq!(bounded, kind == Kind::Cgroup, "a budget that is not kept is said: {}", site.host.log());
        } else {
            assert_eq!(said, "67108864\n");
        }
    });
}

#[test]
fn build_caches_are_told_to_the_agent_and_to_its_check() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    let print = "echo $CARGO_TARGET_DIR $npm_config_cache $PIP_CACHE_DIR $SCCACHE_DIR $RUSTC_WRAPPER";
    let mut work = site.checked("", &format!("{print}; cat agent.txt"));
    let shell = site.shell(1, "a/b", &format!("{print} > agent.txt"));
    (work.profile, work.prompt) = (shell.profile, shell.prompt);
    if let Some(checkout) = &mut work.checkout {
        checkout.caches = Cache::ALL.map(|(_, cache)| cache).to_vec();
    }
    daemon.run(work);
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    let caches = site.host.dir.path().join("caches").display().to_string();
    let wanted = format!("{caches}/cargo {caches}/npm {caches}/pip {caches}/sccache sccache\n");
    assert_eq!(report.work.and_then(|work| work.verify).map(|verify| verify.output), Some(wanted.repeat(2)));
}

#[test]
fn a_stop_during_the_check_is_an_interruption_and_the_work_stays() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(site.checked("write a.txt x", "touch ignored-not.txt; sleep 600"));
    appears(&site.worktree().join("ignored-not.txt"));
    site.host.signal(nix::sys::signal::Signal::SIGTERM);
    let report = daemon.finished();
    assert_eq!(report.ended, Ended::Interrupted, "{report:?}");
    assert!(site.host.wait().success());
    assert_eq!(site.status(), "?? a.txt\n?? ignored-not.txt");
}

#[test]
fn a_task_is_cancelled_while_its_worktree_is_made() {
    let mut site = Site::new(Kind::Subreaper);
    // Whoever holds this keeps all other runners of the repository waiting.
    let lock = fs::File::create(site.repository().join(".git/clauded.lock")).expect("made");
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| e).expect("locked");
    let mut daemon = site.connect();
    daemon.run(site.shell(1, "a/b", "touch ran"));
    daemon.send(&FromDaemon::End { attempt: attempt(1, 1) });
    assert_eq!(daemon.finished().ended, Ended::Cancelled);
    drop(lock);
    daemon.run(site.shell(2, "a/b", "touch ran"));
    assert_eq!(daemon.finished().ended, Ended::Succeeded);
}

#[test]
fn members_that_share_a_worktree_stay_on_its_branch_and_leave_each_others_files() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    let shared = |site: &Site, task, script: &str| {
        let mut work = site.shell(task, "team/x", script);
        if let Some(checkout) = &mut work.checkout {
            checkout.shared = true;
        }
        work
    };
    daemon.run(shared(&site, 1, "echo one > one; exit 1"));
    assert_eq!(daemon.finished().work.map(|work| (work.branch, work.rescue)), Some(("team/x".to_owned(), None)));
    daemon.run(shared(&site, 2, "cat one"));
    let report = daemon.finished();
    assert_eq!((report.ended, report.text.as_str()), (Ended::Succeeded, "one"));
    assert_eq!(git(&site.worktree(), &["branch", "--show-current"]), "team/x");
    assert!(try_git(&site.repository(), &["show-ref", "--quiet", "refs/clauded"]).stdout.is_empty());
}
