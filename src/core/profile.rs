//! An agent and how to run it: what `[profiles.NAME]` resolves to.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// An agent and how to run it, resolved from `[profiles.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The profile's name.
    pub name: String,
    /// Which adapter.
    pub agent: AgentKind,
    /// The program, absolute or found on the runner's PATH, and its first arguments.
    pub command: Vec<String>,
    /// `--model`.
    pub model: Option<String>,
    /// `--permission-mode`.
    pub permission_mode: Option<String>,
    /// Appended to the agent's system prompt.
    pub system_prompt: Option<String>,
    /// Run the repository's own hooks, settings and MCP servers.
    pub trust_repository: bool,
    /// Added to the agent's environment; wins over what the runner sets.
    pub environment: BTreeMap<String, String>,
    /// End the attempt when the agent prints nothing for that long.
    pub stall_timeout: Duration,
    /// From the interrupt to SIGTERM, and from SIGTERM to `cgroup.kill`.
    pub kill_grace: Duration,
    /// Most bytes of an attempt's log on disk.
    pub log_max: u64,
    /// End the attempt when its cgroup was fully stalled on memory for this share (per cent) of the last ten seconds or more…
    pub pressure_percent: u8,
    /// …for that long.
    pub pressure_time: Duration,
}

/// Which adapter speaks with the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentKind {
    /// The Claude Code CLI, headless, stream-json both ways.
    Claude,
    /// Any program, the prompt on its standard input, judged by its exit status.
    Command,
}

/// How agents get a login. Each instance has a `CLAUDE_CONFIG_DIR` of its own, so that a login of its user is none of theirs.
pub fn credential_advice(profile: &str) -> String {
    format!(
        "put an API key, or the token of `claude setup-token` (with credential-variable = \"CLAUDE_CODE_OAUTH_TOKEN\"), \
         into a file of root alone and name it in [profiles.{profile}] credential-file"
    )
}
