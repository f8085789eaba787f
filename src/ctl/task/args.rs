//! The command lines of `claudectl task …`.

use crate::core::ids::InstanceName;
use crate::core::label::Label;
use crate::core::limits::parse_duration;
use crate::core::task::TaskType;
use crate::core::terms::Priority;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// `claudectl task …`
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum TaskCommand {
    /// Put a task into the queue and print its number
    #[command(
        after_help = "Examples:\n  claudectl task add 'Fix the failing test in parser.rs'\n  claudectl task add --instance feature-x --type bugfix --timeout 30min --budget-usd 2.50 'Fix issue 42'\n  \
                      claudectl task add --wait - < prompt.md\n  claudectl task add --after 12,13 --priority 5 --group release 'Write the notes'\n  claudectl task add --not-before 2h --specialty frontend 'Look at the build again'\n  id=$(claudectl task add 'Write the changelog') && claudectl task wait $id"
    )]
    Add(Box<Add>),
    /// List tasks, newest first
    #[command(
        after_help = "Examples:\n  claudectl task list\n  claudectl task list --state failed --instance feature-x\n  claudectl task list --all -o json | jq '[.[].cost_usd] | add'"
    )]
    List(List),
    /// Show a task with its attempts: how each ended and what it used
    #[command(after_help = "Examples:\n  claudectl task show 12\n  claudectl task show 12 -o json | jq .history")]
    Show {
        /// The task's number
        id: i64,
    },
    /// Show what the agent said and did
    #[command(
        after_help = "Examples:\n  claudectl task log 12\n  claudectl task log -f 12              also through retries\n  claudectl task log 12 --attempt 1\n  claudectl task log 12 --raw | jq 'select(.type==\"result\")'"
    )]
    Log(Log),
    /// End tasks, running or waiting; ended ones stay as they are
    #[command(after_help = "Examples:\n  claudectl task cancel 12\n  claudectl task cancel 12 13 14\n  claudectl task cancel --group nightly")]
    Cancel(IdsOrGroup),
    /// Put ended tasks back into the queue
    #[command(after_help = "Examples:\n  claudectl task retry 12")]
    Retry(Ids),
    /// Wait until tasks have ended; exits with 0 only if all of them succeeded
    #[command(
        after_help = "Examples:\n  claudectl task wait 12\n  claudectl task wait 12 13 --timeout 1h && make release\n  claudectl task wait --group nightly\n\nCtrl-C and --timeout end the waiting, not the tasks."
    )]
    Wait(Wait),
    /// Take a task to do it yourself: that one, or the most urgent that you could take
    #[command(
        after_help = "Examples:\n  claudectl task claim\n  claudectl task claim 12 --as alice\n\nNo agent is given it meanwhile. An agent may claim too; what it has claimed goes back when its unit ends."
    )]
    Claim(Claim),
    /// Say that a task that you have claimed is done, and see what you might do next
    #[command(after_help = "Examples:\n  claudectl task complete 12 --note 'merged by hand'\n  claudectl task complete 12 --failed")]
    Complete(Complete),
    /// Give claimed tasks back to the queue
    #[command(after_help = "Examples:\n  claudectl task release 12")]
    Release(Ids),
    /// Put the tasks of a YAML file into the queue, all of them or none
    #[command(
        after_help = "Examples:\n  claudectl task import plan.yaml\n  claudectl task import - < plan.yaml\n\nThe file:\n  queue:\n    - id: auth\n      type: feature\n      description: Add user authentication\n      assigned_to: feature-x\n    - description: Write its tests\n      after: [auth]\n      priority: 5\n\nAll keys: docs/queue.md"
    )]
    Import(Import),
    /// Print the tasks that have not ended as the YAML that import takes
    #[command(after_help = "Examples:\n  claudectl task export > queue.yaml\n  claudectl task export --group release --all")]
    Export(Export),
}

/// A new task.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Add {
    /// What the agent is told; - reads it from standard input
    pub(in crate::ctl) prompt: String,
    /// The instance that is to do it
    #[arg(long, value_name = "NAME", conflicts_with = "any")]
    pub(in crate::ctl) instance: Option<InstanceName>,
    /// Any idle instance may do it (the default)
    #[arg(long)]
    pub(in crate::ctl) any: bool,
    /// The kind of work, a label of the metrics: feature, bugfix, …
    #[arg(long = "type", value_name = "TYPE")]
    pub(in crate::ctl) kind: Option<TaskType>,
    /// One line for tables [default: the prompt's first line]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::ctl) title: Option<String>,
    /// Longest time of one attempt, such as 30min or "1h 30m"
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::ctl) timeout: Option<Duration>,
    /// Most that all attempts together may cost, in US dollars
    #[arg(long, value_name = "USD", value_parser = budget)]
    pub(in crate::ctl) budget_usd: Option<f64>,
    /// Most model turns of one attempt
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::ctl) max_turns: Option<u32>,
    /// A file with a JSON schema that the result has to fit, for a Claude Code instance; the result is then that JSON
    #[arg(long, value_name = "FILE", requires = "instance")]
    pub(in crate::ctl) schema: Option<PathBuf>,
    /// How urgent it is, -10 to 10; more is sooner
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(in crate::ctl) priority: Option<Priority>,
    /// The tasks that it comes after: it waits until they have ended
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(in crate::ctl) after: Vec<i64>,
    /// What becomes of it when one of those fails: it fails too, or is released [default: fail]
    #[arg(long, value_name = "WHAT", value_parser = ["fail", "release"])]
    pub(in crate::ctl) after_failed: Option<String>,
    /// Not before that time, such as 2026-11-22T08:00:00Z, "2026-11-22 08:00" of here, or a span from now such as 90min
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub(in crate::ctl) not_before: Option<When>,
    /// What it counts with: groups can be listed, ended, paused and limited
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) group: Option<Label>,
    /// Only a member of this team may take it
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) team: Option<Label>,
    /// Only a member in this role
    #[arg(long, value_name = "ROLE")]
    pub(in crate::ctl) role: Option<Label>,
    /// Only an instance with this specialty
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) specialty: Option<Label>,
    /// Only an instance with this label; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) label: Vec<Label>,
    /// Only an instance that works on this repository
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) repository: Option<Label>,
    /// The branch that it is about
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) branch: Option<String>,
    /// A file that it will touch, from the root of the worktree; a directory with a slash at its end, or a glob; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(in crate::ctl) file: Vec<String>,
    /// Wait until the task has ended; exits with 0 only if it succeeded
    #[arg(long)]
    pub(in crate::ctl) wait: bool,
}

/// A time, or a span from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum When {
    At(Timestamp),
    In(Duration),
}

impl When {
    /// As the API takes it.
    pub(in crate::ctl) fn text(self, now: Timestamp) -> String {
        match self {
            Self::At(at) => at,
            Self::In(span) => now.checked_add(span).unwrap_or(Timestamp::MAX),
        }
        .to_string()
    }
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(at) = text.parse() {
        return Ok(When::At(at));
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        return local.to_zoned(jiff::tz::TimeZone::system()).map(|zoned| When::At(zoned.timestamp())).map_err(|error| error.to_string());
    }
    parse_duration(text).map(When::In).map_err(|_| "a time is such as 2026-11-22T08:00:00Z, \"2026-11-22 08:00\", or a span from now such as 90min".to_owned())
}

/// Which tasks to list.
#[derive(Debug, Args)]
pub(in crate::ctl) struct List {
    /// Only of this group
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) group: Option<Label>,
    /// Only in this state
    #[arg(long, value_name = "STATE", value_parser = ["pending", "assigned", "running", "verifying", "publishing", "claimed", "succeeded", "failed", "cancelled"])]
    pub(in crate::ctl) state: Option<String>,
    /// Only for or on this instance
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) instance: Option<InstanceName>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::ctl) limit: u32,
    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    pub(in crate::ctl) all: bool,
}

/// Which log, and how.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Log {
    /// The task's number
    pub(in crate::ctl) id: i64,
    /// Which attempt [default: the last; with --follow also those to come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::ctl) attempt: Option<u32>,
    /// Go on until the task has ended
    #[arg(short, long)]
    pub(in crate::ctl) follow: bool,
    /// The agent's output as it is: JSON lines
    #[arg(long)]
    pub(in crate::ctl) raw: bool,
}

/// Tasks to act on.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Ids {
    /// The tasks' numbers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::ctl) ids: Vec<i64>,
}

/// Tasks to act on, by their numbers or their group.
#[derive(Debug, Args)]
pub(in crate::ctl) struct IdsOrGroup {
    /// The tasks' numbers
    #[arg(required_unless_present = "group", value_name = "ID")]
    pub(in crate::ctl) ids: Vec<i64>,
    /// All of this group that have not ended
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    pub(in crate::ctl) group: Option<Label>,
}

/// Which task, and who takes it.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Claim {
    /// The task's number [default: the most urgent that you could take]
    pub(in crate::ctl) id: Option<i64>,
    /// Who takes it [default: you]
    #[arg(long = "as", value_name = "NAME")]
    pub(in crate::ctl) by: Option<String>,
}

/// How a task ended.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Complete {
    /// The task's number
    pub(in crate::ctl) id: i64,
    /// It was not done, and nobody is to try it again
    #[arg(long)]
    pub(in crate::ctl) failed: bool,
    /// A few words on it
    #[arg(long, value_name = "TEXT")]
    pub(in crate::ctl) note: Option<String>,
}

/// A file of tasks.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Import {
    /// The YAML file; - reads standard input
    pub(in crate::ctl) file: PathBuf,
}

/// Which tasks to print.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Export {
    /// Only of this group
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) group: Option<Label>,
    /// Those too that have ended
    #[arg(long)]
    pub(in crate::ctl) all: bool,
}

/// Tasks to wait for.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Wait {
    /// The tasks' numbers
    #[arg(required_unless_present = "group", value_name = "ID")]
    pub(in crate::ctl) ids: Vec<i64>,
    /// All of this group that have not ended now
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    pub(in crate::ctl) group: Option<Label>,
    /// Give up waiting after that time and exit with 6
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::ctl) timeout: Option<Duration>,
}

pub(in crate::ctl) fn budget(text: &str) -> Result<f64, String> {
    let dollars = text.strip_prefix('$').unwrap_or(text).parse().ok();
    dollars.filter(|d: &f64| d.is_finite() && *d > 0.0).ok_or_else(|| "a budget is an amount of US dollars above 0, such as 2.50".to_owned())
}
