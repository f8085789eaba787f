//! An agent's stream-json made readable: what it said, which tools it used and what came of them, how it ended.
//! Unknown events are left out, since new kinds appear with every release; lines that are not JSON are shown as they are.

use crate::ctl::output::{Style, Tone};
use crate::ctl::quantity::{clean, dollars, line, span};
use serde_json::Value;

/// Lines of a tool's result that are shown.
const RESULT_LINES: usize = 6;
/// Columns of a tool's input that are shown.
const INPUT_WIDTH: usize = 160;

/// Takes a log in pieces.
#[derive(Debug)]
pub(super) struct Transcript {
    style: Style,
    partial: String,
    session: String,
}

impl Transcript {
    /// An empty one.
    pub(super) fn new(style: Style) -> Self {
        Self { style, partial: String::new(), session: String::new() }
    }

    /// The text for the lines that this piece completes.
    pub(super) fn feed(&mut self, piece: &str) -> String {
        self.partial.push_str(piece);
        let Some(end) = self.partial.rfind('\n') else { return String::new() };
        let rest = self.partial.split_off(end + 1);
        let lines = std::mem::replace(&mut self.partial, rest);
        lines.lines().map(|line| self.event(line)).collect()
    }

    /// The text for a last line without an end.
    pub(super) fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.partial);
        if rest.is_empty() { rest } else { self.event(&rest) }
    }

    fn event(&mut self, text: &str) -> String {
        let Ok(event @ Value::Object(_)) = serde_json::from_str::<Value>(text) else {
            return if text.trim().is_empty() { String::new() } else { format!("{}\n", clean(text)) };
        };
        match (word(&event, "/type"), word(&event, "/subtype")) {
            ("system", "init") => self.begin(&event),
            ("system", "api_retry") => self.retry(&event),
            ("assistant", _) => self.blocks(&event, |s, block| s.said(block)),
            ("user", _) => self.blocks(&event, |s, block| s.returned(block)),
            ("rate_limit_event", _) => self.limit(&event),
            ("result", _) => self.result(&event),
            // The runner's own lines: the agent's standard error, and its remarks.
            ("", _) if event.get("stream").is_some() => {
                let tone = if word(&event, "/stream") == "stderr" { Tone::Bad } else { Tone::Busy };
                format!("{} {}\n", self.style.paint(tone, &format!("{}:", line(word(&event, "/stream"), 20))), clean(word(&event, "/text")))
            }
            // No stream-json at all: the output of another program that happens to be JSON.
            ("", _) => format!("{}\n", clean(text)),
            _ => String::new(),
        }
    }

    /// The CLI says this at every turn; once a session is enough.
    fn begin(&mut self, event: &Value) -> String {
        let session = word(event, "/session_id");
        if session == self.session {
            return String::new();
        }
        session.clone_into(&mut self.session);
        let text = format!("session {session}, {}, {}", word(event, "/model"), word(event, "/cwd"));
        format!("{}\n", self.style.paint(Tone::Faint, &line(&text, 300)))
    }

    fn retry(&self, event: &Value) -> String {
        let wait = number(event, "/retry_delay_ms") / 1000.0;
        let status = event.pointer("/error_status").map(Value::to_string).unwrap_or_default();
        let text = format!(
            "throttled: {} {}, try {} of {} in {}",
            word(event, "/error"),
            status,
            number(event, "/attempt"),
            number(event, "/max_retries"),
            span(wait)
        );
        format!("{}\n", self.style.paint(Tone::Busy, &line(&text, 300)))
    }

    fn limit(&self, event: &Value) -> String {
        let status = word(event, "/rate_limit_info/status");
        if matches!(status, "allowed" | "") {
            return String::new();
        }
        let reset = event.pointer("/rate_limit_info/resetsAt").and_then(Value::as_i64).and_then(|s| jiff::Timestamp::from_second(s).ok());
        let reset = reset.map(|t| format!(", resets at {t}")).unwrap_or_default();
        let text = format!("usage limit {} of {}{reset}", status.replace('_', " "), word(event, "/rate_limit_info/rateLimitType"));
        format!("{}\n", self.style.paint(Tone::Busy, &line(&text, 300)))
    }

    fn blocks(&self, event: &Value, render: impl Fn(&Self, &Value) -> String) -> String {
        match event.pointer("/message/content") {
            Some(Value::Array(blocks)) => blocks.iter().map(|block| render(self, block)).collect(),
            _ => String::new(),
        }
    }

    fn said(&self, block: &Value) -> String {
        match word(block, "/type") {
            "text" => {
                let text = word(block, "/text").trim();
                if text.is_empty() { String::new() } else { format!("{}\n", clean(text)) }
            }
            "tool_use" => {
                let name = self.style.paint(Tone::Strong, &line(word(block, "/name"), 80));
                format!("> {name} {}\n", line(&input(block.pointer("/input").unwrap_or(&Value::Null)), INPUT_WIDTH))
            }
            _ => String::new(),
        }
    }

    fn returned(&self, block: &Value) -> String {
        if word(block, "/type") != "tool_result" {
            return String::new();
        }
        let content = match block.pointer("/content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().map(|part| word(part, "/text")).collect::<Vec<_>>().join("\n"),
            _ => String::new(),
        };
        let failed = block.pointer("/is_error").and_then(Value::as_bool).unwrap_or(false);
        let content = clean(content.trim_end());
        let mut text = String::new();
        for shown in content.lines().take(RESULT_LINES) {
            let shown = format!("  {}", shown.chars().take(200).collect::<String>());
            text.push_str(&self.style.paint(if failed { Tone::Bad } else { Tone::Faint }, shown.trim_end()));
            text.push('\n');
        }
        let left = content.lines().count().saturating_sub(RESULT_LINES);
        if left > 0 {
            text.push_str(&self.style.paint(Tone::Faint, &format!("  … {left} more lines")));
            text.push('\n');
        }
        text
    }

    /// API failures come with the subtype "success": `is_error` alone decides.
    fn result(&self, event: &Value) -> String {
        let failed = event.pointer("/is_error").and_then(Value::as_bool).unwrap_or(true);
        let used =
            format!("{} turns, {}, {}", number(event, "/num_turns"), span(number(event, "/duration_ms") / 1000.0), dollars(number(event, "/total_cost_usd")));
        if !failed {
            return format!("{} ({used})\n", self.style.paint(Tone::Good, "done"));
        }
        let errors = event.pointer("/errors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
        let said = [word(event, "/result"), errors.as_str()].into_iter().find(|t| !t.is_empty()).unwrap_or_default().to_owned();
        let how = [word(event, "/terminal_reason"), word(event, "/subtype")].into_iter().find(|t| !t.is_empty()).unwrap_or_default().to_owned();
        format!("{} ({used}): {}\n", self.style.paint(Tone::Bad, "failed"), line(&format!("{how}: {said}"), 500))
    }
}

fn word<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
}

/// The part of a tool's input that says most, else all of it.
fn input(input: &Value) -> String {
    let telling = ["command", "file_path", "pattern", "url", "query", "prompt", "description"];
    match telling.iter().find_map(|key| input.get(key).and_then(Value::as_str)) {
        Some(text) => text.to_owned(),
        None => input.to_string(),
    }
}

#[cfg(test)]
mod tests;
