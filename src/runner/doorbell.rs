//! Tells by inotify(7) when the daemon's socket is made, so that nobody sits out a pause under a daemon that is back.

use crate::platform::sys::Watched;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tokio::io::Interest;

/// Listens at the directory of one socket.
pub(super) struct Doorbell {
    inotify: Inotify,
    ready: Watched,
    directory: PathBuf,
    name: OsString,
}

impl Doorbell {
    /// For the socket at that path. The directory need not exist yet.
    ///
    /// # Errors
    /// inotify(7) is not to be had; `EMFILE` when the user has too many.
    pub(super) fn new(socket: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let ready = Watched::new(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        let directory = socket.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { inotify, ready, directory, name: socket.file_name().unwrap_or_default().to_owned() })
    }

    /// Begins to listen, or goes on. To be called before the attempt to connect, or the socket may be made in between.
    pub(super) fn listen(&self) {
        let made = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        if let Err(error) = self.inotify.add_watch(&self.directory, made) {
            // Then the pauses between attempts have to do.
            tracing::debug!(%error, directory = %self.directory.display(), "cannot be watched");
        }
    }

    /// Waits until the socket is made.
    pub(super) async fn rung(&self) {
        loop {
            while let Ok(events) = self.inotify.read_events() {
                if events.iter().any(|event| event.name.as_ref() == Some(&self.name)) {
                    return;
                }
            }
            if self.ready.ready(Interest::READABLE).await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn only_the_socket_rings() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("runner.sock");
        let bell = Doorbell::new(&path).expect("inotify");
        bell.listen();
        std::fs::write(directory.path().join("api.sock"), "").expect("written");
        assert!(timeout(Duration::from_millis(100), bell.rung()).await.is_err(), "another file rang");
        let rung = async {
            let _listener = tokio::net::UnixListener::bind(&path).expect("bind");
            bell.rung().await;
        };
        timeout(Duration::from_secs(30), rung).await.expect("it rings");
    }
}
