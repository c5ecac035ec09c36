//! The compressions of stored NARs.

use std::fmt;

/// How the stored NAR is compressed. `Display` prints the narinfo's word (`zstd`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    Zstd,
    Xz,
    None,
    /// Only read, never written.
    Bzip2,
}

/// Words that Nix (through libarchive) or other writers put into narinfos and that loft does not read.
const UNSUPPORTED: [&str; 11] =
    ["br", "brotli", "compress", "grzip", "gzip", "lrzip", "lz4", "lzip", "lzma", "lzop", "zlib"];

/// Why a word is not a compression that loft reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// A real compression, so the narinfo is sound; only loft cannot open its NAR.
    #[error("Compression {0} is not supported")]
    Unsupported(&'static str),
    #[error("{0:?} is not the name of a compression")]
    Unknown(String),
}

impl Compression {
    /// Reads a narinfo's word.
    pub fn parse(word: &str) -> Result<Self, CompressionError> {
        match word {
            "zstd" => Ok(Self::Zstd),
            "xz" => Ok(Self::Xz),
            "none" => Ok(Self::None),
            "bzip2" => Ok(Self::Bzip2),
            _ => Err(match UNSUPPORTED.iter().find(|known| **known == word) {
                Some(known) => CompressionError::Unsupported(known),
                None => CompressionError::Unknown(super::excerpt::excerpt(word)),
            }),
        }
    }

    /// File suffix of the NAR's key: `.nar.zst`, `.nar.xz`, `.nar`, `.nar.bz2`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".nar.zst",
            Self::Xz => ".nar.xz",
            Self::None => ".nar",
            Self::Bzip2 => ".nar.bz2",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::None => "none",
            Self::Bzip2 => "bzip2",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for compression in [Compression::Zstd, Compression::Xz, Compression::None, Compression::Bzip2] {
            assert_eq!(Compression::parse(&compression.to_string()), Ok(compression));
        }
    }

    #[test]
    fn tells_unsupported_from_unknown() {
        for word in ["gzip", "br", "lz4", "lzip", "lzma"] {
            assert_eq!(Compression::parse(word), Err(CompressionError::Unsupported(word)));
        }
        for word in ["", "ZSTD", "zstd ", "zst", "none\n", "\u{0}"] {
            assert_eq!(Compression::parse(word), Err(CompressionError::Unknown(word.to_owned())));
        }
    }
}
