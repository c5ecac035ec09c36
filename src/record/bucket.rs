use super::{FORMAT, RecordError, parse, print};
use serde::{Deserialize, Serialize};

/// `loft/v1/bucket.json`: written once, when a bucket is first used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRecord {
    format: u32,
    /// Tells this bucket from one of the same name that was made anew, so that ledgers do not lie.
    pub generation: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Keys and URLs of caches that clients use beside this one: references found there may be absent here.
    #[serde(default)]
    pub upstreams: Vec<String>,
}

impl BucketRecord {
    pub fn new(generation: String, created: u64, upstreams: Vec<String>) -> Self {
        Self { format: FORMAT, generation, created, upstreams }
    }

    pub fn print(&self) -> Vec<u8> {
        print(self)
    }

    pub fn parse(object: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        parse(object, bytes)
    }
}
