//! The command line of `claudectl lock` and `claudectl edit`.

use crate::core::ids::InstanceName;
use crate::core::limits::parse_duration;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// `claudectl lock …`
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum LockCommand {
    /// Take a lock on files, so that no agent changes them meanwhile
    #[command(
        after_help = "Examples:\n  claudectl lock acquire src/auth.rs\n  claudectl lock acquire src/auth/ --reason 'new login' --ttl 30min\n  claudectl lock acquire --glob 'src/**/*.sql' --wait=10min\n  claudectl lock acquire --feature auth --shared\n\n\
                      A path that is a directory stands for all that is in it. A lock that is held already is renewed.\nWithin an agent's task a lock lasts as long as the attempt; elsewhere for its --ttl."
    )]
    Acquire(Acquire),
    /// Give locks back: by path, by number, or with --all every one of your own
    #[command(
        after_help = "Examples:\n  claudectl lock release src/auth.rs\n  claudectl lock release --id 12\n  claudectl lock release --all\n  claudectl lock release --id 12 --force     another's"
    )]
    Release(Release),
    /// Show who holds what, and who waits for it
    #[command(after_help = "Examples:\n  claudectl lock list\n  claudectl lock list -o json | jq '.waiting'")]
    List,
    /// Give a lock to an instance
    #[command(after_help = "Examples:\n  claudectl lock transfer 12 feature-x\n  claudectl lock transfer 12 feature-x --force     another's")]
    Transfer {
        /// The lock's number
        id: i64,
        /// The instance; the task that it has takes the lock over
        instance: InstanceName,
        /// Also if it is another's
        #[arg(long)]
        force: bool,
    },
    /// Take a lock from whoever holds it, and tell them; for operators
    #[command(after_help = "Examples:\n  claudectl lock steal src/auth.rs --reason hotfix")]
    Steal(Steal),
}

/// Which files.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub(in crate::ctl) struct What {
    /// A file, or a directory with all that is in it
    #[arg(group = "what", value_name = "PATH")]
    pub(in crate::ctl) path: Option<PathBuf>,
    /// A glob, from the current directory: * ? [a-z] {a,b} within a name, ** for any number of directories
    #[arg(long, group = "what")]
    pub(in crate::ctl) glob: Option<String>,
    /// A name of [repositories.NAME] features
    #[arg(long, group = "what", value_name = "NAME")]
    pub(in crate::ctl) feature: Option<String>,
    /// The repository, by its name in the configuration; paths are then from its root [default: the one around the current directory]
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) repository: Option<String>,
}

/// How.
#[derive(Debug, Args)]
pub(in crate::ctl) struct How {
    /// Why, in one line, for those who wait for it
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// For how long, if it is not renewed, such as 30min [default: locks.ttl of the configuration, one hour]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) ttl: Option<Duration>,
    /// Wait in line for it, at most that long [default: a day]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1day", value_parser = parse_duration)]
    pub(super) wait: Option<Duration>,
}

/// `claudectl lock acquire`
#[derive(Debug, Args)]
pub(in crate::ctl) struct Acquire {
    #[command(flatten)]
    pub(super) what: What,
    /// Share it with others who only read
    #[arg(long)]
    pub(super) shared: bool,
    #[command(flatten)]
    pub(super) how: How,
}

/// `claudectl lock release`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(in crate::ctl) struct Release {
    /// As it was taken
    #[arg(group = "which", value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
    /// As it was taken
    #[arg(long, group = "which")]
    pub(super) glob: Option<String>,
    /// As it was taken
    #[arg(long, group = "which", value_name = "NAME")]
    pub(super) feature: Option<String>,
    /// The lock's number
    #[arg(long, group = "which", value_name = "N")]
    pub(super) id: Option<i64>,
    /// Every lock of your own
    #[arg(long, group = "which")]
    pub(super) all: bool,
    /// As it was taken
    #[arg(long, value_name = "NAME")]
    pub(super) repository: Option<String>,
    /// Also if it is another's
    #[arg(long)]
    pub(super) force: bool,
}

/// `claudectl lock steal`
#[derive(Debug, Args)]
pub(in crate::ctl) struct Steal {
    #[command(flatten)]
    pub(super) what: What,
    /// Why, in one line, for whom it is taken from
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// For how long [default: locks.ttl of the configuration, one hour]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) ttl: Option<Duration>,
}

/// `claudectl edit`
#[derive(Debug, Args)]
pub(in crate::ctl) struct Edit {
    /// The file; need not exist yet
    pub(in crate::ctl) path: PathBuf,
    #[command(flatten)]
    pub(in crate::ctl) how: How,
}
