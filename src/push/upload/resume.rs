//! What an earlier push has sent of a large NAR, perhaps from another machine, before it was killed or cut off.
//!
//! The bucket itself knows: an upload that was not finished stays open there. A NAR is packed again from its start
//! in any case, since what is signed is what this push has read (I5); only the parts that the bucket has already are
//! not sent again. That needs the same bytes to come out. So the key's name says how they were made: the low bits of
//! its ULID are a tag of the recipe and of the part size. The tag only saves the work of looking at uploads that
//! would not fit; each part is compared by itself.

use super::parts::part_size;
use crate::bucket::{Bucket, BucketError, Part, Prefix, Upload};
use crate::nar::Packing;
use crate::nix::{Compression, NarUrl, PathInfo, Sha256};
use data_encoding::HEXLOWER;
use md5::{Digest as _, Md5};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;
use ulid::Ulid;

/// Older uploads are left alone. An object may bear the date on which its upload began, and what nothing points at is
/// garbage to a prune some days after its date; and prunes abort uploads from this age on.
const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// The id of a new key for a NAR that is packed this way.
pub fn tagged_id(now: SystemTime, packing: &Packing, part_size: u64) -> Ulid {
    Ulid(Ulid::from_datetime(now).0 & !u128::from(u16::MAX) | u128::from(tag(packing, part_size)))
}

fn tag(packing: &Packing, part_size: u64) -> u16 {
    let [first, second, ..] = *Sha256::of(format!("{}, parts of {part_size}", packing.recipe()).as_bytes()).as_bytes();
    u16::from_be_bytes([first, second])
}

/// An upload that is worth going on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub upload: Upload,
    pub url: NarUrl,
    /// How its bytes were made.
    pub packing: Packing,
}

/// The uploads that were open when this push first asked, which it does once.
pub struct OpenUploads {
    bucket: Arc<dyn Bucket>,
    /// Newest first.
    listed: OnceCell<Vec<(NarUrl, Upload)>>,
}

impl OpenUploads {
    pub fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket, listed: OnceCell::new() }
    }

    /// The newest upload of the NAR of `info` that was packed in one of these ways.
    pub async fn find(&self, info: &PathInfo, packings: &[Packing]) -> Option<Begun> {
        let part_size = part_size(info.nar_size.map(NonZeroU64::get));
        // A bucket that cannot be asked, or that these credentials may not ask, costs the resumption and nothing else.
        let listed = self.listed.get_or_init(|| async { self.look().await.unwrap_or_default() }).await;
        listed.iter().find_map(|(url, upload)| {
            let packing = packings.iter().find(|packing| {
                let id = url.id(&info.nar_hash, packing.compression);
                id.is_some_and(|id| id.0 as u16 == tag(packing, part_size))
            })?;
            Some(Begun { upload: upload.clone(), url: url.clone(), packing: *packing })
        })
    }

    async fn look(&self) -> Result<Vec<(NarUrl, Upload)>, BucketError> {
        let mut uploads = self.bucket.list_uploads(&Prefix::nars()).await?;
        let now = self.bucket.now().await?;
        uploads.retain(|(_, began)| now.duration_since(*began).unwrap_or_default() < YOUNG);
        uploads.sort_by_key(|(_, began)| std::cmp::Reverse(*began));
        Ok(uploads
            .into_iter()
            .filter_map(|(upload, _)| Some((NarUrl::parse(upload.key.as_str()).ok()?, upload)))
            .collect())
    }
}

/// The ways of packing that `packing` may be given up for: zstd with and without threads.
pub fn acceptable(packing: Packing, most_workers: u32) -> Vec<Packing> {
    match packing.compression {
        Compression::Zstd => [0, most_workers.max(1)].map(|workers| Packing { workers, ..packing }).into(),
        _ => vec![packing],
    }
}

/// Whether a part that the bucket has holds these very bytes, by its ETag, which is an MD5 on most servers. Elsewhere
/// (objects under a KMS key, the directory back end) it matches nothing, and the part is sent again.
pub fn holds(part: &Part, bytes: &[u8]) -> bool {
    let etag = part.etag.trim_matches('"');
    part.size == bytes.len() as u64 && etag.eq_ignore_ascii_case(&HEXLOWER.encode(&Md5::digest(bytes)))
}
