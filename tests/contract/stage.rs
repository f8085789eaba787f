//! The supervisor under test, and what it has said.

use crate::fake::MARK;
use clauded::core::ids::InstanceName;
use clauded::core::instance::Observation;
use clauded::core::limits::Limits;
use clauded::platform::process::{self, Launch, Policy, Settings};
use clauded::platform::systemd::{self, Bus};
use clauded::platform::units::{Report, UnitEvent, Units};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Which supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Process,
    Systemd,
}

impl Kind {
    pub(crate) fn from_environment() -> Self {
        match std::env::var("CLAUDED_TEST_SUPERVISOR").as_deref() {
            Err(_) | Ok("process") => Self::Process,
            Ok("systemd") => Self::Systemd,
            Ok(other) => panic!("CLAUDED_TEST_SUPERVISOR={other}: process or systemd"),
        }
    }
}

/// For every supervisor the same, so that one suite fits all.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(2);
/// Starts in a minute before an instance is given up.
pub(crate) const BURST: usize = 4;

fn policy(kind: Kind) -> Policy {
    Policy {
        // systemd says that something has changed, not what: its verdict is to be seen before the next start takes it away.
        restart_sec: if kind == Kind::Systemd { Duration::from_secs(2) } else { Duration::from_millis(200) },
        start_limit: (BURST, Duration::from_secs(60)),
        start_timeout: Duration::from_secs(5),
        stop_timeout: Duration::from_secs(1),
        abort_timeout: Duration::from_secs(1),
        watchdog: WATCHDOG,
    }
}

/// A supervisor and its events.
pub(crate) struct Stage {
    pub(crate) units: Units,
    kind: Kind,
    directory: PathBuf,
    _own: Option<tempfile::TempDir>,
    /// What the configuration says of every instance, where there is no systemd to ask for it.
    pub(crate) configured: Arc<Mutex<Limits>>,
    /// `None` where an answer was given.
    said: mpsc::UnboundedReceiver<Option<UnitEvent>>,
    latest: BTreeMap<InstanceName, Observation>,
}

impl Stage {
    /// A supervisor with nothing running.
    pub(crate) async fn set(kind: Kind) -> Self {
        let own = tempfile::tempdir().expect("a temporary directory");
        if kind == Kind::Systemd {
            install_template();
        }
        let directory = own.path().to_owned();
        let configured = Arc::default();
        let (units, said) = supervisor(kind, &directory, &configured);
        let mut stage = Self { units, kind, directory, _own: Some(own), configured, said, latest: BTreeMap::new() };
        stage.caught_up().await;
        stage
    }

    /// Ends the supervisor's task and starts another, as a restart of the daemon does.
    pub(crate) async fn restart_daemon(&mut self) {
        self.restart_daemon_after(|| {}).await;
    }

    /// The same, with something done while there is none.
    pub(crate) async fn restart_daemon_after(&mut self, meanwhile: impl FnOnce()) {
        let (idle, _) = Units::new("none");
        self.units = idle;
        // The old one is over when its end of the channel is.
        while self.said.recv().await.is_some() {}
        meanwhile();
        (self.units, self.said) = supervisor(self.kind, &self.directory, &self.configured);
        self.latest.clear();
        self.caught_up().await;
    }

    /// Where the process supervisor keeps things.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    async fn next(&mut self, what: &str) -> UnitEvent {
        loop {
            let said = tokio::time::timeout(Duration::from_secs(30), self.said.recv()).await;
            let said = said.unwrap_or_else(|_| panic!("waited in vain for {what}; last seen: {}", self.summary())).expect("the supervisor is over");
            if let Some(event) = said {
                self.take(&event);
                return event;
            }
        }
    }

    fn take(&mut self, event: &UnitEvent) {
        match event {
            UnitEvent::Seen(seen) => {
                self.latest.insert(seen.name.clone(), (**seen).clone());
            }
            UnitEvent::Gone(name) => {
                self.latest.remove(name);
            }
            UnitEvent::Fleet(_) | UnitEvent::CaughtUp | UnitEvent::Disconnected(_) => {}
        }
    }

    /// How the instance had been seen last when the next answer was given.
    pub(crate) async fn seen_before_the_answer(&mut self, name: &InstanceName) -> Option<Observation> {
        while let Some(event) = self.said.recv().await.expect("the supervisor is over") {
            self.take(&event);
        }
        self.latest.get(name).cloned()
    }

    fn summary(&self) -> String {
        self.latest.values().map(|seen| format!("{} {}/{} {} {:?}; ", seen.name, seen.active, seen.sub, seen.result, seen.limits)).collect()
    }

    pub(crate) async fn caught_up(&mut self) {
        while self.next("CaughtUp").await != UnitEvent::CaughtUp {}
    }

    pub(crate) async fn disconnected(&mut self) {
        while !matches!(self.next("Disconnected").await, UnitEvent::Disconnected(_)) {}
    }

    /// Waits until the instance is seen as wanted; what has been seen last counts too.
    pub(crate) async fn seen(&mut self, name: &InstanceName, what: &str, wanted: impl Fn(&Observation) -> bool) -> Observation {
        loop {
            if let Some(seen) = self.latest.get(name).filter(|seen| wanted(seen)) {
                return seen.clone();
            }
            self.next(what).await;
        }
    }

    /// Waits until the instance is gone, or seen as ended in order, which systemd forgets a moment later.
    pub(crate) async fn gone(&mut self, name: &InstanceName) {
        while self.latest.contains_key(name) {
            self.next("Gone").await;
        }
    }

    /// Nothing is said of the instance for that long but what `wanted` takes.
    pub(crate) async fn stays(&mut self, name: &InstanceName, time: Duration, wanted: impl Fn(&Observation) -> bool) {
        let until = tokio::time::Instant::now() + time;
        loop {
            let seen = self.latest.get(name).unwrap_or_else(|| panic!("{name} is gone"));
            assert!(wanted(seen), "{seen:#?}");
            match tokio::time::timeout_at(until, self.said.recv()).await {
                Err(_) => return,
                Ok(Some(Some(event))) => self.take(&event),
                Ok(Some(None)) => {}
                Ok(None) => panic!("the supervisor is over"),
            }
        }
    }
}

fn supervisor(kind: Kind, directory: &std::path::Path, configured: &Arc<Mutex<Limits>>) -> (Units, mpsc::UnboundedReceiver<Option<UnitEvent>>) {
    let (sender, mut reports) = mpsc::channel(16);
    let units = match kind {
        Kind::Systemd => systemd::spawn(Bus::System, sender),
        Kind::Process => {
            let (configured, fleet) = (configured.clone(), configured.clone());
            let launch = move |_: &InstanceName| Launch {
                around: Vec::new(),
                program: vec![own_executable()],
                environment: [(MARK.to_owned(), "1".to_owned()), ("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
                limits: *configured.lock().expect("not poisoned"),
            };
            let settings = Settings {
                state: directory.join("state"),
                runtime: directory.join("run"),
                launch: Box::new(launch),
                fleet: Box::new(move || *fleet.lock().expect("not poisoned")),
                policy: policy(kind),
            };
            process::spawn(settings, sender)
        }
    };
    let (pass, said) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            // Nobody may be listening any more.
            match report {
                Report::Event(event) => drop(pass.send(Some(event))),
                Report::Answer(answer) => {
                    drop(pass.send(None));
                    answer.give();
                }
            }
        }
    });
    (units, said)
}

fn own_executable() -> String {
    std::env::current_exe().expect("this executable").to_str().expect("UTF-8").to_owned()
}

/// The template unit with this executable as the runner.
fn install_template() {
    let policy = policy(Kind::Systemd);
    let unit = format!(
        "[Unit]\nStartLimitBurst={burst}\nStartLimitIntervalSec=60\n[Service]\nType=notify\nSlice=claude-code-%i.slice\nDelegate=yes\n\
         Environment={MARK}=1\nExecStart={executable} %i\nRestart=on-failure\nRestartSec={restart}ms\nRestartPreventExitStatus=78\n\
         TimeoutStartSec={start}\nTimeoutStopSec={stop}\nWatchdogSec={watchdog}\nLimitCORE=0\nTasksMax=100\n",
        burst = BURST,
        executable = own_executable(),
        restart = policy.restart_sec.as_millis(),
        start = policy.start_timeout.as_secs(),
        stop = policy.stop_timeout.as_secs(),
        watchdog = policy.watchdog.as_secs(),
    );
    let path = "/run/systemd/system/claude-code@.service";
    if std::fs::read_to_string(path).is_ok_and(|old| old == unit) {
        return;
    }
    std::fs::create_dir_all("/run/systemd/system").expect("made");
    std::fs::write(path, unit).expect("written: root on a machine with systemd");
    command("systemctl", &["daemon-reload"]);
}

/// Runs a program that must succeed.
pub(crate) fn command(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
