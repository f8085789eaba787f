//! The runners, their units and their connections.

use super::{Connection, Event, FromDaemon, FromRunner, LIMIT, World};
use crate::core::attempt::{Ended, Reason};
use crate::core::ids::{AttemptId, InvocationId};
use crate::core::queue::Hello;
use crate::core::queue::attempts::unseen;
use crate::core::usage::Usd;

impl World {
    pub(super) fn start_unit(&mut self, index: usize, knows: bool) {
        self.reap(index);
        let instance = &mut self.instances[index].1;
        if instance.invocation.is_some() {
            return;
        }
        self.invocations += 1;
        instance.invocation = InvocationId::from_bytes(&[self.invocations; 16]);
        instance.draining = false;
        // A new runner reports what its predecessor left unfinished, unless it lost its records.
        let spooled = |attempt: &AttemptId| instance.spool.iter().any(|(_, event)| matches!(event, Event::Finished(other, _) if other == attempt));
        let unfinished: Vec<AttemptId> = instance.accepted.iter().filter(|a| !self.truth.contains_key(a) && !spooled(a)).copied().collect();
        if knows {
            for attempt in unfinished {
                let report = unseen(Ended::Failed { reason: Reason::Lost, transient: true }, "found by the next runner", self.now);
                self.truth.insert(attempt, report.clone());
                instance.say(Event::Finished(attempt, Box::new(report)));
            }
        }
    }

    /// The kernel and systemd see to it that nothing of an invocation is left before it is over.
    pub(super) fn reap(&mut self, index: usize) {
        let (name, instance) = &mut self.instances[index];
        if let Some(invocation) = instance.orphaned.take() {
            instance.alive = None;
            self.unit_events.push_back((name.clone(), invocation, false));
        }
    }

    /// The first half of an orderly stop: the runner says that it takes nothing more.
    pub(super) fn drain(&mut self, index: usize) {
        let instance = &mut self.instances[index].1;
        if instance.invocation.is_some() && !instance.draining {
            instance.draining = true;
            if let Some(connection) = &mut instance.connection {
                connection.to_daemon.push_back(FromRunner::Draining);
            }
        }
    }

    pub(super) fn stop_unit(&mut self, index: usize) {
        self.finish(index, Ended::Interrupted, 1);
        let (name, instance) = &mut self.instances[index];
        let Some(invocation) = instance.invocation.take() else { return };
        self.unit_events.push_back((name.clone(), invocation, true));
        self.disconnect(index);
    }

    pub(super) fn kill_runner(&mut self, index: usize) {
        let instance = &mut self.instances[index].1;
        if let Some(invocation) = instance.invocation.take() {
            instance.orphaned = Some(invocation);
            self.disconnect(index);
        }
    }

    pub(super) fn connect(&mut self, index: usize) {
        let instance = &mut self.instances[index].1;
        if self.queue.is_none() || instance.invocation.is_none() || instance.connection.is_some() {
            return;
        }
        let mut connection = Connection::default();
        connection.to_daemon.push_back(FromRunner::Hello { current: instance.alive, spooled: instance.spool.len() });
        connection.to_daemon.extend(instance.spool.iter().map(|(seq, event)| FromRunner::Event(*seq, event.clone())));
        if instance.draining {
            connection.to_daemon.push_back(FromRunner::Draining);
        }
        instance.connection = Some(connection);
    }

    /// What was under way in the connection is lost.
    pub(super) fn disconnect(&mut self, index: usize) {
        let (name, instance) = &mut self.instances[index];
        let last = instance.invocation.clone().or(instance.orphaned.clone()).or(self.unit_events.back().map(|event| event.1.clone()));
        if instance.connection.take().is_some()
            && let (Some(queue), Some(invocation)) = (&mut self.queue, last)
        {
            queue.unlinked(name, &invocation);
        }
    }

    pub(super) fn daemon_hears(&mut self, index: usize) {
        let account = ["x", "y"][index % 2];
        let (name, instance) = &mut self.instances[index];
        let name = name.clone();
        let Some(invocation) = instance.invocation.clone() else { return };
        let Some(connection) = &mut instance.connection else { return };
        let mut seen = None;
        match connection.to_daemon.pop_front() {
            None => return,
            Some(FromRunner::Hello { current, spooled }) => connection.greeting = Some((current, spooled)),
            Some(FromRunner::Draining) => {
                self.call(|queue, _| {
                    queue.draining(&name);
                    Vec::new()
                });
                return;
            }
            Some(FromRunner::Event(seq, event)) => {
                if let Some((_, left)) = &mut connection.greeting {
                    *left -= 1;
                }
                seen = Some((seq, event));
            }
        }
        if let Some((seq, event)) = seen {
            let committed = self.call(|queue, now| match &event {
                Event::Started(attempt) => queue.started(&name, &invocation, *attempt),
                Event::Finished(attempt, report) => queue.finished(&name, account, *attempt, report, now),
            });
            if committed && self.instances[index].1.connection.is_some() {
                self.tell(&name, FromDaemon::Ack(seq));
            }
        }
        let connection = &mut self.instances[index].1.connection;
        if let Some(connection) = connection
            && let Some((current, 0)) = connection.greeting
        {
            connection.greeting = None;
            let hello = Hello { instance: name.clone(), invocation, account: account.to_owned(), current };
            self.call(|queue, now| queue.linked(hello, now));
        }
    }

    pub(super) fn runner_hears(&mut self, index: usize) {
        let (name, instance) = &mut self.instances[index];
        let Some(message) = instance.connection.as_mut().and_then(|connection| connection.to_runner.pop_front()) else { return };
        match message {
            FromDaemon::Ack(seq) => instance.spool.retain(|(number, _)| *number > seq),
            FromDaemon::End(attempt) if instance.alive == Some(attempt) => self.finish(index, Ended::Cancelled, 1),
            FromDaemon::End(_) => {}
            FromDaemon::Run(attempt) if instance.alive == Some(attempt) => {}
            FromDaemon::Run(_) if instance.draining => {}
            FromDaemon::Run(attempt) => {
                assert_eq!(instance.alive, None, "an idle runner is given {attempt}");
                assert!(instance.accepted.insert(attempt), "{attempt} is run twice");
                let limit = self.limits.get(name).copied().unwrap_or(LIMIT);
                let needed = self.tasks[&attempt.task].memory;
                assert!(needed.is_none_or(|memory| memory <= limit), "{attempt} begins with {limit} and needs {needed:?}");
                instance.alive = Some(attempt);
                instance.say(Event::Started(attempt));
            }
        }
    }

    pub(super) fn finish(&mut self, index: usize, ended: Ended, cost: u64) {
        let instance = &mut self.instances[index].1;
        // Processes whose runner is dead end without anyone's word.
        if instance.invocation.is_none() {
            return;
        }
        let Some(attempt) = instance.alive.take() else { return };
        let mut report = unseen(ended, "as it was", self.now);
        report.agent.cost = Usd(cost);
        self.truth.insert(attempt, report.clone());
        instance.say(Event::Finished(attempt, Box::new(report)));
    }

    pub(super) fn unit_event(&mut self) {
        for index in 0..self.instances.len() {
            self.reap(index);
        }
        if self.queue.is_some()
            && let Some((name, invocation, orderly)) = self.unit_events.pop_front()
        {
            self.call(|queue, now| queue.invocation_over(&name, &invocation, orderly, "systemd says so", now));
        }
    }
}
