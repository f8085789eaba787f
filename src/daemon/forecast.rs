//! What the running tasks of each repository change, asked of their runners all at once, and kept for a moment: however many ask,
//! a worktree is looked at once in a few seconds.

use super::engine::{self, Input, State};
use crate::core::forecast::{self, Merge, Overlap, Survey};
use crate::core::ids::{InstanceName, TaskId};
use crate::core::lock::Pattern;
use crate::proto::link::{Answer, Job};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// How long a runner may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long a forecast is as good as new.
const FRESH: Duration = Duration::from_secs(2);
/// For how long a history is.
const HISTORY: Duration = Duration::from_secs(10 * 60);
/// Most commits and files of one that are taken of a runner's word.
const COMMITS_MAX: usize = 500;

/// A running task in a repository.
#[derive(Clone, Debug)]
pub(super) struct Party {
    /// Where.
    pub(super) instance: InstanceName,
    /// What it was said to touch.
    pub(super) named: Vec<Pattern>,
    /// What it has changed, or why nobody knows.
    pub(super) survey: Result<Arc<Survey>, String>,
}

/// What is known of one repository.
#[derive(Clone, Debug)]
pub(super) struct Forecast {
    made: Instant,
    /// Who works on it.
    pub(super) parties: BTreeMap<TaskId, Party>,
    /// Who touches the same files.
    pub(super) overlaps: Vec<Overlap<TaskId>>,
    /// How many pairs more.
    pub(super) more: usize,
    /// The files of each of the last commits, or why nobody knows.
    pub(super) history: Result<Arc<Vec<Vec<String>>>, String>,
}

/// What was found out of one repository last.
#[derive(Default)]
struct Kept {
    forecast: Option<Arc<Forecast>>,
    history: Option<(Instant, Arc<Vec<Vec<String>>>)>,
}

/// The forecasts of all repositories.
pub(super) struct Forecasts {
    engine: mpsc::Sender<Input>,
    kept: std::sync::Mutex<BTreeMap<String, Arc<Mutex<Kept>>>>,
}

/// Who is there for one repository.
struct Present {
    working: Vec<(TaskId, InstanceName, Vec<Pattern>, bool)>,
    /// An instance of it whose runner is connected and has nothing to do.
    idle: Option<InstanceName>,
}

impl Present {
    fn of(state: &State, repository: &str) -> Self {
        let of_it = |name: &InstanceName| state.config.instance(name).repository.as_deref() == Some(repository);
        let at_work = state.queue.at_work().filter(|(name, _)| of_it(name));
        let mut working: Vec<_> = at_work.map(|(name, task)| (task.id, name.clone(), task.terms.files.clone(), state.queue.is_linked(name))).collect();
        working.sort_by_key(|(id, ..)| *id);
        let idle = state.config.instances.keys().find(|name| of_it(name) && state.queue.is_linked(name) && state.queue.busy(name).is_none()).cloned();
        Self { working, idle }
    }
}

impl Forecasts {
    /// None yet.
    pub(super) fn new(engine: mpsc::Sender<Input>) -> Self {
        Self { engine, kept: std::sync::Mutex::default() }
    }

    /// What is known of a repository; `None` if clauded is stopping. With `history`, what changes together in it too.
    pub(super) async fn of(&self, repository: &str, history: bool) -> Option<Arc<Forecast>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).entry(repository.to_owned()).or_default().clone();
        // Who comes meanwhile takes what comes of this one.
        let mut kept = kept.lock().await;
        let asked = repository.to_owned();
        let Present { working, idle } = engine::look(&self.engine, move |state| Present::of(state, &asked)).await?;
        // As long as the same tasks run.
        let same = |last: &Forecast| last.parties.iter().map(|(id, party)| (*id, &party.instance)).eq(working.iter().map(|(id, name, ..)| (*id, name)));
        let fresh = kept.forecast.as_ref().filter(|last| last.made.elapsed() < FRESH && (last.history.is_ok() || !history) && same(last));
        if let Some(fresh) = fresh {
            return Some(fresh.clone());
        }
        let parties = join_all(working.into_iter().map(|(id, instance, named, linked)| async move {
            let survey = if linked { self.survey(&instance).await } else { Err("its runner is not connected".to_owned()) };
            (id, Party { instance, named, survey })
        }));
        let parties: BTreeMap<TaskId, Party> = parties.await.into_iter().collect();
        let surveys: BTreeMap<TaskId, Survey> = parties.iter().filter_map(|(id, party)| Some((*id, party.survey.as_deref().ok()?.clone()))).collect();
        let (mut overlaps, more) = forecast::overlaps(&surveys);
        let known = kept.history.as_ref().filter(|(made, _)| made.elapsed() < HISTORY).map(|(_, commits)| commits.clone());
        // One who has just answered answers again.
        let historian = idle.or_else(|| parties.values().find(|party| party.survey.is_ok()).map(|party| party.instance.clone()));
        let (merges, told) = tokio::join!(self.merges(&parties, &surveys, &overlaps), async {
            match (history && known.is_none(), historian) {
                (true, Some(historian)) => self.history(&historian).await,
                _ => Err(format!("what changes together in {repository} is not known: none of its instances is there to tell")),
            }
        });
        for (who, whom, merge) in merges {
            forecast::answer(&mut overlaps, &who, &whom, merge);
        }
        // Conflicts first; else as they were.
        overlaps.sort_by_key(|pair| pair.merge.rank());
        if let Ok(told) = &told {
            kept.history = Some((Instant::now(), told.clone()));
        }
        let forecast = Arc::new(Forecast { made: Instant::now(), parties, overlaps, more, history: known.map_or(told, Ok) });
        kept.forecast = Some(forecast.clone());
        Some(forecast)
    }

    /// A runner's answer, or why there is none.
    async fn ask(&self, instance: &InstanceName, job: Job) -> Result<Answer, String> {
        let (asker, answer) = oneshot::channel();
        self.engine.send(Input::Job(instance.clone(), job, asker)).await.map_err(|_| "clauded is stopping".to_owned())?;
        match timeout(PATIENCE, answer).await {
            Ok(Ok(Answer::Refused(why))) => Err(why),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err("its runner went away".to_owned()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn survey(&self, instance: &InstanceName) -> Result<Arc<Survey>, String> {
        match self.ask(instance, Job::Survey).await? {
            Answer::Survey(survey) => Ok(Arc::new(survey.bounded())),
            _ => Err(OTHER.to_owned()),
        }
    }

    async fn history(&self, instance: &InstanceName) -> Result<Arc<Vec<Vec<String>>>, String> {
        match self.ask(instance, Job::History).await {
            Ok(Answer::History(mut commits)) => {
                commits.truncate(COMMITS_MAX);
                commits.iter_mut().for_each(|files| files.truncate(COMMITS_MAX));
                Ok(Arc::new(commits))
            }
            Ok(_) => Err(OTHER.to_owned()),
            Err(why) => Err(why),
        }
        .map_err(|why| format!("what changes together is not known: {instance}: {why}"))
    }

    /// Has those merge that touch the same files.
    async fn merges(
        &self,
        parties: &BTreeMap<TaskId, Party>,
        surveys: &BTreeMap<TaskId, Survey>,
        overlaps: &[Overlap<TaskId>],
    ) -> Vec<(TaskId, TaskId, Merge)> {
        let asked = forecast::questions(surveys, overlaps).into_iter().filter_map(|(who, whom)| {
            let (party, ours) = (parties.get(&who)?, surveys.get(&who)?.snapshot.clone());
            let (whom, with) = whom.into_iter().filter_map(|whom| Some((whom, surveys.get(&whom)?.snapshot.clone()))).unzip::<_, _, Vec<_>, Vec<_>>();
            Some(async move {
                let merges = match self.ask(&party.instance, Job::Merge { ours, with }).await {
                    Ok(Answer::Merges(merges)) => merges,
                    Ok(_) => vec![Merge::Unknown(OTHER.to_owned()); whom.len()],
                    Err(why) => vec![Merge::Unknown(format!("{}: {why}", party.instance)); whom.len()],
                };
                whom.into_iter().zip(merges).map(|(whom, merge)| (who, whom, merge.bounded())).collect::<Vec<_>>()
            })
        });
        join_all(asked).await.concat()
    }
}

/// What is told of a runner that does not know the question.
const OTHER: &str = "its runner answered something else; it may be of another version: restart the instance";
