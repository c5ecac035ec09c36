//! From the stored bytes of a NAR back to files, or only to a judgement.

use super::decode::{NarFault, Tree, decode};
use super::decompress::decompress;
use super::digest::Digest;
use super::pack::Packed;
use crate::nix::Compression;
use crate::remedy::Remedy;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What is wrong with a NAR or its compressed form.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The reader failed; nothing is known about the NAR.
    #[error("Could not read the stored NAR")]
    Read(#[source] io::Error),
    #[error("Compression {0} is not read")]
    Unsupported(Compression),
    #[error("Could not decompress the NAR")]
    Decompress(#[source] io::Error),
    #[error("The NAR is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    /// Counted in the decompressed NAR.
    #[error("The NAR is malformed at byte {offset}")]
    Malformed {
        offset: u64,
        #[source]
        fault: NarFault,
    },
    #[error("Could not create {path:?}")]
    Create { path: PathBuf, source: io::Error },
}

impl UnpackError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Read(_) => Remedy::Retry,
            Self::Unsupported(_) | Self::Decompress(_) | Self::TooLarge { .. } | Self::Malformed { .. } => {
                Remedy::GiveUpOnItem
            }
            Self::Create { .. } => Remedy::FixConfig,
        }
    }
}

/// Reads a compressed NAR, checks its grammar, hashes both forms, refuses more than `max_nar_size` bytes.
///
/// Memory is what the writer's window asks for, at most 128 MiB; 8 MiB for what `pack` writes by default.
pub fn verify<R: Read>(stored: R, compression: Compression, max_nar_size: u64) -> Result<Packed, UnpackError> {
    read(stored, compression, max_nar_size, &mut Nowhere, &mut |_| {})
}

/// As `verify`; `seen` is given the bytes of the unpacked NAR as they come, also of one that turns out to be wrong.
pub fn verify_with<R: Read>(
    stored: R,
    compression: Compression,
    max_nar_size: u64,
    seen: &mut dyn FnMut(&[u8]),
) -> Result<Packed, UnpackError> {
    read(stored, compression, max_nar_size, &mut Nowhere, seen)
}

struct Nowhere;

impl Tree for Nowhere {}

/// As `verify`, and also creates the tree at `target`, which must not exist.
///
/// Nobody else may write to the folder of `target` meanwhile. After an error the part that was created stays, to be
/// removed by the caller.
pub fn unpack<R: Read>(
    stored: R,
    compression: Compression,
    max_nar_size: u64,
    target: &Path,
) -> Result<Packed, UnpackError> {
    read(stored, compression, max_nar_size, &mut Files { path: target.to_owned(), file: None }, &mut |_| {})
}

fn read<R: Read>(
    stored: R,
    compression: Compression,
    max_nar_size: u64,
    tree: &mut dyn Tree,
    seen: &mut dyn FnMut(&[u8]),
) -> Result<Packed, UnpackError> {
    if compression == Compression::Bzip2 {
        return Err(UnpackError::Unsupported(compression));
    }
    let mut stored =
        BufReader::with_capacity(128 * 1024, Stored { reader: stored, digest: Digest::default(), error: None });
    let decoded = decompress(&mut stored, compression)
        .map_err(UnpackError::Decompress)
        .and_then(|nar| decode(&mut Seen { nar, seen }, max_nar_size, tree));
    // Decompressors pass the reader's errors on as if they were their own.
    if let Some(error) = stored.get_mut().error.take() {
        return Err(UnpackError::Read(error));
    }
    let decoded = decoded?;
    let (nar_hash, nar_size) = decoded.digest.finish();
    let (file_hash, file_size) = stored.into_inner().digest.finish();
    Ok(Packed { nar_hash, nar_size, file_hash, file_size, depth: decoded.depth })
}

/// The unpacked bytes, shown on their way.
struct Seen<'s, R> {
    nar: R,
    seen: &'s mut dyn FnMut(&[u8]),
}

impl<R: Read> Read for Seen<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.nar.read(buffer)?;
        (self.seen)(&buffer[..len]);
        Ok(len)
    }
}

/// The stored bytes, digested; keeps the reader's own error.
struct Stored<R> {
    reader: R,
    digest: Digest,
    error: Option<io::Error>,
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Ok(len) => {
                self.digest.update(&buffer[..len]);
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Creates files below a path that did not exist. The grammar lets each name of a directory come only once and no name
/// lead elsewhere, and every call below fails where something is already there: so nothing is written through a symlink.
struct Files {
    path: PathBuf,
    file: Option<File>,
}

impl Files {
    fn created<T>(&self, result: io::Result<T>) -> Result<T, UnpackError> {
        result.map_err(|source| UnpackError::Create { path: self.path.clone(), source })
    }
}

impl Tree for Files {
    fn enter(&mut self, name: &[u8]) -> Result<(), UnpackError> {
        self.path.push(OsStr::from_bytes(name));
        Ok(())
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn directory(&mut self) -> Result<(), UnpackError> {
        self.created(fs::create_dir(&self.path))
    }

    fn symlink(&mut self, target: &[u8]) -> Result<(), UnpackError> {
        self.created(symlink(OsStr::from_bytes(target), &self.path))
    }

    fn regular(&mut self, executable: bool) -> Result<(), UnpackError> {
        let mode = if executable { 0o777 } else { 0o666 };
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&self.path);
        self.file = Some(self.created(file)?);
        Ok(())
    }

    fn contents(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes));
        self.created(written)
    }

    fn end_of_file(&mut self) -> Result<(), UnpackError> {
        self.file = None;
        Ok(())
    }
}
