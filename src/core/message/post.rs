//! The post: all letters that have not been delivered. What happens to them follows from how their instances stand, looked at
//! anew in every turn, so that no event can be missed.

use super::{Change, Draft, Kind, Letter, Message, MessageId, Progress};
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Most messages that one attempt of an agent may send: more is a loop.
pub(super) const SENT_MAX: u32 = 20;
/// Most messages that may lead to one another: more is two agents that cannot stop.
pub(super) const HOPS_MAX: u32 = 8;
/// Most letters that wait for one instance.
pub(super) const WAITING_MAX: usize = 100;
/// How long a letter waits for an instance that is not there.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody to get it has that name.
    #[error("to: there is no instance {0:?}, and no team of that name has a running member; see: claudectl status")]
    Unknown(String),
    /// Nobody is there.
    #[error("nobody else is there to get it: no other instance is running{0}")]
    Nobody(String),
    /// Over `SENT_MAX`.
    #[error("you have sent {SENT_MAX} messages in this attempt, and no more are taken; finish your work, and say the rest in your result")]
    TooMany,
    /// Over `HOPS_MAX`.
    #[error("{HOPS_MAX} messages have led to one another already, and no more are taken; finish your work without another message")]
    TooDeep,
    /// Over `WAITING_MAX`.
    #[error("{WAITING_MAX} messages wait for {0} already; start it, or wait until it has read some")]
    Full(InstanceName),
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its runner is connected, and it has nothing to do.
    Idle,
    /// It works on that.
    Works {
        /// The attempt.
        attempt: AttemptId,
        /// Whether its agent can be told something now.
        listens: bool,
    },
    /// Something else.
    Away,
}

/// How a task has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether it has succeeded.
    pub succeeded: bool,
    /// The agent's last words, or why there are none.
    pub text: String,
}

/// A call for help that has not been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Help {
    /// The call.
    pub message: Arc<Message>,
    /// Who is to answer it.
    pub task: TaskId,
    /// Until when.
    pub until: Timestamp,
}

/// What the caller has to do, after [`Effect::Save`] is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Commit to the store.
    Save(Change),
    /// Tell the runner to give it to its agent. It may be told more than once.
    Tell {
        /// The instance.
        to: InstanceName,
        /// The attempt that it runs.
        attempt: AttemptId,
        /// The message.
        message: Arc<Message>,
        /// The letter's own number.
        uuid: Uuid,
    },
    /// Make a task of it, and tell [`Post::queued`] its number.
    Task {
        /// The instance.
        to: InstanceName,
        /// The message.
        message: Arc<Message>,
    },
    /// End that task: its answer would come too late.
    Cancel(TaskId),
}

#[derive(Debug)]
struct Waiting {
    message: Arc<Message>,
    uuid: Uuid,
    progress: Progress,
    /// Whether the runner that is connected now has been told.
    told: bool,
    /// Since when its instance has been away, as far as this has been looked at.
    away: Option<Timestamp>,
}

/// All that is on its way.
#[derive(Debug, Default)]
pub struct Post {
    next: i64,
    waiting: BTreeMap<(InstanceName, MessageId), Waiting>,
    helps: Vec<Help>,
    /// How much each attempt has sent.
    sent: BTreeMap<AttemptId, u32>,
    /// The longest line of messages that has led to each task.
    hops: BTreeMap<TaskId, u32>,
}

impl Post {
    /// The post as the store has it: the next number, all letters that are pending or sent, the open calls for help, and of tasks
    /// that have not ended how much each attempt has sent and what led to it.
    pub fn load(
        next: i64,
        letters: impl IntoIterator<Item = (Arc<Message>, Letter)>,
        helps: Vec<Help>,
        sent: impl IntoIterator<Item = (AttemptId, u32)>,
        hops: impl IntoIterator<Item = (TaskId, u32)>,
    ) -> Self {
        let letter =
            |(message, Letter { to, uuid, progress }): (Arc<Message>, Letter)| ((to, message.id), Waiting { message, uuid, progress, told: false, away: None });
        Self { next, waiting: letters.into_iter().map(letter).collect(), helps, sent: sent.into_iter().collect(), hops: hops.into_iter().collect() }
    }

    /// Takes a message to those instances; `uuid` makes a new number for each letter.
    ///
    /// # Errors
    /// Nothing of it is taken then.
    pub fn send(&mut self, draft: Draft, to: &[InstanceName], mut uuid: impl FnMut() -> Uuid, now: Timestamp) -> Result<(Arc<Message>, Effect), Refused> {
        let hops = draft.attempt.and_then(|attempt| self.hops.get(&attempt.task)).map_or(0, |hops| hops.saturating_add(1));
        // What clauded itself sends on behalf of others is the end of a line, not a part of it.
        if draft.kind != Kind::Answer {
            if hops > HOPS_MAX {
                return Err(Refused::TooDeep);
            }
            if draft.attempt.is_some_and(|attempt| self.sent.get(&attempt).is_some_and(|sent| *sent >= SENT_MAX)) {
                return Err(Refused::TooMany);
            }
            if let Some(full) = to.iter().find(|name| self.letters_for(name).count() >= WAITING_MAX) {
                return Err(Refused::Full(full.clone()));
            }
            if let Some(attempt) = draft.attempt {
                *self.sent.entry(attempt).or_default() += 1;
            }
        }
        let message = Arc::new(Message { id: MessageId(self.next), at: now, draft, hops });
        self.next = self.next.saturating_add(1);
        let letters: Vec<Letter> = to.iter().map(|name| Letter { to: name.clone(), uuid: uuid(), progress: Progress::Pending }).collect();
        for letter in &letters {
            let waiting = Waiting { message: message.clone(), uuid: letter.uuid, progress: Progress::Pending, told: false, away: None };
            self.waiting.insert((letter.to.clone(), message.id), waiting);
        }
        let saved = Effect::Save(Change::Posted(Box::new(Message::clone(&message)), letters));
        Ok((message, saved))
    }

    fn letters_for<'a>(&'a self, name: &InstanceName) -> impl Iterator<Item = &'a Waiting> {
        let (from, to) = ((name.clone(), MessageId(i64::MIN)), (name.clone(), MessageId(i64::MAX)));
        self.waiting.range(from..=to).map(|(_, waiting)| waiting)
    }

    /// A runner has connected: what an earlier connection was told may not have arrived.
    pub fn linked(&mut self, name: &InstanceName) {
        self.waiting.iter_mut().filter(|((to, _), _)| to == name).for_each(|(_, waiting)| waiting.told = false);
    }

    /// The agent of that attempt has taken a message, says the instance's runner. It may say so late, or twice.
    pub fn delivered(&mut self, name: &InstanceName, attempt: AttemptId, id: MessageId) -> Option<Effect> {
        let waiting = self.waiting.remove(&(name.clone(), id))?;
        self.led(attempt.task, waiting.message.hops);
        Some(Effect::Save(Change::Moved(id, name.clone(), Progress::Delivered(attempt))))
    }

    /// A message, or a call for help, is now that task of the instance.
    pub fn queued(&mut self, name: &InstanceName, message: &Arc<Message>, task: TaskId, until: Option<Timestamp>) -> Change {
        self.led(task, message.hops);
        match until {
            Some(until) => {
                self.helps.push(Help { message: message.clone(), task, until });
                Change::Asked(message.id, task, until)
            }
            None => {
                self.waiting.remove(&(name.clone(), message.id));
                Change::Moved(message.id, name.clone(), Progress::Queued(task))
            }
        }
    }

    fn led(&mut self, task: TaskId, hops: u32) {
        let longest = self.hops.entry(task).or_default();
        *longest = hops.max(*longest);
    }

    /// When a call for help is over without anyone saying so.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.helps.iter().map(|help| help.until).min()
    }

    /// Moves every letter as far as it goes now. One that has become a task is not looked at again. `goes_on` says whether a task has
    /// not ended, and goes on at that instance.
    pub fn settle(&mut self, now: Timestamp, standing: impl Fn(&InstanceName) -> Standing, goes_on: impl Fn(TaskId, &InstanceName) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut busy: Option<&InstanceName> = None;
        let mut expired = Vec::new();
        let mut tasks = Vec::new();
        for ((to, id), waiting) in &mut self.waiting {
            let moved = |waiting: &mut Waiting, progress| {
                waiting.progress = progress;
                Effect::Save(Change::Moved(*id, to.clone(), progress))
            };
            let stands = standing(to);
            waiting.away = (stands == Standing::Away).then(|| waiting.away.unwrap_or(now));
            // An agent that was given it and did not say that it took it may have it all the same: the runner died with the word on its
            // lips. Then that agent's conversation has it, and its number tells there and nowhere else, so it waits for that to go on.
            let bound = match waiting.progress {
                Progress::Sent(attempt) if goes_on(attempt.task, to) => Some(attempt.task),
                // Of one that is away nobody knows yet whether it has taken it.
                Progress::Sent(_) if stands != Standing::Away => {
                    effects.push(moved(waiting, Progress::Pending));
                    None
                }
                _ => None,
            };
            match stands {
                Standing::Works { attempt, .. } if bound.is_some_and(|task| task != attempt.task) => {}
                Standing::Idle if bound.is_some() => {}
                Standing::Works { attempt, listens: true } => {
                    if waiting.progress != Progress::Sent(attempt) {
                        effects.push(moved(waiting, Progress::Sent(attempt)));
                        waiting.told = false;
                    }
                    if !waiting.told {
                        waiting.told = true;
                        effects.push(Effect::Tell { to: to.clone(), attempt, message: waiting.message.clone(), uuid: waiting.uuid });
                    }
                }
                // One at a time: the next one may reach it while it works on this one.
                Standing::Idle if busy != Some(to) => {
                    busy = Some(to);
                    tasks.push(Effect::Task { to: to.clone(), message: waiting.message.clone() });
                }
                Standing::Away if bound.is_none() && waiting.away.is_some_and(|since| now.duration_since(since) > PATIENCE) => {
                    effects.push(moved(waiting, Progress::Expired));
                    expired.push((to.clone(), *id));
                }
                Standing::Works { .. } | Standing::Idle | Standing::Away => {}
            }
        }
        for key in expired {
            self.waiting.remove(&key);
        }
        effects.extend(tasks);
        effects
    }

    /// Takes out the calls for help that are over: those whose task has ended, with what came of it, and those whose time is over.
    pub fn answered(&mut self, now: Timestamp, ended: impl Fn(TaskId) -> Option<Ending>) -> (Vec<(Help, Ending)>, Vec<Effect>) {
        let (mut over, mut effects) = (Vec::new(), Vec::new());
        self.helps.retain(|help| {
            let ending = ended(help.task).or_else(|| {
                (help.until <= now).then(|| {
                    effects.push(Effect::Cancel(help.task));
                    Ending { succeeded: false, text: "nobody has answered in time".to_owned() }
                })
            });
            match ending {
                Some(ending) => {
                    over.push((help.clone(), ending));
                    false
                }
                None => true,
            }
        });
        (over, effects)
    }

    /// Forgets what was counted for attempts and tasks that are over.
    pub fn forget(&mut self, lives: impl Fn(TaskId) -> bool) {
        self.sent.retain(|attempt, _| lives(attempt.task));
        self.hops.retain(|task, _| lives(*task));
    }
}
