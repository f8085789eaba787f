//! What the tests of the parts have in common. Whole attempts are played in `tests/runner`: their end is the end of all
//! descendants of the runner, and in this process those would be every other test's.

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
        afresh: false,
        timeout: Duration::from_secs(60),
        budget: None,
        max_turns: None,
        schema: None,
        profile,
        checkout: None,
    }
}
