//! The command line of `claudectl plan`.

use crate::core::ids::InstanceName;
use crate::core::label::Label;
use crate::core::plan::TASKS_MAX;
use crate::core::terms::Priority;
use clap::{Args, Subcommand};

/// `claudectl plan …`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  claudectl plan 'Users can log in with a passkey' --team feature-a\n  claudectl plan --review --max-tasks 8 --team feature-a - < goal.md\n  claudectl plan show 3\n  claudectl plan approve 3\n\n\
                  All tasks of plan 3 are in the group plan-3: claudectl task list --group plan-3"
)]
pub(in crate::ctl) struct Plan {
    #[command(subcommand)]
    pub(in crate::ctl) command: Option<PlanCommand>,
    #[command(flatten)]
    pub(in crate::ctl) new: NewPlan,
}

/// What to do with plans that there are.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum PlanCommand {
    /// List plans, newest first
    #[command(after_help = "Examples:\n  claudectl plan list\n  claudectl plan list --all")]
    List {
        /// Those that are over too
        #[arg(short, long)]
        all: bool,
    },
    /// Show a plan, its tasks and how they stand
    #[command(after_help = "Examples:\n  claudectl plan show 3\n  claudectl plan show 3 -o json | jq -r .state")]
    Show(Id),
    /// Let the tasks of a plan that waits for approval enter the queue, all at once
    #[command(after_help = "Examples:\n  claudectl plan approve 3")]
    Approve(Id),
    /// Drop a plan that waits for approval
    #[command(after_help = "Examples:\n  claudectl plan reject 3 --reason 'too coarse'")]
    Reject {
        #[command(flatten)]
        id: Id,
        /// Why, for those who wonder
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// End a plan, with all of its tasks that have not ended
    #[command(after_help = "Examples:\n  claudectl plan cancel 3")]
    Cancel(Id),
    /// Write a plan's tasks as the YAML that `claudectl task import` reads
    #[command(
        after_help = "Examples:\n  claudectl plan export 3 > plan.yaml && claudectl plan reject 3\n  $EDITOR plan.yaml && claudectl task import plan.yaml"
    )]
    Export(Id),
}

/// Which plan.
#[derive(Clone, Copy, Debug, Args)]
pub(in crate::ctl) struct Id {
    /// The plan's number
    pub(in crate::ctl) id: i64,
}

/// A new plan.
#[derive(Debug, Args)]
pub(in crate::ctl) struct NewPlan {
    /// What is to be reached; - reads it from standard input
    #[arg(required = true)]
    pub(in crate::ctl) goal: Option<String>,
    /// The team whose members do it
    #[arg(long, required = true, value_name = "NAME")]
    pub(in crate::ctl) team: Option<Label>,
    /// The member that makes the plan [default: the one in the role boss]
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) boss: Option<InstanceName>,
    /// Let a person approve the plan before its tasks enter the queue
    #[arg(long, visible_alias = "approve")]
    pub(in crate::ctl) review: bool,
    /// Most tasks [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(TASKS_MAX)))]
    pub(in crate::ctl) max_tasks: Option<u32>,
    /// Only members that work on this repository get tasks
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) repository: Option<Label>,
    /// Most that each of its tasks may cost, the boss's too, in US dollars
    #[arg(long = "budget-usd", value_name = "USD", value_parser = crate::ctl::task::args::budget)]
    pub(in crate::ctl) task_budget_usd: Option<f64>,
    /// How urgent all of its tasks are, -10 to 10; more is sooner
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(in crate::ctl) priority: Option<Priority>,
}
