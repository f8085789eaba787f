//! `claudectl logs NAME`: the journal of an instance's unit, by journalctl.

use super::args::{Format, Logs};
use super::client::Client;
use super::failure::{Failure, Outcome};
use super::output::Screen;
use super::program;
use crate::proto::api::Health;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes journalctl. With the process supervisor there is no journal: the runner's words are in the daemon's own log.
pub(super) async fn run(client: &Client, screen: &Screen, args: &Logs) -> Result<Outcome, Failure> {
    if screen.format() == Format::Yaml {
        return Err(Failure::Usage("journalctl knows no YAML; ask for -o json, or for the lines as they are".to_owned()));
    }
    // The journal can be read while clauded is down, so only an answer counts.
    let supervisor = client.read::<Health>("/api/v1/health").await.map(|h| h.supervisor).unwrap_or_default();
    if supervisor == "process" {
        return Err(Failure::Failed(format!(
            "clauded supervises {} itself, without systemd, so there is no journal: the runner's messages are on the standard error of clauded; what the agent did is in: claudectl task log ID",
            args.name
        )));
    }
    let Some(journalctl) = program::find("journalctl", program::SERVICE_PATH) else {
        return Err(Failure::Failed(format!(
            "there is no journalctl on this host, so no journal of {} either; what the agent did is in: claudectl task log ID",
            args.name.unit()
        )));
    };
    let arguments = arguments(args, client.user() || supervisor == "systemd-user", screen.data());
    let error = Command::new(&journalctl).args(arguments).exec();
    Err(Failure::Failed(format!("cannot run {}: {error}", journalctl.display())))
}

fn arguments(args: &Logs, user: bool, json: bool) -> Vec<String> {
    let mut list = vec![if user { "--user-unit" } else { "--unit" }.to_owned(), args.name.unit()];
    list.extend(args.follow.then(|| "--follow".to_owned()));
    list.extend(args.lines.map(|n| format!("--lines={n}")));
    list.extend(json.then(|| "--output=json".to_owned()));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journalctl_gets_the_unit() {
        let args = Logs { name: "a-b".parse().expect("name"), follow: true, lines: Some(5) };
        assert_eq!(arguments(&args, false, false), ["--unit", "claude-code@a-b.service", "--follow", "--lines=5"]);
        assert_eq!(arguments(&Logs { follow: false, lines: None, ..args }, true, true), ["--user-unit", "claude-code@a-b.service", "--output=json"]);
    }
}
