//! F8 and F9: what the bucket says it is, and what its storage is like.

use super::finding::{Finding, Kind};
use super::{Check, CheckError, Damages, Ends, Options};
use crate::bucket::{Body, CacheInfo, Headers, Key, Lifecycle, Prefix, Quirks, list_all};
use crate::ledger::BucketIdentity;
use crate::nix::StoreDir;
use crate::prune::CLOCK_TOLERANCE;
use crate::record::{BucketRecord, RecordError};
use crate::remedy::chain;
use bytes::Bytes;
use std::time::SystemTime;
use ulid::Ulid;

/// Both objects are short; a longer one is not what it says.
const SHORT: u64 = 1 << 20;

/// Days in which an upload that was cut short can be gone on with.
const UPLOAD_LIFE: u32 = 2;

/// What the bucket is.
pub struct Opened {
    pub identity: BucketIdentity,
    pub dir: StoreDir,
    /// By the store's clock.
    pub now: SystemTime,
    /// Caches that clients use beside this one.
    pub upstreams: Vec<String>,
    pub has_cache_info: bool,
    /// Where it was probed.
    pub quirks: Option<Quirks>,
}

pub async fn open(
    ends: &Ends,
    options: &Options,
    found: &mut Vec<Finding>,
    damages: &mut Damages,
) -> Result<Opened, CheckError> {
    let bucket = ends.bucket.as_ref();
    let mut tell = |kind, object: &str, problem: String| {
        found.push(Finding { kind, object: object.to_owned(), path: None, problem });
    };
    let key = Key::bucket_record();
    let mut upstreams = options.upstreams.clone();
    let mut generation = String::new();
    let read = short(ends, &key).await?;
    let has_record = read.is_some();
    if let Some(read) = read {
        match read.and_then(|bytes| BucketRecord::parse(key.as_str(), &bytes).map_err(Unread::Record)) {
            Ok(record) => {
                generation = record.generation;
                upstreams.extend(record.upstreams);
            }
            Err(Unread::Record(error @ RecordError::Newer { .. })) => return Err(error.into()),
            Err(error) => {
                damages.bucket_record = true;
                tell(Kind::BucketRecordUnreadable, key.as_str(), chain(&error));
            }
        }
    }
    let key = Key::cache_info();
    let mut dir = None;
    let read = short(ends, &key).await?;
    let has_cache_info = read.is_some();
    if let Some(read) = read {
        match read.and_then(|bytes| CacheInfo::parse(&bytes).map_err(Unread::CacheInfo)) {
            Ok(info) => {
                dir = info.store_dir;
                if dir.is_none() {
                    tell(Kind::CacheInfoVague, key.as_str(), "it has no StoreDir".to_owned());
                }
            }
            Err(error) => {
                damages.cache_info = true;
                tell(Kind::CacheInfoMalformed, key.as_str(), chain(&error));
            }
        }
    }
    let now = bucket.now().await?;
    let apart = now.duration_since(ends.clock.wall()).unwrap_or_else(|error| error.duration());
    if apart > CLOCK_TOLERANCE {
        let problem = format!("this machine's clock and the store's differ by {} s", apart.as_secs());
        tell(Kind::Clock, "clock", problem);
    }
    let mut quirks = None;
    // Not in a place that may be none of ours: a directory would even be made for it.
    if options.probe && (has_cache_info || has_record) {
        match probe(ends).await {
            Ok(true) => {}
            Ok(false) => {
                let problem = "an object that was just written does not show in a listing".to_owned();
                tell(Kind::ListingLags, "listing", problem);
            }
            Err(error) => tell(Kind::CouldNotTell, "listing", format!("no object could be written: {}", chain(&error))),
        }
        match bucket.quirks(&Key::probe(Ulid::from_datetime(ends.clock.wall()))).await {
            Ok(found) => {
                judge_rules(&found.lifecycle).into_iter().for_each(|(kind, problem)| tell(kind, "lifecycle", problem));
                quirks = Some(found);
            }
            Err(error) => tell(Kind::CouldNotTell, "conditions", chain(&error)),
        }
    }
    let identity = BucketIdentity { url: bucket.describe(), generation };
    Ok(Opened { identity, dir: dir.unwrap_or_default(), now, upstreams, has_cache_info, quirks })
}

impl Check<'_> {
    /// Where nothing at all is, it may be the wrong place: nobody has looked at the cache then.
    pub(super) async fn judge_absent_cache_info(&mut self) -> Result<(), CheckError> {
        if self.opened.has_cache_info {
            return Ok(());
        }
        let bucket = self.ends.bucket.as_ref();
        if self.checked.counts.paths + self.checked.counts.nars == 0 {
            let records = bucket.list(&Prefix::own(), None).await?;
            if records.objects.is_empty() && records.next.is_none() {
                return Err(CheckError::Nothing(bucket.describe()));
            }
        }
        self.checked.damages.cache_info = true;
        self.find(Kind::CacheInfoMissing, &Key::cache_info(), None, "it is not there");
        Ok(())
    }
}

/// Why one of the two is not what it says.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Record(RecordError),
    #[error(transparent)]
    CacheInfo(crate::bucket::CacheInfoError),
    #[error(transparent)]
    Bucket(crate::bucket::BucketError),
}

/// Nothing where the store says that it is absent.
async fn short(ends: &Ends, key: &Key) -> Result<Option<Result<Bytes, Unread>>, CheckError> {
    match ends.bucket.get(key, SHORT).await {
        Ok(found) => Ok(found.map(|(_, bytes)| Ok(bytes))),
        Err(error) if error.remedy() == crate::remedy::Remedy::GiveUpOnItem => Ok(Some(Err(Unread::Bucket(error)))),
        Err(error) => Err(error.into()),
    }
}

/// A store may delete what nobody needs any more, and it knows nothing of that.
fn judge_rules(lifecycle: &Lifecycle) -> Vec<(Kind, String)> {
    let Lifecycle::Rules(rules) = lifecycle else { return Vec::new() };
    let mut found = Vec::new();
    for rule in rules {
        let name = format!("the rule {:?} for keys that begin with {:?}", rule.id, rule.prefix);
        if let Some(when) = &rule.expires {
            found.push((Kind::LifecycleExpires, format!("{name} deletes objects {when}")));
        }
        if let Some(archive) = &rule.archives {
            found.push((Kind::LifecycleArchives, format!("{name} moves objects {archive}")));
        }
        if let Some(days) = rule.aborts_uploads_after.filter(|days| *days < UPLOAD_LIFE) {
            found.push((Kind::LifecycleAborts, format!("{name} ends uploads after {days} day")));
        }
    }
    found
}

/// Whether a listing shows what was just written.
async fn probe(ends: &Ends) -> Result<bool, crate::bucket::BucketError> {
    let bucket = ends.bucket.as_ref();
    let key = Key::probe(Ulid::from_datetime(ends.clock.wall()));
    bucket.put(&key, Body::from(Bytes::from_static(b"{}")), Headers::RECORD).await?;
    let listed = list_all(bucket, &Prefix::probes()).await;
    bucket.delete(&key).await?;
    Ok(listed?.iter().any(|object| object.key == key))
}
