//! What can go wrong in SQLite, sorted into what a person can do about it.

use crate::platform::store::StoreError;
use std::path::Path;

/// Primary result codes (sqlite.org/rescode.html); the low byte of an extended code.
const FULL: i32 = 13;
const CORRUPT: i32 = 11;
const NOT_A_DATABASE: i32 = 26;
/// `SQLITE_IOERR_SHMSIZE`: the index of the write-ahead log cannot grow, for which a full disk is the only cause known.
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// A failure that does not name the file yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// SQLite, or the pool of connections to it.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// A row holds what this program never writes.
    #[error("{0}")]
    Row(String),
    /// The batch does not fit what is stored.
    #[error("{0}")]
    Refused(String),
}

impl Fault {
    pub(super) fn at(self, path: &Path, verb: &'static str) -> StoreError {
        let path = path.to_owned();
        let detail = self.to_string();
        let code = match &self {
            Self::Sql(sqlx::Error::Database(error)) => error.code().and_then(|code| code.parse::<i32>().ok()),
            Self::Sql(sqlx::Error::ColumnDecode { .. }) | Self::Row(_) => Some(CORRUPT),
            Self::Sql(_) | Self::Refused(_) => None,
        };
        match code {
            Some(IOERR_SHMSIZE) => StoreError::Full { path },
            Some(code) if code & 0xff == FULL => StoreError::Full { path },
            Some(code) if matches!(code & 0xff, CORRUPT | NOT_A_DATABASE) => StoreError::Damaged { path, detail },
            _ => StoreError::Other { path, verb, detail },
        }
    }
}
