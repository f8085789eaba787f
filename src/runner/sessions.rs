//! What each of the last sessions had used by its end: later attempts in them count from there.

use super::agent::Totals;
use crate::core::ids::SessionId;
use crate::platform::durable::{self, FileError};
use std::fs;
use std::path::{Path, PathBuf};

/// How many sessions are remembered.
const KEPT: usize = 256;

/// The file `sessions.json`.
#[derive(Debug)]
pub(super) struct Sessions {
    path: PathBuf,
}

impl Sessions {
    /// The sessions of the instance with that state directory.
    pub(super) fn new(state: &Path) -> Self {
        Self { path: state.join("sessions.json") }
    }

    fn all(&self) -> Vec<Totals> {
        fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What that session had used, if it is remembered.
    pub(super) fn get(&self, session: SessionId) -> Option<Totals> {
        self.all().into_iter().find(|totals| totals.session == session)
    }

    /// Remembers a session, in place of the oldest one if there are many.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn put(&self, totals: Totals) -> Result<(), FileError> {
        let mut all = self.all();
        all.retain(|other| other.session != totals.session);
        all.push(totals);
        let kept = all.split_off(all.len().saturating_sub(KEPT));
        let bytes = serde_json::to_vec(&kept).map_err(|e| FileError::of("encode", &self.path)(e.into()))?;
        durable::write(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::usage::Usd;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    #[test]
    fn the_newest_are_remembered() {
        let dir = tempfile::tempdir().expect("tempdir");
        let sessions = Sessions::new(dir.path());
        let totals = |n: u64| Totals { session: SessionId(Uuid::from_u64_pair(0, n)), cost: Usd(n), tokens: BTreeMap::new() };
        for n in 0..=KEPT as u64 {
            sessions.put(totals(n)).expect("put");
        }
        sessions.put(Totals { cost: Usd(7), ..totals(1) }).expect("put again");
        assert_eq!(sessions.get(totals(0).session), None);
        assert_eq!(sessions.get(totals(1).session).map(|t| t.cost), Some(Usd(7)));
        assert_eq!(sessions.all().len(), KEPT);
    }
}
