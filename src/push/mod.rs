//! Pushing: the protocol P1–P8 around a plan (docs/protocol.md says why in this order).
//!
//! lease → look for sweeps → look at what exists → plan → NARs → narinfos, references first → look
//! again → push record → release.

mod error;
mod extras;
mod interrupt;
mod lease;
mod open;
mod order;
mod pipeline;
mod populate;
mod presence;
mod publish;
mod recorded;
mod reuse;
mod settle;
mod trust;
mod upload;

pub use error::{PathError, PushError};
pub use extras::Extras;
pub use interrupt::Interrupt;
pub use lease::{GIVE_UP_AFTER, Lease, Lessee, SWEEP_LIFE};
pub use open::{ensure_cache_info, read_record, write_record};
pub use populate::{identify, populate};
pub use publish::{Published, put_as_it_was, republish};
pub use reuse::NAR_INFO_LIMIT;

use crate::bucket::{Bucket, Requests};
use crate::clock::Clock;
use crate::ledger::{BucketIdentity, Ledger};
use crate::nar::Packing;
use crate::nix::{PathHash, SecretKey, StorePath};
use crate::plan::{self, Candidates, Plan, Policy, Presence, Request};
use crate::record::{BucketRecord, Keep};
use crate::report::{Event, Report, Summary};
use crate::store::Store;
use presence::Seen;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// What does the work: the two ends, and what watches it.
#[derive(Clone)]
pub struct Ends {
    pub store: Arc<dyn Store>,
    pub bucket: Arc<dyn Bucket>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    pub report: Arc<dyn Report>,
    /// Counts what went to the bucket, for the summary.
    pub requests: Arc<Requests>,
}

/// What a user can set.
#[derive(Clone)]
pub struct Options {
    pub policy: Policy,
    /// Each signs every narinfo; none means unsigned.
    pub keys: Arc<[SecretKey]>,
    pub packing: Packing,
    pub extras: Extras,
    /// Paths that are worked on at once; encoders are bounded by the cores as well.
    pub upload_threads: NonZeroUsize,
    /// Bytes that all NARs in flight may hold together.
    pub memory_limit: u64,
    /// For a bucket that has no `nix-cache-info` yet.
    pub priority: u32,
    /// Caches that clients use beside this one, for the bucket's record.
    pub upstreams: Vec<String>,
    /// Who pushes, for people who read leases: `user@host`.
    pub who: String,
    pub pin: Option<Pin>,
    /// Whether the ledger's word is enough where nothing has to be uploaded.
    pub trust_ledger: bool,
    /// Paths that are pushed although their narinfos are there: those or their NARs are damaged.
    pub anew: Arc<HashSet<PathHash>>,
    pub dry_run: bool,
    pub interrupt: Interrupt,
}

/// A pin for what is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub name: String,
    pub keep: Keep,
}

/// Pushes what `request` asks for. Failed paths are in the summary; an error means that nothing
/// more was tried.
pub async fn run(ends: &Ends, options: &Options, request: Request) -> Result<Summary, PushError> {
    let started = ends.clock.boot();
    // First the bucket: a wrong credential or address is told before the store is read.
    let record = open::read_record(ends.bucket.as_ref()).await?;
    let job = Job::gather(ends, options, request).await?;
    let known = match &record {
        Some(record) => trust::suffices(ends, options, record, &job).await?,
        None => None,
    };
    let mut summary = match known {
        Some(known) => settle::decided(&job.decide(ends, options, &known), ends.report.as_ref()),
        None if options.dry_run => job.dry_run(ends, options, record).await?,
        None => job.push(ends, options, record).await?,
    };
    summary.duration = ends.clock.boot().saturating_sub(started);
    summary.requests = ends.requests.total();
    ends.report.event(Event::Finished(&summary));
    Ok(summary)
}

/// What was gathered from the store, and which of it the bucket has to be asked for.
struct Job {
    candidates: Candidates,
    roots: Vec<StorePath>,
    /// All but what comes from upstream caches.
    wanted: HashSet<PathHash>,
    whole_store: bool,
}

impl Job {
    async fn gather(ends: &Ends, options: &Options, request: Request) -> Result<Self, PushError> {
        let store = ends.store.clone();
        let whole_store = request == Request::WholeStore;
        let gathered = tokio::task::spawn_blocking(move || plan::gather(store.as_ref(), &request))
            .await
            .map_err(PushError::Task)??;
        warn_unprotected(ends, gathered.unprotected);
        let dir = &ends.store.location().store_dir;
        let candidates = gathered.candidates;
        let wanted = candidates
            .paths
            .iter()
            .chain(&candidates.neighbours)
            .filter(|info| options.policy.upstream_key(dir, info).is_none())
            .map(|info| info.path.hash_part())
            .collect();
        Ok(Self { candidates, roots: gathered.roots, wanted, whole_store })
    }

    fn decide(self, ends: &Ends, options: &Options, presence: &Presence) -> Plan {
        let plan = plan::decide(ends.store.location().store_dir.clone(), self.candidates, &options.policy, presence);
        ends.report.event(Event::Planned(&plan.counts()));
        plan
    }

    /// Looks and decides, but takes no lease and writes nothing.
    async fn dry_run(self, ends: &Ends, options: &Options, record: Option<BucketRecord>) -> Result<Summary, PushError> {
        let dir = &ends.store.location().store_dir;
        open::ensure_cache_info(ends.bucket.as_ref(), dir, options.priority, false).await?;
        let identity = record.as_ref().map(|record| identity(ends, record));
        let size = identity.as_ref().and_then(|identity| ends.ledger.bucket_size(identity));
        let seen = presence::look(ends.bucket.as_ref(), &self.wanted, size).await?;
        let plan = self.decide(ends, options, &Presence(seen.present));
        let mut summary = settle::decided(&plan, ends.report.as_ref());
        settle::would_push(&plan, ends.report.as_ref(), &mut summary);
        Ok(summary)
    }

    async fn push(self, ends: &Ends, options: &Options, record: Option<BucketRecord>) -> Result<Summary, PushError> {
        let bucket = ends.bucket.as_ref();
        let dir = &ends.store.location().store_dir;
        open::ensure_cache_info(bucket, dir, options.priority, true).await?;
        let record = match record {
            Some(record) => record,
            None => open::write_record(bucket, ends.clock.as_ref(), options.upstreams.clone()).await?,
        };
        let lease = Arc::new(Lease::take(&Lessee::new(ends, options), &self.wanted).await?);
        let result = self.push_under(&lease, ends, options, &identity(ends, &record)).await;
        lease.release().await;
        result
    }

    /// P3 to P7.
    async fn push_under(
        self,
        lease: &Arc<Lease>,
        ends: &Ends,
        options: &Options,
        identity: &BucketIdentity,
    ) -> Result<Summary, PushError> {
        let bucket = ends.bucket.as_ref();
        let known_size = ends.ledger.bucket_size(identity);
        let seen = tokio::select! {
            seen = presence::look(bucket, &self.wanted, known_size) => seen?,
            () = options.interrupt.raised() => return Err(PushError::Interrupted),
        };
        remember_seen(ends, identity, &seen);
        let mut seen = seen;
        seen.present.retain(|hash| !options.anew.contains(hash));

        let (roots, whole_store) = (self.roots.clone(), self.whole_store);
        let mut visible = seen.present.clone();
        let plan = self.decide(ends, options, &Presence(seen.present));
        let mut summary = settle::decided(&plan, ends.report.as_ref());
        if whole_store {
            protect_uploads(ends, &plan).await?;
        }

        let fates = pipeline::run(ends, options, lease.clone(), &plan).await;
        let size = seen.size.or(known_size).unwrap_or(0);
        let landed = settle::published(ends, &plan, &fates, size, &mut summary).await?;
        ends.ledger.remember(identity, &landed, ends.clock.wall());

        visible.extend(&landed);
        let kept = recorded::roots(&plan, &roots, &visible);
        recorded::write(ends, options, lease, &plan, &summary, kept).await?;
        if summary.failed + summary.interrupted == 0 {
            ends.ledger.remember_push(identity, &trust::digest(&roots), ends.clock.wall());
        }
        Ok(summary)
    }
}

fn identity(ends: &Ends, record: &BucketRecord) -> BucketIdentity {
    BucketIdentity { url: ends.bucket.describe(), generation: record.generation.clone() }
}

fn warn_unprotected(ends: &Ends, why: Option<String>) {
    if let Some(why) = why {
        let message = format!("The store's garbage collector may remove paths during the push: {why}");
        ends.report.event(Event::Warning { message: &message });
    }
}

async fn protect_uploads(ends: &Ends, plan: &Plan) -> Result<(), PushError> {
    let store = ends.store.clone();
    let paths: Vec<StorePath> = plan.uploads().map(|planned| planned.info.path.clone()).collect();
    let unprotected =
        tokio::task::spawn_blocking(move || plan::protect(store.as_ref(), &paths)).await.map_err(PushError::Task)??;
    warn_unprotected(ends, unprotected);
    Ok(())
}

/// Writes what was seen into the ledger.
fn remember_seen(ends: &Ends, identity: &BucketIdentity, seen: &Seen) {
    let now = ends.clock.wall();
    match &seen.all {
        Some(all) => ends.ledger.replace(identity, all, now),
        None => {
            let present: Vec<PathHash> = seen.present.iter().copied().collect();
            ends.ledger.remember(identity, &present, now);
        }
    }
}
