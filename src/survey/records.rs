//! Loft's own records: who pushed last, who is at it now, what is kept by name.

use super::Damaged;
use crate::bucket::{Bucket, BucketError, Key, ObjectInfo, Piece, Prefix, Walk};
use crate::nix::{NarInfo, StoreDir, StorePath};
use crate::record::{LEASE_TTL, LeaseRecord, PushRecord, RecordError, SweepRecord, TrashRecord};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use ulid::Ulid;

/// So many of the newest pushes are told.
const PUSHES: usize = 5;
/// Nobody has more pushes than this in progress at once; the others are counted.
const LEASES: usize = 20;
/// So many records of what was removed are read; a bucket has one for each prune of the last week.
const TRASH: u64 = 50;
/// They hold narinfos, some thousands at most.
const TRASH_LIMIT: u64 = 32 << 20;
/// A record names every path of a closure. One that is larger is told by its key alone.
const LIMIT: u64 = 1 << 20;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A push that was finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// By the store's own clock.
    pub at: SystemTime,
    pub who: String,
    /// Paths that it wrote, and those of its closure that were there.
    pub pushed: u64,
    pub present: u64,
    /// What it was asked for, of what landed.
    pub roots: Vec<StorePath>,
}

/// A push in progress; it, or its machine, may also have died less than an hour ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// By the pusher's clock.
    pub since: Option<SystemTime>,
    /// When it was last heard of, by the store's clock.
    pub renewed: SystemTime,
    /// `None` where the record is too large to be worth reading.
    pub who: Option<String>,
    /// What it writes or relies on.
    pub paths: Option<u64>,
}

/// A prune in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    pub since: SystemTime,
    pub who: Option<String>,
    pub condemned: Option<u64>,
}

/// Roots that are kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub name: String,
    /// How often it was pinned.
    pub count: u64,
    pub newest: SystemTime,
}

/// What prunes have removed and can still put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trash {
    /// Prunes that have left something.
    pub records: u64,
    pub paths: u64,
    /// Bytes of their NARs, as stored.
    pub bytes: u64,
    /// By the store's clock.
    pub oldest: Option<SystemTime>,
    pub newest: Option<SystemTime>,
    /// Whether all records were read.
    pub is_exact: bool,
}

#[derive(Debug, Default)]
pub struct Records {
    pub pushes: Vec<Push>,
    pub pins: Vec<Pin>,
    pub leases: Vec<Lease>,
    pub sweeps: Vec<Sweep>,
    pub trash: Trash,
    pub damaged: Damaged,
}

pub async fn find(bucket: &dyn Bucket, dir: &StoreDir, now: SystemTime) -> Result<Records, BucketError> {
    let mut records = Records::default();
    records.find_pushes(bucket, now).await?;
    records.find_leases(bucket, now).await?;
    records.find_sweeps(bucket).await?;
    records.find_trash(bucket, dir).await?;
    records.pins = pins(bucket).await?;
    Ok(records)
}

impl Records {
    async fn find_pushes(&mut self, bucket: &dyn Bucket, now: SystemTime) -> Result<(), BucketError> {
        for object in newest(bucket, now).await?.iter().rev() {
            let Some(record) = self.read(bucket, object, PushRecord::parse).await? else { continue };
            let PushRecord { who, pushed, present, roots, .. } = record;
            self.pushes.push(Push { at: object.modified, who, pushed, present, roots });
        }
        Ok(())
    }

    async fn find_leases(&mut self, bucket: &dyn Bucket, now: SystemTime) -> Result<(), BucketError> {
        let in_force = |lease: &ObjectInfo| lease.modified.checked_add(LEASE_TTL).is_some_and(|end| now < end);
        for object in first(bucket, Prefix::leases(), in_force).await? {
            let since = object.key.id().map(|id| id.datetime());
            let record = self.read(bucket, &object, LeaseRecord::parse).await?;
            // Released between the listing and the look, or damaged.
            if record.is_none() && object.size <= LIMIT {
                continue;
            }
            let paths = record.as_ref().map(|record| record.paths.len() as u64);
            let who = record.map(|record| record.who);
            self.leases.push(Lease { since, renewed: object.modified, who, paths });
        }
        Ok(())
    }

    async fn find_sweeps(&mut self, bucket: &dyn Bucket) -> Result<(), BucketError> {
        for object in first(bucket, Prefix::sweeps(), |_| true).await? {
            let record = self.read(bucket, &object, SweepRecord::parse).await?;
            if record.is_none() && object.size <= LIMIT {
                continue;
            }
            let condemned = record.as_ref().map(|record| record.condemned.len() as u64);
            let who = record.map(|record| record.who);
            self.sweeps.push(Sweep { since: object.modified, who, condemned });
        }
        Ok(())
    }

    async fn find_trash(&mut self, bucket: &dyn Bucket, dir: &StoreDir) -> Result<(), BucketError> {
        let mut walk = Walk::new(bucket, Piece::of(Prefix::trash()));
        let mut trash = Trash { is_exact: true, ..Trash::default() };
        while let Some(objects) = walk.next().await? {
            for object in objects {
                trash.records += 1;
                let at = Some(object.modified);
                trash.oldest = trash.oldest.map_or(at, |oldest| Some(oldest.min(object.modified)));
                trash.newest = trash.newest.max(at);
                if trash.records > TRASH || object.size > TRASH_LIMIT {
                    trash.is_exact = false;
                    continue;
                }
                let (key, got) = (&object.key, bucket.get(&object.key, TRASH_LIMIT).await);
                let Some((_, bytes)) = self.damaged.or_note(key, got)?.flatten() else { continue };
                let Some(record) = self.damaged.or_name(key, TrashRecord::parse(key.as_str(), &bytes)) else {
                    continue;
                };
                trash.paths += record.removed.len() as u64;
                let infos = record.removed.iter().filter_map(|removed| NarInfo::parse(dir, &removed.bytes()).ok());
                trash.bytes += infos.map(|info| info.file_size.unwrap_or(info.nar_size.get())).sum::<u64>();
            }
        }
        self.trash = trash;
        Ok(())
    }

    /// Nothing where it is gone, too large, or damaged, which is noted.
    async fn read<T>(
        &mut self,
        bucket: &dyn Bucket,
        object: &ObjectInfo,
        parse: impl FnOnce(&str, &[u8]) -> Result<T, RecordError>,
    ) -> Result<Option<T>, BucketError> {
        if object.size > LIMIT {
            return Ok(None);
        }
        let key = &object.key;
        let Some((_, bytes)) = self.damaged.or_note(key, bucket.get(key, LIMIT).await)?.flatten() else {
            return Ok(None);
        };
        Ok(self.damaged.or_name(key, parse(key.as_str(), &bytes)))
    }
}

/// The newest push records, oldest first. Their keys ascend with time and listings cannot start at the end, so
/// this asks for the last hour, and further back only while that is not enough.
async fn newest(bucket: &dyn Bucket, now: SystemTime) -> Result<Vec<ObjectInfo>, BucketError> {
    for hours in [Some(1), Some(24), Some(7 * 24), Some(60 * 24), None] {
        let from = hours.and_then(|hours| now.checked_sub(HOUR * hours));
        let after = from.map(|from| Key::push_record(Ulid::from_parts(millis(from), 0)).as_str().to_owned());
        let mut walk = Walk::new(bucket, Piece { after, ..Piece::of(Prefix::pushes()) });
        let mut newest: BTreeMap<Key, ObjectInfo> = BTreeMap::new();
        while let Some(objects) = walk.next().await? {
            newest.extend(objects.into_iter().map(|object| (object.key.clone(), object)));
            while newest.len() > PUSHES {
                newest.pop_first();
            }
        }
        if newest.len() == PUSHES || from.is_none() {
            return Ok(newest.into_values().collect());
        }
    }
    Ok(Vec::new())
}

/// The first objects that `count`.
async fn first(
    bucket: &dyn Bucket,
    prefix: Prefix,
    counts: impl Fn(&ObjectInfo) -> bool,
) -> Result<Vec<ObjectInfo>, BucketError> {
    let mut walk = Walk::new(bucket, Piece::of(prefix));
    let mut found = Vec::new();
    while let Some(objects) = walk.next().await? {
        found.extend(objects.into_iter().filter(|object| counts(object)));
        found.truncate(LEASES);
    }
    Ok(found)
}

async fn pins(bucket: &dyn Bucket) -> Result<Vec<Pin>, BucketError> {
    let mut walk = Walk::new(bucket, Piece::of(Prefix::pins()));
    let mut pins: BTreeMap<String, Pin> = BTreeMap::new();
    while let Some(objects) = walk.next().await? {
        for object in objects {
            let Some(name) = object.key.pin_name().map(str::to_owned) else { continue };
            let newest = object.modified;
            let pin = pins.entry(name.clone()).or_insert(Pin { name, count: 0, newest });
            pin.count += 1;
            pin.newest = pin.newest.max(newest);
        }
    }
    Ok(pins.into_values().collect())
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
