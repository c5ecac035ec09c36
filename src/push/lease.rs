//! The lease: a push says what it writes and relies on, so that no prune deletes it meanwhile.
//!
//! Steps P1, P2 and P8 of the protocol (docs/protocol.md): put the lease, then look for sweeps, and
//! only then look at what exists. A sweep that started before sees the lease when it confirms; one
//! that could have missed it is waited for.

use super::error::{PathError, PushError};
use super::{Ends, Interrupt, Options};
use crate::bucket::{Body, Bucket, Headers, Key, ObjectInfo, Prefix, list_all};
use crate::clock::Clock;
use crate::nix::PathHash;
use crate::record::{LeaseRecord, MAX_SIZE, SweepRecord, seconds};
use crate::remedy::chain;
use crate::report::{Event, Report};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use ulid::Ulid;

/// A lease lives 60 minutes (`record::LEASE_TTL`); renewing six times as often survives outages.
const RENEW_EVERY: Duration = Duration::from_secs(10 * 60);
/// Half the life: a narinfo that is sent just before this has 30 minutes to arrive.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(30 * 60);
/// How often an open sweep is looked at again.
const SWEEP_POLL: Duration = Duration::from_secs(5);
/// A sweep deletes for 5 minutes, its requests live one more, and clocks may differ by 5.
pub const SWEEP_LIFE: Duration = Duration::from_secs(11 * 60);

/// Who takes a lease, and by what means.
#[derive(Clone)]
pub struct Lessee {
    pub bucket: Arc<dyn Bucket>,
    pub clock: Arc<dyn Clock>,
    pub report: Arc<dyn Report>,
    /// For people who read leases: `user@host`.
    pub who: String,
    pub interrupt: Interrupt,
}

impl Lessee {
    pub(super) fn new(ends: &Ends, options: &Options) -> Self {
        Self {
            bucket: ends.bucket.clone(),
            clock: ends.clock.clone(),
            report: ends.report.clone(),
            who: options.who.clone(),
            interrupt: options.interrupt.clone(),
        }
    }
}

/// A lease that is held. `release` ends it; dropping it only stops the renewal, and it expires.
pub struct Lease {
    held: Arc<Held>,
    renewal: Mutex<Option<JoinHandle<()>>>,
}

/// What the holder and the renewal share.
struct Held {
    key: Key,
    body: Bytes,
    bucket: Arc<dyn Bucket>,
    clock: Arc<dyn Clock>,
    report: Arc<dyn Report>,
    /// Milliseconds since boot, suspend included, when the last PUT that worked was *sent*.
    renewed: AtomicU64,
    released: Notify,
    /// A narinfo was sent, and it may yet appear although nobody has heard so.
    may_still_write: AtomicBool,
}

impl Lease {
    /// Puts a lease over `paths` (P1) and waits for the sweeps that condemn one of them (P2).
    pub async fn take(lessee: &Lessee, paths: &HashSet<PathHash>) -> Result<Self, PushError> {
        let clock = lessee.clock.clone();
        let mut named: Vec<PathHash> = paths.iter().copied().collect();
        named.sort_unstable();
        let record = LeaseRecord::new(lessee.who.clone(), seconds(clock.wall()), named);
        let held = Arc::new(Held {
            key: Key::lease(Ulid::from_datetime(clock.wall())),
            body: Bytes::from(record.print()),
            bucket: lessee.bucket.clone(),
            clock,
            report: lessee.report.clone(),
            renewed: AtomicU64::new(0),
            released: Notify::new(),
            may_still_write: AtomicBool::new(false),
        });
        held.put().await?;
        let renewal = tokio::spawn(renew(held.clone()));
        let lease = Self { held, renewal: Mutex::new(Some(renewal)) };
        let waited = tokio::select! {
            waited = lease.await_sweeps(paths) => waited,
            () = lessee.interrupt.raised() => Err(PushError::Interrupted),
        };
        match waited {
            Ok(()) => Ok(lease),
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    /// How long what the lease names is safe to rely on without another renewal; an error when it is
    /// not any more.
    pub fn remaining(&self) -> Result<Duration, PathError> {
        let age = self.held.age();
        GIVE_UP_AFTER
            .checked_sub(age)
            .filter(|remaining| !remaining.is_zero())
            .ok_or(PathError::LeaseLost { minutes: age.as_secs() / 60 })
    }

    /// For the time of one narinfo's PUT.
    pub(super) fn writing(&self) -> Writing<'_> {
        Writing { held: &self.held, is_settled: false }
    }

    /// P8. A lease that could not be deleted expires by itself, and so does one under which something may still appear: no
    /// such request lives longer.
    pub async fn release(&self) {
        self.held.released.notify_one();
        let renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A renewal under way must not put the lease back after it is deleted.
        if let Some(renewal) = renewal {
            let _ = renewal.await;
        }
        if self.held.may_still_write.load(Ordering::SeqCst) {
            let message = format!(
                "The lease {} stays for an hour, until it expires: the answer to a narinfo never came, so it may still appear",
                self.held.key
            );
            self.held.report.event(Event::Warning { message: &message });
            return;
        }
        if let Err(error) = self.held.bucket.delete(&self.held.key).await {
            let message = format!("The lease {} stays for an hour, until it expires: {}", self.held.key, chain(&error));
            self.held.report.event(Event::Warning { message: &message });
        }
    }

    async fn await_sweeps(&self, paths: &HashSet<PathHash>) -> Result<(), PushError> {
        let mut first_seen = HashMap::new();
        let mut told = false;
        while let Some(sweep) = self.held.open_sweep(paths, &mut first_seen).await? {
            if !told {
                let reason = format!(
                    "a prune is deleting paths that this push needs ({}); it ends within {} minutes",
                    sweep.key,
                    SWEEP_LIFE.as_secs() / 60
                );
                self.held.report.event(Event::Waiting { reason: &reason });
                told = true;
            }
            tokio::time::sleep(SWEEP_POLL).await;
        }
        Ok(())
    }
}

/// A narinfo's PUT under way. Dropped before its fate is known (the answer is lost, or nobody waits for it any more), it keeps
/// the lease in the bucket.
pub(super) struct Writing<'a> {
    held: &'a Held,
    is_settled: bool,
}

impl Writing<'_> {
    /// It has been carried out, or never will be.
    pub fn settled(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.held.may_still_write.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(renewal) = self.renewal.lock().unwrap_or_else(PoisonError::into_inner).take() {
            renewal.abort();
        }
    }
}

impl Held {
    async fn put(&self) -> Result<(), crate::bucket::BucketError> {
        let sent = millis(self.clock.boot());
        self.bucket.put(&self.key, Body::from(self.body.clone()), Headers::COMPRESSED_RECORD).await?;
        self.renewed.store(sent, Ordering::SeqCst);
        Ok(())
    }

    fn age(&self) -> Duration {
        Duration::from_millis(millis(self.clock.boot()).saturating_sub(self.renewed.load(Ordering::SeqCst)))
    }

    /// An unexpired sweep that condemns one of `paths`. One that cannot be read condemns them all.
    ///
    /// It has expired by the store's clock, or once it was seen here for as long as a sweep lives: it
    /// was written before it was seen, whatever its stamp says.
    async fn open_sweep(
        &self,
        paths: &HashSet<PathHash>,
        first_seen: &mut HashMap<Key, Duration>,
    ) -> Result<Option<ObjectInfo>, PushError> {
        let sweeps = list_all(self.bucket.as_ref(), &Prefix::sweeps()).await?;
        if sweeps.is_empty() {
            return Ok(None);
        }
        let (now, boot) = (self.bucket.now().await?, self.clock.boot());
        for sweep in sweeps {
            let seen = *first_seen.entry(sweep.key.clone()).or_insert(boot);
            let age = now.duration_since(sweep.modified).unwrap_or_default().max(boot.saturating_sub(seen));
            if age > SWEEP_LIFE {
                continue;
            }
            let Some((_, bytes)) = self.bucket.get(&sweep.key, MAX_SIZE).await? else { continue };
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
}

async fn renew(held: Arc<Held>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEW_EVERY) => {}
            () = held.released.notified() => return,
        }
        // After such a gap the old lease has expired, and a new one would cover up that things may
        // have been deleted in between.
        if held.age() >= GIVE_UP_AFTER {
            return;
        }
        if let Err(error) = held.put().await {
            let message = format!("The lease was not renewed: {}", chain(&error));
            held.report.event(Event::Warning { message: &message });
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
