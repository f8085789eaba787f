//! The port to an agent: its command line and first input, what its output means, and how it is asked to stop.

mod accounting;
mod claude;
mod command;
mod judgement;
mod stream;

pub(super) use accounting::Totals;

use crate::core::attempt::Exit;
use crate::core::ids::SessionId;
use crate::core::profile::AgentKind;
use crate::core::usage::AgentUsage;
use crate::core::verdict::AgentVerdict;
use crate::proto::link::Work;
use std::path::Path;
use uuid::Uuid;

/// Most bytes kept of an agent's last words.
pub(super) const WORDS_MAX: usize = 16 << 10;

/// Most bytes of a result that has to fit a schema: half a JSON text is none.
pub(super) const OUTPUT_MAX: usize = 64 << 10;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How the agent's process is asked to stop what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// With these bytes on its standard input.
    Input(Vec<u8>),
    /// With SIGINT to its process.
    Process,
    /// With SIGINT to its process group.
    Group,
}

/// How the agent is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// In a few words.
    pub(super) doing: String,
    /// Whether it waits for its server's permission to go on.
    pub(super) throttled: bool,
    /// What this attempt has used so far.
    pub(super) usage: AgentUsage,
}

/// One agent for the time of one attempt, over as many processes as that takes.
pub(super) trait Agent: Send + Sync {
    /// The arguments after the profile's command.
    fn arguments(&self) -> Vec<String>;
    /// Variables that this agent needs; the profile's win over them.
    fn environment(&self) -> &'static [(&'static str, &'static str)];
    /// What its standard input begins with.
    fn input(&self) -> Vec<u8>;
    /// What tells it a message while it runs; `None` if it cannot be told.
    fn message(&self, uuid: Uuid, text: &str) -> Option<Vec<u8>>;
    /// The messages that it has taken since it was asked last.
    fn taken(&mut self) -> Vec<Uuid>;
    /// Whether standard input can be closed now.
    fn input_done(&self) -> bool;
    /// A line of its output.
    fn line(&mut self, stream: Stream, line: &[u8]);
    /// How to ask it to stop, given that its standard input is still open or not.
    fn interrupt(&self, input_open: bool) -> Interrupt;
    /// Whether SIGTERM goes to its process group and not to its process alone.
    fn terminate_group(&self) -> bool;
    /// Its process ended so: whether the attempt has to start another one, and then why.
    fn again(&mut self, exit: Exit) -> Option<&'static str>;
    /// Its work did not pass its check: the next process goes on with these words.
    fn follow_up(&mut self, words: String);
    /// How it is doing.
    fn condition(&self) -> &Condition;
    /// The conversation that it works in.
    fn session(&self) -> Option<SessionId>;
    /// The conversation's cumulative account, for a later attempt that goes on with it.
    fn totals(&self) -> Option<Totals>;
    /// What it says of its work, given how its process ended.
    fn verdict(&self, exit: Exit) -> AgentVerdict;
    /// Its last words, at most [`WORDS_MAX`] bytes; or the result that has to fit a schema, at most [`OUTPUT_MAX`].
    fn last_words(&self) -> String;
}

/// The agent for that work. `before` is what the session to go on with had used by its end, if that is known; `settings` is a file
/// of Claude Code's, `mcp` its configuration of the MCP server that agents get.
pub(super) fn for_work(work: &Work, before: Option<Totals>, settings: Option<&Path>, mcp: Option<String>) -> Box<dyn Agent> {
    match work.profile.agent {
        AgentKind::Claude => Box::new(claude::Claude::new(work, before).with_settings(settings).with_mcp(mcp)),
        AgentKind::Command => Box::new(command::Command::new(work)),
    }
}

/// The first `max` bytes of a text, or a little less: never half a character.
fn head(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// The last `max` bytes of a text, or a little less.
fn tail(text: &str, max: usize) -> &str {
    text.get(text.ceil_char_boundary(text.len().saturating_sub(max))..).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_never_halve_a_character() {
        assert_eq!((head("aé", 2), head("aé", 3), head("a", 9)), ("a", "aé", "a"));
        assert_eq!((tail("éa", 2), tail("éa", 3), tail("a", 9)), ("a", "éa", "a"));
    }
}
