//! The bucket as a cache: its generation and its `nix-cache-info`, made when it is first used.

use super::error::PushError;
use crate::bucket::{Body, Bucket, CacheInfo, Headers, Key};
use crate::clock::Clock;
use crate::nix::StoreDir;
use crate::record::{BucketRecord, seconds};
use bytes::Bytes;
use ulid::Ulid;

/// Both objects are short; a longer one is not what it says.
const LIMIT: u64 = 1 << 20;

/// Reads `loft/v1/bucket.json`; nothing where loft has never written to this bucket.
pub async fn read_record(bucket: &dyn Bucket) -> Result<Option<BucketRecord>, PushError> {
    let key = Key::bucket_record();
    match bucket.get(&key, LIMIT).await? {
        Some((_, bytes)) => Ok(Some(BucketRecord::parse(key.as_str(), &bytes)?)),
        None => Ok(None),
    }
}

/// Writes the record of a bucket that has none.
pub async fn write_record(
    bucket: &dyn Bucket,
    clock: &dyn Clock,
    upstreams: Vec<String>,
) -> Result<BucketRecord, PushError> {
    let now = clock.wall();
    let record = BucketRecord::new(Ulid::from_datetime(now).to_string(), seconds(now), upstreams);
    bucket.put(&Key::bucket_record(), Body::from(Bytes::from(record.print())), Headers::RECORD).await?;
    Ok(record)
}

/// Refuses a bucket of another store directory; writes `nix-cache-info` only where there is none. What was there before.
pub async fn ensure_cache_info(
    bucket: &dyn Bucket,
    dir: &StoreDir,
    priority: u32,
    write: bool,
) -> Result<Option<CacheInfo>, PushError> {
    let key = Key::cache_info();
    match bucket.get(&key, LIMIT).await? {
        Some((_, bytes)) => {
            let info = CacheInfo::parse(&bytes)
                .map_err(|error| PushError::CacheInfo { bucket: bucket.describe(), why: error.to_string() })?;
            // Nix writes the line always; without it readers assume their own directory.
            match &info.store_dir {
                Some(found) if found != dir => Err(PushError::OtherStoreDir {
                    bucket: bucket.describe(),
                    found: found.to_string(),
                    own: dir.clone(),
                }),
                _ => Ok(Some(info)),
            }
        }
        None if write => {
            let text = CacheInfo::new(dir.clone(), priority).print();
            bucket.put(&key, Body::from(Bytes::from(text)), Headers::CACHE_INFO).await?;
            Ok(None)
        }
        None => Ok(None),
    }
}
