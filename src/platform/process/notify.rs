//! The runners' notifications (sd_notify(3)): one datagram socket for all, at the same path for every daemon. The kernel
//! says who sent each message, so an agent cannot speak for its runner.

use super::named;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, setsockopt, sockopt};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::path::Path;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// The socket.
pub(super) struct Socket(UnixDatagram);

impl Socket {
    /// Takes the place of an earlier daemon's socket.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named("remove", path)(error)),
            _ => {}
        }
        let socket = UnixDatagram::bind(path).map_err(named("bind", path))?;
        setsockopt(&socket, sockopt::PassCred, &true).map_err(io::Error::from).map_err(named("set SO_PASSCRED on", path))?;
        Ok(Self(socket))
    }

    /// The next message and its sender's process.
    pub(super) async fn receive(&self) -> io::Result<(i32, String)> {
        loop {
            if let Some(message) = self.0.async_io(Interest::READABLE, || self.take()).await? {
                return Ok(message);
            }
        }
    }

    /// A message that has arrived already.
    pub(super) fn heard(&self) -> Option<(i32, String)> {
        loop {
            match self.take() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
    }

    /// Takes one message; `None` in place of one that does not say who sent it.
    fn take(&self) -> io::Result<Option<(i32, String)>> {
        let mut text = [0; 4096];
        let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        let (length, sender) = {
            let mut parts = [IoSliceMut::new(&mut text)];
            let message = recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
            let sender = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
                _ => None,
            });
            (message.bytes, sender)
        };
        Ok(sender.map(|sender| (sender, String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_with_their_senders_pid_and_a_new_daemon_takes_the_path() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify.sock");
        let old = Socket::bind(&path).expect("bound");
        drop(old);
        let socket = Socket::bind(&path).expect("bound again");
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.send_to(b"READY=1\nSTATUS=hello", &path).await.expect("sent");
        let (pid, text) = socket.receive().await.expect("received");
        assert_eq!((u32::try_from(pid), text.as_str()), (Ok(std::process::id()), "READY=1\nSTATUS=hello"));
    }
}
