//! The `CA` field: how a content-addressed path's hash is made.

use std::fmt;

/// A content address as Nix prints it, for example `fixed:r:sha256:<nix32>` or `text:sha256:<nix32>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ContentAddress(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Content address {0:?} is not of the form fixed:[r:|git:]ALGORITHM:HASH or text:sha256:HASH")]
pub struct ContentAddressError(pub String);

impl ContentAddress {
    pub fn parse(_text: &str) -> Result<Self, ContentAddressError> {
        todo!()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
