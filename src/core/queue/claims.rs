//! Tasks that somebody does themselves: claimed, given back, completed; and which one they might take next.

use super::dispatch::Taken;
use super::waits::Wait;
use super::{Effect, Queue, Scope};
use crate::core::attempt::Reason;
use crate::core::ids::{InstanceName, InvocationId, TaskId};
use crate::core::task::{Claim, Target, Task, TaskState};
use jiff::Timestamp;

/// Tasks of each class that are looked at for a suggestion: those behind them are like them.
const LOOKED_AT: usize = 3;
/// The same where files count, which a class does not tell.
const LOOKED_AT_FOR_FILES: usize = 200;

/// Why a claim is not granted, or not ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRefused {
    /// It is not in the queue.
    #[error("task {0} has ended, or there is none with that number")]
    Ended(TaskId),
    /// Somebody has it.
    #[error("task {0} is with {1}; nobody else can have it meanwhile")]
    Taken(TaskId, String),
    /// It waits for something that a claim does not pass over.
    #[error("task {0} {1}")]
    Waits(TaskId, Box<Wait>),
    /// There is nothing to claim.
    #[error("there is nothing that you could take now; see: claudectl task list --state pending")]
    Nothing,
    /// It is not claimed.
    #[error("task {0} is not claimed; claim it first: claudectl task claim {0}")]
    NotClaimed(TaskId),
    /// It is claimed by somebody else.
    #[error("task {0} is claimed by {1}, and you are not they")]
    NotYours(TaskId, String),
}

impl Queue {
    /// Somebody takes a task, or the most urgent that they could take. Who has it already keeps it.
    ///
    /// # Errors
    /// Why they may not have it; then nothing has changed.
    pub fn claim(&mut self, id: Option<TaskId>, claim: Claim, now: Timestamp) -> Result<(TaskId, Vec<Effect>), ClaimRefused> {
        let taken = self.taken();
        let id = match id {
            Some(id) => id,
            None => self.first_for(&claim, &taken).ok_or(ClaimRefused::Nothing)?,
        };
        let task = self.tasks.get(&id).ok_or(ClaimRefused::Ended(id))?;
        match &task.state {
            TaskState::Claimed(held) if same(held, &claim) => return Ok((id, Vec::new())),
            TaskState::Claimed(held) => return Err(ClaimRefused::Taken(id, held.by.clone())),
            _ => {}
        }
        if let Some(placement) = task.state.placement() {
            return Err(ClaimRefused::Taken(id, placement.instance.to_string()));
        }
        let needed: Vec<TaskId> = self.needs(task).collect();
        if !needed.is_empty() {
            return Err(ClaimRefused::Waits(id, Box::new(Wait::After(needed))));
        }
        if let Some(wait) = self.group_wait(task.terms.group.as_ref(), &taken) {
            return Err(ClaimRefused::Waits(id, Box::new(wait)));
        }
        if let Some((instance, _)) = &claim.agent
            && !self.may_take(task, instance)
        {
            return Err(ClaimRefused::Waits(id, Box::new(Wait::NoneFree)));
        }
        Ok((id, self.settle(id, TaskState::Claimed(claim), now)))
    }

    /// Somebody gives a task back. `as_of` is the instance whose agent says so; a person may say it of every claim.
    ///
    /// # Errors
    /// It is not theirs; then nothing has changed.
    pub fn release(&mut self, id: TaskId, as_of: Option<&InstanceName>, now: Timestamp) -> Result<Vec<Effect>, ClaimRefused> {
        self.claim_of(id, as_of)?;
        let mut effects = self.put_back(id, now);
        effects.extend(self.dispatch(now));
        Ok(effects)
    }

    /// Somebody has done a task, or has failed to. Answers what they might do next.
    ///
    /// # Errors
    /// It is not theirs; then nothing has changed.
    pub fn complete(
        &mut self,
        id: TaskId,
        as_of: Option<&InstanceName>,
        failed: bool,
        note: String,
        now: Timestamp,
    ) -> Result<(Option<TaskId>, Vec<Effect>), ClaimRefused> {
        let claim = self.claim_of(id, as_of)?.clone();
        let Some(task) = self.tasks.get_mut(&id) else { return Err(ClaimRefused::Ended(id)) };
        task.note = if note.trim().is_empty() { format!("done by {}", claim.by) } else { note };
        let done = task.clone();
        let mut effects = self.settle(id, if failed { TaskState::Failed(Reason::Reported) } else { TaskState::Succeeded }, now);
        effects.extend(self.dispatch(now));
        Ok((self.suggest(&done, &claim), effects))
    }

    /// The claims of an instance's agents whose start of the unit is over go back into the queue.
    pub(super) fn give_claims_back(&mut self, instance: &InstanceName, over: impl Fn(&InvocationId) -> bool, now: Timestamp) -> Vec<Effect> {
        let theirs = |id: &&TaskId| {
            let rests_on = self.tasks.get(id).and_then(|task| task.state.rests_on());
            rests_on.is_some_and(|(name, invocation)| name == instance && over(invocation))
        };
        let back: Vec<TaskId> = self.claimed.iter().filter(theirs).copied().collect();
        back.into_iter().flat_map(|id| self.put_back(id, now)).collect()
    }

    /// Back into the queue; not before the time that was asked for.
    fn put_back(&mut self, id: TaskId, now: Timestamp) -> Vec<Effect> {
        let not_before = self.tasks.get(&id).and_then(|task| task.terms.not_before);
        self.settle(id, TaskState::Pending { not_before }, now)
    }

    fn claim_of(&self, id: TaskId, as_of: Option<&InstanceName>) -> Result<&Claim, ClaimRefused> {
        let task = self.tasks.get(&id).ok_or(ClaimRefused::Ended(id))?;
        let TaskState::Claimed(claim) = &task.state else { return Err(ClaimRefused::NotClaimed(id)) };
        let theirs = as_of.is_none_or(|name| claim.agent.as_ref().is_some_and(|(instance, _)| instance == name));
        if theirs { Ok(claim) } else { Err(ClaimRefused::NotYours(id, claim.by.clone())) }
    }

    /// The most urgent task that they could take.
    fn first_for(&self, claim: &Claim, taken: &Taken) -> Option<TaskId> {
        if self.pauses.contains_key(&Scope::All) {
            return None;
        }
        self.ready.sample(1).filter(|(_, id)| self.fits_claim(*id, claim, taken)).min().map(|(_, id)| id)
    }

    /// What is most like a task that is done, of what they could take: on the same files, of the same group, specialty, repository,
    /// labels, kind; the most urgent of those that are alike.
    fn suggest(&self, done: &Task, claim: &Claim) -> Option<TaskId> {
        let taken = self.taken();
        let likeness = |task: &Task| {
            let both = |one: bool, weight: u32| if one { weight } else { 0 };
            let (a, b) = (&done.terms, &task.terms);
            both(a.files.iter().any(|one| b.files.iter().any(|other| one.overlaps(other))), 16)
                + both(a.group.is_some() && a.group == b.group, 8)
                + both(a.demand.specialty.is_some() && a.demand.specialty == b.demand.specialty, 8)
                + both(a.demand.repository.is_some() && a.demand.repository == b.demand.repository, 4)
                + both(!a.demand.labels.is_disjoint(&b.demand.labels), 2)
                + both(done.kind == task.kind, 1)
        };
        let each = if done.terms.files.is_empty() { LOOKED_AT } else { LOOKED_AT_FOR_FILES };
        let candidates = self.ready.sample(each).filter(|(_, id)| self.fits_claim(*id, claim, &taken));
        let scored = candidates.filter_map(|key| Some((std::cmp::Reverse(likeness(self.tasks.get(&key.1)?)), key)));
        scored.min().map(|(_, (_, id))| id)
    }

    fn fits_claim(&self, id: TaskId, claim: &Claim, taken: &Taken) -> bool {
        let Some(task) = self.tasks.get(&id) else { return false };
        let free = self.group_wait(task.terms.group.as_ref(), taken).is_none();
        free && match &claim.agent {
            Some((instance, _)) => self.may_take(task, instance),
            // A person does not take what somebody else was asked for, unless they name it.
            None => task.target == Target::Any,
        }
    }

    /// Whether an instance may have a task.
    pub(super) fn may_take(&self, task: &Task, instance: &InstanceName) -> bool {
        task.bound_to().map_or_else(|| self.rules.member(instance).serves(&task.terms.demand), |bound| bound == instance)
    }
}

fn same(a: &Claim, b: &Claim) -> bool {
    match (&a.agent, &b.agent) {
        (Some((one, _)), Some((other, _))) => one == other,
        (None, None) => a.by == b.by,
        _ => false,
    }
}
