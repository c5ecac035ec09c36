//! Why a push stopped, and why a single path did not land.

use crate::bucket::{BucketError, CacheInfoError};
use crate::nar::PackError;
use crate::nix::Sha256;
use crate::record::RecordError;
use crate::remedy::Remedy;
use crate::store::StoreError;

/// Nothing more was tried: exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("Could not read the Nix store")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    CacheInfo(#[from] CacheInfoError),
    #[error("Interrupted before anything was pushed")]
    Interrupted,
    #[error("A background task of the push failed")]
    Task(#[source] tokio::task::JoinError),
}

impl PushError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            Self::Bucket(error) => error.remedy(),
            Self::CacheInfo(CacheInfoError::Bucket(error)) => error.remedy(),
            Self::CacheInfo(_) => Remedy::FixConfig,
            Self::Record(_) | Self::Task(_) | Self::Interrupted => Remedy::Stop,
        }
    }
}

/// Why one path did not land; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error("Could not read its files")]
    Read(#[source] PackError),
    #[error(
        "Its files are not what the store registered (NarHash {found}, registered {registered}): \
         they changed or are damaged, so nothing was published; `nix-store --verify-path` tells more"
    )]
    Changed { registered: Sha256, found: Sha256 },
    #[error("Its NAR has {found} bytes, the store registered {registered}; nothing was published")]
    Size { registered: u64, found: u64 },
    #[error("Its NAR is empty, which no narinfo can say")]
    EmptyNar,
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("The push was interrupted before it landed")]
    Interrupted,
    #[error(
        "This machine could not renew its lease on the bucket for {minutes} minutes (asleep, or without a network), \
         so a prune elsewhere may have removed what the path refers to; push again"
    )]
    LeaseLost { minutes: u64 },
    #[error("Its narinfo was written, but at the last look it was gone: something else deletes from this bucket")]
    Gone,
    #[error("A task failed while it was being uploaded")]
    Task(#[source] tokio::task::JoinError),
}

/// An error with its causes in one line, for outcomes and warnings.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        // Transparent wrappers repeat the text of what they wrap.
        if !text.ends_with(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        cause = error.source();
    }
    text
}
