//! F3: whether everything that a narinfo refers to is there, or said to come from upstream.
//!
//! A reference that is absent is explained where a push record names it as `external`, or while its referrer's push goes
//! on. A referrer below the root of a push record that is still there was pushed with that record: it would name the
//! reference. Where no record speaks for the referrer any more (they expire) and clients use other caches as well,
//! nobody can tell; that is a note.

use super::finding::{Finding, Kind};
use super::nars::{PARALLEL, narinfo};
use super::records::Records;
use super::{Check, CheckError};
use crate::bucket::{Key, Kind as Object, nar_info_pages};
use crate::nix::{NarInfo, PathHash, StorePath};
use crate::prune::graph::Id;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{HashMap, HashSet};

/// More looks at single objects than this cost more than another listing.
const FEW: usize = 500;

/// A reference that is not there.
struct Absent {
    /// The first that refers to it.
    referrer: Id,
    referrers: u32,
    /// Some record speaks for a referrer.
    is_recorded: bool,
}

pub async fn look(check: &mut Check<'_>, records: &Records) -> Result<(), CheckError> {
    let absent = find(check, records);
    if absent.is_empty() {
        return Ok(());
    }
    let graph = &check.tables.graph;
    let still = check.still_absent(absent.keys().map(|id| graph.hash(*id)).collect()).await?;
    let mut by_referrer: HashMap<Id, Vec<(PathHash, Absent)>> = HashMap::new();
    for (id, absent) in absent {
        let hash = check.tables.graph.hash(id);
        if still.contains(&hash) {
            by_referrer.entry(absent.referrer).or_default().push((hash, absent));
        }
    }
    let (bucket, dir) = (check.ends.bucket.clone(), check.opened.dir.clone());
    let graph = &check.tables.graph;
    let by_referrer: Vec<(PathHash, Vec<(PathHash, Absent)>)> =
        by_referrer.into_iter().map(|(id, absent)| (graph.hash(id), absent)).collect();
    let mut named = stream::iter(by_referrer)
        .map(|(referrer, absent)| {
            let (bucket, dir) = (bucket.clone(), dir.clone());
            async move {
                let found = narinfo(bucket.as_ref(), &dir, &referrer).await?;
                Ok::<_, CheckError>((found.map(|(_, info)| info), absent))
            }
        })
        .buffer_unordered(PARALLEL);
    while let Some((referrer, absent)) = named.try_next().await? {
        let references = referrer.iter().flat_map(|info| &info.references);
        let names: HashMap<PathHash, &StorePath> =
            references.map(|reference| (reference.hash_part(), reference)).collect();
        for (hash, absent) in absent {
            tell(check, &hash, absent, referrer.as_ref(), names.get(&hash).copied());
        }
    }
    Ok(())
}

fn find(check: &Check<'_>, records: &Records) -> HashMap<Id, Absent> {
    let graph = &check.tables.graph;
    let recorded = graph.reach(records.roots.iter().filter_map(|root| graph.find(root)));
    let leased: HashSet<Id> = records.leased.iter().filter_map(|hash| graph.find(hash)).collect();
    let mut absent: HashMap<Id, Absent> = HashMap::new();
    for referrer in graph.visible().filter(|id| !graph.is_damaged(*id) && !leased.contains(id)) {
        for reference in graph.references(referrer).iter().filter(|reference| !graph.is_visible(**reference)) {
            if records.external.contains(&graph.hash(*reference)) {
                continue;
            }
            let entry = absent.entry(*reference);
            let absent = entry.or_insert(Absent { referrer, referrers: 0, is_recorded: false });
            absent.referrers += 1;
            absent.is_recorded |= recorded.has(referrer);
        }
    }
    absent
}

fn tell(check: &mut Check<'_>, hash: &PathHash, absent: Absent, referrer: Option<&NarInfo>, path: Option<&StorePath>) {
    if referrer.is_none() && absent.referrers == 1 {
        // It has gone as well.
        return;
    }
    let by = referrer.map_or_else(String::new, |info| format!(" {}", info.path));
    let problem = match absent.referrers {
        1 => format!("it is not there, and{by} refers to it"),
        count => format!("it is not there, and {count} paths refer to it, among them{by}"),
    };
    let is_damage = absent.is_recorded || check.opened.upstreams.is_empty();
    let kind = if is_damage { Kind::ReferenceMissing } else { Kind::ReferenceUnexplained };
    if is_damage {
        check.checked.damages.missing.insert(*hash, path.cloned());
    }
    let object = Key::nar_info(hash).to_string();
    check.tell(Finding { kind, object, path: path.cloned(), problem });
}

impl Check<'_> {
    /// Which of these narinfos are not there at a second look: listings are not of one moment.
    pub(super) async fn still_absent(&self, hashes: HashSet<PathHash>) -> Result<HashSet<PathHash>, CheckError> {
        let bucket = self.ends.bucket.as_ref();
        let mut absent = hashes;
        if absent.len() > FEW {
            let mut pages = nar_info_pages(bucket);
            while let Some(page) = pages.try_next().await? {
                for object in page {
                    if let Object::NarInfo(hash) = object.key.kind() {
                        absent.remove(&hash);
                    }
                }
            }
            return Ok(absent);
        }
        let looked: Vec<Option<PathHash>> = stream::iter(absent)
            .map(|hash| async move { Ok(bucket.head(&Key::nar_info(&hash)).await?.is_none().then_some(hash)) })
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error: crate::bucket::BucketError| CheckError::from(error))?;
        Ok(looked.into_iter().flatten().collect())
    }
}
