//! The command line as a whole.

use super::args::{Cli, Command, Format};
use super::task::args::TaskCommand;
use clap::{CommandFactory, Parser};

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(std::iter::once("claudectl").chain(line.split_whitespace())).map_err(|e| e.to_string())
}

#[test]
fn clap_finds_nothing_wrong_with_it() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_teaches_with_an_example() {
    fn walk(command: &clap::Command) {
        if command.has_subcommands() {
            command.get_subcommands().for_each(walk);
        } else if !command.is_hide_set() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("claudectl "), "{} has no example", command.get_name());
        }
    }
    walk(&Cli::command());
}

#[test]
fn global_options_stand_anywhere() {
    assert_eq!(parse("-o json status").map(|c| c.global.output), Ok(Format::Json));
    assert_eq!(parse("task list -o json").map(|c| c.global.output), Ok(Format::Json));
}

#[test]
fn names_are_refused_with_the_rule() {
    for line in ["status a--b", "start ok a/b", "limit .. --memory 1G", "logs -- -a", "task add --instance naïve x"] {
        assert!(parse(line).is_err_and(|e| e.contains("joined by single dashes")), "{line}");
    }
}

#[test]
fn limits_are_checked_here_and_one_is_needed() {
    assert!(parse("limit a --memory 4GB").is_err_and(|e| e.contains("an amount of memory such as")));
    assert!(parse("limit a --cpu 150").is_err_and(|e| e.contains("a CPU quota such as")));
    assert!(parse("limit a --persist").is_err_and(|e| e.contains("required")));
    assert!(parse("limit a --memory infinity --persist").is_ok());
}

#[test]
fn members_are_counted_by_role() {
    for line in [
        "team up t",
        "team up t worker=5 boss=0 --repository shop",
        "team up t --worker 2",
        "team scale t worker=0 --now",
        "team down t --remove",
        "team status",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
    for (line, words) in [
        ("team scale t", "required"),
        ("team scale t worker", "is not a role and a number, such as worker=5"),
        ("team scale t worker=-1", "is no number of members"),
        ("team up t front-end=2", "is no role"),
        ("team up -t", "unexpected argument"),
        ("team down a--b", "joined by single dashes"),
    ] {
        assert!(parse(line).is_err_and(|e| e.contains(words)), "{line}");
    }
}

#[test]
fn typos_get_a_suggestion() {
    assert!(parse("staus").is_err_and(|e| e.contains("'status'")));
    assert!(parse("task ad x").is_err_and(|e| e.contains("'add'")));
    assert!(parse("task list --stat failed").is_err_and(|e| e.contains("--state")));
    assert!(parse("task list --state faild").is_err_and(|e| e.contains("failed")));
}

#[test]
fn task_options() {
    let cli = parse("task add --instance a-b --type bugfix --timeout 30min --budget-usd $2.50 --max-turns 3 --wait fix").expect("valid");
    let Command::Task(TaskCommand::Add(add)) = cli.command else { panic!("{:?}", cli.command) };
    assert_eq!((add.timeout.map(|t| t.as_secs()), add.budget_usd, add.max_turns, add.wait), (Some(1800), Some(2.5), Some(3), true));
    for bad in ["--any --instance a", "--budget-usd 0", "--budget-usd nan", "--max-turns 0", "--timeout 5", "--timeout 0s", "--type Feature"] {
        assert!(parse(&format!("task add {bad} x")).is_err(), "{bad} was taken");
    }
}
