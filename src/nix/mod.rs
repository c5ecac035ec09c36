//! Nix's words: store paths, hashes, path infos, narinfos, signatures.
//!
//! Text is parsed once, where it enters; from there on these types travel. Nothing here does I/O.

pub mod base32;
mod compression;
mod content_address;
mod debug_link;
mod excerpt;
mod hash;
mod key;
mod nar_info;
mod nar_url;
mod path_info;
mod signature;
mod store_path;

pub use compression::{Compression, CompressionError};
pub use content_address::{ContentAddress, ContentAddressError};
pub use debug_link::{BuildId, DebugLink};
pub use hash::{HashError, Sha256};
pub use key::{KeyError, KeyKind, KeyName, PublicKey, SecretKey};
pub use nar_info::{NarInfo, NarInfoError, NarInfoFault};
pub use nar_url::{NarUrl, NarUrlError};
pub use path_info::PathInfo;
pub use signature::{Fingerprint, Signature, SignatureError};
pub use store_path::{PathHash, StoreDir, StorePath, StorePathError};

#[cfg(test)]
pub(crate) mod vectors;
