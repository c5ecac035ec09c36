//! The narinfo: what a binary cache says about one store path.

use super::{ContentAddress, Fingerprint, Sha256, Signature, StoreDir, StorePath};
use std::num::NonZeroU64;

/// How the stored NAR is compressed. `Display` prints the narinfo's word (`zstd`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    Zstd,
    Xz,
    None,
    /// Only read, never written.
    Bzip2,
}

/// Where the NAR lies, relative to the cache: below `nar/`, no `..`, `%` or `//`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NarUrl(String);

/// A narinfo; `parse` and `print` are inverse for all that loft writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    pub path: StorePath,
    pub url: NarUrl,
    pub compression: Compression,
    /// Of the stored, compressed object; some writers leave both out.
    pub file_hash: Option<Sha256>,
    pub file_size: Option<u64>,
    pub nar_hash: Sha256,
    pub nar_size: NonZeroU64,
    /// Sorted; contains `path` itself where it refers to itself.
    pub references: Vec<StorePath>,
    pub deriver: Option<StorePath>,
    pub signatures: Vec<Signature>,
    pub ca: Option<ContentAddress>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    #[error("todo")]
    Todo,
}

impl Compression {
    /// File suffix of the NAR's key: `.nar.zst`, `.nar.xz`, `.nar`, `.nar.bz2`.
    pub fn suffix(self) -> &'static str {
        todo!()
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

impl NarUrl {
    pub fn parse(_text: &str) -> Result<Self, NarInfoError> {
        todo!()
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NarInfo {
    /// Reads a narinfo of the store at `dir`.
    pub fn parse(_dir: &StoreDir, _bytes: &[u8]) -> Result<Self, NarInfoError> {
        todo!()
    }
    pub fn print(&self, _dir: &StoreDir) -> String {
        todo!()
    }
    pub fn fingerprint(&self, dir: &StoreDir) -> Fingerprint {
        Fingerprint::new(dir, &self.path, &self.nar_hash, self.nar_size, &self.references)
    }
}
