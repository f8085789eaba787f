//! What a predecessor that crashed left behind: its processes are ended, and its attempts reported, before anything new begins.

use super::confine::{Cell, Confinement};
use super::descendants;
use super::durable::FileError;
use super::environment;
use super::records::{Record, Records};
use super::settings::Settings;
use super::spool::Spool;
use super::task;
use crate::core::attempt::{Ended, Reason};
use crate::core::ids::AttemptId;
use crate::core::verdict::{AgentVerdict, Facts, StopCause, judge};
use crate::proto::link::Event;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// How long processes that were sent SIGKILL may take.
const DEADLINE: Duration = Duration::from_secs(10);

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
            spool.push(Event::Finished { attempt, report: Box::new(report(record, cell.as_ref())) });
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

fn report(record: Record, cell: Option<&Cell>) -> crate::core::attempt::Report {
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
