//! Why a bucket call failed, and what a caller may do about it.
//!
//! The cause decides the remedy; nothing branches on message text. "Could not look" is always one
//! of these errors, never an absent object.

use crate::bucket::s3::CredentialsError;
use crate::remedy::Remedy;
use std::fmt;
use std::io;
use std::time::Duration;

/// What was being done, to what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("Could not {doing} {object} in {bucket}{effort}")]
pub struct BucketError {
    pub doing: &'static str,
    pub object: String,
    /// As [`Bucket::describe`](super::Bucket::describe) says it.
    pub bucket: String,
    pub effort: Effort,
    #[source]
    pub cause: Cause,
}

/// How hard it was tried; prints nothing for a single try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    pub tries: u32,
    pub elapsed: Duration,
}

/// An error of a library below, without what is secret in it.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a bucket call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// No connection came about: a name that does not resolve, a refused or silent address.
    #[error("Could not reach the server; check the endpoint and the network")]
    Unreachable(#[source] Source),
    /// The connection ended in the middle; a request that changes things may have been applied.
    #[error("The connection broke")]
    Broken(#[source] Source),
    /// As `Broken`, but the other side just went silent.
    #[error("The server did not answer within {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("The server's certificate is not trusted; a private authority goes into ca_file")]
    Certificate(#[source] Source),
    /// 5xx, 429, 408 and the codes that mean the same.
    #[error("The server is busy or out of order ({0})")]
    Unavailable(Box<Refusal>),
    #[error("Access was denied ({refusal}): {hint}")]
    Denied { refusal: Box<Refusal>, hint: &'static str },
    #[error("The bucket does not exist ({0}); check its name, or create it")]
    NoBucket(Box<Refusal>),
    #[error("The bucket is in another region ({refusal}){}", right.as_ref().map(|r| format!("; set region to {r:?}")).unwrap_or_default())]
    WrongRegion { right: Option<String>, refusal: Box<Refusal> },
    /// Answers that no S3 server gives: a web page, a redirect to a login.
    #[error(
        "The answer did not come from an S3 server ({0}); check the endpoint, and whether a proxy in front wants extra headers"
    )]
    NotS3(String),
    /// The multipart upload was finished, aborted or never begun.
    #[error("The multipart upload does not exist (any more)")]
    NoUpload,
    /// The server understood and said no.
    #[error("The server refused ({0})")]
    Refused(Box<Refusal>),
    #[error("The server does not implement this request ({0})")]
    NotImplemented(Box<Refusal>),
    /// An answer that contradicts itself or the request.
    #[error("The server's answer makes no sense: {0}")]
    Garbled(String),
    #[error("The answer ended after {received} of {expected} bytes")]
    Truncated { expected: u64, received: u64 },
    #[error("The object is larger than {limit} bytes, more than is read at once")]
    TooLarge { limit: u64 },
    #[error(
        "No usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or access_key_file and secret_key_file in [s3]"
    )]
    Credentials(#[source] Box<CredentialsError>),
    /// A request that was only allowed until now.
    #[error("The time limit for this request has passed")]
    Expired,
    #[error("This key cannot be used: {0}")]
    Key(&'static str),
    #[error("{0}")]
    Setting(String),
    #[error("The file system refused")]
    Io(#[source] io::Error),
    #[error("Directory {0:?} does not exist, and neither does the one it would be created in")]
    NoDirectory(std::path::PathBuf),
}

/// An answer that is not success, in the server's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// `NoSuchKey`, `SlowDown`; empty where the answer had none (HEAD never has).
    pub code: String,
    pub message: String,
    pub retry_after: Option<Duration>,
}

/// Why access was denied, as far as the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It does not know the access key id.
    UnknownKey,
    /// The signature is not what it computes itself.
    WrongSecret,
    /// The request was signed at another time than the server has.
    Clock,
    ExpiredToken,
    /// It knows who asks, or does not say.
    NotPermitted,
}

/// The hint at a denial that no S3 server wrote.
pub(super) const NOT_BY_S3: &str = "no S3 server wrote this answer; a proxy in front may want extra headers";

impl Refusal {
    pub fn denial(&self) -> Denial {
        match self.code.as_str() {
            // Garage says AccessDenied to everything, and tells the reason in its text alone.
            "AccessDenied" if self.message.contains("Invalid signature") => Denial::WrongSecret,
            "AccessDenied" if self.message.contains("No such key") => Denial::UnknownKey,
            // Garage's word for a request that was signed a day ago or more.
            _ if self.status == 400 && self.message.contains("Date is too old") => Denial::Clock,
            "InvalidAccessKeyId" => Denial::UnknownKey,
            "SignatureDoesNotMatch" => Denial::WrongSecret,
            "RequestTimeTooSkewed" => Denial::Clock,
            "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => Denial::ExpiredToken,
            _ => Denial::NotPermitted,
        }
    }
}

impl BucketError {
    pub fn new(doing: &'static str, object: impl Into<String>, bucket: impl Into<String>, cause: Cause) -> Self {
        Self { doing, object: object.into(), bucket: bucket.into(), effort: Effort::default(), cause }
    }

    pub fn remedy(&self) -> Remedy {
        self.cause.remedy()
    }

    /// What the server asked us to wait (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            Cause::Unavailable(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Whether the request may have been applied although it failed.
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            self.cause,
            Cause::Broken(_) | Cause::Stalled(_) | Cause::Unavailable(_) | Cause::Garbled(_) | Cause::Truncated { .. }
        )
    }

    /// Whether a multipart upload is not what it was: somebody else finished it, aborted it, or sent one of its parts.
    pub fn is_about_upload(&self) -> bool {
        match &self.cause {
            Cause::NoUpload => true,
            Cause::Refused(refusal) => refusal.code == "InvalidPart",
            _ => false,
        }
    }
}

impl Cause {
    /// What the server said, where it said anything in S3's way.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Unavailable(refusal)
            | Self::Denied { refusal, .. }
            | Self::NoBucket(refusal)
            | Self::WrongRegion { refusal, .. }
            | Self::Refused(refusal)
            | Self::NotImplemented(refusal) => Some(refusal),
            _ => None,
        }
    }

    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable(_)
            | Self::Broken(_)
            | Self::Stalled(_)
            | Self::Unavailable(_)
            | Self::Garbled(_)
            | Self::Truncated { .. } => Remedy::Retry,
            Self::Credentials(error) if error.had_some => Remedy::Retry,
            Self::Certificate(_)
            | Self::Denied { .. }
            | Self::NoBucket(_)
            | Self::WrongRegion { .. }
            | Self::NotS3(_)
            | Self::NotImplemented(_)
            | Self::Credentials(_)
            | Self::Setting(_)
            | Self::NoDirectory(_) => Remedy::FixConfig,
            Self::NoUpload | Self::Refused(_) | Self::TooLarge { .. } | Self::Expired | Self::Key(_) => {
                Remedy::GiveUpOnItem
            }
            Self::Io(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::TimedOut | io::ErrorKind::ResourceBusy => Remedy::Retry,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Remedy::FixConfig,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Remedy::Stop,
                _ => Remedy::GiveUpOnItem,
            },
        }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self { tries: 1, elapsed: Duration::ZERO }
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tries {
            0 | 1 => Ok(()),
            tries => write!(f, " (tried {tries} times in {:.1} s)", self.elapsed.as_secs_f64()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}
