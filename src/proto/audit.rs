//! The API's types for the audit. Times are RFC 3339.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A row of the audit: one change of state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditRow {
    /// Counts up by one; a gap shows.
    pub seq: i64,
    /// When.
    pub at: String,
    /// Who: `user:NAME`, `instance:NAME` (an agent of it), `runner:NAME`, `token`, `supervisor`, or `clauded` itself.
    pub who: String,
    /// The process's user, where the kernel told.
    pub uid: Option<u32>,
    /// The process, where the kernel told.
    pub pid: Option<u32>,
    /// The task in which an agent was acting.
    pub acting: Option<i64>,
    /// From where: `unix`, `tcp ADDRESS`, `link`, `supervisor`, `signal`, `clauded`.
    pub origin: String,
    /// What: `task-assigned`, `instance-start`, `config-reloaded`, …
    pub what: String,
    /// To which instance.
    pub instance: Option<String>,
    /// To which task.
    pub task: Option<i64>,
    /// To what else: a lock, a message.
    pub subject: Option<String>,
    /// More, by kind.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
    /// SHA-256 of the hash of the row before, and this row.
    pub hash: String,
}

/// What came of computing all hashes anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheck {
    /// Whether everything fits.
    pub intact: bool,
    /// The number of the first row that is kept.
    pub first: i64,
    /// How many rows fit.
    pub rows: u64,
    /// The number of the last row that fits.
    pub last: i64,
    /// Its hash. Kept elsewhere, it shows later what was done to everything up to here.
    pub hash: String,
    /// What does not fit, in words: the first row that does not is named.
    pub problems: Vec<String>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}
