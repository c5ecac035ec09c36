//! A bucket in memory that works, with the sharp edges of real servers.
//!
//! It passes the same contract suite as the real ones. Every request is two yield points, one before
//! it is applied and one after (before its answer arrives), and at each a hook may look, wait, or
//! decide on a fault. Time stands still until the test moves the bucket's own clock.
//!
//! Edges of Garage 2.5, checked on a running one: a version counts from when its upload *began*, so
//! a DELETE that overtakes a PUT wins and the PUT still answers success; a multipart object's
//! LastModified is when the upload was initiated; parts have no minimum size. Edges of AWS: the
//! last to finish wins; parts but the last need 5 MiB; Complete may be repeated.

use super::time::TestClock;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use loft::bucket::{
    Body, Bucket, BucketError, Cause, Headers, Key, Lifecycle, LifecycleRule, ObjectInfo, Page, Part, Prefix, Quirks,
    Refusal, RequestKind, Upload,
};
use loft::clock::Clock;
use loft::nix::Sha256;
use md5::{Digest as _, Md5};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

const MIB: u64 = 1 << 20;

/// Whose edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Garage,
    Aws,
}

/// A request as hooks and logs see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// From 0, in the order in which they arrived.
    pub number: u64,
    pub kind: RequestKind,
    /// The key, or a listing's prefix.
    pub on: String,
    /// Of a part, from 1.
    pub part: Option<u32>,
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened yet, but Garage has noted the time.
    Before,
    /// All has happened; only the answer is still on its way.
    After,
}

/// What goes wrong. At `Moment::After` an error means that the answer is lost.
#[derive(Debug, Clone)]
pub enum Fault {
    /// 503, with a `Retry-After` perhaps.
    Unavailable(Option<Duration>),
    Unreachable,
    Reset,
    TimeOut,
    Denied,
    /// The answer's body ends early.
    Cut,
    Delay(Duration),
}

pub type Hook = Arc<dyn Fn(Moment, &Request) -> BoxFuture<'static, Option<Fault>> + Send + Sync>;

/// An object that is visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bytes: Bytes,
    pub headers: Headers,
    pub modified: SystemTime,
}

pub struct Memory {
    pub profile: Profile,
    /// The store's own clock.
    pub clock: Arc<TestClock>,
    pub page_size: usize,
    /// ETags of parts are no MD5 and never the same twice, as with objects under a KMS key.
    pub opaque_etags: bool,
    /// Rules by which it would delete; it does not.
    pub lifecycle: Vec<LifecycleRule>,
    /// The bucket itself, for the server over it.
    pub own: Mutex<Own>,
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

/// What there is to a bucket besides its objects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own {
    pub is_missing: bool,
    pub may_not_create: bool,
    /// Everybody may read.
    pub is_website: bool,
    /// These credentials may not look at or change that.
    pub is_not_owner: bool,
    /// Names of other buckets that these credentials can see.
    pub siblings: &'static [&'static str],
}

#[derive(Default)]
struct State {
    /// With the stamp and the ETag of each.
    objects: BTreeMap<String, (u64, Object, String)>,
    /// When keys were last deleted, in stamps.
    tombstones: HashMap<String, u64>,
    uploads: BTreeMap<String, OpenUpload>,
    finished: HashMap<String, Vec<Part>>,
    log: Vec<Request>,
    /// Logical time: which of two things came first.
    stamp: u64,
}

struct OpenUpload {
    key: String,
    stamp: u64,
    began: SystemTime,
    headers: Headers,
    parts: BTreeMap<u32, (String, Bytes)>,
}

impl Memory {
    pub fn garage() -> Self {
        Self::new(Profile::Garage)
    }

    pub fn aws() -> Self {
        Self::new(Profile::Aws)
    }

    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            clock: Arc::default(),
            page_size: 1000,
            opaque_etags: false,
            lifecycle: Vec::new(),
            own: Mutex::default(),
            state: Mutex::default(),
            hook: Mutex::default(),
        }
    }

    /// From now on, `hook` is asked twice for each request.
    pub fn set_hook(&self, hook: Hook) {
        *self.hook.lock().unwrap() = Some(hook);
    }

    /// As `set_hook`, for faults that need no waiting.
    pub fn set_faults(&self, decide: impl Fn(Moment, &Request) -> Option<Fault> + Send + Sync + 'static) {
        self.set_hook(Arc::new(move |moment, request| {
            let fault = decide(moment, request);
            Box::pin(async move { fault })
        }));
    }

    pub fn clear_hook(&self) {
        *self.hook.lock().unwrap() = None;
    }

    /// Everything visible, at this moment.
    pub fn objects(&self) -> BTreeMap<Key, Object> {
        self.state().objects.iter().map(|(key, (_, object, _))| (Key::listed(key), object.clone())).collect()
    }

    /// As the oracle wants it.
    pub fn contents(&self) -> BTreeMap<Key, Bytes> {
        self.state().objects.iter().map(|(key, (_, object, _))| (Key::listed(key), object.bytes.clone())).collect()
    }

    /// One object's bytes, past all hooks and logs.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.state().objects.get(key).map(|(_, object, _)| object.bytes.clone())
    }

    /// What one object was stored with.
    pub fn headers(&self, key: &str) -> Option<Headers> {
        self.state().objects.get(key).map(|(_, object, _)| object.headers)
    }

    /// Puts an object past all hooks and logs.
    pub fn plant(&self, key: &str, bytes: impl Into<Bytes>) {
        let object = Object { bytes: bytes.into(), headers: Headers::default(), modified: self.clock.wall() };
        let mut state = self.state();
        let stamp = state.tick();
        state.insert(key, stamp, object);
    }

    /// Makes `objects` all that is visible, past all hooks and logs.
    pub fn restore(&self, objects: BTreeMap<Key, Object>) {
        let mut state = self.state();
        state.tombstones.clear();
        state.objects.clear();
        for (key, object) in objects {
            state.insert(key.as_str(), 0, object);
        }
    }

    /// All objects are older by `time`, as if they had been put so much earlier.
    pub fn age(&self, time: Duration) {
        for (_, object, _) in self.state().objects.values_mut() {
            object.modified -= time;
        }
    }

    /// Removes an object past all hooks and logs.
    pub fn lose(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// Aborts all open uploads past all hooks and logs.
    pub fn lose_uploads(&self) {
        self.state().uploads.clear();
    }

    /// Puts a part of every open upload past all hooks and logs.
    pub fn plant_part(&self, number: u32, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        for open in self.state().uploads.values_mut() {
            open.parts.insert(number, (etag(&bytes), bytes.clone()));
        }
    }

    /// How many parts the open uploads have.
    pub fn open_parts(&self) -> Vec<usize> {
        self.state().uploads.values().map(|open| open.parts.len()).collect()
    }

    pub fn open_bytes(&self) -> u64 {
        self.state().uploads.values().flat_map(|open| open.parts.values()).map(|(_, bytes)| bytes.len() as u64).sum()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state().log.clone()
    }

    pub fn count(&self, kind: RequestKind) -> usize {
        self.state().log.iter().filter(|request| request.kind == kind).count()
    }

    pub fn forget_requests(&self) {
        self.state().log.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Both yield points around `apply`, which sees the stamp and the time at which the request began.
    async fn request<T>(
        &self,
        kind: RequestKind,
        on: &str,
        part: Option<u32>,
        apply: impl FnOnce(&mut State, u64, SystemTime) -> Result<T, Cause> + Send,
    ) -> Result<T, BucketError> {
        let error = |cause| BucketError::new("ask for", format!("{kind:?} {on}"), self.describe(), cause);
        let (request, stamp) = {
            let mut state = self.state();
            let request = Request { number: state.log.len() as u64, kind, on: on.to_owned(), part };
            state.log.push(request.clone());
            (request, state.tick())
        };
        let began = self.clock.wall();
        tokio::task::yield_now().await;
        self.moment(Moment::Before, &request).await.map_err(error)?;
        let result = apply(&mut self.state(), stamp, began);
        tokio::task::yield_now().await;
        self.moment(Moment::After, &request).await.map_err(error)?;
        result.map_err(error)
    }

    async fn moment(&self, moment: Moment, request: &Request) -> Result<(), Cause> {
        let hook = self.hook.lock().unwrap().clone();
        let Some(hook) = hook else { return Ok(()) };
        match hook(moment, request).await {
            None => Ok(()),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Some(Fault::Unavailable(retry_after)) => {
                Err(Cause::Unavailable(Box::new(Refusal { retry_after, ..*refusal(503, "SlowDown") })))
            }
            Some(Fault::Unreachable) => Err(Cause::Unreachable("connection refused".into())),
            Some(Fault::Reset) => Err(Cause::Broken("connection reset by peer".into())),
            Some(Fault::TimeOut) => Err(Cause::Stalled(Duration::from_secs(60))),
            Some(Fault::Denied) => Err(Cause::Denied { refusal: refusal(403, "AccessDenied"), hint: "a test said so" }),
            Some(Fault::Cut) => Err(Cause::Truncated { expected: 100, received: 1 }),
        }
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    fn insert(&mut self, key: &str, stamp: u64, object: Object) {
        let etag = etag(&object.bytes);
        self.objects.insert(key.to_owned(), (stamp, object, etag));
    }

    /// A version that is ready: Garage compares when they began, AWS lets the last one win.
    fn commit(&mut self, profile: Profile, key: &str, stamp: u64, object: Object) {
        let stamp = if profile == Profile::Garage { stamp } else { self.tick() };
        let newest = self.objects.get(key).map(|(stamp, ..)| *stamp).max(self.tombstones.get(key).copied());
        if newest.is_none_or(|newest| newest < stamp) {
            self.insert(key, stamp, object);
        }
    }

    /// As any server: a deletion counts from when it is carried out.
    fn delete(&mut self, key: &str) {
        let stamp = self.tick();
        self.objects.remove(key);
        self.tombstones.insert(key.to_owned(), stamp);
    }
}

impl Object {
    fn info(&self, key: &str, etag: &str) -> ObjectInfo {
        ObjectInfo {
            key: Key::listed(key),
            size: self.bytes.len() as u64,
            modified: self.modified,
            etag: etag.to_owned(),
        }
    }
}

fn etag(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Md5::digest(bytes))
}

pub fn refusal(status: u16, code: &str) -> Box<Refusal> {
    Box::new(Refusal {
        status,
        code: code.to_owned(),
        message: "The fake bucket said so".to_owned(),
        retry_after: None,
    })
}

/// The same limits as everywhere: no empty segments, no dots.
fn checked(key: &Key) -> Result<&str, Cause> {
    let text = key.as_str();
    match text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        true => Err(Cause::Key("it is empty or has a segment that is empty, . or ..")),
        false => Ok(text),
    }
}

#[async_trait]
impl Bucket for Memory {
    fn describe(&self) -> String {
        format!("memory ({:?})", self.profile)
    }

    async fn check_access(&self) -> Result<(), BucketError> {
        self.request(RequestKind::Get, "", None, |_, _, _| Ok(())).await
    }

    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError> {
        self.put_before(key, body, headers, Duration::MAX).await
    }

    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), BucketError> {
        let deadline = self.clock.boot().saturating_add(within);
        self.request(RequestKind::Put, key.as_str(), None, |state, stamp, began| {
            let text = checked(key)?;
            if self.clock.boot() >= deadline {
                return Err(Cause::Expired);
            }
            if let Some(said) = body.sha256
                && said != Sha256::of(&body.bytes)
            {
                return Err(Cause::Unavailable(refusal(400, "XAmzContentSHA256Mismatch")));
            }
            let modified = if self.profile == Profile::Garage { began } else { self.clock.wall() };
            state.commit(self.profile, text, stamp, Object { bytes: body.bytes, headers, modified });
            Ok(())
        })
        .await
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        self.request(RequestKind::Get, key.as_str(), None, |state, _, _| {
            let text = checked(key)?;
            match state.objects.get(text) {
                None => Ok(None),
                Some((_, object, _)) if object.bytes.len() as u64 > limit => Err(Cause::TooLarge { limit }),
                Some((_, object, etag)) => Ok(Some((object.info(text, etag), object.bytes.clone()))),
            }
        })
        .await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        self.request(RequestKind::Get, key.as_str(), None, |state, _, _| {
            let Some((_, object, _)) = state.objects.get(checked(key)?) else { return Ok(None) };
            let size = object.bytes.len() as u64;
            let start = offset.min(size);
            let end = offset.saturating_add(length).min(size);
            Ok(Some(object.bytes.slice(start as usize..end as usize)))
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        self.request(RequestKind::Head, key.as_str(), None, |state, _, _| {
            let text = checked(key)?;
            Ok(state.objects.get(text).map(|(_, object, etag)| object.info(text, etag)))
        })
        .await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        self.request(RequestKind::List, prefix.as_str(), None, |state, _, _| {
            let prefix = prefix.as_str();
            let from = match after.filter(|after| *after >= prefix) {
                Some(after) => Bound::Excluded(after),
                None => Bound::Included(prefix),
            };
            let all = state.objects.range::<str, _>((from, Bound::Unbounded));
            let mut matching = all.take_while(|(key, _)| key.starts_with(prefix));
            let objects: Vec<ObjectInfo> =
                matching.by_ref().take(self.page_size).map(|(key, (_, object, etag))| object.info(key, etag)).collect();
            let next = matching.next().and(objects.last()).map(|last| last.key.as_str().to_owned());
            Ok(Page { objects, next })
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        self.request(RequestKind::Delete, key.as_str(), None, |state, _, _| {
            state.delete(checked(key)?);
            Ok(())
        })
        .await
    }

    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        let deadline = self.clock.boot() + within;
        self.request(RequestKind::Delete, key.as_str(), None, |state, _, _| {
            if self.clock.boot() >= deadline {
                return Err(Cause::Expired);
            }
            state.delete(checked(key)?);
            Ok(())
        })
        .await
    }

    async fn copy(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, BucketError> {
        self.request(RequestKind::Copy, to.as_str(), None, |state, stamp, began| {
            let Some((_, source, _)) = state.objects.get(checked(from)?) else { return Ok(false) };
            let object = Object { bytes: source.bytes.clone(), headers, modified: began };
            state.commit(self.profile, checked(to)?, stamp, object);
            Ok(true)
        })
        .await
    }

    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError> {
        self.request(RequestKind::CreateUpload, key.as_str(), None, |state, stamp, began| {
            let text = checked(key)?.to_owned();
            let id = format!("upload-{stamp}");
            let upload = OpenUpload { key: text, stamp, began, headers, parts: BTreeMap::new() };
            state.uploads.insert(id.clone(), upload);
            Ok(Upload { key: key.clone(), id })
        })
        .await
    }

    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError> {
        self.request(RequestKind::UploadPart, upload.key.as_str(), Some(number), |state, stamp, _| {
            if !(1..=10_000).contains(&number) {
                return Err(Cause::Refused(refusal(400, "InvalidArgument")));
            }
            let open = state.uploads.get_mut(&upload.id).filter(|open| open.key == upload.key.as_str());
            let open = open.ok_or(Cause::NoUpload)?;
            let etag = if self.opaque_etags { format!("\"part-{stamp}\"") } else { etag(&body.bytes) };
            let size = body.bytes.len() as u64;
            open.parts.insert(number, (etag.clone(), body.bytes));
            Ok(Part { number, etag, size })
        })
        .await
    }

    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError> {
        self.request(RequestKind::CompleteUpload, upload.key.as_str(), None, |state, _, _| {
            let Some(open) = state.uploads.get(&upload.id) else {
                let repeated = state.finished.get(&upload.id).is_some_and(|done| done == parts);
                return if self.profile == Profile::Aws && repeated { Ok(()) } else { Err(Cause::NoUpload) };
            };
            if parts.is_empty() {
                return Err(Cause::Refused(refusal(400, "MalformedXML")));
            }
            if !parts.is_sorted_by(|a, b| a.number < b.number) {
                return Err(Cause::Refused(refusal(400, "InvalidPartOrder")));
            }
            let mut bytes = Vec::new();
            for (n, part) in parts.iter().enumerate() {
                let sent = open.parts.get(&part.number).filter(|(etag, _)| *etag == part.etag);
                let Some((_, sent)) = sent else { return Err(Cause::Refused(refusal(400, "InvalidPart"))) };
                let is_last = n + 1 == parts.len();
                if self.profile == Profile::Aws && !is_last && (sent.len() as u64) < 5 * MIB {
                    return Err(Cause::Refused(refusal(400, "EntityTooSmall")));
                }
                bytes.extend_from_slice(sent);
            }
            let object = Object { bytes: bytes.into(), headers: open.headers, modified: open.began };
            let (key, stamp) = (open.key.clone(), open.stamp);
            state.uploads.remove(&upload.id);
            state.finished.insert(upload.id.clone(), parts.to_vec());
            state.commit(self.profile, &key, stamp, object);
            Ok(())
        })
        .await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        self.request(RequestKind::AbortUpload, upload.key.as_str(), None, |state, _, _| {
            state.uploads.remove(&upload.id);
            Ok(())
        })
        .await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        self.request(RequestKind::ListParts, upload.key.as_str(), None, |state, _, _| {
            Ok(state.uploads.get(&upload.id).map(|open| {
                let parts = open.parts.iter();
                parts
                    .map(|(number, (etag, bytes))| Part {
                        number: *number,
                        etag: etag.clone(),
                        size: bytes.len() as u64,
                    })
                    .collect()
            }))
        })
        .await
    }

    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        self.request(RequestKind::ListUploads, prefix.as_str(), None, |state, _, _| {
            let mut uploads: Vec<_> = state
                .uploads
                .iter()
                .filter(|(_, open)| open.key.starts_with(prefix.as_str()))
                .map(|(id, open)| (Upload { key: Key::listed(&open.key), id: id.clone() }, open.began))
                .collect();
            uploads.sort_by(|(a, _), (b, _)| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
            Ok(uploads)
        })
        .await
    }

    async fn now(&self) -> Result<SystemTime, BucketError> {
        Ok(self.clock.wall())
    }

    async fn quirks(&self, _: &Key) -> Result<Quirks, BucketError> {
        let lifecycle = Lifecycle::Rules(self.lifecycle.clone());
        Ok(Quirks { conditional_writes: Some(self.profile == Profile::Aws), lifecycle })
    }
}
