//! Local memory of what a bucket holds: saves requests, never decides correctness.
//!
//! It may be deleted at any time. A ledger that is corrupt, read-only or locked is "knows nothing".

use crate::nix::PathHash;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Rows older than this are asked for again.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Which bucket rows are about: its URL and the generation id in `loft/v1/bucket.json`, so that a
/// bucket that was emptied and made anew is not taken for the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketIdentity {
    pub url: String,
    pub generation: String,
}

pub struct Ledger {}

impl Ledger {
    /// Never fails: what is wrong is told by `trouble`, and the ledger then knows nothing and keeps nothing.
    pub fn open(_file: &Path) -> Self {
        todo!()
    }
    /// A ledger that lives in memory alone.
    pub fn in_memory() -> Self {
        todo!()
    }
    /// Why the ledger does not remember, if so: one sentence naming the file.
    pub fn trouble(&self) -> Option<String> {
        todo!()
    }
    /// Which of `hashes` are in the bucket, as seen less than `MAX_AGE` before `now`.
    pub fn known(&self, _bucket: &BucketIdentity, _hashes: &[PathHash], _now: SystemTime) -> HashSet<PathHash> {
        todo!()
    }
    /// Remembers that the narinfos of `hashes` were seen in the bucket at `now` (published, headed or listed).
    pub fn remember(&self, _bucket: &BucketIdentity, _hashes: &[PathHash], _now: SystemTime) {
        todo!()
    }
    /// Forgets rows that turned out wrong.
    pub fn forget(&self, _bucket: &BucketIdentity, _hashes: &[PathHash]) {
        todo!()
    }
    /// Number of narinfos that the last full listing of the bucket showed (for choosing HEADs or a listing).
    pub fn bucket_size(&self, _bucket: &BucketIdentity) -> Option<u64> {
        todo!()
    }
    /// Replaces all rows of the bucket by a full listing's.
    pub fn replace(&self, _bucket: &BucketIdentity, _hashes: &[PathHash], _now: SystemTime) {
        todo!()
    }
    /// Empties the file; this one can fail, since the user asked for it.
    pub fn clear(&self) -> Result<(), LedgerError> {
        todo!()
    }
    /// Number of rows, over all buckets.
    pub fn len(&self) -> u64 {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug, thiserror::Error)]
#[error("Could not {doing} the ledger {file}")]
pub struct LedgerError {
    pub doing: &'static str,
    pub file: String,
    #[source]
    pub cause: rusqlite::Error,
}
