//! Why a prune stopped, or did not begin.

use crate::bucket::BucketError;
use crate::push::PushError;
use crate::record::RecordError;
use crate::remedy::Remedy;
use std::time::Duration;

/// Nothing more was tried: exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The lease of a restoration.
    #[error(transparent)]
    Lease(PushError),
    #[error("Refused: {0}")]
    Refused(#[from] Refusal),
    #[error(
        "There is no trash record {0} in the bucket: it has expired, or the id is wrong (loft prune --list-trash tells which there are)"
    )]
    NoTrash(ulid::Ulid),
    #[error("Interrupted")]
    Interrupted,
}

/// A doubt that stops a prune, and the harm that this prevents.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "this machine's clock and the store's differ by {}; ages would be wrong by as much, and leases and time limits \
         with them. Set the clock (NTP)", minutes(*.0)
    )]
    Clock(Duration),
    #[error(
        "{key} bears a date {} in the future: the clocks of the store's machines disagree, and ages cannot be told. Set \
         their clocks (NTP)", minutes(*.ahead)
    )]
    Future { key: String, ahead: Duration },
    #[error(
        "an object that was just written does not show in a listing of {0}; what other machines push right now would not \
         be seen either"
    )]
    Unlisted(String),
    #[error(
        "{0} has no nix-cache-info: it is empty or no Nix cache at all, perhaps the wrong bucket or prefix. Check the \
         configuration; `loft push` makes a new cache"
    )]
    NoCache(String),
    #[error("the nix-cache-info of {bucket} is not one ({why}); is it the right bucket?")]
    CacheInfo { bucket: String, why: String },
    #[error("another prune is at work since {} ({who}, {key}); it ends or expires within 11 minutes", minutes(*.since))]
    OtherSweep { key: String, who: String, since: Duration },
    #[error(
        "{key} cannot be understood ({why}), so what it keeps is unknown. `loft check --repair` sets it aside; a lease \
         expires by itself within about an hour"
    )]
    Unreadable { key: String, why: String },
    #[error(
        "it would remove {condemned} of {total} paths, more than half: that happens with a wrong bucket, a wrong clock or a \
         retention that was set too short. `loft prune --dry-run` tells which they are; if that is what you want, \
         say so with --remove-most"
    )]
    TooMuch { condemned: u64, total: u64 },
    #[error(
        "it would set aside {condemned} of {total} paths, more than half, since they are damaged or refer to what is: that \
         happens with the wrong store directory or key, or where one path that all need is lost. Push that path again from \
         a machine that has it, or say with --remove-most that you want it"
    )]
    TooMuchDamage { condemned: u64, total: u64 },
}

impl From<PushError> for PruneError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Bucket(error) => Self::Bucket(error),
            PushError::Record(error) => Self::Record(error),
            PushError::Interrupted => Self::Interrupted,
            error => Self::Lease(error),
        }
    }
}

impl PruneError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Bucket(error) => error.remedy(),
            Self::Lease(error) => error.remedy(),
            Self::Record(RecordError::Newer { .. }) => Remedy::FixConfig,
            Self::Record(_) | Self::NoTrash(_) => Remedy::Stop,
            Self::Refused(refusal) => match refusal {
                Refusal::OtherSweep { .. } | Refusal::Unlisted(_) => Remedy::Retry,
                _ => Remedy::FixConfig,
            },
            Self::Interrupted => Remedy::Retry,
        }
    }
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
