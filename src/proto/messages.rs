//! The API's types for messages. Times are RFC 3339.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A message to an instance or a team.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// The instance, or a team: then all of its members that run.
    pub to: String,
    /// What it says, at most 64 KiB.
    pub text: String,
    /// The message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<i64>,
}

/// A message to all instances that run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBroadcast {
    /// What it says, at most 64 KiB; `message` is taken too.
    #[serde(alias = "message")]
    pub text: String,
}

/// A question to whoever is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHelp {
    /// The question, at most 64 KiB.
    pub text: String,
    /// Only to one that has this specialty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub specialty: Option<String>,
    /// How long an answer may take; ten minutes if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Its number.
    pub id: i64,
    /// When it was taken.
    pub at: String,
    /// `message`, `broadcast`, `help`, or `answer` to a call for help.
    pub kind: String,
    /// Who: `user:NAME`, `instance:NAME`, `token`.
    pub sender: String,
    /// The instance whose agent has sent it.
    pub from: Option<String>,
    /// To whom, as it was asked for.
    pub to: String,
    /// The message that it answers.
    pub reply_to: Option<i64>,
    /// What it says; in lists a long text is cut.
    pub text: String,
    /// How long the text is.
    pub bytes: u64,
    /// How many messages led to it, each sent by an agent that had got the one before.
    pub hops: u32,
    /// Of a call for help: the task that is to answer it.
    pub task: Option<i64>,
    /// How far it has come, by instance.
    pub letters: Vec<Letter>,
    /// The messages that answer it.
    pub answers: Vec<i64>,
}

/// A message on its way to one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Letter {
    /// The instance.
    pub to: String,
    /// `pending` (it waits for the instance), `sent` (to its agent, which has not taken it yet), `delivered`, `queued` (as a task,
    /// since the instance had nothing to do), or `expired` (the instance was away for a day).
    pub state: String,
    /// The task whose agent has got it, or that it has become.
    pub task: Option<i64>,
    /// Since when.
    pub since: String,
}
