//! `claudectl doctor`: what this host has, what is missing, and what to do about it.

mod agent;
mod host;
mod service;

use super::args::Global;
use super::client::Client;
use super::config;
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style};
use super::program::booted;
use super::quantity::clean;
use crate::config::{Config, Paths};
use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    subject: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty if nothing.
    advice: String,
}

fn ok(subject: &'static str, found: impl Into<String>) -> Check {
    Check { subject, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
}

fn warning(subject: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { subject, verdict: Verdict::Warning, found: found.into(), advice: advice.into() }
}

fn problem(subject: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { subject, verdict: Verdict::Problem, found: found.into(), advice: advice.into() }
}

/// What the checks share.
struct Host<'a> {
    client: &'a Client,
    user: bool,
    paths: Paths,
    /// `None` if it does not load: a check of its own says so, the others look at what needs none.
    config: Option<Config>,
    /// systemd is the init system.
    booted: bool,
}

/// `claudectl doctor`
pub(super) async fn run(client: &Client, screen: &Screen, global: &Global) -> Result<Outcome, Failure> {
    let progress = screen.progress();
    progress.say("looking at this host");
    let paths = config::paths(global, None)?;
    let (config, verdict) = configuration(&paths);
    let host = Host { client, user: global.user, paths, config, booted: booted() };
    let (systemd, daemon, port, agent, git) =
        tokio::join!(host::systemd(&host), service::daemon(&host), service::port(&host), agent::checks(&host), host::git());
    let mut checks = vec![systemd, host::cgroups(&host), verdict];
    checks.extend(daemon);
    checks.extend(port);
    checks.extend(host::account(&host));
    checks.extend(agent);
    checks.push(git);
    checks.extend(host::disks(&host));
    drop(progress);
    if screen.data() {
        screen.value(&checks)?;
    } else {
        screen.print(&render(screen.style(), &checks))?;
    }
    Ok(if checks.iter().any(|c| c.verdict == Verdict::Problem) { Outcome::Negative } else { Outcome::Done })
}

fn configuration(paths: &Paths) -> (Option<Config>, Check) {
    const SUBJECT: &str = "configuration";
    let file = paths.config.display();
    match Config::load(paths) {
        Ok(config) if paths.config.exists() => (Some(config), ok(SUBJECT, format!("{file} has no problems"))),
        Ok(config) => (Some(config), ok(SUBJECT, format!("{file} does not exist: defaults apply"))),
        Err(problems) => {
            let all = problems.to_string();
            let first = all.lines().next().unwrap_or_default();
            let more = all.lines().count().saturating_sub(1);
            let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
            (None, problem(SUBJECT, format!("{first}{more}"), "see all of them with: claudectl config check"))
        }
    }
}

fn render(style: Style, checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.subject.len()).max().unwrap_or(0);
    // The longest of the three; with a dot before it where there are dots.
    let first = style.state(Verdict::Problem.name()).chars().count();
    let mut text = String::new();
    for check in checks {
        let state = style.state(check.verdict.name());
        let pad = " ".repeat(first.saturating_sub(state.chars().count()));
        text.push_str(&format!("{state}{pad}  {:<width$}  {}\n", check.subject, clean(&check.found)));
        if !check.advice.is_empty() {
            text.push_str(&format!("{:first$}  {:width$}  → {}\n", "", "", clean(&check.advice)));
        }
    }
    let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
    let plural = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    text.push_str(&format!("\n{}, {}\n", plural(count(Verdict::Problem), "problem"), plural(count(Verdict::Warning), "warning")));
    style.finish(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_says_what_to_do() {
        let checks = [ok("git", "git 2.39"), warning("disk", "3G left", "make room"), problem("agent", "no claude", "install it")];
        assert_eq!(
            render(Style::default(), &checks),
            "ok       git    git 2.39
warning  disk   3G left
                → make room
problem  agent  no claude
                → install it

1 problem, 1 warning
"
        );
    }
}
