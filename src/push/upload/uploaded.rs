//! The proof that a NAR is in the bucket.

use crate::nar::Packed;
use crate::nix::{Compression, NarInfo, NarUrl, PathInfo, Sha256, StorePath};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A NAR that is in the bucket and hashes to what the store registered. Only `upload` makes one.
#[derive(Debug)]
pub struct Uploaded {
    url: NarUrl,
    compression: Compression,
    file_hash: Sha256,
    file_size: u64,
    nar_hash: Sha256,
    nar_size: NonZeroU64,
    /// Bytes sent that no path has been charged with yet.
    uncharged: Arc<AtomicU64>,
}

impl Uploaded {
    /// What is there now, after its hash was compared; `sent` of its bytes had to go over the network.
    pub(super) fn new(url: NarUrl, compression: Compression, packed: &Packed, nar_size: NonZeroU64, sent: u64) -> Self {
        Self {
            url,
            compression,
            file_hash: packed.file_hash,
            file_size: packed.file_size,
            nar_hash: packed.nar_hash,
            nar_size,
            uncharged: Arc::new(AtomicU64::new(sent)),
        }
    }

    /// The same NAR for another path with the same NarHash.
    pub fn share(&self) -> Self {
        Self { url: self.url.clone(), uncharged: self.uncharged.clone(), ..*self }
    }

    /// A NAR that the visible narinfo of `holder` points at, for a path with the same NarHash. The
    /// caller's lease names `holder`, so no prune removes the NAR before the new narinfo holds it.
    ///
    /// Nothing where the bucket's word alone would have to be signed: the size must be the store's.
    pub(in crate::push) fn reused(visible: &NarInfo, holder: &StorePath, info: &PathInfo) -> Option<Self> {
        let same = visible.path == *holder
            && visible.nar_hash == info.nar_hash
            && info.nar_size.is_some_and(|size| size == visible.nar_size);
        if !same {
            return None;
        }
        Some(Self {
            url: visible.url.clone(),
            compression: visible.compression,
            file_hash: visible.file_hash?,
            file_size: visible.file_size?,
            nar_hash: visible.nar_hash,
            nar_size: visible.nar_size,
            uncharged: Arc::default(),
        })
    }

    pub fn url(&self) -> &NarUrl {
        &self.url
    }

    pub fn compression(&self) -> Compression {
        self.compression
    }

    pub fn file_hash(&self) -> Sha256 {
        self.file_hash
    }

    pub fn file_size(&self) -> u64 {
        self.file_size
    }

    pub fn nar_hash(&self) -> Sha256 {
        self.nar_hash
    }

    pub fn nar_size(&self) -> NonZeroU64 {
        self.nar_size
    }

    /// Bytes that went to the bucket for this NAR: told to the first path that asks, 0 to the others.
    pub fn charge(&self) -> u64 {
        self.uncharged.swap(0, Ordering::Relaxed)
    }
}
