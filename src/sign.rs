//! Signatures of more keys on narinfos that are in a bucket: when a key is replaced, or was added late.
//!
//! Nothing is signed on the bucket's word alone (I5): either a valid signature by a trusted key covers what the narinfo
//! says, or its NAR is read here and hashes to NarHash. Narinfos are written under a lease that names them and what they
//! refer to, as they are then; a prune that removes one is seen.

use crate::bucket::{Bucket, BucketError, CacheInfo, Key, Kind, ObjectInfo, nar_info_pages};
use crate::catalog::{self, Read, Reader};
use crate::check::{CheckError, fault_of};
use crate::clock::Clock;
use crate::ledger::{BucketIdentity, Ledger};
use crate::nix::{NarInfo, PathHash, PublicKey, SecretKey, StoreDir, StorePath};
use crate::push::{Interrupt, Lease, Lessee, NAR_INFO_LIMIT, PathError, PushError, read_record, republish};
use crate::remedy::{Remedy, chain};
use crate::report::{Event, Report};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::HashSet;
use std::sync::Arc;

/// Narinfos under one lease.
const BATCH: usize = 1000;
/// Narinfos that are written at once.
const PARALLEL: usize = 16;
const SHORT: u64 = 1 << 20;

/// Is told what became of each path.
pub type Told = dyn Fn(&StorePath, &Fate) + Send + Sync;

/// What does the work.
#[derive(Clone)]
pub struct Ends {
    pub bucket: Arc<dyn Bucket>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    pub report: Arc<dyn Report>,
    pub told: Arc<Told>,
}

/// What a user can set.
#[derive(Clone)]
pub struct Options {
    pub keys: Arc<[SecretKey]>,
    /// Whose signatures are believed.
    pub trusted: Vec<PublicKey>,
    /// Reads the NARs of paths that no trusted key has signed.
    pub read_data: bool,
    pub dry_run: bool,
    pub who: String,
    pub interrupt: Interrupt,
}

/// What became of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Signed,
    WouldSign,
    /// No trusted key has signed it, and its NAR was not to be read.
    Untrusted,
    /// The reason is for users.
    Failed(String),
}

/// Paths by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub paths: u64,
    /// Had all signatures.
    pub had: u64,
    pub signed: u64,
    pub would_sign: u64,
    pub untrusted: u64,
    pub failed: u64,
}

/// Nothing more was tried.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("Could not take a lease on what is to be signed")]
    Lease(#[source] Box<PushError>),
    #[error("{0} has no nix-cache-info that can be read: is it the right bucket? `loft check` tells more")]
    NoCache(String),
    #[error("Could not read a NAR")]
    Read(#[source] Box<CheckError>),
    #[error("Interrupted; what is signed stays signed")]
    Interrupted,
}

impl From<PushError> for SignError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Bucket(error) => Self::Bucket(error),
            PushError::Interrupted => Self::Interrupted,
            error => Self::Lease(Box::new(error)),
        }
    }
}

impl SignError {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Bucket(error) => error.remedy(),
            Self::Lease(error) => error.remedy(),
            Self::Read(error) => error.remedy(),
            Self::NoCache(_) => Remedy::FixConfig,
            Self::Interrupted => Remedy::Retry,
        }
    }
}

/// Signs all narinfos that lack a signature by one of the keys.
pub async fn sign(ends: &Ends, options: &Options) -> Result<Summary, SignError> {
    let bucket = ends.bucket.as_ref();
    let generation = read_record(bucket).await?.map(|record| record.generation).unwrap_or_default();
    let no_cache = || SignError::NoCache(bucket.describe());
    let (_, bytes) = bucket.get(&Key::cache_info(), SHORT).await?.ok_or_else(no_cache)?;
    let dir = CacheInfo::parse(&bytes).map_err(|_| no_cache())?.store_dir.unwrap_or_default();
    let identity = BucketIdentity { url: bucket.describe(), generation };
    let reader = Reader::new(ends.bucket.clone(), ends.ledger.clone(), identity);
    let mut signing = Signing { ends, options, dir, summary: Summary::default() };
    let mut pages = nar_info_pages(bucket);
    while let Some(page) = pages.try_next().await? {
        let narinfos: Vec<ObjectInfo> =
            page.into_iter().filter(|object| matches!(object.key.kind(), Kind::NarInfo(_))).collect();
        let mut lacking = Vec::new();
        for (object, read) in reader.read(narinfos).await? {
            lacking.extend(signing.lacking(&object, read));
        }
        for batch in lacking.chunks(BATCH) {
            if options.interrupt.is_raised() {
                return Err(SignError::Interrupted);
            }
            signing.batch(batch).await?;
        }
        ends.report.event(Event::Looked { what: "narinfos", count: signing.summary.paths });
    }
    Ok(signing.summary)
}

struct Signing<'a> {
    ends: &'a Ends,
    options: &'a Options,
    dir: StoreDir,
    summary: Summary,
}

impl Signing<'_> {
    /// What has to be signed of this.
    fn lacking(&mut self, object: &ObjectInfo, read: Read) -> Option<NarInfo> {
        let (Kind::NarInfo(hash), Read::Bytes(bytes)) = (object.key.kind(), read) else { return None };
        self.summary.paths += 1;
        match catalog::parse(&self.dir, &hash, &bytes) {
            Ok(info) if self.lacks(&info) => Some(info),
            Ok(_) => {
                self.summary.had += 1;
                None
            }
            Err(error) => {
                self.summary.failed += 1;
                let message = format!("{} is not signed, since it is damaged: {}", object.key, chain(&error));
                self.ends.report.event(Event::Warning { message: &message });
                None
            }
        }
    }

    fn lacks(&self, info: &NarInfo) -> bool {
        let fingerprint = info.fingerprint(&self.dir);
        self.options.keys.iter().any(|key| !info.signatures.contains(&key.sign(&fingerprint)))
    }

    fn is_trusted(&self, info: &NarInfo) -> bool {
        let fingerprint = info.fingerprint(&self.dir);
        let verified = |signature| self.options.trusted.iter().any(|key| key.verifies(&fingerprint, signature));
        info.signatures.iter().any(verified)
    }

    async fn batch(&mut self, batch: &[NarInfo]) -> Result<(), SignError> {
        let mut ready = Vec::new();
        for info in batch {
            if self.is_trusted(info) || self.options.read_data {
                ready.push(info);
            } else {
                self.settle(&info.path, Fate::Untrusted);
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        if self.options.dry_run {
            ready.into_iter().for_each(|info| self.settle(&info.path, Fate::WouldSign));
            return Ok(());
        }
        let named: HashSet<PathHash> = ready
            .iter()
            .flat_map(|info| info.references.iter().chain([&info.path]))
            .map(StorePath::hash_part)
            .collect();
        let Options { who, interrupt, .. } = self.options.clone();
        let Ends { bucket, clock, report, .. } = self.ends.clone();
        let lease = Lease::take(&Lessee { bucket, clock, report, who, interrupt }, &named).await?;
        let fates: Result<Vec<(StorePath, Option<Fate>)>, SignError> =
            stream::iter(ready).map(|info| self.sign_one(&lease, info)).buffer_unordered(PARALLEL).try_collect().await;
        lease.release().await;
        for (path, fate) in fates? {
            match fate {
                Some(fate) => self.settle(&path, fate),
                // It has gone, or somebody else has signed it.
                None => self.summary.had += 1,
            }
        }
        Ok(())
    }

    async fn sign_one(&self, lease: &Lease, listed: &NarInfo) -> Result<(StorePath, Option<Fate>), SignError> {
        let (bucket, hash) = (self.ends.bucket.as_ref(), listed.path.hash_part());
        let settled = |fate| Ok((listed.path.clone(), fate));
        let failed = |why: String| Ok((listed.path.clone(), Some(Fate::Failed(why))));
        if self.options.interrupt.is_raised() {
            return Err(SignError::Interrupted);
        }
        // As it is now that the lease names it.
        let Some((_, bytes)) = bucket.get(&Key::nar_info(&hash), NAR_INFO_LIMIT).await? else { return settled(None) };
        let Ok(mut info) = catalog::parse(&self.dir, &hash, &bytes) else {
            return failed("it has been damaged meanwhile".to_owned());
        };
        if !self.lacks(&info) {
            return settled(None);
        }
        // The lease names what it referred to when it was listed.
        if info.references != listed.references {
            return failed("it has changed meanwhile; sign again".to_owned());
        }
        if info.print(&self.dir).as_bytes() != bytes {
            return failed("its narinfo has lines that loft does not write, which would be lost".to_owned());
        }
        let Some(nar) = bucket.head(&Key::nar(&info.url)).await? else {
            return failed("its NAR is not there; see loft check".to_owned());
        };
        if info.file_size.is_some_and(|size| size != nar.size) {
            return failed("its NAR has another size; see loft check".to_owned());
        }
        if !self.is_trusted(&info) {
            if !self.options.read_data {
                return settled(Some(Fate::Untrusted));
            }
            let read = fault_of(self.ends.bucket.clone(), &info, nar.size).await;
            if let Some(fault) = read.map_err(|error| SignError::Read(Box::new(error)))? {
                return failed(format!("its NAR is damaged: {fault}"));
            }
        }
        let fingerprint = info.fingerprint(&self.dir);
        for key in self.options.keys.iter() {
            let signature = key.sign(&fingerprint);
            // One that does not verify is no signature, and clients would stop at it.
            let public = key.public();
            info.signatures.retain(|old| old.key() != key.name() || public.verifies(&fingerprint, old));
            if !info.signatures.contains(&signature) {
                info.signatures.push(signature);
            }
        }
        match republish(bucket, lease, &self.dir, &info).await {
            Ok(()) => settled(Some(Fate::Signed)),
            Err(PathError::Bucket(error)) if error.remedy() == Remedy::Retry => Err(error.into()),
            Err(error) => failed(chain(&error)),
        }
    }

    fn settle(&mut self, path: &StorePath, fate: Fate) {
        match &fate {
            Fate::Signed => self.summary.signed += 1,
            Fate::WouldSign => self.summary.would_sign += 1,
            Fate::Untrusted => self.summary.untrusted += 1,
            Fate::Failed(_) => self.summary.failed += 1,
        }
        (self.ends.told)(path, &fate);
    }
}
