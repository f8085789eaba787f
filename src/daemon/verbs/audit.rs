//! The audit, read and checked.

use super::{Verbs, stopping};
use crate::core::audit::AuditQuery;
use crate::daemon::audit;
use crate::http::service::{Answer, Audit};
use crate::proto::audit::{AuditCheck, AuditRow};
use jiff::Timestamp;

impl Audit for Verbs {
    fn audit(&self, query: AuditQuery, wait: bool) -> Answer<'_, Vec<AuditRow>> {
        Box::pin(async move {
            let mut heads = self.store.audit_heads();
            loop {
                // Marked before looking, so that no row that is added in between is missed.
                heads.mark_unchanged();
                let rows = self.store.audit(&query).await?;
                if !rows.is_empty() || !wait {
                    return Ok(rows.into_iter().map(shown).collect());
                }
                heads.changed().await.map_err(|_| stopping())?;
            }
        })
    }

    fn check_audit(&self) -> Answer<'_, AuditCheck> {
        Box::pin(async {
            // Before the rows: it must not be of a later one.
            let kept = audit::kept(&self.paths.state);
            let (kept, unread) = match kept {
                Ok(kept) => (kept, None),
                Err(error) => (None, Some(error.to_string())),
            };
            let check = self.store.check_audit(kept).await?;
            let missing = kept.is_none().then(|| unread.unwrap_or_else(|| format!("there is no {} yet", audit::path(&self.paths.state).display())));
            let outdated = (!check.head_compared).then(|| "it is of a row that has been removed for age".to_owned());
            Ok(AuditCheck {
                intact: check.broken.is_empty(),
                first: check.first,
                rows: check.rows,
                last: check.last.seq,
                hash: check.last.hash.to_string(),
                problems: check.broken.iter().map(ToString::to_string).collect(),
                notes: missing.or(outdated).map(|why| format!("the head that is kept beside the store was not compared: {why}")).into_iter().collect(),
            })
        })
    }
}

fn shown(row: crate::platform::store::AuditRow) -> AuditRow {
    let entry = row.entry;
    AuditRow {
        seq: row.seq,
        at: Timestamp::from_microsecond(entry.at).map_or_else(|_| entry.at.to_string(), |at| at.to_string()),
        who: entry.who,
        uid: entry.uid,
        pid: entry.pid,
        acting: entry.acting,
        origin: entry.origin,
        what: entry.what,
        instance: entry.instance,
        task: entry.task,
        subject: entry.subject,
        // A row that somebody has changed by hand is shown as it is.
        details: serde_json::from_str(&entry.details).unwrap_or(serde_json::Value::String(entry.details)),
        hash: row.hash,
    }
}
