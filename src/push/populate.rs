//! Filling the ledger from the bucket (`--populate-cache`), so that the first push need not look.

use super::error::PushError;
use super::{Ends, identity, open, presence};
use crate::ledger::BucketIdentity;

/// Which bucket this is. One that is used for the first time is given its record, unless nothing is to be
/// written (`write`).
pub async fn identify(ends: &Ends, upstreams: Vec<String>, write: bool) -> Result<BucketIdentity, PushError> {
    let bucket = ends.bucket.as_ref();
    match open::read_record(bucket).await? {
        Some(record) => Ok(identity(ends, &record)),
        None if write => Ok(identity(ends, &open::write_record(bucket, ends.clock.as_ref(), upstreams).await?)),
        None => Ok(BucketIdentity { url: bucket.describe(), generation: String::new() }),
    }
}

/// Lists the bucket and makes the ledger say just that; the answer is how many narinfos there are.
pub async fn populate(ends: &Ends, upstreams: Vec<String>) -> Result<u64, PushError> {
    let identity = identify(ends, upstreams, true).await?;
    let all = presence::look_at_all(ends.bucket.as_ref()).await?;
    ends.ledger.replace(&identity, &all, ends.clock.wall());
    Ok(all.len() as u64)
}
