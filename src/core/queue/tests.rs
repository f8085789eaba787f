//! Each rule of the queue by itself, and random schedules of a whole world against its invariants.

mod rules;
mod world;

use super::index::{Placed, Ready};
use super::{Queue, Task, TaskState};
use crate::core::attempt::{Ended, Reason};
use crate::core::ids::InstanceName;
use crate::core::retry;
use jiff::Timestamp;
use proptest::prelude::*;
use world::{Step, Trouble, World};

fn name(text: &str) -> InstanceName {
    text.parse().expect("a name")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

impl Queue {
    /// The indexes hold exactly the tasks that they should.
    fn check_indexes(&self) {
        let (mut ready, mut placed, mut delayed) = (Ready::default(), Placed::default(), std::collections::BTreeSet::new());
        for task in self.tasks.values() {
            match task.state {
                TaskState::Pending { not_before: None } => ready.add(task),
                TaskState::Pending { not_before: Some(at) } => {
                    delayed.insert((at, task.id));
                }
                _ => placed.add(task),
            }
        }
        assert_eq!((&self.ready, &self.placed, &self.delayed), (&ready, &placed, &delayed));
        assert!(self.unheard.keys().all(|attempt| self.tasks.contains_key(&attempt.task)));
        let idle = |link: &super::Link| link.busy.is_none() && !link.draining && !self.holds.contains_key(&link.account);
        for (name, link) in &self.links {
            assert!(!idle(link) || self.ready.first_for(name).is_none(), "{name} stands idle");
            let has = self.placed.on(name).next().and_then(|id| self.tasks.get(&id)).and_then(|task: &Task| task.state.placement());
            assert!(has.is_none_or(|placement| link.busy == Some(placement.attempt)), "{name} has {has:?}, but counts as {:?}", link.busy);
        }
    }
}

impl Queue {
    /// Nothing waits longer than the longest back-off, but for a usage limit.
    fn check_delays(&self, now: Timestamp) {
        for (at, id) in &self.delayed {
            assert!(*at <= now + retry::LONGEST || self.holds.values().any(|until| until == at), "{id} waits until {at}, and it is {now}");
        }
    }
}

fn ended() -> impl Strategy<Value = Ended> {
    let reason = prop::sample::select(&Reason::ALL[..]);
    prop_oneof![
        3 => Just(Ended::Succeeded),
        4 => (reason, any::<bool>()).prop_map(|(reason, transient)| Ended::Failed { reason, transient }),
        1 => Just(Ended::Limited { until: None }),
        1 => (0i64..4000).prop_map(|after| Ended::Limited { until: Some(at(1_000_000 + after)) }),
        1 => Just(Ended::Interrupted),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let one = 0usize..3;
    prop_oneof![
        6 => (prop::option::of(one.clone()), prop::option::weighted(0.2, 1u64..20)).prop_map(|(target, budget)| Step::Add { target, budget }),
        2 => (0usize..12).prop_map(Step::Cancel),
        2 => (0usize..12).prop_map(Step::Retry),
        4 => prop::sample::select(&[0, 1, 5, 30, 1000, -1000, -100_000][..]).prop_map(Step::Pass),
        6 => (one.clone(), prop::bool::weighted(0.8)).prop_map(|(index, knows)| Step::StartUnit(index, knows)),
        1 => one.clone().prop_map(Step::Drain),
        2 => one.clone().prop_map(Step::StopUnit),
        2 => one.clone().prop_map(Step::KillRunner),
        9 => one.clone().prop_map(Step::Connect),
        3 => one.clone().prop_map(Step::Disconnect),
        24 => one.clone().prop_map(Step::ToDaemon),
        24 => one.clone().prop_map(Step::ToRunner),
        8 => (one, ended(), 0u64..5).prop_map(|(index, ended, cost)| Step::Finish(index, ended, cost)),
        4 => Just(Step::UnitEvent),
        1 => Just(Step::CrashDaemon),
        4 => Just(Step::StartDaemon),
        1 => prop::sample::select(&[Trouble::BeforeCommit, Trouble::AfterCommit][..]).prop_map(Step::Trouble),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_and_nothing_runs_twice(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for index in 0..2 {
            world.step(Step::StartUnit(index, true));
            world.step(Step::Connect(index));
            world.step(Step::ToDaemon(index));
        }
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
    }
}
