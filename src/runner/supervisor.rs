//! The main loop: takes work from the link, lets one attempt run at a time, spools what it ends in, stops in order.

use super::confine::Confinement;
use super::link::{self, Heard};
use super::records::Records;
use super::settings::Settings;
use super::spool::Spool;
use super::status::{Status, roughly};
use super::task::{self, Inbox, Letter, Note, Place};
use super::{Fatal, leftovers};
use crate::core::attempt::{Ended, Reason};
use crate::core::delivery::Stage;
use crate::core::ids::AttemptId;
use crate::core::lock::Uncovered;
use crate::core::usage::KernelUsage;
use crate::core::verdict::StopCause;
use crate::platform::durable;
use crate::proto::link::{Answer, Event, FromDaemon, FromRunner, Hello, Progress, VERSION, Work};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// How long a last event may take to be acknowledged when the instance stops.
const DELIVERY: Duration = Duration::from_secs(2);
/// Longest time for the last words to a daemon.
const FAREWELL: Duration = Duration::from_millis(200);
/// How long a full disk is left alone before the spool tries again.
const SPOOL_AGAIN: Duration = Duration::from_secs(5);
/// What an ending may take beyond the graces that the profile gives.
const ENDING: Duration = Duration::from_secs(15);
/// Ended attempts that are remembered, so that a late repetition does not run one again.
const REMEMBERED: usize = 64;

/// The running attempt, as the main loop sees it.
struct Current {
    attempt: AttemptId,
    title: String,
    began: Instant,
    grace: Duration,
    orders: mpsc::Sender<StopCause>,
    letters: mpsc::UnboundedSender<Letter>,
    progress: Option<Box<Progress>>,
    /// What clauded was asked of its locks, until it has answered.
    asking: Option<(Vec<String>, oneshot::Sender<Vec<Uncovered>>)>,
    /// What the runner itself does for it, or why it does not end, as long as that is so.
    aside: Option<String>,
}

struct Supervisor {
    place: Place,
    spool: Spool,
    status: Status,
    link: Option<mpsc::Sender<FromRunner>>,
    /// Why there is no daemon, in its or the system's words.
    alone: String,
    current: Option<Current>,
    tasks: JoinSet<()>,
    notes: mpsc::Sender<Note>,
    ended: VecDeque<AttemptId>,
    /// What is being done to the worktree, or why it cannot be used, while there is no task.
    worktree: Option<String>,
    /// Attempts whose end is not on disk yet, and whose record must stay until it is.
    recorded: Vec<AttemptId>,
    spool_again: Option<Instant>,
    /// When the stop that has begun is over at the latest.
    stopping: Option<Instant>,
}

/// Runs the instance until it is told to stop.
///
/// # Errors
/// What makes it useless to go on; a restart may mend it.
pub(super) async fn run(settings: Settings) -> Result<(), Fatal> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Fatal::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Fatal::Signals)?;
    // What an attempt of another runner has started is no left-over.
    let _lock = durable::lock(&settings.state.join("lock"))?.ok_or_else(|| Fatal::Occupied(settings.state.clone()))?;
    let confinement = Confinement::take(settings.cgroup.as_deref(), &settings.name).map_err(Fatal::Confinement)?;
    let records = Records::new(&settings.state);
    let mut spool = Spool::open(&settings.state)?;
    let recorded = leftovers::clear(&settings, &confinement, &records, &mut spool).await?;
    let place = Place { worktree: Arc::default(), surveys: Arc::default(), settings: Arc::new(settings), confinement: Arc::new(confinement), records };

    let (notes, mut noted) = mpsc::channel(64);
    let (sender, mut heard) = mpsc::channel(16);
    tokio::spawn(link::keep(place.settings.link.clone(), sender));
    let mut it = Supervisor {
        place,
        spool,
        status: Status::default(),
        link: None,
        alone: "not connected yet".to_owned(),
        current: None,
        tasks: JoinSet::new(),
        notes,
        ended: VecDeque::new(),
        worktree: None,
        recorded,
        spool_again: None,
        stopping: None,
    };
    it.after_spooling();
    it.status.ready("idle; waits for clauded");
    it.prepare();
    let mut watchdog = sd_notify::watchdog_enabled().filter(|d| !d.is_zero()).map(|every| interval(every / 2));
    if let Some(watchdog) = &mut watchdog {
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    while !it.done() {
        let (again, stopping) = (it.spool_again, it.stopping);
        tokio::select! {
            Some(heard) = heard.recv() => it.heard(heard),
            Some(note) = noted.recv() => it.noted(note),
            Some(ended) = it.tasks.join_next() => ended.map_err(|e| Fatal::Task(e.to_string()))?,
            _ = terminate.recv() => it.stop(),
            _ = interrupt.recv() => it.stop(),
            () = alarm(again) => it.after_spooling(),
            () = alarm(stopping) => break,
            () = tick(&mut watchdog) => {
                it.status.alive();
                // The time goes on where nobody says a word.
                it.show();
            }
        }
    }
    it.status.stopping("stopped");
    if it.link.take().is_some() {
        // What was said last is on its way still: that nothing more is taken here, or the acknowledgement of a question.
        let gone = async { while !matches!(heard.recv().await, Some(Heard::Down(_)) | None) {} };
        // A daemon that does not listen is not waited for.
        let _ = timeout(FAREWELL, gone).await;
    }
    if let Some(current) = &it.current {
        tracing::error!(attempt = %current.attempt, "attempt {} did not end in time; the next start reports it", current.attempt);
    }
    Ok(())
}

async fn alarm(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

impl Supervisor {
    fn done(&self) -> bool {
        self.stopping.is_some() && self.current.is_none() && self.spool.is_empty()
    }

    fn show(&mut self) {
        let text = match &self.current {
            Some(current) => running(current),
            None if self.stopping.is_some() => "stopping".to_owned(),
            None if self.worktree.is_some() => format!("worktree: {}", self.worktree.as_deref().unwrap_or_default()),
            None if self.link.is_some() => "idle; waits for work".to_owned(),
            None => format!("idle; waits for clauded ({})", self.alone),
        };
        self.status.show(&text);
    }

    /// Sends a message if there is a connection. One that does not take it is given up, and all is said again on the next.
    fn say(&mut self, message: FromRunner) {
        if self.link.as_ref().is_some_and(|link| link.try_send(message).is_err()) {
            self.link = None;
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Up(link) => {
                self.link = Some(link);
                let settings = &self.place.settings;
                let hello = Hello {
                    version: VERSION,
                    program: env!("CARGO_PKG_VERSION").to_owned(),
                    instance: settings.name.clone(),
                    invocation: settings.invocation.clone(),
                    directory: settings.directory.clone(),
                    current: self.current.as_ref().map(|c| c.attempt),
                    spooled: self.spool.events().len(),
                };
                self.say(FromRunner::Hello(hello));
                let waiting: Vec<_> = self.spool.events().map(|(seq, event)| FromRunner::Event { seq, event: event.clone() }).collect();
                for event in waiting {
                    self.say(event);
                }
                if self.stopping.is_some() {
                    self.say(FromRunner::Draining);
                }
            }
            Heard::Said(said) => self.said(*said),
            Heard::Down(why) => {
                self.link = None;
                self.alone = why;
            }
        }
        self.show();
    }

    fn said(&mut self, said: FromDaemon) {
        match said {
            FromDaemon::Welcome => {
                tracing::info!("connected to clauded");
                self.ask_for_locks();
            }
            FromDaemon::Locks { attempt, uncovered } => {
                let current = self.current.as_mut().filter(|current| current.attempt == attempt);
                if let Some((_, reply)) = current.and_then(|current| current.asking.take()) {
                    // An attempt that was stopped meanwhile has no use for it.
                    let _ = reply.send(uncovered);
                }
            }
            FromDaemon::Ack { seq } => {
                self.spool.acknowledge(seq);
                self.after_spooling();
            }
            FromDaemon::Run(work) => self.run(*work),
            FromDaemon::End { attempt } => {
                if let Some(current) = self.current.as_ref().filter(|c| c.attempt == attempt) {
                    let _ = current.orders.try_send(StopCause::Cancelled);
                }
            }
            FromDaemon::Ask { id, job } => match &self.current {
                Some(current) if !job.only_looks() => {
                    let why = format!("task {} is worked on in it", current.attempt.task);
                    self.say(FromRunner::Answer { id, answer: Answer::Refused(why) });
                }
                _ => drop(self.tasks.spawn(task::job(self.place.clone(), id, job, self.notes.clone()))),
            },
            FromDaemon::Message { attempt, id, uuid, text } => {
                // To another attempt it is not for: the daemon learns that this one has ended.
                if let Some(current) = self.current.as_ref().filter(|c| c.attempt == attempt) {
                    let _ = current.letters.send(Letter { id, uuid, text });
                }
            }
            // The link ends with it, and tells why.
            FromDaemon::Refused { .. } => {}
        }
    }

    /// Asks again on a new connection what was not answered on the old one.
    fn ask_for_locks(&mut self) {
        let asking = self.current.as_ref().and_then(|current| current.asking.as_ref().map(|(files, _)| (current.attempt, files.clone())));
        if let Some((attempt, files)) = asking {
            self.say(FromRunner::Locks { attempt, files });
        }
    }

    fn run(&mut self, work: Work) {
        let attempt = work.attempt;
        if self.ended.contains(&attempt) || self.spool.holds(attempt) || self.current.as_ref().is_some_and(|c| c.attempt == attempt) {
            tracing::debug!(%attempt, "told twice to run it; it is known");
            return;
        }
        if self.stopping.is_some() {
            return self.decline(&work, Ended::Interrupted, "the instance is stopping; it was not started".to_owned());
        }
        if let Some(current) = &self.current {
            let detail = format!("the instance was busy with attempt {}; it was not started", current.attempt);
            return self.decline(&work, Ended::Failed { reason: Reason::Lost, transient: true }, detail);
        }
        let (orders, receiver) = mpsc::channel(4);
        let (letters, post) = mpsc::unbounded_channel();
        tracing::info!(%attempt, "attempt {attempt} begins: {}", work.title);
        self.current = Some(Current {
            attempt,
            title: work.title.clone(),
            began: Instant::now(),
            grace: work.profile.kill_grace,
            orders,
            letters,
            progress: None,
            asking: None,
            aside: None,
        });
        self.tasks.spawn(task::run(work, self.place.clone(), Inbox { orders: receiver, letters: post }, self.notes.clone()));
    }

    fn decline(&mut self, work: &Work, ended: Ended, detail: String) {
        let record = super::records::Record { attempt: work.attempt, session: work.resume, started: Timestamp::now(), stopping: false };
        let report = Box::new(task::unheard(record, ended, detail, KernelUsage::default()));
        self.spool(Event::Finished { attempt: work.attempt, report });
    }

    fn spool(&mut self, event: Event) {
        let seq = self.spool.push(event.clone());
        self.say(FromRunner::Event { seq, event });
        self.after_spooling();
    }

    /// Forgets the records whose attempts' ends are safe, and comes back later for those that are not.
    fn after_spooling(&mut self) {
        let stored = !self.spool.has_unstored() || self.spool.store();
        self.spool_again = (!stored).then(|| Instant::now() + SPOOL_AGAIN);
        let (spool, records) = (&self.spool, &self.place.records);
        self.recorded.retain(|attempt| {
            let in_memory_only = spool.holds_end(*attempt, false) && !spool.holds_end(*attempt, true);
            if !in_memory_only && let Err(error) = records.remove(*attempt) {
                tracing::error!("the record of an ended attempt stays; the next start may report it as lost: {error}");
            }
            in_memory_only
        });
    }

    /// Begins to make the worktree before there is a task for it: a clone may take its time.
    fn prepare(&mut self) {
        if self.place.settings.origin.is_some() {
            self.worktree = Some("looked at".to_owned());
            let (place, notes) = (self.place.clone(), self.notes.clone());
            self.tasks.spawn(task::prepare_worktree(place, notes));
        }
    }

    fn noted(&mut self, note: Note) {
        if let Note::Answer(id, answer) = note {
            return self.say(FromRunner::Answer { id, answer });
        }
        match (&note, self.current.is_some()) {
            (Note::Prepared(result), _) => self.worktree = result.clone().err(),
            (Note::Doing(words), false) => self.worktree = Some(words.clone()),
            _ => {}
        }
        if self.current.is_none() {
            self.show();
        }
        let Some(current) = &mut self.current else { return };
        let attempt = current.attempt;
        match note {
            Note::Started { pid, session, cgroup } => self.spool(Event::Started { attempt, session, pid, cgroup }),
            Note::Taken(message) => self.spool(Event::Delivered { attempt, message }),
            Note::Progress(progress) => {
                current.progress = Some(progress.clone());
                current.aside = None;
                self.say(FromRunner::Progress(*progress));
            }
            Note::Locks(files, reply) => {
                current.asking = Some((files, reply));
                self.ask_for_locks();
            }
            Note::Stuck(why) => current.aside = Some(why),
            Note::Doing(words) => current.aside = Some(words),
            Note::Prepared(_) | Note::Answer(..) => {}
            Note::Entered(stage) => {
                current.aside = match stage {
                    Stage::Running => None,
                    Stage::Verifying => Some("its work is checked".to_owned()),
                    Stage::Publishing => Some("its work is committed".to_owned()),
                };
                self.spool(Event::Entered { attempt, stage });
            }
            Note::Finished(report) => {
                tracing::info!(%attempt, "attempt {attempt} {}: {}", report.ended.name(), report.detail);
                self.current = None;
                if self.ended.len() == REMEMBERED {
                    self.ended.pop_front();
                }
                self.ended.push_back(attempt);
                self.recorded.push(attempt);
                self.spool(Event::Finished { attempt, report });
                if self.stopping.is_some() {
                    self.stopping = Some(Instant::now() + DELIVERY);
                }
            }
        }
        self.show();
    }

    /// An orderly stop: on record first, so that whatever happens now counts as an interruption.
    fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let mut longest = DELIVERY;
        if let Some(current) = &self.current {
            if let Err(error) = self.place.records.mark_stopping(current.attempt) {
                tracing::warn!("the stop is not on record: {error}");
            }
            let _ = current.orders.try_send(StopCause::Shutdown);
            longest = current.grace.saturating_mul(2).saturating_add(ENDING);
        }
        self.stopping = Instant::now().checked_add(longest);
        self.say(FromRunner::Draining);
        self.status.stopping("stopping");
    }
}

/// What the running attempt is doing, in words.
fn running(current: &Current) -> String {
    let elapsed = roughly(current.began.elapsed());
    if let Some(why) = &current.aside {
        return format!("task {} \"{}\": {why}, {elapsed}", current.attempt.task, current.title);
    }
    match &current.progress {
        Some(p) => format!("task {} \"{}\": {}, {elapsed}, {}", current.attempt.task, current.title, p.doing, p.usage.cost),
        None => format!("task {} \"{}\": starting, {elapsed}", current.attempt.task, current.title),
    }
}
