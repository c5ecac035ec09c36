//! What is said of a bucket is what is in it, for few requests, and nothing in it can stop the answer.

use crate::support::memory::{Fault, Memory, Moment};
use crate::support::world::{World, changes};
use loft::bucket::{Body, Bucket as _, Headers, Key, RequestKind};
use loft::clock::Clock as _;
use loft::nix::{Compression, NarInfo, NarUrl, Sha256, StoreDir, StorePath, base32};
use loft::record::{LeaseRecord, PinRecord, PushRecord, SweepRecord};
use loft::survey::{Depth, SHOWN_WEEKS, Survey, survey};
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};
use ulid::Ulid;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The `n`th of many different paths.
fn path(n: u64) -> StorePath {
    let hash = base32::encode(&Sha256::of(&n.to_le_bytes()).as_bytes()[..20]);
    StorePath::parse(&format!("{hash}-path-{n}")).unwrap()
}

/// A narinfo and a NAR of `stored` bytes, where they belong.
fn plant(bucket: &Memory, n: u64, nar_size: u64, stored: usize) -> NarInfo {
    let nar_hash = Sha256::of(&(!n).to_le_bytes());
    let info = NarInfo {
        path: path(n),
        url: NarUrl::fresh(&nar_hash, Ulid::from_parts(n, 1), Compression::Zstd),
        compression: Compression::Zstd,
        file_hash: Some(nar_hash),
        file_size: Some(stored as u64),
        nar_hash,
        nar_size: NonZeroU64::new(nar_size).unwrap(),
        references: Vec::new(),
        deriver: None,
        signatures: Vec::new(),
        ca: None,
    };
    bucket.plant(info.url.as_str(), vec![0; stored]);
    bucket.plant(Key::nar_info(&path(n).hash_part()).as_str(), info.print(&StoreDir::default()));
    info
}

async fn look(bucket: &Memory) -> Survey {
    bucket.forget_requests();
    let survey = survey(bucket, Depth::Sample).await.unwrap();
    let requests = bucket.requests();
    assert!(!requests.iter().any(|request| changes(request.kind)), "{requests:?}");
    survey
}

#[tokio::test]
async fn an_empty_bucket_is_empty() {
    let found = look(&Memory::garage()).await;
    assert_eq!((found.paths, found.nars, found.stored, found.unpacked.bytes), (0, 0, 0, 0));
    assert!(found.unpacked.is_exact && found.unpacked.ratio.is_none() && found.record.is_none());
    assert!(found.largest.is_empty() && found.pushes.is_empty() && found.damaged.count == 0);
}

/// Through real pushes, so that it understands what loft writes.
#[tokio::test]
async fn a_small_bucket_is_told_exactly() {
    let mut world = World::new();
    let base = world.store.add("base").file("f", vec![b'b'; 70_000]).finish();
    let app = world.store.add("app").file("f", b"app").reference(&base).finish();
    world.push(&[&app]).await.unwrap();
    world.clock.advance(2 * HOUR);
    world.bucket.clock.advance(2 * HOUR);
    let tool = world.store.add("tool").file("t", b"tool").finish();
    world.options.pin = Some(loft::push::Pin { name: "release".into(), keep: loft::record::Keep::Forever });
    world.push(&[&tool]).await.unwrap();

    let found = look(&world.bucket).await;
    let infos = world.check();
    assert_eq!((found.paths, found.nars), (3, 3));
    assert_eq!(found.stored, infos.iter().map(|info| info.file_size.unwrap()).sum::<u64>());
    let unpacked: u64 = infos.iter().map(|info| info.nar_size.get()).sum();
    assert_eq!((found.unpacked.read, found.unpacked.is_exact, found.unpacked.bytes), (3, true, unpacked));
    let ratio = found.unpacked.ratio.unwrap();
    assert!((ratio - found.stored as f64 / unpacked as f64).abs() < 1e-9, "{ratio}");
    assert!(found.record.is_some());
    assert_eq!(found.cache_info.unwrap().store_dir, Some(StoreDir::default()));

    let mut sizes: Vec<u64> = infos.iter().map(|info| info.file_size.unwrap()).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(found.largest.iter().map(|large| large.size).collect::<Vec<_>>(), sizes);
    for large in &found.largest {
        let info = infos.iter().find(|info| info.url.as_str() == large.key.as_str()).unwrap();
        assert_eq!((large.path.as_ref(), large.nar_size), (Some(&info.path), Some(info.nar_size.get())));
    }
    assert_eq!(found.weeks[0].count, 3);
    let pushed: Vec<_> = found.pushes.iter().map(|push| (push.pushed, push.roots.clone())).collect();
    assert_eq!(pushed, [(1, vec![tool]), (2, vec![app])], "the newest first");
    assert_eq!(found.pushes[0].who, "test@here");
    assert_eq!(found.pins.iter().map(|pin| (pin.name.as_str(), pin.count)).collect::<Vec<_>>(), [("release", 1)]);
    assert_eq!((found.leases.len(), found.sweeps.len(), found.damaged.count), (0, 0, 0));
    // cache info, record; NARs, paths, five windows of pushes, their records, leases, sweeps, pins; narinfos.
    assert!(world.bucket.requests().len() <= 20, "{:?}", world.bucket.requests());
}

#[tokio::test]
async fn a_large_bucket_costs_its_listing_and_some_hundred_reads() {
    let bucket = Memory::garage();
    let (mut stored, mut unpacked) = (0, 0);
    for n in 0..5000 {
        // Ratios between 0.2 and 0.5, sizes over two decades.
        let size = 100 + (n * n * 7919) % 20_000;
        let nar_size = size * 10 / (2 + n % 4);
        plant(&bucket, n, nar_size, size as usize);
        stored += size;
        unpacked += nar_size;
    }
    // Names that no loft writes are counted all the same, wherever the pieces are cut.
    for (n, name) in ["nar/!", "nar/0", "nar/1", "nar/elephant.nar", "nar/z", "nar/~"].iter().enumerate() {
        bucket.plant(name, vec![0; n]);
        stored += n as u64;
    }
    let found = look(&bucket).await;
    assert_eq!((found.paths, found.nars, found.stored), (5000, 5006, stored));
    assert!(!found.unpacked.is_exact);
    assert_eq!(found.unpacked.read, 400);
    let error = (found.unpacked.bytes as f64 / unpacked as f64 - 1.0).abs();
    assert!(error < 0.15, "estimated {}, it is {unpacked}", found.unpacked.bytes);
    let (reads, lists) = (bucket.count(RequestKind::Get), bucket.count(RequestKind::List));
    assert!(reads <= 402 && lists <= 100, "{reads} reads, {lists} listings");
    assert_eq!(found.largest.len(), 10);

    let found = survey(&bucket, Depth::Full).await.unwrap();
    assert_eq!((found.paths, found.nars, found.stored), (5000, 5006, stored));
    assert_eq!((found.unpacked.read, found.unpacked.is_exact, found.unpacked.bytes), (5000, true, unpacked));
    assert!(found.largest.iter().all(|large| large.path.is_some()), "{:?}", found.largest);
}

/// Beside each path stand its listing, its log, and a link to its debug information.
#[tokio::test]
async fn what_stands_beside_paths_changes_no_number() {
    let bucket = Memory::garage();
    let numbers = |found: Survey| (found.paths, found.nars, found.stored, found.unpacked, found.damaged.count);
    (0..1200).for_each(|n| drop(plant(&bucket, n, 1000, 100)));
    let before = numbers(survey(&bucket, Depth::Full).await.unwrap());
    for n in 0..1200 {
        bucket.plant(Key::listing(&path(n).hash_part()).as_str(), "{}");
        bucket.plant(&format!("log/{}.drv", path(n)), "built");
        bucket.plant(&format!("debuginfo/{}", &Sha256::of(&n.to_le_bytes()).to_hex()[..40]), "{}");
    }
    assert_eq!(numbers(survey(&bucket, Depth::Full).await.unwrap()), before);
    let sampled = look(&bucket).await;
    assert_eq!((sampled.paths, sampled.nars, sampled.stored), (1200, 1200, 120_000));
}

#[tokio::test]
async fn the_sample_is_not_the_same_every_time() {
    let bucket = Memory::garage();
    (0..1500).for_each(|n| drop(plant(&bucket, n, 1000 + n, 100)));
    let mut answers = std::collections::BTreeSet::new();
    for _ in 0..4 {
        answers.insert(look(&bucket).await.unpacked.bytes);
    }
    assert!(answers.len() > 1, "{answers:?}");
}

#[tokio::test]
async fn growth_goes_by_the_age_of_nars() {
    let bucket = Memory::garage();
    let now = bucket.clock.wall();
    let aged = |n: u64, age: Duration, size: usize| {
        bucket.clock.set_wall(now - age);
        plant(&bucket, n, 1, size);
    };
    aged(0, Duration::ZERO, 5);
    aged(1, 7 * DAY - Duration::from_secs(1), 10);
    aged(2, 7 * DAY, 20);
    aged(3, SHOWN_WEEKS as u32 * 7 * DAY - Duration::from_secs(1), 40);
    aged(4, SHOWN_WEEKS as u32 * 7 * DAY, 80);
    aged(5, 3000 * DAY, 160);
    // A server whose clock was set back.
    bucket.clock.set_wall(now + DAY);
    plant(&bucket, 6, 1, 320);
    bucket.clock.set_wall(now);
    let found = look(&bucket).await;
    let weeks: Vec<(usize, u64, u64)> = found
        .weeks
        .iter()
        .enumerate()
        .filter(|(_, week)| week.count > 0)
        .map(|(n, week)| (n, week.count, week.bytes))
        .collect();
    assert_eq!(weeks, [(0, 3, 335), (1, 1, 20), (SHOWN_WEEKS - 1, 1, 40)]);
    assert_eq!((found.earlier.count, found.earlier.bytes), (2, 240));
}

#[tokio::test]
async fn the_newest_pushes_are_found_without_reading_all() {
    let bucket = Memory::garage();
    let now = bucket.clock.wall();
    let record = |at: SystemTime, who: &str| {
        bucket.clock.set_wall(at);
        let record = PushRecord::new(who.to_owned(), 0, vec![path(1)], Vec::new(), 3, 4);
        bucket.plant(Key::push_record(Ulid::from_datetime(at)).as_str(), record.print());
    };
    for n in 0..4000 {
        record(now - 30 * DAY - n * HOUR, "old");
    }
    for n in 0..3 {
        record(now - 2 * DAY - n * HOUR, &format!("ci-{n}"));
    }
    bucket.clock.set_wall(now);
    let found = look(&bucket).await;
    let who: Vec<_> = found.pushes.iter().map(|push| push.who.as_str()).collect();
    assert_eq!(who, ["ci-0", "ci-1", "ci-2", "old", "old"]);
    assert_eq!(found.pushes[0].at, now - 2 * DAY);
    let pages = bucket.requests().iter().filter(|request| request.on.contains("push/")).count();
    assert!(pages <= 4 + 5, "{pages} requests for the last 60 days and five records");
}

#[tokio::test]
async fn who_is_at_it_now() {
    let bucket = Memory::garage();
    let now = bucket.clock.wall();
    let lease = |age: Duration, who: &str, paths: u64| {
        bucket.clock.set_wall(now - age);
        let hashes = (0..paths).map(|n| path(n).hash_part()).collect();
        let record = LeaseRecord::new(who.to_owned(), 0, hashes);
        bucket.plant(Key::lease(Ulid::from_datetime(now - age)).as_str(), record.print());
    };
    lease(3 * HOUR, "dead@host", 2);
    lease(HOUR / 2, "ci@builder", 12);
    lease(HOUR / 4, "huge@builder", 60_000);
    let sweep = SweepRecord::new("cron@host".to_owned(), 300, vec![path(1).hash_part()]);
    bucket.plant("loft/v1/sweep/01ARZ3NDEKTSV4RRFFQ69G5FAV", sweep.print());
    bucket.clock.set_wall(now);
    for name in ["release", "release", "a/b"] {
        let pin = PinRecord::new("me".to_owned(), 0, vec![path(1)], loft::record::Keep::Forever);
        bucket.clock.advance(Duration::from_secs(1));
        bucket.plant(Key::pin(name, Ulid::from_datetime(bucket.clock.wall())).as_str(), pin.print());
    }
    let found = look(&bucket).await;
    let leases: Vec<_> = found.leases.iter().map(|lease| (lease.who.as_deref(), lease.paths)).collect();
    assert_eq!(leases, [(Some("ci@builder"), Some(12)), (None, None)], "a huge one is not downloaded");
    assert_eq!(found.leases[0].since, Some(now - HOUR / 2));
    assert_eq!(found.sweeps.iter().map(|sweep| sweep.condemned).collect::<Vec<_>>(), [Some(1)]);
    let pins: Vec<_> = found.pins.iter().map(|pin| (pin.name.as_str(), pin.count)).collect();
    assert_eq!(pins, [("a/b", 1), ("release", 2)]);
}

#[tokio::test]
async fn what_is_damaged_is_named_and_the_rest_is_told() {
    let bucket = Memory::garage();
    (0..20).for_each(|n| drop(plant(&bucket, n, 100, 50)));
    let narinfo = |n: u64| Key::nar_info(&path(n).hash_part()).as_str().to_owned();
    bucket.plant(&narinfo(0), "");
    bucket.plant(&narinfo(1), "StorePath: nonsense\n");
    let other = plant(&bucket, 100, 100, 50);
    bucket.plant(&narinfo(2), other.print(&StoreDir::default()));
    bucket.plant("nix-cache-info", "\u{0}");
    bucket.plant("loft/v1/bucket.json", "{");
    bucket.plant(Key::push_record(Ulid::from_datetime(bucket.clock.wall())).as_str(), r#"{"format":9}"#);
    bucket.plant(Key::lease(Ulid::from_datetime(bucket.clock.wall())).as_str(), "not zstd");
    bucket.plant("loft/v1/sweep/x", "");
    let found = look(&bucket).await;
    assert_eq!((found.paths, found.unpacked.read), (21, 18));
    assert_eq!(found.damaged.count, 8, "{:?}", found.damaged.named);
    assert_eq!(found.damaged.named.len(), 5);
    assert!(found.damaged.named[0].starts_with("nix-cache-info: "), "{:?}", found.damaged.named);
    assert!(found.pushes.is_empty() && found.leases.is_empty() && found.sweeps.is_empty());
}

#[tokio::test]
async fn what_vanishes_meanwhile_is_nothing_and_an_outage_is_an_error() {
    let bucket = std::sync::Arc::new(Memory::garage());
    (0..20).for_each(|n| drop(plant(&bucket, n, 100, 50)));
    let gone = Key::nar_info(&path(3).hash_part()).as_str().to_owned();
    let weak = std::sync::Arc::downgrade(&bucket);
    let victim = gone.clone();
    bucket.set_faults(move |moment, request| {
        if moment == Moment::Before && request.kind == RequestKind::Get && request.on == victim {
            weak.upgrade().unwrap().lose(&victim);
        }
        None
    });
    let found = look(&bucket).await;
    assert_eq!((found.paths, found.unpacked.read, found.damaged.count), (20, 19, 0));

    for broken in ["nar/", "", "loft/v1/lease/", "loft/v1/pin/", &gone] {
        let broken = broken.to_owned();
        bucket.plant(&gone, "x\n");
        bucket.set_faults(move |moment, request| {
            let hit = request.on == broken && matches!(request.kind, RequestKind::List | RequestKind::Get);
            (hit && moment == Moment::Before).then_some(Fault::Unreachable)
        });
        let told = survey(bucket.as_ref(), Depth::Sample).await.map(|found| found.paths);
        assert!(told.is_err(), "{told:?}: what could not be seen must not count as absent");
    }
}

/// Pages of three, so that every loop goes round, and no key falls between two pages or pieces.
#[tokio::test]
async fn pages_do_not_change_the_answer() {
    let mut bucket = Memory::garage();
    bucket.page_size = 3;
    (0..200).for_each(|n| drop(plant(&bucket, n, 100, 50)));
    for n in 0..20u64 {
        let record = PushRecord::new(format!("{n}"), 0, Vec::new(), Vec::new(), 0, 0);
        let id = Ulid::from_parts(n * 1000, 0);
        bucket
            .put(&Key::push_record(id), Body::from(bytes::Bytes::from(record.print())), Headers::RECORD)
            .await
            .unwrap();
    }
    let found = look(&bucket).await;
    assert_eq!((found.paths, found.nars, found.stored, found.unpacked.read), (200, 200, 200 * 50, 200));
    assert_eq!(found.pushes.iter().map(|push| push.who.as_str()).collect::<Vec<_>>(), ["19", "18", "17", "16", "15"]);
    let found = survey(&bucket, Depth::Full).await.unwrap();
    assert_eq!((found.paths, found.nars, found.unpacked.read), (200, 200, 200));
}
