//! The command line of `claudectl team`.

use crate::core::team::{Role, TeamName};
use clap::{Args, Subcommand};

/// `claudectl team …`
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum TeamCommand {
    /// Bring a team up: write it into the configuration if it is not there, and start its members
    #[command(
        after_help = "Examples:\n  claudectl team up feature-a                         a boss, three workers and gemini, on a new worktree\n  claudectl team up feature-a --repository shop --worker 5\n  \
                      claudectl team up review --template pair dev=2\n\nWhat is up already stays as it is. The same for a configured team: systemctl start claude-code-feature-a.target"
    )]
    Up(Up),
    /// Stop a team; its running tasks go on after the next start
    #[command(
        after_help = "Examples:\n  claudectl team down feature-a\n  claudectl team down feature-a --remove\n\nIts worktrees stay, also with --remove.\nThe same without --remove: systemctl stop claude-code-feature-a.target"
    )]
    Down(Down),
    /// Show a team's members with their tasks, its memory beside its cap, and what it has cost today
    #[command(
        after_help = "Examples:\n  claudectl team status feature-a\n  claudectl team status -o json | jq -r '.[].members[] | select(.active==\"failed\").name'"
    )]
    Status {
        /// The team; all of them if absent
        name: Option<TeamName>,
    },
    /// Change how many members a team has; those that are too many end their tasks first
    #[command(after_help = "Examples:\n  claudectl team scale feature-a worker=5\n  claudectl team scale feature-a worker=1 --now")]
    Scale(Scale),
    /// List the teams
    #[command(after_help = "Examples:\n  claudectl team list\n  claudectl team list -o json | jq -r '.[].name'")]
    List,
}

/// What to bring up.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Up {
    /// The team
    pub(in crate::ctl) name: TeamName,
    /// What a new team is made of, [team-templates.TEMPLATE] [default: classic]
    #[arg(long)]
    pub(in crate::ctl) template: Option<String>,
    /// The repository of a new team's worktrees, [repositories.REPOSITORY]
    #[arg(long)]
    pub(in crate::ctl) repository: Option<String>,
    /// How many workers, the same as worker=N
    #[arg(long, value_name = "N")]
    pub(in crate::ctl) worker: Option<u32>,
    /// How many members a role has
    #[arg(value_name = "ROLE=N", value_parser = replicas)]
    pub(in crate::ctl) replicas: Vec<(Role, u32)>,
}

/// What to stop.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Down {
    /// The team
    pub(in crate::ctl) name: TeamName,
    /// Also take it out of the configuration
    #[arg(long)]
    pub(in crate::ctl) remove: bool,
}

/// How many members.
#[derive(Debug, Args)]
pub(in crate::ctl) struct Scale {
    /// The team
    pub(in crate::ctl) name: TeamName,
    /// How many members a role has
    #[arg(required = true, value_name = "ROLE=N", value_parser = replicas)]
    pub(in crate::ctl) replicas: Vec<(Role, u32)>,
    /// Interrupt the tasks of those that are too many; they go on elsewhere
    #[arg(long)]
    pub(in crate::ctl) now: bool,
}

fn replicas(text: &str) -> Result<(Role, u32), String> {
    let (role, count) = text.split_once('=').ok_or_else(|| format!("{text:?} is not a role and a number, such as worker=5"))?;
    let count = count.parse().map_err(|_| format!("{count:?} is no number of members; write such as worker=5"))?;
    role.parse().map(|role| (role, count)).map_err(|error: crate::core::team::InvalidRole| error.to_string())
}
