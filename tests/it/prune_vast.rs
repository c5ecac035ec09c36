//! A prune of a bucket of very many paths: memory, requests, and the time that planning takes.
//!
//! By default of a size that suits every test run. The figures for a million, in a release build:
//!
//!     LOFT_PRUNE_PATHS=1000000 cargo test --release --test it prune_vast -- --nocapture

use crate::support::pruning::{DAY, options};
use crate::support::vast::Vast;
use loft::bucket::RequestKind;
use loft::clock::SystemClock;
use loft::ledger::Ledger;
use loft::prune::{self, Ends};
use loft::report::Silent;
use std::sync::Arc;
use std::time::Instant;

/// Peak of this process's memory in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vast_bucket_is_planned_in_little_memory() {
    plan_twice(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_one_with_listings_and_logs() {
    plan_twice(true).await;
}

async fn plan_twice(has_extras: bool) {
    let paths = std::env::var("LOFT_PRUNE_PATHS").map_or(20_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut bucket = Vast::new(paths, paths / 4, 40 * DAY);
    bucket.has_extras = has_extras;
    let bucket = Arc::new(bucket);
    let ends = Ends {
        bucket: bucket.clone(),
        ledger: Arc::new(Ledger::open(&folder.path().join("ledger.db"))),
        clock: Arc::new(SystemClock),
        report: Arc::new(Silent),
    };
    let options = options();
    let before = peak();
    for round in ["first", "second"] {
        let began = Instant::now();
        let plan = prune::plan(&ends, &options).await.unwrap();
        let took = began.elapsed();
        assert_eq!((plan.counts.paths, plan.counts.expired, plan.counts.records), (paths, paths / 4, 0));
        let (gets, lists) = (bucket.requests.of(RequestKind::Get), bucket.requests.of(RequestKind::List));
        println!(
            "{round} plan of {paths} paths: {:.1} s with making and reading them, {gets} GETs and {lists} LISTs so far, \
             peak {} MiB (before: {} MiB)",
            took.as_secs_f64(),
            peak() >> 20,
            before >> 20
        );
        // Each was read once, in the first round.
        assert_eq!(gets, paths);
    }
    let shards = bucket.shards.lock().unwrap();
    assert_eq!(shards.keys().filter(|prefix| !prefix.is_empty()).count(), 32);
    // 256 MiB for a million, and what any process needs; a table that has just doubled has room for twice as many.
    assert!(peak() - before < (64 << 20) + paths * 240, "{} bytes", peak() - before);
}
