//! Messages between persons and agents.

use super::{Answer, Caller};
use crate::core::message::{MessageId, MessageQuery};
use crate::proto::messages::{Message, NewBroadcast, NewHelp, NewMessage};

/// Messages between persons and agents. Whoever calls is the sender.
pub trait Messages: Send + Sync {
    /// Sends to an instance or a team.
    fn send(&self, caller: Caller, message: NewMessage) -> Answer<'_, Message>;
    /// Sends to all that run.
    fn broadcast(&self, caller: Caller, message: NewBroadcast) -> Answer<'_, Message>;
    /// Asks one that is free.
    fn help(&self, caller: Caller, question: NewHelp) -> Answer<'_, Message>;
    /// Lists messages, newest first.
    fn messages(&self, query: MessageQuery) -> Answer<'_, Vec<Message>>;
    /// One message. With `wait`, answers when it has been answered.
    fn message(&self, id: MessageId, wait: bool) -> Answer<'_, Message>;
}
