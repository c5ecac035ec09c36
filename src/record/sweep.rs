use super::{FORMAT, RecordError, parse_compressed, print_compressed};
use crate::nix::PathHash;
use serde::{Deserialize, Serialize};

/// `loft/v1/sweep/<ulid>`: a prune in progress names every path that it may delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRecord {
    format: u32,
    pub who: String,
    /// The prune sends no delete later than this many seconds after the record's own stamp.
    pub deadline_seconds: u64,
    pub condemned: Vec<PathHash>,
}

impl SweepRecord {
    pub fn new(who: String, deadline_seconds: u64, condemned: Vec<PathHash>) -> Self {
        Self { format: FORMAT, who, deadline_seconds, condemned }
    }

    pub fn print(&self) -> Vec<u8> {
        print_compressed(self)
    }

    pub fn parse(object: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        parse_compressed(object, bytes)
    }
}
