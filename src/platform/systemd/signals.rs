//! systemd's signals, in one channel of our own. A zbus stream that is not drained stops its whole connection after 64
//! signals, so each stream has a task that does nothing but forward.

use super::calls::{SYSTEMD, Systemd};
use super::{Bus, dropins};
use crate::core::ids::{InstanceName, UNIT_PREFIX};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zbus::{MatchRule, Message, MessageStream};

/// What concerns us of what systemd says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Something about an instance's service or slice is new.
    Touched(Subject),
    /// A job is over: its object path and its result.
    JobRemoved(String, String),
    /// Units and drop-ins have been read again, or something was missed.
    Reloaded,
    /// systemd has left the bus (`false`) or come to it (`true`), as it does when it executes itself anew.
    Owner(bool),
    /// A stream has ended: the bus is gone.
    End,
}

/// Which unit of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// `claude-code@NAME.service`.
    Service(InstanceName),
    /// `claude-code-NAME.slice`; it may be a team's, which is no instance.
    Slice(InstanceName),
}

impl Subject {
    /// The subject of a unit's name, if it is one of ours.
    pub(super) fn of_unit(unit: &str) -> Option<Self> {
        let slice = || unit.strip_prefix(UNIT_PREFIX)?.strip_prefix('-')?.strip_suffix(".slice")?.parse().ok().map(Self::Slice);
        InstanceName::from_unit(unit).map(Self::Service).or_else(slice)
    }
}

/// The name of a unit from its object path: every byte that is no letter or digit is `_` and two hexadecimal digits
/// (sd_bus_path_encode(3)).
fn unit_of_path(path: &str) -> Option<String> {
    let label = path.strip_prefix("/org/freedesktop/systemd1/unit/")?;
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'_' {
            let (hex, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Subscribes to all of them. The channel ends with [`Signal::End`].
pub(super) async fn listen(systemd: &Systemd, bus: Bus) -> zbus::Result<UnboundedReceiver<Signal>> {
    let (sender, receiver) = unbounded_channel();
    let properties = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(SYSTEMD)
        .interface("org.freedesktop.DBus.Properties")
        .member("PropertiesChanged")
        .path_namespace("/org/freedesktop/systemd1/unit")
        .build()?;
    forward(MessageStream::for_match_rule(properties, &systemd.connection, None).await?, sender.clone(), |message| touched_path(&message.ok()?));
    let manager = &systemd.manager;
    forward(manager.receive_job_removed().await?, sender.clone(), |signal| {
        let args = signal.args().ok()?;
        Some(Signal::JobRemoved(args.job().to_string(), args.result().clone()))
    });
    forward(manager.receive_unit_new().await?, sender.clone(), |signal| Subject::of_unit(signal.args().ok()?.id()).map(Signal::Touched));
    forward(manager.receive_unit_removed().await?, sender.clone(), |signal| Subject::of_unit(signal.args().ok()?.id()).map(Signal::Touched));
    forward(manager.receive_reloading().await?, sender.clone(), |signal| (!signal.args().ok()?.active).then_some(Signal::Reloaded));
    if let Err(error) = dropins::watch(bus, sender.clone()) {
        tracing::warn!("limits set by systemctl set-property will not be seen at once: {error}");
    }
    forward(manager.inner().receive_owner_changed().await?, sender, |owner| Some(Signal::Owner(owner.is_some())));
    Ok(receiver)
}

fn touched_path(message: &Message) -> Option<Signal> {
    Subject::of_unit(&unit_of_path(message.header().path()?.as_str())?).map(Signal::Touched)
}

fn forward<T: Send + 'static>(
    stream: impl Stream<Item = T> + Send + 'static,
    sender: UnboundedSender<Signal>,
    mut concerns_us: impl FnMut(T) -> Option<Signal> + Send + 'static,
) {
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        loop {
            let signal = tokio::select! {
                () = sender.closed() => return,
                item = stream.next() => item.map(&mut concerns_us),
            };
            match signal {
                None => {
                    // The session may be over already.
                    let _ = sender.send(Signal::End);
                    return;
                }
                Some(None) => {}
                Some(Some(signal)) => {
                    if sender.send(signal).is_err() {
                        return;
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_known_by_their_object_paths() {
        let unit = |path: &str| unit_of_path(path).and_then(|unit| Subject::of_unit(&unit));
        let name: InstanceName = "feature-x_1.b".parse().expect("valid");
        assert_eq!(unit("/org/freedesktop/systemd1/unit/claude_2dcode_40feature_2dx_5f1_2eb_2eservice"), Some(Subject::Service(name.clone())));
        assert_eq!(unit("/org/freedesktop/systemd1/unit/claude_2dcode_2dfeature_2dx_5f1_2eb_2eslice"), Some(Subject::Slice(name)));
        for other in ["ssh_2eservice", "claude_2dcode_2eslice", "claude_2dcode_40_2eservice", "x_2", "x_zz", "_ff", "_+1", ""] {
            assert_eq!(unit(&format!("/org/freedesktop/systemd1/unit/{other}")), None, "{other}");
        }
        assert_eq!(unit("/org/freedesktop/systemd1"), None);
    }
}
