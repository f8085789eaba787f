//! The audit, to be read and checked.

use super::Answer;
use crate::core::ids::{InstanceName, TaskId};
use crate::proto::audit::{AuditCheck, AuditRow};
use jiff::Timestamp;

/// Which rows to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only about this instance.
    pub instance: Option<InstanceName>,
    /// Only about this task.
    pub task: Option<TaskId>,
    /// Only of this one.
    pub who: Option<String>,
    /// Only of this kind.
    pub what: Option<String>,
    /// Not before that time.
    pub since: Option<Timestamp>,
    /// Before that time.
    pub until: Option<Timestamp>,
    /// Only with a smaller number, newest first.
    pub before: Option<i64>,
    /// Only with a greater number, oldest first.
    pub after: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

/// The audit, to be read and checked. Nobody writes it but the daemon.
pub trait Audit: Send + Sync {
    /// Rows: newest first, or with `after` oldest first. With `wait`, answers when there is one.
    fn audit(&self, query: AuditQuery, wait: bool) -> Answer<'_, Vec<AuditRow>>;
    /// Computes all hashes anew.
    fn check_audit(&self) -> Answer<'_, AuditCheck>;
}
