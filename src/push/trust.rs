//! When the ledger's word is enough: nothing to upload, nothing to renew, and a look agrees.
//!
//! The ledger may be wrong (somebody emptied the bucket by hand), so a few requests always go to the
//! bucket itself: a whole listing where that is cheap, a sample elsewhere. One miss, and all is
//! looked at afresh.

use super::error::PushError;
use super::{Ends, Job, Options, identity, presence};
use crate::nix::{PathHash, Sha256, StorePath};
use crate::plan::{self, Presence};
use crate::record::BucketRecord;
use std::collections::HashSet;
use std::time::Duration;

/// A push record this young need not be written again; retention is counted in days.
const RENEW_PUSH_AFTER: Duration = Duration::from_secs(60 * 60);
/// Requests that a look may cost when the ledger says that nothing is to be done.
const MAX_LOOKS: u64 = 4;

/// The presence to decide by, where the ledger's word suffices: everything that `job` would push is
/// in the bucket already, and was recorded lately.
pub async fn suffices(
    ends: &Ends,
    options: &Options,
    record: &BucketRecord,
    job: &Job,
) -> Result<Option<Presence>, PushError> {
    if !options.trust_ledger || options.pin.is_some() {
        return Ok(None);
    }
    let identity = identity(ends, record);
    let now = ends.clock.wall();
    let recorded = ends
        .ledger
        .last_push(&identity, &digest(&job.roots))
        .is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < RENEW_PUSH_AFTER));
    if !recorded && !options.dry_run {
        return Ok(None);
    }
    let wanted: Vec<PathHash> = job.wanted.iter().copied().collect();
    let known = Presence(ends.ledger.known(&identity, &wanted, now));
    let dir = ends.store.location().store_dir.clone();
    let counts = plan::decide(dir, job.candidates.clone(), &options.policy, &known).counts();
    if counts.upload + counts.dangling > 0 {
        return Ok(None);
    }
    let size = ends.ledger.bucket_size(&identity);
    let cheap = known.0.len() as u64 <= MAX_LOOKS || size.is_some_and(|size| presence::listing_cost(size) <= MAX_LOOKS);
    let looked_for = if cheap { known.0.clone() } else { sample(job, &known) };
    let seen = presence::look(ends.bucket.as_ref(), &looked_for, size).await?;
    let missing: Vec<PathHash> = looked_for.difference(&seen.present).copied().collect();
    ends.ledger.forget(&identity, &missing);
    Ok(missing.is_empty().then_some(known))
}

/// Names the set of `roots` in the ledger.
pub fn digest(roots: &[StorePath]) -> Sha256 {
    let mut names: Vec<&str> = roots.iter().map(StorePath::as_str).collect();
    names.sort_unstable();
    Sha256::of(names.join("\n").as_bytes())
}

/// One root, since that is what will be fetched, and some at random. Hash sets iterate in another
/// order in each process, which is random enough here.
fn sample(job: &Job, known: &Presence) -> HashSet<PathHash> {
    let roots = job.roots.iter().filter(|root| known.has(root)).map(StorePath::hash_part).take(1);
    roots.chain(known.0.iter().copied()).take(MAX_LOOKS as usize).collect()
}
