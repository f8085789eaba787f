//! The command line as clap sees it: global options and the tree of commands. Help texts here are also the man pages.

use super::hook::HookCommand;
use super::lock::args::{Edit, LockCommand};
use super::plan::args::Plan;
use super::task::args::{Add, TaskCommand};
use super::team::args::TeamCommand;
use crate::core::ids::InstanceName;
use crate::core::label::Label;
use crate::core::limits::{CpuQuota, MemoryLimit, TasksMax, Weight};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The exit codes, for `--help`; the man page has them too.
pub(super) const EXIT_STATUS: &str = "  0    done
  1    the thing itself failed: a task failed or was cancelled, doctor or config check found problems
  2    the command line is wrong
  3    there is no such instance or task
  4    no permission
  5    clauded is not running, or does not answer
  6    the time of --timeout is over
  7    clauded refused the request
  130  interrupted by Ctrl-C while waiting; the task goes on";

const EXAMPLES: &str = "Examples:
  claudectl status                                   every instance at a glance
  claudectl start feature-x                          start claude-code@feature-x
  claudectl task add --wait 'Fix the failing test'   queue a task and wait for it
  claudectl task log -f 12                           watch what the agent does
  claudectl doctor                                   what is missing on this host?";

fn after_help() -> String {
    format!("Exit status:\n{EXIT_STATUS}\n\n{EXAMPLES}")
}

/// `claudectl`.
#[derive(Debug, Parser)]
#[command(name = "claudectl", version, about = "Controls clauded and its fleet of Claude Code agents", after_help = after_help(), subcommand_required = true, disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(super) struct Global {
    /// How to print: tables for people, the API's JSON unchanged, or the same as YAML; with json and yaml, errors are JSON on standard error
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT", help_heading = "Global options")]
    pub(super) output: Format,
    /// Talk to the calling user's own clauded (clauded --user)
    #[arg(long, global = true, help_heading = "Global options")]
    pub(super) user: bool,
    /// The API's socket [default: /run/clauded/api.sock, with --user $XDG_RUNTIME_DIR/clauded/api.sock]
    #[arg(long, global = true, value_name = "PATH", env = "CLAUDED_SOCKET", hide_env_values = true, help_heading = "Global options")]
    pub(super) socket: Option<PathBuf>,
    /// Talk over TCP instead, such as http://127.0.0.1:8888; needs --token-file
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(super) host: Option<String>,
    /// The file with the bearer token for --host
    #[arg(long, global = true, value_name = "FILE", env = "CLAUDED_TOKEN_FILE", hide_env_values = true, help_heading = "Global options")]
    pub(super) token_file: Option<PathBuf>,
}

// The variants have no texts of their own, since these would spread over every `--help`.
/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show all instances, or one with its caps, task and restarts
    #[command(
        after_help = "Examples:\n  claudectl status\n  claudectl status feature-x\n  claudectl status -o json | jq -r '.[] | select(.active==\"failed\").name'"
    )]
    Status {
        /// The instance; all of them if absent
        name: Option<InstanceName>,
    },
    /// Start instances and wait until they are ready
    #[command(after_help = "Examples:\n  claudectl start feature-x\n  claudectl start team-a team-b\n\nThe same as: systemctl start claude-code@feature-x")]
    Start(Names),
    /// Stop instances and wait until nothing of them runs; a running task resumes after the next start
    #[command(after_help = "Examples:\n  claudectl stop feature-x")]
    Stop(Names),
    /// Stop and start instances; a running task resumes in the same session
    #[command(after_help = "Examples:\n  claudectl restart feature-x")]
    Restart(Names),
    /// Change the limits of an instance at once, without a restart
    #[command(
        after_help = "Examples:\n  claudectl limit feature-x --memory 6G\n  claudectl limit feature-x --cpu 150% --tasks 512 --persist\n  claudectl limit feature-x --memory infinity\n\n\
                      Amounts of memory are 512M, 6G, 80% (of the host) or infinity; --cpu 200% is two CPUs.\nA limit set here goes before the configuration until the next boot; --persist writes it there too.\n`systemctl revert claude-code-NAME.slice` gives the configuration back its say at once."
    )]
    Limit(Limit),
    /// Add, list, watch and end tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Say who may change which files
    #[command(subcommand)]
    Lock(LockCommand),
    /// Show on one screen which running tasks touch the same files and whether they merge, which tasks are free and can run side by
    /// side, who holds which lock, and what changes together
    #[command(
        after_help = "Examples:\n  claudectl check\n  claudectl check --repository shop\n  claudectl check -o json | jq '.overlaps[] | select(.merge == \"conflict\")'\n\n\
                      Exits with 0 also where there are conflicts: they are a forecast, and no failure."
    )]
    Check(super::check::CheckArgs),
    /// Open a file in $VISUAL or $EDITOR under a lock on it
    #[command(after_help = "Examples:\n  claudectl edit src/auth.rs\n  claudectl edit src/auth.rs --wait --reason 'by hand'")]
    Edit(Edit),
    /// What Claude Code runs around its tools, with the tool's JSON on standard input; see docs/locks.md
    #[command(subcommand)]
    Hook(HookCommand),
    /// Bring teams of agents up and down
    #[command(subcommand)]
    Team(TeamCommand),
    /// Have a team's boss split a goal into tasks for its members, and see to them
    Plan(Box<Plan>),
    /// Add tasks again and again by the clock
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Let nothing of the queue, an instance, a team, a group or an account start; what runs goes on
    #[command(
        after_help = "Examples:\n  claudectl pause --all --reason 'release day'\n  claudectl pause --group nightly\n  claudectl pause --instance feature-x\n\nIt stays so over restarts, until: claudectl resume"
    )]
    Pause(Pause),
    /// Let something go on that is paused
    #[command(
        after_help = "Examples:\n  claudectl resume --all\n  claudectl resume --account claude    after its login is mended\n\nWhat is paused: claudectl status"
    )]
    Resume(ScopeArgs),
    /// Prepare a git repository: a stanza in the configuration, the hook for people's own sessions, .gitignore
    #[command(
        after_help = "Examples:\n  claudectl init\n  claudectl init --verify 'make test' ~/src/shop\n  claudectl init --dry-run\n  claudectl init --name shop --url git@example.org:shop.git\n\n\
                      It can be repeated: what is right stays as it is. Without clauded, or the right to ask it, the files alone are prepared;\nit then prints the stanza that is missing, and exits with 1. With --user the hook goes into .claude/settings.local.json,\nwhich is yours alone.\nThe next step: claudectl worktree add feature-x --repository shop"
    )]
    Init(super::init::args::Init),
    /// Show, make and remove the instances' worktrees
    #[command(subcommand)]
    Worktree(super::worktree::WorktreeCommand),
    /// Show what has happened: tasks, starts, exits and restarts with their causes
    #[command(after_help = "Examples:\n  claudectl events -n 20\n  claudectl events -f\n  claudectl events -f --after 1200 -o json")]
    Events(Events),
    /// Send a message to an instance or a team, and print its number
    #[command(
        after_help = "Examples:\n  claudectl send feature-x 'The API has moved to v2, see docs/api.md'\n  claudectl send --reply-to 12 feature-x 'Yes, go on'\n  git diff | claudectl send reviewer -\n\n\
                      A running agent reads it between two of its steps, an idle one gets it as a task, and one that is not there when it is back.\nEach gets it once: claudectl messages ID shows how far it has come."
    )]
    Send(Send),
    /// Send a message to all instances that run
    #[command(after_help = "Examples:\n  claudectl broadcast 'main is frozen until noon'")]
    Broadcast(Broadcast),
    /// Ask one that is free, and print the answer; without a question, or with the name of a command, print how to use it
    #[command(
        after_help = "Examples:\n  claudectl help 'Which test covers the lexer?'\n  claudectl help --specialty backend --timeout 5m 'Why is the index not used?'\n  claudectl help task add\n\n\
                      Exits with 1 if nobody has answered in time. An agent does not wait: the answer comes to it as a message."
    )]
    Help(Help),
    /// List messages, newest first, or show one and how far it has come
    #[command(after_help = "Examples:\n  claudectl messages\n  claudectl messages --instance feature-x -n 20\n  claudectl messages 12")]
    Messages(Messages),
    /// Serve the API's verbs as MCP tools on standard input and output; agents get it by themselves
    #[command(after_help = "Examples:\n  claude mcp add clauded -- claudectl mcp      for a Claude Code session of your own")]
    Mcp,
    /// Show who changed what, when and from where
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  claudectl audit -n 20\n  claudectl audit --task 12\n  claudectl audit --since 2h --who alice -o json\n  claudectl audit -f --what task-failed\n  claudectl audit verify\n\n\
                      --who is a user's name, or user:UID, instance:NAME, runner:NAME, token, supervisor, clauded.\nWith -f and json, each row is a line of its own."
    )]
    Audit(Audit),
    /// Print what Prometheus would scrape
    #[command(
        after_help = "Examples:\n  claudectl metrics | grep clauded_tasks_finished_total\n\nPrometheus itself scrapes http://127.0.0.1:8888/metrics. Each family: docs/metrics.md"
    )]
    Metrics,
    /// Show the journal of an instance's unit
    #[command(
        after_help = "Examples:\n  claudectl logs feature-x -f\n  claudectl logs feature-x -n 50\n\nThe same as: journalctl -u claude-code@feature-x\nWhat an agent did in a task: claudectl task log ID"
    )]
    Logs(Logs),
    /// Work with the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check this host: systemd, cgroups, clauded, the agent and its login, git, disk, ports; and say what to do
    #[command(
        after_help = "Examples:\n  claudectl doctor\n  claudectl --user doctor\n  sudo claudectl doctor       sees what root alone may see\n\nExits with 1 if there is a problem; warnings alone exit with 0."
    )]
    Doctor,
    /// Show the versions of claudectl and of the running clauded
    #[command(after_help = "Examples:\n  claudectl version\n  claudectl version -o json")]
    Version,
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  claudectl completions bash > /etc/bash_completion.d/claudectl\n  claudectl completions zsh > \"${fpath[1]}/_claudectl\"\n  claudectl completions fish > ~/.config/fish/completions/claudectl.fish"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory; must exist
        directory: PathBuf,
    },
}

/// Instances to act on.
#[derive(Debug, Args)]
pub(super) struct Names {
    /// The instances, the NAME of claude-code@NAME
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<InstanceName>,
}

/// New limits.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("new_limits").required(true).multiple(true)))]
pub(super) struct Limit {
    /// The instance
    pub(super) name: InstanceName,
    /// Most memory; past it the kernel kills (MemoryMax=)
    #[arg(long, group = "new_limits", value_name = "SIZE")]
    pub(super) memory: Option<MemoryLimit>,
    /// Memory past which the kernel throttles and reclaims (MemoryHigh=)
    #[arg(long, group = "new_limits", value_name = "SIZE")]
    pub(super) memory_high: Option<MemoryLimit>,
    /// Most swap, 0 for none (MemorySwapMax=)
    #[arg(long, group = "new_limits", value_name = "SIZE", value_parser = MemoryLimit::from_swap)]
    pub(super) swap: Option<MemoryLimit>,
    /// CPU time, in per cent of one CPU (CPUQuota=)
    #[arg(long, group = "new_limits", value_name = "PERCENT")]
    pub(super) cpu: Option<CpuQuota>,
    /// Share of the CPU under contention, 1 to 10000 (CPUWeight=)
    #[arg(long, group = "new_limits", value_name = "WEIGHT")]
    pub(super) cpu_weight: Option<Weight>,
    /// Share of I/O under contention, 1 to 10000 (IOWeight=)
    #[arg(long, group = "new_limits", value_name = "WEIGHT")]
    pub(super) io_weight: Option<Weight>,
    /// Most processes and threads (TasksMax=)
    #[arg(long, group = "new_limits", value_name = "N")]
    pub(super) tasks: Option<TasksMax>,
    /// Also write it into the configuration, so that it holds after a reboot
    #[arg(long)]
    pub(super) persist: bool,
}

/// `claudectl schedule …`
#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Add a schedule: at each of its times it adds its task, unless the one before has not ended
    #[command(
        after_help = "Examples:\n  claudectl schedule add nightly --cron '0 3 * * *' --group nightly 'Update the dependencies and run the tests'\n  claudectl schedule add report --cron '0 9 * * MON-FRI' --timezone Europe/Berlin --specialty docs 'Write the report'\n\nA run that was missed while clauded was away is made up once at its start."
    )]
    Add(Box<ScheduleAdd>),
    /// List schedules, with their next and last runs
    #[command(after_help = "Examples:\n  claudectl schedule list")]
    List,
    /// Remove a schedule; the tasks that it has added stay
    #[command(after_help = "Examples:\n  claudectl schedule remove nightly")]
    Remove {
        /// Its name
        name: Label,
    },
    /// Run a schedule now
    #[command(after_help = "Examples:\n  claudectl schedule run nightly")]
    Run {
        /// Its name
        name: Label,
    },
}

/// A new schedule.
#[derive(Debug, Args)]
pub(super) struct ScheduleAdd {
    /// Its name
    pub(super) name: Label,
    /// When: minute, hour, day, month, weekday, as in crontab(5)
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) cron: String,
    /// The time zone, such as Europe/Berlin [default: the host's]
    #[arg(long, value_name = "ZONE")]
    pub(super) timezone: Option<String>,
    #[command(flatten)]
    pub(super) task: Add,
}

/// What to pause, and why.
#[derive(Debug, Args)]
pub(super) struct Pause {
    #[command(flatten)]
    pub(super) scope: ScopeArgs,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

/// What is paused or goes on.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct ScopeArgs {
    /// The whole queue
    #[arg(long)]
    pub(super) all: bool,
    /// An instance: it takes nothing
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<InstanceName>,
    /// A team: none of its members takes anything
    #[arg(long, value_name = "NAME")]
    pub(super) team: Option<Label>,
    /// A group of tasks: none of them starts
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<Label>,
    /// An account: nobody who works under it takes anything
    #[arg(long, value_name = "NAME")]
    pub(super) account: Option<String>,
}

/// Which events.
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Go on printing events as they happen; reconnects and misses none
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only events with a number above N
    #[arg(long, value_name = "N")]
    pub(super) after: Option<i64>,
    /// Only the last N events [default: all; with --follow those to come]
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<usize>,
}

/// A message.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// The message that this one answers
    #[arg(long, value_name = "ID")]
    pub(super) reply_to: Option<i64>,
    /// The instance, or a team: all of its members that run
    #[arg(value_name = "NAME")]
    pub(super) to: String,
    /// What it says, at most 64 KiB; - reads it from standard input
    #[arg(value_name = "TEXT")]
    pub(super) text: String,
}

/// A message to all.
#[derive(Debug, Args)]
pub(super) struct Broadcast {
    /// What it says, at most 64 KiB; - reads it from standard input
    #[arg(value_name = "TEXT")]
    pub(super) text: String,
}

/// A question.
#[derive(Debug, Args)]
pub(super) struct Help {
    /// Only to one that has this specialty
    #[arg(long, value_name = "WORD")]
    pub(super) specialty: Option<String>,
    /// How long the answer may take [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<std::time::Duration>,
    /// Do not wait for the answer
    #[arg(long)]
    pub(super) no_wait: bool,
    /// The question; - reads it from standard input
    #[arg(value_name = "QUESTION")]
    pub(super) question: Vec<String>,
}

/// Which messages.
#[derive(Debug, Args)]
pub(super) struct Messages {
    /// Only of or to this instance
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<InstanceName>,
    /// Only the last N
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) lines: u32,
    /// The message to show
    pub(super) id: Option<i64>,
}

/// Which rows of the audit.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    pub(super) command: Option<AuditCommand>,
    /// Only about this instance
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<InstanceName>,
    /// Only about this task
    #[arg(long, value_name = "ID")]
    pub(super) task: Option<i64>,
    /// Only of this user, instance or part of clauded
    #[arg(long, value_name = "WHO")]
    pub(super) who: Option<String>,
    /// Only of this kind, such as task-added
    #[arg(long, value_name = "KIND")]
    pub(super) what: Option<String>,
    /// Not before that time: 2h, 7d, 2026-01-31, "2026-01-31 12:00", 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Before that time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Only the last N rows that fit
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(super) lines: usize,
    /// Go on printing rows as they are written
    #[arg(short, long)]
    pub(super) follow: bool,
}

/// `claudectl audit …`
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Compute all hashes anew, and name the first row that was changed, removed or put elsewhere; exits with 1 then
    #[command(after_help = "Examples:\n  claudectl audit verify\n  claudectl audit verify -o json | jq -r .hash")]
    Verify,
}

/// Which part of a journal.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The instance
    pub(super) name: InstanceName,
    /// Go on printing lines as they come
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<u32>,
}

/// `claudectl config …`
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration and print every problem with its file and line
    #[command(
        after_help = "Examples:\n  claudectl config check\n  claudectl config check ./clauded.toml\n\nAfter a change: claudectl config check && systemctl reload clauded"
    )]
    Check {
        /// The file [default: /etc/clauded/clauded.toml, with --user ~/.config/clauded/clauded.toml]
        file: Option<PathBuf>,
    },
}
