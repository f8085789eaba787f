//! The audit, to be read and checked.

use super::Answer;
use crate::core::audit::AuditQuery;
use crate::proto::audit::{AuditCheck, AuditRow};

/// The audit, to be read and checked. Nobody writes it but the daemon.
pub trait Audit: Send + Sync {
    /// Rows: newest first, or with `after` oldest first. With `wait`, answers when there is one.
    fn audit(&self, query: AuditQuery, wait: bool) -> Answer<'_, Vec<AuditRow>>;
    /// Computes all hashes anew.
    fn check_audit(&self) -> Answer<'_, AuditCheck>;
}
