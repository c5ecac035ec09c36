//! SHA-256 and length of a stream, on the way past.

use crate::nix::Sha256;
use sha2::Digest as _;

/// Hashes and counts; only the end of the stream gives the result.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    hasher: sha2::Sha256,
    size: u64,
}

impl Digest {
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest and the number of bytes.
    pub fn finish(self) -> (Sha256, u64) {
        (Sha256::from_bytes(self.hasher.finalize().into()), self.size)
    }
}
