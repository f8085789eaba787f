//! All plans that are not over. What happens to them follows from how their tasks stand, looked at anew in every turn, so that no
//! event can be missed.

use super::{Change, Crew, How, Item, Numbered, Order, Part, Plan, PlanId, State, check, prompt};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::task::{Task, TaskSpec};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A task that a plan adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Addition {
    /// What is asked for.
    pub spec: TaskSpec,
    /// The places of those among them that it comes after.
    pub after: Vec<usize>,
    /// What it is to the plan.
    pub part: Part,
    /// The item's name, of an item.
    pub item: String,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Commit to the store.
    Save(Change),
    /// Add these tasks in the same commit, and tell [`Plans::added`] their numbers.
    Add(PlanId, Vec<Addition>),
    /// End that task.
    Cancel(TaskId),
    /// Something that people should be told of.
    Tell {
        /// The plan.
        plan: PlanId,
        /// The event's kind.
        kind: &'static str,
        /// The sentence.
        message: String,
    },
}

/// Why a person cannot do that to a plan now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It is over, or there is none.
    #[error("plan {0} is over, or there is none with that number; see: claudectl plan list --all")]
    Over(PlanId),
    /// It does not wait for anybody.
    #[error("plan {0} does not wait for approval: it is {1}")]
    NotWaiting(PlanId, &'static str),
    /// The team is another than when it was made.
    #[error("plan {0} does not fit the team any more, and is left as it is:\n{problems}", problems = .1.join("\n"))]
    Unfit(PlanId, Vec<String>),
}

#[derive(Debug)]
struct Live {
    plan: Plan,
    /// How many tasks it has added that have no numbers yet.
    expected: usize,
}

/// All that are not over.
#[derive(Debug, Default)]
pub struct Plans {
    next: i64,
    live: BTreeMap<PlanId, Live>,
    of: BTreeMap<TaskId, PlanId>,
}

impl Plans {
    /// The plans as the store has them: the greatest number that was ever given, and those that are not over.
    pub fn load(last: i64, plans: Vec<Plan>) -> Self {
        let of = plans.iter().flat_map(|plan| plan.tasks.keys().map(|task| (*task, plan.id))).collect();
        Self { next: last, live: plans.into_iter().map(|plan| (plan.id, Live { plan, expected: 0 })).collect(), of }
    }

    /// Whether there is nothing to see to.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// One that is not over.
    pub fn get(&self, id: PlanId) -> Option<&Plan> {
        self.live.get(&id).map(|live| &live.plan)
    }

    /// The task in whose conversation a plan's task begins.
    pub fn continues(&self, task: TaskId) -> Option<TaskId> {
        let plan = self.get(*self.of.get(&task)?)?;
        let before: &[Part] = match plan.tasks.get(&task)?.part {
            Part::Plan | Part::Item => return None,
            Part::Revision => &[Part::Plan],
            Part::FollowUp => &[Part::Revision, Part::Plan],
        };
        plan.task_of(before).map(|(id, _)| id)
    }

    /// A new plan.
    pub fn begin(&mut self, order: Order, by: String, crew: &Crew, now: Timestamp) -> (PlanId, Vec<Effect>) {
        self.next = self.next.saturating_add(1);
        let id = PlanId(self.next);
        let spec = prompt::plan(id, &order, crew);
        let detail = format!("{} makes the plan", order.boss);
        let plan = Plan { id, order, by, created: now, state: State::Planning, detail, items: Vec::new(), tasks: BTreeMap::new(), finished: None };
        let message = format!("plan {id} for {}: {}", plan.order.team, spec.title);
        let mut effects = vec![Effect::Save(Change::Put(Box::new(plan.clone()))), Effect::Tell { plan: id, kind: State::Planning.event(), message }];
        let mut live = Live { plan, expected: 0 };
        effects.push(live.add_one(spec, Part::Plan));
        self.live.insert(id, live);
        (id, effects)
    }

    /// A task of a plan has its number. If the plan was ended in the same turn the task is to be ended too.
    pub fn added(&mut self, id: PlanId, part: Part, item: &str, task: TaskId) -> (Change, Option<TaskId>) {
        let live = self.live.get_mut(&id);
        let end = live.is_none().then_some(task);
        if let Some(live) = live {
            live.expected = live.expected.saturating_sub(1);
            live.plan.tasks.insert(task, Numbered::new(part, item.to_owned()));
            self.of.insert(task, id);
        }
        (Change::Task(id, task, part, item.to_owned()), end)
    }

    /// How a task stands now.
    pub fn stands(&mut self, task: &Task) {
        if let Some(known) = self.numbered(task.id) {
            known.how = prompt::how(task);
            if !task.note.trim().is_empty() {
                known.text = prompt::cut(&task.note, prompt::WORDS_MAX);
            }
        }
    }

    /// What an attempt at a task came to.
    pub fn heard(&mut self, task: TaskId, instance: &InstanceName, branch: Option<&str>, text: &str) {
        if let Some(known) = self.numbered(task) {
            known.instance = Some(instance.clone());
            known.branch = branch.map(str::to_owned).or(known.branch.take());
            known.text = match known.part {
                // Half a plan is none.
                Part::Plan | Part::Revision => text.to_owned(),
                Part::Item | Part::FollowUp => prompt::cut(text, prompt::WORDS_MAX),
            };
        }
    }

    fn numbered(&mut self, task: TaskId) -> Option<&mut Numbered> {
        let plan = self.of.get(&task)?;
        self.live.get_mut(plan)?.plan.tasks.get_mut(&task)
    }

    /// A person approves a plan.
    ///
    /// # Errors
    /// It does not wait for that, or cannot be done any more; then nothing has changed.
    pub fn approve(&mut self, id: PlanId, by: &str, crew: impl Fn(&Order) -> Crew) -> Result<Vec<Effect>, NotNow> {
        let live = self.waiting(id)?;
        let crew = crew(&live.plan.order);
        // The team may have changed meanwhile.
        let text = serde_json::json!({ "tasks": live.plan.items }).to_string();
        check(&text, &crew, &live.plan.order).map_err(|problems| NotNow::Unfit(id, problems))?;
        Ok(live.enter(&crew, &format!("approved by {by}")))
    }

    /// A person does not want a plan.
    ///
    /// # Errors
    /// It does not wait for that.
    pub fn reject(&mut self, id: PlanId, by: &str, why: &str, now: Timestamp) -> Result<Vec<Effect>, NotNow> {
        let live = self.waiting(id)?;
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let effects = live.over(State::Rejected, format!("rejected by {by}{why}"), now);
        self.forget(id);
        Ok(effects)
    }

    /// A person ends a plan, with all of its tasks that have not ended.
    ///
    /// # Errors
    /// It is over.
    pub fn cancel(&mut self, id: PlanId, by: &str, lives: impl Fn(TaskId) -> bool, now: Timestamp) -> Result<Vec<Effect>, NotNow> {
        let live = self.live.get_mut(&id).ok_or(NotNow::Over(id))?;
        let mut effects = live.over(State::Cancelled, format!("cancelled by {by}"), now);
        effects.extend(live.plan.tasks.keys().filter(|task| lives(**task)).map(|task| Effect::Cancel(*task)));
        self.forget(id);
        Ok(effects)
    }

    fn waiting(&mut self, id: PlanId) -> Result<&mut Live, NotNow> {
        let live = self.live.get_mut(&id).ok_or(NotNow::Over(id))?;
        if live.plan.state == State::Waiting { Ok(live) } else { Err(NotNow::NotWaiting(id, live.plan.state.name())) }
    }

    fn forget(&mut self, id: PlanId) {
        self.live.remove(&id);
        self.of.retain(|_, plan| *plan != id);
    }

    /// Moves every plan as far as it goes now.
    pub fn settle(&mut self, lives: impl Fn(TaskId) -> bool, crew: impl Fn(&Order) -> Crew, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for live in self.live.values_mut().filter(|live| live.expected == 0) {
            effects.extend(live.settle(&lives, &crew, now));
        }
        let over: Vec<PlanId> = self.live.values().filter(|live| live.plan.state.is_over()).map(|live| live.plan.id).collect();
        over.into_iter().for_each(|id| self.forget(id));
        effects
    }
}

impl Live {
    fn settle(&mut self, lives: &impl Fn(TaskId) -> bool, crew: &impl Fn(&Order) -> Crew, now: Timestamp) -> Vec<Effect> {
        match self.plan.state {
            State::Planning => {
                let Some((id, task)) = self.plan.task_of(&[Part::Revision, Part::Plan]) else {
                    return self.over(State::Failed, "its task is gone".to_owned(), now);
                };
                if lives(id) {
                    return Vec::new();
                }
                let (how, part, text) = (task.how.unwrap_or(How::Gone), task.part, task.text.clone());
                match how {
                    How::Succeeded => self.planned(&text, part, &crew(&self.plan.order), now),
                    How::Cancelled => self.over(State::Cancelled, prompt::named(id, how), now),
                    How::Failed(_) | How::Gone => self.over(State::Failed, format!("there is no plan: {}", prompt::named(id, how)), now),
                }
            }
            State::Running => {
                let items: Vec<(TaskId, How)> =
                    self.plan.tasks.iter().filter(|(_, task)| task.part == Part::Item).map(|(id, task)| (*id, task.how.unwrap_or(How::Gone))).collect();
                if items.iter().any(|(id, _)| lives(*id)) {
                    return Vec::new();
                }
                if items.iter().all(|(_, how)| *how == How::Cancelled) {
                    return self.over(State::Cancelled, "all of its tasks were cancelled".to_owned(), now);
                }
                let (done, all) = self.counts();
                let spec = prompt::follow_up(&self.plan);
                let mut effects = self.becomes(State::Closing, format!("{done} of {all} tasks have succeeded; {} has the results", self.plan.order.boss));
                effects.push(self.add_one(spec, Part::FollowUp));
                effects
            }
            State::Closing => {
                let (id, how) = self.plan.task_of(&[Part::FollowUp]).map_or((None, How::Gone), |(id, task)| (Some(id), task.how.unwrap_or(How::Gone)));
                let Some(id) = id.filter(|id| !lives(*id)) else { return Vec::new() };
                match how {
                    How::Succeeded => {
                        let (done, all) = self.counts();
                        self.over(State::Done, format!("{done} of {all} tasks have succeeded; what the boss says of them: claudectl task show {id}"), now)
                    }
                    How::Cancelled => self.over(State::Cancelled, prompt::named(id, how), now),
                    How::Failed(_) | How::Gone => self.over(State::Failed, format!("the boss could not end it: {}", prompt::named(id, how)), now),
                }
            }
            State::Waiting | State::Done | State::Failed | State::Rejected | State::Cancelled => Vec::new(),
        }
    }

    fn counts(&self) -> (usize, usize) {
        let items = || self.plan.tasks.values().filter(|task| task.part == Part::Item);
        (items().filter(|task| task.how == Some(How::Succeeded)).count(), items().count())
    }

    /// The boss has made a plan.
    fn planned(&mut self, text: &str, part: Part, crew: &Crew, now: Timestamp) -> Vec<Effect> {
        let (id, order) = (self.plan.id, &self.plan.order);
        match check(text, crew, order) {
            Ok(items) => {
                self.plan.items = items;
                if self.plan.order.review {
                    let count = self.plan.items.len();
                    return self
                        .becomes(State::Waiting, format!("{count} tasks wait for approval: claudectl plan show {id}, then: claudectl plan approve {id}"));
                }
                self.enter(crew, "nobody wants to look at it first")
            }
            Err(problems) if part == Part::Plan => {
                let spec = prompt::revision(id, order, crew, &problems);
                self.plan.detail = format!("{} makes the plan anew, since it could not be used: {}", order.boss, problems.join("; "));
                let message = format!("plan {id} goes back to {}: {}", order.boss, problems.join("; "));
                let mut effects = vec![Effect::Save(Change::Put(Box::new(self.plan.clone()))), Effect::Tell { plan: id, kind: "plan-sent-back", message }];
                effects.push(self.add_one(spec, Part::Revision));
                effects
            }
            Err(problems) => self.over(State::Failed, format!("the plan cannot be used, twice: {}", problems.join("; ")), now),
        }
    }

    /// Its tasks enter the queue.
    fn enter(&mut self, crew: &Crew, why: &str) -> Vec<Effect> {
        let Plan { id, order, items, .. } = &self.plan;
        let place = |name: &String| items.iter().position(|item| item.id == *name);
        let addition = |item: &Item| Addition {
            spec: prompt::item(*id, order, crew, item, items),
            after: item.after.iter().filter_map(place).collect(),
            part: Part::Item,
            item: item.id.clone(),
        };
        let additions: Vec<Addition> = items.iter().map(addition).collect();
        let mut effects = self.becomes(State::Running, format!("{} tasks, {why}", additions.len()));
        effects.push(self.add(additions));
        effects
    }

    /// A task of the boss.
    fn add_one(&mut self, spec: TaskSpec, part: Part) -> Effect {
        self.add(vec![Addition { spec, after: Vec::new(), part, item: String::new() }])
    }

    fn add(&mut self, additions: Vec<Addition>) -> Effect {
        self.expected += additions.len();
        Effect::Add(self.plan.id, additions)
    }

    fn over(&mut self, state: State, detail: String, now: Timestamp) -> Vec<Effect> {
        self.plan.finished = Some(now);
        self.becomes(state, detail)
    }

    fn becomes(&mut self, state: State, detail: String) -> Vec<Effect> {
        let id = self.plan.id;
        let message = format!("plan {id} is {}: {detail}", state.name());
        (self.plan.state, self.plan.detail) = (state, detail);
        vec![Effect::Save(Change::Put(Box::new(self.plan.clone()))), Effect::Tell { plan: id, kind: state.event(), message }]
    }
}
