//! The Claude Code CLI, headless, stream-json both ways. What it does was measured on 2.1.329 and three older versions.

use super::accounting::{Account, counts_over_sessions};
use super::judgement::{self, Signs};
use super::stream::{self, Assistant, Event, Outcome};
use super::{Agent, Condition, Interrupt, OUTPUT_MAX, Stream, Totals, WORDS_MAX, head, tail};
use crate::core::attempt::{Exit, Reason};
use crate::core::ids::SessionId;
use crate::core::usage::Usd;
use crate::core::verdict::AgentVerdict;
use crate::proto::link::Work;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Goes after the prompt in a conversation that has had it before: without it the model may begin anew.
const GO_ON: &str = "(Your work on this ended before it was finished. Go on from where this conversation and the files stand; do not start over.)";

/// How the next process finds its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    New,
    Resume,
}

pub(super) struct Claude {
    work: Work,
    session: SessionId,
    start: Start,
    /// Each way of starting that was tried; each is tried once.
    tried: Vec<Start>,
    /// What it is told instead of the prompt in a later process of the attempt.
    follow_up: Option<String>,
    before: Option<Totals>,
    version: String,
    account: Account,
    condition: Condition,
    signs: Signs,
    result: Option<Outcome>,
    answer: String,
    last_error: String,
    taken: Vec<Uuid>,
    mcp: Option<String>,
    settings: Option<PathBuf>,
}

impl Claude {
    pub(super) fn new(work: &Work, before: Option<Totals>) -> Self {
        let (session, start) = match work.resume {
            Some(session) => (session, Start::Resume),
            None => (SessionId(Uuid::new_v4()), Start::New),
        };
        Self {
            before: before.filter(|totals| totals.session == session),
            work: work.clone(),
            session,
            start,
            tried: vec![start],
            follow_up: None,
            version: String::new(),
            account: Account::default(),
            condition: Condition { doing: "starting".to_owned(), ..Condition::default() },
            signs: Signs::default(),
            result: None,
            answer: String::new(),
            last_error: String::new(),
            taken: Vec::new(),
            mcp: None,
            settings: None,
        }
    }

    /// With that MCP server, as `--mcp-config` has it.
    pub(super) fn with_mcp(self, mcp: Option<String>) -> Self {
        Self { mcp, ..self }
    }

    /// With a file of settings beside its own.
    pub(super) fn with_settings(mut self, settings: Option<&Path>) -> Self {
        self.settings = settings.map(Path::to_owned);
        self
    }

    fn doing(&mut self, what: &str) {
        what.clone_into(&mut self.condition.doing);
        self.condition.throttled = false;
    }

    fn assistant(&mut self, assistant: &Assistant) {
        let message = &assistant.message;
        if message.model != "<synthetic>" {
            self.account.answer(&message.id, &message.model, message.usage.tokens());
        }
        for block in &message.content {
            match block.kind.as_str() {
                "tool_use" => {
                    self.account.tool_call();
                    self.doing(head(&block.name, 64));
                }
                "thinking" => self.doing("thinking"),
                "text" => {
                    self.doing("writing");
                    if !block.text.trim().is_empty() {
                        tail(&block.text, WORDS_MAX).clone_into(&mut self.answer);
                    }
                }
                _ => {}
            }
        }
        if !assistant.error.is_empty() {
            assistant.error.clone_into(&mut self.signs.error);
            if let Some(at) = assistant.api_error_params.rate_limit_info.resets_at {
                self.signs.resets_at = Some(at);
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Init(init) => {
                // Older versions go on with a resumed conversation under a new ID.
                self.session = init.session_id.map_or(self.session, SessionId);
                if self.version.is_empty()
                    && counts_over_sessions(&init.claude_code_version)
                    && let Some(before) = self.before.as_ref().filter(|b| b.session == self.session)
                {
                    self.account.starts_from(before);
                }
                self.version = init.claude_code_version;
                self.doing("thinking");
            }
            Event::Retry(retry) => {
                let status = retry.error_status.map_or(retry.error, |s| s.to_string());
                self.condition.doing = format!("throttled ({})", head(&status, 40));
                self.condition.throttled = true;
            }
            Event::RateLimit(limit) => {
                self.signs.limit_rejected = limit.rate_limit_info.status == "rejected";
                if self.signs.limit_rejected {
                    self.signs.resets_at = limit.rate_limit_info.resets_at;
                }
            }
            Event::Assistant(assistant) => self.assistant(&assistant),
            Event::Command(command) => {
                if command.state == "started" {
                    self.taken.extend(command.command_uuid);
                }
            }
            Event::ToolResult => self.doing("thinking"),
            Event::Result(outcome) => {
                self.account.result(&outcome);
                self.result = Some(*outcome);
                self.doing("ending");
            }
        }
        self.condition.usage = self.account.usage();
    }

    /// The result that was asked for by a schema.
    fn output(&self) -> Option<String> {
        self.work.schema.as_ref().and(self.result.as_ref())?.structured_output.as_ref().map(ToString::to_string)
    }

    /// The program has held its result to the schema; if the model never came to one it ends like any other, without.
    fn fits(&self, result: &Outcome) -> AgentVerdict {
        let error = |text| AgentVerdict::Error { reason: Reason::AgentError, transient: false, text };
        match self.output() {
            Some(output) if output.len() <= OUTPUT_MAX => AgentVerdict::Success,
            Some(output) => error(format!("its result has {} bytes, and at most {OUTPUT_MAX} are taken; ask for less", output.len())),
            None => error(format!("it ended without a result that fits the JSON schema; it said: {}", head(&result.words(), 1000))),
        }
    }

    fn said(&self, words: &str) -> bool {
        self.last_error.contains(words) || self.result.as_ref().is_some_and(|r| r.words().contains(words))
    }
}

impl Agent for Claude {
    fn arguments(&self) -> Vec<String> {
        let mut list: Vec<String> =
            ["-p", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose"].into_iter().map(str::to_owned).collect();
        let mut add = |flag: &str, value: Option<String>| list.extend(value.into_iter().flat_map(|v| [flag.to_owned(), v]));
        match self.start {
            Start::New => add("--session-id", Some(self.session.to_string())),
            Start::Resume => add("--resume", Some(self.session.to_string())),
        }
        add("--settings", self.settings.as_ref().map(|file| file.display().to_string()));
        let profile = &self.work.profile;
        add("--model", profile.model.clone());
        add("--permission-mode", profile.permission_mode.clone());
        add("--append-system-prompt", profile.system_prompt.clone());
        add("--max-turns", self.work.max_turns.map(|n| n.to_string()));
        // The program holds the session's whole cost against it, and we give what is left: so what was spent comes on top.
        let spent = self.before.as_ref().filter(|_| self.start == Start::Resume).map_or(Usd(0), |b| b.cost);
        add("--max-budget-usd", self.work.budget.map(|left| (left + spent).dollars().to_string()));
        add("--json-schema", self.work.schema.as_ref().map(ToString::to_string));
        if let Some(mcp) = &self.mcp {
            add("--mcp-config", Some(mcp.clone()));
            // In no permission mode is there anyone to ask.
            add("--allowedTools", Some("mcp__clauded".to_owned()));
        }
        if !profile.trust_repository {
            // Headless, it runs an unknown repository's hooks and MCP servers without asking.
            add("--setting-sources", Some("user".to_owned()));
            list.push("--strict-mcp-config".to_owned());
        }
        list
    }

    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        &[("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"), ("DISABLE_AUTOUPDATER", "1"), ("DISABLE_TELEMETRY", "1"), ("MCP_TIMEOUT", "10000")]
    }

    fn input(&self) -> Vec<u8> {
        let prompt = self.work.prompt.as_str();
        let content = match (self.follow_up.as_deref(), self.start) {
            (None, Start::New) => vec![prompt],
            (None, Start::Resume) if self.work.afresh => vec![prompt],
            (None, Start::Resume) => vec![prompt, GO_ON],
            (Some(words), Start::Resume) => vec![words],
            // Its conversation was lost meanwhile.
            (Some(words), Start::New) => vec![prompt, words],
        };
        user_line(&content, None)
    }

    fn message(&self, uuid: Uuid, text: &str) -> Option<Vec<u8>> {
        Some(user_line(&[text], Some(uuid)))
    }

    fn taken(&mut self) -> Vec<Uuid> {
        std::mem::take(&mut self.taken)
    }

    /// It stays open for an interrupt until the first result; the program then waits for its background tasks by itself.
    fn input_done(&self) -> bool {
        self.result.is_some()
    }

    fn line(&mut self, from: Stream, line: &[u8]) {
        match from {
            Stream::Out => {
                if let Some(event) = stream::event(line) {
                    self.event(event);
                }
            }
            Stream::Err => {
                let text = String::from_utf8_lossy(line);
                if !text.trim().is_empty() {
                    head(text.trim(), 1000).clone_into(&mut self.last_error);
                }
            }
        }
    }

    fn interrupt(&self, input_open: bool) -> Interrupt {
        if input_open {
            let mut line = json!({"type": "control_request", "request_id": "stop", "request": {"subtype": "interrupt"}}).to_string().into_bytes();
            line.push(b'\n');
            Interrupt::Input(line)
        } else {
            Interrupt::Process
        }
    }

    /// On SIGTERM it ends its tools and MCP servers itself, in their order.
    fn terminate_group(&self) -> bool {
        false
    }

    fn again(&mut self, exit: Exit) -> Option<&'static str> {
        if !matches!(exit, Exit::Code(code) if code != 0) || !self.answer.is_empty() {
            return None;
        }
        let (next, why) = match self.start {
            Start::Resume if self.said("No conversation found") => (Start::New, "its session is not known any more; it starts again with a new one"),
            Start::New if self.said("already in use") => (Start::Resume, "its session exists already; it goes on with that"),
            _ => return None,
        };
        if self.tried.contains(&next) {
            return None;
        }
        self.tried.push(next);
        self.start = next;
        if next == Start::New {
            self.session = SessionId(Uuid::new_v4());
            self.before = None;
        }
        self.result = None;
        self.last_error.clear();
        self.doing("starting");
        Some(why)
    }

    fn follow_up(&mut self, words: String) {
        self.account.next_process(counts_over_sessions(&self.version));
        self.follow_up = Some(words);
        self.start = Start::Resume;
        self.tried = vec![Start::Resume];
        self.result = None;
        self.signs = Signs::default();
        self.answer.clear();
        self.last_error.clear();
        self.doing("starting");
    }

    fn condition(&self) -> &Condition {
        &self.condition
    }

    fn session(&self) -> Option<SessionId> {
        Some(self.session)
    }

    fn totals(&self) -> Option<Totals> {
        self.result.as_ref()?;
        let (cost, tokens) = self.account.cumulative.clone();
        counts_over_sessions(&self.version).then_some(Totals { session: self.session, cost, tokens })
    }

    fn verdict(&self, exit: Exit) -> AgentVerdict {
        match (&self.result, exit) {
            (Some(result), _) => match judgement::verdict(result, &self.signs) {
                AgentVerdict::Success if self.work.schema.is_some() => self.fits(result),
                other => other,
            },
            (None, Exit::Code(code)) if code != 0 && !self.last_error.is_empty() => judgement::refusal(&self.last_error),
            (None, _) => AgentVerdict::Silent,
        }
    }

    fn last_words(&self) -> String {
        if let Some(output) = self.output().filter(|output| output.len() <= OUTPUT_MAX) {
            return output;
        }
        let words = self.result.as_ref().map(Outcome::words).filter(|w| !w.is_empty());
        words.map_or_else(|| self.answer.clone(), |w| head(&w, WORDS_MAX).to_owned())
    }
}

/// A message of the user's, as a line of the agent's input.
fn user_line(texts: &[&str], uuid: Option<Uuid>) -> Vec<u8> {
    let content: Vec<Value> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
    let mut message = json!({"type": "user", "message": {"role": "user", "content": content}});
    if let (Some(uuid), Some(message)) = (uuid, message.as_object_mut()) {
        message.insert("uuid".to_owned(), json!(uuid));
    }
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
