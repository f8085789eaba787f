//! The runner link's server: who is calling is asked of the kernel, what they say goes to the engine in order.

use super::desk;
use super::engine::{Input, Outbox};
use super::identity::Identity;
use crate::core::ids::InstanceName;
use crate::core::queue;
use crate::http;
use crate::metrics::Metrics;
use crate::proto::link::{FromDaemon, FromRunner, Hello, LINE_MAX, VERSION};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// A caller that says nothing for that long is let go.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages on the way to one runner: a task, its end, acknowledgements of a long spool.
const OUTBOX: usize = 4096;
/// Connections at once, identified or not.
const CONNECTIONS: usize = 1024;
/// Connections of one instance at once: its runner's, and those of runners whose end has not been noticed.
const CONNECTIONS_OF_ONE: usize = 4;

/// How many more connections each instance may have.
type Seats = Mutex<HashMap<InstanceName, Arc<Semaphore>>>;

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}")]
    Refused(String),
    #[error("it sent what is not the protocol: {0}")]
    Protocol(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("clauded is stopping")]
    Stopping,
}

/// Serves runners until the engine is gone.
pub(super) async fn serve(listener: UnixListener, identity: Arc<Identity>, engine: mpsc::Sender<Input>, metrics: Arc<Metrics>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let seats = Arc::new(Seats::default());
    let numbers = AtomicU64::new(1);
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for example: let others end.
                tracing::error!("accepting a runner: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (identity, seats, engine, metrics) = (identity.clone(), seats.clone(), engine.clone(), metrics.clone());
        tokio::spawn(async move {
            let _permit = permit;
            match converse(stream, number, &identity, &seats, &engine).await {
                Ok(()) => tracing::debug!(connection = number, "a runner has gone"),
                Err(error) => {
                    if matches!(error, LinkError::Refused(_)) {
                        metrics.link(false);
                    }
                    tracing::warn!(connection = number, "runner link: {error}");
                }
            }
        });
    }
}

async fn converse(stream: UnixStream, number: u64, identity: &Identity, seats: &Seats, engine: &mpsc::Sender<Input>) -> Result<(), LinkError> {
    let peer = stream.peer_cred()?;
    let pid = peer.pid().and_then(|p| u32::try_from(p).ok()).unwrap_or_default();
    let (read, mut write) = stream.into_split();
    let found = identity.runner(pid);
    // Else it may be about another process that has got its number.
    let found = if http::is_there(write.as_ref()) { found } else { Err("it has gone".to_owned()) };
    let instance = match found {
        Ok(instance) => instance,
        Err(message) => {
            let _ = say(&mut write, &FromDaemon::Refused { message: message.clone() }).await;
            return Err(LinkError::Refused(format!("process {pid} refused: {message}")));
        }
    };
    let Some(_seat) = seat(seats, &instance) else {
        let message = format!("{instance} has {CONNECTIONS_OF_ONE} connections already");
        let _ = say(&mut write, &FromDaemon::Refused { message: message.clone() }).await;
        return Err(LinkError::Refused(message));
    };
    let mut lines = BufReader::new(read);
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, hear(&mut lines)).await {
        Ok(Ok(Some(FromRunner::Hello(hello)))) => hello,
        Ok(Ok(_)) => return Err(LinkError::Protocol("the first message is not Hello".to_owned())),
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(LinkError::Protocol("no Hello in time".to_owned())),
    };
    if hello.version > VERSION {
        let message =
            format!("this clauded speaks version {VERSION} of the link, the runner {}; restart clauded, which is older than the runner", hello.version);
        let _ = say(&mut write, &FromDaemon::Refused { message: message.clone() }).await;
        return Err(LinkError::Refused(message));
    }
    let (send, receiver) = mpsc::channel(OUTBOX);
    let hang_up = Arc::new(Notify::new());
    let to = Outbox { connection: number, send, hang_up: hang_up.clone() };
    let invocation = hello.invocation.clone();
    let result = tokio::select! {
        result = listen(&mut lines, hello, &instance, identity, to, engine) => result,
        result = talk(&mut write, receiver) => result,
        () = hang_up.notified() => Ok(()),
    };
    let _ = engine.send(Input::Unlinked(instance, invocation, number)).await;
    result
}

/// A seat among those of the instance, if there is one.
fn seat(seats: &Seats, instance: &InstanceName) -> Option<OwnedSemaphorePermit> {
    let mut seats = seats.lock().unwrap_or_else(PoisonError::into_inner);
    seats.entry(instance.clone()).or_insert_with(|| Arc::new(Semaphore::new(CONNECTIONS_OF_ONE))).clone().try_acquire_owned().ok()
}

/// Passes on what the runner says.
async fn listen(
    lines: &mut BufReader<OwnedReadHalf>,
    hello: Hello,
    instance: &InstanceName,
    identity: &Identity,
    to: Outbox,
    engine: &mpsc::Sender<Input>,
) -> Result<(), LinkError> {
    let pass = async |input| engine.send(input).await.map_err(|_| LinkError::Stopping);
    let mut spooled = hello.spooled;
    let account = identity.account(instance);
    let linked = || Input::Linked {
        hello: queue::Hello { instance: instance.clone(), invocation: hello.invocation.clone(), account: account.clone(), current: hello.current },
        to: to.clone(),
    };
    if spooled == 0 {
        pass(linked()).await?;
    }
    while let Some(message) = hear(lines).await? {
        match message {
            FromRunner::Event { seq, event } => {
                let (instance, account, invocation) = (instance.clone(), account.clone(), hello.invocation.clone());
                pass(Input::Runner { instance, account, invocation, seq, event, to: to.clone() }).await?;
                if spooled > 0 {
                    spooled -= 1;
                    if spooled == 0 {
                        pass(linked()).await?;
                    }
                }
            }
            FromRunner::Progress(progress) => pass(Input::Progress(instance.clone(), progress)).await?,
            FromRunner::Locks { attempt, files } => {
                let input = desk::Input::Check { instance: instance.clone(), attempt, files, to: to.clone() };
                pass(Input::Lock(input)).await?;
            }
            FromRunner::Draining => pass(Input::Draining(instance.clone())).await?,
            FromRunner::Hello(_) => return Err(LinkError::Protocol("a second Hello".to_owned())),
        }
    }
    Ok(())
}

/// Writes what there is to say, in order.
async fn talk(write: &mut OwnedWriteHalf, mut messages: mpsc::Receiver<FromDaemon>) -> Result<(), LinkError> {
    while let Some(message) = messages.recv().await {
        say(write, &message).await?;
    }
    Ok(())
}

async fn say(write: &mut OwnedWriteHalf, message: &FromDaemon) -> Result<(), LinkError> {
    let mut line = serde_json::to_vec(message).map_err(|e| LinkError::Protocol(e.to_string()))?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok(())
}

/// The next message; `None` at the end of the stream.
async fn hear(lines: &mut BufReader<OwnedReadHalf>) -> Result<Option<FromRunner>, LinkError> {
    let mut line = Vec::new();
    let bound = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    let read = (&mut *lines).take(bound).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(LinkError::Protocol(if read == LINE_MAX { format!("a line over {LINE_MAX} bytes") } else { "half a line".to_owned() }));
    }
    serde_json::from_slice(&line).map(Some).map_err(|e| LinkError::Protocol(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instance_cannot_take_the_seats_of_the_others() {
        let seats = Seats::default();
        let (a, b) = ("a".parse().expect("valid"), "b".parse().expect("valid"));
        let taken: Vec<_> = (0..CONNECTIONS_OF_ONE).map(|_| seat(&seats, &a).expect("a seat")).collect();
        assert!(seat(&seats, &a).is_none());
        assert!(seat(&seats, &b).is_some());
        drop(taken);
        assert!(seat(&seats, &a).is_some());
    }
}
