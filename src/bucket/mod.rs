//! Object storage: the few operations that loft needs, with one meaning on every back end.

mod cache_info;
mod count;
mod directory;
mod error;
mod headers;
mod http;
mod key;
mod object_headers;
mod open;
pub mod permissions;
mod public;
mod quirks;
mod retry;
mod s3;
mod settings;
mod url;
mod walk;

pub use cache_info::{CacheInfo, CacheInfoError};
pub use count::{RequestKind, Requests};
pub use directory::Directory;
pub use error::{BucketError, Cause, Denial, Effort, Refusal};
pub use headers::{ExtraHeaders, HeaderError};
pub use http::{Fetched, fetch};
pub use key::{Key, Kind, Prefix};
pub use open::open;
pub use public::{Public, PublicError, Switch, check_web_address, read_publicly};
pub use quirks::{Lifecycle, LifecycleRule, Quirks};
pub use retry::{Jitter, RetryPolicy, Retrying};
pub use s3::{CredentialsError, S3, Whose};
pub use settings::{AddressingStyle, DEFAULT_REGION, S3Settings, Secret, Target};
pub use url::{CacheUrl, UrlError};
pub use walk::{Pages, Piece, Walk, nar_info_pages, nar_pages};

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Headers that an object is stored with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers {
    pub content_type: Option<&'static str>,
    pub cache_control: Option<&'static str>,
}

/// What a HEAD, a GET or a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: Key,
    pub size: u64,
    pub modified: SystemTime,
    /// Opaque; empty where the back end has none.
    pub etag: String,
}

/// One page of a listing, in the store's order: that of the keys' bytes, except on some servers.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub objects: Vec<ObjectInfo>,
    /// The last key, to hand to the next call; `None` on the last page.
    pub next: Option<String>,
}

/// A multipart upload in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub key: Key,
    pub id: String,
}

/// A part that has landed; only the back end makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    pub etag: String,
    pub size: u64,
}

/// A body of known digest: the digest doubles as SigV4's payload hash, so nothing is hashed twice.
#[derive(Debug, Clone)]
pub struct Body {
    pub bytes: Bytes,
    pub sha256: Option<crate::nix::Sha256>,
}

impl Body {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, sha256: None }
    }
}

/// A bucket (or directory) below its configured prefix.
///
/// Promises of every implementation:
/// - `Ok(None)` means that the store *said* the object is absent; anything else is an error.
/// - a `put` that returned `Ok` is visible to the next `get`, `head` and `list` of anybody;
/// - an object is never visible in part;
/// - `delete` of an absent key is `Ok`.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// For users, without secrets: `s3://cache at http://localhost:3900`.
    fn describe(&self) -> String;
    /// Whether the bucket is there and lets us tell an absent object from a forbidden one. One request.
    async fn check_access(&self) -> Result<(), BucketError>;
    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError>;
    /// A `put` that cannot take effect later than `within` from now, even if the request is held up on
    /// its way or tried again; too late is [`Cause::Expired`]. For small objects: a body's digest need not
    /// be checked.
    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), BucketError>;
    /// The whole object; refuses more than `limit` bytes (for narinfos and records, never for NARs).
    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError>;
    /// Bytes `offset..offset + length` (fewer at the end, none beyond it).
    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError>;
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError>;
    /// One page of keys that start with `prefix`, at most 1000 on S3, all of them after the key `after`
    /// (a page's `next`, or any other).
    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError>;
    async fn delete(&self, key: &Key) -> Result<(), BucketError>;
    /// A `delete` that cannot take effect later than `within` from now, even if the request is held
    /// up on its way; too late is [`Cause::Expired`]. After an error that [is ambiguous](BucketError::is_ambiguous)
    /// it may still happen until then; after success nothing more happens.
    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError>;
    /// Copies inside the bucket, of any size, as a new object. `false`: the store said that `from` is absent.
    async fn copy(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, BucketError>;
    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError>;
    /// Parts may come in any order and again; the last one of a number counts.
    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError>;
    /// Makes the object visible: `parts` in ascending order of number, at least one.
    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError>;
    /// Idempotent: an upload that is already gone is `Ok`.
    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError>;
    /// The parts that have landed, in order of number; `None` when there is no such upload (any more).
    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError>;
    /// Uploads in progress and when they began.
    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError>;
    /// The store's own clock, from its last answer's `Date` (the machine's clock for a directory).
    async fn now(&self) -> Result<SystemTime, BucketError>;

    /// Makes the bucket itself as the store makes one by default; `false`: it was there, and these credentials may use it.
    async fn create(&self) -> Result<bool, BucketError> {
        self.check_access().await.map(|()| false)
    }

    /// Names of all buckets of the same store that these credentials can see, as far as it tells.
    async fn siblings(&self) -> Result<Vec<String>, BucketError> {
        Ok(Vec::new())
    }

    /// Lets everybody read, where the store has a single switch for that and nothing of it was set before.
    async fn open_to_all(&self) -> Result<Switch, BucketError> {
        Ok(Switch::None)
    }

    /// How this store differs from others where that is known; `scratch` is written and removed for it. Nothing may rest on
    /// the answer.
    async fn quirks(&self, _scratch: &Key) -> Result<Quirks, BucketError> {
        Ok(Quirks::default())
    }
}

/// All keys under `prefix`, each once, sorted.
pub async fn list_all(bucket: &dyn Bucket, prefix: &Prefix) -> Result<Vec<ObjectInfo>, BucketError> {
    let mut objects = Vec::new();
    let mut after: Option<String> = None;
    let mut seen = HashSet::new();
    loop {
        let page = bucket.list(prefix, after.as_deref()).await?;
        objects.extend(page.objects);
        match page.next {
            None => break,
            Some(next) if seen.insert(next.clone()) => after = Some(next),
            // A listing that repeats itself would hold us for ever, and what is missing of it must not pass for absent.
            Some(_) => {
                let cause = Cause::Garbled("the listing does not advance".to_owned());
                return Err(BucketError::new("list", format!("{:?}", prefix.as_str()), bucket.describe(), cause));
            }
        }
    }
    // Some servers list in the order of directories (`a/b` before `a.b`).
    objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    objects.dedup_by(|a, b| a.key == b.key);
    Ok(objects)
}

/// A shared bucket is a bucket.
#[async_trait]
impl<B: Bucket + ?Sized> Bucket for Arc<B> {
    fn describe(&self) -> String {
        (**self).describe()
    }
    async fn check_access(&self) -> Result<(), BucketError> {
        (**self).check_access().await
    }
    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError> {
        (**self).put(key, body, headers).await
    }
    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), BucketError> {
        (**self).put_before(key, body, headers, within).await
    }
    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        (**self).get(key, limit).await
    }
    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        (**self).get_range(key, offset, length).await
    }
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        (**self).head(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        (**self).list(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        (**self).delete(key).await
    }
    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        (**self).delete_before(key, within).await
    }
    async fn copy(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, BucketError> {
        (**self).copy(from, to, headers).await
    }
    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError> {
        (**self).start_upload(key, headers).await
    }
    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError> {
        (**self).put_part(upload, number, body).await
    }
    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError> {
        (**self).finish_upload(upload, parts).await
    }
    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        (**self).abort_upload(upload).await
    }
    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        (**self).list_parts(upload).await
    }
    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        (**self).list_uploads(prefix).await
    }
    async fn now(&self) -> Result<SystemTime, BucketError> {
        (**self).now().await
    }
    async fn create(&self) -> Result<bool, BucketError> {
        (**self).create().await
    }
    async fn siblings(&self) -> Result<Vec<String>, BucketError> {
        (**self).siblings().await
    }
    async fn open_to_all(&self) -> Result<Switch, BucketError> {
        (**self).open_to_all().await
    }
    async fn quirks(&self, scratch: &Key) -> Result<Quirks, BucketError> {
        (**self).quirks(scratch).await
    }
}
