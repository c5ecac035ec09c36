//! Nix's words: store paths, hashes, path infos, narinfos, signatures.
//!
//! Text is parsed once, where it enters; from there on these types travel. Nothing here does I/O.

pub mod base32;
mod content_address;
mod hash;
mod nar_info;
mod path_info;
mod signature;
mod store_path;

pub use content_address::{ContentAddress, ContentAddressError};
pub use hash::{HashError, Sha256};
pub use nar_info::{Compression, NarInfo, NarInfoError, NarUrl};
pub use path_info::PathInfo;
pub use signature::{Fingerprint, KeyError, KeyName, PublicKey, SecretKey, Signature, SignatureError};
pub use store_path::{PathHash, StoreDir, StorePath, StorePathError};
