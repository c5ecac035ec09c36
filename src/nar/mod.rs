//! NARs: from files to compressed, hashed bytes, and back.
//!
//! ```text
//! pack:    tree_walk ─▶ read_ahead ─▶ encode ─▶ digest (NAR) ─▶ compress ─▶ digest (file) ─▶ sink
//!                                        └────▶ observe: listing, build_ids
//! unpack:  stored bytes ─▶ digest (file) ─▶ decompress ─▶ digest (NAR) ─▶ decode ─▶ files, or nothing
//! ```
//!
//! Everything here blocks and streams; memory does not depend on the size of a NAR.
//!
//! The format, `nix-archive-1`: a token is a little-endian `u64` length, the bytes, and zeros up to the next multiple
//! of 8. A node is `( type regular [executable ""] contents <bytes> )`, `( type symlink target <bytes> )` or
//! `( type directory entry ( name <bytes> node <node> ) … )`, entries sorted by the bytes of their names.
//! Source: the NAR chapter of the Nix manual, `archive.cc` in Nix; bounds as in Nix 2.35.

mod build_ids;
mod compress;
mod decode;
mod decompress;
mod digest;
mod encode;
mod error;
mod listing;
mod observe;
mod pack;
mod packing;
mod read_ahead;
mod token;
mod tree_walk;
mod unpack;

pub use decode::NarFault;
pub use digest::Digest;
pub use error::PackError;
pub use listing::NoListing;
pub use observe::{Observed, Wanted};
pub use pack::{Packed, observe, pack, pack_observed};
pub use packing::Packing;
pub use unpack::{UnpackError, unpack, verify, verify_with};

/// Nix 2.31.5, 2.32.8, 2.33.6, 2.34.8 and all from 2.35 refuse NARs with more nodes on top of each other
/// ([`Packed::depth`]).
pub const MAX_DEPTH_OF_NIX: usize = 64;

#[cfg(test)]
mod tests;
