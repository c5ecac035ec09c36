//! The store paths: counted by a listing, and what they unpack to, by reading narinfos.

use super::{Damaged, Depth, Large};
use crate::bucket::{Bucket, BucketError, Key, Kind, ObjectInfo, Piece, Prefix, Walk, nar_info_pages};
use crate::catalog;
use crate::nix::{NarInfo, PathHash, StoreDir};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::BinaryHeap;
use std::hash::{BuildHasher as _, RandomState};

/// A narinfo is a few kilobytes; one with very many references may have some megabytes.
const LIMIT: u64 = 16 << 20;
/// Narinfos read at once.
const PARALLEL: usize = 32;
/// Of at most this many narinfos, all are read.
const ALL_UP_TO: usize = 1000;
/// Of more, so many: the ratio of a few hundred NARs is within some per cent of that of all.
const SAMPLE: usize = 400;

/// What the narinfos that were read say of sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Unpacked {
    /// Narinfos that were read and understood.
    pub read: u64,
    /// Whether those were all.
    pub is_exact: bool,
    /// Bytes that all paths unpack to: added up, or estimated from the stored bytes and the ratio.
    pub bytes: u64,
    /// Stored bytes by unpacked ones of what was read; `None` where no narinfo says both.
    pub ratio: Option<f64>,
}

/// Sizes added up while narinfos are read.
#[derive(Default)]
pub struct Sizes {
    read: u64,
    is_exact: bool,
    nar_size: u64,
    /// Of narinfos that say both.
    both: (u64, u64),
}

/// Counts the paths and reads narinfos as deep as asked; names the `largest` NARs that they point at.
pub async fn look(
    bucket: &dyn Bucket,
    dir: &StoreDir,
    depth: Depth,
    largest: &mut [Large],
    damaged: &mut Damaged,
) -> Result<(u64, Sizes), BucketError> {
    let reader = Reader { bucket, dir };
    let mut sizes = Sizes { is_exact: true, ..Sizes::default() };
    if depth == Depth::Full {
        let mut paths = 0;
        let mut walk = Walk::new(bucket, Piece { skips_folders: true, ..Piece::of(Prefix::all()) });
        while let Some(objects) = walk.next().await? {
            let hashes: Vec<PathHash> = nar_infos(&objects).collect();
            paths += hashes.len() as u64;
            reader.read(hashes, &mut sizes, largest, damaged).await?;
        }
        return Ok((paths, sizes));
    }
    let mut draw = Draw::default();
    let mut pages = nar_info_pages(bucket);
    while let Some(objects) = pages.try_next().await? {
        nar_infos(&objects).for_each(|hash| draw.add(hash));
    }
    let paths = draw.seen;
    let drawn = draw.finish();
    sizes.is_exact = drawn.len() as u64 == paths;
    reader.read(drawn, &mut sizes, largest, damaged).await?;
    Ok((paths, sizes))
}

fn nar_infos(objects: &[ObjectInfo]) -> impl Iterator<Item = PathHash> {
    objects.iter().filter_map(|object| match object.key.kind() {
        Kind::NarInfo(hash) => Some(hash),
        _ => None,
    })
}

/// Draws at random from a stream of unknown length: those whose numbers, by a hash with a secret of this run, are
/// the smallest.
#[derive(Default)]
struct Draw {
    seen: u64,
    secret: RandomState,
    smallest: BinaryHeap<(u64, PathHash)>,
}

impl Draw {
    fn add(&mut self, hash: PathHash) {
        self.seen += 1;
        self.smallest.push((self.secret.hash_one(hash), hash));
        if self.smallest.len() > ALL_UP_TO {
            self.smallest.pop();
        }
    }

    /// All where they are few.
    fn finish(self) -> Vec<PathHash> {
        let few = self.seen <= ALL_UP_TO as u64;
        let drawn = self.smallest.into_sorted_vec().into_iter().map(|(_, hash)| hash);
        drawn.take(if few { usize::MAX } else { SAMPLE }).collect()
    }
}

struct Reader<'a> {
    bucket: &'a dyn Bucket,
    dir: &'a StoreDir,
}

impl Reader<'_> {
    async fn read(
        &self,
        hashes: Vec<PathHash>,
        sizes: &mut Sizes,
        largest: &mut [Large],
        damaged: &mut Damaged,
    ) -> Result<(), BucketError> {
        let mut objects = stream::iter(hashes)
            .map(|hash| async move { (hash, self.bucket.get(&Key::nar_info(&hash), LIMIT).await) })
            .buffer_unordered(PARALLEL);
        while let Some((hash, object)) = objects.next().await {
            let key = Key::nar_info(&hash);
            // Deleted since the listing: nothing to say of it.
            let Some((_, bytes)) = damaged.or_note(&key, object)?.flatten() else { continue };
            let Some(info) = damaged.or_name(&key, catalog::parse(self.dir, &hash, &bytes)) else { continue };
            sizes.add(&info);
            if let Some(large) = largest.iter_mut().find(|large| large.key.as_str() == info.url.as_str()) {
                large.nar_size = Some(info.nar_size.get());
                large.path.get_or_insert(info.path);
            }
        }
        Ok(())
    }
}

impl Sizes {
    fn add(&mut self, info: &NarInfo) {
        let nar_size = info.nar_size.get();
        self.read += 1;
        self.nar_size = self.nar_size.saturating_add(nar_size);
        if let Some(file_size) = info.file_size {
            self.both = (self.both.0.saturating_add(file_size), self.both.1.saturating_add(nar_size));
        }
    }

    /// With all NARs' `stored` bytes.
    pub(super) fn of(self, stored: u64) -> Unpacked {
        let (file_size, nar_size) = self.both;
        let ratio = (file_size > 0 && nar_size > 0).then(|| file_size as f64 / nar_size as f64);
        let bytes = match ratio {
            Some(ratio) if !self.is_exact => (stored as f64 / ratio) as u64,
            _ => self.nar_size,
        };
        Unpacked { read: self.read, is_exact: self.is_exact, bytes, ratio }
    }
}
