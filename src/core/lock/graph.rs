//! Who waits for whom. A circle of those who wait is broken by refusing one of them: the lowest priority, among equals the youngest.

use super::table::Locks;
use super::{Answer, Effect, Notice, Owner, WaitId};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

impl Locks {
    /// The shortest circle through an owner: a wait of each, which is for something of the next one's; the last's is for the first's.
    fn circle(&self, start: &Owner) -> Option<Vec<WaitId>> {
        // An owner that holds nothing, and waits for nothing, nobody waits for.
        if !self.waits_of(start).any(|_| true) {
            return None;
        }
        let mut reached_by: BTreeMap<Owner, WaitId> = BTreeMap::new();
        let mut open = VecDeque::from([start.clone()]);
        while let Some(owner) = open.pop_front() {
            for wait in self.waits_of(&owner) {
                for next in self.in_the_way_of(wait) {
                    if next == *start {
                        return Some(self.way_back(wait, start, &reached_by));
                    }
                    if !reached_by.contains_key(&next) {
                        reached_by.insert(next.clone(), wait);
                        open.push_back(next);
                    }
                }
            }
        }
        None
    }

    fn way_back(&self, last: WaitId, start: &Owner, reached_by: &BTreeMap<Owner, WaitId>) -> Vec<WaitId> {
        let mut circle = vec![last];
        let mut wait = last;
        while let Some(owner) = self.wait(wait).map(|w| &w.request.owner).filter(|owner| *owner != start) {
            let Some(before) = reached_by.get(owner) else { break };
            circle.push(*before);
            wait = *before;
        }
        circle.reverse();
        circle
    }

    /// Whether what stands in the way of that owner's request waits, over however many others, for that owner.
    pub(super) fn waits_for(&self, who: &BTreeSet<WaitId>, owner: &Owner) -> bool {
        let mut seen = BTreeSet::new();
        let mut open: Vec<Owner> = who.iter().filter_map(|wait| self.wait(*wait)).map(|wait| wait.request.owner.clone()).collect();
        while let Some(next) = open.pop() {
            if next == *owner {
                return true;
            }
            if seen.insert(next.clone()) {
                open.extend(self.waits_of(&next).flat_map(|wait| self.in_the_way_of(wait)));
            }
        }
        false
    }

    /// Breaks every circle through an owner. There was none before it got or asked for something, so none is left then.
    pub(super) fn break_circles(&mut self, owner: &Owner, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(circle) = self.circle(owner) {
            let weakest = circle.iter().enumerate().min_by_key(|(_, id)| (self.wait(**id).map(|w| w.request.priority), Reverse(**id)));
            let Some((at, loser)) = weakest.map(|(at, id)| (at, *id)) else { break };
            let Some(lost) = self.remove_wait(loser) else { break };
            let others = circle.iter().cycle().skip(at + 1).take(circle.len() - 1);
            let owners: Vec<Owner> =
                std::iter::once(lost.request.owner.clone()).chain(others.filter_map(|id| self.wait(*id)).map(|wait| wait.request.owner.clone())).collect();
            let names: Vec<String> = owners.iter().map(ToString::to_string).collect();
            let way = names.join(" waits for ");
            let message = format!("{way} waits for {}; the wait of {} for {} is refused", lost.request.owner, lost.request.owner, lost.request.scope);
            effects.push(self.answer(loser, &lost, Answer::Deadlock(owners.clone()), now));
            for (n, owner) in owners.into_iter().enumerate() {
                let kind = if n == 0 { "lock-refused" } else { "lock-deadlock" };
                effects.push(Effect::Tell(Notice { kind, owner, message: message.clone(), cause: Some("deadlock") }));
            }
            effects.extend(self.promote(&lost.request.scope, now));
        }
        effects
    }
}
