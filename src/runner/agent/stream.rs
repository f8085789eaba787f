//! The lines of `--output-format stream-json`, as far as they are read. Unknown types and fields are left alone, and a field of
//! an unexpected shape counts as missing: the format is not a contract.

use crate::core::usage::Tokens;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// One event.
#[derive(Debug)]
pub(super) enum Event {
    /// `system/init`, at the start of every turn.
    Init(Init),
    /// `system/api_retry`: the client waits before it asks its server again.
    Retry(Retry),
    /// `rate_limit_event`.
    RateLimit(RateLimit),
    /// `assistant`: a block of an answer.
    Assistant(Box<Assistant>),
    /// `user`: a tool's result, which the model now reads.
    ToolResult,
    /// `command_lifecycle`: how far a message on standard input has come.
    Command(Command),
    /// `result`: a turn is over.
    Result(Box<Outcome>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "type", deserialize_with = "lenient")]
    kind: String,
    #[serde(deserialize_with = "lenient")]
    subtype: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Command {
    #[serde(deserialize_with = "lenient")]
    pub(super) command_uuid: Option<uuid::Uuid>,
    /// `queued`, `started`, `completed`.
    #[serde(deserialize_with = "lenient")]
    pub(super) state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Init {
    #[serde(deserialize_with = "lenient")]
    pub(super) session_id: Option<uuid::Uuid>,
    #[serde(deserialize_with = "lenient")]
    pub(super) claude_code_version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Retry {
    #[serde(deserialize_with = "lenient")]
    pub(super) error_status: Option<u16>,
    #[serde(deserialize_with = "lenient")]
    pub(super) error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RateLimit {
    #[serde(deserialize_with = "lenient")]
    pub(super) rate_limit_info: RateLimitInfo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RateLimitInfo {
    #[serde(deserialize_with = "lenient")]
    pub(super) status: String,
    /// Seconds since the epoch.
    #[serde(rename = "resetsAt", deserialize_with = "lenient")]
    pub(super) resets_at: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Assistant {
    #[serde(deserialize_with = "lenient")]
    pub(super) message: Message,
    /// The kind of an API failure that this event stands for.
    #[serde(deserialize_with = "lenient")]
    pub(super) error: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) api_error_params: RateLimit,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    #[serde(deserialize_with = "lenient")]
    pub(super) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) model: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) content: Vec<Block>,
    #[serde(deserialize_with = "lenient")]
    pub(super) usage: AnswerUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block {
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub(super) kind: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) text: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AnswerUsage {
    #[serde(deserialize_with = "lenient")]
    pub(super) input_tokens: u64,
    #[serde(deserialize_with = "lenient")]
    pub(super) cache_read_input_tokens: u64,
    #[serde(deserialize_with = "lenient")]
    pub(super) cache_creation_input_tokens: u64,
}

impl AnswerUsage {
    pub(super) fn tokens(&self) -> Tokens {
        Tokens { input: self.input_tokens, output: 0, cache_read: self.cache_read_input_tokens, cache_creation: self.cache_creation_input_tokens }
    }
}

/// A `result`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Outcome {
    #[serde(deserialize_with = "lenient")]
    pub(super) subtype: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) is_error: bool,
    #[serde(deserialize_with = "lenient")]
    pub(super) result: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) errors: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) terminal_reason: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) api_error_status: Option<u16>,
    #[serde(deserialize_with = "lenient")]
    pub(super) api_error: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) num_turns: u64,
    #[serde(deserialize_with = "lenient")]
    pub(super) total_cost_usd: f64,
    #[serde(deserialize_with = "lenient")]
    pub(super) structured_output: Option<serde_json::Value>,
    #[serde(rename = "modelUsage", deserialize_with = "lenient")]
    pub(super) model_usage: BTreeMap<String, ModelUsage>,
    #[serde(rename = "model_usage_since_last_result", deserialize_with = "lenient")]
    pub(super) since_last_result: Option<BTreeMap<String, ModelUsage>>,
}

impl Outcome {
    /// What it says, in words.
    pub(super) fn words(&self) -> String {
        if self.result.is_empty() { self.errors.join("; ") } else { self.result.clone() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelUsage {
    #[serde(rename = "inputTokens", deserialize_with = "lenient")]
    input: u64,
    #[serde(rename = "outputTokens", deserialize_with = "lenient")]
    output: u64,
    #[serde(rename = "cacheReadInputTokens", deserialize_with = "lenient")]
    cache_read: u64,
    #[serde(rename = "cacheCreationInputTokens", deserialize_with = "lenient")]
    cache_creation: u64,
    #[serde(rename = "costUSD", deserialize_with = "lenient")]
    pub(super) cost_usd: f64,
}

impl ModelUsage {
    pub(super) fn tokens(&self) -> Tokens {
        Tokens { input: self.input, output: self.output, cache_read: self.cache_read, cache_creation: self.cache_creation }
    }
}

/// The event of a line; `None` for those that do not matter and for what is no JSON.
pub(super) fn event(line: &[u8]) -> Option<Event> {
    if line.first() != Some(&b'{') {
        return None;
    }
    // Two passes, so that tool results (whole files, most of the stream) are skipped over and never built up.
    let head: Head = serde_json::from_slice(line).ok()?;
    match (head.kind.as_str(), head.subtype.as_str()) {
        ("system", "init") => serde_json::from_slice(line).ok().map(Event::Init),
        ("system", "api_retry") => serde_json::from_slice(line).ok().map(Event::Retry),
        ("rate_limit_event", _) => serde_json::from_slice(line).ok().map(Event::RateLimit),
        ("assistant", _) => serde_json::from_slice(line).ok().map(|a| Event::Assistant(Box::new(a))),
        ("command_lifecycle", _) => serde_json::from_slice(line).ok().map(Event::Command),
        ("user", _) => Some(Event::ToolResult),
        ("result", _) => serde_json::from_slice(line).ok().map(|o| Event::Result(Box::new(o))),
        _ => None,
    }
}

/// A value of the wrong shape is a missing one.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_ours_to_read_is_nothing() {
        for line in ["", "garbage", "[]", "{", "{}", r#"{"type":7}"#, r#"{"type":"ui_invalidate"}"#, r#"{"type":"system","subtype":"new"}"#, "null"] {
            assert!(event(line.as_bytes()).is_none(), "{line}");
        }
        assert!(event(b"{\"type\":\"result\",\"x\":\"\xc3").is_none());
    }

    #[test]
    fn a_field_of_another_shape_does_not_cost_the_event() {
        let line = br#"{"num_turns":"many","errors":{},"is_error":true,"modelUsage":[1],"type":"result","subtype":"success"}"#;
        assert!(matches!(event(line), Some(Event::Result(o)) if o.is_error && o.num_turns == 0 && o.since_last_result.is_none()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = event(&bytes);
        }
    }
}
