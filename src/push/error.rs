//! Why a push stopped, and why a single path did not land.

use crate::bucket::BucketError;
use crate::nar::PackError;
use crate::nix::{Sha256, StoreDir};
use crate::record::RecordError;
use crate::remedy::{Remedy, chain};
use crate::report::Outcome;
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
    #[error(
        "{bucket} belongs to the store directory {found}, this store is {own}: \
         Nix would not find these paths there; use another bucket or prefix"
    )]
    OtherStoreDir { bucket: String, found: String, own: StoreDir },
    #[error("The nix-cache-info of {bucket} is not one: {why}")]
    CacheInfo { bucket: String, why: String },
    #[error(
        "What landed could not be recorded: this machine could not renew its lease on the bucket for {minutes} minutes \
         (asleep, or without a network), so a prune elsewhere may have removed some of it; push again"
    )]
    LeaseLost { minutes: u64 },
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
            Self::OtherStoreDir { .. } | Self::Record(RecordError::Newer { .. }) => Remedy::FixConfig,
            Self::CacheInfo { .. } | Self::Record(_) => Remedy::Stop,
            Self::LeaseLost { .. } | Self::Interrupted | Self::Task(_) => Remedy::Retry,
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

impl PathError {
    /// Whether the files of this very path are at fault, so that another path with the same NAR may
    /// still land.
    pub fn is_about_files(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Changed { .. } | Self::Size { .. } | Self::EmptyNar)
    }

    /// As it is told: with its causes.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted => Outcome::Interrupted,
            error => Outcome::Failed { why: chain(error), blocked_by: None },
        }
    }
}
