//! Tests of packing and unpacking together, and the trees they use.

mod changing;
mod golden;
mod hostile;
mod memory;
mod observe;
mod recipe;
mod round_trip;

use super::*;
use crate::nix::Compression;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Zstd, Compression::Xz];

/// A tree in memory.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// Contents and mode.
    File(Vec<u8>, u32),
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    fn directory<const N: usize>(entries: [(&[u8], Node); N]) -> Self {
        Self::Directory(entries.into_iter().map(|(name, node)| (name.to_vec(), node)).collect())
    }

    fn create(&self, path: &Path) {
        match self {
            Self::File(contents, mode) => {
                fs::write(path, contents).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Self::Symlink(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
            Self::Directory(entries) => {
                fs::create_dir(path).unwrap();
                // Against the order, so that the file system's own cannot be the right one by chance.
                for (name, node) in entries.iter().rev() {
                    node.create(&path.join(OsStr::from_bytes(name)));
                }
            }
        }
    }

    /// The NAR as the manual's grammar says it, written as simply as can be.
    fn nar(&self) -> Vec<u8> {
        let mut nar = token(b"nix-archive-1");
        nar.extend(self.node());
        nar
    }

    fn node(&self) -> Vec<u8> {
        match self {
            Self::File(contents, mode) if mode & 0o100 != 0 => {
                tokens(&[b"(", b"type", b"regular", b"executable", b"", b"contents", contents, b")"])
            }
            Self::File(contents, _) => tokens(&[b"(", b"type", b"regular", b"contents", contents, b")"]),
            Self::Symlink(target) => tokens(&[b"(", b"type", b"symlink", b"target", target, b")"]),
            Self::Directory(entries) => {
                let mut nar = tokens(&[b"(", b"type", b"directory"]);
                for (name, node) in entries {
                    nar.extend(tokens(&[b"entry", b"(", b"name", name, b"node"]));
                    nar.extend(node.node());
                    nar.extend(token(b")"));
                }
                nar.extend(token(b")"));
                nar
            }
        }
    }
}

fn token(bytes: &[u8]) -> Vec<u8> {
    let mut token = (bytes.len() as u64).to_le_bytes().to_vec();
    token.extend(bytes);
    token.resize(token.len().next_multiple_of(8), 0);
    token
}

fn tokens(all: &[&[u8]]) -> Vec<u8> {
    all.iter().flat_map(|bytes| token(bytes)).collect()
}

fn packing(compression: Compression) -> Packing {
    Packing { compression, level: None, workers: 0 }
}

/// The stored bytes, too.
fn pack_all(root: &Path, compression: Compression) -> (Packed, Vec<u8>) {
    pack(root, packing(compression), Vec::new()).unwrap()
}

fn nar_hash(root: &Path) -> String {
    pack_all(root, Compression::None).0.nar_hash.to_nix32()
}

/// Bytes that do not compress, the same ones for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A sink that calls `hook` with the number of each write before it takes it.
struct Hooked<F>(usize, F);

impl<F: FnMut(usize) -> io::Result<()>> Write for Hooked<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += 1;
        (self.1)(self.0)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
