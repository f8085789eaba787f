//! The command lines of `claudectl task …`.

use crate::core::ids::InstanceName;
use crate::core::limits::parse_duration;
use crate::core::task::TaskType;
use clap::{Args, Subcommand};
use std::time::Duration;

/// `claudectl task …`
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum TaskCommand {
    /// Put a task into the queue and print its number
    #[command(
        after_help = "Examples:\n  claudectl task add 'Fix the failing test in parser.rs'\n  claudectl task add --instance feature-x --type bugfix --timeout 30min --budget-usd 2.50 'Fix issue 42'\n  \
                      claudectl task add --wait - < prompt.md\n  id=$(claudectl task add 'Write the changelog') && claudectl task wait $id"
    )]
    Add(Add),
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
    #[command(after_help = "Examples:\n  claudectl task cancel 12\n  claudectl task cancel 12 13 14")]
    Cancel(Ids),
    /// Put ended tasks back into the queue
    #[command(after_help = "Examples:\n  claudectl task retry 12")]
    Retry(Ids),
    /// Wait until tasks have ended; exits with 0 only if all of them succeeded
    #[command(
        after_help = "Examples:\n  claudectl task wait 12\n  claudectl task wait 12 13 --timeout 1h && make release\n\nCtrl-C and --timeout end the waiting, not the tasks."
    )]
    Wait(Wait),
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
    /// Wait until the task has ended; exits with 0 only if it succeeded
    #[arg(long)]
    pub(in crate::ctl) wait: bool,
}

/// Which tasks to list.
#[derive(Debug, Args)]
pub(in crate::ctl) struct List {
    /// Only in this state
    #[arg(long, value_name = "STATE", value_parser = ["pending", "assigned", "running", "verifying", "publishing", "succeeded", "failed", "cancelled"])]
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

/// Tasks to wait for.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Wait {
    /// The tasks' numbers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::ctl) ids: Vec<i64>,
    /// Give up waiting after that time and exit with 6
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::ctl) timeout: Option<Duration>,
}

fn budget(text: &str) -> Result<f64, String> {
    let dollars = text.strip_prefix('$').unwrap_or(text).parse().ok();
    dollars.filter(|d: &f64| d.is_finite() && *d > 0.0).ok_or_else(|| "a budget is an amount of US dollars above 0, such as 2.50".to_owned())
}
