//! The ledger at the size of a large bucket: figures.

use loft::ledger::{BucketIdentity, Ledger};
use loft::nix::{PathHash, Sha256, base32};
use std::time::{Duration, Instant, SystemTime};

/// The `n`th of many different hashes.
fn hash(n: u64) -> PathHash {
    PathHash::parse(&base32::encode(&Sha256::of(&n.to_le_bytes()).as_bytes()[..20])).unwrap()
}

/// Figures: `cargo test --test it ledger::a_million_rows -- --ignored --nocapture`.
#[test]
#[ignore = "measures; takes some seconds"]
fn a_million_rows() {
    let dir = tempfile::tempdir().unwrap();
    let file = &dir.path().join("cache.db");
    let bucket = &BucketIdentity { url: "s3://cache".to_owned(), generation: "g1".to_owned() };
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
    let ledger = Ledger::open(file);
    let all = (0..1_000_000u64).map(hash).collect::<Vec<_>>();
    let clock = Instant::now();
    ledger.replace(bucket, &all, at(0));
    println!("replace 1 000 000: {:?}", clock.elapsed());
    let asked: Vec<_> = all.iter().step_by(333).copied().take(3000).collect();
    for _ in 0..3 {
        let clock = Instant::now();
        assert_eq!(ledger.known(bucket, &asked, at(1)).len(), 3000);
        println!("known 3 000 of 1 000 000: {:?}", clock.elapsed());
    }
    let clock = Instant::now();
    ledger.remember(bucket, &asked, at(1));
    println!("remember 3 000: {:?}", clock.elapsed());
    let small = Ledger::open(&dir.path().join("small.db"));
    small.replace(bucket, &asked, at(0));
    let clock = Instant::now();
    assert_eq!(small.known(bucket, &asked, at(1)).len(), 3000);
    println!("known 3 000 of 3 000: {:?}", clock.elapsed());
    let clock = Instant::now();
    assert_eq!(ledger.len(), 1_000_000);
    println!("len: {:?}", clock.elapsed());
    let clock = Instant::now();
    assert_eq!(Ledger::open(file).known(bucket, &asked, at(1)).len(), 3000);
    println!("open and known 3 000: {:?}; file {} bytes", clock.elapsed(), std::fs::metadata(file).unwrap().len());
}
