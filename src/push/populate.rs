//! Filling the ledger from the bucket (`--populate-cache`), so that the first push need not look.

use super::error::PushError;
use super::{Ends, identity, open, presence};

/// Lists the bucket and makes the ledger say just that; the answer is how many narinfos there are.
pub async fn populate(ends: &Ends, upstreams: Vec<String>) -> Result<u64, PushError> {
    let bucket = ends.bucket.as_ref();
    let record = match open::read_record(bucket).await? {
        Some(record) => record,
        None => open::write_record(bucket, ends.clock.as_ref(), upstreams).await?,
    };
    let all = presence::look_at_all(bucket).await?;
    ends.ledger.replace(&identity(ends, &record), &all, ends.clock.wall());
    Ok(all.len() as u64)
}
