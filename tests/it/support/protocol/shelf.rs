//! A store whose registrations are known beforehand: thousands of runs share it, and none asks SQLite.

use crate::support::fixture_store::FixtureStore;
use loft::nix::{PathInfo, StorePath};
use loft::store::{Location, Protection, Store, StoreError};
use std::collections::HashMap;
use std::sync::Arc;

pub struct Shelf {
    location: Location,
    infos: HashMap<StorePath, PathInfo>,
    /// The files.
    _store: FixtureStore,
}

impl Shelf {
    /// Reads `paths` of `store` once.
    pub fn new(store: FixtureStore, paths: &[StorePath]) -> Arc<Self> {
        let opened = loft::store::open(&store.settings()).unwrap();
        let infos = opened.path_infos(paths).unwrap().into_iter().flatten();
        let infos = infos.map(|info| (info.path.clone(), info)).collect();
        Arc::new(Self { location: opened.location().clone(), infos, _store: store })
    }

    /// `roots` and all that they refer to.
    pub fn closure(&self, roots: &[StorePath]) -> Vec<StorePath> {
        let mut found: Vec<StorePath> = Vec::new();
        let mut stack = roots.to_vec();
        while let Some(path) = stack.pop() {
            if !found.contains(&path) {
                stack.extend(self.infos[&path].references.iter().cloned());
                found.push(path);
            }
        }
        found
    }
}

impl Store for Shelf {
    fn location(&self) -> &Location {
        &self.location
    }

    fn describe(&self) -> String {
        "a store of the test".to_owned()
    }

    fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError> {
        Ok(paths.iter().map(|path| self.infos.get(path).cloned()).collect())
    }

    fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        Ok(self.infos.keys().cloned().collect())
    }

    fn protect(&self, _: &StorePath) -> Result<Protection, StoreError> {
        Ok(Protection::Held)
    }
}
