//! The bounds and the padding that writing and reading NARs share.

/// The first token of every NAR.
pub const MAGIC: &[u8] = b"nix-archive-1";

/// Longest name of a directory entry, in bytes: Linux' and Nix's limit.
pub const MAX_NAME_LEN: usize = 255;

/// Longest symlink target, in bytes: Linux' and Nix's limit.
pub const MAX_TARGET_LEN: usize = 4095;

/// Zeros that follow `len` bytes of a token.
pub const fn padding(len: u64) -> usize {
    (len.wrapping_neg() % 8) as usize
}
