//! The hashes: SHA-256 over the hash before and the row in its canonical form, a JSON array in a fixed order.

use super::{Entry, MISMATCH, TRIMMED};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// A SHA-256, in hexadecimal where it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a hash is 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// What the row about a removal of the oldest rows tells: what the first of the rest follows on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// The last row that was removed.
    pub through: i64,
    /// Its hash.
    pub hash: Digest,
}

/// Where a chain does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The row's hash is not that of its contents and of the hash before it.
    #[error("row {0} does not fit: it was changed, or the rows around it were")]
    Changed(i64),
    /// A row is not there.
    #[error("row {expected} is missing: after it comes row {found}")]
    Missing {
        /// The number that should come.
        expected: i64,
        /// The one that came.
        found: i64,
    },
    /// Rows are not there at the beginning, and no row says that they were removed.
    #[error("the rows up to {0} are missing at the beginning, and the audit does not say that clauded removed them")]
    Beheaded(i64),
    /// The head that is kept apart is of a later row than the last one, or of another row with its number.
    #[error("row {0} is not as it was: the head that is kept beside the store names another hash for it, or the end was cut off")]
    Head(i64),
    /// A row tells of a head that did not fit when clauded started.
    #[error("row {0} tells that the audit was changed, or put back to an older state, before clauded was started then")]
    Mismatch(i64),
}

/// A place in the chain: the last row so far, and its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The row's number; 0 before the first.
    pub seq: i64,
    /// Its hash; zeros before the first.
    pub hash: Digest,
}

impl Chain {
    /// Adds a row; answers its number and hash.
    pub fn add(&mut self, entry: &Entry) -> Self {
        let mut sha = sha2::Sha256::new();
        sha.update(self.hash.0);
        self.seq = self.seq.saturating_add(1);
        // Of plain fields: it cannot fail, and a row that hashed to nothing would be found.
        sha.update(serde_json::to_vec(&(self.seq, entry)).unwrap_or_default());
        self.hash = Digest(sha.finalize().into());
        *self
    }

    /// Goes on to the next row as it is stored.
    ///
    /// # Errors
    /// It does not follow on this one.
    pub fn follow(&mut self, seq: i64, entry: &Entry, hash: Digest) -> Result<(), Broken> {
        let mut next = *self;
        let expected = next.add(entry);
        if seq != expected.seq {
            return Err(Broken::Missing { expected: expected.seq, found: seq });
        }
        if hash != expected.hash {
            return Err(Broken::Changed(seq));
        }
        *self = next;
        if entry.what == MISMATCH { Err(Broken::Mismatch(seq)) } else { Ok(()) }
    }
}

impl Entry {
    /// What it tells of a removal, if it tells of one.
    pub fn trimmed(&self) -> Option<Trimmed> {
        (self.what == TRIMMED).then(|| serde_json::from_str(&self.details).ok()).flatten()
    }
}
