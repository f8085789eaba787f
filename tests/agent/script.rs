//! The directives, one a line of the prompt; a line that is none is what the agent says.
//!
//! `say TEXT`, `write FILE TEXT`, `append FILE TEXT`, `edit FILE TEXT` (as write, but asks the hooks of `--settings` first, and says what they refuse), `multiedit`, `notebook` (the same with those tools), `pid FILE` (its own), `sleep 2s`, `await FILE` (until it is there), `run SHELL LINE`, `output JSON|FILE` (the result that a schema asks for; of a file the first line, which is taken out), `fail auth|server|limit EPOCH|refusal`, `alloc 200M`, `spin 5s`, `fork 50`, `daemonize 60s [PIDFILE]`, `hang`,
//! `garbage`, `longline 50M`, `exit N`, `crash`, `cost 0.05`, `turns 3`, `halfutf8`, `noresult`, `ignore-signals`;
//! `once DIRECTIVE` counts as done before it is: a resumed session goes on after it.

use serde_json::{Value, json};
use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Directive {
    Say(String),
    /// The result that a JSON schema asks for.
    Output(serde_json::Value),
    /// The same, from the first line of a file, which is taken out; nothing where there is none.
    NextOutput(String),
    Write(String, String),
    Append(String, String),
    /// With that tool, under its hooks.
    Edit(&'static str, String, String),
    Pid(String),
    Once(Box<Self>),
    Sleep(Duration),
    Await(String),
    Run(String),
    Fail(Failure),
    Burn(Burn),
    Hang,
    IgnoreSignals,
    Garbage,
    HalfUtf8,
    LongLine(usize),
    Exit(u8),
    Crash,
    Cost(f64),
    Turns(u64),
    NoResult,
}

impl Directive {
    pub(crate) fn ends_the_process(&self) -> bool {
        matches!(self, Self::Fail(_) | Self::Exit(_) | Self::Crash | Self::NoResult | Self::IgnoreSignals | Self::Once(_))
    }
}

/// What uses resources or leaves processes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Burn {
    Alloc(usize),
    Spin(Duration),
    Fork(usize),
    Daemonize(Duration, Option<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    Auth,
    Server,
    Limit(i64),
    Refusal,
    MaxTurns(u64),
    Budget(f64),
    Interrupted,
}

impl Failure {
    /// HTTP status, the error's kind, and the words, for what the server answered.
    pub(crate) fn api(&self) -> Option<(u16, &'static str, String)> {
        match self {
            Self::Auth => Some((401, "authentication_failed", "Invalid API key · Fix external API key".to_owned())),
            Self::Server => Some((529, "server_error", "API Error: Repeated 529 Overloaded errors.".to_owned())),
            Self::Limit(_) => Some((429, "rate_limit", "You've hit your 5-hour limit · resets 9:18am (UTC)".to_owned())),
            Self::Refusal => Some((200, "invalid_request", "API Error: the model refused to answer.".to_owned())),
            Self::MaxTurns(_) | Self::Budget(_) | Self::Interrupted => None,
        }
    }

    /// The fields of a result that differ from a success.
    pub(crate) fn fill(&self, value: &mut Value) {
        if let Some((status, _, text)) = self.api() {
            value["terminal_reason"] = json!("api_error");
            value["api_error_status"] = if status == 200 { Value::Null } else { json!(status) };
            value["result"] = json!(text);
            if matches!(self, Self::Limit(_)) {
                value["api_error"] = json!("usage_limit_reached");
            }
            return;
        }
        let (subtype, reason, text) = match self {
            Self::MaxTurns(n) => ("error_max_turns", "max_turns", format!("Reached maximum number of turns ({n})")),
            Self::Budget(usd) => ("error_max_budget_usd", "budget_exhausted", format!("Reached maximum budget (${usd})")),
            _ => ("error_during_execution", "aborted_tools", "Request was aborted.".to_owned()),
        };
        value["subtype"] = json!(subtype);
        value["terminal_reason"] = json!(reason);
        value["errors"] = json!([text]);
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" | "min" => number * 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

fn bytes(text: &str) -> Option<usize> {
    let shift = match text.chars().last()? {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        _ => return text.parse().ok(),
    };
    text.get(..text.len() - 1)?.parse::<usize>().ok().map(|n| n << shift)
}

fn edit(tool: &'static str, rest: &str) -> Option<Directive> {
    rest.split_once(' ').map(|(file, text)| Directive::Edit(tool, file.to_owned(), text.to_owned()))
}

fn directive(line: &str) -> Option<Directive> {
    let (verb, rest) = line.split_once(' ').map_or((line, ""), |(verb, rest)| (verb, rest.trim()));
    Some(match verb {
        "say" => Directive::Say(rest.to_owned()),
        "output" if rest.starts_with('{') => Directive::Output(serde_json::from_str(rest).ok()?),
        "output" => Directive::NextOutput(rest.to_owned()),
        "write" => rest.split_once(' ').map(|(file, text)| Directive::Write(file.to_owned(), text.to_owned()))?,
        "append" => rest.split_once(' ').map(|(file, text)| Directive::Append(file.to_owned(), text.to_owned()))?,
        "edit" => edit("Write", rest)?,
        "multiedit" => edit("MultiEdit", rest)?,
        "notebook" => edit("NotebookEdit", rest)?,
        "pid" => Directive::Pid(rest.to_owned()),
        "once" => Directive::Once(Box::new(directive(rest)?)),
        "await" => Directive::Await(rest.to_owned()),
        "run" => Directive::Run(rest.to_owned()),
        "sleep" => Directive::Sleep(duration(rest)?),
        "fail" => Directive::Fail(match rest.split_once(' ').unwrap_or((rest, "")) {
            ("auth", _) => Failure::Auth,
            ("server", _) => Failure::Server,
            ("refusal", _) => Failure::Refusal,
            ("limit", epoch) => Failure::Limit(epoch.parse().ok()?),
            _ => return None,
        }),
        "alloc" => Directive::Burn(Burn::Alloc(bytes(rest)?)),
        "spin" => Directive::Burn(Burn::Spin(duration(rest)?)),
        "fork" => Directive::Burn(Burn::Fork(rest.parse().ok()?)),
        "daemonize" => {
            let (time, file) = rest.split_once(' ').map_or((rest, None), |(time, file)| (time, Some(file.to_owned())));
            Directive::Burn(Burn::Daemonize(duration(time)?, file))
        }
        "ignore-signals" => Directive::IgnoreSignals,
        "hang" => Directive::Hang,
        "garbage" => Directive::Garbage,
        "halfutf8" => Directive::HalfUtf8,
        "longline" => Directive::LongLine(bytes(rest)?),
        "exit" => Directive::Exit(rest.parse().ok()?),
        "crash" => Directive::Crash,
        "cost" => Directive::Cost(rest.parse().ok()?),
        "turns" => Directive::Turns(rest.parse().ok()?),
        "noresult" => Directive::NoResult,
        _ => return None,
    })
}

pub(crate) fn parse(prompt: &str) -> Vec<Directive> {
    let lines = prompt.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| directive(line).unwrap_or_else(|| Directive::Say(line.to_owned()))).collect()
}

/// Carries the prompt over into a process that ignores signals.
const DEAF: &str = "SCRIPTED_AGENT_PROMPT";

/// The prompt to go on with, in a process that ignores whoever wants it to stop.
pub(crate) fn deaf() -> Option<String> {
    std::env::var(DEAF).ok()
}

/// Goes on in the same process and session with SIGINT and SIGTERM ignored: what a shell ignores stays ignored over exec.
pub(crate) fn become_deaf(session: &str, prompt: &str) -> std::io::Error {
    let mut arguments: Vec<String> = std::env::args().collect();
    for at in 1..arguments.len() {
        if arguments[at] == "--session-id" {
            arguments[at] = "--resume".to_owned();
            arguments[at + 1] = session.to_owned();
        }
    }
    Command::new("sh").args(["-c", r#"trap '' INT TERM; exec "$0" "$@""#]).args(arguments).env(DEAF, prompt).exec()
}

/// Waits, until it is stopped.
pub(crate) fn wait(time: Duration, stopped: &AtomicBool) {
    let until = Instant::now().checked_add(time);
    while !stopped.load(Ordering::SeqCst) && until.is_none_or(|u| Instant::now() < u) {
        let left = until.map_or(Duration::from_secs(1), |u| u.saturating_duration_since(Instant::now()));
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

impl Burn {
    pub(crate) fn perform(&self, stopped: &AtomicBool) {
        match self {
            Self::Alloc(bytes) => {
                let mut memory = vec![0u8; *bytes];
                memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
                // Held for a moment, so that a sampling observer sees it too.
                wait(Duration::from_millis(1500), stopped);
                black_box(&memory);
            }
            Self::Spin(time) => {
                let until = Instant::now() + *time;
                let mut n = 0u64;
                while Instant::now() < until && !stopped.load(Ordering::SeqCst) {
                    n = black_box(n.wrapping_add(1));
                }
            }
            Self::Fork(count) => {
                for _ in 0..*count {
                    let _ = Command::new("sleep").arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                }
            }
            // A process of its own session whose parent is gone: killing groups or sessions does not reach it.
            Self::Daemonize(time, file) => {
                let note = file.as_ref().map(|file| format!("echo $$ > {file}; ")).unwrap_or_default();
                let line = format!("setsid sh -c '{note}sleep {0} & sleep {0}' </dev/null >/dev/null 2>&1 &", time.as_secs());
                let _ = Command::new("sh").args(["-c", &line]).status();
            }
        }
    }
}
