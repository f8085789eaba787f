//! What people (or clauded, of an account without a login) have paused: nothing of it starts until they let it go on. What runs
//! goes on.

use super::{Change, Effect, Queue};
use crate::core::ids::InstanceName;
use crate::core::label::Label;
use jiff::Timestamp;
use std::fmt;

/// What is paused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole queue.
    All,
    /// One instance takes nothing.
    Instance(InstanceName),
    /// No member of a team takes anything.
    Team(Label),
    /// Tasks of a group do not start.
    Group(Label),
    /// Whoever works under that account takes nothing.
    Account(String),
}

impl Scope {
    /// The stable names of the kinds.
    pub const KINDS: [&'static str; 5] = ["all", "instance", "team", "group", "account"];

    /// The instance, if it is one.
    pub fn instance(&self) -> Option<&InstanceName> {
        if let Self::Instance(name) = self { Some(name) } else { None }
    }

    /// The stable name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Instance(_) => "instance",
            Self::Team(_) => "team",
            Self::Group(_) => "group",
            Self::Account(_) => "account",
        }
    }

    /// Which one of its kind; empty for all.
    pub fn name(&self) -> &str {
        match self {
            Self::All => "",
            Self::Instance(name) => name.as_str(),
            Self::Team(label) | Self::Group(label) => label.as_str(),
            Self::Account(name) => name,
        }
    }

    /// From both.
    ///
    /// # Errors
    /// Says which is wrong.
    pub fn new(kind: &str, name: &str) -> Result<Self, String> {
        let label = || name.parse::<Label>().map_err(|error| error.to_string());
        match kind {
            "all" if name.is_empty() => Ok(Self::All),
            "all" => Err("all has no name".to_owned()),
            "instance" => name.parse().map(Self::Instance).map_err(|error: crate::core::ids::InvalidName| error.to_string()),
            "team" => label().map(Self::Team),
            "group" => label().map(Self::Group),
            "account" if name.trim().is_empty() || name.len() > 200 || name.contains(char::is_control) => Err("an account has a name of one line".to_owned()),
            "account" => Ok(Self::Account(name.to_owned())),
            other => Err(format!("{other:?} is none of {}", Self::KINDS.join(", "))),
        }
    }

    /// The option of `claudectl resume` that takes it back.
    pub fn option(&self) -> String {
        match self {
            Self::All => "--all".to_owned(),
            other => format!("--{} {}", other.kind(), other.name()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("the queue"),
            other => write!(f, "{} {}", other.kind(), other.name()),
        }
    }
}

/// Who has paused it and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Who, for people.
    pub by: String,
    /// Why; may be empty.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

impl Queue {
    /// Pauses something. `false` if it is paused already; who paused it first stays.
    pub fn pause(&mut self, scope: Scope, pause: Pause) -> (bool, Vec<Effect>) {
        if self.pauses.contains_key(&scope) {
            return (false, Vec::new());
        }
        let why = if pause.why.is_empty() { String::new() } else { format!(": {}", pause.why) };
        let message = format!("{scope} paused by {}{why}", pause.by);
        self.pauses.insert(scope.clone(), pause.clone());
        let instance = scope.instance().cloned();
        (true, vec![Effect::Save(Change::Pause(scope, Some(pause))), Effect::Tell { kind: "paused", instance, task: None, message }])
    }

    /// Lets something go on. `false` if it is not paused.
    pub fn resume(&mut self, scope: Scope, by: &str, now: Timestamp) -> (bool, Vec<Effect>) {
        if self.pauses.remove(&scope).is_none() {
            return (false, Vec::new());
        }
        let instance = scope.instance().cloned();
        let message = format!("{scope} resumed by {by}");
        let mut effects = vec![Effect::Save(Change::Pause(scope, None)), Effect::Tell { kind: "resumed", instance, task: None, message }];
        effects.extend(self.dispatch(now));
        (true, effects)
    }

    /// The pause that keeps an instance from taking anything.
    pub(super) fn pause_of(&self, name: &InstanceName, account: Option<&str>) -> Option<(&Scope, &Pause)> {
        if self.pauses.is_empty() {
            return None;
        }
        let team = self.rules.member(name).team.clone().map(Scope::Team);
        let account = account.map(|account| Scope::Account(account.to_owned()));
        let scopes = [Some(Scope::All), Some(Scope::Instance(name.clone())), team, account];
        scopes.iter().flatten().find_map(|scope| self.pauses.get_key_value(scope))
    }
}
