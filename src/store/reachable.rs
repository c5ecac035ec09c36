//! A closure inside the database: by row ids, in one snapshot.
//!
//! Row ids are integers and each path's text is read once, so this is several times quicker than asking
//! `path_infos` level by level, and a collection in between cannot tear the graph.

use super::StoreError;
use super::database::Database;
use super::row::{self, RowError};
use crate::nix::{PathInfo, StorePath};
use rusqlite::OptionalExtension as _;
use std::collections::HashMap;

impl Database {
    /// As `Store::reachable`.
    pub fn reachable(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        let by_id = format!("select {} from ValidPaths where id = ?", row::COLUMNS);
        self.read(|db| {
            let mut id_of = db.prepare("select id from ValidPaths where path = ?")?;
            let mut by_id = db.prepare(&by_id)?;
            let mut references_of = db.prepare("select reference from Refs where referrer = ?")?;
            let _snapshot = db.unchecked_transaction()?;

            let mut walk = Walk::default();
            for root in roots {
                let id: Option<i64> = id_of.query_row([self.dir().join(root)], |row| row.get(0)).optional()?;
                let not_valid = || StoreError::NotValid { path: root.clone(), referrer: None };
                walk.meet(id.ok_or_else(|| RowError::Store(not_valid()))?, None);
            }
            while let Some((id, referrer)) = walk.ids.get(walk.infos.len()).copied() {
                let mut rows = by_id.query([id])?;
                let Some(found) = rows.next()? else { return Err(walk.dangling(id, referrer)) };
                walk.infos.push(row::read(self.dir(), found)?.1);
                let mut rows = references_of.query([id])?;
                while let Some(found) = rows.next()? {
                    walk.refer(found.get(0)?);
                }
            }
            Ok(walk.finish())
        })
    }
}

/// Breadth first: the queue is the tail of `ids` that has no info yet.
#[derive(Default)]
struct Walk {
    positions: HashMap<i64, usize>,
    /// A row, and the position of the path that led to it.
    ids: Vec<(i64, Option<usize>)>,
    infos: Vec<PathInfo>,
    /// (referrer, reference) as positions.
    edges: Vec<(usize, usize)>,
}

impl Walk {
    fn meet(&mut self, id: i64, referrer: Option<usize>) -> usize {
        let ids = &mut self.ids;
        *self.positions.entry(id).or_insert_with(|| {
            ids.push((id, referrer));
            ids.len() - 1
        })
    }

    /// The path that was pushed last refers to `id`.
    fn refer(&mut self, id: i64) {
        let referrer = self.infos.len().saturating_sub(1);
        let reference = self.meet(id, Some(referrer));
        self.edges.push((referrer, reference));
    }

    fn dangling(&self, id: i64, referrer: Option<usize>) -> RowError {
        let path = referrer.and_then(|position| self.infos.get(position)).map(|info| info.path.to_string());
        RowError::Store(StoreError::Damaged {
            table: "Refs",
            row: referrer.and_then(|position| self.ids.get(position)).map_or(id, |(id, _)| *id),
            path: path.unwrap_or_default(),
            what: format!("reference to row {id} of ValidPaths, which does not exist"),
        })
    }

    fn finish(mut self) -> Vec<PathInfo> {
        for (referrer, reference) in self.edges {
            let path = self.infos[reference].path.clone();
            self.infos[referrer].references.push(path);
        }
        for info in &mut self.infos {
            info.references.sort_unstable();
        }
        self.infos
    }
}
