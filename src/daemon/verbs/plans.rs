//! The verbs on plans.

use super::{Verbs, refused};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::plan::{GOAL_MAX, How, NotNow, Order, Part, Plan, PlanId, TASKS_MAX};
use crate::core::profile::AgentKind;
use crate::core::task::TaskType;
use crate::core::terms::Priority;
use crate::core::usage::Usd;
use crate::daemon::engine::State;
use crate::daemon::plans;
use crate::http::service::{Answer, Caller, Plans, ServiceError};
use crate::proto::api;
use std::collections::BTreeMap;

/// The role of who makes plans.
const BOSS: &str = "boss";
/// Most tasks where nothing is said.
const TASKS: u32 = 20;

impl From<NotNow> for ServiceError {
    fn from(error: NotNow) -> Self {
        let (status, code) = match error {
            NotNow::Over(_) => (409, "plan-over"),
            NotNow::NotWaiting(..) => (409, "plan-not-waiting"),
            NotNow::Unfit(..) => (409, "plan-unfit"),
        };
        refused(status, code, error.to_string())
    }
}

fn invalid(detail: String) -> ServiceError {
    refused(422, "invalid-plan", detail)
}

fn no_such(id: PlanId) -> ServiceError {
    refused(404, "no-such-plan", format!("there is no plan {id}; list them with: claudectl plan list --all"))
}

/// What is asked for, as far as it can be told without the team.
struct Asked {
    order: Order,
    boss: Option<InstanceName>,
}

fn asked(new: api::NewPlan) -> Result<Asked, ServiceError> {
    let field = |name: &str, why: &dyn std::fmt::Display| invalid(format!("{name}: {why}"));
    let goal = new.goal.trim().to_owned();
    if goal.is_empty() {
        return Err(invalid("goal: it is empty; say what is to be reached".to_owned()));
    }
    if goal.len() > GOAL_MAX {
        return Err(invalid(format!("goal: it has {} bytes, and at most {GOAL_MAX} are taken; put it into a file of the worktree and name that", goal.len())));
    }
    let most = new.max_tasks.unwrap_or(TASKS);
    if !(1..=TASKS_MAX).contains(&most) {
        return Err(invalid(format!("max_tasks: it is 1 to {TASKS_MAX}")));
    }
    let budget = super::spec::dollars(new.task_budget_usd).map_err(|why| field("task_budget_usd", &why))?.filter(|budget| *budget > Usd(0));
    let team: Label = new.team.parse().map_err(|error| field("team", &error as &crate::core::label::InvalidLabel))?;
    let repository = new.repository.map(|name| name.parse::<Label>()).transpose().map_err(|error| field("repository", &error))?;
    let boss = new.boss.map(|name| name.parse::<InstanceName>()).transpose().map_err(|error| field("boss", &error))?;
    let priority = Priority::try_from(new.priority.unwrap_or(0)).map_err(|error| field("priority", &error))?;
    // Filled in by who knows the team.
    let nobody: InstanceName = team.as_str().parse().map_err(|error| field("team", &error as &crate::core::ids::InvalidName))?;
    let order = Order { goal, team, boss: nobody, review: new.review, most, repository, budget, priority };
    Ok(Asked { order, boss })
}

/// Finds the boss, and whether there is a team for it to lead.
fn led(state: &State, Asked { mut order, boss }: Asked) -> Result<Order, ServiceError> {
    let team = &order.team;
    let members: Vec<_> = state.queue.rules().members.iter().filter(|(_, member)| member.team.as_ref() == Some(team)).collect();
    if members.is_empty() {
        return Err(refused(404, "no-such-team", format!("team: there is no team {team} with members; bring one up with: claudectl team up {team}")));
    }
    let found = match &boss {
        Some(name) => members.iter().find(|(member, _)| *member == name).ok_or_else(|| invalid(format!("boss: {name} is no member of the team {team}")))?,
        None => {
            let leads = |role: &Label| role.as_str() == BOSS;
            let none = || invalid(format!("boss: nobody in the team {team} has the role {BOSS}; name a member that makes the plan"));
            members.iter().find(|(_, member)| member.role.as_ref().is_some_and(leads)).ok_or_else(none)?
        }
    };
    order.boss = found.0.clone();
    if state.config.profile_of(&order.boss).is_some_and(|profile| profile.agent != AgentKind::Claude) {
        return Err(invalid(format!("boss: {} runs another agent than Claude Code, which alone can be held to the form of a plan", order.boss)));
    }
    if plans::crew(&state.queue, &order).is_empty() {
        let works = order.repository.as_ref().map(|name| format!(" works on {name}")).unwrap_or_default();
        return Err(invalid(format!("team: nobody in {} beside {}{works}; a plan is for others", order.team, order.boss)));
    }
    Ok(order)
}

impl Verbs {
    async fn plan_shown(&self, id: PlanId) -> Result<api::Plan, ServiceError> {
        let plan = self.store.plan(id).await?.ok_or_else(|| no_such(id))?;
        self.look(move |state| shown(state, plan)).await
    }

    /// Refuses what is done to a plan that there is not.
    async fn known_plan(&self, id: PlanId) -> Result<(), ServiceError> {
        self.store.plan(id).await?.map(drop).ok_or_else(|| no_such(id))
    }
}

impl Plans for Verbs {
    fn add_plan(&self, caller: Caller, new: api::NewPlan) -> Answer<'_, api::Plan> {
        Box::pin(async move {
            let (asked, by) = (asked(new)?, caller.description.clone());
            let begun = self.settle(&caller, move |state, now, turn| {
                let order = led(state, asked)?;
                let crew = plans::crew(&state.queue, &order);
                let (id, effects) = state.plans.begin(order, by, &crew, now);
                plans::effects(&mut state.queue, turn, effects, now);
                Ok::<PlanId, ServiceError>(id)
            });
            let id = begun.await??;
            tracing::info!(plan = id.0, by = %caller.description, "plan {id} accepted, asked by {}", caller.description);
            self.plan_shown(id).await
        })
    }

    fn plans(&self, before: Option<PlanId>, all: bool, limit: u32) -> Answer<'_, Vec<api::Plan>> {
        Box::pin(async move {
            let found = self.store.plans(before, all, limit).await?;
            self.look(move |state| found.into_iter().map(|plan| shown(state, plan)).collect()).await
        })
    }

    fn plan(&self, id: PlanId) -> Answer<'_, api::Plan> {
        Box::pin(self.plan_shown(id))
    }

    fn approve_plan(&self, caller: Caller, id: PlanId) -> Answer<'_, api::Plan> {
        Box::pin(async move {
            self.known_plan(id).await?;
            let by = caller.description.clone();
            let approved = self.settle(&caller, move |state, now, turn| {
                let effects = state.plans.approve(id, &by, |order| plans::crew(&state.queue, order))?;
                plans::effects(&mut state.queue, turn, effects, now);
                Ok::<(), ServiceError>(())
            });
            approved.await??;
            self.plan_shown(id).await
        })
    }

    fn reject_plan(&self, caller: Caller, id: PlanId, why: String) -> Answer<'_, api::Plan> {
        Box::pin(async move {
            self.known_plan(id).await?;
            if why.len() > 1000 || why.contains(char::is_control) {
                return Err(invalid("why: it is one line of at most 1000 bytes".to_owned()));
            }
            let by = caller.description.clone();
            let rejected = self.settle(&caller, move |state, now, turn| {
                let effects = state.plans.reject(id, &by, why.trim(), now)?;
                plans::effects(&mut state.queue, turn, effects, now);
                Ok::<(), ServiceError>(())
            });
            rejected.await??;
            self.plan_shown(id).await
        })
    }

    fn cancel_plan(&self, caller: Caller, id: PlanId) -> Answer<'_, api::Plan> {
        Box::pin(async move {
            self.known_plan(id).await?;
            let by = caller.description.clone();
            let cancelled = self.settle(&caller, move |state, now, turn| {
                let effects = state.plans.cancel(id, &by, |task| state.queue.task(task).is_some(), now)?;
                plans::effects(&mut state.queue, turn, effects, now);
                Ok::<(), ServiceError>(())
            });
            cancelled.await??;
            self.plan_shown(id).await
        })
    }

    fn export_plan(&self, id: PlanId) -> Answer<'_, api::Import> {
        Box::pin(async move {
            let Plan { order, items, .. } = self.store.plan(id).await?.ok_or_else(|| no_such(id))?;
            let text = |label: Option<&Label>| label.map(ToString::to_string);
            let tasks = items.into_iter().map(|item| api::ImportTask {
                line: None,
                id: Some(item.id),
                status: None,
                after: item.after,
                task: api::NewTask {
                    kind: (item.kind != TaskType::default()).then(|| item.kind.to_string()),
                    title: Some(item.title),
                    prompt: item.description,
                    priority: Some(i64::from(order.priority)).filter(|number| *number != 0),
                    team: Some(order.team.to_string()),
                    role: text(item.role.as_ref()),
                    specialty: text(item.specialty.as_ref()),
                    repository: text(order.repository.as_ref()),
                    budget_usd: order.budget.map(Usd::dollars),
                    ..api::NewTask::default()
                },
            });
            Ok(api::Import { tasks: tasks.collect() })
        })
    }
}

fn shown(state: &State, plan: Plan) -> api::Plan {
    let Plan { id, order, by, created, state: stands, detail, items, tasks, finished } = plan;
    let how = |id: &TaskId, how: Option<How>| {
        let (ended, live) = (how.unwrap_or(How::Gone), state.queue.task(*id));
        let reason = if let (How::Failed(reason), None) = (ended, live) { Some(reason.to_string()) } else { None };
        (live.map_or(ended.name(), |task| task.state.name()).to_owned(), reason)
    };
    let by_item: BTreeMap<&str, _> = tasks.iter().filter(|(_, task)| task.part == Part::Item).map(|(id, task)| (task.item.as_str(), (id, task))).collect();
    let text = |label: Option<Label>| label.map(String::from);
    let shown = items.into_iter().map(|item| {
        let numbered = by_item.get(item.id.as_str());
        let (state, reason) = numbered.map(|(id, task)| how(id, task.how)).unzip();
        api::PlanTask {
            task: numbered.map(|(id, _)| id.0),
            state,
            reason: reason.flatten(),
            instance: numbered.and_then(|(_, task)| task.instance.as_ref()).map(ToString::to_string),
            branch: numbered.and_then(|(_, task)| task.branch.clone()),
            id: item.id,
            title: item.title,
            description: item.description,
            kind: item.kind.to_string(),
            role: text(item.role),
            specialty: text(item.specialty),
            after: item.after,
            files: item.files,
        }
    });
    let shown = shown.collect();
    let of_boss = tasks.iter().filter(|(_, task)| task.part != Part::Item);
    api::Plan {
        id: id.0,
        tasks: shown,
        boss_tasks: of_boss.map(|(id, task)| api::BossTask { part: task.part.name().to_owned(), task: id.0, state: how(id, task.how).0 }).collect(),
        goal: order.goal,
        team: order.team.to_string(),
        boss: order.boss.to_string(),
        state: stands.name().to_owned(),
        detail,
        review: order.review,
        max_tasks: order.most,
        repository: text(order.repository),
        task_budget_usd: order.budget.map(Usd::dollars),
        priority: order.priority.into(),
        by,
        created: created.to_string(),
        finished: finished.map(|at| at.to_string()),
    }
}
