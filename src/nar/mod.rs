//! NARs: from files to compressed, hashed bytes, and back.
//!
//! Everything here blocks and streams; memory does not depend on the size of a NAR.

use crate::nix::{Compression, Sha256};
use std::io::{self, Read, Write};
use std::path::Path;

/// How to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    pub compression: Compression,
    /// `None` is the format's default here: zstd 3, xz 6.
    pub level: Option<i32>,
    /// zstd worker threads beside the caller's; 0 compresses on the calling thread.
    pub workers: u32,
}

/// What went through `pack`: only the end of the stream makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub nar_hash: Sha256,
    pub nar_size: u64,
    pub file_hash: Sha256,
    pub file_size: u64,
    /// Deepest nesting; new Nix refuses more than 64.
    pub depth: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the path could not be read (vanished, permission, changed size under us).
    #[error("todo")]
    Read,
    /// The sink refused; its own error.
    #[error("todo")]
    Sink(#[source] io::Error),
}

/// Writes the compressed NAR of the file system object at `root` to `sink`, then returns the digests and the sink.
pub fn pack<W: Write>(_root: &Path, _packing: Packing, _sink: W) -> Result<(Packed, W), PackError> {
    todo!()
}

/// What is wrong with a NAR or its compressed form.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("todo")]
    Todo,
}

/// Reads a compressed NAR, checks its grammar, hashes both forms, refuses more than `max_nar_size` bytes.
pub fn verify<R: Read>(_stored: R, _compression: Compression, _max_nar_size: u64) -> Result<Packed, UnpackError> {
    todo!()
}

/// As `verify`, and also creates the tree at `target`, which must not exist.
pub fn unpack<R: Read>(
    _stored: R,
    _compression: Compression,
    _max_nar_size: u64,
    _target: &Path,
) -> Result<Packed, UnpackError> {
    todo!()
}
