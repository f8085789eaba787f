//! The verbs on messages.

use super::{Verbs, refused, stopping};
use crate::core::message::{Draft, Kind, MessageId, MessageQuery, Progress, Refused, checked};
use crate::daemon::engine::Input;
use crate::daemon::mail::{Posting, Route};
use crate::http::service::{Answer, Caller, Messages, ServiceError};
use crate::platform::store::{StoredLetter, StoredMessage};
use crate::proto::messages::{Letter, Message, NewBroadcast, NewHelp, NewMessage};
use std::time::Duration;

/// How long an answer to a call for help may take if nothing is said.
const HELP: Duration = Duration::from_secs(600);

impl From<Refused> for ServiceError {
    fn from(why: Refused) -> Self {
        let detail = why.to_string();
        match why {
            Refused::Unknown(_) => refused(404, "no-such-recipient", detail),
            Refused::Nobody(_) => refused(409, "nobody-there", detail),
            Refused::TooMany | Refused::TooDeep => refused(429, "too-many-messages", detail),
            Refused::Full(_) => refused(429, "mailbox-full", detail),
        }
    }
}

fn no_such_message(id: MessageId) -> ServiceError {
    refused(404, "no-such-message", format!("there is no message {id}; list them with: claudectl messages"))
}

impl Verbs {
    async fn post(&self, caller: Caller, kind: Kind, to: String, text: &str, reply_to: Option<MessageId>, route: Route) -> Result<Message, ServiceError> {
        let text = checked(text).map_err(|e| refused(422, "invalid-message", e.to_string()))?;
        if let Some(id) = reply_to {
            self.store.message(id).await?.ok_or_else(|| refused(422, "invalid-message", format!("reply_to: there is no message {id}")))?;
        }
        let from = caller.agent().cloned();
        // The engine knows what the agent works on.
        let draft = Draft { sender: caller.actor.who.to_string(), from, attempt: None, kind, to, reply_to, text };
        let id = self.decide(&caller, |reply| Input::Post(Box::new(Posting { draft, route }), reply)).await??;
        tracing::info!(message = id.0, by = %caller.description, "message {id} accepted, sent by {}", caller.description);
        self.store.message(id).await?.map(shown).ok_or_else(|| no_such_message(id))
    }
}

impl Messages for Verbs {
    fn send(&self, caller: Caller, new: NewMessage) -> Answer<'_, Message> {
        Box::pin(async move {
            let NewMessage { to, text, reply_to } = new;
            self.post(caller, Kind::Message, to.clone(), &text, reply_to.map(MessageId), Route::To(to)).await
        })
    }

    fn broadcast(&self, caller: Caller, new: NewBroadcast) -> Answer<'_, Message> {
        Box::pin(async move { self.post(caller, Kind::Broadcast, "all".to_owned(), &new.text, None, Route::All).await })
    }

    fn help(&self, caller: Caller, new: NewHelp) -> Answer<'_, Message> {
        Box::pin(async move {
            let patience = match new.timeout_seconds {
                Some(seconds @ 1..=86_400) => Duration::from_secs(seconds),
                Some(_) => return Err(refused(422, "invalid-message", "timeout_seconds: it is 1 to 86400")),
                None => HELP,
            };
            let to = new.specialty.as_ref().map_or_else(|| "free".to_owned(), |specialty| format!("free: {specialty}"));
            self.post(caller, Kind::Help, to, &new.text, None, Route::Free(new.specialty, patience)).await
        })
    }

    fn messages(&self, query: MessageQuery) -> Answer<'_, Vec<Message>> {
        Box::pin(async move {
            let found = self.store.messages(&query).await?;
            Ok(found.into_iter().map(shown).collect())
        })
    }

    fn message(&self, id: MessageId, wait: bool) -> Answer<'_, Message> {
        Box::pin(async move {
            // Whatever becomes of a message leaves a row in the audit.
            let mut changes = self.store.audit_heads();
            loop {
                changes.mark_unchanged();
                let message = self.store.message(id).await?.map(shown).ok_or_else(|| no_such_message(id))?;
                if !wait || !message.answers.is_empty() {
                    return Ok(message);
                }
                changes.changed().await.map_err(|_| stopping())?;
            }
        })
    }
}

fn shown(stored: StoredMessage) -> Message {
    let StoredMessage { message, bytes, task, letters, answers } = stored;
    let draft = message.draft;
    Message {
        id: message.id.0,
        at: message.at.to_string(),
        kind: draft.kind.name().to_owned(),
        sender: draft.sender,
        from: draft.from.map(|name| name.to_string()),
        to: draft.to,
        reply_to: draft.reply_to.map(|id| id.0),
        text: draft.text,
        bytes,
        hops: message.hops,
        task: task.map(|task| task.0),
        letters: letters.into_iter().map(letter).collect(),
        answers: answers.into_iter().map(|id| id.0).collect(),
    }
}

fn letter(StoredLetter { letter, moved }: StoredLetter) -> Letter {
    let task = match letter.progress {
        Progress::Sent(attempt) | Progress::Delivered(attempt) => Some(attempt.task.0),
        Progress::Queued(task) => Some(task.0),
        Progress::Pending | Progress::Expired => None,
    };
    Letter { to: letter.to.to_string(), state: letter.progress.name().to_owned(), task, since: moved.to_string() }
}
