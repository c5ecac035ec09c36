//! F2 and F5: the NARs, by a listing of all of them rather than a look at each.

use super::finding::Kind;
use super::{Check, CheckError, Ruin};
use crate::bucket::{Bucket, BucketError, Key, ObjectInfo, nar_pages};
use crate::catalog;
use crate::nix::{NarInfo, PathHash, StoreDir};
use crate::prune::graph::Id;
use crate::push::NAR_INFO_LIMIT;
use crate::report::Event;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::time::Duration;

/// Looks at once.
pub const PARALLEL: usize = 32;
/// What is younger may belong to a push in progress.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);

pub async fn look(check: &mut Check<'_>) -> Result<(), CheckError> {
    let bucket = check.ends.bucket.clone();
    let mut pages = nar_pages(bucket.as_ref());
    while let Some(page) = pages.try_next().await? {
        for object in page {
            check.checked.counts.nars += 1;
            check.checked.counts.stored += object.size;
            if !check.tables.saw_nar(&object) {
                let problem = format!("no narinfo points at these {} bytes{}", object.size, if_young(check, &object));
                check.find(Kind::NarUnreferenced, &object.key, None, problem);
            }
        }
        let count = check.checked.counts.nars;
        check.ends.report.event(Event::Looked { what: "NARs", count });
    }
    Ok(())
}

/// What comes before its narinfo may be ahead of it still.
pub fn if_young(check: &Check<'_>, object: &ObjectInfo) -> &'static str {
    let age = check.opened.now.duration_since(object.modified).unwrap_or_default();
    if age < YOUNG { "; it is younger than a day, so a push may be about to" } else { "" }
}

/// The listings are not of one moment: what seems to be missing is looked at again, narinfo and NAR.
pub async fn confirm(check: &mut Check<'_>) -> Result<(), CheckError> {
    let graph = &check.tables.graph;
    let suspects: Vec<Id> = graph.visible().filter(|id| !check.tables.fits(*id)).collect();
    for page in suspects.chunks(1000) {
        let hashes = page.iter().map(|id| check.tables.graph.hash(*id)).collect();
        confirm_paths(check, hashes).await?;
    }
    Ok(())
}

/// Looks at these narinfos and their NARs, and tells what does not fit.
pub async fn confirm_paths(check: &mut Check<'_>, hashes: Vec<PathHash>) -> Result<(), CheckError> {
    let (bucket, dir) = (check.ends.bucket.clone(), check.opened.dir.clone());
    let looks: Vec<Option<Look>> = stream::iter(hashes)
        .map(|hash| Look::at(bucket.as_ref(), &dir, hash))
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    for Look { hash, etag, info, size } in looks.into_iter().flatten() {
        let said = info.file_size;
        let (kind, problem) = match size {
            None => (Kind::NarMissing, format!("its NAR {} is not there", info.url)),
            Some(size) if said.is_some_and(|said| said != size) => {
                let said = said.unwrap_or_default();
                (Kind::NarSize, format!("its NAR {} has {size} bytes, not {said}", info.url))
            }
            Some(_) => continue,
        };
        let ruin = Ruin { etag, nar_hash: Some(info.nar_hash) };
        check.checked.damages.paths.entry(hash).or_insert(ruin);
        check.find(kind, &Key::nar_info(&hash), Some(info.path), problem);
    }
    Ok(())
}

/// A narinfo as it is now, and its NAR.
struct Look {
    hash: PathHash,
    etag: String,
    info: NarInfo,
    size: Option<u64>,
}

impl Look {
    /// Nothing where it has gone; what cannot be understood has been told already.
    async fn at(bucket: &dyn Bucket, dir: &StoreDir, hash: PathHash) -> Result<Option<Self>, BucketError> {
        let Some((etag, info)) = narinfo(bucket, dir, &hash).await? else { return Ok(None) };
        let size = bucket.head(&Key::nar(&info.url)).await?.map(|object| object.size);
        Ok(Some(Self { hash, etag, info, size }))
    }
}

/// A narinfo as it is now, with its ETag.
pub async fn narinfo(
    bucket: &dyn Bucket,
    dir: &StoreDir,
    hash: &PathHash,
) -> Result<Option<(String, NarInfo)>, BucketError> {
    let Some((object, bytes)) = bucket.get(&Key::nar_info(hash), NAR_INFO_LIMIT).await? else { return Ok(None) };
    Ok(catalog::parse(dir, hash, &bytes).ok().map(|info| (object.etag, info)))
}
