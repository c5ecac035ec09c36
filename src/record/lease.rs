use super::{FORMAT, RecordError, parse_compressed, print_compressed};
use crate::nix::PathHash;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a lease protects after its last PUT, by the store's own clock.
pub const LEASE_TTL: Duration = Duration::from_secs(60 * 60);

/// `loft/v1/lease/<ulid>`: a push in progress names every path that it writes or relies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    format: u32,
    /// For people: who pushes, for example `root@builder`.
    pub who: String,
    /// Seconds since 1970, by the pusher's clock; prune goes by the object's own stamp.
    pub since: u64,
    pub ttl_seconds: u64,
    pub paths: Vec<PathHash>,
}

impl LeaseRecord {
    pub fn new(who: String, since: u64, paths: Vec<PathHash>) -> Self {
        Self { format: FORMAT, who, since, ttl_seconds: LEASE_TTL.as_secs(), paths }
    }

    pub fn print(&self) -> Vec<u8> {
        print_compressed(self)
    }

    pub fn parse(object: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        parse_compressed(object, bytes)
    }
}
