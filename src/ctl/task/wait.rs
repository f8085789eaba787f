//! `claudectl task wait`: until tasks have ended, told by events, over restarts of clauded.

use super::{ended, line};
use crate::ctl::client::{Client, decode};
use crate::ctl::events::{Follower, Next};
use crate::ctl::failure::{Failure, Outcome, read_or_not};
use crate::ctl::output::{Progress, Screen};
use crate::ctl::quantity::{age, between, dollars, span};
use crate::proto::api::Task;
use hyper::body::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the line on a terminal is brought up to date.
const REFRESH: Duration = Duration::from_secs(1);
/// How often every task is looked at in any case, should an event be lost.
const SAFETY: Duration = Duration::from_secs(30);
/// How often, where there are no events.
const WITHOUT_EVENTS: Duration = Duration::from_secs(2);

/// What is known of each task that is waited for.
type Known = BTreeMap<i64, Option<(Task, Bytes)>>;

/// `claudectl task wait`
pub(super) async fn run(client: &Client, screen: &Screen, ids: &[i64], timeout: Option<Duration>) -> Result<Outcome, Failure> {
    let mut known: Known = ids.iter().map(|id| (*id, None)).collect();
    let progress = screen.progress();
    let deadline = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = until_ended(client, &progress, &mut known) => end,
        () = deadline => Err(Failure::TimedOut(format!("gave up after {}; {} on", span(timeout.unwrap_or_default().as_secs_f64()), open(&known)))),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(format!("stopped waiting; {} on, and ends with: claudectl task cancel {}", open(&known), numbers(&known)))),
    };
    drop(progress);
    end?;
    let all_well = known.values().flatten().all(|(task, _)| task.state == "succeeded");
    // In the order of the command line, each once.
    for id in ids {
        let Some(Some((task, body))) = known.remove(id) else { continue };
        read_or_not(if screen.data() {
            screen.body(&body)
        } else {
            screen.print(&screen.style().finish(format!("{} ({})\n", line(screen.style(), &task).trim_end(), used(&task))))
        })?;
    }
    Ok(if all_well { Outcome::Done } else { Outcome::Negative })
}

fn used(task: &Task) -> String {
    let took = task.finished.as_deref().and_then(|end| between(&task.created, end)).map(|s| format!("{}, ", span(s))).unwrap_or_default();
    format!("{took}{}", dollars(task.cost_usd))
}

fn waiting(known: &Known) -> Vec<i64> {
    known.iter().filter(|(_, k)| k.as_ref().is_none_or(|(task, _)| !ended(task))).map(|(id, _)| *id).collect()
}

fn numbers(known: &Known) -> String {
    waiting(known).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// `task 12 goes`, `tasks 12 13 go`
fn open(known: &Known) -> String {
    if waiting(known).len() == 1 { format!("task {} goes", numbers(known)) } else { format!("tasks {} go", numbers(known)) }
}

/// By events; where clauded has no feed left to give, by looking now and then.
async fn until_ended(client: &Client, progress: &Progress, known: &mut Known) -> Result<(), Failure> {
    match watch(client, progress, known).await {
        Err(failure) if failure.too_many_streams() => {}
        end => return end,
    }
    let mut clock = tokio::time::interval(WITHOUT_EVENTS);
    while !waiting(known).is_empty() {
        clock.tick().await;
        look(client, known, waiting(known)).await?;
        progress.say(&doing(known));
    }
    Ok(())
}

/// Brings these tasks up to date.
async fn look(client: &Client, known: &mut Known, ids: Vec<i64>) -> Result<(), Failure> {
    for id in ids {
        match client.get(&format!("/api/v1/tasks/{id}")).await {
            Ok(body) => {
                known.insert(id, Some((decode(&body)?, body)));
            }
            // It is restarting; the next look or the follower says when it is back.
            Err(Failure::NotRunning(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn watch(client: &Client, progress: &Progress, known: &mut Known) -> Result<(), Failure> {
    // The stream is open before the first look, so nothing falls between the two.
    let mut follower = Follower::latest(client).await?;
    let mut stale = waiting(known);
    let mut clock = tokio::time::interval(if progress.visible() { REFRESH } else { SAFETY });
    clock.reset();
    loop {
        look(client, known, std::mem::take(&mut stale)).await?;
        if waiting(known).is_empty() {
            return Ok(());
        }
        progress.say(&doing(known));
        tokio::select! {
            next = follower.next() => match next? {
                Next::Event(_, event) => stale.extend(event.task.filter(|id| waiting(known).contains(id))),
                Next::Lost => progress.say("the connection to clauded is lost; connecting again"),
                Next::Back => stale = waiting(known),
            },
            _ = clock.tick() => stale = waiting(known),
        }
    }
}

fn doing(known: &Known) -> String {
    let now = jiff::Timestamp::now();
    let texts = known.values().flatten().filter(|(task, _)| !ended(task)).map(|(task, _)| {
        let place = task.placed_on.as_deref().filter(|_| task.state != "pending").map(|p| format!(" on {p}")).unwrap_or_default();
        let detail = if task.detail.is_empty() { String::new() } else { format!(": {}", task.detail) };
        format!("task {} {}{place}{detail} (added {})", task.id, task.state, age(&task.created, now))
    });
    texts.collect::<Vec<_>>().join("; ")
}
