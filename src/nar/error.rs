//! Why a path could not be packed.

use crate::nix::Compression;
use crate::remedy::Remedy;
use std::io;
use std::path::PathBuf;

/// Why there is no NAR of a path.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The root or something in it is gone: most likely the path was garbage collected.
    #[error("File {path:?} vanished before it was read")]
    Vanished { path: PathBuf },
    /// A file was written to, or replaced, while it was read. A store path in order never changes.
    #[error("File {path:?} changed while it was read: {change}")]
    Changed { path: PathBuf, change: &'static str },
    /// Permission denied; the daemon may still be able to read it.
    #[error("File {path:?} may not be read by this user")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("Could not read file {path:?}")]
    Read { path: PathBuf, source: io::Error },
    /// A NAR holds files, directories and symlinks only.
    #[error("File {path:?} is {kind}, which a NAR cannot hold")]
    UnsupportedType { path: PathBuf, kind: &'static str },
    /// Only on macOS, where two names on disk can become one in the NAR.
    #[error("File {path:?} has the same name as another one of its directory once its case hack is undone")]
    Collision { path: PathBuf },
    #[error("Compression {compression} has no level {level}")]
    Level { compression: Compression, level: i32 },
    #[error("Compression {0} is not written")]
    Unsupported(Compression),
    /// Out of memory, in practice.
    #[error("Could not compress")]
    Compress(#[source] io::Error),
    /// The sink refused; its own error.
    #[error("Could not pass on the compressed bytes")]
    Sink(#[source] io::Error),
}

impl PackError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Vanished { .. }
            | Self::Changed { .. }
            | Self::Unreadable { .. }
            | Self::UnsupportedType { .. }
            | Self::Collision { .. } => Remedy::GiveUpOnItem,
            // Too many open files, an I/O error, an upload that was cut: the path itself is not at fault.
            Self::Read { .. } | Self::Compress(_) | Self::Sink(_) => Remedy::Retry,
            Self::Level { .. } | Self::Unsupported(_) => Remedy::FixConfig,
        }
    }
}
