//! What these credentials may do with a bucket: each request that loft needs is tried once, on scratch objects below
//! loft's own prefix, which are gone afterwards.
//!
//! Nothing else is touched, and nothing is concluded from what could not be tried.

use super::error::{BucketError, Cause, Denial, NOT_BY_S3};
use super::{Bucket, Headers, Key, Prefix, Upload};
use crate::remedy::chain;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};
use ulid::Ulid;

/// The scratch objects hold their own key.
const SHORT: u64 = 64 * 1024;

/// For requests with an expiry in their signature: longer than clocks differ by, shorter than anybody waits.
const WITHIN: Duration = Duration::from_secs(120);

/// A request, as permissions know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Below `loft/v1/probe/`, which stands for all of the cache; tried first, with what is not there.
    Delete,
    /// Of leases alone, which a pusher needs; tried with one that is not there.
    EndLease,
    Put,
    Get,
    Head,
    List,
    /// With an expiry, so signed in its URL; narinfos are put so.
    TimedPut,
    StartUpload,
    PutPart,
    ListParts,
    ListUploads,
    FinishUpload,
    AbortUpload,
    TimedDelete,
}

/// How one of them went.
#[derive(Debug)]
pub enum Verdict {
    Allowed,
    Failed {
        why: Why,
        error: BucketError,
    },
    /// Not tried, and why; it may well be allowed.
    Untried(String),
}

/// What kind of obstacle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The server knows who we are, and says no.
    Denied,
    /// No credentials, or the server does not accept these: an unknown key, a wrong secret, a clock that is off.
    Credentials,
    NoBucket,
    WrongRegion,
    Unreachable,
    /// Somebody answers who is no S3 server.
    NotS3,
    Other,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Permissions {
    pub verdicts: BTreeMap<Action, Verdict>,
    /// What was allowed, but did not do what it says: an object that does not show, or reads differently.
    pub odd: Vec<Oddity>,
    /// Keys of scratch objects that could not be removed.
    pub left_behind: Vec<Key>,
}

/// A server, or something before it, that does not keep its promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oddity {
    /// An object that was just written is absent for a GET or a HEAD.
    Absent(Action),
    /// It is not in a listing.
    NotListed,
    /// Other bytes come back than were sent, or another size is told.
    Changed(Action),
    /// An upload in progress is not in the listing of uploads, or its part is not in that of parts.
    UploadNotListed(Action),
    /// An object that was just deleted is still there.
    StillThere,
}

impl Action {
    pub const ALL: [Self; 14] = [
        Self::Delete,
        Self::EndLease,
        Self::Put,
        Self::Get,
        Self::Head,
        Self::List,
        Self::TimedPut,
        Self::StartUpload,
        Self::PutPart,
        Self::ListParts,
        Self::ListUploads,
        Self::FinishUpload,
        Self::AbortUpload,
        Self::TimedDelete,
    ];

    /// For programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::TimedPut => "timed-put",
            Self::StartUpload => "start-upload",
            Self::PutPart => "put-part",
            Self::ListParts => "list-parts",
            Self::ListUploads => "list-uploads",
            Self::FinishUpload => "finish-upload",
            Self::AbortUpload => "abort-upload",
            Self::TimedDelete => "timed-delete",
            Self::Delete => "delete",
            Self::EndLease => "end-lease",
        }
    }

    /// As a policy names what must be granted for it.
    pub const fn grant(self) -> &'static str {
        match self {
            Self::Put | Self::TimedPut | Self::StartUpload | Self::PutPart | Self::FinishUpload => "s3:PutObject",
            Self::Get | Self::Head => "s3:GetObject",
            Self::List => "s3:ListBucket",
            Self::ListParts => "s3:ListMultipartUploadParts",
            Self::ListUploads => "s3:ListBucketMultipartUploads",
            Self::AbortUpload => "s3:AbortMultipartUpload",
            Self::TimedDelete | Self::Delete | Self::EndLease => "s3:DeleteObject",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put objects",
            Self::Get => "get objects",
            Self::Head => "look for objects",
            Self::List => "list objects",
            Self::TimedPut => "put objects with a time limit",
            Self::StartUpload => "start multipart uploads",
            Self::PutPart => "upload parts",
            Self::ListParts => "list the parts of an upload",
            Self::ListUploads => "list multipart uploads",
            Self::FinishUpload => "finish multipart uploads",
            Self::AbortUpload => "abort multipart uploads",
            Self::TimedDelete => "delete objects with a time limit",
            Self::Delete => "delete objects",
            Self::EndLease => "delete leases",
        })
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(action) => {
                write!(f, "an object that was just written is absent ({})", action.name())
            }
            Self::NotListed => f.write_str("an object that was just written does not show in a listing"),
            Self::Changed(action) => {
                write!(f, "an object that was just written has other bytes than were sent ({})", action.name())
            }
            Self::UploadNotListed(action) => {
                write!(f, "an upload that is under way does not show in a listing ({})", action.name())
            }
            Self::StillThere => f.write_str("an object that was just deleted is still there"),
        }
    }
}

impl Why {
    pub fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Denied { hint, .. } if *hint == NOT_BY_S3 => Self::NotS3,
            Cause::Denied { refusal, .. } => match refusal.denial() {
                Denial::Clock | Denial::UnknownKey | Denial::WrongSecret | Denial::ExpiredToken => Self::Credentials,
                Denial::NotPermitted => Self::Denied,
            },
            Cause::Credentials(_) => Self::Credentials,
            Cause::NoBucket(_) | Cause::NoDirectory(_) => Self::NoBucket,
            Cause::WrongRegion { .. } => Self::WrongRegion,
            Cause::Unreachable(_) | Cause::Stalled(_) | Cause::Certificate(_) | Cause::Broken(_) => Self::Unreachable,
            Cause::NotS3(_) => Self::NotS3,
            Cause::Io(error) => match error.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Self::Denied,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// Whether every other request would hear the same.
    pub const fn is_about_all(self) -> bool {
        !matches!(self, Self::Denied | Self::Other)
    }

    /// For programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::NoBucket => "no-bucket",
            Self::WrongRegion => "wrong-region",
            Self::Unreachable => "unreachable",
            Self::NotS3 => "not-s3",
            Self::Other => "other",
        }
    }
}

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }

    /// The server's own words, where it said no.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Failed { error, .. } => {
                Some(error.cause.refusal().map_or_else(|| chain(&error.cause), |r| r.to_string()))
            }
            _ => None,
        }
    }
}

impl Permissions {
    pub fn allows(&self, action: Action) -> bool {
        self.verdicts.get(&action).is_some_and(Verdict::is_allowed)
    }

    /// What went wrong, in the order of the requests.
    pub fn failures(&self) -> impl Iterator<Item = (Action, Why, &BucketError)> {
        self.verdicts.iter().filter_map(|(action, verdict)| match verdict {
            Verdict::Failed { why, error } => Some((*action, *why, error)),
            _ => None,
        })
    }

    /// What stands in the way of everything: no bucket, no credentials, nobody there.
    pub fn obstacle(&self) -> Option<(Why, &BucketError)> {
        self.failures().find(|(_, why, _)| why.is_about_all()).map(|(_, why, error)| (why, error))
    }

    pub fn all_allowed(&self) -> bool {
        Action::ALL.into_iter().all(|action| self.allows(action))
    }
}

/// Tries everything. A request that is not answered within `patience` counts as unanswered; the first obstacle that is
/// about all requests ends the trying. `now` goes into the scratch keys; a directory that does not exist yet is made.
pub async fn probe(bucket: &dyn Bucket, now: SystemTime, patience: Duration) -> Permissions {
    let id = || Ulid::from_datetime(now);
    let mut probing =
        Probing { bucket, patience, permissions: Permissions::default(), stopped: None, made: Vec::new() };
    // S3 says the same of an object that is not there as of one that is.
    probing.attempt(Action::Delete, bucket.delete(&Key::probe(id()))).await;
    probing.attempt(Action::EndLease, bucket.delete(&Key::lease(id()))).await;
    // Who may not delete leaves one object, however often this is done.
    let can_remove = probing.permissions.allows(Action::Delete);
    let key = || if can_remove { Key::probe(id()) } else { Key::kept_probe() };
    let (plain, timed, whole) = (key(), key(), key());
    probing.objects(&plain).await;
    probing.timed(&timed).await;
    probing.uploads(&whole, &key()).await;
    probing.remove(&plain).await;
    probing.clean_up().await;
    probing.permissions
}

struct Probing<'a> {
    bucket: &'a dyn Bucket,
    patience: Duration,
    permissions: Permissions,
    /// Why nothing more is tried.
    stopped: Option<String>,
    /// Objects that are there, or may be.
    made: Vec<Key>,
}

impl Probing<'_> {
    /// Puts an object and looks at it in every way.
    async fn objects(&mut self, key: &Key) {
        let bucket = self.bucket;
        let body = body(key);
        let is_there = self.attempt_put(Action::Put, key, bucket.put(key, body.clone().into(), Headers::RECORD)).await;
        // Where nothing may be put, what everybody reads shows whether reading is allowed.
        let known = if is_there { key.clone() } else { Key::cache_info() };
        let got = self.attempt(Action::Get, bucket.get(&known, SHORT)).await;
        let seen = self.attempt(Action::Head, bucket.head(&known)).await;
        let listed = self.attempt(Action::List, bucket.list(&Prefix::listed(known.as_str()), None)).await;
        if !is_there {
            return;
        }
        match got {
            Some(None) => self.permissions.odd.push(Oddity::Absent(Action::Get)),
            Some(Some((_, bytes))) if bytes != body => self.permissions.odd.push(Oddity::Changed(Action::Get)),
            _ => {}
        }
        match seen {
            Some(None) => self.permissions.odd.push(Oddity::Absent(Action::Head)),
            Some(Some(info)) if info.size != body.len() as u64 => {
                self.permissions.odd.push(Oddity::Changed(Action::Head));
            }
            _ => {}
        }
        if listed.is_some_and(|page| !page.objects.iter().any(|object| object.key == *key)) {
            self.permissions.odd.push(Oddity::NotListed);
        }
    }

    /// Requests that are signed in their URL.
    async fn timed(&mut self, key: &Key) {
        let bucket = self.bucket;
        let put = bucket.put_before(key, body(key).into(), Headers::RECORD, WITHIN);
        self.attempt_put(Action::TimedPut, key, put).await;
        if self.attempt(Action::TimedDelete, bucket.delete_before(key, WITHIN)).await.is_some() {
            self.made.retain(|made| made != key);
        }
    }

    /// One upload that is finished, and one that is not.
    async fn uploads(&mut self, whole: &Key, broken_off: &Key) {
        let bucket = self.bucket;
        let Some(upload) = self.attempt(Action::StartUpload, bucket.start_upload(whole, Headers::NAR)).await else {
            // This alone needs no upload.
            self.attempt(Action::ListUploads, bucket.list_uploads(&Prefix::probes())).await;
            for action in [Action::PutPart, Action::ListParts, Action::FinishUpload, Action::AbortUpload] {
                self.cannot(action, "no upload could be started");
            }
            return;
        };
        self.made.push(whole.clone());
        let part = self.attempt(Action::PutPart, bucket.put_part(&upload, 1, body(whole).into())).await;
        let parts = self.attempt(Action::ListParts, bucket.list_parts(&upload)).await;
        let uploads = self.attempt(Action::ListUploads, bucket.list_uploads(&Prefix::probes())).await;
        if uploads.is_some_and(|uploads| !uploads.iter().any(|(listed, _)| *listed == upload)) {
            self.permissions.odd.push(Oddity::UploadNotListed(Action::ListUploads));
        }
        if let (Some(part), Some(parts)) = (&part, parts)
            && !parts.is_some_and(|parts| parts.iter().any(|listed| listed.number == part.number))
        {
            self.permissions.odd.push(Oddity::UploadNotListed(Action::ListParts));
        }
        let finished = match part {
            Some(part) => self.attempt(Action::FinishUpload, bucket.finish_upload(&upload, &[part])).await,
            None => {
                self.cannot(Action::FinishUpload, "no part could be uploaded");
                None
            }
        };
        if finished.is_none() {
            self.attempt(Action::AbortUpload, bucket.abort_upload(&upload)).await;
            self.give_up_on(&upload).await;
            return;
        }
        // Its own verdict is told already.
        if let Ok(second) = self.limited(bucket.start_upload(broken_off, Headers::NAR)).await {
            self.attempt(Action::AbortUpload, bucket.abort_upload(&second)).await;
            self.give_up_on(&second).await;
        } else {
            self.cannot(Action::AbortUpload, "no second upload could be started");
        }
    }

    /// Aborts once more what an attempt has left, also after nothing more is tried.
    async fn give_up_on(&mut self, upload: &Upload) {
        if !self.permissions.allows(Action::AbortUpload)
            && self.limited(self.bucket.abort_upload(upload)).await.is_err()
        {
            self.permissions.left_behind.push(upload.key.clone());
        }
    }

    /// Deletes the first object, and looks whether it is gone.
    async fn remove(&mut self, key: &Key) {
        let bucket = self.bucket;
        if !self.made.contains(key) || self.limited(bucket.delete(key)).await.is_err() {
            return;
        }
        if self.permissions.allows(Action::Get) && matches!(self.limited(bucket.get(key, SHORT)).await, Ok(Some(_))) {
            self.permissions.odd.push(Oddity::StillThere);
        }
        self.made.retain(|made| made != key);
    }

    /// Best effort, also where the trying ended early.
    async fn clean_up(&mut self) {
        let mut made = std::mem::take(&mut self.made);
        made.dedup();
        for key in made {
            if let Err(error) = self.limited(self.bucket.delete(&key)).await {
                self.permissions.left_behind.push(key);
                // Nobody waits for the same silence for each of them.
                if Why::of(&error.cause).is_about_all() {
                    break;
                }
            }
        }
    }

    /// As `attempt`; whether the object is there. It may be there where the answer was lost.
    async fn attempt_put(
        &mut self,
        action: Action,
        key: &Key,
        put: impl Future<Output = Result<(), BucketError>>,
    ) -> bool {
        let is_there = self.attempt(action, put).await.is_some();
        let may_be_there = match self.permissions.verdicts.get(&action) {
            Some(Verdict::Failed { error, .. }) => error.is_ambiguous(),
            _ => is_there,
        };
        if may_be_there {
            self.made.push(key.clone());
        }
        is_there
    }

    async fn attempt<T>(&mut self, action: Action, call: impl Future<Output = Result<T, BucketError>>) -> Option<T> {
        if let Some(why) = self.stopped.clone() {
            self.permissions.verdicts.insert(action, Verdict::Untried(why));
            return None;
        }
        let (verdict, value) = match self.limited(call).await {
            Ok(value) => (Verdict::Allowed, Some(value)),
            Err(error) => {
                let why = Why::of(&error.cause);
                if why.is_about_all() {
                    self.stopped = Some(chain(&error));
                }
                (Verdict::Failed { why, error }, None)
            }
        };
        self.permissions.verdicts.insert(action, verdict);
        value
    }

    fn cannot(&mut self, action: Action, why: &str) {
        let why = self.stopped.clone().unwrap_or_else(|| why.to_owned());
        self.permissions.verdicts.insert(action, Verdict::Untried(why));
    }

    async fn limited<T>(&self, call: impl Future<Output = Result<T, BucketError>>) -> Result<T, BucketError> {
        tokio::time::timeout(self.patience, call).await.unwrap_or_else(|_| {
            Err(BucketError::new("hear from", "the server", self.bucket.describe(), Cause::Stalled(self.patience)))
        })
    }
}

/// Its own key: nobody else's object looks like it.
fn body(key: &Key) -> Bytes {
    Bytes::from(key.as_str().to_owned())
}
