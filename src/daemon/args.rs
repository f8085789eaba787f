//! The daemon's command line; also the source of clauded(1).

use crate::config::Paths;
use std::path::PathBuf;

/// `clauded`: one per host, or one per user with `--user`.
#[derive(Clone, Debug, Default, clap::Parser)]
#[command(
    name = "clauded",
    version,
    about = "Runs fleets of Claude Code agents as systemd services",
    long_about = "Owns the instances of claude-code@.service, the queue of tasks, the store, the API and the metrics of one host.\n\n\
                  Usually started by systemd (clauded.service). It may be stopped, restarted and upgraded at any time: the agents go on, and it takes them over again when it is back.",
    after_help = "Examples:\n  systemctl enable --now clauded          as the system's service\n  \
                  clauded --user                          for one user, without root\n  \
                  clauded --check                         check the configuration and exit\n  \
                  clauded --config ./c.toml --state-directory ./state --runtime-directory ./run --instances-directory ./inst\n                                          all of it in a directory of its own, to try it out"
)]
pub struct Args {
    /// Serve the calling user: the session's systemd, XDG directories, no root
    #[arg(long)]
    pub user: bool,
    /// The configuration file; FILE.d/*.toml beside it is read too
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the store and the API's token are kept
    #[arg(long, value_name = "DIR")]
    pub state_directory: Option<PathBuf>,
    /// Where the sockets are made
    #[arg(long, value_name = "DIR")]
    pub runtime_directory: Option<PathBuf>,
    /// Where the instances keep their state, one directory each
    #[arg(long, value_name = "DIR")]
    pub instances_directory: Option<PathBuf>,
    /// Check the configuration, print every problem, and exit: 0 if there is none, 1 otherwise
    #[arg(long)]
    pub check: bool,
}

impl Args {
    /// Where everything is: the options, else the user's directories with `--user`, else the system's.
    pub fn paths(&self) -> Paths {
        let base = if self.user { Paths::user() } else { Paths::system() };
        Paths {
            config: self.config.clone().unwrap_or(base.config),
            state: self.state_directory.clone().unwrap_or(base.state),
            runtime: self.runtime_directory.clone().unwrap_or(base.runtime),
            instances: self.instances_directory.clone().unwrap_or(base.instances),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn options_win_over_defaults() {
        let args = Args::parse_from(["clauded", "--config", "/x/c.toml", "--runtime-directory", "/x/run"]);
        let paths = args.paths();
        assert_eq!((paths.config.to_str(), paths.api_socket().to_str()), (Some("/x/c.toml"), Some("/x/run/api.sock")));
        assert_eq!(paths.state, Paths::system().state);
    }
}
