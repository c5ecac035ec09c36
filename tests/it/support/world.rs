//! A store, a bucket, a ledger and somebody who watches: everything that a push needs.
//!
//! After every request that changed the bucket the oracle looks at the whole of it, so each test
//! here checks I1 and I2 at every state that anybody could have seen.

use super::fixture_store::FixtureStore;
use super::memory::{Fault, Hook, Memory, Moment, Request as Sent};
use super::oracle::Oracle;
use super::time::TestClock;
use loft::bucket::{Bucket, RequestKind, RetryPolicy, Retrying};
use loft::ledger::Ledger;
use loft::nar::Packing;
use loft::nix::{Compression, KeyName, NarInfo, SecretKey, StorePath};
use loft::plan::{Policy, Request};
use loft::push::{self, Ends, Extras, Interrupt, Options, PushError};
use loft::report::{Event, Outcome, Report, Summary};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct World {
    pub store: FixtureStore,
    pub bucket: Arc<Memory>,
    pub clock: Arc<TestClock>,
    pub ledger: Arc<Ledger>,
    pub options: Options,
    pub watcher: Arc<Watcher>,
    oracle: Arc<Mutex<Oracle>>,
    broken: Arc<Mutex<Vec<String>>>,
}

/// Remembers what was told.
#[derive(Default)]
pub struct Watcher {
    pub outcomes: Mutex<BTreeMap<StorePath, Outcome>>,
    pub warnings: Mutex<Vec<String>>,
    pub waits: Mutex<Vec<String>>,
    pub retries: Mutex<u32>,
}

impl Report for Watcher {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Settled { path, outcome } => {
                let before = self.outcomes.lock().unwrap().insert(path.clone(), outcome.clone());
                assert_eq!(before, None, "{path} was settled twice");
            }
            Event::Warning { message } => self.warnings.lock().unwrap().push(message.to_owned()),
            Event::Waiting { reason } => self.waits.lock().unwrap().push(reason.to_owned()),
            Event::Retrying { .. } => *self.retries.lock().unwrap() += 1,
            _ => {}
        }
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(Memory::garage())
    }

    pub fn with(bucket: Memory) -> Self {
        let world = Self {
            store: FixtureStore::new(),
            bucket: Arc::new(bucket),
            clock: Arc::default(),
            ledger: Arc::new(Ledger::in_memory()),
            options: options(),
            watcher: Arc::default(),
            oracle: Arc::default(),
            broken: Arc::default(),
        };
        world.set_faults(|_, _| None);
        world
    }

    /// Faults beside the oracle, which looks after every change.
    pub fn set_faults(&self, decide: impl Fn(Moment, &Sent) -> Option<Fault> + Send + Sync + 'static) {
        let (bucket, oracle, broken) = (Arc::downgrade(&self.bucket), self.oracle.clone(), self.broken.clone());
        let hook: Hook = Arc::new(move |moment, sent| {
            if moment == Moment::After
                && changes(sent.kind)
                && let Some(bucket) = bucket.upgrade()
                && let Err(promise) = oracle.lock().unwrap().check(&bucket.contents())
            {
                broken.lock().unwrap().push(format!("after {sent:?}: {promise}"));
            }
            let fault = decide(moment, sent);
            Box::pin(std::future::ready(fault))
        });
        self.bucket.set_hook(hook);
    }

    /// The test itself has broken a promise.
    pub fn forgive(&self) {
        self.broken.lock().unwrap().clear();
    }

    /// Time passes, here and for the bucket.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.bucket.clock.advance(time);
    }

    /// References to `paths` may dangle: they come from upstream.
    pub fn declare_external(&self, paths: &[StorePath]) {
        self.oracle.lock().unwrap().external.extend(paths.iter().map(StorePath::hash_part));
    }

    pub fn ends(&self) -> Ends {
        let policy =
            RetryPolicy { base: Duration::from_millis(1), cap: Duration::from_millis(2), ..RetryPolicy::default() };
        let bucket: Arc<dyn Bucket> =
            Arc::new(Retrying::new(self.bucket.clone(), policy, self.clock.clone(), self.watcher.clone()));
        Ends {
            store: Arc::from(loft::store::open(&self.store.settings()).unwrap()),
            bucket,
            ledger: self.ledger.clone(),
            clock: self.clock.clone(),
            report: self.watcher.clone(),
            requests: Arc::default(),
        }
    }

    /// Pushes the closures of `roots`; what was told before is forgotten.
    pub async fn push(&self, roots: &[&StorePath]) -> Result<Summary, PushError> {
        self.request(Request::Closures(roots.iter().map(|root| (*root).clone()).collect())).await
    }

    pub async fn request(&self, request: Request) -> Result<Summary, PushError> {
        self.watcher.outcomes.lock().unwrap().clear();
        self.watcher.warnings.lock().unwrap().clear();
        self.bucket.forget_requests();
        let result = push::run(&self.ends(), &self.options, request).await;
        self.check();
        if let Ok(summary) = &result {
            let sum = summary.pushed + summary.present + summary.upstream + summary.ignored + summary.failed;
            assert_eq!(
                sum + summary.would_push + summary.interrupted,
                summary.considered,
                "the summary must add up: {summary:?}"
            );
            assert_eq!(self.watcher.outcomes.lock().unwrap().len() as u64, summary.considered);
        }
        result
    }

    /// No promise was broken so far; the answer is all that is visible.
    pub fn check(&self) -> Vec<NarInfo> {
        assert_eq!(*self.broken.lock().unwrap(), Vec::<String>::new());
        self.oracle.lock().unwrap().check(&self.bucket.contents()).unwrap()
    }

    pub fn visible(&self) -> BTreeSet<StorePath> {
        self.check().into_iter().map(|info| info.path).collect()
    }

    pub fn outcome(&self, path: &StorePath) -> Outcome {
        self.watcher.outcomes.lock().unwrap()[path].clone()
    }

    /// Keys that start with `prefix`.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let contents = self.bucket.contents();
        contents.keys().map(|key| key.as_str().to_owned()).filter(|key| key.starts_with(prefix)).collect()
    }
}

/// Requests that change what others see.
pub fn changes(kind: RequestKind) -> bool {
    matches!(kind, RequestKind::Put | RequestKind::Delete | RequestKind::CompleteUpload | RequestKind::Copy)
}

pub fn options() -> Options {
    let key = SecretKey::generate(KeyName::parse("test-1").unwrap()).unwrap();
    Options {
        policy: Policy::default(),
        keys: [key].into(),
        packing: Packing { compression: Compression::Zstd, level: Some(1), workers: 0 },
        extras: Extras::default(),
        upload_threads: NonZeroUsize::new(8).unwrap(),
        memory_limit: 64 << 20,
        priority: 41,
        upstreams: Vec::new(),
        who: "test@here".to_owned(),
        pin: None,
        trust_ledger: true,
        anew: Arc::default(),
        dry_run: false,
        interrupt: Interrupt::default(),
    }
}
