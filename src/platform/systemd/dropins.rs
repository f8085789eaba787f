//! `systemctl set-property` behind our back: systemd sends no signal for it (measured on 247, 252 and 257), but it writes a
//! drop-in below `system.control`, and inotify(7) tells of that.

use super::Bus;
use super::signals::{Signal, Subject};
use crate::platform::sys::Watched;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::sync::mpsc::UnboundedSender;

/// What a watch is for.
enum Place {
    /// The parent of a control directory, which may come and go.
    Parent(PathBuf),
    /// A control directory: each unit that was changed has a directory in it.
    Control(PathBuf),
    /// The drop-ins of one of our slices.
    Slice(Subject),
}

/// The watches.
struct Watches {
    inotify: Inotify,
    places: HashMap<WatchDescriptor, Place>,
    signals: UnboundedSender<Signal>,
}

/// The control directories (systemd.unit(5), unit file load path): until the next boot, and for good.
fn directories(bus: Bus) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match bus {
        Bus::System => vec!["/run/systemd/system.control".into(), "/etc/systemd/system.control".into()],
        Bus::Session => {
            let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
            [variable("XDG_RUNTIME_DIR"), config].into_iter().flatten().map(|base| base.join("systemd/user.control")).collect()
        }
    }
}

/// Watches from now on, for as long as somebody takes the signals.
pub(super) fn watch(bus: Bus, signals: UnboundedSender<Signal>) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let ready = Watched::new(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
    let mut watches = Watches { inotify, places: HashMap::new(), signals };
    for directory in directories(bus) {
        watches.parent(&directory);
    }
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = watches.signals.closed() => return,
                readable = ready.ready(Interest::READABLE) => if readable.is_err() { return },
            }
            while let Ok(events) = watches.inotify.read_events() {
                events.into_iter().for_each(|event| watches.heard(event));
            }
        }
    });
    Ok(())
}

impl Watches {
    fn add(&mut self, path: &Path, place: Place) -> bool {
        let flags =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(path, flags) {
            Ok(watch) => {
                self.places.insert(watch, place);
                true
            }
            Err(error) => {
                if error != Errno::ENOENT {
                    tracing::warn!(directory = %path.display(), %error, "limits set by systemctl set-property will not be seen at once");
                }
                false
            }
        }
    }

    fn parent(&mut self, control: &Path) {
        if let Some(parent) = control.parent() {
            self.add(parent, Place::Parent(control.to_owned()));
        }
        self.control(control);
    }

    fn control(&mut self, control: &Path) {
        if !self.add(control, Place::Control(control.to_owned())) {
            return;
        }
        // What was made before the watch was in place.
        for entry in std::fs::read_dir(control).into_iter().flatten().filter_map(Result::ok) {
            self.slice(control, &entry.file_name());
        }
    }

    fn slice(&mut self, control: &Path, directory: &std::ffi::OsStr) {
        let unit = directory.to_str().and_then(|name| name.strip_suffix(".d"));
        let Some(subject @ Subject::Slice(_)) = unit.and_then(Subject::of_unit) else { return };
        if self.add(&control.join(directory), Place::Slice(subject.clone())) {
            self.tell(Signal::Touched(subject));
        }
    }

    fn heard(&mut self, event: InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.tell(Signal::Reloaded);
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.places.remove(&event.wd);
            return;
        }
        match (self.places.get(&event.wd), event.name) {
            (Some(Place::Slice(subject)), _) => self.tell(Signal::Touched(subject.clone())),
            (Some(Place::Parent(control)), Some(name)) if control.file_name() == Some(&name) => self.control(&control.clone()),
            (Some(Place::Control(control)), Some(name)) => self.slice(&control.clone(), &name),
            _ => {}
        }
    }

    fn tell(&self, signal: Signal) {
        // The session may be over; the task ends then.
        let _ = self.signals.send(signal);
    }
}
