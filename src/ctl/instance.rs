//! `claudectl start|stop|restart|limit`: verbs on instances.

use super::args::{Limit, Names};
use super::client::{Client, decode};
use super::failure::{Failure, Outcome, read_or_not};
use super::output::Screen;
use super::quantity;
use crate::core::ids::InstanceName;
use crate::proto::api;
use hyper::Method;
use hyper::body::Bytes;

/// A verb on instances, all at the same time; every one is tried, and the first failure decides the exit code.
pub(super) async fn act(client: &Client, screen: &Screen, verb: &'static str, names: &Names) -> Result<Outcome, Failure> {
    let progress = screen.progress();
    let list: Vec<&str> = names.names.iter().map(InstanceName::as_str).collect();
    progress.say(&format!("{verb}: {}", list.join(", ")));
    let asked = names.names.iter().map(async |name| (name, client.whole(Method::POST, &format!("/api/v1/instances/{name}/{verb}"), None).await));
    let answers = futures_util::future::join_all(asked).await;
    drop(progress);
    let mut failures = Vec::new();
    for (name, answer) in answers {
        match read_or_not(answer.and_then(|body| report(screen, name, past(verb), &body))) {
            Ok(()) => {}
            Err(failure) => failures.push(failure),
        }
    }
    // The caller prints the failure that it gets; the others are printed here.
    let mut failures = failures.into_iter();
    let first = failures.next();
    failures.for_each(|failure| screen.failure(&failure));
    first.map_or(Ok(Outcome::Done), Err)
}

fn past(verb: &str) -> &'static str {
    match verb {
        "start" => "started",
        "stop" => "stopped",
        _ => "restarted",
    }
}

fn report(screen: &Screen, name: &InstanceName, done: &str, body: &Bytes) -> Result<(), Failure> {
    if screen.data() {
        return screen.body(body);
    }
    let outcome: api::Outcome = decode(body)?;
    let what = if outcome.result == "unchanged" { format!("already {done}") } else { done.to_owned() };
    let message = if outcome.message.is_empty() { String::new() } else { format!("; {}", quantity::clean(&outcome.message)) };
    screen.print(&format!("{name}: {what}{message}\n"))
}

/// `claudectl limit`
pub(super) async fn limit(client: &Client, screen: &Screen, args: &Limit) -> Result<Outcome, Failure> {
    let body = client.send(Method::PUT, &format!("/api/v1/instances/{}/limits", args.name), &set_limits(args)).await?;
    report(screen, &args.name, "limited", &body)?;
    Ok(Outcome::Done)
}

fn set_limits(args: &Limit) -> api::SetLimits {
    api::SetLimits {
        memory: args.memory.map(|l| l.to_string()),
        memory_high: args.memory_high.map(|l| l.to_string()),
        swap: args.swap.map(|l| l.to_string()),
        cpu: args.cpu.map(|l| l.to_string()),
        cpu_weight: args.cpu_weight.map(|l| l.to_string()),
        io_weight: args.io_weight.map(|l| l.to_string()),
        tasks: args.tasks.map(|l| l.to_string()),
        persist: args.persist,
    }
}
