//! SHA-256 digests in the four spellings that Nix uses.

use super::base32;
use std::fmt;

/// A SHA-256 digest: of a NAR, or of a compressed file.
///
/// `Display` prints the form that narinfos carry, `sha256:<nix32>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

/// Why a text is not a SHA-256 hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    #[error("Hash {0:?} is not of type sha256")]
    Algorithm(String),
    #[error("Hash {0:?} is neither 52 nix32 characters, 64 hexadecimal digits nor base64 of 32 bytes")]
    Digits(String),
}

impl Sha256 {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Digest of bytes that are at hand; streams go through `nar::digest`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Reads `sha256:<nix32|hex>` (narinfo, database) and `sha256-<base64>` (SRI).
    pub fn parse(text: &str) -> Result<Self, HashError> {
        if let Some(digits) = text.strip_prefix("sha256:") {
            return Self::parse_digits(digits);
        }
        if let Some(base64) = text.strip_prefix("sha256-") {
            return data_encoding::BASE64
                .decode(base64.as_bytes())
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .map(Self)
                .ok_or_else(|| HashError::Digits(text.to_owned()));
        }
        Err(HashError::Algorithm(text.to_owned()))
    }

    /// Reads bare digits: 64 hexadecimal ones (the worker protocol) or 52 of nix32.
    pub fn parse_digits(digits: &str) -> Result<Self, HashError> {
        let bytes = match digits.len() {
            64 => data_encoding::HEXLOWER_PERMISSIVE
                .decode(digits.as_bytes())
                .ok()
                .and_then(|bytes| bytes.try_into().ok()),
            52 => base32::decode(digits),
            _ => None,
        };
        bytes.map(Self).ok_or_else(|| HashError::Digits(digits.to_owned()))
    }

    /// 52 nix32 characters without a prefix, as in NAR keys.
    pub fn to_nix32(&self) -> String {
        base32::encode(&self.0)
    }

    /// 64 lower-case hexadecimal digits without a prefix, as in `x-amz-content-sha256`.
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_nix32())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling_of_one_hash() {
        let empty = Sha256::of(b"");
        for text in [
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ] {
            assert_eq!(Sha256::parse(text), Ok(empty), "{text}");
        }
        assert_eq!(Sha256::parse(&empty.to_string()), Ok(empty));
        assert_eq!(Sha256::parse_digits(&empty.to_hex()), Ok(empty));
    }

    #[test]
    fn refuses_other_algorithms_and_lengths() {
        for text in ["", "sha256", "sha256:", "md5:0123", "sha512:00", "sha256:zz", "sha256-47DEQ", "e3b0"] {
            assert!(Sha256::parse(text).is_err(), "{text}");
        }
    }
}
