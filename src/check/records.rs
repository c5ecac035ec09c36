//! F6: what pushes and prunes have left for each other, and what of it a check of references has to know.
//!
//! Trash first, then leases, then push records: a push that ends meanwhile is seen by its lease or by its record.

use super::finding::Kind;
use super::nars::PARALLEL;
use super::{Check, CheckError};
use crate::bucket::{Bucket, Key, ObjectInfo, Prefix, list_all};
use crate::nix::{PathHash, StorePath};
use crate::pin::{self, Judged};
use crate::prune::CLOCK_TOLERANCE;
use crate::push::SWEEP_LIFE;
use crate::record::{
    LEASE_TTL, LeaseRecord, MAX_SIZE, PinRecord, PushRecord, RecordError, SweepRecord, TrashRecord, Why,
};
use crate::remedy::{Remedy, chain};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Pushes go on with uploads that are younger than a day.
const ABANDONED: Duration = Duration::from_secs(48 * 60 * 60);

/// What a check of references has to know.
#[derive(Default)]
pub struct Records {
    /// References that some record says come from upstream caches.
    pub external: HashSet<PathHash>,
    /// Roots of the push records that are there: what is below them, their records speak for.
    pub roots: HashSet<PathHash>,
    /// Paths of pushes in progress: they are not finished.
    pub leased: HashSet<PathHash>,
    /// What is in trash, by why it was removed.
    trashed: HashSet<PathHash>,
}

pub async fn look(check: &mut Check<'_>) -> Result<Records, CheckError> {
    let mut records = Records::default();
    look_at_trash(check, &mut records).await?;
    look_at_leases(check, &mut records).await?;
    look_at_pushes(check, &mut records).await?;
    look_at_pins(check, &records).await?;
    look_at_sweeps(check).await?;
    look_at_uploads(check).await?;
    Ok(records)
}

async fn look_at_trash(check: &mut Check<'_>, records: &mut Records) -> Result<(), CheckError> {
    each(check, &Prefix::trash(), TrashRecord::parse, |check, object, record| match record {
        Ok(record) => {
            records.trashed.extend(record.removed.iter().map(|removed| removed.path));
            // Of what was damaged, some were simply missing.
            if record.why == Why::Retention {
                records.external.extend(record.external);
            }
        }
        Err(why) => check.find(Kind::TrashUnreadable, &object.key, None, why),
    })
    .await
}

async fn look_at_leases(check: &mut Check<'_>, records: &mut Records) -> Result<(), CheckError> {
    each(check, &Prefix::leases(), LeaseRecord::parse, |check, object, record| {
        if check.age(object) > LEASE_TTL + CLOCK_TOLERANCE {
            let minutes = check.age(object).as_secs() / 60;
            check.find(Kind::LeaseStale, &object.key, None, format!("it was renewed {minutes} minutes ago"));
            return;
        }
        match record {
            Ok(record) => records.leased.extend(record.paths),
            Err(why) => check.unreadable(object, why),
        }
    })
    .await
}

async fn look_at_pushes(check: &mut Check<'_>, records: &mut Records) -> Result<(), CheckError> {
    let mut absent: HashMap<PathHash, (Key, StorePath)> = HashMap::new();
    each(check, &Prefix::pushes(), PushRecord::parse, |check, object, record| match record {
        Ok(record) => {
            records.external.extend(record.external.iter().map(StorePath::hash_part));
            for root in record.roots {
                let hash = root.hash_part();
                if check.tables.has(&hash) {
                    records.roots.insert(hash);
                } else if !records.trashed.contains(&hash) {
                    absent.entry(hash).or_insert_with(|| (object.key.clone(), root));
                }
            }
        }
        Err(why) => check.unreadable(object, why),
    })
    .await?;
    let gone = check.still_absent(absent.keys().copied().collect()).await?;
    for (hash, (key, root)) in absent {
        if gone.contains(&hash) {
            check.find(Kind::RootMissing, &key, Some(root.clone()), format!("{root} was pushed and is not there"));
        }
    }
    Ok(())
}

async fn look_at_pins(check: &mut Check<'_>, records: &Records) -> Result<(), CheckError> {
    let mut found = Vec::new();
    each(check, &Prefix::pins(), PinRecord::parse, |check, object, record| match record {
        Ok(record) => found.push((object.clone(), record)),
        Err(why) => check.unreadable(object, why),
    })
    .await?;
    let mut absent = Vec::new();
    for Judged { object, record, holds } in pin::judge(found, check.opened.now) {
        if record.roots.is_empty() {
            check.find(Kind::PinEmpty, &object.key, None, "it names no path");
        }
        // One that is over keeps nothing, and the next prune removes it.
        if holds {
            let gone = record.roots.into_iter().filter(|root| !check.tables.has(&root.hash_part()));
            absent.extend(gone.map(|root| (object.key.clone(), root)));
        }
    }
    let gone = check.still_absent(absent.iter().map(|(_, root)| root.hash_part()).collect()).await?;
    for (key, root) in absent.into_iter().filter(|(_, root)| gone.contains(&root.hash_part())) {
        let hash = root.hash_part();
        // As with references: it may come from another cache.
        let is_damage = check.opened.upstreams.is_empty() && !records.external.contains(&hash);
        if is_damage {
            check.checked.damages.pinned.insert(hash, root.clone());
        }
        let kind = if is_damage { Kind::PinnedMissing } else { Kind::PinEmpty };
        check.find(kind, &key, Some(root.clone()), format!("{root} is not in the cache"));
    }
    Ok(())
}

async fn look_at_sweeps(check: &mut Check<'_>) -> Result<(), CheckError> {
    each(check, &Prefix::sweeps(), SweepRecord::parse, |check, object, record| {
        let minutes = check.age(object).as_secs() / 60;
        if check.age(object) > SWEEP_LIFE {
            check.find(Kind::SweepStale, &object.key, None, format!("it was announced {minutes} minutes ago"));
        } else if let Err(why) = record {
            check.find(Kind::SweepUnreadable, &object.key, None, why);
        }
    })
    .await
}

async fn look_at_uploads(check: &mut Check<'_>) -> Result<(), CheckError> {
    let bucket = check.ends.bucket.clone();
    for prefix in Prefix::of_uploads() {
        match bucket.list_uploads(&prefix).await {
            Ok(uploads) => {
                for (upload, began) in uploads {
                    let age = check.opened.now.duration_since(began).unwrap_or_default();
                    if age > ABANDONED {
                        let problem =
                            format!("an upload that was begun {} hours ago is not finished", age.as_secs() / 3600);
                        check.find(Kind::UploadStale, &upload.key, None, problem);
                    }
                }
            }
            // Some keys may not ask for this; nothing else depends on it.
            Err(error) if error.remedy() == Remedy::Retry => return Err(error.into()),
            Err(error) => {
                check.find(Kind::CouldNotTell, &Key::listed(prefix.as_str()), None, chain(&error));
                break;
            }
        }
    }
    Ok(())
}

/// Reads all records below `prefix`, a few at a time. A newer loft's stops the check: its rules are not known here.
async fn each<T>(
    check: &mut Check<'_>,
    prefix: &Prefix,
    parse: impl Fn(&str, &[u8]) -> Result<T, RecordError>,
    mut tell: impl FnMut(&mut Check<'_>, &ObjectInfo, Result<T, String>),
) -> Result<(), CheckError> {
    let bucket = check.ends.bucket.clone();
    let listed = list_all(bucket.as_ref(), prefix).await?;
    for page in listed.chunks(PARALLEL) {
        let read: Vec<(ObjectInfo, Result<Bytes, String>)> = stream::iter(page.to_vec())
            .map(|object| read(bucket.as_ref(), object))
            .buffered(PARALLEL)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await?;
        for (object, bytes) in read {
            let record = match bytes.map(|bytes| parse(object.key.as_str(), &bytes)) {
                Ok(Ok(record)) => Ok(record),
                Ok(Err(error @ RecordError::Newer { .. })) => return Err(error.into()),
                Ok(Err(error)) => Err(chain(&error)),
                Err(why) => Err(why),
            };
            tell(check, &object, record);
        }
    }
    Ok(())
}

/// Nothing where it has gone since it was listed.
async fn read(
    bucket: &dyn Bucket,
    object: ObjectInfo,
) -> Result<Option<(ObjectInfo, Result<Bytes, String>)>, CheckError> {
    match bucket.get(&object.key, MAX_SIZE).await {
        Ok(found) => Ok(found.map(|(_, bytes)| (object, Ok(bytes)))),
        Err(error) if error.remedy() == Remedy::GiveUpOnItem => Ok(Some((object, Err(chain(&error))))),
        Err(error) => Err(error.into()),
    }
}

impl Check<'_> {
    fn age(&self, object: &ObjectInfo) -> Duration {
        self.opened.now.duration_since(object.modified).unwrap_or_default()
    }

    fn unreadable(&mut self, object: &ObjectInfo, why: String) {
        self.checked.damages.records.insert(object.key.clone());
        self.find(Kind::RecordUnreadable, &object.key, None, why);
    }
}
