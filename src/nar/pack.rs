//! From a path to the compressed bytes of its NAR, and what a narinfo says about both.

use super::compress::{self, Compressor};
use super::digest::Digest;
use super::encode::{Piece, encode};
use crate::nix::{Compression, Sha256};
use crate::remedy::Remedy;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    pub compression: Compression,
    /// `None` is the format's default here: zstd 3, xz 6.
    pub level: Option<i32>,
    /// zstd worker threads beside the caller's; 0 compresses on the calling thread. At level 3 the first takes 40 MiB
    /// where the calling thread alone takes 4, each further one 14.
    pub workers: u32,
}

impl Packing {
    /// Bytes that one compressor of this kind holds, roughly.
    pub fn memory(&self) -> u64 {
        compress::memory(*self)
    }
}

/// What went through `pack`: only the end of the stream makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub nar_hash: Sha256,
    /// Bytes before compression.
    pub nar_size: u64,
    pub file_hash: Sha256,
    /// Bytes after compression.
    pub file_size: u64,
    /// Nodes from the root to the deepest one, both counted: 1 for a single file. See `MAX_DEPTH_OF_NIX`.
    pub depth: usize,
}

/// Why there is no NAR of a path.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The root or something in it is gone: most likely the path was garbage collected.
    #[error("File {path:?} vanished before it was read")]
    Vanished { path: PathBuf },
    /// A file was written to, or replaced, while it was read. A store path in order never changes.
    #[error("File {path:?} changed while it was read: {change}")]
    Changed { path: PathBuf, change: &'static str },
    /// Permission denied; the daemon may still be able to read it.
    #[error("File {path:?} may not be read")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("Could not read file {path:?}")]
    Read { path: PathBuf, source: io::Error },
    /// A NAR holds files, directories and symlinks only.
    #[error("File {path:?} is {kind}, which a NAR cannot hold")]
    UnsupportedType { path: PathBuf, kind: &'static str },
    /// Only on macOS, where two names on disk can become one in the NAR.
    #[error("File {path:?} has the same name as another one of its directory once its case hack is undone")]
    Collision { path: PathBuf },
    #[error("Compression {compression} has no level {level}")]
    Level { compression: Compression, level: i32 },
    #[error("Compression {0} is not written")]
    Unsupported(Compression),
    /// Out of memory, in practice.
    #[error("Could not compress")]
    Compress(#[source] io::Error),
    /// The sink refused; its own error.
    #[error("Could not pass on the compressed bytes")]
    Sink(#[source] io::Error),
}

impl PackError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Vanished { .. }
            | Self::Changed { .. }
            | Self::Unreadable { .. }
            | Self::UnsupportedType { .. }
            | Self::Collision { .. } => Remedy::GiveUpOnItem,
            // Too many open files, an I/O error, an upload that was cut: the path itself is not at fault.
            Self::Read { .. } | Self::Compress(_) | Self::Sink(_) => Remedy::Retry,
            Self::Level { .. } | Self::Unsupported(_) => Remedy::FixConfig,
        }
    }
}

/// Writes the compressed NAR of the file system object at `root` to `sink`, then returns the digests and the sink.
///
/// Symlinks are packed, never followed. The sink gets pieces of some 128 KiB; an error of its own ends the packing at
/// once, so that is how to cancel. It is not flushed.
pub fn pack<W: Write>(root: &Path, packing: Packing, sink: W) -> Result<(Packed, W), PackError> {
    pack_with_progress(root, packing, sink, &|_| ())
}

/// As [`pack`]; tells `progress` from the calling thread how many more bytes of the NAR were read and compressed.
pub fn pack_with_progress<W: Write>(
    root: &Path,
    packing: Packing,
    sink: W,
    progress: &dyn Fn(u64),
) -> Result<(Packed, W), PackError> {
    if let Some(level) = packing.level
        && compress::levels(packing.compression).is_some_and(|levels| !levels.contains(&level))
    {
        return Err(PackError::Level { compression: packing.compression, level });
    }
    // Uncompressed, both hashes are one: hashing is what costs there.
    let hashed_once = packing.compression == Compression::None;
    let mut stored = Stored { sink, digest: (!hashed_once).then(Digest::default) };
    let mut nar = Digest::default();
    let mut compressor = None;
    let depth = encode(root, &mut |bytes, piece| {
        nar.update(bytes);
        // Made with the first piece: if that is the last one, too, the size is certain.
        let mut current = match compressor.take() {
            Some(current) => current,
            None => Compressor::new(packing, (piece == Piece::Last).then_some(bytes.len() as u64))?,
        };
        current.write(bytes, &mut |bytes| stored.put(bytes))?;
        match piece {
            Piece::Last => current.finish(&mut |bytes| stored.put(bytes))?,
            Piece::More => compressor = Some(current),
        }
        progress(bytes.len() as u64);
        Ok(())
    })?;
    let (nar_hash, nar_size) = nar.finish();
    let (file_hash, file_size) = stored.digest.map_or((nar_hash, nar_size), Digest::finish);
    Ok((Packed { nar_hash, nar_size, file_hash, file_size, depth }, stored.sink))
}

/// The sink, and what it got.
struct Stored<W> {
    sink: W,
    digest: Option<Digest>,
}

impl<W: Write> Stored<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        self.sink.write_all(bytes).map_err(PackError::Sink)
    }
}
