//! What agents leave behind: all of it is kept, and the next task has a clean tree.

use crate::harness::Kind;
use crate::repository::{Site, git};
use clauded::core::attempt::{Ended, Reason, Report};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

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
fn a_branch_that_an_agent_makes_with_a_name_like_an_option_is_a_branch_like_others() {
    for name in ["-x", "--exec=x", "-"] {
        let made = format!("git update-ref 'refs/heads/{name}' HEAD; git symbolic-ref HEAD 'refs/heads/{name}'");
        let (site, report) = mess("", &format!("{made}; echo x > x; git add x; git commit -qm mine; echo y > y"));
        assert_eq!(report.ended, Ended::Succeeded, "{name}: {report:?}");
        assert_eq!(report.work.map(|work| (work.branch, work.commits)), Some(("a/one".to_owned(), 2)), "{name}");
        assert_eq!(site.files("a/one"), [".gitignore", "file.txt", "x", "y"], "{name}");
        let (site, report) = mess("", &format!("{made}; echo y > y; exit 3"));
        assert_eq!(report.ended.reason(), Some(Reason::AgentError), "{name}: {report:?}");
        assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "y"), "y", "{name}");
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
fn a_change_in_the_second_in_which_the_index_was_written_is_kept_though_no_time_and_no_size_tells_of_it() {
    // As if all of it were in one second (git's racy-git.txt): then the time of the index itself says that the file is to be read.
    let (site, _) = mess(
        "",
        "git config core.trustctime false; touch -d @1000000000 file.txt; git update-index --refresh; echo two > file.txt\n\
         touch -d @1000000000 file.txt $(git rev-parse --git-path index); exit 3",
    );
    assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "file.txt"), "two");
}
