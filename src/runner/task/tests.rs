//! Whole attempts in this process are played in `tests/runner`; here is only what needs no process.

use super::*;
use crate::core::ids::{AttemptId, TaskId};
use crate::core::profile::{AgentKind, Profile};

/// A profile for tests, of the command adapter.
pub(in crate::runner) fn profile(command: &[&str]) -> Profile {
    Profile {
        name: "test".to_owned(),
        agent: AgentKind::Command,
        command: command.iter().map(|s| (*s).to_owned()).collect(),
        model: None,
        permission_mode: None,
        system_prompt: None,
        trust_repository: false,
        environment: Default::default(),
        stall_timeout: Duration::from_secs(60),
        kill_grace: Duration::from_secs(1),
        log_max: 1 << 20,
        pressure_percent: 80,
        pressure_time: Duration::from_secs(10),
    }
}

/// Work for tests.
pub(in crate::runner) fn work(profile: Profile, prompt: &str) -> Work {
    Work {
        attempt: AttemptId { task: TaskId(1), number: 1 },
        title: "test".to_owned(),
        prompt: prompt.to_owned(),
        resume: None,
        timeout: Duration::from_secs(60),
        budget: None,
        max_turns: None,
        profile,
    }
}

fn place(dir: &std::path::Path) -> Place {
    let given = |key: &str| matches!(key, "CLAUDED_DIRECTORY" | "STATE_DIRECTORY").then(|| dir.into());
    let settings = Settings::load(&["a".into()], given).expect("settings");
    Place { records: Records::new(&settings.state), settings: Arc::new(settings), confinement: Arc::new(Confinement::Subreaper) }
}

async fn finished(work: Work, place: Place) -> Report {
    let (_orders, receiver) = mpsc::channel(1);
    let (sender, mut notes) = mpsc::channel(8);
    run(work, place, receiver, sender).await;
    match notes.recv().await {
        Some(Note::Finished(report)) => *report,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_a_record_on_disk_nothing_is_started() {
    let dir = tempfile::tempdir().expect("tempdir");
    let place = place(dir.path());
    std::fs::remove_dir(dir.path().join("attempts")).expect("take the directory away");
    let report = finished(work(profile(&["/bin/sh", "-c", "touch ran"]), "x"), place).await;
    assert_eq!(report.ended.reason(), Some(Reason::Spawn));
    assert!(report.detail.contains("attempts/1.1.json.new"), "{}", report.detail);
    assert!(!dir.path().join("ran").exists());
}

#[tokio::test]
async fn what_cannot_be_started_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let report = finished(work(profile(&["no-such-agent"]), "x"), place(dir.path())).await;
    assert!(report.ended.reason() == Some(Reason::Spawn) && report.detail.contains("no-such-agent"), "{report:?}");
    let report = finished(work(profile(&[]), "x"), place(dir.path())).await;
    assert!(report.detail.contains("empty command"), "{report:?}");
}
