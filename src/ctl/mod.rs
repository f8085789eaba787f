//! The command line, a client of the API: one file per family of verbs.

mod args;
mod audit;
mod check;
mod client;
mod completions;
mod config;
mod doctor;
mod events;
mod failure;
mod hook;
mod init;
mod instance;
mod lock;
mod logs;
mod man;
mod mcp;
mod message;
mod output;
mod plan;
mod program;
mod quantity;
mod queue;
mod schedule;
mod sse;
mod status;
mod task;
mod team;
mod version;
mod worktree;

use args::{Cli, Command, ConfigCommand};
use clap::Parser;
use client::Client;
use failure::{Failure, Outcome};
use output::Screen;
use std::ffi::OsString;
use std::process::ExitCode;

/// The program `claudectl`. The exit codes are in `claudectl --help`.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and versions come this way too, with code 0; whoever reads them may have gone (EPIPE).
            let _ = answer.print();
            // Of a hook the status 2 is a verdict: it would stop the tool.
            if is_hook(std::env::args_os()) && answer.exit_code() != 0 {
                return ExitCode::FAILURE;
            }
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2));
        }
    };
    let screen = Screen::detect(cli.global.output);
    match dispatch(cli, &screen) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Negative) => ExitCode::FAILURE,
        Err(failure) => {
            screen.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// Whether the arguments are those of a hook, whatever else is wrong with them.
fn is_hook(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.skip(1).find(|argument| !argument.as_encoded_bytes().starts_with(b"-")).is_some_and(|command| command == "hook")
}

fn dispatch(cli: Cli, screen: &Screen) -> Result<Outcome, Failure> {
    let global = &cli.global;
    // These need no daemon.
    match &cli.command {
        Command::Completions { shell } => return completions::run(screen, *shell),
        Command::Man { directory } => return man::run(directory),
        Command::Hook(command) => return hook::run(global, command),
        Command::Config(ConfigCommand::Check { file }) => return config::check(screen, global, file.as_deref()),
        _ => {}
    }
    let client = Client::new(global)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Failed(format!("cannot start the event loop: {e}")))?;
    if matches!(cli.command, Command::Mcp) {
        return runtime.block_on(mcp::run(client));
    }
    let client = &client;
    runtime.block_on(async {
        match cli.command {
            Command::Status { name } => status::run(client, screen, name.as_ref()).await,
            Command::Start(names) => instance::act(client, screen, "start", &names).await,
            Command::Stop(names) => instance::act(client, screen, "stop", &names).await,
            Command::Restart(names) => instance::act(client, screen, "restart", &names).await,
            Command::Limit(limit) => instance::limit(client, screen, &limit).await,
            Command::Init(args) => init::run(client, screen, &args).await,
            Command::Worktree(command) => worktree::run(client, screen, command).await,
            Command::Task(command) => task::run(client, screen, command).await,
            Command::Lock(command) => lock::run(client, screen, command).await,
            Command::Check(args) => check::run(client, screen, &args).await,
            Command::Edit(edit) => lock::edit::run(client, screen, edit).await,
            Command::Team(command) => team::run(client, screen, command).await,
            Command::Plan(args) => plan::run(client, screen, *args).await,
            Command::Schedule(command) => schedule::run(client, screen, command).await,
            Command::Pause(args) => queue::pause(client, screen, &args).await,
            Command::Resume(scope) => queue::resume(client, screen, &scope).await,
            Command::Events(args) => events::run(client, screen, &args).await,
            Command::Audit(args) => audit::run(client, screen, &args).await,
            Command::Send(args) => message::send(client, screen, &args).await,
            Command::Broadcast(args) => message::broadcast(client, screen, &args).await,
            Command::Help(args) => message::help(client, screen, &args).await,
            Command::Messages(args) => message::list(client, screen, &args).await,
            Command::Metrics => metrics(client, screen).await,
            Command::Logs(args) => logs::run(client, screen, &args).await,
            Command::Doctor => doctor::run(client, screen, global).await,
            Command::Version => version::run(client, screen).await,
            Command::Config(_) | Command::Hook(_) | Command::Mcp | Command::Completions { .. } | Command::Man { .. } => Ok(Outcome::Done),
        }
    })
}

/// Prints the exposition as the daemon gives it.
async fn metrics(client: &Client, screen: &Screen) -> Result<Outcome, Failure> {
    let body = client.get("/metrics").await?;
    screen.body(&body)?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests;
