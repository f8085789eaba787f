//! The verbs on tasks.

use super::{Verbs, refused, spec};
use crate::core::ids::{AttemptId, TaskId};
use crate::core::label::Label;
use crate::core::terms::Terms;
use crate::core::usage::Usd;
use crate::daemon::engine::Input;
use crate::daemon::view;
use crate::http::service::{Answer, Caller, ServiceError, TaskQuery, Tasks};
use crate::platform::store::{StoredTask, TaskFilter};
use crate::proto::api;

impl Verbs {
    pub(super) async fn shown(&self, stored: StoredTask) -> Result<api::Task, ServiceError> {
        self.look(move |state| view::task(state, &stored)).await
    }
}

impl Tasks for Verbs {
    fn add_task(&self, caller: Caller, task: api::NewTask) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let spec = self.as_caller_may(&caller, spec::spec(task)?).await?;
            self.check_target(&spec).await?;
            let ids = self.add_all(&caller, vec![(spec, Vec::new())]).await?;
            let id = *ids.first().ok_or_else(|| refused(500, "internal", "the task has no number; please report it"))?;
            tracing::info!(task = id.0, by = %caller.description, "task {id} accepted, asked by {}", caller.description);
            self.shown(self.stored(id).await?).await
        })
    }

    fn tasks(&self, query: TaskQuery) -> Answer<'_, Vec<api::Task>> {
        Box::pin(async move {
            let filter = TaskFilter { state: query.state, instance: query.instance, group: query.group, before: query.before, limit: query.limit };
            let stored = self.store.tasks(&filter).await?;
            self.look(move |state| view::tasks(state, &stored)).await
        })
    }

    fn task(&self, id: TaskId) -> Answer<'_, api::TaskDetail> {
        Box::pin(async move {
            let stored = self.stored(id).await?;
            let history = self.store.attempts(id).await?.iter().map(view::attempt).collect();
            let (spec, memory) = (stored.spec.clone(), stored.task.memory);
            let Terms { demand, branch, after, after_failed, files, .. } = &*spec.terms;
            let text = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
            Ok(api::TaskDetail {
                team: text(&demand.team),
                role: text(&demand.role),
                specialty: text(&demand.specialty),
                labels: demand.labels.iter().map(ToString::to_string).collect(),
                repository: text(&demand.repository),
                branch: branch.clone(),
                after: after.iter().map(|id| id.0).collect(),
                after_failed: after_failed.name().to_owned(),
                files: files.iter().map(|one| one.text().to_owned()).collect(),
                task: self.shown(stored).await?,
                prompt: spec.prompt,
                timeout_seconds: spec.timeout.map(|t| t.as_secs()),
                budget_usd: spec.budget.map(Usd::dollars),
                max_turns: spec.max_turns,
                memory_limit_bytes: memory,
                schema: spec.schema,
                history,
            })
        })
    }

    fn cancel(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let found = self.decide(&caller, |reply| Input::Cancel(id, reply)).await?;
            let stored = self.stored(id).await?;
            if !found {
                return Err(refused(409, "task-ended", format!("task {id} has ended already: {}", stored.task.state.name())));
            }
            tracing::info!(task = id.0, by = %caller.description, "task {id} cancelled, asked by {}", caller.description);
            self.shown(stored).await
        })
    }

    fn retry(&self, caller: Caller, id: TaskId) -> Answer<'_, api::Task> {
        Box::pin(async move {
            let stored = self.stored(id).await?;
            let ended = self.decide(&caller, |reply| Input::Retry(Box::new(stored.task), reply)).await?;
            if !ended {
                return Err(refused(409, "task-not-ended", format!("task {id} has not ended; cancel it first: claudectl task cancel {id}")));
            }
            tracing::info!(task = id.0, by = %caller.description, "task {id} retried, asked by {}", caller.description);
            self.shown(self.stored(id).await?).await
        })
    }

    fn log(&self, id: TaskId, attempt: Option<u32>, offset: u64, wait: bool) -> Answer<'_, api::LogChunk> {
        Box::pin(async move {
            loop {
                // Armed before looking, so that nothing that grows in between is missed.
                let grew = self.log_grew.notified();
                tokio::pin!(grew);
                grew.as_mut().enable();
                let stored = self.stored(id).await?;
                let attempts = self.store.attempts(id).await?;
                let found = match attempt {
                    Some(number) => attempts.iter().find(|a| a.attempt.number == number),
                    None => attempts.last(),
                };
                let Some(found) = found else {
                    if let Some(number) = attempt {
                        return Err(refused(404, "no-such-attempt", format!("task {id} has no attempt {number}")));
                    }
                    let complete = stored.task.state.is_final();
                    if wait && !complete {
                        grew.await;
                        continue;
                    }
                    return Ok(api::LogChunk { offset, next: offset, complete, ..api::LogChunk::default() });
                };
                let (logs, name) = (self.logs.clone(), found.instance.clone());
                let which = AttemptId { task: id, number: found.attempt.number };
                let ended = found.report.is_some();
                let piece = tokio::task::spawn_blocking(move || logs.read(&name, which, offset)).await;
                let piece = piece.map_err(|e| refused(500, "log", e.to_string()))?.map_err(|e| refused(500, "log", e.to_string()))?;
                if piece.bytes.is_empty() && wait && !ended {
                    grew.await;
                    continue;
                }
                // A character that is cut in half stays for the next piece, unless nothing will follow it.
                let whole = if ended { piece.bytes.len() } else { whole_characters(&piece.bytes) };
                let bytes = piece.bytes.get(..whole).unwrap_or_default();
                let next = piece.offset + u64::try_from(bytes.len()).unwrap_or_default();
                let complete = ended && piece.bytes.is_empty();
                return Ok(api::LogChunk { attempt: which.number, offset: piece.offset, next, text: String::from_utf8_lossy(bytes).into_owned(), complete });
            }
        })
    }
}

/// The length of the longest beginning that does not end within a character.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_character_waits() {
        assert_eq!(whole_characters("aé".as_bytes()), 3);
        assert_eq!(whole_characters(b"a\xc3"), 1);
        assert_eq!(whole_characters(b"\xc3"), 1);
        assert_eq!(whole_characters(b"a\xff\xffb"), 4);
    }
}
