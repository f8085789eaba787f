//! One process of the agent: started in its cell, its pipes, and the steps by which it is made to end.

use super::agent::{Agent, Interrupt};
use super::confine::Cell;
use super::environment;
use super::settings::Settings;
use crate::platform::child::{self, Child, Program};
use crate::platform::sys::BeforeExec;
use crate::proto::link::Work;
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// By how much the agent's `oom_score_adj` exceeds the runner's: of the two, the kernel is to take the agent (proc(5)).
const OOM_SCORE: i16 = 500;

/// A running agent.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Its number while it has not been waited for, and for ever after in messages.
    pub(super) pid: u32,
    /// Its standard output, to be drained without a pause.
    pub(super) stdout: Receiver,
    /// Its standard error, likewise.
    pub(super) stderr: Receiver,
    /// What goes to its standard input; dropped to close that.
    input: Option<mpsc::UnboundedSender<Vec<u8>>>,
    step: Step,
    deadline: Option<Instant>,
}

/// How far its ending has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Runs,
    Interrupted,
    Terminated,
    Killed,
}

impl Process {
    /// Starts the agent in its cell and begins to feed it.
    ///
    /// # Errors
    /// What cannot be started, and why, in words.
    pub(super) fn start(agent: &dyn Agent, work: &Work, settings: &Settings, cell: &Cell) -> Result<Self, String> {
        let profile = &work.profile;
        let directory = &settings.directory;
        // Looked at first: exec's "No such file" would not say whether the program or the directory is missing.
        match fs::metadata(directory) {
            Err(error) => return Err(format!("its directory {}: {error}", directory.display())),
            Ok(meta) if !meta.is_dir() => return Err(format!("its directory {} is not a directory", directory.display())),
            Ok(_) => {}
        }
        let variables = environment::variables(settings, work, agent.environment());
        let (name, first) = profile.command.split_first().ok_or_else(|| format!("profile {} has an empty command", profile.name))?;
        let path = variables.get(std::ffi::OsStr::new("PATH")).map(|p| p.to_string_lossy()).unwrap_or_default();
        let program = Program {
            path: environment::program(name, &path)?,
            arguments: first.iter().cloned().chain(agent.arguments()).map(OsString::from).collect(),
            environment: variables,
            directory: Some(directory.clone()),
        };
        let setup = BeforeExec {
            cgroup: cell.entrance().map_err(|e| e.to_string())?,
            oom_score_adj: Some(own_oom_score().saturating_add(OOM_SCORE).min(1000)),
            data_limit: None,
            new_session: true,
        };
        let pipes = || Ok((child::input()?, child::output()?, child::output()?));
        let ((stdin, its_stdin), (stdout, its_stdout), (stderr, its_stderr)) = pipes().map_err(|e: io::Error| format!("its pipes: {e}"))?;
        let child = child::spawn(&program, [its_stdin, its_stdout, its_stderr], setup).map_err(|e| e.to_string())?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, stdout, stderr, input: Some(feed(stdin, agent.input())), step: Step::Runs, deadline: None })
    }

    /// The process, to be waited for.
    pub(super) fn parts(&mut self) -> (&mut Child, &mut Receiver, &mut Receiver) {
        (&mut self.child, &mut self.stdout, &mut self.stderr)
    }

    /// Closes its standard input once all of it is written.
    pub(super) fn close_input(&mut self) {
        self.input = None;
    }

    /// When the next step of its ending is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the first step of its ending has been taken.
    pub(super) fn is_ending(&self) -> bool {
        self.step != Step::Runs
    }

    /// Begins its ending after that time, unless it has begun.
    pub(super) fn end_after(&mut self, time: Duration) {
        if self.step == Step::Runs {
            self.deadline = Some(Instant::now() + time);
        }
    }

    /// The next step: interrupt, SIGTERM, SIGKILL to all of the cell. Each gives the one before it `grace` to work.
    pub(super) fn escalate(&mut self, agent: &dyn Agent, cell: &Cell, grace: Duration) {
        self.deadline = Instant::now().checked_add(grace);
        match self.step {
            Step::Runs => {
                self.step = Step::Interrupted;
                self.interrupt(agent);
            }
            Step::Interrupted => {
                self.step = Step::Terminated;
                self.signal(Signal::SIGTERM, agent.terminate_group());
            }
            Step::Terminated | Step::Killed => {
                self.step = Step::Killed;
                self.deadline = None;
                if let Err(error) = cell.kill() {
                    tracing::error!("the task's processes cannot be killed: {error}");
                    self.signal(Signal::SIGKILL, true);
                    self.deadline = Instant::now().checked_add(Duration::from_secs(1));
                }
            }
        }
    }

    fn interrupt(&mut self, agent: &dyn Agent) {
        match agent.interrupt(self.input.is_some()) {
            Interrupt::Input(bytes) => {
                if self.input.as_ref().is_none_or(|input| input.send(bytes).is_err()) {
                    self.signal(Signal::SIGINT, false);
                }
            }
            Interrupt::Process => self.signal(Signal::SIGINT, false),
            Interrupt::Group => self.signal(Signal::SIGINT, true),
        }
    }

    fn signal(&self, signal: Signal, group: bool) {
        // It leads its own session, so its group has its number.
        if let Err(error) = self.child.signal(signal, group) {
            tracing::debug!(%error, %signal, "the agent is gone already");
        }
    }
}

/// Writes what comes to the agent's standard input, and closes it when nothing more can come. An agent that does not read
/// or has gone is no error here.
fn feed(mut stdin: Sender, first: Vec<u8>) -> mpsc::UnboundedSender<Vec<u8>> {
    let (sender, mut bytes) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(chunk) = next {
            if stdin.write_all(&chunk).await.is_err() {
                return;
            }
            next = bytes.recv().await;
        }
    });
    sender
}

fn own_oom_score() -> i16 {
    fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
