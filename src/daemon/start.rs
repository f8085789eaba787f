//! Start-up and the end: configuration, lock, store, supervisor, sockets, in this order; then READY; then signals.

use super::args::Args;
use super::engine::{Engine, Input};
use super::forecast::Forecasts;
use super::identity::Identity;
use super::log::Logs;
use super::runners::Runners;
use super::sockets::{Sockets, token};
use super::supervise::{autostarted, supervise, supervisor, watch_units};
use super::verbs::Verbs;
use super::{audit, link, retire, sizes};
use crate::config::{Config, Paths, Problems};
use crate::core::audit::Actor;
use crate::http;
use crate::metrics::{Metrics, Numbers};
use crate::platform::store::{SqliteStore, StoreError};
use crate::platform::units::Units;
use crate::platform::{cgroup, journal, sys};
use anyhow::{Context, bail};
use clap::Parser;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use std::fs::{self, File, OpenOptions};
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

/// Inputs on their way to the engine; beyond that, callers wait.
const INPUTS: usize = 1024;
/// Events on their way to slow listeners; one that falls behind reads the rest from the store.
const EVENTS: usize = 1024;
/// How often what is older than `[store] keep` is removed.
const PRUNE_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Longest wait for the supervisor to have looked at every instance before clauded says that it is ready.
const SEEN_ALL: Duration = Duration::from_secs(5);

/// What a restart cannot mend (sysexits.h(3head) `EX_CONFIG`; the unit has it in `RestartPreventExitStatus=`).
const EX_CONFIG: u8 = 78;

/// Another clauded has the state directory.
#[derive(Debug, thiserror::Error)]
#[error("{0}: another clauded works on this state directory; stop it, or choose another with --state-directory")]
struct Occupied(String);

/// Whether a restart would only fail again: the configuration, the store and the other clauded stay as they are.
fn is_hopeless(error: &anyhow::Error) -> bool {
    error.is::<Problems>() || error.is::<Occupied>() || matches!(error.downcast_ref(), Some(StoreError::Newer { .. } | StoreError::Damaged { .. }))
}

/// The program `clauded`.
pub fn run() -> ExitCode {
    let args = Args::parse();
    start_logging();
    match begin(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            if args.check {
                // The unit's ExecReload= asks: the status is that of the clauded which serves on.
                return ExitCode::FAILURE;
            }
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&plain(&format!("{error:#}")))]);
            if is_hopeless(&error) { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// The last words. Not through the journal's own socket: the journal would look at who sent them when that process is gone, and
/// `journalctl -u clauded` would not find them; standard error belongs to the unit (`SyslogLevelPrefix=`, systemd.exec(5)).
fn complain(why: &str) {
    let error = if std::env::var_os("JOURNAL_STREAM").is_some() { "<3>" } else { "clauded: " };
    for line in why.lines() {
        eprintln!("{error}{line}");
    }
}

/// To the journal with true priorities where systemd connected our standard error to it, else to standard error.
fn start_logging() {
    use tracing_subscriber::prelude::*;
    let filter = tracing_subscriber::EnvFilter::try_from_env("CLAUDED_LOG").unwrap_or_else(|_| "info".into());
    let registry = tracing_subscriber::registry().with(filter);
    match journal::layer() {
        Some(journal) => registry.with(journal).init(),
        None => {
            registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_target(false)).init()
        }
    }
}

/// Everything that may fail before there is an event loop.
fn begin(args: &Args) -> anyhow::Result<()> {
    let paths = args.paths();
    let config = Config::load(&paths)?;
    if args.check {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&paths.state).with_context(|| format!("making {}", paths.state.display()))?;
    let _lock = lock(&paths)?;
    let passed = passed_sockets()?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the event loop")?.block_on(serve(
        args,
        paths,
        Arc::new(config),
        passed,
    ))
}

/// One daemon per state directory.
fn lock(paths: &Paths) -> anyhow::Result<Flock<File>> {
    let path = paths.state.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).with_context(|| format!("opening {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EAGAIN)) => Err(Occupied(path.display().to_string()).into()),
        Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

fn passed_sockets() -> anyhow::Result<Vec<OwnedFd>> {
    let fds = sd_notify::listen_fds().context("taking the sockets that the service manager passed")?;
    fds.map(|fd| sys::inherited(fd).with_context(|| format!("taking over descriptor {fd}"))).collect()
}

/// Says what allows clauded.service to write to a file that is not where its unit lets it (`ProtectSystem=strict`).
fn refuse_read_only(key: &str, file: &Path) -> anyhow::Result<()> {
    let Some(directory) = file.parent() else { return Ok(()) };
    match access(directory, AccessFlags::W_OK) {
        Err(Errno::EROFS) => bail!(
            "{key}: nothing can be written to {0}; for clauded.service allow it with `systemctl edit clauded`: [Service] ReadWritePaths={0}",
            directory.display()
        ),
        // Whatever else is wrong is said by who uses the file.
        _ => Ok(()),
    }
}

async fn serve(args: &Args, paths: Paths, config: Arc<Config>, passed: Vec<OwnedFd>) -> anyhow::Result<()> {
    // A SIGHUP does not end this process at any time: what is asked for while it starts is done when it serves. The others end it at once
    // until then, for nothing is under way yet; as a container's first process too, which the kernel spares what it does not listen to.
    let mut hup = signal(SignalKind::hangup())?;
    let mut early = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let starting = tokio::spawn(async move {
        tokio::select! { _ = early.0.recv() => {} _ = early.1.recv() => {} }
        tracing::info!("told to stop while it started");
        std::process::exit(0);
    });
    refuse_read_only("[store] path", &config.store.path)?;
    if !config.api.token_file.exists() {
        refuse_read_only("[api] token-file", &config.api.token_file)?;
    }
    let store = SqliteStore::open(&config.store.path).await?;
    audit::compare(&store, &paths.state).await?;
    let (kept, over) = oneshot::channel::<()>();
    // The sender going away means the same.
    let keeper = tokio::spawn(audit::keep(paths.state.clone(), store.audit_heads(), async { drop(over.await) }));
    let sockets = Sockets::open(&config.api, &paths, passed)?;
    let token = token(&config.api.token_file)?;
    let metrics = Arc::new(Metrics::new(Numbers::reader())?);
    let (events, _) = broadcast::channel(EVENTS);
    let log_grew = Arc::new(Notify::new());
    let watchdog = sd_notify::watchdog_enabled();
    let (limits, orders) = mpsc::unbounded_channel();
    let engine = Engine::new(store.clone(), config.clone(), metrics.clone(), events.clone(), log_grew.clone(), watchdog, limits).await?;

    // Before there are new events, whose times may be wrong.
    let last = store.last_event().await?.map_or_else(Timestamp::now, |(_, at)| at);

    let (inputs, receiver) = mpsc::channel(INPUTS);
    let shared = Arc::new(RwLock::new(config.clone()));
    let supervisor = supervisor(config.fleet.supervisor, args.user, sd_notify::booted().unwrap_or(false));
    let (units, said) = supervise(supervisor, &paths, &shared);
    if units.supervisor() == "systemd-user" && needs_generator(&config, &paths) {
        tracing::warn!(
            "for a user's systemd, limits, worktree-root, and an instance's directory, user, autostart and credential are not in force; \
             say them with: systemctl --user edit claude-code@NAME"
        );
    }
    let runners = Arc::new(Runners::default());
    let known_by_pid = units.supervisor() == "process";
    let identity = Arc::new(Identity::new(shared.clone(), known_by_pid.then(|| runners.clone())));
    let running = tokio::spawn(engine.run(receiver));
    let autostart = if units.supervisor() == "process" { autostarted(&config) } else { Vec::new() };
    let (caught_up, mut seen_all) = watch::channel(false);
    tokio::spawn(watch_units(said, inputs.clone(), units.clone(), runners, autostart, caught_up));
    let links = link::serve(tokio::net::UnixListener::from_std(sockets.link)?, identity.clone(), inputs.clone(), metrics.clone());
    let mut runners_found = seen_all.clone();
    tokio::spawn(async move {
        if known_by_pid {
            // Who calls before the supervisor has found its runners again would be refused, and come back after a pause. The
            // kernel keeps the callers waiting. An error means that the supervisor is over, and then nobody will be known.
            let _ = runners_found.wait_for(|all| *all).await;
        }
        links.await;
    });
    tokio::spawn(prune(store.clone(), shared.clone(), last));

    let require_token = Arc::new(AtomicBool::new(config.metrics.require_token));
    let closing = store.clone();
    tokio::spawn(sizes::perform(orders, units.clone(), inputs.clone()));
    tokio::spawn(retire::watch(inputs.clone(), units.clone(), events.subscribe(), seen_all.clone()));
    let verbs = Arc::new(Verbs {
        engine: inputs.clone(),
        units: units.clone(),
        store,
        metrics,
        events,
        logs: Logs::new(paths.instances.join("instances")),
        log_grew,
        paths: paths.clone(),
        cgroups: cgroup::mount(),
        identity: identity.clone(),
        persisting: tokio::sync::Mutex::default(),
        forecasts: Forecasts::new(inputs.clone()),
    });
    let who = identity.clone();
    let server = http::Server {
        service: verbs,
        identify: Arc::new(move |peer| who.caller(peer)),
        access: http::Access { token: Some(token), require_token: require_token.clone() },
    };
    let tcp = sockets.tcp.map(tokio::net::TcpListener::from_std).transpose()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let unix = tokio::net::UnixListener::from_std(sockets.api)?;
    let mut agents_known = seen_all.clone();
    let api = tokio::spawn(async move {
        if known_by_pid {
            // As for the runners: an agent must not pass for a person.
            let _ = tokio::time::timeout(SEEN_ALL, agents_known.wait_for(|all| *all)).await;
        }
        let stop = async {
            // The sender going away means the same.
            let _ = stopped.await;
        };
        server.run(unix, tcp, stop).await;
    });
    // Who waits for READY then finds the fleet as it is. Without its supervisor clauded serves too, and says what is wrong.
    let _ = tokio::time::timeout(SEEN_ALL, seen_all.wait_for(|all| *all)).await;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    starting.abort();
    tracing::info!(supervisor = units.supervisor(), "clauded {} is ready", env!("CARGO_PKG_VERSION"));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("serving")]);

    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => reload(&paths, &config, &require_token, &identity, &inputs, &units).await,
        }
    }
    // The runners go on without us; what they say meanwhile waits in their spools.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::Status("stopping")]);
    drop(stop);
    api.await.context("serving the API")?;
    running.abort();
    drop(kept);
    keeper.await.context("keeping the head of the audit")?;
    closing.close().await;
    Ok(())
}

/// Whether the configuration says what only clauded-generator could put in force, which compiles none for a user's systemd.
fn needs_generator(config: &Config, paths: &Paths) -> bool {
    let usual = Config::default_for(paths);
    let credential = config.profiles.values().any(|profile| profile.credential_file.is_some());
    credential
        || !config.instances.is_empty()
        || config.defaults.limits != usual.defaults.limits
        || config.fleet.limits != usual.fleet.limits
        || config.fleet.worktree_root != usual.fleet.worktree_root
}

/// The keys of a new configuration that only a start looks at, where they differ from what this clauded was started with.
fn for_a_restart(started: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("[fleet] supervisor", started.fleet.supervisor != new.fleet.supervisor),
        ("[api] listen", started.api.listen != new.api.listen),
        ("[api] token-file", started.api.token_file != new.api.token_file),
        ("[store] path", started.store.path != new.store.path),
    ];
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

/// Puts a new configuration in force; one that is wrong is refused and the old one stays.
async fn reload(paths: &Paths, started: &Config, require_token: &AtomicBool, identity: &Identity, engine: &mpsc::Sender<Input>, units: &Units) {
    match Config::load(paths) {
        Ok(config) => {
            let config = Arc::new(config);
            identity.configure(config.clone());
            require_token.store(config.metrics.require_token, Ordering::Relaxed);
            let waiting = for_a_restart(started, &config).join(", ");
            // The engine lives as long as this loop.
            let _ = engine.send(Input::By(Actor::signal(), Box::new(Input::Configure(config)))).await;
            // The generator compiles the new limits into drop-ins, and systemd applies them to what runs.
            if let Err(error) = units.reload().await {
                tracing::error!("the new configuration is in force, but not the limits in it: {error}");
            }
            tracing::info!("the configuration was read again");
            let mut status = "serving".to_owned();
            if !waiting.is_empty() {
                tracing::warn!("changed, but in force only after `systemctl restart clauded`: {waiting}");
                status.push_str(&format!("; in force only after a restart of clauded: {waiting}"));
            }
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&status)]);
        }
        Err(problems) => {
            tracing::error!("the configuration was not changed, since the new one is wrong:\n{problems}");
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(
                "serving with the configuration of before: the new one is wrong, see: claudectl config check",
            )]);
        }
    }
}

/// Until when things are old. History ages while clauded runs, from when it last wrote on: a clock that is wrong at boot, or
/// that is set to some other year, must not take all of it away.
fn old(now: Timestamp, last: Timestamp, since: Duration, keep: Duration) -> Option<Timestamp> {
    last.checked_add(since).unwrap_or(last).min(now).checked_sub(keep).ok()
}

/// Removes what is old, now and then. `last` is when something was last written before this start.
async fn prune(store: SqliteStore, config: Arc<RwLock<Arc<Config>>>, last: Timestamp) {
    let begun = Instant::now();
    let mut every = tokio::time::interval(PRUNE_EVERY);
    loop {
        every.tick().await;
        let config = config.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(before) = old(Timestamp::now(), last, begun.elapsed(), config.audit.keep) {
            match store.trim_audit(before, config.audit.max_rows).await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "removed the oldest rows of the audit"),
                Err(error) => tracing::error!("removing old rows of the audit: {error}"),
            }
        }
        let keep = config.store.keep;
        let Some(before) = old(Timestamp::now(), last, begun.elapsed(), keep) else { continue };
        match store.prune(before).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "removed what is older than {}", humantime::format_duration(keep)),
            Err(error) => tracing::error!("removing what is old: {error}"),
        }
    }
}

/// One line without control characters, as sd_notify(3) wants it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_users_systemd_is_not_told_is_noticed() {
        let paths = Paths::system();
        let needs = |text: &str| needs_generator(&Config::from_texts(&[("a.toml".into(), text.to_owned())], &paths).expect("valid"), &paths);
        assert!(!needs("") && !needs("[profiles.claude]\nmodel = \"opus\"\n[api]\nlisten = \"off\"\n"));
        for text in [
            "[instances.a]\n",
            "[defaults.limits]\nmemory = \"1G\"\n",
            "[fleet.limits]\ntasks = 9\n",
            "[fleet]\nworktree-root = \"/w\"\n",
            "[profiles.p]\ncredential-file = \"/k\"\n",
        ] {
            assert!(needs(text), "{text}");
        }
    }

    #[test]
    fn what_only_a_start_looks_at_is_told_by_its_key() {
        let started = Config::default_for(&Paths::system());
        let mut new = started.clone();
        new.metrics.require_token = true;
        new.store.keep = Duration::from_secs(1);
        assert_eq!(for_a_restart(&started, &new), Vec::<&str>::new());
        new.fleet.supervisor = crate::config::Supervisor::Process;
        new.api = crate::config::Api { listen: None, token_file: "/t".into() };
        new.store.path = "/s".into();
        assert_eq!(for_a_restart(&started, &new), ["[fleet] supervisor", "[api] listen", "[api] token-file", "[store] path"]);
    }

    #[test]
    fn a_wrong_clock_takes_no_history_away() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let (last, hour, keep) = (at("2026-06-30T12:00:00Z"), Duration::from_secs(3600), Duration::from_secs(30 * 86_400));
        let ordinary = Some(at("2026-05-31T13:00:00Z"));
        assert_eq!(old(at("2026-06-30T13:00:00Z"), last, hour, keep), ordinary);
        assert_eq!(old(at("2099-01-01T00:00:00Z"), last, hour, keep), ordinary, "it is no hour later");
        assert_eq!(old(at("1970-01-02T00:00:00Z"), last, hour, keep), Some(at("1969-12-03T00:00:00Z")), "nothing is that old");
    }

    #[test]
    fn what_a_restart_cannot_mend_is_told_apart() {
        let directory = tempfile::tempdir().expect("tempdir");
        let paths = Paths { state: directory.path().into(), config: directory.path().join("c.toml"), ..Paths::system() };
        let _first = lock(&paths).expect("locked");
        let second = lock(&paths).expect_err("refused");
        assert!(second.to_string().contains("another clauded works on this state directory"), "{second}");
        assert!(is_hopeless(&second));
        fs::write(&paths.config, "x = 1\n").expect("written");
        assert!(is_hopeless(&Config::load(&paths).expect_err("wrong").into()));
        let full = StoreError::Full { path: "/x".into() };
        assert!(!is_hopeless(&full.into()) && is_hopeless(&StoreError::Newer { path: "/x".into(), found: 2, known: 1 }.into()));
    }
}
