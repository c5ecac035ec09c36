//! Tries again what may succeed later, in bounds: so many tries, so much waiting, with full jitter.
//!
//! Sending again is safe because every call is idempotent here: a key is written once and always
//! with the same bytes, a part is replaced by itself, a deletion may happen twice. Three calls need
//! care. A `delete_before` is sent again only where it cannot have been applied: its caller must know
//! whether one is still on its way. A repeated `start_upload` may leave an upload behind that nobody knows; prune collects it.
//! A `finish_upload` whose answer was lost may have succeeded, and then the upload is gone: so this
//! looks for the object, with the size it must have, before it sends again or believes "no such upload".

use super::{
    Body, Bucket, BucketError, Cause, Effort, Headers, Key, ObjectInfo, Page, Part, Prefix, Quirks, Switch, Upload,
};
use crate::clock::Clock;
use crate::remedy::{Remedy, chain};
use crate::report::{Event, Report};
use async_trait::async_trait;
use bytes::Bytes;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Including the first.
    pub tries: u32,
    /// The longest wait before the second try; doubles from try to try.
    pub base: Duration,
    /// The longest wait before any try.
    pub cap: Duration,
    /// All waits of one call together; a longer `Retry-After` ends the call.
    pub patience: Duration,
    /// While no answer has ever come back, the user waits for "no network" or a wrong endpoint: be brief.
    pub first_contact_tries: u32,
    /// And no further try after this time.
    pub first_contact: Duration,
}

impl Default for RetryPolicy {
    /// Rides out a server's restart (about 40 s on average), and says within seconds that there is no network.
    fn default() -> Self {
        Self {
            tries: 10,
            base: Duration::from_millis(250),
            cap: Duration::from_secs(20),
            patience: Duration::from_secs(180),
            first_contact_tries: 3,
            first_contact: Duration::from_secs(5),
        }
    }
}

/// Picks a wait between zero and the one given; tests bring their own.
pub type Jitter = Arc<dyn Fn(Duration) -> Duration + Send + Sync>;

/// A bucket that tries again.
pub struct Retrying<B> {
    inner: B,
    policy: RetryPolicy,
    jitter: Jitter,
    clock: Arc<dyn Clock>,
    report: Arc<dyn Report>,
    /// An answer has come back at least once.
    reached: AtomicBool,
    /// Since when calls have only failed, all of them together: thousands of paths must not each wait
    /// for their own patience to end while the network is gone.
    failing: Mutex<Option<Instant>>,
}

impl<B: Bucket> Retrying<B> {
    pub fn new(inner: B, policy: RetryPolicy, clock: Arc<dyn Clock>, report: Arc<dyn Report>) -> Self {
        Self {
            inner,
            policy,
            jitter: Arc::new(uniform),
            clock,
            report,
            reached: AtomicBool::new(false),
            failing: Mutex::new(None),
        }
    }

    fn worked(&self) {
        self.reached.store(true, Ordering::Relaxed);
        self.answered();
    }

    /// Somebody is there, whatever the answer.
    fn answered(&self) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// For how long nothing has worked, this failure included.
    fn failing_for(&self) -> Duration {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.get_or_insert_with(Instant::now).elapsed()
    }

    pub fn with_jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    /// All tries share one deadline, by the clock that counts suspend; none is made after it. Each is
    /// told how much time is left.
    async fn run_before<T, F, Fut>(
        &self,
        doing: &'static str,
        key: &Key,
        within: Duration,
        call: F,
    ) -> Result<T, BucketError>
    where
        F: Fn(Duration) -> Fut,
        Fut: Future<Output = Result<T, BucketError>>,
    {
        let deadline = self.clock.boot().saturating_add(within);
        let call = &call;
        self.run(|| async move {
            let left = deadline.saturating_sub(self.clock.boot());
            if left.is_zero() {
                return Err(BucketError::new(doing, key.as_str(), self.describe(), Cause::Expired));
            }
            call(left).await
        })
        .await
    }

    async fn run<T, F, Fut>(&self, mut call: F) -> Result<T, BucketError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, BucketError>>,
    {
        let mut attempt = Attempts::new(self);
        loop {
            match call().await {
                Ok(value) => {
                    self.worked();
                    return Ok(value);
                }
                Err(error) => attempt.wait_or_give_up(error).await?,
            }
        }
    }
}

/// The tries of one call.
struct Attempts<'a, B> {
    of: &'a Retrying<B>,
    tries: u32,
    waited: Duration,
    started: Instant,
}

impl<'a, B: Bucket> Attempts<'a, B> {
    fn new(of: &'a Retrying<B>) -> Self {
        Self { of, tries: 0, waited: Duration::ZERO, started: Instant::now() }
    }

    /// `Ok` when it is time for the next try; otherwise the error, saying how hard it was tried.
    async fn wait_or_give_up(&mut self, mut error: BucketError) -> Result<(), BucketError> {
        let policy = &self.of.policy;
        self.tries += 1;
        let elapsed = self.started.elapsed();
        error.effort = Effort { tries: self.tries, elapsed };
        // Any failure but these means that somebody answered. What takes connections and breaks them may be no web server.
        if !matches!(error.cause, Cause::Unreachable(_) | Cause::Stalled(_) | Cause::Broken(_)) {
            self.of.reached.store(true, Ordering::Relaxed);
        }
        let first_contact = !self.of.reached.load(Ordering::Relaxed);
        let tries = if first_contact { policy.first_contact_tries } else { policy.tries };
        if error.remedy() != Remedy::Retry {
            self.of.answered();
            return Err(error);
        }
        let failing = self.of.failing_for();
        if self.tries >= tries || failing > policy.patience || (first_contact && elapsed >= policy.first_contact) {
            return Err(error);
        }
        let doubled = policy.base.saturating_mul(1 << (self.tries - 1).min(20));
        // On top of what the server asked for, so that not everybody comes back at once.
        let delay = (self.of.jitter)(doubled.min(policy.cap)) + error.retry_after().unwrap_or_default();
        if self.waited + delay > policy.patience {
            return Err(error);
        }
        self.waited += delay;
        self.of.report.event(Event::Retrying {
            what: &format!("{} {}", error.doing, error.object),
            error: &chain(&error.cause),
            attempt: self.tries,
            delay,
        });
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

#[async_trait]
impl<B: Bucket> Bucket for Retrying<B> {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    async fn check_access(&self) -> Result<(), BucketError> {
        self.run(|| self.inner.check_access()).await
    }
    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError> {
        self.run(|| self.inner.put(key, body.clone(), headers)).await
    }
    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), BucketError> {
        self.run_before("put", key, within, |left| self.inner.put_before(key, body.clone(), headers, left)).await
    }
    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        self.run(|| self.inner.get(key, limit)).await
    }
    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        self.run(|| self.inner.get_range(key, offset, length)).await
    }
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        self.run(|| self.inner.head(key)).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        self.run(|| self.inner.list(prefix, after)).await
    }
    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        self.run(|| self.inner.delete(key)).await
    }
    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        // Sent again, a delete that was carried out late could hit what was written after the other one had worked.
        let once = |left| async move {
            match self.inner.delete_before(key, left).await {
                Err(error) if error.is_ambiguous() => Ok(Err(error)),
                result => result.map(Ok),
            }
        };
        self.run_before("delete", key, within, once).await?
    }
    async fn copy(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, BucketError> {
        self.run(|| self.inner.copy(from, to, headers)).await
    }
    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError> {
        self.run(|| self.inner.start_upload(key, headers)).await
    }
    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError> {
        self.run(|| self.inner.put_part(upload, number, body.clone())).await
    }

    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError> {
        let size: u64 = parts.iter().map(|part| part.size).sum();
        let mut attempt = Attempts::new(self);
        let mut may_have_landed = false;
        loop {
            let Err(error) = self.inner.finish_upload(upload, parts).await else {
                self.worked();
                return Ok(());
            };
            may_have_landed |= error.is_ambiguous();
            // "No such upload" is what a repeated Complete hears after one that worked.
            if may_have_landed || matches!(error.cause, Cause::NoUpload) {
                match self.run(|| self.inner.head(&upload.key)).await {
                    Ok(Some(found)) if found.size == size => return Ok(()),
                    Ok(_) => {}
                    // Could not look: the failure of the Complete is still what the caller should hear.
                    Err(_) if error.remedy() != Remedy::Retry => return Err(error),
                    Err(looking) => return Err(looking),
                }
            }
            attempt.wait_or_give_up(error).await?;
        }
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        self.run(|| self.inner.abort_upload(upload)).await
    }
    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        self.run(|| self.inner.list_parts(upload)).await
    }
    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        self.run(|| self.inner.list_uploads(prefix)).await
    }
    async fn now(&self) -> Result<SystemTime, BucketError> {
        self.run(|| self.inner.now()).await
    }
    async fn create(&self) -> Result<bool, BucketError> {
        self.run(|| self.inner.create()).await
    }
    async fn siblings(&self) -> Result<Vec<String>, BucketError> {
        self.run(|| self.inner.siblings()).await
    }
    async fn open_to_all(&self) -> Result<Switch, BucketError> {
        self.run(|| self.inner.open_to_all()).await
    }
    async fn quirks(&self, scratch: &Key) -> Result<Quirks, BucketError> {
        self.run(|| self.inner.quirks(scratch)).await
    }
}

/// A wait between zero and `longest`, all equally likely.
fn uniform(longest: Duration) -> Duration {
    // Without randomness the waits are merely in step with others'.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
