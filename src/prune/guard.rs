//! S0: what must hold before anything is looked at, let alone deleted.

use super::error::{PruneError, Refusal};
use super::{Ends, Options};
use crate::bucket::{Body, CacheInfo, Headers, Key, ObjectInfo, Prefix, list_all};
use crate::ledger::BucketIdentity;
use crate::nix::StoreDir;
use crate::push::{SWEEP_LIFE, read_record};
use crate::record::{MAX_SIZE, SweepRecord};
use bytes::Bytes;
use std::time::{Duration, SystemTime};
use ulid::Ulid;

/// Clocks that differ by more make ages and time limits worthless: those have margins of about this.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// `nix-cache-info` is short; a longer one is not what it says.
const SHORT: u64 = 1 << 20;

/// A bucket that may be pruned.
#[derive(Debug, Clone)]
pub struct Opened {
    pub identity: BucketIdentity,
    /// Of the paths that the cache serves.
    pub dir: StoreDir,
    /// By the store's clock, before anything was looked at: ages count from here.
    pub now: SystemTime,
}

/// Refuses the wrong bucket, a newer format, wrong clocks, listings that lag, and the company of another prune.
pub async fn open(ends: &Ends, options: &Options) -> Result<Opened, PruneError> {
    let bucket = ends.bucket.as_ref();
    let generation = read_record(bucket).await?.map(|record| record.generation).unwrap_or_default();
    let Some((_, bytes)) = bucket.get(&Key::cache_info(), SHORT).await? else {
        return Err(Refusal::NoCache(bucket.describe()).into());
    };
    let info = CacheInfo::parse(&bytes)
        .map_err(|error| Refusal::CacheInfo { bucket: bucket.describe(), why: error.to_string() })?;
    let now = safe_to_change(ends, options).await?;
    let identity = BucketIdentity { url: bucket.describe(), generation };
    Ok(Opened { identity, dir: info.store_dir.unwrap_or_default(), now })
}

/// Refuses wrong clocks, listings that lag and the company of another prune; the answer is the store's time.
pub async fn safe_to_change(ends: &Ends, options: &Options) -> Result<SystemTime, PruneError> {
    let now = ends.bucket.now().await?;
    let ours = ends.clock.wall();
    let apart = now.duration_since(ours).unwrap_or_else(|error| error.duration());
    if apart > CLOCK_TOLERANCE {
        return Err(Refusal::Clock(apart).into());
    }
    if !options.dry_run {
        probe(ends, now).await?;
    }
    no_other_sweep(ends, now).await?;
    Ok(now)
}

/// A stamp that lies in the future would make its object young for ever, or hide a lease's age.
pub fn check_stamp(object: &ObjectInfo, now: SystemTime) -> Result<(), Refusal> {
    match object.modified.duration_since(now) {
        Ok(ahead) if ahead > CLOCK_TOLERANCE => Err(Refusal::Future { key: object.key.to_string(), ahead }),
        _ => Ok(()),
    }
}

/// Writes an object and looks whether a listing shows it, with a date of now.
async fn probe(ends: &Ends, now: SystemTime) -> Result<(), PruneError> {
    let bucket = ends.bucket.as_ref();
    let key = Key::probe(Ulid::from_datetime(ends.clock.wall()));
    bucket.put(&key, Body::from(Bytes::from_static(b"{}")), Headers::RECORD).await?;
    let listed = list_all(bucket, &Prefix::probes()).await;
    bucket.delete(&key).await?;
    let Some(found) = listed?.into_iter().find(|object| object.key == key) else {
        return Err(Refusal::Unlisted(bucket.describe()).into());
    };
    check_stamp(&found, now)?;
    match now.duration_since(found.modified) {
        Ok(behind) if behind > CLOCK_TOLERANCE => Err(Refusal::Clock(behind).into()),
        _ => Ok(()),
    }
}

async fn no_other_sweep(ends: &Ends, now: SystemTime) -> Result<(), PruneError> {
    let bucket = ends.bucket.as_ref();
    for sweep in list_all(bucket, &Prefix::sweeps()).await? {
        let since = now.duration_since(sweep.modified).unwrap_or_default();
        if since > SWEEP_LIFE {
            continue;
        }
        let Some((_, bytes)) = bucket.get(&sweep.key, MAX_SIZE).await? else { continue };
        let who = match SweepRecord::parse(sweep.key.as_str(), &bytes) {
            Ok(record) => record.who,
            Err(error @ crate::record::RecordError::Newer { .. }) => return Err(error.into()),
            Err(_) => "a record that cannot be read".to_owned(),
        };
        return Err(Refusal::OtherSweep { key: sweep.key.to_string(), who, since }.into());
    }
    Ok(())
}
