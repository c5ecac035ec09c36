//! What a store says about one of its valid paths.

use super::{ContentAddress, Sha256, Signature, StorePath};
use std::num::NonZeroU64;

/// The registration of a valid path, from the store's database or daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    pub path: StorePath,
    pub nar_hash: Sha256,
    /// Bytes of the uncompressed NAR; rows of very old stores lack it.
    pub nar_size: Option<NonZeroU64>,
    /// Sorted, without repetition; contains `path` itself where it refers to itself.
    pub references: Vec<StorePath>,
    pub deriver: Option<StorePath>,
    /// Built by this store rather than fetched or added.
    pub ultimate: bool,
    pub signatures: Vec<Signature>,
    pub ca: Option<ContentAddress>,
}
