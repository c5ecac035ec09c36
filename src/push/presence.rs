//! Whose narinfos are in the bucket: by HEADs or by a listing, whichever is fewer requests.
//!
//! A look that failed is an error, never "absent".

use crate::bucket::{Bucket, BucketError, Cause, Key, Kind, Page, Prefix};
use crate::nix::{PathHash, base32};
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
    /// Narinfos in the bucket: counted, or estimated from a first page; `None` where nobody listed.
    pub size: Option<u64>,
}

/// Looks for `wanted`. `bucket_size` is the number of narinfos there when last listed, if ever.
pub async fn look(
    bucket: &dyn Bucket,
    wanted: &HashSet<PathHash>,
    bucket_size: Option<u64>,
) -> Result<Seen, BucketError> {
    if (wanted.len() as u64) < listing_cost(bucket_size.unwrap_or(0)) {
        let present = head_all(bucket, wanted).await?;
        return Ok(Seen { present, all: None, size: None });
    }
    // What was remembered may be old; the first page tells how large the bucket is now.
    let first = bucket.list(&Prefix::all(), None).await?;
    let size = estimate(&first);
    if (wanted.len() as u64) < listing_cost(size) {
        let present = head_all(bucket, wanted).await?;
        return Ok(Seen { present, all: None, size: Some(size) });
    }
    let all = if size >= SHARDED_FROM { list_sharded(bucket).await? } else { list(bucket, &Prefix::all(), first).await? };
    let present = all.iter().filter(|hash| wanted.contains(hash)).copied().collect();
    Ok(Seen { present, size: Some(all.len() as u64), all: Some(all) })
}

/// Every narinfo in the bucket.
pub async fn look_at_all(bucket: &dyn Bucket) -> Result<Vec<PathHash>, BucketError> {
    list_sharded(bucket).await
}

/// Requests that a listing of `size` narinfos takes: their pages, those that NARs share, and the
/// jump over the rest.
pub fn listing_cost(size: u64) -> u64 {
    size.div_ceil(PAGE) + 2
}

/// Which of `wanted` are there, one HEAD each.
async fn head_all(bucket: &dyn Bucket, wanted: &HashSet<PathHash>) -> Result<HashSet<PathHash>, BucketError> {
    stream::iter(wanted.iter().copied())
        .map(|hash| async move { Ok(bucket.head(&Key::nar_info(&hash)).await?.map(|_| hash)) })
        .buffer_unordered(PARALLEL)
        .try_filter_map(|hash| async move { Ok(hash) })
        .try_collect()
        .await
}

/// Narinfos in the bucket, judging by its first page: hashes are spread evenly, so how far the page
/// reaches tells how many there are.
fn estimate(first: &Page) -> u64 {
    let hashes: Vec<PathHash> = nar_infos(first).collect();
    let Some(last) = hashes.last().filter(|_| first.next.is_some()) else { return hashes.len() as u64 };
    // Of the 32⁴ beginnings of four digits, those up to the last one seen.
    let covered = last.as_str().chars().take(4).fold(0u64, |place, digit| {
        place * 32 + base32::digits().position(|other| other == digit).unwrap_or(0) as u64
    });
    (hashes.len() as u64).saturating_mul(32 * 32 * 32 * 32) / (covered + 1)
}

fn nar_infos(page: &Page) -> impl Iterator<Item = PathHash> {
    page.objects.iter().filter_map(|object| match object.key.kind() {
        Kind::NarInfo(hash) => Some(hash),
        _ => None,
    })
}

/// The narinfos under `prefix`, whose `first` page is there already.
async fn list(bucket: &dyn Bucket, prefix: &Prefix, first: Page) -> Result<Vec<PathHash>, BucketError> {
    let mut hashes = Vec::new();
    let mut page = first;
    let mut reached = String::new();
    loop {
        hashes.extend(nar_infos(&page));
        let Some(last) = page.next else { return Ok(hashes) };
        let after = skip_folder(last);
        // A listing that does not advance would hold us for ever, and is no listing.
        if after <= reached {
            let cause = Cause::Garbled("the listing does not advance".to_owned());
            return Err(BucketError::new("list", format!("{:?}", prefix.as_str()), bucket.describe(), cause));
        }
        page = bucket.list(prefix, Some(&after)).await?;
        reached = after;
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
        .map(|shard| async move {
            let first = bucket.list(&shard, None).await?;
            list(bucket, &shard, first).await
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(shards.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::ObjectInfo;
    use crate::nix::Sha256;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_first_page_tells_the_size_of_the_bucket() {
        for size in [500u64, 3_000, 30_000, 300_000] {
            let mut keys: Vec<String> = (0..size)
                .map(|n| format!("{}.narinfo", &Sha256::of(&n.to_le_bytes()).to_nix32()[20..]))
                .collect();
            keys.sort();
            let objects = keys.iter().take(1000).map(|key| {
                let key = Key::listed(key);
                ObjectInfo { key, size: 1, modified: UNIX_EPOCH, etag: String::new() }
            });
            let next = (size > 1000).then(|| keys[999].clone());
            let estimated = estimate(&Page { objects: objects.collect(), next });
            assert!(estimated.abs_diff(size) <= size / 5, "{estimated} for {size}");
        }
    }
}
