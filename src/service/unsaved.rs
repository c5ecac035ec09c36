//! What was noticed while the ledger could not take it: pushed from memory, and queued as soon as that works.
//!
//! The place in the store does not move on before that, so whatever happens to this process they are noticed again.

use crate::nix::StorePath;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Paths that are in no queue yet.
#[derive(Debug, Default)]
pub struct Unsaved {
    /// With the time before which each is not tried; nothing for those that have landed.
    paths: BTreeMap<StorePath, Option<Instant>>,
}

impl Unsaved {
    /// Whether any of `paths` was not known before.
    pub fn add(&mut self, paths: &[StorePath]) -> bool {
        let known = self.paths.len();
        let now = Instant::now();
        for path in paths {
            self.paths.entry(path.clone()).or_insert(Some(now));
        }
        self.paths.len() > known
    }

    /// The ledger has them all.
    pub fn clear(&mut self) {
        self.paths.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Those that have not landed.
    pub fn waiting(&self) -> Vec<StorePath> {
        self.paths.iter().filter(|(_, at)| at.is_some()).map(|(path, _)| path.clone()).collect()
    }

    /// Those that may be tried now.
    pub fn due(&self) -> Vec<StorePath> {
        let now = Instant::now();
        self.paths.iter().filter(|(_, at)| at.is_some_and(|at| at <= now)).map(|(path, _)| path.clone()).collect()
    }

    /// When the next may be tried.
    pub fn next_due(&self) -> Option<Instant> {
        self.paths.values().copied().flatten().min()
    }

    pub fn landed(&mut self, path: &StorePath) {
        if let Some(at) = self.paths.get_mut(path) {
            *at = None;
        }
    }

    pub fn postpone(&mut self, path: &StorePath, until: Instant) {
        if let Some(at) = self.paths.get_mut(path) {
            *at = Some(until);
        }
    }
}
