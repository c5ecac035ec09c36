//! From trash back into the bucket: as a push, under a lease, references first.
//!
//! The NAR is copied to a key that was never used before, since the old one may be about to be deleted; a narinfo's URL
//! is not signed, so it may change.

use super::contents::Contents;
use super::error::PruneError;
use super::guard::Opened;
use super::{Ends, Options};
use crate::bucket::{Headers, Key};
use crate::catalog;
use crate::nix::{NarInfo, NarUrl, PathHash};
use crate::push::{Lease, Lessee, republish};
use crate::record::{MAX_SIZE, Removed, TrashRecord, Why};
use crate::remedy::chain;
use std::collections::{HashMap, HashSet};
use ulid::Ulid;

/// What became of one path that was to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    Done,
    /// Somebody has pushed it again.
    Present,
    /// The reason is for users.
    Failed(String),
}

/// Reads a trash record; nothing where there is none (any more).
pub async fn read_trash(ends: &Ends, key: &Key) -> Result<Option<TrashRecord>, PruneError> {
    let Some((_, bytes)) = ends.bucket.get(key, MAX_SIZE).await? else { return Ok(None) };
    Ok(Some(TrashRecord::parse(key.as_str(), &bytes)?))
}

/// Puts `removed` back. References that are in none of `removed` must be visible, or be among `external`. What is there
/// stays, but for those of `damaged`: they are written over.
pub async fn put_back(
    ends: &Ends,
    options: &Options,
    opened: &Opened,
    removed: &[Removed],
    external: &HashSet<PathHash>,
    damaged: &HashSet<PathHash>,
) -> Result<Vec<(PathHash, Restored)>, PruneError> {
    let mut fates = Vec::with_capacity(removed.len());
    let mut infos: HashMap<PathHash, NarInfo> = HashMap::new();
    for removed in removed {
        match catalog::parse(&opened.dir, &removed.path, &removed.bytes()) {
            Ok(info) => drop(infos.insert(removed.path, info)),
            Err(error) => fates.push((removed.path, Restored::Failed(format!("its narinfo is damaged: {error}")))),
        }
    }
    let references = |info: &NarInfo| -> Vec<PathHash> {
        let all = info.references.iter().map(|reference| reference.hash_part());
        all.filter(|reference| *reference != info.path.hash_part()).collect()
    };
    let relied_on: HashSet<PathHash> =
        infos.iter().flat_map(|(hash, info)| [vec![*hash], references(info)]).flatten().collect();
    let lessee = Lessee {
        bucket: ends.bucket.clone(),
        clock: ends.clock.clone(),
        report: ends.report.clone(),
        who: options.who.clone(),
        interrupt: options.interrupt.clone(),
    };
    let lease = Lease::take(&lessee, &relied_on).await?;
    let mut restoration = Restoration { ends, opened, lease: &lease, external, damaged, present: HashMap::new() };
    let result = async {
        for hash in references_first(&infos, &references) {
            if options.interrupt.is_raised() {
                return Err(PruneError::Interrupted);
            }
            let fate = restoration.put_back(&infos[&hash], &references(&infos[&hash])).await?;
            fates.push((hash, fate));
        }
        Ok(())
    }
    .await;
    lease.release().await;
    result.map(|()| fates)
}

/// `missed` and what they refer to, near and far, from whichever trash records have it: the newest word of each. With
/// them, references that were nowhere when they were removed. What was set aside as damaged stays there.
pub async fn from_all_trash(
    ends: &Ends,
    contents: &Contents,
    missed: &HashSet<PathHash>,
) -> Result<(Vec<Removed>, HashSet<PathHash>), PruneError> {
    let is_visible = |hash: &PathHash| contents.graph.find(hash).is_some_and(|id| contents.graph.is_visible(id));
    let mut found: HashMap<PathHash, Removed> = HashMap::new();
    let mut external: HashSet<PathHash> = HashSet::new();
    let mut open = missed.clone();
    // What one record has may refer to what a newer one has: until a round over all of them finds nothing more.
    let mut before = None;
    while before != Some(found.len()) {
        before = Some(found.len());
        for trash in contents.trash.iter().rev() {
            if open.is_empty() {
                break;
            }
            let Some(record) = read_trash(ends, &trash.key).await?.filter(|record| record.why == Why::Retention) else {
                continue;
            };
            external.extend(&record.external);
            for removed in with_references(&contents.opened, &record, &open) {
                if let Ok(info) = catalog::parse(&contents.opened.dir, &removed.path, &removed.bytes()) {
                    open.extend(info.references.iter().map(|reference| reference.hash_part()));
                }
                found.entry(removed.path).or_insert(removed);
            }
            open.retain(|hash| !found.contains_key(hash) && !is_visible(hash));
        }
    }
    external.retain(|hash| !found.contains_key(hash));
    Ok((found.into_values().collect(), external))
}

/// `missed` and what they refer to, near and far, as far as this trash record has it.
pub fn with_references<'m>(
    opened: &Opened,
    record: &TrashRecord,
    missed: impl IntoIterator<Item = &'m PathHash>,
) -> Vec<Removed> {
    let by_path: HashMap<PathHash, &Removed> = record.removed.iter().map(|removed| (removed.path, removed)).collect();
    let mut wanted: HashSet<PathHash> = HashSet::new();
    let mut stack: Vec<PathHash> = missed.into_iter().copied().collect();
    let mut found = Vec::new();
    while let Some(hash) = stack.pop() {
        let Some(removed) = by_path.get(&hash).filter(|_| wanted.insert(hash)) else { continue };
        if let Ok(info) = catalog::parse(&opened.dir, &hash, &removed.bytes()) {
            stack.extend(info.references.iter().map(|reference| reference.hash_part()));
        }
        found.push((*removed).clone());
    }
    found
}

struct Restoration<'a> {
    ends: &'a Ends,
    opened: &'a Opened,
    lease: &'a Lease,
    external: &'a HashSet<PathHash>,
    damaged: &'a HashSet<PathHash>,
    /// Looked at under the lease.
    present: HashMap<PathHash, bool>,
}

impl Restoration<'_> {
    async fn put_back(&mut self, info: &NarInfo, references: &[PathHash]) -> Result<Restored, PruneError> {
        let hash = info.path.hash_part();
        if !self.damaged.contains(&hash) && self.is_present(&hash).await? {
            return Ok(Restored::Present);
        }
        for reference in references {
            if !self.external.contains(reference) && !self.is_present(reference).await? {
                return Ok(Restored::Failed(format!("it refers to {reference}, which is not in the cache")));
            }
        }
        let bucket = self.ends.bucket.as_ref();
        let id = Ulid::from_datetime(self.ends.clock.wall());
        let url = NarUrl::fresh(&info.nar_hash, id, info.compression);
        if let (Some(size), Some(stored)) = (info.file_size, bucket.head(&Key::nar(&info.url)).await?)
            && size != stored.size
        {
            return Ok(Restored::Failed(format!("its NAR has {} bytes, not {size}", stored.size)));
        }
        if !bucket.copy(&Key::nar(&info.url), &Key::nar(&url), Headers::NAR).await? {
            return Ok(Restored::Failed("its NAR is gone".to_owned()));
        }
        let back = NarInfo { url, ..info.clone() };
        if let Err(error) = republish(bucket, self.lease, &self.opened.dir, &back).await {
            return Ok(Restored::Failed(chain(&error)));
        }
        // P7: nothing is claimed before it is seen again.
        let seen = bucket.head(&Key::nar_info(&hash)).await?.is_some();
        self.present.insert(hash, seen);
        Ok(if seen { Restored::Done } else { Restored::Failed("something else has removed it at once".to_owned()) })
    }

    async fn is_present(&mut self, hash: &PathHash) -> Result<bool, PruneError> {
        if let Some(present) = self.present.get(hash) {
            return Ok(*present);
        }
        let present = self.ends.bucket.head(&Key::nar_info(hash)).await?.is_some();
        self.present.insert(*hash, present);
        Ok(present)
    }
}

/// Depth first; a cycle, which no store has, comes in any order and fails at its first path.
fn references_first(
    infos: &HashMap<PathHash, NarInfo>,
    references: &impl Fn(&NarInfo) -> Vec<PathHash>,
) -> Vec<PathHash> {
    let mut order = Vec::with_capacity(infos.len());
    let mut begun: HashSet<PathHash> = HashSet::new();
    let mut all: Vec<&PathHash> = infos.keys().collect();
    all.sort_unstable();
    for start in all {
        let mut stack = vec![(*start, false)];
        while let Some((hash, is_done)) = stack.pop() {
            let Some(info) = infos.get(&hash) else { continue };
            if is_done {
                order.push(hash);
            } else if begun.insert(hash) {
                stack.push((hash, true));
                stack.extend(references(info).into_iter().map(|reference| (reference, false)));
            }
        }
    }
    order
}
