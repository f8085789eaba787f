//! The second lock gate: what a task has changed is asked about before it is committed, however much it is.

use crate::harness::{Daemon, Kind};
use crate::repository::{Site, git};
use clauded::core::attempt::{Ended, Reason, Report};
use clauded::core::lock::{Policy, Uncovered};
use clauded::proto::link::{Event, FromDaemon, FromRunner, Work};
use std::collections::BTreeSet;

fn guarded(site: &Site, policy: Policy, script: &str) -> Work {
    let mut work = site.shell(1, "a/b", script);
    if let Some(checkout) = &mut work.checkout {
        checkout.locks = Some(policy);
    }
    work
}

/// Answers each question with those files of it that are without a lock, or not at all; what was asked, page by page.
fn answered(daemon: &mut Daemon, without: Option<&[&str]>) -> (Vec<Vec<String>>, Report) {
    let mut asked = Vec::new();
    loop {
        match daemon.next().expect("the runner is there") {
            FromRunner::Locks { attempt, files } => {
                if let Some(without) = without {
                    let lacks = files.iter().filter(|file| without.contains(&file.as_str()));
                    let uncovered = lacks.map(|path| Uncovered { path: path.clone(), holder: None }).collect();
                    daemon.send(&FromDaemon::Locks { attempt, uncovered });
                }
                asked.push(files);
            }
            FromRunner::Event { seq, event } => {
                daemon.send(&FromDaemon::Ack { seq });
                if let Event::Finished { report, .. } = event {
                    return (asked, *report);
                }
            }
            _ => {}
        }
    }
}

/// More files than are asked about at once; `zz.txt` is the last of them.
const MANY: &str = "mkdir d; cd d; seq -w 1 10005 | xargs touch; cd ..; echo z > zz.txt";

#[test]
fn every_file_is_asked_about_however_many_there_are() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(guarded(&site, Policy::Refuse, MANY));
    let (asked, report) = answered(&mut daemon, Some(&["zz.txt"]));
    assert_eq!(asked.iter().map(Vec::len).collect::<Vec<_>>(), [10_000, 6]);
    assert_eq!(asked.concat().into_iter().collect::<BTreeSet<_>>().len(), 10_006);
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Locks, transient: false }, "{report:?}");
    assert!(report.detail.starts_with("it changed files without a lock on them: zz.txt; take the locks first"), "{}", report.detail);
    let work = report.work.expect("work");
    assert_eq!((work.commits, work.rescue.as_deref()), (0, Some("refs/clauded/rescue/test-1/1.1")));

    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(guarded(&site, Policy::Refuse, MANY));
    let (_, report) = answered(&mut daemon, Some(&[]));
    assert_eq!((report.ended, report.work.map(|work| work.commits)), (Ended::Succeeded, Some(1)));
}

#[test]
fn what_could_not_be_asked_about_is_said() {
    let mut site = Site::new(Kind::Subreaper);
    let mut daemon = site.connect();
    daemon.run(guarded(&site, Policy::Warn, "echo x > x"));
    let (asked, report) = answered(&mut daemon, None);
    assert_eq!((asked, report.ended), (vec![vec!["x".to_owned()]], Ended::Succeeded));
    let said = "whether the files that it changed were locked cannot be told: clauded has not answered for 1 of 1 files";
    assert!(site.host.log().contains(said), "{}", site.host.log());
}

#[test]
fn what_git_cannot_tell_of_is_refused_where_locks_are_needed_and_said_where_not() {
    for policy in [Policy::Refuse, Policy::Warn] {
        let mut site = Site::new(Kind::Subreaper);
        let mut daemon = site.connect();
        git(&site.repository(), &["config", "filter.gone.required", "true"]);
        git(&site.repository(), &["config", "filter.gone.clean", "/nonexistent/filter"]);
        daemon.run(guarded(&site, policy, "echo '*.txt filter=gone' > .gitattributes; echo two > file.txt"));
        let (asked, report) = answered(&mut daemon, Some(&[]));
        assert_eq!((asked.len(), report.work.as_ref().map(|work| work.commits)), (0, Some(0)), "{report:?}");
        let wanted = if policy == Policy::Refuse { Reason::Locks } else { Reason::Worktree };
        assert_eq!(report.ended, Ended::Failed { reason: wanted, transient: false }, "{report:?}");
        assert!(site.host.log().contains("whether the files that it changed were locked cannot be told: git diff in "), "{}", site.host.log());
        assert_eq!(site.content("refs/clauded/rescue/test-1/1.1", "file.txt"), "two");
    }
}
