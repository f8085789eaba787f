//! Budgets by the day and for good: what has been spent, what runs, and who has to stop.

use super::{Effect, Queue};
use crate::core::ids::{AttemptId, InstanceName};
use crate::core::pool::Budget;
use crate::core::usage::Usd;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use std::collections::BTreeMap;

/// Days that are kept in memory: today, and those that a clock set back could make today again.
const DAYS_KEPT: i64 = 3;

/// What an instance has spent on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The day, of the host's time zone.
    pub day: Date,
    /// The instance.
    pub instance: InstanceName,
    /// How much.
    pub cost: Usd,
}

/// What has been spent, and what the attempts that run have cost so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    days: BTreeMap<(Date, InstanceName), Usd>,
    totals: BTreeMap<InstanceName, Usd>,
    running: BTreeMap<InstanceName, (AttemptId, Usd)>,
    /// Attempts that were told to end, and why.
    ending: BTreeMap<AttemptId, String>,
}

impl Ledger {
    pub(super) fn new(spent: Vec<Spent>) -> Self {
        let mut ledger = Self::default();
        for Spent { day, instance, cost } in spent {
            ledger.spend(day, &instance, cost);
        }
        ledger
    }

    pub(super) fn spend(&mut self, day: Date, instance: &InstanceName, cost: Usd) {
        *self.days.entry((day, instance.clone())).or_default() += cost;
        *self.totals.entry(instance.clone()).or_default() += cost;
        self.running.remove(instance);
    }

    /// An attempt is over: why it was told to end, if it was.
    pub(super) fn ended(&mut self, attempt: AttemptId) -> Option<String> {
        self.running.retain(|_, (running, _)| *running != attempt);
        self.ending.remove(&attempt)
    }

    pub(super) fn forget_old(&mut self, today: Date) {
        let Ok(oldest) = today.checked_sub(DAYS_KEPT.days()) else { return };
        if self.days.keys().next().is_some_and(|(day, _)| *day < oldest) {
            self.days.retain(|(day, _), _| *day >= oldest);
        }
    }

    /// As the store has it, which knows nothing of what runs.
    #[cfg(test)]
    pub(super) fn forget_running(&mut self) {
        self.running.clear();
    }

    fn on(&self, day: Date, instance: &InstanceName) -> Usd {
        self.days.get(&(day, instance.clone())).copied().unwrap_or_default()
    }

    fn running(&self, instance: &InstanceName) -> Usd {
        self.running.get(instance).map(|(_, cost)| *cost).unwrap_or_default()
    }
}

impl Queue {
    /// The day that a time is in.
    pub(super) fn day(&self, now: Timestamp) -> Date {
        now.to_zoned(self.rules.zone.clone()).date()
    }

    /// When the next day begins, if a budget waits for it.
    pub(super) fn next_day(&self, now: Timestamp) -> Option<Timestamp> {
        let limited = |budget: Budget| budget.day.is_some();
        let rules = &self.rules;
        let any = rules.budget_per_day.is_some()
            || limited(rules.stranger.budget)
            || rules.members.values().any(|member| limited(member.budget))
            || rules.teams.values().any(|team| limited(team.budget));
        if !any {
            return None;
        }
        now.to_zoned(rules.zone.clone()).tomorrow().and_then(|day| day.start_of_day()).ok().map(|day| day.timestamp())
    }

    /// What each instance has spent today, what runs included, and all of them together.
    pub fn spent_today(&self, now: Timestamp) -> BTreeMap<InstanceName, Usd> {
        let today = self.day(now);
        let mut spent: BTreeMap<InstanceName, Usd> = BTreeMap::new();
        for ((_, name), cost) in self.ledger.days.iter().filter(|((day, _), _)| *day == today) {
            *spent.entry(name.clone()).or_default() += *cost;
        }
        for (name, (_, cost)) in &self.ledger.running {
            *spent.entry(name.clone()).or_default() += *cost;
        }
        spent
    }

    /// How an attempt's cost stands. Where that passes a budget, all that counts with it has to end.
    pub fn costs(&mut self, instance: &InstanceName, attempt: AttemptId, cost: Usd, now: Timestamp) -> Vec<Effect> {
        if self.busy(instance) != Some(attempt) {
            return Vec::new();
        }
        self.ledger.running.insert(instance.clone(), (attempt, cost));
        let mut effects = Vec::new();
        let running: Vec<(InstanceName, AttemptId)> = self.ledger.running.iter().map(|(name, (attempt, _))| (name.clone(), *attempt)).collect();
        for (name, attempt) in running {
            if self.ledger.ending.contains_key(&attempt) || self.busy(&name) != Some(attempt) {
                continue;
            }
            if let Some(why) = self.broke(&name, now) {
                effects.push(Effect::Tell { kind: "budget-reached", instance: Some(name.clone()), task: Some(attempt.task), message: why.clone() });
                effects.push(Effect::End { instance: name, attempt });
                self.ledger.ending.insert(attempt, why);
            }
        }
        effects
    }

    /// What an instance may spend before a budget is used up, if there is one. Those that run beside it have the same left.
    pub fn allowance(&self, name: &InstanceName, now: Timestamp) -> Option<Usd> {
        self.bounds(name, now).into_iter().map(|bound| bound.most - bound.spent).min()
    }

    /// The budget that keeps an instance from working, in a sentence.
    pub(super) fn broke(&self, name: &InstanceName, now: Timestamp) -> Option<String> {
        let Bound { whose, most, day, .. } = self.bounds(name, now).into_iter().find(|bound| bound.spent >= bound.most)?;
        let (span, until) = if day { (" of today", "it waits until midnight, or until someone raises it") } else { ("", "it waits until someone raises it") };
        Some(format!("the budget{span} of {whose} ({most}) is used up; {until}: see budget in clauded.toml(5)"))
    }

    /// The budgets that an instance's work counts with, the narrowest first.
    fn bounds(&self, name: &InstanceName, now: Timestamp) -> Vec<Bound> {
        let (rules, ledger) = (&self.rules, &self.ledger);
        let member = rules.member(name);
        let today = self.day(now);
        let day_of = |name: &InstanceName| ledger.on(today, name) + ledger.running(name);
        let total_of = |name: &InstanceName| ledger.totals.get(name).copied().unwrap_or_default() + ledger.running(name);
        let mut bounds = Vec::new();
        let mut bound = |whose: String, most: Option<Usd>, day: bool, spent: &dyn Fn() -> Usd| {
            bounds.extend(most.map(|most| Bound { whose, most, day, spent: spent() }));
        };
        bound(name.to_string(), member.budget.day, true, &|| day_of(name));
        bound(name.to_string(), member.budget.total, false, &|| total_of(name));
        if let Some((label, team)) = member.team.as_ref().and_then(|label| rules.teams.get_key_value(label)) {
            let members = || rules.members.iter().filter(|(_, other)| other.team.as_ref() == Some(label)).map(|(name, _)| name);
            bound(format!("team {label}"), team.budget.day, true, &|| members().fold(Usd::default(), |sum, name| sum + day_of(name)));
            bound(format!("team {label}"), team.budget.total, false, &|| members().fold(Usd::default(), |sum, name| sum + total_of(name)));
        }
        bound("the fleet".to_owned(), rules.budget_per_day, true, &|| self.spent_today(now).into_values().fold(Usd::default(), |sum, cost| sum + cost));
        bounds
    }
}

/// One budget and how it stands.
struct Bound {
    whose: String,
    most: Usd,
    spent: Usd,
    day: bool,
}
