//! The sockets that clauded serves: those that systemd passes, else its own; and the token of the TCP side.

use crate::config::{Api, Paths};
use anyhow::{Context, bail};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use secrecy::{ExposeSecret, SecretString};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Members of this group may call the API, and the instances' user is one.
const GROUP: &str = "claude-code";

/// What is listened on.
pub(super) struct Sockets {
    /// The API's Unix socket.
    pub(super) api: UnixListener,
    /// The API's TCP socket, if it is on.
    pub(super) tcp: Option<TcpListener>,
    /// The runner link.
    pub(super) link: UnixListener,
}

impl Sockets {
    /// Takes what the service manager passed (sd_listen_fds(3)) and makes the rest.
    ///
    /// # Errors
    /// Names the socket and what stands in its way.
    pub(super) fn open(config: &Api, paths: &Paths, passed: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let (mut api, mut tcp) = (None, None);
        for fd in passed {
            let address: SockaddrStorage = getsockname(fd.as_raw_fd()).context("asking a passed socket for its address")?;
            match address.family() {
                Some(AddressFamily::Unix) => api = Some(UnixListener::from(fd)),
                Some(AddressFamily::Inet | AddressFamily::Inet6) => tcp = Some(TcpListener::from(fd)),
                other => bail!("the service manager passed a socket of the family {other:?}; clauded.socket has Unix and TCP sockets only"),
            }
        }
        fs::create_dir_all(&paths.runtime).with_context(|| format!("making {}", paths.runtime.display()))?;
        let api = match api {
            Some(api) => api,
            None => bind(&paths.api_socket())?,
        };
        // One for another address was opened before the configuration was changed; clauded-tcp.socket keeps it until it is restarted.
        let tcp = tcp.filter(|passed: &TcpListener| passed.local_addr().ok() == config.listen);
        let tcp = match (tcp, config.listen) {
            (Some(passed), _) => Some(passed),
            (None, Some(address)) => listen(address),
            (None, None) => None,
        };
        let link = bind(&paths.link_socket())?;
        api.set_nonblocking(true)?;
        link.set_nonblocking(true)?;
        if let Some(tcp) = &tcp {
            tcp.set_nonblocking(true)?;
        }
        Ok(Self { api, tcp, link })
    }
}

/// Listens over TCP. That somebody else has the port is no reason to do without a fleet: the Unix socket is enough for that.
fn listen(address: SocketAddr) -> Option<TcpListener> {
    let why = |error: &io::Error| tracing::error!("no API and no metrics over TCP: listening on {address} ([api] listen): {error}");
    TcpListener::bind(address).inspect_err(why).ok()
}

/// Binds a socket for root and the group; takes the place of one that nobody listens on.
fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        bail!("{}: another process listens there; is another clauded running?", path.display());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(|| format!("removing {}", path.display())),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).with_context(|| format!("setting the mode of {}", path.display()))?;
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP)
        && let Err(error) = chown(path, None, Some(group.gid.as_raw()))
    {
        tracing::warn!("{}: not given to the group {GROUP}: {error}", path.display());
    }
    Ok(listener)
}

/// The bearer token of the TCP side: the file's content; made at the first start, for root alone.
///
/// # Errors
/// Names the file, and what is wrong with it.
pub(super) fn token(path: &Path) -> anyhow::Result<SecretString> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let token = SecretString::from(text.trim().to_owned());
            if token.expose_secret().len() < 32 {
                bail!("{}: a token has at least 32 characters; remove the file to have a new one made", path.display());
            }
            let mode = fs::metadata(path)?.permissions().mode();
            if mode & 0o007 != 0 {
                bail!("{}: everyone on the host may read the token (mode {:o}); run: chmod o-rwx {}", path.display(), mode & 0o777, path.display());
            }
            Ok(token)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Two random UUIDs: 244 random bits from the kernel.
            let token = SecretString::from(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()));
            keep(path, &token).with_context(|| format!("writing {}", path.display()))?;
            Ok(token)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Writes the token beside its place first: where the disk is full, a short file would stop every later start.
fn keep(path: &Path, token: &SecretString) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    // One that was left lying; what is wrong with removing it is what is wrong with making it.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(token.expose_secret().as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel refuses each write to a file (`ulimit -f 0`), as on a full disk: this same test, run again under that limit.
    #[test]
    fn a_token_that_cannot_be_written_leaves_no_short_file() {
        const CHILD: &str = "CLAUDED_TEST_TOKEN";
        if let Some(path) = std::env::var_os(CHILD) {
            assert!(token(Path::new(&path)).is_err_and(|e| e.to_string().starts_with("writing ")));
            return;
        }
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("token");
        let own = std::env::current_exe().expect("this program");
        let test = "daemon::sockets::tests::a_token_that_cannot_be_written_leaves_no_short_file";
        let mut child = std::process::Command::new("sh");
        child.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" --exact \"$1\""]).arg(own).arg(test).env(CHILD, &path);
        let output = child.output().expect("run");
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0, "something is left");
        assert!(token(&path).is_ok(), "the next start is refused");
    }

    #[test]
    fn a_token_is_made_once_and_kept_from_others() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("token");
        let first = token(&path).expect("made");
        assert_eq!(first.expose_secret(), token(&path).expect("read").expose_secret());
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert!(!format!("{first:?}").contains(first.expose_secret()));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
        assert!(token(&path).is_err_and(|e| e.to_string().contains("chmod")));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, "short").expect("write");
        assert!(token(&path).is_err_and(|e| e.to_string().contains("32 characters")));
    }

    #[test]
    fn a_port_that_somebody_has_costs_the_tcp_side_alone() {
        let directory = tempfile::tempdir().expect("tempdir");
        let paths = Paths { runtime: directory.path().into(), ..Paths::system() };
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let listen = Some(taken.local_addr().expect("an address"));
        let sockets = Sockets::open(&Api { listen, token_file: "/none".into() }, &paths, Vec::new()).expect("the daemon goes on");
        assert!(sockets.tcp.is_none());
        assert!(UnixStream::connect(paths.api_socket()).is_ok());
    }

    #[test]
    fn a_passed_socket_counts_if_it_listens_where_the_configuration_says() {
        let directory = tempfile::tempdir().expect("tempdir");
        let paths = Paths { runtime: directory.path().into(), ..Paths::system() };
        let passed = || TcpListener::bind("127.0.0.1:0").expect("bound");
        let open = |listen, passed: TcpListener| {
            let sockets = Sockets::open(&Api { listen, token_file: "/none".into() }, &paths, vec![passed.into()]).expect("opened");
            sockets.tcp.map(|tcp| tcp.local_addr().expect("an address"))
        };
        let (first, free) = (passed(), passed().local_addr().expect("an address"));
        let address = first.local_addr().expect("an address");
        assert_eq!(open(Some(address), first), Some(address));
        assert_eq!(open(Some(free), passed()), Some(free));
        assert_eq!(open(None, passed()), None);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("s");
        let first = bind(&path).expect("bound");
        assert!(bind(&path).is_err_and(|e| e.to_string().contains("another clauded")));
        drop(first);
        assert!(bind(&path).is_ok());
    }
}
