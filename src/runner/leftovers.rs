//! What a predecessor that crashed left behind: its processes are ended, and its attempts reported, before anything new begins.

use super::confine::{Cell, Confinement};
use super::descendants;
use super::environment;
use super::records::{Record, Records};
use super::settings::Settings;
use super::spool::Spool;
use super::task;
use super::worktree::{self, Git};
use crate::core::attempt::{Ended, Reason, Report};
use crate::core::delivery::Delivery;
use crate::core::ids::AttemptId;
use crate::core::verdict::{AgentVerdict, Facts, StopCause, judge};
use crate::platform::durable::FileError;
use crate::proto::link::Event;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// How long processes that were sent SIGKILL may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long looking through the worktree may take, while the unit is still starting.
const SALVAGE: Duration = Duration::from_secs(30);

/// Why the runner cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeftoverError {
    /// The records cannot be read.
    #[error(transparent)]
    Records(#[from] FileError),
    /// A process of an earlier attempt cannot be signalled or watched.
    #[error("end what is left of attempt {attempt}: {source}")]
    End {
        /// The attempt, or a group without a record.
        attempt: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A process of an earlier attempt lives on.
    #[error("processes of attempt {attempt} do not die: {pids:?}; nothing new is started beside them")]
    Alive {
        /// The attempt, or a group without a record.
        attempt: String,
        /// Who.
        pids: Vec<u32>,
    },
}

/// Ends all processes of earlier attempts and spools the end of each attempt that has none there. Answers the attempts that
/// were reported, whose records go once their end is on disk.
///
/// # Errors
/// Processes that may still be alive: nothing new may be started then.
pub(super) async fn clear(settings: &Settings, confinement: &Confinement, records: &Records, spool: &mut Spool) -> Result<Vec<AttemptId>, LeftoverError> {
    let mut reported = Vec::new();
    for record in records.all()? {
        let attempt = record.attempt;
        let cell = confinement.leftover(attempt.task);
        match &cell {
            Some(cell) => end(attempt.to_string(), cell).await?,
            None => end_marked(settings, attempt).await?,
        }
        if !spool.holds_end(attempt, false) {
            tracing::warn!(%attempt, "an earlier runner went away during attempt {attempt}; it is reported now");
            let work = work(settings, confinement, attempt).await.map(Box::new);
            let report = Report { work, ..report(record, cell.as_ref()) };
            spool.push(Event::Finished { attempt, report: Box::new(report) });
        }
        if let Some(cell) = cell {
            cell.remove();
        }
        reported.push(attempt);
    }
    for name in confinement.leftovers() {
        if let Some(cell) = confinement.leftover_named(&name) {
            end(name, &cell).await?;
            cell.remove();
        }
    }
    Ok(reported)
}

/// What the attempt has left in its repository. Another task may begin in the worktree before it goes on.
async fn work(settings: &Settings, confinement: &Confinement, attempt: AttemptId) -> Option<Delivery> {
    let origin = settings.origin.as_ref()?;
    let salvaged = async {
        let git = Git::new(settings, origin, &[], false)?;
        let cell = confinement.errand().map_err(|error| format!("its cgroup: {error}"))?;
        let git = git.within(&cell);
        let work = timeout(SALVAGE, worktree::salvage(&git, origin, &settings.name, &settings.state, attempt)).await;
        let _ = timeout(DEADLINE, cell.end()).await;
        drop(git);
        cell.remove();
        work.map_err(|_| format!("it takes longer than {} s", SALVAGE.as_secs()))?.map_err(|error| error.to_string())
    };
    let salvaged: Result<Option<Delivery>, String> = salvaged.await;
    salvaged.unwrap_or_else(|why| {
        tracing::warn!(%attempt, "what attempt {attempt} left uncommitted is not rescued yet; it stays in the worktree: {why}");
        None
    })
}

fn report(record: Record, cell: Option<&Cell>) -> Report {
    let kernel = cell.map(Cell::usage).unwrap_or_default();
    let stop = record.stopping.then_some(StopCause::Shutdown);
    let (ended, mut detail) = judge(&Facts { spawn_error: None, stop, oom_kills: kernel.oom_kills.unwrap_or(0), exit: None, agent: AgentVerdict::Silent });
    if matches!(ended, Ended::Failed { reason: Reason::Lost, .. }) {
        "its runner went away while it ran (killed, crashed, or the host went down)".clone_into(&mut detail);
    }
    task::unheard(record, ended, detail, kernel)
}

async fn end(attempt: String, cell: &Cell) -> Result<(), LeftoverError> {
    match timeout(DEADLINE, cell.end()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(LeftoverError::End { attempt, source }),
        Err(_) => Err(LeftoverError::Alive { attempt, pids: cell.pids() }),
    }
}

async fn end_marked(settings: &Settings, attempt: AttemptId) -> Result<(), LeftoverError> {
    let marks = environment::marks(settings, attempt);
    let find = || descendants::with_environment(&marks);
    match timeout(DEADLINE, descendants::end_found(find)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(LeftoverError::End { attempt: attempt.to_string(), source }),
        Err(_) => Err(LeftoverError::Alive { attempt: attempt.to_string(), pids: find() }),
    }
}
