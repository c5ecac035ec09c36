use super::{FORMAT, RecordError, parse, print};
use crate::nix::StorePath;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `loft/v1/pin/<name>/<ulid>`: roots under a name, kept by a rule rather than by their age alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    format: u32,
    pub who: String,
    /// Seconds since 1970.
    pub at: u64,
    pub roots: Vec<StorePath>,
    pub keep: Keep,
}

/// How long a pin holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    Forever,
    Days(u32),
    /// While it is among the newest of its name.
    Last(u32),
}

impl Keep {
    /// Whether a pin of this age still keeps its roots, where `newer` ones have the same name.
    pub fn holds(self, age: Duration, newer: usize) -> bool {
        match self {
            Self::Forever => true,
            Self::Days(days) => age < Duration::from_secs(u64::from(days) * 24 * 60 * 60),
            Self::Last(count) => newer < count as usize,
        }
    }
}

impl PinRecord {
    pub fn new(who: String, at: u64, roots: Vec<StorePath>, keep: Keep) -> Self {
        Self { format: FORMAT, who, at, roots, keep }
    }

    pub fn print(&self) -> Vec<u8> {
        print(self)
    }

    pub fn parse(object: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        parse(object, bytes)
    }
}
