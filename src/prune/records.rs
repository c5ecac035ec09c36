//! What other machines rely on: leases, push records, pins.
//!
//! A record is never changed once written, so each is read once; what was seen stays counted even when it goes while
//! the prune works. That can only keep more.

use super::error::{PruneError, Refusal};
use super::guard::{CLOCK_TOLERANCE, check_stamp};
use crate::bucket::{Bucket, Key, ObjectInfo, Prefix, list_all};
use crate::catalog::{Read, Reader};
use crate::nix::PathHash;
use crate::pin;
use crate::record::{LEASE_TTL, LeaseRecord, MAX_SIZE, PinRecord, PushRecord, RecordError};
use crate::remedy::chain;
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// See the module's head.
#[derive(Default)]
pub struct Records {
    read: HashSet<Key>,
    pub leases: Vec<Lease>,
    pub pushes: Vec<Push>,
    /// Roots of pins that hold.
    pub pinned: HashSet<PathHash>,
    /// Records that have expired.
    pub stale: Vec<Key>,
}

/// A push in progress.
pub struct Lease {
    pub paths: Vec<PathHash>,
    /// When the push began, by its own clock.
    pub since: SystemTime,
}

/// A push that finished, young enough to keep its roots.
pub struct Push {
    pub key: Key,
    /// By the store's clock.
    pub at: SystemTime,
    pub roots: Vec<PathHash>,
}

/// When ages are counted, and what is too old.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    pub now: SystemTime,
    pub retention: Duration,
}

impl Records {
    /// Leases first, then push records and pins. A push that ends meanwhile has either its lease seen here or its
    /// record.
    pub async fn look(&mut self, bucket: &dyn Bucket, reader: &Reader, ages: Ages) -> Result<(), PruneError> {
        self.stale.clear();
        self.look_at_leases(bucket, ages).await?;
        self.look_at_pushes(bucket, reader, ages).await?;
        self.look_at_pins(bucket, reader, ages).await
    }

    /// When the oldest push in progress began: what it has sent is not garbage, however old it looks.
    pub fn oldest_lease(&self) -> Option<SystemTime> {
        self.leases.iter().map(|lease| lease.since).min()
    }

    /// Records that hold; also those that have gone while the prune worked.
    pub const fn seen(&self) -> &HashSet<Key> {
        &self.read
    }

    async fn look_at_leases(&mut self, bucket: &dyn Bucket, ages: Ages) -> Result<(), PruneError> {
        for object in list(bucket, &Prefix::leases()).await? {
            if age(&object, ages) > LEASE_TTL + CLOCK_TOLERANCE {
                self.stale.push(object.key);
                continue;
            }
            if self.read.contains(&object.key) {
                continue;
            }
            // Gone since the listing: the push has ended, and its record is in the listing that follows.
            let Some((_, bytes)) = bucket.get(&object.key, MAX_SIZE).await? else { continue };
            let record = parsed(&object.key, LeaseRecord::parse(object.key.as_str(), &bytes))?;
            let since = UNIX_EPOCH.checked_add(Duration::from_secs(record.since)).unwrap_or(ages.now);
            self.leases.push(Lease { paths: record.paths, since });
            self.read.insert(object.key);
        }
        Ok(())
    }

    async fn look_at_pushes(&mut self, bucket: &dyn Bucket, reader: &Reader, ages: Ages) -> Result<(), PruneError> {
        let mut new = Vec::new();
        for object in list(bucket, &Prefix::pushes()).await? {
            if age(&object, ages) >= ages.retention {
                self.stale.push(object.key);
            } else if !self.read.contains(&object.key) {
                new.push(object);
            }
        }
        for (object, bytes) in read_all(reader, new).await? {
            let record = parsed(&object.key, PushRecord::parse(object.key.as_str(), &bytes))?;
            let roots = record.roots.iter().map(|root| root.hash_part()).collect();
            self.pushes.push(Push { key: object.key.clone(), at: object.modified, roots });
            self.read.insert(object.key);
        }
        Ok(())
    }

    async fn look_at_pins(&mut self, bucket: &dyn Bucket, reader: &Reader, ages: Ages) -> Result<(), PruneError> {
        let listed = list(bucket, &Prefix::pins()).await?;
        let mut found = Vec::with_capacity(listed.len());
        for (object, bytes) in read_all(reader, listed).await? {
            let record = parsed(&object.key, PinRecord::parse(object.key.as_str(), &bytes))?;
            self.read.insert(object.key.clone());
            found.push((object, record));
        }
        for pin in pin::judge(found, ages.now) {
            match pin.holds {
                true => self.pinned.extend(pin.record.roots.iter().map(|root| root.hash_part())),
                false => self.stale.push(pin.object.key),
            }
        }
        Ok(())
    }
}

/// All of them, with believable dates.
async fn list(bucket: &dyn Bucket, prefix: &Prefix) -> Result<Vec<ObjectInfo>, PruneError> {
    let listed = list_all(bucket, prefix).await?;
    let clock = bucket.now().await?;
    for object in &listed {
        check_stamp(object, clock)?;
    }
    Ok(listed)
}

/// Those that are still there. One that cannot be read may keep anything.
async fn read_all(reader: &Reader, objects: Vec<ObjectInfo>) -> Result<Vec<(ObjectInfo, bytes::Bytes)>, PruneError> {
    let mut found = Vec::with_capacity(objects.len());
    for page in objects.chunks(1000) {
        for (object, read) in reader.read(page.to_vec()).await? {
            match read {
                Read::Bytes(bytes) => found.push((object, bytes)),
                Read::Gone => {}
                Read::Unreadable(error) => {
                    return Err(Refusal::Unreadable { key: object.key.to_string(), why: chain(&error) }.into());
                }
            }
        }
    }
    Ok(found)
}

/// What cannot be understood may keep anything.
fn parsed<T>(key: &Key, record: Result<T, RecordError>) -> Result<T, PruneError> {
    record.map_err(|error| match error {
        RecordError::Newer { .. } => error.into(),
        error => Refusal::Unreadable { key: key.to_string(), why: chain(&error) }.into(),
    })
}

fn age(object: &ObjectInfo, ages: Ages) -> Duration {
    ages.now.duration_since(object.modified).unwrap_or_default()
}
