//! One attempt's life: record, cell, agent, watch, end of all its processes, report.

use super::agent::{self, Agent, Condition, Stream};
use super::confine::{Cell, Confinement};
use super::drain::{LINE_MAX, Line, Lines};
use super::log::AttemptLog;
use super::process::Process;
use super::records::{Record, Records};
use super::sessions::Sessions;
use super::settings::Settings;
use super::watch::Watch;
use super::worktree::Begun;
use crate::core::attempt::{Ended, Exit, Reason, Report};
use crate::core::delivery::{Delivery, Stage, Verification};
use crate::core::ids::SessionId;
use crate::core::lock::Uncovered;
use crate::core::message::MessageId;
use crate::core::usage::KernelUsage;
use crate::core::verdict::{AgentVerdict, Facts, StopCause, judge};
use crate::proto::link::{Answer, Progress, Work};
use jiff::Timestamp;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use uuid::Uuid;

/// Shortest time between two words about progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How long the pipes may stay open when nobody of the task is left to write to them.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// After that time it is said aloud that processes do not end.
const STUCK: Duration = Duration::from_secs(10);

/// What the attempt needs from its runner.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Held by whoever works in the worktree.
    pub(super) worktree: Arc<Mutex<()>>,
    /// Held by who looks into it while others work there.
    pub(super) surveys: Arc<Mutex<()>>,
    /// Where things are.
    pub(super) settings: Arc<Settings>,
    /// How tasks are confined.
    pub(super) confinement: Arc<Confinement>,
    /// Where it is noted that it runs.
    pub(super) records: Records,
}

/// What an attempt tells its runner.
#[derive(Debug)]
pub(super) enum Note {
    /// The agent's process runs.
    Started {
        /// The process.
        pid: u32,
        /// The conversation.
        session: Option<SessionId>,
        /// The group's name.
        cgroup: String,
    },
    /// Its agent has taken that message.
    Taken(MessageId),
    /// It has come to another stage.
    Entered(Stage),
    /// What the runner itself is doing, in words: its git's progress.
    Doing(String),
    /// What came of a job of clauded's.
    Answer(u64, Answer),
    /// The worktree is ready for tasks, or why it is not.
    Prepared(Result<(), String>),
    /// It asks clauded which of these files it has no lock on.
    Locks(Vec<String>, oneshot::Sender<Vec<Uncovered>>),
    /// How it is doing.
    Progress(Box<Progress>),
    /// Processes of it do not die, and that is why it does not end.
    Stuck(String),
    /// It is over; no process of it is left.
    Finished(Box<Report>),
}

/// A message to the agent.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// The message.
    pub(super) id: MessageId,
    /// The number by which the agent's program knows it.
    pub(super) uuid: Uuid,
    /// What the agent is told.
    pub(super) text: String,
}

/// What comes to an attempt from outside.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Causes to stop it.
    pub(super) orders: mpsc::Receiver<StopCause>,
    /// Messages to its agent.
    pub(super) letters: mpsc::UnboundedReceiver<Letter>,
}

/// Runs an attempt to its end, which comes as [`Note::Finished`] whatever happens. A cause to stop it can be sent at any time.
pub(super) async fn run(work: Work, place: Place, inbox: Inbox, notes: mpsc::Sender<Note>) {
    let started = Timestamp::now();
    let sessions = Sessions::new(&place.settings.state);
    let (hooks, mcp) = (place.settings.hooks.as_deref(), place.settings.mcp());
    let agent = agent::for_work(&work, work.resume.and_then(|session| sessions.get(session)), hooks, mcp);
    let record = Record { attempt: work.attempt, session: agent.session(), started, stopping: false };
    // Nothing may run that a successor would not know of.
    let prepared = place.records.write(&record).map_err(|e| e.to_string());
    let prepared = prepared.and_then(|()| place.confinement.cell(work.attempt).map_err(|e| format!("its cgroup: {e}")));
    let report = match prepared {
        Ok(cell) => {
            let log = AttemptLog::new(&place.settings.state, work.attempt, work.profile.log_max);
            let watch = Watch::new(&work.profile, work.timeout, Instant::now());
            let told = Told { at: Instant::now(), condition: Condition::default(), log_bytes: 0 };
            let notes = notes.clone();
            let (begun, check, stage) = (None, None, Stage::Running);
            let given = Vec::new();
            Attempt { work, place, agent, cell, log, watch, inbox, given, notes, stop: None, told, record, begun, check, stage }.live(&sessions).await
        }
        Err(error) => not_started(record, error, KernelUsage::default()),
    };
    let _ = notes.send(Note::Finished(Box::new(report))).await;
}

fn not_started(record: Record, error: String, kernel: KernelUsage) -> Report {
    let (ended, detail) = judge(&Facts { spawn_error: Some(error), stop: None, oom_kills: 0, exit: None, agent: AgentVerdict::Silent });
    unheard(record, ended, detail, kernel)
}

/// The report on an attempt of which the agent itself has told nothing.
pub(super) fn unheard(record: Record, ended: Ended, detail: String, kernel: KernelUsage) -> Report {
    Report {
        ended,
        detail,
        exit: None,
        session: record.session,
        started: record.started,
        finished: Timestamp::now(),
        agent: Default::default(),
        kernel,
        text: String::new(),
        work: None,
    }
}

/// What was last told of the progress.
struct Told {
    at: Instant,
    condition: Condition,
    log_bytes: u64,
}

struct Attempt {
    work: Work,
    place: Place,
    agent: Box<dyn Agent>,
    cell: Cell,
    log: AttemptLog,
    watch: Watch,
    inbox: Inbox,
    /// All messages that came, and whether the agent has taken them.
    given: Vec<(Letter, bool)>,
    notes: mpsc::Sender<Note>,
    stop: Option<StopCause>,
    told: Told,
    record: Record,
    /// What it began with in its repository, if it has one.
    begun: Option<Begun>,
    /// How the last check of its work went.
    check: Option<Verification>,
    stage: Stage,
}

impl Attempt {
    async fn live(mut self, sessions: &Sessions) -> Report {
        let worktree = Arc::clone(&self.place.worktree);
        let held = repository::unless_stopped(&mut self.inbox.orders, worktree.lock()).await;
        let checked_out = match held {
            Ok(_) => self.check_out().await,
            Err(cause) => Err(self.stopped_by(cause)),
        };
        if let Err((ended, detail)) = checked_out {
            self.end_rest().await;
            let kernel = self.cell.usage();
            self.cell.remove();
            return unheard(self.record, ended, detail, kernel);
        }
        let mut first = true;
        let exit = loop {
            let ended = self.process(first).await;
            self.end_rest().await;
            let exit = match ended {
                Ok(exit) => exit,
                Err(error) => {
                    let kernel = self.cell.usage();
                    self.cell.remove();
                    return not_started(self.record, error, kernel);
                }
            };
            first = false;
            let again = if self.stop.is_none() { self.agent.again(exit) } else { None };
            let Some(why) = again else {
                if self.passes(exit).await {
                    break exit;
                }
                continue;
            };
            tracing::info!(attempt = %self.work.attempt, "attempt {}: the agent is started once more: {why}", self.work.attempt);
            self.log.note(why);
            self.note_session();
        };
        if let Some(totals) = self.agent.totals()
            && let Err(error) = sessions.put(totals)
        {
            tracing::warn!("the session's account is lost; a resumed task may be charged twice for it: {error}");
        }
        let (mut ended, mut detail) = self.verdict(exit);
        let work = self.hand_in(&mut ended, &mut detail).await;
        self.end_rest().await;
        self.report(exit, ended, detail, work)
    }

    /// A successor is to resume the session that is really used.
    fn note_session(&mut self) {
        let session = self.agent.session();
        if session != self.record.session {
            self.record.session = session;
            if let Err(error) = self.place.records.write(&self.record) {
                tracing::warn!("the attempt's new session is not on record: {error}");
            }
        }
    }

    /// One process of the agent, from its start to its exit with its output read to the end.
    async fn process(&mut self, first: bool) -> Result<Exit, String> {
        let mut child_ended = signal(SignalKind::child()).map_err(|e| format!("no signal handler: {e}"))?;
        let mut process = Process::start(self.agent.as_ref(), &self.work, &self.place.settings, &self.cell)?;
        tracing::info!(attempt = %self.work.attempt, pid = process.pid, "attempt {}: the agent runs as process {}", self.work.attempt, process.pid);
        if first {
            let note = Note::Started { pid: process.pid, session: self.agent.session(), cgroup: self.cell.name().to_owned() };
            let _ = self.notes.send(note).await;
        }
        // What a process before this one has not taken, this one gets.
        for (letter, _) in self.given.iter().filter(|(_, taken)| !taken) {
            process.say(self.agent.message(letter.uuid, &letter.text));
        }
        self.watch.heard(Instant::now());
        self.after_output(&mut process);
        let (mut out, mut err) = (Lines::new(LINE_MAX), Lines::new(super::drain::HEAD));
        let (mut out_buffer, mut err_buffer) = (vec![0; 64 << 10], vec![0; 8 << 10]);
        let (mut out_open, mut err_open) = (true, true);
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let status = loop {
            let deadline = process.deadline();
            let (child, stdout, stderr) = process.parts();
            tokio::select! {
                status = child.wait() => break status,
                read = stdout.read(&mut out_buffer), if out_open => {
                    out_open = self.heard(Stream::Out, &mut out, read.ok().and_then(|n| out_buffer.get(..n)));
                    self.tell_taken().await;
                    self.after_output(&mut process);
                }
                read = stderr.read(&mut err_buffer), if err_open => {
                    err_open = self.heard(Stream::Err, &mut err, read.ok().and_then(|n| err_buffer.get(..n)));
                    self.after_output(&mut process);
                }
                Some(cause) = self.inbox.orders.recv() => self.stop(cause, &mut process),
                Some(letter) = self.inbox.letters.recv() => self.give(letter, &process),
                _ = tick.tick() => {
                    let pressure = self.cell.sample();
                    if let Some(cause) = self.watch.look(Instant::now(), pressure) {
                        self.stop(cause, &mut process);
                    }
                    self.tell(Duration::ZERO);
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    process.escalate(self.agent.as_ref(), &self.cell, self.work.profile.kill_grace);
                }
                _ = child_ended.recv() => self.cell.reap(),
            }
        };
        let exit = status.map(exit).map_err(|e| format!("wait for process {}: {e}", process.pid))?;
        // Whoever survived it may hold the pipes open: the rest can be read when nobody is left.
        self.end_rest().await;
        let (_, stdout, stderr) = process.parts();
        let rest = async {
            while out_open || err_open {
                tokio::select! {
                    read = stdout.read(&mut out_buffer), if out_open => {
                        out_open = self.heard(Stream::Out, &mut out, read.ok().and_then(|n| out_buffer.get(..n)));
                    }
                    read = stderr.read(&mut err_buffer), if err_open => {
                        err_open = self.heard(Stream::Err, &mut err, read.ok().and_then(|n| err_buffer.get(..n)));
                    }
                }
            }
        };
        if timeout(LAST_WORDS, rest).await.is_err() {
            self.log.note("the agent's output is held open by a process outside its task; the rest of it is not read");
        }
        self.tell_taken().await;
        tracing::info!(attempt = %self.work.attempt, "attempt {}: the agent ended: {exit}", self.work.attempt);
        Ok(exit)
    }

    /// Takes output, or (`None`, empty) its end; answers whether there can be more.
    fn heard(&mut self, stream: Stream, lines: &mut Lines, bytes: Option<&[u8]>) -> bool {
        let (log, agent) = (&mut self.log, &mut self.agent);
        let each = |line: Line<'_>| {
            match stream {
                Stream::Out => log.stdout(&line),
                Stream::Err => log.stderr(&line),
            }
            // Half a line means nothing to a parser.
            if let Line::Whole(bytes) = line {
                agent.line(stream, bytes);
            }
        };
        match bytes.filter(|b| !b.is_empty()) {
            Some(bytes) => {
                self.watch.heard(Instant::now());
                lines.push(bytes, each);
                true
            }
            None => {
                lines.finish(each);
                false
            }
        }
    }

    /// Gives the agent a message, once.
    fn give(&mut self, letter: Letter, process: &Process) {
        if self.given.iter().all(|(known, _)| known.id != letter.id) {
            process.say(self.agent.message(letter.uuid, &letter.text));
            self.given.push((letter, false));
        }
    }

    /// Tells which messages the agent has taken since the last time.
    async fn tell_taken(&mut self) {
        for uuid in self.agent.taken() {
            if let Some((letter, taken)) = self.given.iter_mut().find(|(letter, taken)| letter.uuid == uuid && !taken) {
                *taken = true;
                let _ = self.notes.send(Note::Taken(letter.id)).await;
            }
        }
    }

    /// What follows from what the agent said.
    fn after_output(&mut self, process: &mut Process) {
        self.note_session();
        if self.agent.input_done() {
            process.close_input();
        }
        if self.stop.is_none() && self.work.budget.is_some_and(|most| self.agent.condition().usage.cost > most) {
            self.stop = Some(StopCause::Budget);
            // The cost comes with a result: it may be ending by itself, and then the work is done.
            process.end_after(self.work.profile.kill_grace);
        }
        self.tell(PROGRESS_EVERY);
    }

    /// The first cause stands; a later one does not soften it.
    fn stop(&mut self, cause: StopCause, process: &mut Process) {
        // Once begun, its ending goes by its own deadlines: the cause comes again with each look at the clock.
        if !process.is_ending() {
            tracing::info!(attempt = %self.work.attempt, "attempt {}: the agent is to end: {cause:?}", self.work.attempt);
            self.log.note(&format!("the runner ends the agent: {cause:?}"));
            self.stop = self.stop.or(Some(cause));
            process.escalate(self.agent.as_ref(), &self.cell, self.work.profile.kill_grace);
        }
    }

    /// Tells how it is doing, if that is new and the last time is long enough ago.
    fn tell(&mut self, pause: Duration) {
        let (condition, log_bytes) = (self.agent.condition(), self.log.bytes());
        if self.told.at.elapsed() < pause || (*condition == self.told.condition && log_bytes == self.told.log_bytes) {
            return;
        }
        let progress =
            Progress { attempt: self.work.attempt, doing: condition.doing.clone(), throttled: condition.throttled, usage: condition.usage.clone(), log_bytes };
        self.told = Told { at: Instant::now(), condition: condition.clone(), log_bytes };
        // A runner that has no time for it now gets the next one.
        let _ = self.notes.try_send(Note::Progress(Box::new(progress)));
    }

    /// Ends whoever is left of the task. Does not give up: as long as one lives, the task has not ended.
    async fn end_rest(&self) {
        self.end_all(&self.cell).await;
    }

    async fn end_all(&self, cell: &Cell) {
        loop {
            let why = match timeout(STUCK, cell.end()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    error.to_string()
                }
                Err(_) => format!("processes {:?} do not die", cell.pids()),
            };
            tracing::error!(attempt = %self.work.attempt, "attempt {}: its processes do not end: {why}", self.work.attempt);
            let _ = self.notes.send(Note::Stuck(why)).await;
        }
    }

    /// The verdict on what the agent did.
    fn judged(&self, exit: Exit) -> (Ended, String) {
        let agent = self.agent.verdict(exit);
        judge(&Facts { spawn_error: None, stop: self.stop, oom_kills: self.cell.usage().oom_kills.unwrap_or(0), exit: Some(exit), agent })
    }

    fn report(mut self, exit: Exit, ended: Ended, mut detail: String, work: Option<Box<Delivery>>) -> Report {
        self.cell.sample();
        let kernel = self.cell.usage();
        if ended.reason() == Some(Reason::Oom) {
            detail.push_str(&format!(" ({})", self.cell.memory_in_words(kernel.memory_peak)));
        }
        if self.log.failures() > 0 {
            detail.push_str(&format!("{}{} lines of its log could not be written", if detail.is_empty() { "" } else { "; " }, self.log.failures()));
        }
        self.cell.remove();
        Report {
            ended,
            detail,
            exit: Some(exit),
            session: self.agent.session(),
            started: self.record.started,
            finished: Timestamp::now(),
            agent: self.agent.condition().usage.clone(),
            kernel,
            text: self.agent.last_words(),
            work,
        }
    }
}

pub(super) fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(number)) => Exit::Signal(number),
        (None, None) => Exit::Code(-1),
    }
}

mod repository;
pub(super) use repository::{job, prepare_worktree};

#[cfg(test)]
pub(super) mod tests;
