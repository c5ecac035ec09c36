//! Why a check stopped: "could not look" is never "clean".

use crate::bucket::BucketError;
use crate::prune::PruneError;
use crate::push::PushError;
use crate::record::RecordError;
use crate::remedy::Remedy;

/// Nothing more was looked at, or mended.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A newer loft's.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// What a repair refuses for, as prunes do.
    #[error("The repair stopped")]
    Prune(#[source] Box<PruneError>),
    #[error("The damaged paths could not be pushed again")]
    Push(#[source] Box<PushError>),
    #[error(
        "There is no cache in {0}: neither nix-cache-info nor anything else of one. Check the bucket's name and the prefix; \
         `loft push` makes a new cache"
    )]
    Nothing(String),
    #[error("A background task of the check failed")]
    Task(#[source] tokio::task::JoinError),
    #[error("Interrupted; a check that is started again need not read again what it has read")]
    Interrupted,
}

impl From<PruneError> for CheckError {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Bucket(error) => Self::Bucket(error),
            PruneError::Interrupted => Self::Interrupted,
            error => Self::Prune(Box::new(error)),
        }
    }
}

impl From<PushError> for CheckError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Bucket(error) => Self::Bucket(error),
            PushError::Interrupted => Self::Interrupted,
            error => Self::Push(Box::new(error)),
        }
    }
}

impl CheckError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Bucket(error) => error.remedy(),
            Self::Record(_) | Self::Nothing(_) => Remedy::FixConfig,
            Self::Prune(error) => error.remedy(),
            Self::Push(error) => error.remedy(),
            Self::Task(_) | Self::Interrupted => Remedy::Retry,
        }
    }
}
