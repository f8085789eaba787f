//! What is told of the daemon itself and of what happens.

use super::{Verbs, refused};
use crate::daemon::{scrape, view};
use crate::http::service::{Answer, Feeds};
use crate::proto::api;
use jiff::Timestamp;
use tokio::sync::broadcast;

impl Feeds for Verbs {
    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<api::Event>> {
        Box::pin(async move { Ok(self.store.events_after(after, limit).await?.into_iter().map(view::event).collect()) })
    }

    fn subscribe(&self) -> broadcast::Receiver<api::Event> {
        self.events.subscribe()
    }

    fn health(&self) -> Answer<'_, api::Health> {
        Box::pin(async {
            let supervisor = self.units.supervisor().to_owned();
            self.look(move |state| {
                let mut tasks = std::collections::BTreeMap::new();
                for task in state.queue.tasks() {
                    *tasks.entry(task.state.name().to_owned()).or_default() += 1;
                }
                let problems: Vec<_> = state.store_problem.iter().cloned().chain(state.fleet.problem().map(ToOwned::to_owned)).collect();
                api::Health {
                    status: if problems.is_empty() { "ok" } else { "degraded" }.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    supervisor,
                    problems,
                    tasks,
                    connected: state.fleet.iter().filter(|s| state.queue.is_linked(&s.name)).count().try_into().unwrap_or_default(),
                    holds: state.queue.holds().map(|(account, until)| (account.to_owned(), until.to_string())).collect(),
                    pauses: state.queue.pauses().map(|(scope, pause)| super::queue::shown(scope, pause)).collect(),
                    spent_today_usd: state.queue.spent_today(Timestamp::now()).into_iter().map(|(name, cost)| (name.to_string(), cost.dollars())).collect(),
                }
            })
            .await
        })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async {
            let (mount, supervisor) = (self.cgroups.clone(), self.units.supervisor());
            let mut snapshot = self.look(move |state| scrape::snapshot(state, mount.as_deref(), supervisor)).await?;
            scrape::add_ended(&mut snapshot, self.store.task_counts().await?);
            self.metrics.scrape(snapshot).await.map_err(|e| refused(500, "metrics", e.to_string()))
        })
    }

    fn count_request(&self, route: &str, method: &str, status: u16) {
        self.metrics.request(route, method, status);
    }
}
