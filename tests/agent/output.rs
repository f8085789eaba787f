//! The lines that it prints, with the keys of the recorded ones.

use crate::VERSION;
use crate::flags::Flags;
use crate::script::Failure;
use crate::session::Session;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

/// Prints a line at once; a reader that is gone ends nothing.
pub(crate) fn line(text: &str) {
    raw(format!("{text}\n").as_bytes());
}

/// How far a message on standard input has come.
pub(crate) fn lifecycle(command: &str, state: &str) {
    line(&json!({"type": "command_lifecycle", "command_uuid": command, "state": state, "uuid": uuid()}).to_string());
}

pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

pub(crate) fn long_line(bytes: usize) {
    let chunk = vec![b'x'; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(chunk.len());
        raw(chunk.get(..n).unwrap_or_default());
        left -= n;
    }
    raw(b"\n");
}

pub(crate) fn garbage() {
    raw(b"not json at all\n{\"type\":\n\x00\x01\xff\xfe\n{\"type\":\"ui_invalidate\",\"event\":\"x\"}\n[]\n");
}

pub(crate) fn half_utf8() {
    raw(b"{\"type\":\"assistant\",\"message\":{\"content\":\"\xc3\"}}\n\xe2\x82\n");
}

pub(crate) fn control_response(request: &Value) -> Value {
    json!({"type": "control_response", "response": {"subtype": "success", "request_id": request["request_id"], "response": {"still_queued": []}}})
}

/// Version 4 in form; random enough to tell events apart.
fn uuid() -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{:08x}-0000-4000-8000-{n:012x}", std::process::id())
}

pub(crate) struct Output {
    session: String,
    model: String,
    permission_mode: String,
    began: Instant,
    last_text: String,
    schema: bool,
    /// What fits the schema, if one was given.
    output: Option<Value>,
}

impl Output {
    pub(crate) fn new(flags: &Flags, session: &Session) -> Self {
        Self {
            session: session.id.clone(),
            model: flags.model.clone(),
            permission_mode: flags.permission_mode.clone(),
            began: Instant::now(),
            last_text: String::new(),
            schema: flags.schema,
            output: None,
        }
    }

    fn event(&self, mut value: Value) {
        value["session_id"] = json!(self.session);
        value["uuid"] = json!(uuid());
        line(&value.to_string());
    }

    pub(crate) fn init(&self) {
        let cwd = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
        self.event(json!({"type": "system", "subtype": "init", "cwd": cwd, "original_cwd": cwd, "tools": ["Bash", "Write"], "mcp_servers": [],
            "model": self.model, "permissionMode": self.permission_mode, "apiKeySource": "none", "claude_code_version": VERSION, "output_style": "default",
            "slash_commands": [], "agents": [], "skills": [], "plugins": [], "fast_mode_state": "off"}));
    }

    pub(crate) fn text(&mut self, session: &mut Session, text: &str) {
        session.answered();
        text.clone_into(&mut self.last_text);
        self.assistant(&json!({"type": "text", "text": text}));
    }

    /// Gives the result that a schema asks for; without one there is no such tool.
    pub(crate) fn structured(&mut self, session: &mut Session, output: &Value) {
        session.answered();
        if self.schema {
            self.output = Some(output.clone());
        }
    }

    pub(crate) fn tool(&mut self, session: &mut Session, name: &str, input: &str) {
        session.answered();
        let id = format!("toolu_{}", uuid());
        self.assistant(&json!({"type": "tool_use", "id": id, "name": name, "input": {"description": input}}));
        self.event(
            json!({"type": "user", "message": {"role": "user", "content": [{"tool_use_id": id, "type": "tool_result", "content": "ok", "is_error": false}]},
            "parent_tool_use_id": null, "timestamp": "2026-11-21T08:00:00.000Z", "tool_use_result": {"stdout": "ok", "stderr": "", "interrupted": false}}),
        );
    }

    fn assistant(&self, block: &Value) {
        self.event(json!({"type": "assistant", "message": {"id": format!("msg_{}", uuid()), "type": "message", "role": "assistant", "model": self.model,
            "content": [block], "stop_reason": null, "stop_sequence": null, "context_management": null,
            "usage": {"input_tokens": 1000, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 300, "output_tokens": 1}},
            "parent_tool_use_id": null, "request_id": "req_scripted", "timestamp": "2026-11-21T08:00:00.000Z"}));
    }

    /// What the real program prints before the result of such a failure.
    pub(crate) fn before(&mut self, failure: &Failure) {
        let Some((status, error, text)) = failure.api() else { return };
        if let Failure::Limit(resets) = failure {
            self.event(json!({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": resets, "rateLimitType": "five_hour",
                "overageStatus": "rejected", "overageDisabledReason": "org_level_disabled", "isUsingOverage": false}}));
        } else if matches!(failure, Failure::Server) {
            self.event(json!({"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10, "retry_delay_ms": 500, "error_status": status, "error": error}));
        }
        self.event(json!({"type": "assistant", "message": {"id": uuid(), "type": "message", "role": "assistant", "model": "<synthetic>",
            "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 0, "output_tokens": 0}}, "parent_tool_use_id": null,
            "error": error, "is_api_error_message": true, "api_error_status": status}));
    }

    pub(crate) fn unknown_session(&self, why: &str) {
        self.event(json!({"type": "result", "subtype": "error_during_execution", "is_error": true, "num_turns": 0, "errors": [why], "total_cost_usd": 0, "modelUsage": {}}));
    }

    pub(crate) fn result(&mut self, session: &mut Session, failure: Option<&Failure>) {
        let (total, since) = session.usage(&self.model);
        let [input, output, cache_read, cache_creation] = session.turn_tokens();
        let time = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // The question that was refused, by the server or for its number, counts as a turn.
        let turns = session.turns_now() + u64::from(failure.is_some_and(|f| f.api().is_some() || matches!(f, Failure::MaxTurns(_))));
        let mut value = json!({"type": "result", "subtype": "success", "is_error": failure.is_some(), "duration_ms": time, "duration_api_ms": time,
            "num_turns": turns, "total_cost_usd": session.cost(), "stop_reason": "end_turn", "terminal_reason": "completed",
            "usage": {"input_tokens": input, "output_tokens": output, "cache_read_input_tokens": cache_read, "cache_creation_input_tokens": cache_creation,
                "service_tier": "standard"},
            "modelUsage": total, "model_usage_since_last_result": since, "permission_denials": [], "safety_stops": 0, "queued_turn_count": 0,
            "result_index": session.results, "fast_mode_state": "off", "fast_mode_disabled_reason": "sdk_opt_in_required",
            "subagent_stats": {"spawned": 0, "completed": 0, "failed": 0}});
        session.results += 1;
        match failure {
            None => value["result"] = json!(self.output.as_ref().map_or_else(|| self.last_text.clone(), ToString::to_string)),
            Some(failure) => failure.fill(&mut value),
        }
        if let Some(output) = self.output.as_ref().filter(|_| failure.is_none()) {
            value["structured_output"] = output.clone();
        }
        self.event(value);
    }
}
