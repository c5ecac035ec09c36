//! A request and its answer as values, so that somebody else can decide when it is carried out.

use crate::support::memory::{Memory, refusal};
use bytes::Bytes;
use loft::bucket::{Body, Bucket, BucketError, Cause, Headers, Key, ObjectInfo, Page, Prefix, Upload};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

/// What a process asks of the bucket. NARs of these tests fit one PUT, and headers do not matter to
/// the protocol.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    Put { key: String, bytes: Bytes, within: Option<Duration> },
    Get { key: String, limit: u64 },
    Head { key: String },
    List { prefix: String, after: Option<String> },
    Delete { key: String, within: Option<Duration> },
    Copy { from: String, to: String },
    Uploads { prefix: String },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Object(Option<(ObjectInfo, Bytes)>),
    Info(Option<ObjectInfo>),
    Objects { objects: Vec<ObjectInfo>, next: Option<String> },
    Copied(bool),
    Uploads(Vec<(Upload, SystemTime)>),
    Failed(Failure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    Unavailable,
    Reset,
    TimeOut,
    /// Past the limit that the request had.
    Expired,
    Refused,
}

impl Ask {
    /// The key, or a listing's prefix.
    pub fn on(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Get { key, .. } | Self::Head { key } | Self::Delete { key, .. } => key,
            Self::List { prefix, .. } | Self::Uploads { prefix } => prefix,
            Self::Copy { to, .. } => to,
        }
    }

    /// Whether it changes what others see.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. } | Self::Copy { .. })
    }

    /// How long after it was asked it may still take effect.
    pub fn within(&self) -> Option<Duration> {
        match self {
            Self::Put { within, .. } | Self::Delete { within, .. } => *within,
            _ => None,
        }
    }

    /// Carries it out at once; limits of time are the caller's business.
    pub fn carry_out(&self, bucket: &Memory) -> Answer {
        let result = at_once(self.send(bucket));
        result.unwrap_or_else(|error| Answer::Failed(Failure::of(&error)))
    }

    async fn send(&self, bucket: &Memory) -> Result<Answer, BucketError> {
        let key = Key::listed(self.on());
        Ok(match self {
            Self::Put { bytes, .. } => {
                bucket.put(&key, Body::from(bytes.clone()), Headers::default()).await?;
                Answer::Done
            }
            Self::Get { limit, .. } => Answer::Object(bucket.get(&key, *limit).await?),
            Self::Head { .. } => Answer::Info(bucket.head(&key).await?),
            Self::List { prefix, after } => {
                let Page { objects, next } = bucket.list(&Prefix::listed(prefix.as_str()), after.as_deref()).await?;
                Answer::Objects { objects, next }
            }
            Self::Delete { .. } => {
                bucket.delete(&key).await?;
                Answer::Done
            }
            Self::Copy { from, .. } => {
                Answer::Copied(bucket.copy(&Key::listed(from.as_str()), &key, Headers::default()).await?)
            }
            Self::Uploads { prefix } => Answer::Uploads(bucket.list_uploads(&Prefix::listed(prefix.as_str())).await?),
        })
    }
}

/// Short, for traces.
impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, .. } => write!(f, "PUT {key}"),
            Self::Get { key, .. } => write!(f, "GET {key}"),
            Self::Head { key } => write!(f, "HEAD {key}"),
            Self::List { prefix, .. } => write!(f, "LIST {prefix:?}"),
            Self::Delete { key, .. } => write!(f, "DELETE {key}"),
            Self::Copy { from, to } => write!(f, "COPY {from} to {to}"),
            Self::Uploads { prefix } => write!(f, "LIST UPLOADS {prefix:?}"),
        }
    }
}

impl Answer {
    /// Short, for traces.
    pub fn brief(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Object(found) => if found.is_some() { "found" } else { "absent" }.to_owned(),
            Self::Info(found) => if found.is_some() { "there" } else { "absent" }.to_owned(),
            Self::Objects { objects, .. } if objects.len() > 6 => format!("{} objects", objects.len()),
            Self::Objects { objects, .. } => {
                format!("{:?}", objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>())
            }
            Self::Copied(copied) => if *copied { "copied" } else { "absent" }.to_owned(),
            Self::Uploads(uploads) => format!("{} uploads", uploads.len()),
            Self::Failed(failure) => format!("{failure:?}"),
        }
    }
}

impl Failure {
    fn of(error: &BucketError) -> Self {
        match error.cause {
            Cause::Unavailable(_) => Self::Unavailable,
            Cause::Broken(_) => Self::Reset,
            Cause::Stalled(_) => Self::TimeOut,
            Cause::Expired => Self::Expired,
            _ => Self::Refused,
        }
    }

    pub fn cause(self) -> Cause {
        match self {
            Self::Unavailable => Cause::Unavailable(refusal(503, "SlowDown")),
            Self::Reset => Cause::Broken("connection reset by peer".into()),
            Self::TimeOut => Cause::Stalled(Duration::from_secs(60)),
            Self::Expired => Cause::Expired,
            Self::Refused => Cause::Refused(refusal(400, "InvalidRequest")),
        }
    }
}

/// The result of a future that waits for nobody.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
