//! `claudectl man DIR`: the man pages of all four programs, from their command lines.

use super::args::{Cli, EXIT_STATUS};
use super::failure::{Failure, Outcome};
use crate::core::ids::NAME_MAX;
use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use std::path::Path;

/// A section that clap does not know: its heading, and its text as it stands.
type Section = (&'static str, String);

/// The exit codes of clauded.
const DAEMON_STATUS: &str = "  0   an orderly stop; with --check, no problems\n  1   anything that a restart may mend; with --check, problems\n  78  what a restart cannot mend (EX_CONFIG): a wrong configuration, a damaged or newer store, a second clauded; systemd does not restart it";
/// The exit codes of clauded-runner.
const RUNNER_STATUS: &str = "  0   an orderly stop\n  1   anything that a restart may mend\n  75  another runner has the instance's state (EX_TEMPFAIL)\n  78  what a restart cannot mend (EX_CONFIG): a bad name, a missing directory, a wrong configuration; systemd does not restart it";
/// What clauded-runner reads from its environment.
const RUNNER_ENVIRONMENT: &str = "  CLAUDED_DIRECTORY            the instance's working directory [default: $CLAUDED_WORKTREE_ROOT/NAME]
  CLAUDED_WORKTREE_ROOT        [default: /var/lib/claude-code/worktrees]
  STATE_DIRECTORY              the instance's own state [default: /var/lib/claude-code/instances/NAME]
  CLAUDED_LINK                 the socket of clauded [default: /run/clauded/runner.sock]
  CLAUDED_CONFIG_ERROR         if set: why it must not start
  CREDENTIALS_DIRECTORY        where systemd puts the credential `agent-credential` (LoadCredential=)
  CLAUDED_CREDENTIAL_FILE      the credential's file, where systemd is not the supervisor
  CLAUDED_CREDENTIAL_VARIABLE  the agent's variable for the credential [default: ANTHROPIC_API_KEY]
  CLAUDED_REPOSITORY           the repository that its directory is a worktree of; it is made if it is not there
  CLAUDED_REPOSITORY_SOURCE    that repository's path or URL
  CLAUDED_REPOSITORY_STORE     where the bare clone of a URL is kept
  CLAUDED_BASE                 the branch that work starts from [default: the repository's HEAD]
  CLAUDED_CGROUP               a cgroup delegated to it, where systemd is not the supervisor
  CLAUDED_LOG                  the least level that it logs: error, warn, info, debug, trace [default: info]
  INVOCATION_ID                this start of the unit, 32 hexadecimal digits [default: a fresh one]
  PATH, LANG, HOME             the agent's too; HOME only if it can be written";
const EXAMPLES: &str = "EXAMPLES";
const STATUS: &str = "EXIT STATUS";

/// Writes every page.
pub(super) fn run(directory: &Path) -> Result<Outcome, Failure> {
    let mut cli = Cli::command();
    cli.build();
    pages(&cli, directory)?;
    page(crate::daemon::args::Args::command(), directory, &[(STATUS, DAEMON_STATUS.to_owned())])?;
    page(runner(), directory, &[("ENVIRONMENT", RUNNER_ENVIRONMENT.to_owned()), (STATUS, RUNNER_STATUS.to_owned())])?;
    page(
        generator(),
        directory,
        &[(STATUS, "  0  the drop-ins are written, also for a wrong configuration: the last good one's, or that no instance starts, which each then says\n  1  they cannot be written, or the arguments are wrong".to_owned())],
    )?;
    Ok(Outcome::Done)
}

/// A command and everything below it, `claudectl-task-add` for `claudectl task add`.
fn pages(command: &Command, directory: &Path) -> Result<(), Failure> {
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        pages(below, directory)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    // The exit codes are the same for all; `--help` has them once, the page of each command says where.
    let status = if name == "claudectl" { EXIT_STATUS.to_owned() } else { "As in claudectl(1).".to_owned() };
    page(command.clone(), directory, &[(STATUS, status)])
}

fn page(command: Command, directory: &Path, sections: &[Section]) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let examples = command.get_after_help().map(|text| text.to_string());
    let command = command.after_help(None::<&str>);
    let has_commands = command.get_subcommands().any(|c| !c.is_hide_set());
    let man = Man::new(command).title(name.to_uppercase()).section("1").source("clauded").manual("clauded").date("");
    let mut text = Vec::new();
    let render = |text: &mut Vec<u8>| {
        man.render_title(text)?;
        man.render_name_section(text)?;
        man.render_synopsis_section(text)?;
        man.render_description_section(text)?;
        man.render_options_section(text)?;
        if has_commands {
            man.render_subcommands_section(text)?;
        }
        let mut roff = Roff::default();
        for (heading, body) in sections {
            verbatim(&mut roff, heading, body);
        }
        if let Some((_, examples)) = examples.as_deref().and_then(|e| e.split_once("Examples:\n")) {
            verbatim(&mut roff, EXAMPLES, examples);
        }
        roff.control("SH", ["SEE ALSO"]);
        roff.text(see_also(&name));
        roff.to_writer(text)
    };
    let path = directory.join(format!("{name}.1"));
    render(&mut text).and_then(|()| std::fs::write(&path, &text)).map_err(|error| Failure::Write { path, error })
}

/// Text whose lines stay as they are.
fn verbatim(roff: &mut Roff, heading: &str, body: &str) {
    roff.control("SH", [heading]).control("nf", []);
    for line in body.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn see_also(name: &str) -> Vec<Inline> {
    let others = ["claudectl", "clauded", "clauded-runner", "clauded-generator"].into_iter().filter(|other| *other != name);
    let mut inlines: Vec<Inline> = others.flat_map(|other| [bold(other), roman("(1), ")]).collect();
    inlines.extend([bold("systemctl"), roman("(1), "), bold("journalctl"), roman("(1)")]);
    inlines
}

/// The command line of clauded-runner, which systemd alone writes.
fn runner() -> Command {
    Command::new("clauded-runner")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Supervises the agent of one instance")
        .long_about(
            "The program of claude-code@NAME.service: it takes tasks from clauded, runs the agent on each in a cgroup of its own, ends it when it must, and reports. \
             It needs no clauded to start, and goes on while clauded is away. Not meant to be called by hand.",
        )
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(Arg::new("user").long("user").action(clap::ArgAction::SetTrue).help("The defaults below are those of `clauded --user`: the calling user's XDG directories"))
        .arg(Arg::new("NAME").required(true).help(format!("The instance: letters, digits, '_' and '.', in parts joined by single dashes, at most {NAME_MAX} bytes")))
}

/// The command line of clauded-generator, as systemd.generator(7) has it.
fn generator() -> Command {
    Command::new("clauded-generator")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Makes systemd drop-ins from the configuration of clauded")
        .long_about("Called by systemd at boot and at daemon-reload. Writes 40-clauded.conf for the slices and services of the configured instances. Not meant to be called by hand.")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(Arg::new("NORMAL-DIR").required(true).help("Where the drop-ins go"))
        .arg(Arg::new("EARLY-DIR").help("Not used"))
        .arg(Arg::new("LATE-DIR").help("Not used"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A file without its tests.
    fn code(file: &Path) -> String {
        let text = std::fs::read_to_string(file).expect("read");
        text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_page_of_the_runner_names_each_variable_that_it_reads() {
        let documented: BTreeSet<&str> = RUNNER_ENVIRONMENT
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .flat_map(|line| line.split_once("  ").map_or(line, |(names, _)| names).split(", "))
            .collect();
        let mut read = BTreeSet::new();
        let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/runner")];
        while let Some(directory) = directories.pop() {
            let entries: Vec<_> = std::fs::read_dir(directory).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
            let (below, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
            directories.extend(below);
            let text: String = files.iter().filter(|file| !file.ends_with("tests.rs")).map(|file| code(file)).collect();
            for call in ["variable(\"", "path(\"", "inherited(\"", "env::var(\"", "env::var_os(\""] {
                read.extend(text.split(call).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
        assert_eq!(documented, read.iter().map(String::as_str).collect());
    }

    #[test]
    fn every_command_has_a_page_with_examples() {
        let directory = tempfile::tempdir().expect("directory");
        run(directory.path()).expect("pages");
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        for name in ["claudectl-status.1", "claudectl-task-add.1", "claudectl-config-check.1", "clauded.1"] {
            let page = read(name);
            assert!(page.contains(".SH EXAMPLES") && page.contains(".SH \"EXIT STATUS\""), "{name}:\n{page}");
        }
        assert!(read("claudectl.1").contains("6    the time of"));
        assert!(read("clauded.1").contains("78  what a restart cannot mend"));
        assert!(read("clauded-runner.1").contains("78  what a restart cannot mend"));
        assert!(read("clauded-generator.1").contains("NORMAL"));
        assert!(!directory.path().join("claudectl-man.1").exists(), "hidden commands have no page");
    }
}
