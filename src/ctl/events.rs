//! `claudectl events`: what has happened, and what happens, without a gap over reconnections.

use super::args;
use super::client::{Client, decode};
use super::failure::{Failure, Outcome};
use super::output::{Screen, Style, Tone};
use super::quantity;
use super::sse::{Message, Parser};
use crate::proto::api::Event;
use backon::{BackoffBuilder, ExponentialBuilder};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::time::Duration;

/// Most events in one answer.
const PAGE: u32 = 1000;

/// `claudectl events`
pub(super) async fn run(client: &Client, screen: &Screen, args: &args::Events) -> Result<Outcome, Failure> {
    let mut after = match (args.after, args.lines) {
        (after, Some(lines)) => {
            // Numbers count up by one, and only old events go: the last N are those above the last number less N.
            let last = last_id(client).await?.saturating_sub(i64::try_from(lines).unwrap_or(i64::MAX));
            last.max(after.unwrap_or(0))
        }
        (Some(after), None) => after,
        (None, None) if args.follow => last_id(client).await?,
        (None, None) => 0,
    };
    if !args.follow || args.lines.is_some() || args.after.is_some() {
        after = list(client, screen, after, args.follow).await?;
    }
    if !args.follow {
        return Ok(Outcome::Done);
    }
    let mut follower = Follower::open(client, after).await?;
    loop {
        match follower.next().await? {
            Next::Event(data, event) => print(screen, &data, &event)?,
            Next::Lost => screen.note("the connection to clauded is lost; connecting again"),
            Next::Back => screen.note("connected again"),
        }
    }
}

/// Prints all events above a number, and answers the last one's.
async fn list(client: &Client, screen: &Screen, mut after: i64, lines: bool) -> Result<i64, Failure> {
    let mut all = Vec::new();
    loop {
        let body = client.get(&format!("/api/v1/events?after={after}&limit={PAGE}")).await?;
        let page: Vec<Event> = decode(&body)?;
        let full = page.len() >= PAGE as usize;
        let Some(last) = page.last() else { break };
        after = after.max(last.id);
        if !screen.data() {
            let text: String = page.iter().map(|event| render(screen.style(), event)).collect();
            screen.print(&text)?;
        } else if !full && all.is_empty() && !lines {
            // The usual case, one page: the API's answer unchanged.
            screen.body(&body)?;
            return Ok(after);
        } else if lines {
            for value in decode::<Vec<serde_json::Value>>(&body)? {
                screen.value(&value)?;
            }
        } else {
            all.extend(decode::<Vec<serde_json::Value>>(&body)?);
        }
        if !full {
            break;
        }
    }
    if screen.data() && !lines {
        screen.value(&all)?;
    }
    Ok(after)
}

/// The number of the newest event, 0 if there is none: found by halving, since the API lists the oldest first.
async fn last_id(client: &Client) -> Result<i64, Failure> {
    let (mut low, mut high) = (0_i64, i64::MAX);
    let mut step = 1024_i64;
    while low < high {
        let probe = if high == i64::MAX { low.saturating_add(step) } else { low + (high - low) / 2 };
        let found: Vec<Event> = client.read(&format!("/api/v1/events?after={probe}&limit=1")).await?;
        match found.first() {
            // It stands above the probe, so the newest does too.
            Some(event) => low = event.id.max(probe + 1),
            None => high = probe,
        }
        step = step.saturating_mul(2);
    }
    Ok(low)
}

fn print(screen: &Screen, data: &str, event: &Event) -> Result<(), Failure> {
    if screen.data() { screen.body(data.as_bytes()) } else { screen.print(&render(screen.style(), event)) }
}

/// One line: when, where, what.
fn render(style: Style, event: &Event) -> String {
    let time = event.at.parse::<jiff::Timestamp>().map_or_else(|_| quantity::clean(&event.at), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let task = event.task.map(|id| format!("task {id}: ")).unwrap_or_default();
    let instance = event.instance.as_deref().unwrap_or("-");
    let cause = event.cause.as_deref().map(|c| format!(" ({})", quantity::clean(c))).unwrap_or_default();
    let tone = if event.cause.is_some() { Tone::Bad } else { Tone::Strong };
    format!(
        "{:>6}  {}  {:<18}  {}  {task}{}{cause}\n",
        event.id,
        style.paint(Tone::Faint, &time),
        instance,
        style.paint(tone, &format!("{:<18}", quantity::clean(&event.kind))),
        quantity::line(&event.message, 400),
    )
}

/// What a follower saw.
#[derive(Debug)]
pub(super) enum Next {
    /// An event, as it came and decoded.
    Event(String, Box<Event>),
    /// The connection is gone.
    Lost,
    /// There is one again; what happened meanwhile follows.
    Back,
}

/// The stream of events, connected again as often as needed.
pub(super) struct Follower<'a> {
    client: &'a Client,
    after: i64,
    body: Option<Incoming>,
    parser: Parser,
    ready: VecDeque<Message>,
}

impl<'a> Follower<'a> {
    /// From now on.
    pub(super) async fn latest(client: &'a Client) -> Result<Self, Failure> {
        Self::open(client, last_id(client).await?).await
    }

    /// Connects; the first time it must work at once. The stream begins with the event above that number.
    async fn open(client: &'a Client, after: i64) -> Result<Self, Failure> {
        let mut follower = Self { client, after, body: None, parser: Parser::default(), ready: VecDeque::new() };
        follower.connect().await?;
        Ok(follower)
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let response = self.client.open(Method::GET, &format!("/api/v1/events/stream?after={}", self.after), None).await?;
        self.parser = Parser::default();
        self.body = Some(response.into_body());
        Ok(())
    }

    /// The next event or change of the connection. May be dropped and called again: nothing is lost between two calls.
    pub(super) async fn next(&mut self) -> Result<Next, Failure> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                // The server's last words before it ends the stream, as when its store cannot be read: connect again.
                if message.event == "problem" {
                    continue;
                }
                let event: Event = decode(message.data.as_bytes())?;
                // After a reconnection a server may repeat; what has been seen is not shown twice.
                if event.id <= self.after {
                    continue;
                }
                self.after = event.id;
                return Ok(Next::Event(message.data, Box::new(event)));
            }
            let Some(body) = &mut self.body else {
                self.reconnect().await?;
                return Ok(Next::Back);
            };
            match body.frame().await {
                Some(Ok(frame)) => self.ready.extend(frame.data_ref().map(|data| self.parser.feed(data)).unwrap_or_default()),
                Some(Err(_)) | None => {
                    self.body = None;
                    return Ok(Next::Lost);
                }
            }
        }
    }

    /// Tries until it works; only an answer that says no ends it.
    async fn reconnect(&mut self) -> Result<(), Failure> {
        let delays =
            ExponentialBuilder::default().with_jitter().with_min_delay(Duration::from_millis(100)).with_max_delay(Duration::from_secs(5)).without_max_times();
        for delay in delays.build() {
            tokio::time::sleep(delay).await;
            match self.connect().await {
                Err(Failure::NotRunning(_)) => {}
                other => return other,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = Event {
            id: 12,
            at: "2026-11-21T10:00:00.25Z".into(),
            kind: "task-finished".into(),
            instance: Some("feature-x".into()),
            task: Some(3),
            message: "failed:\nout of memory".into(),
            cause: Some("oom".into()),
        };
        assert_eq!(
            render(Style::default(), &event),
            "    12  2026-11-21 10:00:00Z  feature-x           task-finished       task 3: failed: out of memory (oom)\n"
        );
    }
}
