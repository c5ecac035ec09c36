//! How a NAR is compressed, and what follows from that.

use crate::nix::Compression;
use std::ops::RangeInclusive;

/// zstd's own default; -6 costs twice the time for 7 % less.
pub(super) const ZSTD_LEVEL: i32 = 3;
/// What `xz` and Nix take; needs some 94 MiB.
pub(super) const XZ_LEVEL: i32 = 6;

/// How to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    pub compression: Compression,
    /// `None` is the format's default here: zstd 3, xz 6.
    pub level: Option<i32>,
    /// zstd worker threads beside the caller's; 0 compresses on the calling thread. At level 3 the first takes 40 MiB
    /// where the calling thread alone takes 4, each further one 14.
    pub workers: u32,
}

impl Packing {
    /// Bytes that one compressor of this kind holds, roughly: for bounding how many run at once. xz's are those of
    /// its manual page; zstd's follow from the window, hash and chain tables of its levels.
    pub fn memory(&self) -> u64 {
        let mib = match (self.compression, self.level) {
            (Compression::Zstd, None | Some(..=4)) => 4,
            (Compression::Zstd, Some(..=6)) => 12,
            (Compression::Zstd, Some(..=9)) => 28,
            (Compression::Zstd, Some(..=12)) => 56,
            (Compression::Zstd, Some(..=19)) => 100,
            (Compression::Zstd, Some(_)) => 800,
            (Compression::Xz, Some(..=1)) => 9,
            (Compression::Xz, Some(..=3)) => 32,
            (Compression::Xz, None | Some(..=6)) => 94,
            (Compression::Xz, Some(7)) => 186,
            (Compression::Xz, Some(8)) => 370,
            (Compression::Xz, Some(_)) => 674,
            (Compression::None | Compression::Bzip2, _) => 1,
        };
        mib << 20
    }

    /// What the compressed bytes depend on beside the NAR: of one large NAR, packings with the same recipe make the
    /// same bytes. zstd's threads make other bytes than the calling thread alone, but the same whatever their number.
    pub fn recipe(&self) -> String {
        match self.compression {
            Compression::Zstd => {
                let (version, level) = (zstd::zstd_safe::version_number(), self.level.unwrap_or(ZSTD_LEVEL));
                let threads = if self.workers == 0 { "alone" } else { "threads" };
                format!("zstd {version} level {level} {threads}")
            }
            // Its version can only be asked for by unsafe code.
            Compression::Xz => format!("xz level {}", self.level.unwrap_or(XZ_LEVEL)),
            Compression::None | Compression::Bzip2 => self.compression.to_string(),
        }
    }
}

/// The levels of a compression that can be written; `None` has none.
pub(super) fn levels(compression: Compression) -> Option<RangeInclusive<i32>> {
    match compression {
        Compression::Zstd => Some(zstd::compression_level_range()),
        Compression::Xz => Some(0..=9),
        Compression::None | Compression::Bzip2 => None,
    }
}
