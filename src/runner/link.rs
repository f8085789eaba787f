//! The client end of the runner link: connects, carries lines both ways, connects again for ever.

use super::doorbell::Doorbell;
use super::drain::{Line, Lines};
use crate::proto::link::{FromDaemon, FromRunner, LINE_MAX};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Messages that may wait for a daemon that is slow to read.
const WAITING: usize = 256;

/// What the link has to tell.
#[derive(Debug)]
pub(super) enum Heard {
    /// There is a connection; what is put into this goes over it. Dropping it ends the connection.
    Up(mpsc::Sender<FromRunner>),
    /// The daemon spoke.
    Said(Box<FromDaemon>),
    /// The connection is gone, and why.
    Down(String),
}

/// Keeps the link up for as long as somebody listens to `heard`.
pub(super) async fn keep(path: PathBuf, heard: mpsc::Sender<Heard>) {
    let pauses = || {
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(Duration::from_secs(1)).with_jitter().without_max_times().build()
    };
    let mut pause = pauses();
    let mut told = String::new();
    let bell = Doorbell::new(&path).inspect_err(|error| tracing::warn!("no inotify: the link comes back after a pause: {error}")).ok();
    loop {
        if let Some(bell) = &bell {
            bell.listen();
        }
        let mut up = false;
        let ended = match UnixStream::connect(&path).await {
            Ok(stream) => {
                up = true;
                let (sender, outgoing) = mpsc::channel(WAITING);
                if heard.send(Heard::Up(sender)).await.is_err() {
                    return;
                }
                let mut welcome = false;
                let ended = talk(stream, outgoing, &heard, &mut welcome).await;
                if welcome {
                    pause = pauses();
                    told.clear();
                }
                ended
            }
            Err(error) => Err(io::Error::new(error.kind(), format!("connect to {}: {error}", path.display()))),
        };
        let refused = ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let why = ended.map_or_else(|error| error.to_string(), |()| "the daemon closed the connection".to_owned());
        // The same reason once a second for hours says nothing new.
        let new = why != told;
        match refused {
            true if new => tracing::error!("no connection to clauded: {why}"),
            false if new => tracing::info!("no connection to clauded: {why}"),
            _ => {}
        }
        told.clone_from(&why);
        if (new || up) && heard.send(Heard::Down(why)).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause.next().unwrap_or(Duration::from_secs(1))) => {}
            // Between the socket's making and its listening there is an instant; should we fall into it, the next pause is short.
            () = rung(bell.as_ref()) => pause = pauses(),
        }
    }
}

async fn rung(bell: Option<&Doorbell>) {
    match bell {
        Some(bell) => bell.rung().await,
        None => std::future::pending().await,
    }
}

/// Carries lines until one side ends it.
async fn talk(mut stream: UnixStream, mut outgoing: mpsc::Receiver<FromRunner>, heard: &mpsc::Sender<Heard>, welcome: &mut bool) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let read = async {
        let mut lines = Lines::new(LINE_MAX);
        let mut buffer = vec![0; 16 << 10];
        loop {
            let n = reader.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            let mut messages = Vec::new();
            lines.push(buffer.get(..n).unwrap_or_default(), |line| messages.push(parse(&line)));
            for message in messages.into_iter().flatten() {
                *welcome |= matches!(message, FromDaemon::Welcome);
                if let FromDaemon::Refused { message } = message {
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it refuses this runner: {message}")));
                }
                if heard.send(Heard::Said(Box::new(message))).await.is_err() {
                    return Ok(());
                }
            }
        }
    };
    let write = async {
        while let Some(message) = outgoing.recv().await {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            writer.write_all(&line).await?;
        }
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        ended = read => ended,
        // A failure is left to the reader: a peer that hung up may have said why, and that is still there to be read.
        Ok(()) = write => Ok(()),
    }
}

/// A message; one that this version does not know is passed over.
fn parse(line: &Line<'_>) -> Option<FromDaemon> {
    let Line::Whole(bytes) = line else {
        tracing::error!("the daemon sent a line that is too long; it is passed over");
        return None;
    };
    serde_json::from_slice(bytes).map_err(|error| tracing::error!("the daemon said something that this runner does not understand: {error}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn connects_speaks_listens_and_connects_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("link.sock");
        let (sender, mut heard) = mpsc::channel(8);
        let task = tokio::spawn(keep(path.clone(), sender));
        assert!(matches!(heard.recv().await, Some(Heard::Down(why)) if why.contains("link.sock")));
        let listener = UnixListener::bind(&path).expect("bind");
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.expect("accept");
            let mut stream = BufReader::new(stream);
            let Some(Heard::Up(out)) = heard.recv().await else { panic!("not up") };
            out.send(FromRunner::Draining).await.expect("send");
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("read");
            assert_eq!(line, "{\"type\":\"draining\"}\n");
            stream.write_all(b"{\"type\":\"news\"}\n{\"type\":\"ack\",\"seq\":7}\n").await.expect("write");
            assert!(matches!(heard.recv().await, Some(Heard::Said(said)) if *said == FromDaemon::Ack { seq: 7 }));
            drop(stream);
            assert!(matches!(heard.recv().await, Some(Heard::Down(_))));
        }
        task.abort();
    }
}
