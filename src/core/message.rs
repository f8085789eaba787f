//! Messages: from a person or an agent to agents, stored before they are on their way, delivered once.
//!
//! A message goes to one or more instances, each by a [`Letter`] of its own: to a running agent at its next tool boundary, to an
//! idle one as a task.

mod post;
#[cfg(test)]
mod tests;

pub use post::{Effect, Ending, Help, Post, Refused, Standing};

use super::ids::{AttemptId, InstanceName, TaskId};
use super::task::{Target, TaskSpec, TaskType};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Longest text, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// A message's number, in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub i64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why somebody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To say something to an instance or a team.
    Message,
    /// To say something to all.
    Broadcast,
    /// To ask whoever is free.
    Help,
    /// With what came of a [`Kind::Help`].
    Answer,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Message, Self::Broadcast, Self::Help, Self::Answer];

    /// The name in the API and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Broadcast => "broadcast",
            Self::Help => "help",
            Self::Answer => "answer",
        }
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or("not a kind of message")
    }
}

/// Why a text is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing in it.
    #[error("text: it is empty; say something")]
    Empty,
    /// Over [`TEXT_MAX`].
    #[error("text: it has {0} bytes, and at most {TEXT_MAX} are taken; put it into a file and name that")]
    Long(usize),
    /// A NUL, or another character that is for terminals.
    #[error("text: it has a control character other than a line break or a tab")]
    Control,
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Who, as the audit has it.
    pub sender: String,
    /// The instance whose agent it is, if it is one.
    pub from: Option<InstanceName>,
    /// What that agent is working on.
    pub attempt: Option<AttemptId>,
    /// Why.
    pub kind: Kind,
    /// To whom, as it was asked for.
    pub to: String,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// What it says.
    pub text: String,
}

/// Checks a text and puts its line breaks in order.
///
/// # Errors
/// The first thing that is wrong.
pub fn checked(text: &str) -> Result<String, InvalidText> {
    let text = text.replace("\r\n", "\n");
    if text.trim().is_empty() {
        return Err(InvalidText::Empty);
    }
    if text.len() > TEXT_MAX {
        return Err(InvalidText::Long(text.len()));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(InvalidText::Control);
    }
    Ok(text)
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub id: MessageId,
    /// When it was taken.
    pub at: Timestamp,
    /// What was asked for.
    pub draft: Draft,
    /// How many messages led to it, each sent by an agent that had got the one before.
    pub hops: u32,
}

impl Message {
    /// What the agent that gets it is told.
    pub fn told(&self) -> String {
        let Self { id, draft, .. } = self;
        let sender = match (&draft.from, draft.sender.strip_prefix("user:")) {
            (Some(name), _) => format!("the agent of instance {name}"),
            (None, Some(user)) => format!("the user {user}"),
            (None, None) => "an operator".to_owned(),
        };
        let answers = draft.reply_to.map(|id| format!(", in answer to message {id}")).unwrap_or_default();
        let how = match &draft.from {
            Some(name) if draft.kind != Kind::Answer => {
                format!("\n\n(To answer: claudectl send --reply-to {id} {name} 'TEXT', or the tool send_message. Answer only if it needs one.)")
            }
            _ => String::new(),
        };
        format!("Message {id} from {sender}{answers}:\n\n{}{how}", draft.text)
    }

    /// The task that brings it to an instance that has none.
    pub fn task(&self, to: &InstanceName) -> TaskSpec {
        let sender = self.draft.from.as_ref().map_or(self.draft.sender.as_str(), InstanceName::as_str);
        self.spec(to, "message", format!("Message {} from {sender}", self.id), None)
    }

    /// The task that asks for help.
    pub fn question(&self, of: &InstanceName, timeout: Duration) -> TaskSpec {
        let sender = self.draft.from.as_ref().map_or(self.draft.sender.as_str(), InstanceName::as_str);
        let spec = self.spec(of, "help", format!("Help for {sender}"), Some(timeout));
        let prompt = format!("{} asks for help. What you say last is the answer; it is sent back as it is.\n\n{}", sender, self.draft.text);
        TaskSpec { prompt, ..spec }
    }

    fn spec(&self, to: &InstanceName, kind: &str, title: String, timeout: Option<Duration>) -> TaskSpec {
        TaskSpec {
            target: Target::Instance(to.clone()),
            kind: kind.parse::<TaskType>().unwrap_or_default(),
            title,
            prompt: self.told(),
            timeout,
            budget: None,
            max_turns: None,
            schema: None,
            terms: Arc::default(),
        }
    }
}

/// Which messages to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageQuery {
    /// Only of or to this instance.
    pub instance: Option<InstanceName>,
    /// Only with a smaller number, newest first.
    pub before: Option<MessageId>,
    /// At most this many.
    pub limit: u32,
}

/// How far a message has come on its way to one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits for the instance.
    Pending,
    /// It has been given to that attempt's agent, which has not taken it yet.
    Sent(AttemptId),
    /// That attempt's agent has it.
    Delivered(AttemptId),
    /// It is a task.
    Queued(TaskId),
    /// The instance was not there for too long.
    Expired,
}

impl Progress {
    /// The name in the API and the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent(_) => "sent",
            Self::Delivered(_) => "delivered",
            Self::Queued(_) => "queued",
            Self::Expired => "expired",
        }
    }
}

/// A message on its way to one instance. The number is what the agent's own program tells repetitions by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// To whom.
    pub to: InstanceName,
    /// The same each time it is given to an agent.
    pub uuid: Uuid,
    /// How far it has come.
    pub progress: Progress,
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new message, with all its letters.
    Posted(Box<Message>, Vec<Letter>),
    /// A letter has come further, or back.
    Moved(MessageId, InstanceName, Progress),
    /// A call for help is that task.
    Asked(MessageId, TaskId, Timestamp),
}
