//! Prunes through the real back ends: an S3 client over HTTP, which signs its deletes to expire, and a directory.

use crate::support::fixture_store::FixtureStore;
use crate::support::memory::Memory;
use crate::support::pruning::{DAY, options as prune_options};
use crate::support::s3_server::S3Server;
use crate::support::world::options;
use loft::bucket::{Bucket, Directory, Key, Prefix, Requests, S3, list_all};
use loft::clock::SystemClock;
use loft::ledger::Ledger;
use loft::nix::StorePath;
use loft::plan::Request;
use loft::prune::{self, Options, Restored};
use loft::push;
use loft::report::Silent;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

struct Case {
    store: FixtureStore,
    bucket: Arc<dyn Bucket>,
    ledger: Arc<Ledger>,
    /// Makes all that the bucket has older.
    age: Box<dyn Fn(Duration)>,
}

impl Case {
    fn new(bucket: impl Bucket + 'static, age: impl Fn(Duration) + 'static) -> Self {
        let (store, ledger) = (FixtureStore::new(), Arc::new(Ledger::in_memory()));
        Self { store, bucket: Arc::new(bucket), ledger, age: Box::new(age) }
    }

    async fn push(&self, root: &StorePath) {
        let ends = push::Ends {
            store: Arc::from(loft::store::open(&self.store.settings()).unwrap()),
            bucket: self.bucket.clone(),
            ledger: self.ledger.clone(),
            clock: Arc::new(SystemClock),
            report: Arc::new(Silent),
            requests: Arc::default(),
        };
        let summary = push::run(&ends, &options(), Request::Closures(vec![root.clone()])).await.unwrap();
        assert_eq!(summary.failed, 0);
    }

    fn ends(&self) -> (prune::Ends, Options) {
        let (bucket, ledger) = (self.bucket.clone(), self.ledger.clone());
        let ends = prune::Ends { bucket, ledger, clock: Arc::new(SystemClock), report: Arc::new(Silent) };
        (ends, prune_options())
    }

    async fn prune(&self) -> prune::Summary {
        let (ends, options) = self.ends();
        let plan = prune::plan(&ends, &options).await.unwrap();
        let mut summary = prune::Summary::default();
        prune::carry_out(&ends, &options, plan, &mut summary).await.unwrap();
        assert_eq!((summary.failed, summary.is_unfinished), (0, false));
        summary
    }

    async fn keys(&self, prefix: &str) -> BTreeSet<String> {
        let listed = list_all(self.bucket.as_ref(), &Prefix::listed(prefix)).await.unwrap();
        listed.into_iter().map(|object| object.key.to_string()).collect()
    }
}

/// Old and new roots with a shared reference; undo; grace.
async fn prunes(case: &Case) {
    let shared = case.store.add("shared").file("f", b"shared").finish();
    let old = case.store.add("old").file("f", b"old").reference(&shared).finish();
    let new = case.store.add("new").file("f", b"new").reference(&shared).finish();
    case.push(&old).await;
    (case.age)(40 * DAY);
    case.push(&new).await;

    let narinfo = |path: &StorePath| Key::nar_info(&path.hash_part()).to_string();
    let summary = case.prune().await;
    assert_eq!(summary.removed, [old.hash_part()]);
    let visible: BTreeSet<String> = case.keys("").await.into_iter().filter(|key| key.ends_with(".narinfo")).collect();
    assert_eq!(visible, [narinfo(&shared), narinfo(&new)].into());
    assert_eq!(case.keys("nar/").await.len(), 3);
    assert_eq!(case.keys("loft/v1/sweep/").await, BTreeSet::new());

    let (ends, options) = case.ends();
    let mut undone = prune::Undone::default();
    prune::undo(&ends, &options, summary.trash[0], &mut undone).await.unwrap();
    assert_eq!(undone.paths, [(old.hash_part(), Restored::Done)]);
    assert_eq!(case.keys("nar/").await.len(), 4);

    (case.age)(8 * DAY);
    assert_eq!(case.prune().await.nars, 1);
    assert_eq!(case.keys("nar/").await.len(), 3);
    assert_eq!(case.keys("loft/v1/trash/").await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http() {
    for memory in [Memory::garage(), Memory::aws()] {
        memory.clock.set_wall(SystemTime::now());
        let server = S3Server::start(memory).await;
        let mut settings = server.settings();
        settings.prefix = "team/".to_owned();
        let s3 = S3::new(&settings, &BTreeMap::new(), Arc::new(SystemClock), Arc::new(Requests::default())).unwrap();
        let memory = server.memory.clone();
        prunes(&Case::new(s3, move |time| memory.age(time))).await;
        let narinfo_deletes: Vec<_> = server
            .seen()
            .into_iter()
            .filter(|seen| seen.method == "DELETE" && seen.path.ends_with(".narinfo"))
            .collect();
        assert!(!narinfo_deletes.is_empty());
        for seen in narinfo_deletes {
            let query = seen.query;
            let expires = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Expires=")).unwrap();
            assert!(expires.parse::<u64>().unwrap() <= 60, "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_directory() {
    fn age(folder: &Path, time: Duration) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                age(&path, time);
            } else {
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(file.metadata().unwrap().modified().unwrap() - time).unwrap();
            }
        }
    }
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("cache");
    fs::create_dir(&root).unwrap();
    let directory = Directory::new(root.clone(), Arc::new(SystemClock));
    prunes(&Case::new(directory, move |time| age(&root, time))).await;
}
