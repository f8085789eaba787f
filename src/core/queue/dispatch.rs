//! Who gets what: the most urgent task that can start, to the free instance that the policy prefers, until one of both is out.
//!
//! Tasks of one class are alike in all that is asked here, so a class whose first task cannot start is passed over as a whole:
//! the work does not grow with the tasks that wait, only with their classes.

use super::index::Class;
use super::memory::Fit;
use super::waits::Wait;
use super::{Change, Effect, Link, Queue, Scope};
use crate::core::ids::{AttemptId, InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::pool::{Member, Policy};
use crate::core::task::{Placement, Task, TaskState};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After a usage limit has reset, the account's tasks start that far from each other, and up to twice as far.
pub(super) const SPREAD: Duration = Duration::from_secs(3);

/// How long after a limit's reset a crowd is to be feared: the store has limits that were over long ago.
const JUST_RESET: Duration = Duration::from_secs(600);

/// What is taken of the bounds that several instances share.
#[derive(Debug, Default)]
pub(super) struct Taken {
    groups: BTreeMap<Label, u32>,
    repositories: BTreeMap<Label, u32>,
    teams: BTreeMap<Label, u32>,
    roles: BTreeMap<(Option<Label>, Option<Label>), u32>,
    /// What the tasks that run are expected to need of memory, all together, and how many they are.
    pub(super) memory: u64,
    pub(super) tasks: usize,
}

impl Taken {
    fn add(&mut self, group: Option<&Label>, member: Option<&Member>, memory: u64) {
        let count = |counts: &mut BTreeMap<Label, u32>, label: Option<&Label>| {
            if let Some(label) = label {
                *counts.entry(label.clone()).or_default() += 1;
            }
        };
        count(&mut self.groups, group);
        if let Some(member) = member {
            count(&mut self.repositories, member.repository.as_ref());
            count(&mut self.teams, member.team.as_ref());
            *self.roles.entry((member.team.clone(), member.role.clone())).or_default() += 1;
            self.memory = self.memory.saturating_add(memory);
            self.tasks += 1;
        }
    }
}

impl Queue {
    /// What is taken now.
    pub(super) fn taken(&self) -> Taken {
        let mut taken = Taken::default();
        for (name, id) in self.placed.iter() {
            if let Some(task) = self.tasks.get(&id) {
                let member = self.rules.member(name);
                taken.add(task.terms.group.as_ref(), Some(member), self.peaks.expected(&task.kind, member.repository.as_ref()).unwrap_or(0));
            }
        }
        for task in self.claimed.iter().filter_map(|id| self.tasks.get(id)) {
            taken.add(task.terms.group.as_ref(), None, 0);
        }
        taken
    }

    /// Gives out what can be given out.
    pub(super) fn dispatch(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.short_of_memory = false;
        if self.ready.is_empty() || self.pauses.contains_key(&Scope::All) {
            return effects;
        }
        let free = self.links.iter().filter(|(name, link)| self.is_free(name, link, now));
        let mut free: BTreeSet<InstanceName> = free.map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            return effects;
        }
        let mut taken = self.taken();
        let mut place = None;
        while !free.is_empty() {
            let Some((key, class)) = self.ready.head_after(place).map(|(key, class)| (key, class.clone())) else { break };
            place = Some(key);
            let Some(name) = self.choose(&class, &free, &taken) else { continue };
            if self.awaits_bounds(key.1, &name) {
                self.short_of_memory = true;
                continue;
            }
            let member = self.rules.member(&name);
            let needed = self.peaks.expected(&class.kind, member.repository.as_ref());
            match self.fits(needed, &taken, self.tasks.get(&key.1).map(|task| task.created), now) {
                Fit::Yes => {}
                Fit::No => {
                    self.short_of_memory = true;
                    continue;
                }
                Fit::NorAnythingElse => {
                    self.short_of_memory = true;
                    break;
                }
            }
            taken.add(class.group.as_ref(), Some(member), needed.unwrap_or(0));
            free.remove(&name);
            if let Some(account) = self.links.get(&name).map(|link| link.account.clone())
                && self.ramps.contains_key(&account)
            {
                let pause = SPREAD.mul_f64(1.0 + self.next_jitter());
                if let Ok(next) = now.checked_add(pause) {
                    self.ramps.insert(account.clone(), next);
                }
                free.retain(|other| self.links.get(other).is_none_or(|link| link.account != account));
            }
            effects.extend(self.give(key.1, &name));
        }
        effects
    }

    /// Whether an instance could take a task now.
    fn is_free(&self, name: &InstanceName, link: &Link, now: Timestamp) -> bool {
        link.busy.is_none()
            && !link.draining
            && !self.is_reserved(name)
            && !self.holds.contains_key(&link.account)
            && self.ramps.get(&link.account).is_none_or(|next| *next <= now)
            && self.pause_of(name, Some(&link.account)).is_none()
            && self.broke(name, now).is_none()
    }

    /// Who of the free ones takes the next task of a class.
    fn choose(&self, class: &Class, free: &BTreeSet<InstanceName>, taken: &Taken) -> Option<InstanceName> {
        if self.group_wait(class.group.as_ref(), taken).is_some() {
            return None;
        }
        let has_room = |name: &&InstanceName| self.crowded(name, taken).is_none();
        match &class.bound {
            Some(name) => free.get(name).filter(has_room).cloned(),
            None => {
                let able: Vec<&InstanceName> = free.iter().filter(|name| self.rules.member(name).serves(&class.demand)).filter(has_room).collect();
                let policy = self.policy(&able);
                able.into_iter().min_by_key(|name| self.preference(name, policy)).cloned()
            }
        }
    }

    /// How to choose among these: by their team's policy, if all are of one team.
    fn policy(&self, able: &[&InstanceName]) -> Policy {
        let mut teams = able.iter().map(|name| self.rules.member(name).team.as_ref());
        let first = teams.next().flatten();
        let team = first.filter(|first| teams.all(|team| team == Some(first))).and_then(|team| self.rules.teams.get(team));
        team.map(|team| team.policy).unwrap_or_default()
    }

    /// The lowest takes it.
    fn preference(&self, name: &InstanceName, policy: Policy) -> (u64, u64) {
        let given = self.links.get(name).map_or(0, |link| link.given);
        let first = match policy {
            Policy::RoundRobin => 0,
            Policy::Specialty => self.rules.member(name).specialties.len() as u64,
            Policy::LeastLoaded => self.loads.get(name).copied().unwrap_or(0),
        };
        (first, given)
    }

    /// Why no task of a group may start, if none may.
    pub(super) fn group_wait(&self, group: Option<&Label>, taken: &Taken) -> Option<Wait> {
        let group = group?;
        let scope = Scope::Group(group.clone());
        if let Some(pause) = self.pauses.get(&scope) {
            return Some(Wait::Paused { scope, pause: pause.clone() });
        }
        let most = *self.rules.groups.get(group)?;
        let full = taken.groups.get(group).is_some_and(|now| *now >= most);
        full.then(|| Wait::Full { what: format!("group {group}"), key: format!("[queue.groups.{group}]"), most })
    }

    /// What is full that an instance counts with.
    pub(super) fn crowded(&self, name: &InstanceName, taken: &Taken) -> Option<Wait> {
        let member = self.rules.member(name);
        let full = |now: Option<&u32>, most: Option<u32>| most.filter(|most| now.is_some_and(|now| now >= most) || *most == 0);
        if let Some(repository) = &member.repository
            && let Some(most) = full(taken.repositories.get(repository), self.rules.repositories.get(repository).copied())
        {
            return Some(Wait::Full { what: format!("repository {repository}"), key: format!("[repositories.{repository}]"), most });
        }
        if let Some(team) = &member.team
            && let Some(most) = full(taken.teams.get(team), self.rules.teams.get(team).and_then(|team| team.max_concurrent))
        {
            return Some(Wait::Full { what: format!("team {team}"), key: format!("[teams.{team}]"), most });
        }
        let role = (member.team.clone(), member.role.clone());
        let most = full(taken.roles.get(&role), member.max_concurrent)?;
        let text = |label: Option<&Label>| label.map_or_else(String::new, ToString::to_string);
        let (team, role) = (text(member.team.as_ref()), text(member.role.as_ref()));
        Some(Wait::Full { what: format!("{role} of team {team}"), key: format!("[teams.{team}.members.{role}]"), most })
    }

    /// Gives a task to an instance.
    fn give(&mut self, id: TaskId, name: &InstanceName) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(&id) else { return Vec::new() };
        let Some(link) = self.links.get_mut(name) else { return Vec::new() };
        self.ready.remove(task, self.rules.ageing);
        self.given += 1;
        link.given = self.given;
        task.attempts += 1;
        let placement = Placement { attempt: AttemptId { task: id, number: task.attempts }, instance: name.clone(), invocation: link.invocation.clone() };
        link.busy = Some(placement.attempt);
        let resume = task.home.as_ref() == Some(name);
        task.state = TaskState::Assigned(placement.clone());
        self.placed.add(task);
        let saved = Change::Task(Box::new(Task::clone(task)));
        let mut effects = vec![Effect::Save(saved), Effect::Save(Change::Attempt(placement.clone()))];
        match self.raise(&placement) {
            // It begins when the limit is in force.
            Some(first) => effects.extend(first),
            None => effects.push(Effect::Run { placement, resume }),
        }
        effects
    }

    /// Accounts whose limit has reset take tasks again, one after the other.
    pub(super) fn let_go_of_holds(&mut self, now: Timestamp) {
        // A slot that nobody has used is the end of it: nothing was waiting.
        self.ramps.retain(|_, next| next.checked_add(SPREAD).is_ok_and(|end| now < end));
        let reset: Vec<(String, Timestamp)> = self.holds.iter().filter(|(_, until)| **until <= now).map(|(account, until)| (account.clone(), *until)).collect();
        for (account, until) in reset {
            self.holds.remove(&account);
            // One that was over long before it was looked at has nothing waiting for it.
            if until.checked_add(JUST_RESET).is_ok_and(|end| now < end) {
                self.ramps.insert(account, now);
            }
        }
    }
}
