//! `claudectl task log`: an attempt's log, to its end or as it grows, also through retries.

use super::args::Log;
use super::ended;
use super::transcript::Transcript;
use crate::ctl::client::{Client, decode};
use crate::ctl::events::{Follower, Next};
use crate::ctl::failure::{Failure, Outcome};
use crate::ctl::output::Screen;
use crate::proto::api::{LogChunk, Task};
use backon::{BackoffBuilder, ExponentialBuilder};
use hyper::Method;
use hyper::body::Bytes;
use std::time::Duration;

/// After an answer without news, so that a daemon that does not hold the question back is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(200);

/// `claudectl task log`
pub(super) async fn run(client: &Client, screen: &Screen, args: &Log) -> Result<Outcome, Failure> {
    let mut reader = Reader { client, screen, id: args.id, transcript: (!args.raw && !screen.data()).then(|| Transcript::new(screen.style())) };
    if args.follow {
        follow(&mut reader, args.attempt).await?;
    } else {
        reader.attempt(args.attempt, false).await?;
    }
    Ok(Outcome::Done)
}

/// One attempt if it is named; else the last one and those to come, until the task has ended.
async fn follow(reader: &mut Reader<'_>, named: Option<u32>) -> Result<(), Failure> {
    // Open before the first look, so that no attempt begins unseen.
    let mut follower = Follower::latest(reader.client).await?;
    let mut seen = 0;
    loop {
        let task: Task = decode(&reader.insist(&format!("/api/v1/tasks/{}", reader.id), false).await?)?;
        let next = match named {
            Some(number) => (number <= task.attempts).then_some(number),
            None if seen == 0 => Some(task.attempts).filter(|n| *n > 0),
            None => Some(seen + 1).filter(|n| *n <= task.attempts),
        };
        if let Some(number) = next {
            let over = ended(&task) || task.attempts > number;
            match reader.attempt(Some(number), true).await {
                Ok(()) => {}
                // An attempt that never started has no log; one that is about to start has none yet.
                Err(Failure::Api(problem)) if problem.status == 404 && !over => {
                    news(&mut follower, reader.id).await?;
                    continue;
                }
                Err(Failure::Api(problem)) if problem.status == 404 && named.is_none() => {}
                Err(failure) => return Err(failure),
            }
            if named.is_some() {
                return Ok(());
            }
            seen = number;
        } else if ended(&task) {
            return Ok(());
        } else {
            news(&mut follower, reader.id).await?;
        }
    }
}

/// Waits until something happens to a task, or may have while the connection was gone.
async fn news(follower: &mut Follower<'_>, id: i64) -> Result<(), Failure> {
    loop {
        match follower.next().await? {
            Next::Event(_, event) if event.task == Some(id) => return Ok(()),
            Next::Back => return Ok(()),
            Next::Event(..) | Next::Lost => {}
        }
    }
}

struct Reader<'a> {
    client: &'a Client,
    screen: &'a Screen,
    id: i64,
    /// `None` prints the log as it is.
    transcript: Option<Transcript>,
}

impl Reader<'_> {
    /// Prints one attempt: what there is, or with `wait` until nothing will follow.
    async fn attempt(&mut self, mut number: Option<u32>, wait: bool) -> Result<(), Failure> {
        let mut offset = 0;
        loop {
            let attempt = number.map(|n| format!("&attempt={n}")).unwrap_or_default();
            let body = self.insist(&format!("/api/v1/tasks/{}/log?offset={offset}&wait={wait}{attempt}", self.id), wait).await?;
            let chunk: LogChunk = decode(&body)?;
            if chunk.offset > offset {
                self.screen.note(&format!("{} bytes are left out: the log was longer than log-max and its beginning is gone", chunk.offset - offset));
            }
            self.print(&chunk, &body)?;
            let stuck = chunk.text.is_empty() || chunk.next <= offset;
            if chunk.complete || (stuck && !wait) {
                break;
            }
            if stuck {
                tokio::time::sleep(PAUSE).await;
            }
            (number, offset) = (Some(chunk.attempt), chunk.next.max(offset));
        }
        match &mut self.transcript {
            Some(transcript) => self.screen.print(&transcript.finish()),
            None => Ok(()),
        }
    }

    fn print(&mut self, chunk: &LogChunk, body: &Bytes) -> Result<(), Failure> {
        match &mut self.transcript {
            Some(transcript) => self.screen.print(&transcript.feed(&chunk.text)),
            None if self.screen.data() => self.screen.body(body),
            None => self.screen.print(&chunk.text),
        }
    }

    /// A question, asked again while clauded restarts if somebody is following.
    async fn insist(&self, path: &str, following: bool) -> Result<Bytes, Failure> {
        let mut delays = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .build();
        loop {
            match self.client.whole(Method::GET, path, None).await {
                Err(Failure::NotRunning(_)) if following => tokio::time::sleep(delays.next().unwrap_or(PAUSE)).await,
                other => return other,
            }
        }
    }
}
