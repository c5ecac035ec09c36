//! Pins: roots under a name, which a prune keeps by the pin's own rule rather than by their age.
//!
//! A pin is one record; pinning a name again adds another, so that the last N of a name can be kept (`rule`).

mod rule;

pub use rule::{Judged, judge};

use crate::bucket::{Body, Bucket, BucketError, Headers, Key, ObjectInfo, Prefix, list_all};
use crate::nix::StorePath;
use crate::push::{Lease, Lessee, PushError};
use crate::record::{Keep, MAX_SIZE, PinRecord, RecordError, seconds};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::time::SystemTime;
use ulid::Ulid;

/// Requests at once.
const PARALLEL: usize = 32;

/// Why a pin was not made, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Lease(#[from] PushError),
    #[error("Nothing was pinned: {0} is not in the cache; push it first (`loft push --pin NAME` does both)")]
    Absent(StorePath),
    #[error(
        "Nothing was pinned: this machine could not renew its lease on the bucket in time (asleep, or without a network); \
         pin again"
    )]
    LeaseLost,
    #[error("There is no pin {0}; `loft pin list` tells which there are")]
    NoPin(String),
}

/// A pin as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pub name: String,
    /// By the store's clock.
    pub at: SystemTime,
    pub who: String,
    pub keep: Keep,
    pub roots: Vec<StorePath>,
    /// Whether it keeps its roots; the next prune removes it otherwise.
    pub holds: bool,
}

/// Pins `roots`, which must be in the cache: under a lease, so that no prune removes them before it sees the pin.
pub async fn add(lessee: &Lessee, name: &str, roots: Vec<StorePath>, keep: Keep) -> Result<(), PinError> {
    let paths = roots.iter().map(|root| root.hash_part()).collect();
    let lease = Lease::take(lessee, &paths).await?;
    let result = add_under(lessee, &lease, name, roots, keep).await;
    lease.release().await;
    result
}

async fn add_under(
    lessee: &Lessee,
    lease: &Lease,
    name: &str,
    roots: Vec<StorePath>,
    keep: Keep,
) -> Result<(), PinError> {
    let bucket = lessee.bucket.as_ref();
    must_be_there(bucket, &roots).await?;
    let now = lessee.clock.wall();
    let record = PinRecord::new(lessee.who.clone(), seconds(now), roots.clone(), keep);
    let key = Key::pin(name, Ulid::from_datetime(now));
    // Without the lease a prune may be deleting what the pin names.
    let within = lease.remaining().map_err(|_| PinError::LeaseLost)?;
    bucket.put_before(&key, Body::from(Bytes::from(record.print())), Headers::RECORD, within).await?;
    // Success is claimed only for what is still there.
    let seen = must_be_there(bucket, &roots).await;
    if let Err(error) = seen.and_then(|()| lease.remaining().map(drop).map_err(|_| PinError::LeaseLost)) {
        bucket.delete(&key).await?;
        return Err(error);
    }
    Ok(())
}

async fn must_be_there(bucket: &dyn Bucket, roots: &[StorePath]) -> Result<(), PinError> {
    let looks = stream::iter(roots).map(|root| async move {
        match bucket.head(&Key::nar_info(&root.hash_part())).await? {
            Some(_) => Ok(()),
            None => Err(PinError::Absent(root.clone())),
        }
    });
    looks.buffered(PARALLEL).try_collect().await
}

/// All pins, by name, each name's newest first.
pub async fn list(bucket: &dyn Bucket) -> Result<Vec<Pinned>, PinError> {
    let found = read(bucket).await?;
    let now = bucket.now().await?;
    let pinned = judge(found, now).into_iter().map(|Judged { object, record, holds }| Pinned {
        name: rule::name(&object).to_owned(),
        at: object.modified,
        who: record.who,
        keep: record.keep,
        roots: record.roots,
        holds,
    });
    Ok(pinned.collect())
}

/// Removes the pins of `name`, all but the newest `but_last`; the answer is how many. What they kept goes by its age.
pub async fn remove(bucket: &dyn Bucket, name: &str, but_last: usize) -> Result<u64, PinError> {
    let mut listed = list_all(bucket, &Prefix::pin(name)).await?;
    if listed.is_empty() {
        return Err(PinError::NoPin(name.to_owned()));
    }
    listed.sort_by(rule::newest_first);
    let mut removed = 0;
    for object in listed.into_iter().skip(but_last) {
        bucket.delete(&object.key).await?;
        removed += 1;
    }
    Ok(removed)
}

async fn read(bucket: &dyn Bucket) -> Result<Vec<(ObjectInfo, PinRecord)>, PinError> {
    let listed = list_all(bucket, &Prefix::pins()).await?;
    let mut found = Vec::with_capacity(listed.len());
    for object in listed {
        // Removed since it was listed.
        let Some((_, bytes)) = bucket.get(&object.key, MAX_SIZE).await? else { continue };
        let record = PinRecord::parse(object.key.as_str(), &bytes)?;
        found.push((object, record));
    }
    Ok(found)
}
