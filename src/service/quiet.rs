//! Whether the store's database was written to: an idle service does not open it every few seconds.

use crate::store::{Stamp, Store};
use std::time::Duration;
use tokio::time::Instant;

/// File systems tell times this coarsely, at worst.
const COARSE: Duration = Duration::from_secs(3);

/// Whether a look can bring anything. It is the net below the events, so it trusts nothing but the files.
#[derive(Debug, Default)]
pub struct Quiet {
    /// What the database's files were like, and since when that was seen.
    stamp: Option<(Stamp, Instant)>,
    /// A look began so long after that, that whatever changes the files now changes the stamp.
    is_settled: bool,
}

impl Quiet {
    /// Whether nothing was written since the last look but one. To be asked before each look.
    pub fn is_unchanged(&mut self, store: Option<&dyn Store>, lists_all: bool) -> bool {
        // A daemon's list has other sources.
        let found = store.filter(|_| !lists_all).and_then(Store::stamp);
        match (&self.stamp, found) {
            (Some((known, since)), Some(found)) if *known == found => {
                let is_unchanged = self.is_settled;
                self.is_settled = since.elapsed() >= COARSE;
                is_unchanged
            }
            (_, found) => {
                *self = Self { stamp: found.map(|stamp| (stamp, Instant::now())), is_settled: false };
                false
            }
        }
    }
}
