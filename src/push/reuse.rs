//! NARs that the bucket has already, under another store path: nothing is sent for them.
//!
//! Two paths of one closure may have the same NAR. The narinfo of the one that is there is read again
//! under the lease, which names it, so no prune removes the NAR before the new narinfo points at it.

use super::upload::Uploaded;
use super::{Ends, Options};
use crate::bucket::Key;
use crate::nix::{NarInfo, StorePath};
use crate::plan::Plan;
use futures_util::stream::{self, StreamExt};
use std::collections::HashMap;

/// A narinfo is a few kilobytes; one with very many references may have some megabytes.
pub const NAR_INFO_LIMIT: u64 = 16 << 20;
const PARALLEL: usize = 16;

/// Uploads of the plan whose NAR a visible narinfo of the plan's own closure points at. Where a look
/// fails the path is uploaded as if there were none.
pub async fn find(ends: &Ends, options: &Options, plan: &Plan) -> HashMap<usize, Uploaded> {
    let present: HashMap<_, _> = plan
        .paths
        .iter()
        .filter(|planned| planned.is_present())
        .map(|planned| (planned.info.nar_hash, &planned.info.path))
        .collect();
    let candidates = plan.paths.iter().enumerate().filter_map(|(index, planned)| {
        let holder = present.get(&planned.info.nar_hash)?;
        planned.is_upload().then_some((index, *holder))
    });
    stream::iter(candidates)
        .map(|(index, holder)| async move { Some((index, of_holder(ends, options, plan, index, holder).await?)) })
        .buffer_unordered(PARALLEL)
        .filter_map(|found| async move { found })
        .collect()
        .await
}

async fn of_holder(
    ends: &Ends,
    options: &Options,
    plan: &Plan,
    index: usize,
    holder: &StorePath,
) -> Option<Uploaded> {
    let (_, bytes) = ends.bucket.get(&Key::nar_info(&holder.hash_part()), NAR_INFO_LIMIT).await.ok()??;
    let visible = NarInfo::parse(&plan.store_dir, &bytes).ok()?;
    // Only what this push could have written itself: a user who changed the compression meant it.
    if visible.compression != options.packing.compression {
        return None;
    }
    let reused = Uploaded::reused(&visible, holder, &plan.paths[index].info)?;
    // A narinfo whose NAR is gone or cut must not get company.
    let stored = ends.bucket.head(&Key::nar(reused.url())).await.ok()??;
    (stored.size == reused.file_size()).then_some(reused)
}
