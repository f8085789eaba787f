//! The CLI does not work without asking as root, and says so on standard error alone: the operator must be told what to do.

use crate::reply::Reply;
use crate::stage::Stage;
use clauded::core::attempt::{Ended, Reason};
use std::path::Path;

/// `nobody`, who owns nothing and needs no entry in the user database.
const NOBODY: u32 = 65534;

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        crate::skip::skip("the CLI as root and as another user: only root can be both");
    }
    root
}

/// Gives a directory and all in it away.
fn give(path: &Path, id: u32) {
    std::os::unix::fs::chown(path, Some(id), Some(id)).expect("given away");
    if path.is_dir() {
        std::fs::read_dir(path).expect("listed").for_each(|entry| give(&entry.expect("an entry").path(), id));
    }
}

#[test]
fn another_user_works_without_asking() {
    if !root() {
        return;
    }
    let Some(mut stage) = Stage::new(vec![Reply::bash("id -u > who.txt"), Reply::Text("done")]) else { return };
    let mut work = stage.work("hello");
    work.profile.environment.remove("IS_SANDBOX");
    give(stage.host.dir.path(), NOBODY);
    stage.host.user = Some(NOBODY);
    let report = stage.host.report(work);
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
    assert_eq!(std::fs::read_to_string(stage.host.directory().join("who.txt")).expect("written"), "65534\n");
}

#[test]
fn a_refusal_to_run_as_root_is_told_with_what_to_do() {
    if !root() {
        return;
    }
    let Some(mut stage) = Stage::new(Vec::new()) else { return };
    let mut work = stage.work("hello");
    work.profile.environment.remove("IS_SANDBOX");
    let report = stage.host.report(work);
    assert_eq!(report.ended, Ended::Failed { reason: Reason::Spawn, transient: false }, "{report:?}");
    for word in ["root", "user", "permission-mode", "IS_SANDBOX"] {
        assert!(report.detail.contains(word), "{word}: {report:?}");
    }
}

#[test]
fn as_root_a_mode_that_asks_works() {
    let Some(mut stage) = Stage::new(vec![Reply::Text("fine")]) else { return };
    let mut work = stage.work("hello");
    work.profile.environment.remove("IS_SANDBOX");
    work.profile.permission_mode = Some("acceptEdits".to_owned());
    let report = stage.host.report(work);
    assert_eq!(report.ended, Ended::Succeeded, "{report:?}");
}
