//! Plans and which tasks are theirs. How these have ended is not kept twice: it is read from the tasks.

use super::rows::{self, parse, time};
use super::{Fault, SqliteStore};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::label::Label;
use crate::core::plan::{Change, How, Numbered, Order, Plan, PlanId};
use crate::core::terms::Priority;
use crate::core::usage::Usd;
use crate::platform::store::StoreError;
use jiff::Timestamp;
use sqlx::{FromRow, SqliteConnection};

/// All that are not over; pages below ?1, at most ?2, over or not; one.
const LIVE: &str = "SELECT * FROM plans WHERE finished IS NULL ORDER BY id";
const PAGE: &str = "SELECT * FROM plans WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
const PAGE_LIVE: &str = "SELECT * FROM plans WHERE id < ?1 AND finished IS NULL ORDER BY id DESC LIMIT ?2";
const ONE: &str = "SELECT * FROM plans WHERE id = ?1";

/// The tasks of the plans ?1 with what came of their last attempts.
const TASKS: &str = "SELECT p.plan, p.task, p.part, p.item, t.id IS NULL AS gone, t.state, t.reason, s.note, a.instance, a.text, json_extract(a.work, '$.branch') AS branch \
     FROM plan_tasks p LEFT JOIN tasks t ON t.id = p.task LEFT JOIN standings s ON s.task = p.task \
     LEFT JOIN attempts a ON a.task = p.task AND a.number = (SELECT max(number) FROM attempts WHERE task = p.task) \
     WHERE p.plan IN (SELECT value FROM json_each(?1)) ORDER BY p.plan, p.task";

#[derive(FromRow)]
struct PlanRow {
    id: i64,
    goal: String,
    team: String,
    boss: String,
    review: bool,
    most: u32,
    repository: Option<String>,
    budget: Option<i64>,
    priority: i64,
    asked_by: String,
    created: i64,
    state: String,
    detail: String,
    items: String,
    finished: Option<i64>,
}

impl TryFrom<PlanRow> for Plan {
    type Error = Fault;

    fn try_from(row: PlanRow) -> Result<Self, Fault> {
        Ok(Self {
            id: PlanId(row.id),
            order: Order {
                goal: row.goal,
                team: parse("team", &row.team)?,
                boss: parse("boss", &row.boss)?,
                review: row.review,
                most: row.most,
                repository: row.repository.map(|name| parse::<Label>("repository", &name)).transpose()?,
                budget: row.budget.map(|cost| Usd(rows::natural(cost))),
                priority: Priority::try_from(row.priority).map_err(|error| rows::unreadable("priority", error))?,
            },
            by: row.asked_by,
            created: time("created", row.created)?,
            state: parse("state", &row.state)?,
            detail: row.detail,
            items: serde_json::from_str(&row.items).map_err(|error| rows::unreadable("items", error))?,
            tasks: std::collections::BTreeMap::new(),
            finished: row.finished.map(|at| time("finished", at)).transpose()?,
        })
    }
}

#[derive(FromRow)]
struct TaskRow {
    plan: i64,
    task: i64,
    part: String,
    item: String,
    gone: bool,
    state: Option<String>,
    reason: Option<String>,
    note: Option<String>,
    instance: Option<String>,
    text: Option<String>,
    branch: Option<String>,
}

impl TryFrom<TaskRow> for Numbered {
    type Error = Fault;

    fn try_from(row: TaskRow) -> Result<Self, Fault> {
        let how = match (row.gone, row.state.as_deref()) {
            (true, _) => Some(How::Gone),
            (_, Some("succeeded")) => Some(How::Succeeded),
            (_, Some("cancelled")) => Some(How::Cancelled),
            (_, Some("failed")) => Some(How::Failed(parse("reason", row.reason.as_deref().unwrap_or_default())?)),
            _ => None,
        };
        Ok(Self {
            part: parse("part", &row.part)?,
            item: row.item,
            how,
            instance: row.instance.map(|name| parse::<InstanceName>("instance", &name)).transpose()?,
            branch: row.branch,
            text: row.note.filter(|note| !note.trim().is_empty()).or(row.text).unwrap_or_default(),
        })
    }
}

/// Writes one change.
pub(super) async fn write(connection: &mut SqliteConnection, change: &Change) -> Result<(), Fault> {
    match change {
        Change::Put(plan) => put(connection, plan).await,
        Change::Task(plan, task, part, item) => {
            let sql = "INSERT OR REPLACE INTO plan_tasks (plan, task, part, item) VALUES (?1, ?2, ?3, ?4)";
            sqlx::query(sql).bind(plan.0).bind(task.0).bind(part.name()).bind(item).execute(connection).await?;
            Ok(())
        }
    }
}

async fn put(connection: &mut SqliteConnection, plan: &Plan) -> Result<(), Fault> {
    let Plan { id, order, by, created, state, detail, items, tasks: _, finished } = plan;
    let items = serde_json::to_string(items).map_err(|error| Fault::Refused(error.to_string()))?;
    // No REPLACE: it would take the plan's tasks away with the row.
    let sql = "INSERT INTO plans (id, goal, team, boss, review, most, repository, budget, priority, asked_by, created, state, detail, items, finished) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
               ON CONFLICT (id) DO UPDATE SET state = excluded.state, detail = excluded.detail, items = excluded.items, finished = excluded.finished";
    sqlx::query(sql)
        .bind(id.0)
        .bind(&order.goal)
        .bind(order.team.as_str())
        .bind(order.boss.as_str())
        .bind(order.review)
        .bind(order.most)
        .bind(order.repository.as_ref().map(Label::as_str))
        .bind(order.budget.map(|cost| rows::integer(cost.0)))
        .bind(i64::from(order.priority))
        .bind(by)
        .bind(created.as_microsecond())
        .bind(state.name())
        .bind(detail)
        .bind(items)
        .bind(finished.map(Timestamp::as_microsecond))
        .execute(connection)
        .await?;
    Ok(())
}

impl SqliteStore {
    /// The greatest number that was ever given to a plan, and all plans that are not over.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn live_plans(&self) -> Result<(i64, Vec<Plan>), StoreError> {
        let work = async {
            let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'plans'").fetch_optional(&self.readers).await?;
            let rows = sqlx::query_as(LIVE).fetch_all(&self.readers).await?;
            Ok((last.unwrap_or(0), self.with_tasks(rows).await?))
        };
        work.await.map_err(self.at("read the plans"))
    }

    /// Plans below that number, newest first; only those that are not over, or all.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn plans(&self, before: Option<PlanId>, all: bool, limit: u32) -> Result<Vec<Plan>, StoreError> {
        let work = async {
            let sql = if all { PAGE } else { PAGE_LIVE };
            let rows = sqlx::query_as(sql).bind(before.map_or(i64::MAX, |id| id.0)).bind(limit).fetch_all(&self.readers).await?;
            self.with_tasks(rows).await
        };
        work.await.map_err(self.at("list the plans"))
    }

    /// One plan.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn plan(&self, id: PlanId) -> Result<Option<Plan>, StoreError> {
        let work = async {
            let rows = sqlx::query_as(ONE).bind(id.0).fetch_all(&self.readers).await?;
            self.with_tasks(rows).await
        };
        Ok(work.await.map_err(self.at("read a plan"))?.into_iter().next())
    }

    async fn with_tasks(&self, rows: Vec<PlanRow>) -> Result<Vec<Plan>, Fault> {
        let ids = serde_json::Value::from(rows.iter().map(|row| row.id).collect::<Vec<_>>()).to_string();
        let mut plans: Vec<Plan> = rows.into_iter().map(Plan::try_from).collect::<Result<_, _>>()?;
        let found: Vec<TaskRow> = sqlx::query_as(TASKS).bind(ids).fetch_all(&self.readers).await?;
        for row in found {
            let (plan, task) = (PlanId(row.plan), TaskId(row.task));
            let numbered = Numbered::try_from(row)?;
            if let Some(plan) = plans.iter_mut().find(|one| one.id == plan) {
                plan.tasks.insert(task, numbered);
            }
        }
        Ok(plans)
    }
}
