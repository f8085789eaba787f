//! One runner with the real CLI as its agent, and the API that it asks.

use crate::api::Api;
use crate::harness::{Host, Kind};
use crate::program;
use crate::reply::Reply;
use clauded::core::profile::AgentKind;
use clauded::proto::link::Work;
use std::fs;
use std::time::Duration;

/// Known to the CLI, which computes the cost from its list price.
pub(crate) const MODEL: &str = "claude-opus-5-5";
/// What one answer of the scripted API costs at that price, in millionths of a dollar.
pub(crate) const ANSWER: u64 = 6060;
/// The credential of every run.
pub(crate) const KEY: &str = "sk-ant-api03-dummy";

pub(crate) struct Stage {
    pub host: Host,
    pub api: Api,
}

impl Stage {
    /// `None` where there is no CLI, which has been said then.
    pub(crate) fn new(replies: Vec<Reply>) -> Option<Self> {
        program::find()?;
        let mut host = Host::new(Kind::Subreaper);
        let path = |name: &str| host.dir.path().join(name);
        for name in ["home", "credentials"] {
            fs::create_dir(path(name)).expect("made");
        }
        fs::write(path("credentials/agent-credential"), format!("{KEY}\n")).expect("written");
        host.environment = vec![("HOME", path("home").display().to_string()), ("CREDENTIALS_DIRECTORY", path("credentials").display().to_string())];
        Some(Self { host, api: Api::new(replies) })
    }

    /// Puts a subscription's token in place of the API key.
    pub(crate) fn subscribe(&mut self) {
        self.host.environment.push(("CLAUDED_CREDENTIAL_VARIABLE", "CLAUDE_CODE_OAUTH_TOKEN".to_owned()));
    }

    /// Work for the CLI.
    pub(crate) fn work(&self, prompt: &str) -> Work {
        let program = program::find().expect("looked for").display().to_string();
        let mut profile = self.host.profile(AgentKind::Claude, &[&program]);
        profile.model = Some(MODEL.to_owned());
        profile.permission_mode = Some("bypassPermissions".to_owned());
        profile.environment.extend(environment(&self.api));
        profile.kill_grace = Duration::from_secs(5);
        self.host.work(profile, prompt)
    }
}

/// What a profile adds so that the CLI asks that API, even as root, and does not retry for minutes.
pub(crate) fn environment(api: &Api) -> [(String, String); 3] {
    let pair = |key: &str, value: String| (key.to_owned(), value);
    [pair("ANTHROPIC_BASE_URL", api.url()), pair("CLAUDE_CODE_MAX_RETRIES", "1".to_owned()), pair("IS_SANDBOX", "1".to_owned())]
}
