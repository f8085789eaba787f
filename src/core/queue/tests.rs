//! Each rule of the queue by itself, and random schedules of a whole world against its invariants.

mod budget;
mod memory;
mod order;
mod reports;
mod rules;
mod sizes;
mod world;

use super::index::{Dependants, Placed, Ready};
use super::{Queue, Stored, Task, TaskState};
use crate::core::attempt::{Ended, Reason};
use crate::core::ids::InstanceName;
use crate::core::pool::Rules;
use crate::core::retry;
use jiff::Timestamp;
use proptest::prelude::*;
use world::{Step, Trouble, Wishes, World};

fn name(text: &str) -> InstanceName {
    text.parse().expect("a name")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// A queue with these tasks and holds, and no rules.
fn loaded(tasks: impl IntoIterator<Item = Task>, holds: impl IntoIterator<Item = (String, Timestamp)>) -> Queue {
    Queue::load(Stored { tasks: tasks.into_iter().collect(), holds: holds.into_iter().collect(), ..Stored::default() }, Rules::default())
}

impl Queue {
    /// The indexes hold exactly the tasks that they should.
    fn check_indexes(&self, now: Timestamp) {
        let (mut ready, mut placed, mut dependants) = (Ready::default(), Placed::default(), Dependants::default());
        let (mut delayed, mut claimed) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for task in self.tasks.values() {
            dependants.add(task);
            match task.state {
                TaskState::Pending { not_before: None } if task.terms.after.iter().any(|needed| self.tasks.contains_key(needed)) => {}
                TaskState::Pending { not_before: None } => ready.add(task, self.rules.ageing),
                TaskState::Pending { not_before: Some(at) } => {
                    delayed.insert((at, task.id));
                }
                TaskState::Claimed(_) => {
                    claimed.insert(task.id);
                }
                _ => placed.add(task),
            }
        }
        assert_eq!((&self.ready, &self.placed, &self.delayed), (&ready, &placed, &delayed));
        assert_eq!((&self.dependants, &self.claimed), (&dependants, &claimed));
        assert_eq!(self.grown, self.tasks.values().filter(|task| task.memory.is_some()).map(|task| task.id).collect());
        assert!(self.unheard.keys().all(|attempt| self.tasks.contains_key(&attempt.task)));
        for (name, link) in &self.links {
            let has = self.placed.on(name).next().and_then(|id| self.tasks.get(&id)).and_then(|task: &Task| task.state.placement());
            assert!(has.is_none_or(|placement| link.busy == Some(placement.attempt)), "{name} has {has:?}, but counts as {:?}", link.busy);
        }
        // Whoever waits has a reason, and nobody stands idle whom somebody could use: that would be no reason.
        for task in self.tasks.values().filter(|task| matches!(task.state, TaskState::Pending { .. })) {
            let wait = self.why(task, now);
            assert!(wait.is_some(), "{task:?} waits for nothing");
            let could = self.clone().dispatch(now);
            assert!(could.is_empty(), "{could:?} was left undone");
        }
    }

    /// What a daemon that starts now would make of the store is what this one has.
    fn check_reload(&self, stored: Stored, now: Timestamp) {
        let mut live = Self { links: Default::default(), ..self.clone() };
        live.ledger.forget_running();
        let mut again = Self::load(stored, self.rules.clone());
        live.tick(now);
        again.tick(now);
        assert_eq!((&live.ready, &live.placed, &live.delayed), (&again.ready, &again.placed, &again.delayed), "after a reload");
        assert_eq!((&live.dependants, &live.claimed, &live.pauses), (&again.dependants, &again.claimed, &again.pauses), "after a reload");
        let raises = |queue: &Self| queue.raises.iter().map(|(name, raised)| (name.clone(), raised.raise.clone())).collect::<Vec<_>>();
        assert_eq!((&live.grown, raises(&live)), (&again.grown, raises(&again)), "after a reload");
        assert_eq!(live.spent_today(now), again.spent_today(now), "after a reload");
    }
}

impl Queue {
    /// Nothing waits longer than the longest back-off, but for a usage limit.
    fn check_delays(&self, now: Timestamp) {
        for (at, id) in &self.delayed {
            let asked = self.tasks[id].terms.not_before == Some(*at);
            assert!(asked || *at <= now + retry::LONGEST || self.holds.values().any(|until| until == at), "{id} waits until {at}, and it is {now}");
        }
    }
}

fn ended() -> impl Strategy<Value = Ended> {
    // The last two are no attempts' ends.
    let reason = prop::sample::select(&Reason::ALL[..Reason::ALL.len() - 2]);
    prop_oneof![
        3 => Just(Ended::Succeeded),
        4 => (reason, any::<bool>()).prop_map(|(reason, transient)| Ended::Failed { reason, transient }),
        1 => Just(Ended::Limited { until: None }),
        1 => (0i64..4000).prop_map(|after| Ended::Limited { until: Some(at(1_000_000 + after)) }),
        1 => Just(Ended::Interrupted),
    ]
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let after = prop::collection::vec(0usize..12, 0..3);
    let waits = prop::option::weighted(0.1, -10i64..2000);
    (-10i64..=10, after, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), waits)
        .prop_map(|(priority, after, release, group, special, not_before)| Wishes { priority, after, release, group, special, not_before })
}

fn step() -> impl Strategy<Value = Step> {
    let one = 0usize..3;
    prop_oneof![
        8 => (prop::option::weighted(0.3, one.clone()), prop::option::weighted(0.2, 1u64..20), wishes()).prop_map(|(target, budget, wishes)| Step::Add { target, budget, wishes }),
        2 => (0usize..12).prop_map(Step::Cancel),
        2 => (0usize..12, prop::option::of(one.clone())).prop_map(|(task, agent)| Step::Claim(task, agent)),
        2 => (0usize..12, any::<bool>()).prop_map(|(task, failed)| Step::Complete(task, failed)),
        1 => (0usize..12).prop_map(Step::Release),
        1 => (0usize..4).prop_map(Step::Pause),
        2 => (0usize..4).prop_map(Step::Resume),
        2 => (one.clone(), 0u64..12).prop_map(|(index, cost)| Step::Costs(index, cost)),
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
        6 => prop::bool::weighted(0.9).prop_map(Step::SetLimit),
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
