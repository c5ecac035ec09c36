//! Object storage: the few operations that loft needs, with one meaning on every back end.

mod headers;
mod key;
mod object_headers;
mod settings;

pub use headers::{ExtraHeaders, HeaderError};
pub use key::{Key, Kind, Prefix};
pub use settings::{AddressingStyle, DEFAULT_REGION, S3Settings, Secret, Target};

use crate::remedy::Remedy;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeSet;
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

/// One page of a listing, in key order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub objects: Vec<ObjectInfo>,
    /// Hand it to the next call; `None` on the last page.
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
    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError>;
    /// The whole object; refuses more than `limit` bytes (for narinfos and records, never for NARs).
    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError>;
    /// Bytes `offset..offset + length` (fewer at the end).
    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError>;
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError>;
    /// One page of at most 1000 keys that start with `prefix`; `after` is a page's `next`.
    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError>;
    async fn delete(&self, key: &Key) -> Result<(), BucketError>;
    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError>;
    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError>;
    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError>;
    /// Idempotent: an upload that is already gone is `Ok`.
    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError>;
    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError>;
    /// The store's own clock, from its last answer's `Date` (the machine's clock for a directory).
    async fn now(&self) -> Result<SystemTime, BucketError>;
}

/// What was being done, to what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("Could not {doing} {object} in {bucket}")]
pub struct BucketError {
    pub doing: &'static str,
    pub object: String,
    pub bucket: String,
    #[source]
    pub cause: Cause,
}

/// Why a bucket call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("todo")]
    Todo,
}

impl BucketError {
    pub fn remedy(&self) -> Remedy {
        todo!()
    }

    /// What the server asked us to wait (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        todo!()
    }
}

/// All keys under `prefix`.
pub async fn list_all(bucket: &dyn Bucket, prefix: &Prefix) -> Result<Vec<ObjectInfo>, BucketError> {
    let mut objects = Vec::new();
    let mut after = None;
    let mut seen = BTreeSet::new();
    loop {
        let page = bucket.list(prefix, after.as_deref()).await?;
        objects.extend(page.objects);
        match page.next {
            // A server that repeats a token would hold us for ever.
            Some(next) if seen.insert(next.clone()) => after = Some(next),
            _ => return Ok(objects),
        }
    }
}
