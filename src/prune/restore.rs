//! From trash back into the bucket: as a push, under a lease, references first.
//!
//! The NAR is copied to a key that was never used before, since the old one may be about to be deleted; a narinfo's URL
//! is not signed, so it may change.

use super::contents::Contents;
use super::error::PruneError;
use super::extras;
use super::guard::Opened;
use super::{Ends, Options};
use crate::bucket::{BucketError, Headers, Key};
use crate::catalog::{self, Reader};
use crate::nix::{NarInfo, NarUrl, PathHash};
use crate::push::{Lease, Lessee, republish};
use crate::record::{MAX_SIZE, Removed, TrashRecord, Why};
use crate::remedy::chain;
use crate::report::Event;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use ulid::Ulid;

/// Paths at once.
const PARALLEL: usize = 32;

/// What became of one path that was to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    Done,
    /// Byte for byte, damaged as it was.
    AsItWas,
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
/// stays, but for those of `damaged`: they are written over. What becomes of each is added to `fates`, also before an error.
pub async fn put_back(
    ends: &Ends,
    options: &Options,
    opened: &Opened,
    removed: &[Removed],
    external: &HashSet<PathHash>,
    damaged: &HashSet<PathHash>,
    fates: &mut Vec<(PathHash, Restored)>,
) -> Result<(), PruneError> {
    let mut infos: HashMap<PathHash, NarInfo> = HashMap::new();
    for removed in removed {
        match catalog::parse(&opened.dir, &removed.path, &removed.bytes()) {
            Ok(info) => drop(infos.insert(removed.path, info)),
            Err(error) => fates.push((removed.path, Restored::Failed(format!("its narinfo is damaged: {error}")))),
        }
    }
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
    let restoration = Restoration { ends, opened, lease: &lease, external, damaged, moved: Mutex::default() };
    let result = restoration.run(&infos, options, fates).await;
    restoration.take_links_along().await;
    lease.release().await;
    result
}

fn references(info: &NarInfo) -> Vec<PathHash> {
    let all = info.references.iter().map(|reference| reference.hash_part());
    all.filter(|reference| *reference != info.path.hash_part()).collect()
}

/// What trash has of paths that are missed.
#[derive(Default)]
pub struct Found {
    pub removed: HashMap<PathHash, Removed>,
    /// References that were nowhere when they were removed.
    pub external: HashSet<PathHash>,
    /// The records that had them.
    pub records: HashSet<Key>,
}

/// `missed` and what they refer to, near and far, from whichever trash records have it: the newest word of each. What was
/// set aside as damaged stays there.
pub async fn from_all_trash(ends: &Ends, contents: &Contents, missed: &HashSet<PathHash>) -> Result<Found, PruneError> {
    let is_visible = |hash: &PathHash| contents.graph.find(hash).is_some_and(|id| contents.graph.is_visible(id));
    let Found { removed: mut found, mut external, mut records } = Found::default();
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
                records.insert(trash.key.clone());
                found.entry(removed.path).or_insert(removed);
            }
            open.retain(|hash| !found.contains_key(hash) && !is_visible(hash));
        }
    }
    external.retain(|hash| !found.contains_key(hash));
    Ok(Found { removed: found, external, records })
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
    /// NARs of what came back, and their copies.
    moved: Mutex<HashMap<NarUrl, NarUrl>>,
}

impl Restoration<'_> {
    /// Links to debug information name the copies from now on. Where that fails, the next prune does it, as long as it can
    /// tell by a NAR's name what is in it.
    async fn take_links_along(&self) {
        let moved = std::mem::take(&mut *self.moved.lock().unwrap_or_else(PoisonError::into_inner));
        if moved.is_empty() {
            return;
        }
        let reader = Reader::new(self.ends.bucket.clone(), self.ends.ledger.clone(), self.opened.identity.clone());
        if let Err(error) = extras::follow(self.ends, &reader, &moved).await {
            let message = format!("Links to debug information may name NARs that are about to go: {}", chain(&error));
            self.ends.report.event(Event::Warning { message: &message });
        }
    }

    /// Layer by layer, many at once: in the first are those that refer to none of the others.
    async fn run(
        &self,
        infos: &HashMap<PathHash, NarInfo>,
        options: &Options,
        fates: &mut Vec<(PathHash, Restored)>,
    ) -> Result<(), PruneError> {
        // Looked at under the lease.
        let mut present: HashMap<PathHash, bool> = HashMap::new();
        for layer in layers(infos) {
            let unknown: HashSet<PathHash> = layer
                .iter()
                .flat_map(|hash| references(&infos[hash]))
                .filter(|hash| !present.contains_key(hash))
                .collect();
            let mut looks = stream::iter(unknown)
                .map(|hash| async move { Ok::<_, BucketError>((hash, self.is_present(&hash).await?)) })
                .buffer_unordered(PARALLEL);
            while let Some((hash, is_there)) = looks.try_next().await? {
                present.insert(hash, is_there);
            }
            let known = &present;
            let mut back = stream::iter(layer)
                .map(|hash| async move {
                    if options.interrupt.is_raised() {
                        return Err(PruneError::Interrupted);
                    }
                    Ok((hash, self.put_back(&infos[&hash], known).await?))
                })
                .buffer_unordered(PARALLEL);
            let (mut done, mut stopped) = (Vec::new(), None);
            // What is under way is waited for, whatever becomes of the others.
            while let Some(fate) = back.next().await {
                match fate {
                    Ok(fate) => done.push(fate),
                    Err(error) => stopped = stopped.or(Some(error)),
                }
            }
            drop(back);
            present.extend(done.iter().map(|(hash, fate)| (*hash, !matches!(fate, Restored::Failed(_)))));
            fates.append(&mut done);
            self.ends.report.event(Event::Looked { what: "paths to put back", count: fates.len() as u64 });
            if let Some(error) = stopped {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn put_back(&self, info: &NarInfo, present: &HashMap<PathHash, bool>) -> Result<Restored, PruneError> {
        let hash = info.path.hash_part();
        if !self.damaged.contains(&hash) && self.is_present(&hash).await? {
            return Ok(Restored::Present);
        }
        for reference in references(info) {
            if !self.external.contains(&reference) && present.get(&reference) != Some(&true) {
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
        let back = NarInfo { url: url.clone(), ..info.clone() };
        if let Err(error) = republish(bucket, self.lease, &self.opened.dir, &back).await {
            return Ok(Restored::Failed(chain(&error)));
        }
        // P7: nothing is claimed before it is seen again.
        Ok(match self.is_present(&hash).await? {
            true => {
                self.moved.lock().unwrap_or_else(PoisonError::into_inner).insert(info.url.clone(), url);
                Restored::Done
            }
            false => Restored::Failed("something else has removed it at once".to_owned()),
        })
    }

    async fn is_present(&self, hash: &PathHash) -> Result<bool, BucketError> {
        Ok(self.ends.bucket.head(&Key::nar_info(hash)).await?.is_some())
    }
}

/// Each after the layers of all that it refers to, as far as that is among `infos`. A cycle, which no store has, is a last
/// layer of its own, whose paths fail for want of each other.
fn layers(infos: &HashMap<PathHash, NarInfo>) -> Vec<Vec<PathHash>> {
    let mut waits_for: HashMap<PathHash, usize> = HashMap::new();
    let mut referrers: HashMap<PathHash, Vec<PathHash>> = HashMap::new();
    for (hash, info) in infos {
        let among: Vec<PathHash> = references(info).into_iter().filter(|hash| infos.contains_key(hash)).collect();
        waits_for.insert(*hash, among.len());
        among.into_iter().for_each(|reference| referrers.entry(reference).or_default().push(*hash));
    }
    let mut layers = Vec::new();
    let mut layer: Vec<PathHash> = waits_for.iter().filter(|(_, count)| **count == 0).map(|(hash, _)| *hash).collect();
    while !layer.is_empty() {
        let mut next = Vec::new();
        for hash in &layer {
            waits_for.remove(hash);
            for referrer in referrers.remove(hash).unwrap_or_default() {
                if let Some(count) = waits_for.get_mut(&referrer) {
                    *count -= 1;
                    if *count == 0 {
                        next.push(referrer);
                    }
                }
            }
        }
        layer.sort_unstable();
        layers.push(std::mem::replace(&mut layer, next));
    }
    if !waits_for.is_empty() {
        layers.push(waits_for.into_keys().collect());
    }
    layers
}
