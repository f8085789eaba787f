//! What is done once a turn is committed, in order.

use super::Engine;
use crate::core::ids::{AttemptId, InstanceName};
use crate::daemon::turn::{Action, LockCount};
use crate::daemon::{checkout, sizes, view};
use crate::proto::link::{FromDaemon, Work};
use jiff::Timestamp;
use tokio::time::Instant;

/// Events that are read back at once.
const EVENTS_READ: u32 = 1000;

impl Engine {
    /// Does what has been committed in the turn that began then.
    pub(super) async fn act(&mut self, actions: Vec<Action>, began: Instant) {
        for action in actions {
            match action {
                Action::Tell(to, message) => to.tell(message),
                Action::Say(instance, message) => {
                    if let Some(to) = self.runners.get(&instance) {
                        to.tell(message);
                    }
                }
                Action::End(instance, attempt) => {
                    if let Some(to) = self.runners.get(&instance) {
                        to.tell(FromDaemon::End { attempt });
                    }
                }
                Action::Limit { instance, raise, back } => {
                    let group = sizes::group(&self.state, self.cgroups.as_deref(), &instance);
                    // The loop ends with the daemon.
                    let _ = self.limits.send(sizes::Order { instance, raise, back, group });
                }
                Action::Ended(instance, kind, ended) => {
                    self.metrics.task_ended(&instance, &kind, &ended);
                    self.logs.notify_waiters();
                }
                Action::Lock(LockCount::Waited(time, granted)) => self.metrics.lock_waited(time, granted),
                Action::Lock(LockCount::Refused(cause)) => self.metrics.lock_refused(cause),
                Action::Used(instance, kind, report, waited) => self.metrics.task_used(&instance, &kind, &report, waited),
                Action::Restarted(instance, cause) => self.metrics.restart(&instance, &cause),
                Action::Run { placement, resume } => {
                    let Some(to) = self.runners.get(&placement.instance) else { continue };
                    match self.work(placement.attempt, &placement.instance, resume).await {
                        Ok(work) => {
                            self.given.insert(placement.instance.clone(), (placement.attempt, began));
                            to.tell(FromDaemon::Run(Box::new(work)));
                        }
                        Err(error) => {
                            // It stays assigned, and is given out again when the runner comes back.
                            tracing::error!(task = placement.attempt.task.0, "cannot give task {} out: {error}", placement.attempt.task);
                            to.hang_up.notify_one();
                        }
                    }
                }
            }
        }
    }

    /// All that the runner needs to run an attempt.
    async fn work(&self, attempt: AttemptId, instance: &InstanceName, resume: bool) -> anyhow::Result<Work> {
        let stored = self.store.task(attempt.task).await?.ok_or_else(|| anyhow::anyhow!("it is not in the store"))?;
        let mut resume = if resume { self.store.last_session(attempt.task, instance).await? } else { None };
        // It has no conversation of its own yet, and begins in that of another.
        let before = self.state.plans.continues(attempt.task).filter(|_| resume.is_none());
        if let Some(before) = before {
            resume = self.store.last_session(before, instance).await?;
        }
        let config = &self.state.config;
        let profile = config.profile_of(instance).ok_or_else(|| anyhow::anyhow!("there is no profile {:?}", config.instance(instance).profile))?;
        let title = stored.spec.title;
        Ok(Work {
            attempt,
            prompt: stored.spec.prompt,
            resume,
            afresh: before.is_some(),
            timeout: stored.spec.timeout.unwrap_or(config.defaults.task_timeout),
            budget: stored.spec.budget.map(|b| b - stored.task.cost).into_iter().chain(self.state.queue.allowance(instance, Timestamp::now())).min(),
            max_turns: stored.spec.max_turns,
            schema: stored.spec.schema,
            profile,
            checkout: checkout::of(config, instance, attempt.task, &stored.task.kind, &title).map(Box::new),
            title,
        })
    }

    /// Tells the listeners what was stored, with the numbers that the store gave.
    pub(super) async fn publish(&mut self) {
        loop {
            match self.store.events_after(self.last_event, EVENTS_READ).await {
                Ok(events) => {
                    let all = events.len() < EVENTS_READ as usize;
                    for event in events {
                        self.last_event = event.id;
                        // Nobody may be listening.
                        let _ = self.events.send(view::event(event));
                    }
                    if all {
                        return;
                    }
                }
                Err(error) => return tracing::warn!("cannot read events back: {error}"),
            }
        }
    }
}
