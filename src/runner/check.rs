//! The check of a task's work: the repository's own command, in a cgroup of its own, its output kept.

use super::confine::Cell;
use super::drain::{HEAD, Line, Lines};
use super::environment;
use super::log::AttemptLog;
use super::settings::Settings;
use crate::core::checkout::Verify;
use crate::core::delivery::OUTPUT_MAX;
use crate::platform::child::{self, Program};
use crate::platform::sys::BeforeExec;
use crate::proto::link::Work;
use nix::sys::signal::Signal;
use std::ffi::{OsStr, OsString};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// How long its pipes may stay open when its process has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a check went.
#[derive(Debug)]
pub(super) struct Checked {
    /// Whether it exited with 0.
    pub(super) passed: bool,
    /// How it ended, in words.
    pub(super) ended: String,
    /// The end of its output, at most [`OUTPUT_MAX`] bytes.
    pub(super) output: String,
}

/// Runs the command in the worktree. Whoever it leaves behind is in the cell.
///
/// # Errors
/// What cannot be started, and why.
pub(super) async fn run(verify: &Verify, settings: &Settings, work: &Work, cell: &Cell, log: &mut AttemptLog) -> Result<Checked, String> {
    let variables = environment::of_check(settings, work);
    let (name, arguments) = verify.command.split_first().ok_or("the verify command is empty")?;
    let path = variables.get(OsStr::new("PATH")).map(|path| path.to_string_lossy()).unwrap_or_default();
    let program = match name.strip_prefix("./") {
        Some(_) => environment::program(&settings.directory.join(name).to_string_lossy(), &path)?,
        None => environment::program(name, &path)?,
    };
    let program = Program {
        path: program,
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: variables,
        directory: Some(settings.directory.clone()),
    };
    // Both into one pipe, so that they come in the order in which they were written.
    let (mut pipe, end) = child::output().map_err(|error| format!("a pipe: {error}"))?;
    let twin = end.try_clone().map_err(|error| format!("a pipe: {error}"))?;
    let input = child::no_input().map_err(|error| error.to_string())?;
    let setup = BeforeExec { cgroup: cell.entrance().map_err(|e| e.to_string())?, oom_score_adj: Some(1000), new_session: true, data_limit: None };
    let mut child = child::spawn(&program, [input, end, twin], setup).map_err(|error| error.to_string())?;
    let (mut lines, mut buffer, mut kept) = (Lines::new(HEAD), vec![0; 16 << 10], Vec::new());
    let mut ended: Option<ExitStatus> = None;
    let waited = timeout(verify.timeout, async {
        loop {
            tokio::select! {
                read = pipe.read(&mut buffer) => match read {
                    Ok(n @ 1..) => take(&mut lines, &mut kept, buffer.get(..n).unwrap_or_default(), log),
                    _ => break,
                },
                status = child.wait(), if ended.is_none() => {
                    ended = status.ok();
                    break;
                }
            }
        }
        if ended.is_none() {
            ended = child.wait().await.ok();
        }
    });
    let in_time = waited.await.is_ok();
    if !in_time {
        // The rest of it is ended with its cell.
        let _ = child.signal(Signal::SIGKILL, false);
        let _ = child.wait().await;
    }
    // Who survives may hold the pipe open for ever.
    let rest = async {
        while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
            take(&mut lines, &mut kept, buffer.get(..n).unwrap_or_default(), log);
        }
    };
    let _ = timeout(LAST_WORDS, rest).await;
    lines.finish(|line| log.check(&line));
    let killed = cell.usage().oom_kills.unwrap_or(0) > 0;
    let (passed, ended) = match ended {
        _ if !in_time => (false, format!("it was ended after {}", humantime::format_duration(verify.timeout))),
        _ if killed => (false, format!("the kernel killed it at its memory limit ({})", cell.memory_in_words(cell.usage().memory_peak))),
        Some(status) if status.success() => (true, "exit status 0".to_owned()),
        Some(status) => (false, super::task::exit(status).to_string()),
        None => (false, "nobody saw how it ended".to_owned()),
    };
    Ok(Checked { passed, ended, output: String::from_utf8_lossy(&kept).into_owned() })
}

fn take(lines: &mut Lines, kept: &mut Vec<u8>, bytes: &[u8], log: &mut AttemptLog) {
    lines.push(bytes, |line: Line<'_>| log.check(&line));
    kept.extend_from_slice(bytes);
    // Replaced bytes grow threefold: the text is to fit its bound.
    let most = OUTPUT_MAX / 3;
    if kept.len() > most {
        kept.drain(..kept.len() - most);
    }
}
