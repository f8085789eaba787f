//! The supervisor's task: feeds commands, notifications, ends and deadlines to the instances' machines, does what they say,
//! and reports every change.

use super::groups::{Fleet, change_limits, in_force};
use super::machine::{Effect, Exit, Machine, Outcome};
use super::notify::Socket;
use super::record::{ProcessRecord, Record, Records, boot};
use super::runner::{Runner, Surroundings, bound_log};
use super::{Settings, named};
use crate::core::ids::{InstanceName, InvocationId};
use crate::core::instance::{ActiveState, Observation};
use crate::core::limits::Limits;
use crate::platform::cgroup::{host_memory, mount};
use crate::platform::units::{Answer, Command, Done, Report, UnitError, UnitEvent};
use jiff::Timestamp;
use rustix::process::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Who waits for a verb, with the method to name in an error.
type Waiters = Vec<(&'static str, oneshot::Sender<Result<Done, UnitError>>)>;

/// One instance.
struct Slot {
    machine: Machine,
    runner: Option<Runner>,
    /// Set at run time, over the configured ones.
    overrides: Limits,
    /// What its group was last told.
    set: Limits,
    in_force: Limits,
    starting: Waiters,
    stopping: Waiters,
    reported: Option<Box<Observation>>,
    recorded: Option<Record>,
}

impl Slot {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            runner: None,
            overrides: Limits::default(),
            set: Limits::default(),
            in_force: Limits::default(),
            starting: Vec::new(),
            stopping: Vec::new(),
            reported: None,
            recorded: None,
        }
    }

    fn record(&self, boot: &str, process: Option<ProcessRecord>) -> Record {
        let waiting = self.machine.state().1 == "auto-restart";
        Record { boot: boot.to_owned(), process, restarts: self.machine.restarts, waiting, limits: self.overrides.into() }
    }
}

/// A runner's process is gone.
struct Ended(InstanceName, InvocationId, Exit);

/// The supervisor.
pub(super) struct Supervisor {
    settings: Settings,
    around: Surroundings,
    socket: Socket,
    records: Records,
    boot: String,
    fleet: Option<Fleet>,
    /// What the fleet's group was last told.
    fleet_set: Limits,
    /// What the groups around instances were last told.
    around_set: BTreeMap<String, Limits>,
    slots: BTreeMap<InstanceName, Slot>,
    reports: mpsc::UnboundedSender<Report>,
    ends: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
}

impl Supervisor {
    /// Takes its place and adopts the runners of an earlier daemon.
    pub(super) fn open(settings: Settings, reports: mpsc::UnboundedSender<Report>) -> io::Result<Self> {
        let around = Surroundings { notify: settings.runtime.join("notify.sock"), logs: settings.state.join("logs"), watchdog: settings.policy.watchdog };
        for directory in [&settings.runtime, &around.logs] {
            fs::create_dir_all(directory).map_err(named("make", directory))?;
        }
        let (records, boot) = (Records::open(settings.state.join("instances"))?, boot()?);
        let fleet = Fleet::open(&settings.state).inspect_err(|error| tracing::warn!("no cgroups: limits are rlimits of each process alone: {error}")).ok();
        let ends = mpsc::unbounded_channel();
        let socket = Socket::bind(&around.notify)?;
        let adopted = records.all(&boot)?;
        let mut supervisor = Self {
            settings,
            around,
            socket,
            records,
            boot,
            fleet,
            fleet_set: Limits::default(),
            around_set: BTreeMap::new(),
            slots: BTreeMap::new(),
            reports,
            ends,
        };
        if let Some(group) = supervisor.fleet.as_ref().and_then(|fleet| below_mount(&fleet.path())) {
            supervisor.report(UnitEvent::Fleet(group));
        }
        for (name, record) in adopted {
            supervisor.adopt(name, record);
        }
        supervisor.limit_fleet();
        supervisor.report(UnitEvent::CaughtUp);
        Ok(supervisor)
    }

    /// Serves until nobody holds the handle any more. The runners go on.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let next = self.slots.values().filter_map(|slot| slot.machine.deadline()).min();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(ended) = self.ends.1.recv() => {
                    // What it said before it ended has been sent, and is to be heard first.
                    while let Some((pid, text)) = self.socket.heard() {
                        self.said(pid, &text);
                    }
                    self.ended(ended);
                }
                heard = self.socket.receive() => match heard {
                    Ok((pid, text)) => self.said(pid, &text),
                    Err(error) => return tracing::error!("the runners' notifications cannot be received any more: {error}"),
                },
                () = due => self.due(),
            }
        }
    }

    fn adopt(&mut self, name: InstanceName, record: Record) {
        let (policy, now) = (self.settings.policy, Instant::now());
        let mut slot = match &record.process {
            Some(process) => Slot::new(Machine::adopted(policy, process.invocation.clone(), record.restarts, now)),
            None if record.waiting => Slot::new(Machine::waiting(policy, record.restarts, now)),
            None => Slot::new(Machine::new(policy)),
        };
        slot.overrides = Limits::from(&record.limits);
        let stopping = record.process.as_ref().is_some_and(|process| process.stopping);
        slot.runner = record.process.clone().map(Runner::adopt);
        slot.recorded = Some(record);
        self.slots.insert(name.clone(), slot);
        self.watch(&name, None);
        // The configuration may have changed while there was no daemon.
        self.limit_around(&name);
        self.reload_limits(&name);
        let effects = match self.slots.get_mut(&name) {
            Some(slot) if stopping => slot.machine.stop(now),
            _ => Vec::new(),
        };
        self.apply(&name, effects);
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        let (unit, method) = (command.unit(), command.method());
        let (name, effects) = match command {
            Command::Start(name, reply) => {
                let slot = self.slot(&name);
                slot.starting.push((method, reply));
                (name.clone(), slot.machine.start(now))
            }
            Command::Restart(name, reply) => {
                let slot = self.slot(&name);
                slot.starting.push((method, reply));
                (name.clone(), slot.machine.restart(now))
            }
            Command::Stop(name, reply) => {
                let slot = self.slot(&name);
                slot.stopping.push((method, reply));
                (name.clone(), slot.machine.stop(now))
            }
            Command::SetLimits(name, limits, reply) => {
                let outcome = self.set_limits(&name, limits).map_err(|message| UnitError::Refused { unit, method, message });
                self.apply(&name, Vec::new());
                return self.say(Report::Answer(Answer { reply, outcome }));
            }
            // There are no targets without systemd: a team is up when its members are.
            Command::Target { reply, .. } => return self.say(Report::Answer(Answer { reply, outcome: Ok(Done::Unchanged) })),
            Command::Reload(reply) => {
                // How to start an instance is asked at each start; the limits of those that run are what is older.
                self.limit_fleet();
                let names: Vec<_> = self.slots.keys().cloned().collect();
                names.iter().for_each(|name| self.limit_around(name));
                let changed = names.iter().filter(|name| self.reload_limits(name)).count() > 0;
                let outcome = Ok(if changed { Done::Changed } else { Done::Unchanged });
                return self.say(Report::Answer(Answer { reply, outcome }));
            }
        };
        self.apply(&name, effects);
    }

    fn slot(&mut self, name: &InstanceName) -> &mut Slot {
        let policy = self.settings.policy;
        self.slots.entry(name.clone()).or_insert_with(|| Slot::new(Machine::new(policy)))
    }

    /// A process said something; only runners are listened to.
    fn said(&mut self, pid: i32, text: &str) {
        let now = Instant::now();
        let speaker = self.slots.iter_mut().find(|(_, slot)| slot.runner.as_ref().is_some_and(|r| i32::try_from(r.pid) == Ok(pid)));
        let Some((name, slot)) = speaker else { return };
        let (name, effects) = (name.clone(), slot.machine.said(text, now));
        if let Some(runner) = slot.runner.as_mut().filter(|_| slot.machine.state().0 == ActiveState::Active) {
            runner.since.get_or_insert_with(Timestamp::now);
        }
        if let Err(error) = bound_log(&self.around.log(&name)) {
            tracing::warn!(instance = %name, %error, "the runner's log grows past its bound");
        }
        self.apply(&name, effects);
    }

    fn ended(&mut self, Ended(name, invocation, exit): Ended) {
        let now = Instant::now();
        let Some(slot) = self.slots.get_mut(&name).filter(|slot| slot.runner.as_ref().is_some_and(|r| r.invocation == invocation)) else { return };
        slot.runner = None;
        let effects = slot.machine.ended(exit, now);
        if let Some(fleet) = &self.fleet {
            fleet.tidy();
        }
        self.apply(&name, effects);
    }

    fn due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.slots.iter_mut().map(|(name, slot)| (name.clone(), slot.machine.due(now))).filter(|(_, effects)| !effects.is_empty()).collect();
        for (name, effects) in due {
            self.apply(&name, effects);
        }
    }

    /// Does what a machine said, then records and reports how the instance stands, and then answers those who waited for it.
    fn apply(&mut self, name: &InstanceName, effects: Vec<Effect>) {
        let (mut effects, mut answers) = (VecDeque::from(effects), Vec::new());
        while let Some(effect) = effects.pop_front() {
            if effect == Effect::Launch {
                if let Err(error) = self.launch(name) {
                    tracing::error!(instance = %name, %error, "cannot start the runner");
                    if let Some(slot) = self.slots.get_mut(name) {
                        slot.machine.status_text = error.to_string();
                        effects.extend(slot.machine.ended(Exit::NotStarted, Instant::now()));
                    }
                } else {
                    // It may call before it is on record, and is to be known then.
                    self.observe(name);
                }
                continue;
            }
            let Some(slot) = self.slots.get_mut(name) else { return };
            match (effect, &slot.runner) {
                (Effect::Terminate, Some(runner)) => runner.signal(Signal::TERM),
                (Effect::Abort, Some(runner)) => runner.signal(Signal::ABORT),
                (Effect::Kill, Some(runner)) => runner.kill(),
                (Effect::Started(outcome), _) => {
                    let waiters = std::mem::take(&mut slot.starting);
                    answers.extend(self.answers(name, waiters, outcome));
                }
                (Effect::Stopped(outcome), _) => {
                    let waiters = std::mem::take(&mut slot.stopping);
                    answers.extend(self.answers(name, waiters, outcome));
                }
                (Effect::Launch | Effect::Terminate | Effect::Abort | Effect::Kill, _) => {}
            }
        }
        self.record(name);
        self.observe(name);
        answers.into_iter().for_each(|answer| self.say(Report::Answer(answer)));
    }

    fn answers(&self, name: &InstanceName, waiters: Waiters, outcome: Outcome) -> Vec<Answer> {
        let said = |method| {
            outcome.map_err(|result| {
                let detail = self.slots.get(name).map(|slot| observation(name, slot).cause().detail).unwrap_or_default();
                let hint = format!(": {detail}; see {}", self.around.log(name).display());
                UnitError::Job { unit: name.unit(), method, result: result.to_owned(), hint }
            })
        };
        waiters.into_iter().map(|(method, reply)| Answer { outcome: said(method), reply }).collect()
    }

    fn launch(&mut self, name: &InstanceName) -> io::Result<()> {
        let mut launch = (self.settings.launch)(name);
        let overrides = self.slots.get(name).map(|slot| slot.overrides).unwrap_or_default();
        launch.limits = overrides.or(launch.limits);
        let group = self.fleet.as_ref().map(|fleet| fleet.instance(name, launch.around.iter().map(|(name, _)| name.as_str()))).transpose()?;
        if let Some(group) = &group {
            // They may have been made a moment ago.
            self.limit_fleet();
            for (name, _) in &launch.around {
                self.around_set.remove(name);
            }
            self.limit_around(name);
            if let Err(error) = group.set_limits(&launch.limits, host_memory()) {
                tracing::warn!(instance = %name, %error, "some limits are not in force");
            }
        }
        let invocation: InvocationId = uuid::Uuid::new_v4()
            .simple()
            .to_string()
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("make an invocation ID: {error}")))?;
        let Some(slot) = self.slots.get_mut(name) else { return Ok(()) };
        // On record before it runs, whenever this daemon ends: the next one finds it by its invocation.
        let intended = ProcessRecord::intended(invocation.clone(), group.as_ref().map(|group| group.path().to_owned()));
        let intended = slot.record(&self.boot, Some(intended));
        self.records.write(name, &intended)?;
        slot.recorded = Some(intended);
        slot.set = launch.limits;
        let (runner, child) = Runner::start(name, invocation, &launch, group, &self.around)?;
        slot.machine.launched(runner.invocation.clone());
        slot.runner = Some(runner);
        self.read_limits(name);
        self.watch(name, Some(child));
        Ok(())
    }

    /// Waits for the end of an instance's runner.
    fn watch(&self, name: &InstanceName, child: Option<tokio::process::Child>) {
        let Some(runner) = self.slots.get(name).and_then(|slot| slot.runner.as_ref()) else { return };
        let (name, invocation, ends) = (name.clone(), runner.invocation.clone(), self.ends.0.clone());
        match runner.end(child) {
            Ok(end) => {
                tokio::spawn(async move {
                    let exit = end.await;
                    // The supervisor may be over; the next one finds the record.
                    let _ = ends.send(Ended(name, invocation, exit));
                });
            }
            Err(error) => tracing::error!(instance = %name, %error, "cannot watch the runner"),
        }
    }

    /// Puts the fleet's limits on the group of all runners.
    fn limit_fleet(&mut self) {
        let wanted = (self.settings.fleet)();
        if wanted.is_empty() && self.fleet_set.is_empty() {
            return;
        }
        let outcome = match &self.fleet {
            Some(fleet) => fleet.group().and_then(|group| change_limits(&group, &wanted, &self.fleet_set)),
            None => Err(io::Error::new(io::ErrorKind::Unsupported, "there is no writable cgroup v2 tree")),
        };
        if let Err(error) = outcome {
            tracing::warn!("[fleet.limits] are not all in force: {error}");
        }
        self.fleet_set = wanted;
    }

    /// Puts the limits of the groups around an instance on them, as far as they are there.
    fn limit_around(&mut self, name: &InstanceName) {
        let Some(fleet) = &self.fleet else { return };
        let around = (self.settings.launch)(name).around;
        for (at, (name, wanted)) in around.iter().enumerate() {
            let before = self.around_set.get(name).copied().unwrap_or_default();
            if *wanted == before {
                continue;
            }
            let path = around.iter().take(at + 1).map(|(name, _)| name.as_str());
            if let Err(error) = fleet.around(path).and_then(|group| change_limits(&group, wanted, &before)) {
                tracing::warn!("the limits of {name} are not all in force: {error}");
            }
            self.around_set.insert(name.clone(), *wanted);
        }
    }

    /// Puts the configured limits of an instance that runs in force; answers whether they were others.
    fn reload_limits(&mut self, name: &InstanceName) -> bool {
        let configured = (self.settings.launch)(name).limits;
        let Some(slot) = self.slots.get_mut(name) else { return false };
        let wanted = slot.overrides.or(configured);
        let Some(group) = slot.runner.as_ref().and_then(|runner| runner.group.as_ref()).filter(|_| wanted != slot.set) else { return false };
        if let Err(error) = change_limits(group, &wanted, &slot.set) {
            tracing::warn!(instance = %name, %error, "some of the new limits are not in force");
        }
        slot.set = wanted;
        self.read_limits(name);
        self.observe(name);
        true
    }

    fn read_limits(&mut self, name: &InstanceName) {
        let configured = (self.settings.launch)(name).limits;
        let Some(slot) = self.slots.get_mut(name) else { return };
        let wanted = slot.overrides.or(configured);
        let group = slot.runner.as_ref().and_then(|runner| runner.group.as_ref());
        slot.in_force = group.map(|group| in_force(&wanted, &group.caps(), group)).unwrap_or_default();
    }

    fn set_limits(&mut self, name: &InstanceName, limits: Limits) -> Result<Done, String> {
        if self.fleet.is_none() {
            return Err("there is no writable cgroup v2 tree, so limits cannot be changed at run time".to_owned());
        }
        let configured = (self.settings.launch)(name).limits;
        let slot = self.slot(name);
        if limits.or(slot.overrides).or(configured) == slot.overrides.or(configured) {
            return Ok(Done::Unchanged);
        }
        if let Some(group) = slot.runner.as_ref().and_then(|runner| runner.group.as_ref()) {
            group.set_limits(&limits, host_memory()).map_err(|error| error.to_string())?;
        }
        slot.overrides = limits.or(slot.overrides);
        slot.set = slot.overrides.or(configured);
        self.read_limits(name);
        Ok(Done::Changed)
    }

    fn record(&mut self, name: &InstanceName) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let stopping = slot.machine.state().0 == ActiveState::Deactivating && slot.machine.is_stop_wanted();
        let record = slot.record(&self.boot, slot.runner.as_ref().map(|runner| runner.record(stopping)));
        let written = if record.process.is_none() && !record.waiting && slot.overrides.is_empty() {
            slot.recorded = None;
            self.records.remove(name)
        } else if slot.recorded.as_ref() == Some(&record) {
            Ok(())
        } else {
            // What is not written is tried again at the next beat.
            self.records.write(name, &record).inspect(|()| slot.recorded = Some(record))
        };
        if let Err(error) = written {
            tracing::error!(instance = %name, %error, "a new daemon would not know of this");
        }
    }

    fn observe(&mut self, name: &InstanceName) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let seen = Box::new(observation(name, slot));
        let dead = seen.active == ActiveState::Inactive;
        if slot.reported.as_ref() != Some(&seen) && !(dead && slot.reported.is_none()) {
            slot.reported = Some(seen.clone());
            self.report(UnitEvent::Seen(seen));
            if dead {
                // As systemd does: what has stopped in order and has no more to say is forgotten.
                self.report(UnitEvent::Gone(name.clone()));
            }
        }
        if dead && let Some(slot) = self.slots.get_mut(name) {
            slot.reported = None;
            if slot.overrides.is_empty() {
                self.slots.remove(name);
            }
        }
    }

    fn report(&self, event: UnitEvent) {
        self.say(Report::Event(event));
    }

    fn say(&self, report: Report) {
        // Without a listener there is nobody to tell; the handle's end is what ends the supervisor.
        let _ = self.reports.send(report);
    }
}

/// A group as systemd would name it.
fn below_mount(group: &Path) -> Option<String> {
    Some(format!("/{}", group.strip_prefix(mount()?).ok()?.display()))
}

/// How an instance stands, in systemd's words.
fn observation(name: &InstanceName, slot: &Slot) -> Observation {
    let (machine, runner) = (&slot.machine, slot.runner.as_ref());
    let (active, sub) = machine.state();
    let group = runner.and_then(|runner| runner.group.as_ref());
    Observation {
        name: name.clone(),
        active,
        sub: sub.to_owned(),
        result: machine.result.to_owned(),
        restarts: machine.restarts,
        main_pid: runner.map_or(0, |runner| runner.pid),
        exec_main_code: machine.exec_main.0,
        exec_main_status: machine.exec_main.1,
        invocation: machine.invocation.clone(),
        status_text: machine.status_text.clone(),
        control_group: group.and_then(|group| below_mount(group.path())).unwrap_or_default(),
        since: runner.and_then(|runner| runner.since),
        limits: slot.in_force,
        oom_kills: None,
        oom_kills_of_tasks: None,
    }
}
