//! An S3 bucket: Garage, MinIO, Ceph, AWS, R2, …
//!
//! A small client of our own, since it needs what general ones lack: the caller's digest as payload
//! hash, headers added after signing, `Retry-After`, the server's `Date`, listings of multipart
//! uploads. It rests on nothing that servers disagree about: no conditional writes, no checksum
//! trailers, no `Content-Encoding`.
//!
//! Every answer is checked before it counts. In particular an object is absent only where the server
//! says `NoSuchKey`, or answers a HEAD with 404 after it has shown that it has the bucket; and 403 is
//! an error even where it may mean "absent" (callers without `s3:ListBucket` get it for both).

mod address;
mod answer;
mod client;
mod credentials;
mod listing;
mod multipart;
mod own;
mod presign;
mod quirks;
mod xml;

pub use credentials::{CredentialsError, Whose};

use super::error::{BucketError, Cause, Refusal};
use super::http::Trust;
use super::settings::{DEFAULT_REGION, S3Settings};
use super::{
    Body, Bucket, Headers, Key, ObjectInfo, Page, Part, Prefix, Quirks, RequestKind, Requests, Switch, Upload,
};
use crate::clock::Clock;
use address::Address;
use answer::Answer;
use async_trait::async_trait;
use bytes::Bytes;
use client::{Client, Request};
use credentials::Credentials;
use http::{Method, StatusCode, header};
use reqsign_aws_v4::RequestSigner;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;

/// An answer older than this is not taken for the server's clock; a new request is cheap.
const FRESH: Duration = Duration::from_secs(60);

/// See the module's head.
pub struct S3 {
    client: Client,
    storage_class: Option<String>,
    /// How an absent object is refused, with a hint, where the server will not say that it is absent.
    absent_is_denied: OnceCell<Option<(Box<Refusal>, &'static str)>>,
}

impl S3 {
    /// Sends nothing yet. `env` is the process's environment: credentials and region may come from it.
    pub fn new(
        settings: &S3Settings,
        env: &BTreeMap<String, String>,
        clock: Arc<dyn Clock>,
        requests: Arc<Requests>,
    ) -> Result<Self, BucketError> {
        let failed = |cause| BucketError::new("open", "the bucket", format!("s3://{}", settings.bucket), cause);
        let region = settings
            .region
            .as_deref()
            .or_else(|| ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| env.get(*name)).map(String::as_str))
            .filter(|region| !region.is_empty())
            .unwrap_or(DEFAULT_REGION);
        let address = Address::new(settings, region).map_err(failed)?;
        let trust = Trust { ca_file: settings.ca_file.clone() };
        let client = Client {
            http: trust.client(address.is_https).map_err(failed)?,
            signer: RequestSigner::new("s3", region).with_standard_session_token(),
            credentials: Credentials::new(settings, env, trust),
            extra_headers: settings.extra_headers.clone(),
            region: region.to_owned(),
            requests,
            clock,
            heard: Default::default(),
            has_seen_bucket: AtomicBool::new(false),
            address,
        };
        Ok(Self { client, storage_class: settings.storage_class.clone(), absent_is_denied: OnceCell::new() })
    }

    /// Opens the files that `settings` name, and says what is wrong with each, by setting. Sends nothing.
    pub async fn check_files(settings: &S3Settings) -> Vec<(&'static str, String)> {
        let mut problems = credentials::check_files(settings).await;
        if let Err(cause) = (Trust { ca_file: settings.ca_file.clone() }).check() {
            problems.push(("s3.ca_file", cause.to_string()));
        }
        problems
    }

    /// The bucket's (and prefix's) address for requests that nobody signs.
    pub fn plain_url(settings: &S3Settings) -> Result<String, BucketError> {
        let region = settings.region.as_deref().unwrap_or(DEFAULT_REGION);
        let address = Address::new(settings, region)
            .map_err(|cause| BucketError::new("name", "the address", format!("s3://{}", settings.bucket), cause))?;
        let url = format!("{}/{}", address.bucket(&[]).trim_end_matches('/'), address.prefix);
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// Whose requests these would be. Asks the sources of credentials as the first request does.
    pub async fn whose(settings: &S3Settings, env: &BTreeMap<String, String>) -> Result<Whose, CredentialsError> {
        credentials::whose(settings, env).await
    }

    /// Where an object is, for readers without credentials.
    pub fn url(&self, key: &Key) -> Result<String, BucketError> {
        self.client.address.object(key.as_str(), &[]).map_err(|cause| self.error("name", key.as_str(), cause))
    }

    fn error(&self, doing: &'static str, object: impl Into<String>, cause: Cause) -> BucketError {
        BucketError::new(doing, object, self.describe(), cause)
    }

    /// A request for an object.
    fn request(&self, kind: RequestKind, method: Method, key: &Key, query: &[(&str, &str)]) -> Result<Request, Cause> {
        Ok(Request::new(kind, method, self.client.address.object(key.as_str(), query)?))
    }

    /// The headers that an object is stored with.
    fn stored(&self, headers: Headers) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        all.extend(plain(headers));
        all.extend(self.storage_class.clone().map(|value| ("x-amz-storage-class", value)));
        all
    }

    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), Cause> {
        let mut request = self.request(RequestKind::Put, Method::PUT, key, &[])?;
        request.headers = self.stored(headers);
        request.body = body;
        self.client.send_ok(request).await.map(drop)
    }

    /// The signature covers neither headers nor body: what is published so (a narinfo) has a signature
    /// of its own. The storage class is left to the bucket's default: an `x-amz-*` header would have to
    /// be signed, and for tiny objects the cheaper classes cost more.
    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), Cause> {
        let mut request = self.request(RequestKind::Put, Method::PUT, key, &[])?;
        request.deadline = Some(self.client.clock.boot().saturating_add(within));
        request.headers = plain(headers).collect();
        request.body = body;
        self.client.send_ok(request).await.map(drop)
    }

    /// A GET; `None` when the server says that there is no such object.
    async fn read(&self, key: &Key, range: Option<String>, limit: u64) -> Result<Option<Answer>, Cause> {
        let mut request = self.request(RequestKind::Get, Method::GET, key, &[])?;
        request.headers.extend(range.map(|range| ("range", range)));
        request.limit = limit;
        let answer = self.client.send(request).await?;
        if answer.status.is_success() || answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(Some(answer));
        }
        match answer.code().as_deref() {
            Some("NoSuchKey") => {
                self.client.has_seen_bucket.store(true, Ordering::Relaxed);
                Ok(None)
            }
            _ if answer.status == StatusCode::FORBIDDEN => Err(self.denied(answer.cause()).await),
            _ => Err(answer.cause()),
        }
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, Cause> {
        let answer = self.client.send(self.request(RequestKind::Head, Method::HEAD, key, &[])?).await?;
        match answer.status {
            status if status.is_success() => object_info(key, &answer).map(Some),
            StatusCode::NOT_FOUND => {
                // Without a body it may be the bucket that is missing, or not be S3 at all.
                if !self.client.has_seen_bucket.load(Ordering::Relaxed) {
                    self.probe().await?;
                }
                Ok(None)
            }
            StatusCode::FORBIDDEN => Err(self.denied(answer.cause()).await),
            // A wrong region, an expired token: the same question by GET has a body that says so.
            StatusCode::BAD_REQUEST => match self.probe().await {
                Err(cause) => Err(cause),
                Ok(()) => Err(answer.cause()),
            },
            _ => Err(answer.cause()),
        }
    }

    /// Asks for an object that cannot exist: `Ok` when the server says so.
    async fn probe(&self) -> Result<(), Cause> {
        let key = Key::never_written();
        let answer = self.client.send(self.request(RequestKind::Get, Method::GET, &key, &[])?).await?;
        match answer.code().as_deref() {
            Some("NoSuchKey") => {
                self.client.has_seen_bucket.store(true, Ordering::Relaxed);
                Ok(())
            }
            _ if answer.status.is_success() => Ok(()),
            _ => Err(answer.cause()),
        }
    }

    /// Says more of a 403 for one object: are all absent ones forbidden to us? Asked once, and never
    /// taken for "absent".
    async fn denied(&self, cause: Cause) -> Cause {
        let probed = self.absent_is_denied.get_or_try_init(|| async {
            match self.probe().await {
                Ok(()) => Ok(None),
                // Where the server does not say that the credentials themselves are wrong.
                Err(Cause::Denied { refusal, hint })
                    if refusal.code == "AccessDenied" && hint == answer::ANY_DENIAL =>
                {
                    let no_list = "these credentials are refused for absent objects too, so what exists cannot be \
                                   told; check them, and grant s3:ListBucket on the bucket";
                    Ok(Some((refusal, no_list)))
                }
                Err(Cause::Denied { refusal, hint }) => Ok(Some((refusal, hint))),
                Err(_) => Err(()),
            }
        });
        match (probed.await, cause) {
            // The probe has a body to say more than a HEAD's answer can.
            (Ok(Some((refusal, hint))), Cause::Denied { refusal: original, .. })
                if original.code.is_empty() || original.code == refusal.code =>
            {
                Cause::Denied { refusal: refusal.clone(), hint }
            }
            (_, cause) => cause,
        }
    }

    async fn delete(&self, key: &Key, within: Option<Duration>) -> Result<(), Cause> {
        let mut request = self.request(RequestKind::Delete, Method::DELETE, key, &[])?;
        request.deadline = within.map(|within| self.client.clock.boot().saturating_add(within));
        let answer = self.client.send(request).await?;
        match answer.code().as_deref() {
            Some("NoSuchKey") => Ok(()),
            _ if answer.status.is_success() => Ok(()),
            _ => Err(answer.cause()),
        }
    }

    async fn now(&self) -> Result<SystemTime, Cause> {
        let fresh = |client: &Client| {
            let heard = client.heard()?;
            let age = client.clock.boot().saturating_sub(heard.boot);
            (age <= FRESH).then(|| heard.date + age)
        };
        if let Some(now) = fresh(&self.client) {
            return Ok(now);
        }
        self.probe().await?;
        fresh(&self.client).ok_or_else(|| Cause::Garbled("no usable Date header".to_owned()))
    }
}

/// Headers that need no signature.
fn plain(headers: Headers) -> impl Iterator<Item = (&'static str, String)> {
    let all = [("content-type", headers.content_type), ("cache-control", headers.cache_control)];
    all.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())))
}

fn object_info(key: &Key, answer: &Answer) -> Result<ObjectInfo, Cause> {
    let size = answer.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let modified = answer.date(header::LAST_MODIFIED);
    match (size, modified) {
        (Some(size), Some(modified)) => Ok(ObjectInfo {
            key: key.clone(),
            size,
            modified,
            etag: etag(answer.header(header::ETAG).unwrap_or_default()),
        }),
        (None, _) => Err(Cause::Garbled("no usable Content-Length header".to_owned())),
        (_, None) => Err(Cause::Garbled("no usable Last-Modified header".to_owned())),
    }
}

/// Listings and headers quote it differently on some servers.
fn etag(text: &str) -> String {
    text.trim_matches('"').to_owned()
}

#[async_trait]
impl Bucket for S3 {
    fn describe(&self) -> String {
        self.client.address.describe().to_owned()
    }

    async fn check_access(&self) -> Result<(), BucketError> {
        self.probe().await.map_err(|cause| self.error("get access to", "objects", cause))
    }

    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError> {
        S3::put(self, key, body, headers).await.map_err(|cause| self.error("put", key.as_str(), cause))
    }

    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), BucketError> {
        let done = S3::put_before(self, key, body, headers, within).await;
        done.map_err(|cause| self.error("put", key.as_str(), cause))
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        let found = async {
            let Some(answer) = self.read(key, None, limit).await? else { return Ok(None) };
            let mut info = object_info(key, &answer).or_else(|cause| match answer.date(header::LAST_MODIFIED) {
                // A body sent in chunks has no length of its own; we have counted.
                Some(modified) if answer.header(header::CONTENT_LENGTH).is_none() => Ok(ObjectInfo {
                    key: key.clone(),
                    size: 0,
                    modified,
                    etag: etag(answer.header(header::ETAG).unwrap_or_default()),
                }),
                _ => Err(cause),
            })?;
            info.size = answer.body.len() as u64;
            Ok(Some((info, answer.body)))
        };
        found.await.map_err(|cause| self.error("get", key.as_str(), cause))
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        let found = async {
            if length == 0 {
                return Ok(self.head(key).await?.map(|_| Bytes::new()));
            }
            let last = offset.saturating_add(length - 1);
            let range = format!("bytes={offset}-{last}");
            let Some(answer) = self.read(key, Some(range), length).await? else { return Ok(None) };
            match answer.status {
                StatusCode::PARTIAL_CONTENT => {
                    let starts = format!("bytes {offset}-");
                    match answer.header(header::CONTENT_RANGE) {
                        Some(range) if range.starts_with(&starts) => Ok(Some(answer.body)),
                        range => Err(Cause::Garbled(format!("asked for {starts}{last}, got {range:?}"))),
                    }
                }
                StatusCode::RANGE_NOT_SATISFIABLE => Ok(Some(Bytes::new())),
                // Allowed to a server when the range covers everything.
                StatusCode::OK if offset == 0 => Ok(Some(answer.body)),
                status => Err(Cause::Garbled(format!("the request for a range got {status}"))),
            }
        };
        found.await.map_err(|cause| self.error("get part of", key.as_str(), cause))
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        S3::head(self, key).await.map_err(|cause| self.error("look for", key.as_str(), cause))
    }

    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        let listed = self.list_objects(prefix.as_str(), after).await;
        listed.map_err(|cause| self.error("list", format!("{:?}", prefix.as_str()), cause))
    }

    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        S3::delete(self, key, None).await.map_err(|cause| self.error("delete", key.as_str(), cause))
    }

    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        S3::delete(self, key, Some(within)).await.map_err(|cause| self.error("delete", key.as_str(), cause))
    }

    async fn copy(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, BucketError> {
        self.copy_object(from, to, headers).await.map_err(|cause| self.error("copy", format!("{from} to {to}"), cause))
    }

    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError> {
        self.create_upload(key, headers).await.map_err(|cause| self.error("start the upload of", key.as_str(), cause))
    }

    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError> {
        let part = self.upload_part(upload, number, body).await;
        part.map_err(|cause| self.error("upload", format!("part {number} of {}", upload.key), cause))
    }

    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError> {
        let done = self.complete_upload(upload, parts).await;
        done.map_err(|cause| self.error("finish the upload of", upload.key.as_str(), cause))
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        let done = S3::abort_upload(self, upload).await;
        done.map_err(|cause| self.error("abort the upload of", upload.key.as_str(), cause))
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        let parts = S3::list_parts(self, upload).await;
        parts.map_err(|cause| self.error("list the parts of", upload.key.as_str(), cause))
    }

    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        let uploads = S3::list_uploads(self, prefix.as_str()).await;
        uploads.map_err(|cause| self.error("list the uploads below", format!("{:?}", prefix.as_str()), cause))
    }

    async fn now(&self) -> Result<SystemTime, BucketError> {
        S3::now(self).await.map_err(|cause| self.error("ask for the time", "of the server", cause))
    }

    async fn create(&self) -> Result<bool, BucketError> {
        S3::create(self).await.map_err(|cause| self.error("create", "the bucket", cause))
    }

    async fn siblings(&self) -> Result<Vec<String>, BucketError> {
        S3::siblings(self).await.map_err(|cause| self.error("list", "all buckets", cause))
    }

    async fn open_to_all(&self) -> Result<Switch, BucketError> {
        S3::open_to_all(self).await.map_err(|cause| self.error("let everybody read", "all objects", cause))
    }

    async fn quirks(&self, scratch: &Key) -> Result<Quirks, BucketError> {
        S3::quirks(self, scratch).await.map_err(|cause| self.error("try conditions with", scratch.as_str(), cause))
    }
}
