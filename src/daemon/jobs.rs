//! Questions to runners about their worktrees, and who waits for the answers.

use super::engine::Outbox;
use crate::core::ids::InstanceName;
use crate::proto::link::{Answer, FromDaemon, Job};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// Where an answer goes. It is dropped if the runner goes away first.
pub(super) type Asker = oneshot::Sender<Answer>;

/// The questions that are open.
#[derive(Default)]
pub(super) struct Jobs {
    last: u64,
    /// Put to a runner, by their numbers.
    asked: BTreeMap<u64, (InstanceName, Asker)>,
    /// For runners that are not connected yet.
    waiting: BTreeMap<InstanceName, Vec<(Job, Asker)>>,
}

impl Jobs {
    /// Asks a runner, now or when it connects.
    pub(super) fn ask(&mut self, instance: InstanceName, job: Job, asker: Asker, runner: Option<&Outbox>) {
        // Who has waited for long enough is gone; a runner that answers nothing does not fill the list.
        self.asked.retain(|_, (_, asker)| !asker.is_closed());
        match runner {
            Some(runner) => {
                self.last += 1;
                runner.tell(FromDaemon::Ask { id: self.last, job });
                self.asked.insert(self.last, (instance, asker));
            }
            // What runs there is asked about, and nothing does: a later one is another question.
            None if job.only_looks() => drop(asker),
            None => self.waiting.entry(instance).or_default().push((job, asker)),
        }
    }

    /// A runner has connected.
    pub(super) fn linked(&mut self, instance: &InstanceName, runner: &Outbox) {
        for (job, asker) in self.waiting.remove(instance).unwrap_or_default() {
            self.ask(instance.clone(), job, asker, Some(runner));
        }
    }

    /// A runner has answered.
    pub(super) fn answered(&mut self, instance: &InstanceName, id: u64, answer: Answer) {
        if self.asked.get(&id).is_some_and(|(asked, _)| asked == instance)
            && let Some((_, asker)) = self.asked.remove(&id)
        {
            // Who has gone meanwhile needs no answer.
            let _ = asker.send(answer);
        }
    }

    /// Nobody waits for that instance any more, or it has gone: whoever does is let go.
    pub(super) fn forget(&mut self, instance: &InstanceName) {
        self.waiting.remove(instance);
        self.asked.retain(|_, (asked, _)| asked != instance);
    }
}
