//! The daemon's ends and beginnings, its supervisor's answers, and the end of all schedules.

use super::{Step, World, rules};
use crate::core::attempt::Ended;
use crate::core::ids::{InstanceName, InvocationId};
use crate::core::queue::{Queue, Stored};
use crate::core::size::Outcome;
use std::collections::BTreeMap;

impl World {
    pub(super) fn set_limit(&mut self, granted: bool) {
        let Some((name, raise, back)) = self.orders.pop_front() else { return };
        let outcome = match (back, granted) {
            (true, _) => {
                self.limits.remove(&name);
                Outcome::Done
            }
            (false, true) => {
                self.limits.insert(name.clone(), raise.memory);
                Outcome::Done
            }
            (false, false) => Outcome::Failed("no".to_owned()),
        };
        self.call(|queue, now| queue.limited(&name, raise.attempt, back, &outcome, now));
    }

    pub(super) fn crash(&mut self) {
        self.queue = None;
        self.orders.clear();
        self.unit_events.clear();
        self.instances.iter_mut().for_each(|(_, instance)| instance.connection = None);
    }

    /// The daemon loads its store and looks at the units: what is placed in an invocation that is no more is over.
    pub(super) fn start_daemon(&mut self) {
        if self.queue.is_some() {
            return;
        }
        let live = self.tasks.values().filter(|task| !task.state.is_final()).cloned();
        let tasks = live.collect();
        self.queue = Some(Queue::load(Stored { tasks, ..self.stored() }, rules()));
        self.call(|queue, _| queue.limits());
        let rests: Vec<(InstanceName, InvocationId)> =
            self.tasks.values().filter_map(|task| task.state.rests_on()).map(|(n, i)| (n.clone(), i.clone())).collect();
        for (name, resting) in rests {
            let (_, instance) = self.instances.iter().find(|(other, _)| *other == name).expect("an instance");
            if [&instance.invocation, &instance.orphaned].into_iter().flatten().all(|invocation| *invocation != resting) {
                self.unit_events.push_back((name, resting, false));
            }
        }
    }

    /// What the store has.
    pub(super) fn stored(&self) -> Stored {
        Stored {
            tasks: self.tasks.values().filter(|task| !task.state.is_final()).cloned().collect(),
            holds: self.holds.clone().into_iter().collect(),
            pauses: self.pauses.clone().into_iter().collect(),
            spent: self.spent.clone(),
            peaks: Vec::new(),
            raises: self.raises.clone().into_iter().collect(),
        }
    }

    /// Lets everything connect and time pass, until nothing is left to do.
    pub(in crate::core::queue::tests) fn settle(&mut self) {
        self.trouble = None;
        for _ in 0..400 {
            self.step(Step::StartDaemon);
            for index in 0..self.instances.len() {
                if self.instances[index].1.draining {
                    self.step(Step::StopUnit(index));
                }
                self.step(Step::StartUnit(index, true));
                self.step(Step::Connect(index));
                while self.instances[index].1.connection.as_ref().is_some_and(|c| !c.to_daemon.is_empty() || !c.to_runner.is_empty()) {
                    self.step(Step::ToDaemon(index));
                    self.step(Step::ToRunner(index));
                }
                self.step(Step::Finish(index, Ended::Succeeded, 1));
            }
            while !self.unit_events.is_empty() {
                self.step(Step::UnitEvent);
            }
            while !self.orders.is_empty() {
                self.step(Step::SetLimit(true));
            }
            (0..self.tasks.len()).for_each(|index| self.step(Step::Release(index)));
            for scope in self.pauses.keys().cloned().collect::<Vec<_>>() {
                self.call(|queue, now| queue.resume(scope, "p", now).1);
            }
            if self.tasks.values().all(|task| task.state.is_final()) {
                assert_eq!((&self.limits, &self.raises), (&BTreeMap::new(), &BTreeMap::new()), "every instance has its own limit again");
                return;
            }
            let wake = self.queue.as_ref().and_then(|queue| queue.next_wake(self.now));
            self.step(Step::Pass(wake.map_or(0, |wake| wake.duration_since(self.now).as_secs().max(0) + 1)));
        }
        panic!("these never end: {:#?}\n{:#?}", self.tasks.values().filter(|task| !task.state.is_final()).collect::<Vec<_>>(), self.instances);
    }
}
