//! The CLI does not work without asking as root, and says so on standard error alone: the operator must be told what to do.

use crate::reply::Reply;
use crate::stage::Stage;
use clauded::core::attempt::{Ended, Reason};

#[test]
fn a_refusal_to_run_as_root_is_told_with_what_to_do() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "this test needs root");
        eprintln!("skipped: needs root");
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
