//! Fingerprints, and the signatures over them.
//!
//! A fingerprint covers what a client must be able to trust: the path, its NAR's hash and size and its references.
//! Deriver, content address, URL and the stored file's hash are not covered.

use super::excerpt::excerpt;
use super::{KeyName, PathInfo, Sha256, StoreDir, StorePath};
use data_encoding::BASE64;
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

/// One `Sig` of a path: `name:base64(64 bytes)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature {
    key: KeyName,
    bytes: [u8; 64],
}

/// The bytes that a signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

/// Why a text is not a signature; holds the text, cut where it is long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("Signature {0:?} has no colon after the key's name")]
    NoColon(String),
    #[error("Signature {0:?} does not start with the name of a key")]
    Name(String),
    #[error("Signature {0:?} is not 64 bytes of base64 after the colon")]
    Bytes(String),
}

impl Signature {
    pub(super) fn new(key: KeyName, bytes: [u8; 64]) -> Self {
        Self { key, bytes }
    }

    /// Reads `name:base64`, split at the first `:`.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let (name, base64) = text.split_once(':').ok_or_else(|| SignatureError::NoColon(excerpt(text)))?;
        let key = KeyName::parse(name).map_err(|_| SignatureError::Name(excerpt(text)))?;
        let bytes = BASE64.decode(base64.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self { key, bytes: bytes.ok_or_else(|| SignatureError::Bytes(excerpt(text)))? })
    }

    pub fn key(&self) -> &KeyName {
        &self.key
    }

    pub(super) fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, BASE64.encode(&self.bytes))
    }
}

impl Fingerprint {
    /// `1;<path>;<NarHash>;<NarSize>;<references, full paths, sorted>`; ends in `;` where there are no references.
    pub fn new(dir: &StoreDir, path: &StorePath, hash: &Sha256, size: NonZeroU64, references: &[StorePath]) -> Self {
        let mut text = format!("1;{};{hash};{size};", dir.join(path));
        for (index, reference) in sorted(references).iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(dir.as_str());
            text.push('/');
            text.push_str(reference.as_str());
        }
        Self(text)
    }

    /// The fingerprint of a registration, or nothing where the store does not know the NAR's size.
    pub fn of_info(dir: &StoreDir, info: &PathInfo) -> Option<Self> {
        Some(Self::new(dir, &info.path, &info.nar_hash, info.nar_size?, &info.references))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Nix signs a sorted set; a list in another order or with repetitions would give a signature that no client accepts.
fn sorted(references: &[StorePath]) -> Cow<'_, [StorePath]> {
    if references.is_sorted_by(|a, b| a < b) {
        return Cow::Borrowed(references);
    }
    let mut references = references.to_vec();
    references.sort_unstable();
    references.dedup();
    Cow::Owned(references)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fingerprint_has_the_form_that_nix_signs() {
        let dir = StoreDir::parse("/some/store").unwrap();
        let path = |letter: &str| StorePath::parse(&format!("{}-{letter}", letter.repeat(32))).unwrap();
        let hash = Sha256::of(b"");
        let bare = Fingerprint::new(&dir, &path("a"), &hash, NonZeroU64::MIN, &[]);
        let start = format!("1;/some/store/{}-a;sha256:{};1;", "a".repeat(32), hash.to_nix32());
        assert_eq!(bare.as_str(), start);
        let full = Fingerprint::new(&dir, &path("a"), &hash, NonZeroU64::MIN, &[path("c"), path("b"), path("c")]);
        let references = format!("/some/store/{}-b,/some/store/{}-c", "b".repeat(32), "c".repeat(32));
        assert_eq!(full.as_str(), format!("{start}{references}"));
    }

    #[test]
    fn without_a_size_there_is_nothing_to_sign() {
        let mut info = PathInfo {
            path: StorePath::parse(&format!("{}-x", "0".repeat(32))).unwrap(),
            nar_hash: Sha256::of(b""),
            nar_size: None,
            references: vec![],
            deriver: None,
            ultimate: true,
            signatures: vec![],
            ca: None,
        };
        assert_eq!(Fingerprint::of_info(&StoreDir::default(), &info), None);
        info.nar_size = NonZeroU64::new(120);
        assert!(Fingerprint::of_info(&StoreDir::default(), &info).unwrap().as_str().ends_with(";120;"));
    }

    #[test]
    fn refuses_what_is_no_signature_naming_it() {
        let base64 = BASE64.encode(&[7; 64]);
        for text in [
            String::new(),
            base64.clone(),
            format!(":{base64}"),
            format!("a b:{base64}"),
            "name:".into(),
            format!("name:{base64} "),
            format!("name: {base64}"),
            format!("name:{}", BASE64.encode(&[7; 63])),
            format!("name:{}", BASE64.encode(&[7; 65])),
            format!("name:{}", base64.trim_end_matches('=')),
            format!("name:x:{base64}"),
        ] {
            let error = Signature::parse(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_printed(name in "[!-9;-~]{1,20}", half: [u8; 32], other: [u8; 32]) {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&half);
            bytes[32..].copy_from_slice(&other);
            let signature = Signature::new(KeyName::parse(&name).unwrap(), bytes);
            prop_assert_eq!(Signature::parse(&signature.to_string()), Ok(signature));
        }
    }
}
