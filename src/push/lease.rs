//! The lease: a push says what it writes and relies on, so that no prune deletes it meanwhile.
//!
//! Steps P1, P2 and P8 of the protocol (docs/protocol.md): put the lease, then look for sweeps, and
//! only then look at what exists. A sweep that started before sees the lease when it confirms; one
//! that could have missed it is waited for.

use super::error::{PathError, PushError};
use super::{Ends, Options};
use crate::bucket::{Body, Bucket, Headers, Key, ObjectInfo, Prefix, list_all};
use crate::clock::Clock;
use crate::nix::PathHash;
use crate::record::{LeaseRecord, MAX_SIZE, SweepRecord, seconds};
use crate::report::{Event, Report};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use ulid::Ulid;

/// A lease lives 60 minutes (`record::LEASE_TTL`); renewing six times as often survives outages.
const RENEW_EVERY: Duration = Duration::from_secs(10 * 60);
/// Half the life: a narinfo that is sent just before this has 30 minutes to arrive.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30 * 60);
/// How often an open sweep is looked at again.
const SWEEP_POLL: Duration = Duration::from_secs(5);
/// A sweep deletes for 5 minutes, its requests live one more, and clocks may differ by 5.
const SWEEP_LIFE: Duration = Duration::from_secs(11 * 60);

/// A lease that is held. `release` ends it; dropping it only stops the renewal, and it expires.
pub struct Lease {
    key: Key,
    bucket: Arc<dyn Bucket>,
    clock: Arc<dyn Clock>,
    /// Milliseconds since boot, suspend included, when the last renewal was *sent*.
    renewed: Arc<AtomicU64>,
    renewal: JoinHandle<()>,
}

impl Lease {
    /// Puts a lease over `paths` (P1) and waits for the sweeps that condemn one of them (P2).
    pub async fn take(ends: &Ends, options: &Options, paths: &HashSet<PathHash>) -> Result<Self, PushError> {
        let (bucket, clock) = (ends.bucket.clone(), ends.clock.clone());
        let mut named: Vec<PathHash> = paths.iter().copied().collect();
        named.sort_unstable();
        let key = Key::lease(Ulid::from_datetime(clock.wall()));
        let record = LeaseRecord::new(options.who.clone(), seconds(clock.wall()), named);
        let body = Bytes::from(record.print());
        let sent = millis(clock.boot());
        bucket.put(&key, Body::from(body.clone()), Headers::COMPRESSED_RECORD).await?;
        let renewed = Arc::new(AtomicU64::new(sent));
        let renewal =
            tokio::spawn(renew(key.clone(), body, bucket.clone(), clock.clone(), renewed.clone(), ends.report.clone()));
        let lease = Self { key, bucket, clock, renewed, renewal };
        let waited = tokio::select! {
            waited = lease.await_sweeps(ends.report.as_ref(), paths) => waited,
            () = options.interrupt.raised() => Err(PushError::Interrupted),
        };
        match waited {
            Ok(()) => Ok(lease),
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    /// Whether what the lease names is still safe to rely on.
    pub fn check(&self) -> Result<(), PathError> {
        let age = millis(self.clock.boot()).saturating_sub(self.renewed.load(Ordering::SeqCst));
        let age = Duration::from_millis(age);
        if age > GIVE_UP_AFTER {
            return Err(PathError::LeaseLost { minutes: age.as_secs() / 60 });
        }
        Ok(())
    }

    /// P8. A lease that could not be deleted expires by itself.
    pub async fn release(&self) {
        self.renewal.abort();
        let _ = self.bucket.delete(&self.key).await;
    }

    async fn await_sweeps(&self, report: &dyn Report, paths: &HashSet<PathHash>) -> Result<(), PushError> {
        let mut told = false;
        while let Some(sweep) = open_sweep(self.bucket.as_ref(), paths).await? {
            if !told {
                let reason = format!(
                    "a prune is deleting paths that this push needs ({}); it ends within {} minutes",
                    sweep.key,
                    SWEEP_LIFE.as_secs() / 60
                );
                report.event(Event::Waiting { reason: &reason });
                told = true;
            }
            tokio::time::sleep(SWEEP_POLL).await;
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// An unexpired sweep that condemns one of `paths`. One that cannot be read condemns them all.
async fn open_sweep(bucket: &dyn Bucket, paths: &HashSet<PathHash>) -> Result<Option<ObjectInfo>, PushError> {
    let sweeps = list_all(bucket, &Prefix::sweeps()).await?;
    if sweeps.is_empty() {
        return Ok(None);
    }
    let now = bucket.now().await?;
    for sweep in sweeps {
        if now.duration_since(sweep.modified).is_ok_and(|age| age > SWEEP_LIFE) {
            continue;
        }
        let Some((_, bytes)) = bucket.get(&sweep.key, MAX_SIZE).await? else { continue };
        let condemns = match SweepRecord::parse(sweep.key.as_str(), &bytes) {
            Ok(record) => record.condemned.iter().any(|hash| paths.contains(hash)),
            Err(_) => true,
        };
        if condemns {
            return Ok(Some(sweep));
        }
    }
    Ok(None)
}

async fn renew(
    key: Key,
    body: Bytes,
    bucket: Arc<dyn Bucket>,
    clock: Arc<dyn Clock>,
    renewed: Arc<AtomicU64>,
    report: Arc<dyn Report>,
) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let sent = millis(clock.boot());
        // After such a gap the old lease has expired, and a new one would cover up that things may
        // have been deleted in between.
        if sent.saturating_sub(renewed.load(Ordering::SeqCst)) > millis(GIVE_UP_AFTER) {
            return;
        }
        match bucket.put(&key, Body::from(body.clone()), Headers::COMPRESSED_RECORD).await {
            Ok(()) => renewed.store(sent, Ordering::SeqCst),
            Err(error) => {
                let message = format!("The lease was not renewed: {}", super::error::chain(&error));
                report.event(Event::Warning { message: &message });
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
