//! What the scripted Messages API answers, as bytes: streamed answers and errors in the shapes of the real one.

use serde_json::{Value, json};

/// Tokens of every answer: input, output, cache read, cache creation; the scripted agent's are the same.
const TOKENS: [u64; 4] = [1000, 50, 300, 200];

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The model says that and its turn ends.
    Text(&'static str),
    /// The model calls a tool.
    Tool(&'static str, Value),
    /// The server refuses.
    Error { status: u16, kind: &'static str, message: &'static str, headers: Vec<(&'static str, String)> },
    /// The five-hour limit of a subscription is reached; it resets that many seconds after the answer.
    LimitedFor(i64),
    /// The connection stays open and silent.
    Never,
}

impl Reply {
    pub(crate) fn error(status: u16, kind: &'static str, message: &'static str) -> Self {
        Self::Error { status, kind, message, headers: Vec::new() }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::error(401, "authentication_error", "invalid x-api-key")
    }

    pub(crate) fn overloaded() -> Self {
        Self::error(529, "overloaded_error", "Overloaded")
    }

    /// Too many requests a minute: passes in that many seconds.
    pub(crate) fn too_fast(retry_after: u32) -> Self {
        let headers = vec![("retry-after", retry_after.to_string())];
        Self::Error { status: 429, kind: "rate_limit_error", message: "This request would exceed your rate limit", headers }
    }

    /// The five-hour limit of a subscription is reached; it resets at that second since the epoch.
    pub(crate) fn usage_limit(reset: i64) -> Self {
        let headers = vec![
            ("anthropic-ratelimit-unified-status", "rejected".to_owned()),
            ("anthropic-ratelimit-unified-reset", reset.to_string()),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour".to_owned()),
            ("anthropic-ratelimit-unified-5h-status", "rejected".to_owned()),
            ("anthropic-ratelimit-unified-5h-reset", reset.to_string()),
            ("anthropic-ratelimit-unified-5h-utilization", "1.01".to_owned()),
            ("anthropic-ratelimit-unified-overage-status", "rejected".to_owned()),
            ("anthropic-ratelimit-unified-overage-disabled-reason", "org_level_disabled".to_owned()),
        ];
        Self::Error { status: 429, kind: "rate_limit_error", message: "This request would exceed your account's rate limit", headers }
    }

    pub(crate) fn write(file: &str, content: &str) -> Self {
        Self::Tool("Write", json!({"file_path": file, "content": content}))
    }

    pub(crate) fn bash(command: &str) -> Self {
        Self::Tool("Bash", json!({"command": command, "description": "as scripted"}))
    }

    /// The whole HTTP answer; `None` if there is none ever.
    pub(crate) fn bytes(&self, model: &str) -> Option<Vec<u8>> {
        let (status, headers, body) = match self {
            Self::Never => return None,
            Self::LimitedFor(seconds) => return Self::usage_limit(jiff::Timestamp::now().as_second() + seconds).bytes(model),
            Self::Text(text) => (200, Vec::new(), stream(model, &Block::Text(text))),
            Self::Tool(name, input) => (200, Vec::new(), stream(model, &Block::Tool(name, input))),
            Self::Error { status, kind, message, headers } => {
                (*status, headers.clone(), json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"}).to_string())
            }
        };
        let kind = if status == 200 { "text/event-stream; charset=utf-8" } else { "application/json" };
        let mut head = format!("HTTP/1.1 {status} as scripted\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nrequest-id: req_mock\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        Some(format!("{head}\r\n{body}").into_bytes())
    }
}

enum Block<'a> {
    Text(&'a str),
    Tool(&'a str, &'a Value),
}

/// The server-sent events of one answer.
fn stream(model: &str, block: &Block<'_>) -> String {
    let [input, output, cache_read, cache_creation] = TOKENS;
    let id = uuid::Uuid::new_v4().simple();
    let (start, delta, reason) = match block {
        Block::Text(text) => (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}), "end_turn"),
        Block::Tool(name, arguments) => (
            json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": arguments.to_string()}),
            "tool_use",
        ),
    };
    let usage = json!({"input_tokens": input, "cache_creation_input_tokens": cache_creation, "cache_read_input_tokens": cache_read, "output_tokens": 1});
    let message = json!({"id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": usage});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": output}}),
        json!({"type": "message_stop"}),
    ];
    events.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap_or_default())).collect()
}
