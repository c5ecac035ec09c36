//! Undo: puts back what a sweep has removed.

use super::error::PruneError;
use super::restore::{Restored, put_back, read_trash};
use super::{Ends, Options, guard};
use crate::bucket::{Body, Headers, Key, Prefix, list_all};
use crate::catalog;
use crate::nix::{PathHash, StorePath};
use crate::push::put_as_it_was;
use crate::record::{Removed, Why};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;
use ulid::Ulid;

/// One trash record, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    pub id: Ulid,
    /// By the store's clock.
    pub at: SystemTime,
    pub who: String,
    pub why: Why,
    pub paths: u64,
    pub orphans: u64,
    /// Records of loft's own that could not be read.
    pub records: u64,
}

/// What became of each path of a trash record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undone {
    pub paths: Vec<(PathHash, Restored)>,
    /// Of those whose narinfos can be understood.
    pub names: HashMap<PathHash, StorePath>,
    /// Records of loft's own that a repair had set aside, and that are back as they were.
    pub records: Vec<Key>,
}

/// What can be undone, newest first. Damaged records are left out.
pub async fn list_trash(ends: &Ends) -> Result<Vec<Trashed>, PruneError> {
    let mut found = Vec::new();
    for object in list_all(ends.bucket.as_ref(), &Prefix::trash()).await? {
        let Some(id) = object.key.id() else { continue };
        let record = match read_trash(ends, &object.key).await {
            Ok(Some(record)) => record,
            Ok(None) | Err(PruneError::Record(_)) => continue,
            Err(error) => return Err(error),
        };
        found.push(Trashed {
            id,
            at: object.modified,
            who: record.who,
            why: record.why,
            paths: record.removed.len() as u64,
            orphans: record.orphans.len() as u64,
            records: record.set_aside.len() as u64,
        });
    }
    found.sort_by_key(|trash| std::cmp::Reverse((trash.at, trash.id)));
    Ok(found)
}

/// Puts back all that the sweep `id` has removed, as far as NARs and references are there; `undone` tells what became of
/// each, also before an error.
///
/// What was set aside because it was damaged comes back byte for byte where it cannot come back sound: the user asked for
/// it.
pub async fn undo(ends: &Ends, options: &Options, id: Ulid, undone: &mut Undone) -> Result<(), PruneError> {
    let opened = guard::open(ends, options).await?;
    let Some(record) = read_trash(ends, &Key::trash(id)).await? else { return Err(PruneError::NoTrash(id)) };
    let name =
        |removed: &Removed| Some((removed.path, catalog::parse(&opened.dir, &removed.path, &removed.bytes()).ok()?));
    undone.names = record.removed.iter().filter_map(name).map(|(hash, info)| (hash, info.path)).collect();
    let external: HashSet<PathHash> = record.external.iter().copied().collect();
    let none = HashSet::new();
    put_back(ends, options, &opened, &record.removed, &external, &none, &mut undone.paths).await?;
    if record.why == Why::Damage {
        for (path, restored) in &mut undone.paths {
            let removed = record.removed.iter().find(|removed| removed.path == *path);
            if let (Restored::Failed(_), Some(removed)) = (&*restored, removed) {
                // Somebody has pushed it again, in good order.
                if ends.bucket.head(&Key::nar_info(path)).await?.is_some() {
                    *restored = Restored::Present;
                    continue;
                }
                put_as_it_was(ends.bucket.as_ref(), path, removed.bytes()).await?;
                *restored = Restored::AsItWas;
            }
        }
    }
    for object in &record.set_aside {
        let key = Key::listed(object.key.as_str());
        // Nothing but what a repair takes out.
        if let (true, Some(bytes)) = (key.is_record(), object.bytes())
            && ends.bucket.head(&key).await?.is_none()
        {
            ends.bucket.put(&key, Body::from(Bytes::from(bytes)), Headers::RECORD).await?;
            undone.records.push(key);
        }
    }
    Ok(())
}
