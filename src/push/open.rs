//! `loft/v1/bucket.json`: which generation of the bucket this is.

use super::error::PushError;
use crate::bucket::{Body, Bucket, Headers, Key};
use crate::clock::Clock;
use crate::record::{BucketRecord, seconds};
use bytes::Bytes;
use ulid::Ulid;

/// The record is short; a longer one is not what it says.
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
