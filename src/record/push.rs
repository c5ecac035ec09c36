use super::{FORMAT, RecordError, parse, print};
use crate::nix::StorePath;
use serde::{Deserialize, Serialize};

/// `loft/v1/push/<ulid>`: what was pushed when; a garbage collection root with an age. Never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRecord {
    format: u32,
    pub who: String,
    /// Version of the loft that wrote it.
    pub loft: String,
    /// Seconds since 1970, by the pusher's clock; prune goes by the object's own stamp.
    pub at: u64,
    /// Roots of this push whose narinfos are visible.
    pub roots: Vec<StorePath>,
    /// References of pushed paths that were left to upstream caches.
    #[serde(default)]
    pub external: Vec<StorePath>,
    /// Paths that this push wrote.
    pub pushed: u64,
    /// Paths of its closure that were there.
    pub present: u64,
}

impl PushRecord {
    pub fn new(
        who: String,
        at: u64,
        roots: Vec<StorePath>,
        external: Vec<StorePath>,
        pushed: u64,
        present: u64,
    ) -> Self {
        Self { format: FORMAT, who, loft: env!("CARGO_PKG_VERSION").to_owned(), at, roots, external, pushed, present }
    }

    pub fn print(&self) -> Vec<u8> {
        print(self)
    }

    pub fn parse(object: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        parse(object, bytes)
    }
}
