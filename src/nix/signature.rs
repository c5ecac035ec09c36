//! Fingerprints, signatures and the keys that make and check them.

use super::{PathInfo, Sha256, StoreDir, StorePath};
use std::num::NonZeroU64;

/// The name part of a key, for example `cache.nixos.org-1`: not empty, no `:`, no white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

/// One `Sig` of a path: `name:base64(64 bytes)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature {
    key: KeyName,
    bytes: [u8; 64],
}

/// The bytes that a signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

/// A signing key. `Debug` prints the name alone; the key is wiped from memory when dropped.
pub struct SecretKey {
    name: KeyName,
}

/// What clients put into `trusted-public-keys`: `name:base64(32 bytes)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("todo")]
    Todo,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("todo")]
    Todo,
}

impl KeyName {
    pub fn parse(_text: &str) -> Result<Self, KeyError> {
        todo!()
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Signature {
    /// Reads `name:base64`, split at the first `:`.
    pub fn parse(_text: &str) -> Result<Self, SignatureError> {
        todo!()
    }
    pub fn key(&self) -> &KeyName {
        &self.key
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

impl Fingerprint {
    /// `1;<path>;<NarHash>;<NarSize>;<references, full paths, sorted>`.
    pub fn new(
        _dir: &StoreDir,
        _path: &StorePath,
        _hash: &Sha256,
        _size: NonZeroU64,
        _references: &[StorePath],
    ) -> Self {
        todo!()
    }
    /// The fingerprint of a registration, or nothing where the store does not know the NAR's size.
    pub fn of_info(_dir: &StoreDir, _info: &PathInfo) -> Option<Self> {
        todo!()
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SecretKey {
    /// Makes a new key from the operating system's randomness.
    pub fn generate(_name: KeyName) -> Result<Self, KeyError> {
        todo!()
    }
    /// Reads a secret key file's text: `name:base64(seed ‖ public)`, white space around it ignored.
    pub fn parse(_text: &str) -> Result<Self, KeyError> {
        todo!()
    }
    /// The same key under another name (`signing_key_name`).
    pub fn renamed(self, name: KeyName) -> Self {
        Self { name }
    }
    pub fn name(&self) -> &KeyName {
        &self.name
    }
    pub fn public(&self) -> PublicKey {
        todo!()
    }
    pub fn sign(&self, _fingerprint: &Fingerprint) -> Signature {
        todo!()
    }
    /// The text of a secret key file; the only way the key leaves this type.
    pub fn to_secret_text(&self) -> zeroize::Zeroizing<String> {
        todo!()
    }
}

impl PublicKey {
    pub fn parse(_text: &str) -> Result<Self, KeyError> {
        todo!()
    }
    pub fn name(&self) -> &KeyName {
        &self.name
    }
    /// Whether `signature` is by this key (name and bytes) over `fingerprint`.
    pub fn verifies(&self, _fingerprint: &Fingerprint, _signature: &Signature) -> bool {
        todo!()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
