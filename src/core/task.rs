//! A task: what is asked, of whom, within which bounds, and where it stands.

use super::attempt::Reason;
use super::ids::{AttemptId, InstanceName, InvocationId, TaskId};
use super::terms::Terms;
use super::usage::Usd;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Longest prompt, in bytes: the agent's command refuses more than ten megabytes on its standard input.
pub const PROMPT_MAX: usize = 1 << 20;
/// Longest title, in bytes.
pub const TITLE_MAX: usize = 200;

/// Longest JSON schema, in bytes: the agent takes it as one argument, and the kernel passes 128 KiB (execve(2)).
pub const SCHEMA_MAX: usize = 64 << 10;

/// Who may take a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first idle instance.
    Any,
    /// That instance alone.
    Instance(InstanceName),
}

impl Target {
    /// The instance, if it is one alone.
    pub fn instance(&self) -> Option<&InstanceName> {
        match self {
            Self::Any => None,
            Self::Instance(name) => Some(name),
        }
    }
}

/// The kind of work, a label of the metrics: `feature`, `bugfix`, … One to 32 lower-case letters, digits and dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskType(String);

impl TaskType {
    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TaskType {
    fn default() -> Self {
        Self("task".to_owned())
    }
}

impl FromStr for TaskType {
    type Err = InvalidTask;

    fn from_str(text: &str) -> Result<Self, InvalidTask> {
        let ok = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if ok { Ok(Self(text.to_owned())) } else { Err(InvalidTask::Type) }
    }
}

impl TryFrom<String> for TaskType {
    type Error = InvalidTask;

    fn try_from(text: String) -> Result<Self, InvalidTask> {
        text.parse()
    }
}

impl From<TaskType> for String {
    fn from(kind: TaskType) -> Self {
        kind.0
    }
}

impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a task is not taken into the queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTask {
    /// No prompt.
    #[error("the prompt is empty; say what is to be done")]
    EmptyPrompt,
    /// A prompt over [`PROMPT_MAX`].
    #[error("the prompt has {0} bytes, and at most {PROMPT_MAX} are taken; put the text into a file of the worktree and name it in the prompt")]
    LongPrompt(usize),
    /// A title that is too long or has control characters.
    #[error("the title is one line of at most {TITLE_MAX} bytes")]
    Title,
    /// A type that is not a label.
    #[error("a task type is 1 to 32 lower-case letters, digits and dashes, such as \"feature\" or \"bugfix\"")]
    Type,
    /// A budget of nothing.
    #[error("a budget is more than 0 dollars")]
    Budget,
    /// No turns.
    #[error("max-turns is at least 1")]
    MaxTurns,
    /// What is no JSON schema, or longer than [`SCHEMA_MAX`].
    #[error("a JSON schema is an object of at most {SCHEMA_MAX} bytes, such as {{\"type\": \"object\", \"required\": [\"title\"]}}")]
    Schema,
    /// Not every agent can be held to a schema.
    #[error("the result of a task fits a JSON schema only if its agent is Claude Code; name such an instance")]
    SchemaTarget,
}

/// What is asked for, as it was accepted. It never changes after that.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// Who may take it.
    pub target: Target,
    /// The kind of work.
    pub kind: TaskType,
    /// One line for tables.
    pub title: String,
    /// What the agent is told.
    pub prompt: String,
    /// Longest time of one attempt; the profile's where `None`.
    pub timeout: Option<Duration>,
    /// Most that all attempts together may cost.
    pub budget: Option<Usd>,
    /// Most model turns of one attempt.
    pub max_turns: Option<u32>,
    /// The JSON schema that its result has to fit.
    pub schema: Option<serde_json::Value>,
    /// On which terms it waits and starts.
    pub terms: Arc<Terms>,
}

impl TaskSpec {
    /// Checks the bounds and fills the title from the prompt's first line where it is empty.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validated(mut self) -> Result<Self, InvalidTask> {
        if self.prompt.trim().is_empty() {
            return Err(InvalidTask::EmptyPrompt);
        }
        if self.prompt.len() > PROMPT_MAX {
            return Err(InvalidTask::LongPrompt(self.prompt.len()));
        }
        if self.title.trim().is_empty() {
            let line = self.prompt.trim().lines().next().unwrap_or_default();
            self.title = line.chars().filter(|c| !c.is_control()).take(60).collect();
        }
        if self.title.len() > TITLE_MAX || self.title.chars().any(char::is_control) {
            return Err(InvalidTask::Title);
        }
        if self.budget == Some(Usd(0)) {
            return Err(InvalidTask::Budget);
        }
        if self.max_turns == Some(0) {
            return Err(InvalidTask::MaxTurns);
        }
        if let Some(schema) = &self.schema {
            if !schema.is_object() || schema.to_string().len() > SCHEMA_MAX {
                return Err(InvalidTask::Schema);
            }
            if self.target == Target::Any {
                return Err(InvalidTask::SchemaTarget);
            }
        }
        Ok(self)
    }
}

/// Where a task stands. Transitions are decided by [`super::queue`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Waits for an instance, and for `not_before` if there is one.
    Pending {
        /// Not before that time: a back-off or a usage limit.
        not_before: Option<Timestamp>,
    },
    /// Committed to an instance; its runner has not confirmed yet.
    Assigned(Placement),
    /// The agent's process runs.
    Running(Placement),
    /// The agent is done, and its work is checked.
    Verifying(Placement),
    /// The work is committed and pushed.
    Publishing(Placement),
    /// Somebody does it themselves; no runner is given it meanwhile.
    Claimed(Claim),
    /// Done.
    Succeeded,
    /// Given up.
    Failed(Reason),
    /// Ended by a person.
    Cancelled,
}

/// Which execution, where: together the fence against reports of anyone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The execution.
    pub attempt: AttemptId,
    /// The instance.
    pub instance: InstanceName,
    /// The start of the instance's unit that it was given to.
    pub invocation: InvocationId,
}

/// Who does a task themselves: a person, or the agent of an instance beside its own tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Their name, for people.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// The instance whose agent it is, in which start of its unit: with that it ends.
    pub agent: Option<(InstanceName, InvocationId)>,
}

impl TaskState {
    /// The stable names of all states, in the order of a task's life.
    pub const NAMES: [&'static str; 9] = ["pending", "assigned", "running", "verifying", "publishing", "claimed", "succeeded", "failed", "cancelled"];

    /// Whether nothing will happen to the task any more unless a person retries it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed(_) | Self::Cancelled)
    }

    /// The name of the state in the API, the store and the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Assigned(_) => "assigned",
            Self::Running(_) => "running",
            Self::Verifying(_) => "verifying",
            Self::Publishing(_) => "publishing",
            Self::Claimed(_) => "claimed",
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Where the task is, if it is anywhere.
    pub fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Assigned(placement) | Self::Running(placement) | Self::Verifying(placement) | Self::Publishing(placement) => Some(placement),
            _ => None,
        }
    }

    /// The start of an instance's unit with which the work on the task ends: of its runner, or of the agent that claimed it.
    pub fn rests_on(&self) -> Option<(&InstanceName, &InvocationId)> {
        match self {
            Self::Claimed(claim) => claim.agent.as_ref().map(|(instance, invocation)| (instance, invocation)),
            other => other.placement().map(|placement| (&placement.instance, &placement.invocation)),
        }
    }
}

/// The part of a task that the queue keeps in memory; the [`TaskSpec`] stays in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// Who may take it.
    pub target: Target,
    /// The kind of work.
    pub kind: TaskType,
    /// When it was accepted.
    pub created: Timestamp,
    /// Where it stands.
    pub state: TaskState,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Failed attempts that were followed by another, for the retry rule; a person's retry sets it to 0.
    pub failures: u32,
    /// The instance whose session is to be resumed, once there is one.
    pub home: Option<InstanceName>,
    /// Cost of all attempts so far.
    pub cost: Usd,
    /// Most that it may cost.
    pub budget: Option<Usd>,
    /// A person wants it ended.
    pub cancelling: bool,
    /// On which terms it waits and starts.
    pub terms: Arc<Terms>,
    /// How it came to its end where no attempt tells: a dependency's end, the words of who had claimed it. Else empty.
    pub note: String,
    /// The memory that its instance has while it works on it, in bytes, since it has run out of it with less.
    pub memory: Option<u64>,
}

impl Task {
    /// A task as it enters the queue.
    pub fn fresh(id: TaskId, spec: &TaskSpec, created: Timestamp) -> Self {
        Self {
            id,
            target: spec.target.clone(),
            kind: spec.kind.clone(),
            created,
            state: TaskState::Pending { not_before: spec.terms.not_before },
            attempts: 0,
            failures: 0,
            home: None,
            cost: Usd::default(),
            budget: spec.budget,
            cancelling: false,
            terms: spec.terms.clone(),
            note: String::new(),
            memory: None,
        }
    }

    /// The one instance that may take it, if it is bound: as asked for, or because its session lives there.
    pub fn bound_to(&self) -> Option<&InstanceName> {
        match &self.target {
            Target::Instance(name) => Some(name),
            Target::Any => self.home.as_ref(),
        }
    }
}

#[cfg(test)]
impl Task {
    /// One that waits, for tests.
    pub fn waiting(id: i64, target: Target) -> Self {
        Self {
            id: TaskId(id),
            target,
            kind: TaskType::default(),
            created: Timestamp::UNIX_EPOCH,
            state: TaskState::Pending { not_before: None },
            attempts: 0,
            failures: 0,
            home: None,
            cost: Usd(0),
            budget: None,
            cancelling: false,
            terms: Arc::default(),
            note: String::new(),
            memory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(prompt: &str) -> TaskSpec {
        TaskSpec {
            target: Target::Any,
            kind: TaskType::default(),
            title: String::new(),
            prompt: prompt.to_owned(),
            timeout: None,
            budget: None,
            max_turns: None,
            schema: None,
            terms: Arc::default(),
        }
    }

    #[test]
    fn title_comes_from_the_prompt() {
        let spec = spec("\n  Fix the \tparser\nand more").validated().expect("valid");
        assert_eq!(spec.title, "Fix the parser");
    }

    #[test]
    fn bad_specs() {
        assert_eq!(spec("  \n").validated(), Err(InvalidTask::EmptyPrompt));
        assert_eq!(spec(&"x".repeat(PROMPT_MAX + 1)).validated(), Err(InvalidTask::LongPrompt(PROMPT_MAX + 1)));
        assert_eq!(TaskSpec { title: "a\nb".into(), ..spec("x") }.validated(), Err(InvalidTask::Title));
        assert_eq!(TaskSpec { budget: Some(Usd(0)), ..spec("x") }.validated(), Err(InvalidTask::Budget));
        assert_eq!(TaskSpec { max_turns: Some(0), ..spec("x") }.validated(), Err(InvalidTask::MaxTurns));
        let schema = |schema, target| TaskSpec { schema: Some(schema), target, ..spec("x") }.validated().map(|_| ());
        let a = || Target::Instance("a".parse().expect("a name"));
        assert_eq!(schema(serde_json::json!({"type": "object"}), a()), Ok(()));
        assert_eq!(schema(serde_json::json!({"type": "object"}), Target::Any), Err(InvalidTask::SchemaTarget));
        assert_eq!(schema(serde_json::json!(["object"]), a()), Err(InvalidTask::Schema));
        assert_eq!(schema(serde_json::json!({"title": "x".repeat(SCHEMA_MAX)}), a()), Err(InvalidTask::Schema));
        assert!("Feature".parse::<TaskType>().is_err() && "".parse::<TaskType>().is_err());
    }
}
