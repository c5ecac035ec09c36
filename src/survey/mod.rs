//! What is in a bucket, for people who ask: how much, how well compressed, how it grew, who pushed last.
//!
//! Counts and stored bytes come from listings and are exact. What NARs unpack to stands in narinfos alone, a
//! request each: in a large bucket some of them, drawn at random, stand for all, and the answer says so. Memory
//! is bounded by a page of a listing, however large the bucket. Nothing is written, and what is damaged is
//! counted and named rather than fatal.

mod damaged;
mod growth;
mod nars;
mod paths;
mod records;

pub use damaged::Damaged;
pub use growth::Growth;
pub use nars::{Large, SHOWN_WEEKS, Week};
pub use paths::Unpacked;
pub use records::{Lease, Pin, Push, Sweep, Trash};

use crate::bucket::{Bucket, BucketError, CacheInfo, Key};
use crate::record::BucketRecord;
use nars::Nars;
use std::time::SystemTime;

/// The objects that say what a bucket is are short; a longer one is not what it says.
const SHORT: u64 = 1 << 20;

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Reads all narinfos of a small bucket and some hundred of a large one.
    Sample,
    /// Reads every narinfo.
    Full,
}

/// What was found.
#[derive(Debug)]
pub struct Survey {
    /// When, by the store's own clock; ages count from here.
    pub at: SystemTime,
    pub cache_info: Option<CacheInfo>,
    /// `None` where no loft has ever pushed.
    pub record: Option<BucketRecord>,
    /// Narinfos.
    pub paths: u64,
    pub nars: u64,
    /// Bytes of all NARs as they are stored.
    pub stored: u64,
    pub unpacked: Unpacked,
    /// The largest NARs, largest first.
    pub largest: Vec<Large>,
    /// NARs by the time since they came: the last seven days first, then the seven before.
    pub weeks: Vec<Week>,
    /// NARs that are older than all of `weeks`.
    pub earlier: Week,
    /// The newest, newest first.
    pub pushes: Vec<Push>,
    pub pins: Vec<Pin>,
    /// Pushes in progress.
    pub leases: Vec<Lease>,
    /// Prunes in progress.
    pub sweeps: Vec<Sweep>,
    pub trash: Trash,
    pub damaged: Damaged,
}

/// Looks at all of the bucket. An error means that it could not be looked at.
pub async fn survey(bucket: &dyn Bucket, depth: Depth) -> Result<Survey, BucketError> {
    let mut damaged = Damaged::default();
    let cache_info = short(bucket, &Key::cache_info(), &mut damaged, |_, bytes| CacheInfo::parse(bytes)).await?;
    let record = short(bucket, &Key::bucket_record(), &mut damaged, BucketRecord::parse).await?;
    let at = bucket.now().await?;
    let dir = cache_info.as_ref().and_then(|info| info.store_dir.clone()).unwrap_or_default();

    let (nars, records) = tokio::try_join!(nars::tally(bucket, at), records::find(bucket, &dir, at))?;
    let Nars { count, bytes, mut largest, weeks, earlier } = nars;
    let (paths, unpacked) = paths::look(bucket, &dir, depth, &mut largest, &mut damaged).await?;
    damaged.add(records.damaged);
    Ok(Survey {
        at,
        cache_info,
        record,
        paths,
        nars: count,
        stored: bytes,
        unpacked: unpacked.of(bytes),
        largest,
        weeks,
        earlier,
        pushes: records.pushes,
        pins: records.pins,
        leases: records.leases,
        sweeps: records.sweeps,
        trash: records.trash,
        damaged,
    })
}

/// One of the objects that say what the bucket is.
async fn short<T, E: std::error::Error + 'static>(
    bucket: &dyn Bucket,
    key: &Key,
    damaged: &mut Damaged,
    parse: impl FnOnce(&str, &[u8]) -> Result<T, E>,
) -> Result<Option<T>, BucketError> {
    let Some((_, bytes)) = damaged.or_note(key, bucket.get(key, SHORT).await)?.flatten() else { return Ok(None) };
    Ok(damaged.or_name(key, parse(key.as_str(), &bytes)))
}
