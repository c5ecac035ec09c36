//! Whose narinfos are in the bucket: by HEADs or by a listing, whichever is fewer requests.
//!
//! A look that failed is an error, never "absent".

use crate::bucket::{Bucket, BucketError, Key, Kind, Prefix};
use crate::nix::PathHash;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashSet;

/// Requests at once while looking.
const PARALLEL: usize = 32;
/// Keys a page brings at most, on every S3.
const PAGE: u64 = 1000;
/// Above this many narinfos, 32 listings by first character run side by side.
const SHARDED_FROM: u64 = 20_000;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Those of the wanted that are there.
    pub present: HashSet<PathHash>,
    /// Everything that is there, where all was listed.
    pub all: Option<Vec<PathHash>>,
}

/// Looks for `wanted`. `bucket_size` is the number of narinfos there when last listed, if ever.
pub async fn look(
    bucket: &dyn Bucket,
    wanted: &HashSet<PathHash>,
    bucket_size: Option<u64>,
) -> Result<Seen, BucketError> {
    if (wanted.len() as u64) < listing_cost(bucket_size.unwrap_or(0)) {
        return head_all(bucket, wanted.iter().copied()).await;
    }
    match bucket_size {
        Some(size) if size >= SHARDED_FROM => Ok(seen(wanted, list_sharded(bucket).await?)),
        _ => {
            // The size is a guess at best: a bucket that turns out to be huge is given up on when
            // asking for each path would have been cheaper.
            let limit = (wanted.len() as u64).max(listing_cost(bucket_size.unwrap_or(0)) * 2);
            match list(bucket, &Prefix::all(), Some(limit)).await? {
                Some(all) => Ok(seen(wanted, all)),
                None => head_all(bucket, wanted.iter().copied()).await,
            }
        }
    }
}

/// Every narinfo in the bucket.
pub async fn look_at_all(bucket: &dyn Bucket) -> Result<Vec<PathHash>, BucketError> {
    list_sharded(bucket).await
}

/// Which of `wanted` are there, one HEAD each.
pub async fn head_all(bucket: &dyn Bucket, wanted: impl IntoIterator<Item = PathHash>) -> Result<Seen, BucketError> {
    let present = stream::iter(wanted)
        .map(|hash| async move { Ok(bucket.head(&Key::nar_info(&hash)).await?.map(|_| hash)) })
        .buffer_unordered(PARALLEL)
        .try_filter_map(|hash| async move { Ok(hash) })
        .try_collect()
        .await?;
    Ok(Seen { present, all: None })
}

/// Requests that a listing of `size` narinfos takes: their pages, those that NARs share, and the
/// jump over the rest.
pub fn listing_cost(size: u64) -> u64 {
    size.div_ceil(PAGE) + 2
}

fn seen(wanted: &HashSet<PathHash>, all: Vec<PathHash>) -> Seen {
    let present = all.iter().filter(|hash| wanted.contains(hash)).copied().collect();
    Seen { present, all: Some(all) }
}

/// The narinfos under `prefix`, or nothing when that would take more than `limit` requests.
async fn list(bucket: &dyn Bucket, prefix: &Prefix, limit: Option<u64>) -> Result<Option<Vec<PathHash>>, BucketError> {
    let mut hashes = Vec::new();
    let mut after: Option<String> = None;
    let mut pages = 0;
    loop {
        if limit.is_some_and(|limit| pages >= limit) {
            return Ok(None);
        }
        let page = bucket.list(prefix, after.as_deref()).await?;
        pages += 1;
        hashes.extend(page.objects.iter().filter_map(|object| match object.key.kind() {
            Kind::NarInfo(hash) => Some(hash),
            _ => None,
        }));
        match page.next {
            Some(last) => after = Some(skip_folder(last)),
            None => return Ok(Some(hashes)),
        }
    }
}

/// NARs and records stand among the narinfos in key order; a listing that reached them goes on after.
fn skip_folder(last: String) -> String {
    match Key::listed(last.clone()).past_folder() {
        Some(past) => past.as_str().to_owned(),
        None => last,
    }
}

async fn list_sharded(bucket: &dyn Bucket) -> Result<Vec<PathHash>, BucketError> {
    let shards: Vec<Vec<PathHash>> = stream::iter(Prefix::nar_info_shards())
        .map(|shard| async move { Ok(list(bucket, &shard, None).await?.unwrap_or_default()) })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(shards.concat())
}
