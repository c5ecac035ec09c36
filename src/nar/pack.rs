//! From a path to the compressed bytes of its NAR, and what a narinfo says about both.

use super::compress::Compressor;
use super::digest::Digest;
use super::encode::{Piece, encode};
use super::error::PackError;
use super::observe::{Observed, Observer, Wanted};
use super::packing::{Packing, levels};
use crate::nix::{Compression, Sha256};
use std::io::Write;
use std::path::Path;

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

/// Writes the compressed NAR of the file system object at `root` to `sink`, then returns the digests and the sink.
///
/// Symlinks are packed, never followed. The sink gets pieces of some 128 KiB; an error of its own ends the packing at
/// once, so that is how to cancel. It is not flushed.
pub fn pack<W: Write>(root: &Path, packing: Packing, sink: W) -> Result<(Packed, W), PackError> {
    let (packed, _, sink) = pack_observed(root, packing, sink, &|_| (), Wanted::default())?;
    Ok((packed, sink))
}

/// As [`pack`]; tells `progress` from the calling thread how many more bytes of the NAR were read and compressed, and notes
/// down what is `wanted`.
pub fn pack_observed<W: Write>(
    root: &Path,
    packing: Packing,
    sink: W,
    progress: &dyn Fn(u64),
    wanted: Wanted,
) -> Result<(Packed, Observed, W), PackError> {
    if let Some(level) = packing.level
        && levels(packing.compression).is_some_and(|levels| !levels.contains(&level))
    {
        return Err(PackError::Level { compression: packing.compression, level });
    }
    // Uncompressed, both hashes are one: hashing is what costs there.
    let hashed_once = packing.compression == Compression::None;
    let mut stored = Stored { sink, digest: (!hashed_once).then(Digest::default) };
    let mut nar = Digest::default();
    let mut compressor = None;
    let mut observer = Observer::new(wanted);
    let depth = encode(root, &mut observer, &mut |bytes, piece| {
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
    Ok((Packed { nar_hash, nar_size, file_hash, file_size, depth }, observer.finish(), stored.sink))
}

/// Notes down what is `wanted` of the NAR of the file system object at `root`, which goes to `sink` as it is, as with [`pack`].
pub fn observe(root: &Path, wanted: Wanted, mut sink: impl Write) -> Result<(Sha256, Observed), PackError> {
    let mut nar = Digest::default();
    let mut observer = Observer::new(wanted);
    encode(root, &mut observer, &mut |bytes, _| {
        nar.update(bytes);
        sink.write_all(bytes).map_err(PackError::Sink)
    })?;
    Ok((nar.finish().0, observer.finish()))
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
