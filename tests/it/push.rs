//! What a push promises, on a store of files and a bucket in memory.

use crate::support::memory::{Fault, Memory, Moment};
use crate::support::world::{World, changes};
use loft::bucket::{Bucket as _, Prefix, RequestKind};
use loft::nix::{KeyName, NarInfo, StoreDir, StorePath};
use loft::plan::{Pattern, Request, UpstreamKey};
use loft::push::PushError;
use loft::record::{BucketRecord, PushRecord, SweepRecord};
use loft::report::Outcome;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// app → lib → base, app → tool; base refers to itself.
fn small(world: &World) -> [StorePath; 4] {
    let store = &world.store;
    let base = store.add("base").file("etc/conf", b"x").self_reference().finish();
    let lib = store.add("lib").file("lib/lib.so", vec![7; 5000]).reference(&base).finish();
    let tool = store.add("tool").executable("bin/tool", b"#!/bin/sh").symlink("bin/t", "tool").finish();
    let app = store.add("app").executable("bin/app", b"app").reference(&lib).reference(&tool).finish();
    [base, lib, tool, app]
}

/// Each refers to the two before it; all are different.
fn chain(world: &World, length: usize) -> Vec<StorePath> {
    let mut paths: Vec<StorePath> = Vec::new();
    for n in 0..length {
        let references: Vec<StorePath> = paths.iter().rev().take(2).cloned().collect();
        let text = format!("the contents of {n}\n").repeat(n % 7 + 1);
        paths.push(world.store.add(&format!("p-{n}")).file("f", text).references(&references).finish());
    }
    paths
}

fn set(paths: &[StorePath]) -> BTreeSet<StorePath> {
    paths.iter().cloned().collect()
}

#[tokio::test]
async fn a_closure_lands_signed_and_leaves_no_lease() {
    let world = World::new();
    let paths = small(&world);
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (4, 0));
    assert_eq!(world.visible(), set(&paths));

    let public = world.options.keys[0].public();
    for info in world.check() {
        let fingerprint = info.fingerprint(&StoreDir::default());
        assert!(info.signatures.iter().any(|signature| public.verifies(&fingerprint, signature)), "{}", info.path);
    }
    assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
    let contents = world.bucket.contents();
    let records = world.keys("loft/v1/push/");
    assert_eq!(records.len(), 1);
    let (key, bytes) = contents.iter().find(|(key, _)| key.as_str() == records[0]).unwrap();
    let record = PushRecord::parse(key.as_str(), bytes).unwrap();
    assert_eq!((record.roots, record.pushed, record.present), (vec![paths[3].clone()], 4, 0));
}

#[tokio::test]
async fn objects_carry_the_headers_that_readers_and_proxies_need() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[0]]).await.unwrap();
    let objects = world.bucket.objects();
    let headers = |start: &str| {
        let (_, object) = objects.iter().find(|(key, _)| key.as_str().starts_with(start)).unwrap();
        (object.headers.content_type.unwrap(), object.headers.cache_control.unwrap())
    };
    assert_eq!(headers("nar/"), ("application/x-nix-nar", "public, max-age=31536000, immutable, no-transform"));
    assert_eq!(headers(paths[0].hash_part().as_str()), ("text/x-nix-narinfo", "max-age=3600"));
    assert_eq!(headers("nix-cache-info").0, "text/x-nix-cache-info");
    assert_eq!(headers("loft/v1/bucket.json").1, "no-store");
}

#[tokio::test]
async fn a_second_push_sends_nothing() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.pushed, summary.present), (0, 4));
    let requests = world.bucket.requests();
    assert!(requests.len() <= 5, "{requests:?}");
    assert!(!requests.iter().any(|request| changes(request.kind)), "{requests:?}");
}

#[tokio::test]
async fn requests_of_large_pushes_are_few() {
    let world = World::new();
    let paths = chain(&world, 400);
    let roots: Vec<&StorePath> = paths.iter().collect();
    world.push(&roots).await.unwrap();
    assert_eq!(world.visible(), set(&paths));
    let cold = world.bucket.requests().len();
    assert!(cold <= 2 * 400 + 20, "{cold} requests for 400 paths");

    world.push(&roots).await.unwrap();
    let warm = world.bucket.requests().len();
    assert!(warm <= 5, "{warm} requests with nothing to do");

    let mut forgetful = world;
    forgetful.ledger = Arc::new(loft::ledger::Ledger::in_memory());
    let summary = forgetful.push(&roots).await.unwrap();
    assert_eq!(summary.present, 400);
    let cold = forgetful.bucket.requests().len();
    assert!(cold <= 10, "{cold} requests with nothing to do and no ledger");
}

#[tokio::test]
async fn a_narinfo_that_was_lost_is_put_back_alone() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    // Behind the ledger's back. Its referrer dangles until the push is done, which is what it mends.
    world.bucket.lose(&format!("{}.narinfo", paths[3].hash_part()));
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.pushed, summary.present), (1, 3));
    assert_eq!(world.visible(), set(&paths));
}

#[tokio::test]
async fn a_bucket_made_anew_is_not_taken_for_the_old_one() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    for key in world.keys("") {
        world.bucket.lose(&key);
    }
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!(summary.pushed, 4);
}

#[tokio::test]
async fn what_upstream_has_signed_is_left_out_and_recorded() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let glibc = world.store.add("glibc").file("x", b"x").signature(&signature).finish();
    let app = world.store.add("app").file("y", b"y").reference(&glibc).finish();
    world.declare_external(std::slice::from_ref(&glibc));

    let summary = world.push(&[&app]).await.unwrap();
    assert_eq!((summary.pushed, summary.upstream), (1, 1));
    assert_eq!(world.visible(), set(std::slice::from_ref(&app)));
    let record = &world.keys("loft/v1/push/")[0];
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(key, _)| key.as_str() == record).unwrap();
    assert_eq!(PushRecord::parse(record, bytes).unwrap().external, [glibc]);
}

#[tokio::test]
async fn files_that_are_not_what_was_registered_are_never_published() {
    let world = World::new();
    let [base, lib, tool, app] = small(&world);
    std::fs::write(world.store.real_path(&lib).join("lib/lib.so"), vec![8; 5000]).unwrap();
    let summary = world.push(&[&app]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (2, 2));
    assert_eq!(world.visible(), set(&[base, tool]));
    assert!(matches!(world.outcome(&lib), Outcome::Failed { why, blocked_by: None } if why.contains("NarHash")));
    assert!(matches!(world.outcome(&app), Outcome::Failed { blocked_by: Some(by), .. } if by == lib));
    // A root that did not land is not recorded as pushed.
    assert_eq!(record(&world, &world.keys("loft/v1/push/")[0]).roots, []);
}

#[tokio::test]
async fn files_that_vanished_are_named() {
    let world = World::new();
    let [_, lib, _, app] = small(&world);
    world.store.delete_files(&lib);
    let summary = world.push(&[&app]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (2, 2));
    assert!(matches!(world.outcome(&lib), Outcome::Failed { why, .. } if why.contains("lib")));
}

#[tokio::test]
async fn a_request_that_fails_for_good_takes_its_referrers_with_it() {
    for victim in 0..4 {
        for of_nar in [true, false] {
            let world = World::new();
            let paths = small(&world);
            let info = format!("{}.narinfo", paths[victim].hash_part());
            let nar = format!("nar/{}", world.store.info(&paths[victim]).nar_hash.to_nix32());
            world.set_faults(move |moment, request| {
                let hit = if of_nar { request.on.starts_with(&nar) } else { request.on == info };
                (hit && moment == Moment::Before).then_some(Fault::Denied)
            });
            let summary = world.push(&[&paths[3]]).await.unwrap();
            assert!(matches!(world.outcome(&paths[victim]), Outcome::Failed { blocked_by: None, .. }));
            assert!(matches!(world.outcome(&paths[3]), Outcome::Failed { .. }));
            // base takes lib and app with it, lib takes app, tool takes app.
            assert_eq!(summary.failed, [3, 2, 2, 1][victim]);
            assert!(!world.visible().contains(&paths[victim]));
            assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
            world.set_faults(|_, _| None);
            let again = world.push(&[&paths[3]]).await.unwrap();
            assert_eq!((again.failed, world.visible()), (0, set(&paths)));
        }
    }
}

#[tokio::test]
async fn a_look_that_fails_is_not_an_absence() {
    let world = World::new();
    let paths = small(&world);
    // One path is asked for by name, several by a listing.
    for (root, kind) in [(&paths[0], RequestKind::Head), (&paths[3], RequestKind::List)] {
        world.set_faults(move |moment, request| {
            let look = request.kind == kind && request.on != "loft/v1/sweep/";
            (look && moment == Moment::Before).then_some(Fault::Denied)
        });
        let error = world.push(&[root]).await.unwrap_err();
        assert!(matches!(error, PushError::Bucket(_)), "{error}");
        assert!(world.bucket.count(kind) > 0);
        assert_eq!(world.visible(), BTreeSet::new());
        assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn each_request_may_fail_for_good() {
    let clean = World::new();
    let paths = small(&clean);
    clean.push(&[&paths[3]]).await.unwrap();
    let total = clean.bucket.requests().len() as u64;
    for k in 0..total {
        for moment_of_fault in [Moment::Before, Moment::After] {
            let world = World::new();
            let paths = small(&world);
            let hit = AtomicU64::new(u64::MAX);
            world.set_faults(move |moment, request| {
                // The k-th request and all that repeat it.
                if request.number >= k && hit.load(Ordering::SeqCst) == u64::MAX {
                    hit.store(request.number, Ordering::SeqCst);
                }
                let denied = hit.load(Ordering::SeqCst) == request.number;
                (denied && moment == moment_of_fault).then_some(Fault::Denied)
            });
            let result = world.push(&[&paths[3]]).await;
            let complete = world.visible() == set(&paths);
            if let Ok(summary) = &result {
                // What was refused although it had landed is told as failed: less than the truth, never more.
                assert!(summary.failed > 0 || complete, "request {k}: {summary:?}");
            }
            world.set_faults(|_, _| None);
            world.push(&[&paths[3]]).await.unwrap();
            assert_eq!(world.visible(), set(&paths), "request {k}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_fail_for_now_do_no_harm() {
    for seed in 0..20u64 {
        let world = World::new();
        let paths = chain(&world, 60);
        world.set_faults(move |moment, request| {
            let mut state =
                seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (request.number << 1) ^ u64::from(moment == Moment::After);
            state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            match (state ^ (state >> 31)) % 100 {
                0 => Some(Fault::Unavailable(None)),
                1 => Some(Fault::Unavailable(Some(Duration::from_secs(1)))),
                2 | 3 => Some(Fault::Reset),
                4 => Some(Fault::TimeOut),
                5 => Some(Fault::Cut),
                _ => None,
            }
        });
        let summary = world.push(&[paths.last().unwrap()]).await.unwrap();
        assert_eq!((summary.failed, world.visible()), (0, set(&paths)), "seed {seed}");
        assert!(*world.watcher.retries.lock().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_crash_at_any_request_leaves_only_garbage() {
    let clean = World::new();
    let paths = small(&clean);
    clean.push(&[&paths[3]]).await.unwrap();
    let total = clean.bucket.requests().len() as u64;
    for k in 0..total {
        let world = World::new();
        let paths = small(&world);
        let crash = Arc::new(tokio::sync::Notify::new());
        let bell = crash.clone();
        world.set_faults(move |moment, request| {
            if request.number == k && moment == Moment::Before {
                bell.notify_one();
            }
            // From here on nothing arrives any more.
            (request.number >= k).then_some(Fault::Delay(Duration::from_secs(1_000_000)))
        });
        let roots = [&paths[3]];
        tokio::select! {
            _ = world.push(&roots) => panic!("the push survived request {k}"),
            () = crash.notified() => {}
        }
        world.check();
        world.set_faults(|_, _| None);
        let summary = world.push(&[&paths[3]]).await.unwrap();
        assert_eq!((summary.failed, world.visible()), (0, set(&paths)), "request {k}");
    }
}

#[tokio::test]
async fn a_large_nar_goes_in_parts_and_a_failed_one_is_aborted() {
    for profile in [Memory::garage, Memory::aws] {
        let world = World::with(profile());
        let big = world.store.add("big").file("noise", noise()).finish();
        world.set_faults(|_, request| {
            (request.kind == RequestKind::UploadPart && request.part == Some(2)).then_some(Fault::Denied)
        });
        let summary = world.push(&[&big]).await.unwrap();
        assert_eq!(summary.failed, 1);
        assert!(world.bucket.count(RequestKind::AbortUpload) == 1);
        assert_eq!(world.bucket.list_uploads(&Prefix::all()).await.unwrap(), []);

        world.set_faults(|_, _| None);
        assert_eq!(world.push(&[&big]).await.unwrap().pushed, 1);
        assert!(world.bucket.count(RequestKind::UploadPart) >= 3);
        assert_eq!(world.visible(), set(&[big]));
    }
}

#[tokio::test]
async fn the_same_nar_is_sent_once() {
    let world = World::new();
    let twin = |name: &str| world.store.add(name).file("same", vec![3; 4000]).finish();
    let (a, b) = (twin("a"), twin("b"));
    let summary = world.push(&[&a, &b]).await.unwrap();
    assert_eq!((summary.pushed, summary.reused, world.keys("nar/").len()), (2, 1, 1));

    // Under another path, once the first is visible.
    let c = world.store.add("c").file("same", vec![3; 4000]).reference(&a).finish();
    let summary = world.push(&[&c]).await.unwrap();
    assert_eq!((summary.pushed, summary.reused, summary.file_size, world.keys("nar/").len()), (1, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_sweep_is_waited_for() {
    let world = World::new();
    let paths = small(&world);
    let sweep = SweepRecord::new("prune@there".into(), 300, vec![paths[1].hash_part()]).print();
    let key = "loft/v1/sweep/01ARZ3NDEKTSV4RRFFQ69G5FAV";
    world.bucket.plant(key, sweep);
    let bucket = world.bucket.clone();
    let roots = [&paths[3]];
    let (result, seen) = tokio::join!(world.push(&roots), async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let seen = bucket.contents().keys().filter(|key| key.as_str().ends_with(".narinfo")).count();
        bucket.lose(key);
        seen
    });
    assert_eq!((seen, result.unwrap().pushed), (0, 4));
    assert_eq!(world.watcher.waits.lock().unwrap().len(), 1);

    // A sweep of other paths, or one that has expired, holds nobody up.
    let other = SweepRecord::new("x".into(), 300, vec![world.store.missing("other").hash_part()]).print();
    world.bucket.plant(key, other);
    let more = world.store.add("more").file("m", b"m").finish();
    assert_eq!(world.push(&[&more]).await.unwrap().pushed, 1);
    assert_eq!(world.watcher.waits.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_its_lease_a_push_publishes_nothing() {
    let world = World::new();
    let paths = small(&world);
    let clock = world.clock.clone();
    world.set_faults(move |moment, request| {
        // The machine sleeps while the first NAR is on its way.
        if moment == Moment::After && request.kind == RequestKind::Put && request.on.starts_with("nar/") {
            clock.advance(Duration::from_secs(31 * 60));
        }
        None
    });
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (0, 4));
    assert_eq!(world.visible(), BTreeSet::new());
    let why = format!("{:?}", world.outcome(&paths[0]));
    assert!(why.contains("lease"), "{why}");
}

#[tokio::test]
async fn the_lease_names_all_that_is_relied_on_before_anybody_looks() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    let order: Vec<(RequestKind, String)> =
        world.bucket.requests().into_iter().map(|request| (request.kind, request.on)).collect();
    let place = |found: &dyn Fn(&(RequestKind, String)) -> bool| order.iter().position(found).unwrap();
    let lease = place(&|(kind, on)| *kind == RequestKind::Put && on.starts_with("loft/v1/lease/"));
    let sweeps = place(&|(kind, on)| *kind == RequestKind::List && on == "loft/v1/sweep/");
    let look = place(&|(kind, on)| (*kind == RequestKind::List && on.is_empty()) || *kind == RequestKind::Head);
    let nar = place(&|(_, on)| on.starts_with("nar/"));
    let record = place(&|(_, on)| on.starts_with("loft/v1/push/"));
    let last_info = order.iter().rposition(|(kind, on)| *kind == RequestKind::Put && on.ends_with(".narinfo")).unwrap();
    let release = place(&|(kind, on)| *kind == RequestKind::Delete && on.starts_with("loft/v1/lease/"));
    assert!(lease < sweeps && sweeps < look && look < nar && last_info < record && record < release, "{order:?}");
}

#[tokio::test]
async fn an_interruption_settles_what_is_under_way() {
    let clean = World::new();
    let paths = small(&clean);
    clean.push(&[&paths[3]]).await.unwrap();
    let total = clean.bucket.requests().len() as u64;
    for k in 0..total {
        let world = World::new();
        let paths = small(&world);
        let interrupt = world.options.interrupt.clone();
        world.set_faults(move |_, request| {
            if request.number >= k {
                interrupt.raise();
            }
            None
        });
        match world.push(&[&paths[3]]).await {
            // A wish that came when all had landed stops nothing.
            Ok(summary) => assert_eq!(summary.interrupted > 0, world.visible() != set(&paths), "interrupted at {k}"),
            Err(error) => assert!(matches!(error, PushError::Interrupted)),
        }
        assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new(), "interrupted at {k}");
        assert_eq!(world.bucket.list_uploads(&Prefix::all()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    let paths = small(&world);
    world.options.dry_run = true;
    let summary = world.push(&[&paths[3]]).await.unwrap();
    assert_eq!((summary.considered, summary.pushed), (4, 0));
    assert!(matches!(world.outcome(&paths[3]), Outcome::WouldPush { .. }));
    assert_eq!(world.keys(""), Vec::<String>::new());
    assert!(!world.bucket.requests().iter().any(|request| changes(request.kind)));
}

#[tokio::test]
async fn a_bucket_of_another_store_or_a_newer_loft_is_refused() {
    let world = World::new();
    let paths = small(&world);
    world.bucket.plant("nix-cache-info", &b"StoreDir: /gnu/store\n"[..]);
    let error = world.push(&[&paths[3]]).await.unwrap_err();
    assert!(error.to_string().contains("/gnu/store"), "{error}");

    world.bucket.lose("nix-cache-info");
    world.bucket.plant("loft/v1/bucket.json", &br#"{"format":2}"#[..]);
    let error = world.push(&[&paths[3]]).await.unwrap_err();
    assert!(error.to_string().contains("newer loft"), "{error}");
    assert_eq!(world.keys("").len(), 1);
}

#[tokio::test]
async fn the_cache_info_that_is_there_stays() {
    let world = World::new();
    let paths = small(&world);
    let own = &b"StoreDir: /nix/store\nPriority: 7\n"[..];
    world.bucket.plant("nix-cache-info", own);
    world.push(&[&paths[0]]).await.unwrap();
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(key, _)| key.as_str() == "nix-cache-info").unwrap();
    assert_eq!(bytes, own);
}

#[tokio::test]
async fn without_the_closure_references_must_be_there() {
    let world = World::new();
    let [base, lib, ..] = small(&world);
    let summary = world.request(Request::Only(vec![lib.clone()])).await.unwrap();
    assert_eq!((summary.failed, world.visible()), (1, BTreeSet::new()));
    assert!(matches!(world.outcome(&lib), Outcome::Failed { blocked_by: Some(by), .. } if by == base));
    world.request(Request::Only(vec![base.clone()])).await.unwrap();
    let summary = world.request(Request::Only(vec![lib.clone()])).await.unwrap();
    assert_eq!((summary.pushed, world.visible()), (1, set(&[base, lib])));
}

#[tokio::test]
async fn a_path_that_is_not_valid_is_named_and_the_rest_lands() {
    let world = World::new();
    let [base, ..] = small(&world);
    let missing = world.store.missing("missing");
    let summary = world.push(&[&base, &missing]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (1, 1));
    assert_eq!(world.outcome(&missing), Outcome::Invalid);
}

#[tokio::test]
async fn the_whole_store_goes_without_its_derivations() {
    let world = World::new();
    let paths = small(&world);
    world.store.add("app.drv").contents(b"Derive()").finish();
    let summary = world.request(Request::WholeStore).await.unwrap();
    assert_eq!((summary.pushed, world.visible()), (4, set(&paths)));
}

#[tokio::test]
async fn pushers_at_the_same_time_do_not_hurt_each_other() {
    let world = World::new();
    let paths = chain(&world, 40);
    let request = |n: usize| Request::Closures(vec![paths[n].clone()]);
    let (a, b, c) = (world.ends(), world.ends(), world.ends());
    let silent: Arc<dyn loft::report::Report> = Arc::new(loft::report::Silent);
    let quiet = |ends: loft::push::Ends| loft::push::Ends { report: silent.clone(), ..ends };
    let (a, b, c) = (quiet(a), quiet(b), quiet(c));
    let (a, b, c) = tokio::join!(
        loft::push::run(&a, &world.options, request(39)),
        loft::push::run(&b, &world.options, request(30)),
        loft::push::run(&c, &world.options, request(39)),
    );
    assert_eq!((a.unwrap().failed, b.unwrap().failed, c.unwrap().failed), (0, 0, 0));
    assert_eq!(world.visible(), set(&paths));
    assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
}

#[tokio::test]
async fn signatures_of_the_store_are_kept_and_none_is_repeated() {
    let world = World::new();
    let path = world.store.add("p").file("f", b"f").finish();
    let own = {
        let info = world.store.info(&path);
        let fingerprint = loft::nix::Fingerprint::of_info(&StoreDir::default(), &info).unwrap();
        world.options.keys[0].sign(&fingerprint).to_string()
    };
    let other = format!("other-1:{}", data_encoding::BASE64.encode(&[2; 64]));
    world.store.sign(&path, &other);
    world.store.sign(&path, &own);
    world.push(&[&path]).await.unwrap();
    let visible: Vec<NarInfo> = world.check();
    let mut signatures: Vec<String> = visible[0].signatures.iter().map(ToString::to_string).collect();
    signatures.sort();
    let mut expected = vec![other, own];
    expected.sort();
    assert_eq!(signatures, expected);
}

#[tokio::test]
async fn the_first_push_says_what_the_bucket_is() {
    let mut world = World::new();
    let path = world.store.add("p").file("f", b"f").finish();
    world.options.upstreams = vec!["cache.nixos.org-1".into()];
    world.push(&[&path]).await.unwrap();
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(key, _)| key.as_str() == "loft/v1/bucket.json").unwrap();
    let record = BucketRecord::parse("loft/v1/bucket.json", bytes).unwrap();
    assert_eq!(record.upstreams, ["cache.nixos.org-1"]);
    // A second push leaves it as it is.
    world.options.trust_ledger = false;
    world.push(&[&path]).await.unwrap();
    assert_eq!(world.bucket.contents().iter().find(|(key, _)| key.as_str() == "loft/v1/bucket.json").unwrap().1, bytes);
}

fn upstream(world: &mut World, name: &str) -> String {
    world.options.policy.skip_signed_by = vec![UpstreamKey { name: KeyName::parse(name).unwrap(), public: None }];
    format!("{name}:{}", data_encoding::BASE64.encode(&[1; 64]))
}

/// Does not compress: 20 MiB, more than two parts.
fn noise() -> Vec<u8> {
    (0..20u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
}

fn record(world: &World, key: &str) -> PushRecord {
    let contents = world.bucket.contents();
    let (_, bytes) = contents.iter().find(|(other, _)| other.as_str() == key).unwrap();
    PushRecord::parse(key, bytes).unwrap()
}

#[tokio::test]
async fn a_try_after_a_night_s_sleep_does_not_publish() {
    let world = World::new();
    let path = world.store.add("p").file("f", b"f").finish();
    let clock = world.clock.clone();
    let tries = AtomicU64::new(0);
    world.set_faults(move |moment, request| {
        let narinfo = request.kind == RequestKind::Put && request.on.ends_with(".narinfo");
        if narinfo && moment == Moment::Before && tries.fetch_add(1, Ordering::SeqCst) == 0 {
            clock.advance(Duration::from_secs(3 * 3600));
            return Some(Fault::Reset);
        }
        None
    });
    let result = world.push(&[&path]).await;
    assert_eq!(world.visible(), BTreeSet::new(), "{result:?}");
    assert!(matches!(world.outcome(&path), Outcome::Failed { why, .. } if why.contains("lease")));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_no_success() {
    let mut world = World::new();
    world.options.pin = Some("release".into());
    let path = world.store.add("p").file("f", b"f").finish();
    let clock = world.clock.clone();
    world.set_faults(move |moment, request| {
        if moment == Moment::After && request.kind == RequestKind::Put && request.on.ends_with(".narinfo") {
            clock.advance(Duration::from_secs(31 * 60));
        }
        None
    });
    let error = world.push(&[&path]).await.unwrap_err();
    assert!(matches!(error, PushError::LeaseLost { minutes: 31 }), "{error}");
}

#[tokio::test]
async fn a_lost_lease_ends_the_uploading_too() {
    let world = World::new();
    let paths = chain(&world, 300);
    let clock = world.clock.clone();
    let once = AtomicU64::new(0);
    world.set_faults(move |moment, request| {
        if moment == Moment::After && request.on.starts_with("nar/") && once.fetch_add(1, Ordering::SeqCst) == 0 {
            clock.advance(Duration::from_secs(31 * 60));
        }
        None
    });
    let _ = world.push(&[paths.last().unwrap()]).await;
    let sent = world.keys("nar/").len();
    assert!(sent < 100, "{sent} of 300 NARs were sent although none could be published");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_for_as_long_as_it_takes() {
    let world = World::new();
    let paths = small(&world);
    let clock = world.clock.clone();
    let bucket = world.bucket.clone();
    // A NAR that takes 50 minutes, while the clocks go with the runtime's.
    world.set_faults(|moment, request| {
        let nar = request.kind == RequestKind::Put && request.on.starts_with("nar/");
        (nar && moment == Moment::Before).then_some(Fault::Delay(Duration::from_secs(50 * 60)))
    });
    let roots = [&paths[0]];
    let clocks = async {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            clock.advance(Duration::from_secs(60));
        }
    };
    let summary = tokio::select! {
        summary = world.push(&roots) => summary.unwrap(),
        () = clocks => unreachable!(),
    };
    assert_eq!((summary.pushed, summary.failed), (1, 0));
    let puts = bucket.requests().iter().filter(|request| request.on.starts_with("loft/v1/lease/")).count();
    assert!(puts >= 6, "{puts} requests for the lease: it should have been put, renewed every ten minutes, deleted");
    assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
}

#[tokio::test]
async fn externals_are_recorded_with_every_push() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let glibc = world.store.add("glibc").file("x", b"x").signature(&signature).finish();
    let app = world.store.add("app").file("y", b"y").reference(&glibc).finish();
    world.declare_external(std::slice::from_ref(&glibc));
    world.push(&[&app]).await.unwrap();
    world.bucket.lose(&world.keys("loft/v1/push/")[0]);
    world.options.trust_ledger = false;
    world.push(&[&app]).await.unwrap();
    assert_eq!(record(&world, &world.keys("loft/v1/push/")[0]).external, [glibc]);
}

#[tokio::test]
async fn a_root_from_upstream_is_stood_for_by_what_is_below_it() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let deep = world.store.add("deep").file("z", b"z").finish();
    let own = world.store.add("own").file("x", b"x").reference(&deep).finish();
    let root = world.store.add("root").file("y", b"y").reference(&own).signature(&signature).finish();
    world.options.pin = Some("keep".into());
    assert_eq!(world.push(&[&root]).await.unwrap().pushed, 2);
    assert_eq!(record(&world, &world.keys("loft/v1/push/")[0]).roots, [own]);
    assert_eq!(world.keys("loft/v1/pin/keep/").len(), 1);
}

#[tokio::test]
async fn a_whole_store_beside_upstream_is_cheap_again() {
    let mut world = World::new();
    let signature = upstream(&mut world, "cache.nixos.org-1");
    let glibc = world.store.add("glibc").file("x", b"x").signature(&signature).finish();
    world.store.add("app").file("y", b"y").reference(&glibc).finish();
    world.declare_external(std::slice::from_ref(&glibc));
    world.request(Request::WholeStore).await.unwrap();
    world.request(Request::WholeStore).await.unwrap();
    let requests = world.bucket.requests();
    assert!(requests.len() <= 5, "{} requests: {requests:?}", requests.len());
}

#[tokio::test]
async fn what_is_gone_at_the_last_look_is_no_success() {
    let world = World::new();
    let path = world.store.add("p").file("f", b"f").finish();
    let bucket = Arc::downgrade(&world.bucket);
    let info = format!("{}.narinfo", path.hash_part());
    let written = AtomicU64::new(0);
    world.set_faults(move |moment, request| {
        if request.kind == RequestKind::Put && request.on == info && moment == Moment::After {
            written.store(1, Ordering::SeqCst);
        } else if written.load(Ordering::SeqCst) == 1 && moment == Moment::Before {
            bucket.upgrade().unwrap().lose(&info);
        }
        None
    });
    let summary = world.push(&[&path]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (0, 1));
    assert!(matches!(world.outcome(&path), Outcome::Failed { why, .. } if why.contains("gone")));
}

#[tokio::test]
async fn a_broken_twin_does_not_take_the_other_with_it() {
    for broken in [0, 1] {
        let world = World::new();
        let twin = |name: &str| world.store.add(name).file("same", vec![3; 4000]).finish();
        let twins = [twin("a"), twin("b")];
        world.store.delete_files(&twins[broken]);
        let summary = world.push(&[&twins[0], &twins[1]]).await.unwrap();
        assert_eq!(summary.pushed + summary.failed, 2);
        assert!(matches!(world.outcome(&twins[1 - broken]), Outcome::Pushed { .. }));
        // The broken one may land as well: what was sent for the other is what it is registered as.
        assert!(world.visible().contains(&twins[1 - broken]));
    }
}

#[tokio::test]
async fn bytes_are_charged_to_a_path_that_landed() {
    let world = World::new();
    let bad = world.store.add("bad").file("z", b"z").finish();
    let a = world.store.add("a").file("same", vec![3; 4000]).finish();
    let b = world.store.add("b").file("same", vec![3; 4000]).reference(&bad).finish();
    world.store.delete_files(&bad);
    let summary = world.push(&[&a, &b]).await.unwrap();
    assert!(summary.pushed == 1 && summary.reused == 0 && summary.file_size > 0, "{summary:?}");
}

#[tokio::test]
async fn a_nar_that_is_gone_is_not_reused() {
    let world = World::new();
    let a = world.store.add("a").file("same", vec![3; 4000]).finish();
    world.push(&[&a]).await.unwrap();
    let nar = world.keys("nar/")[0].clone();
    let b = world.store.add("b").file("same", vec![3; 4000]).reference(&a).finish();
    // Somebody deletes the NAR; `a` is broken from now on, but `b` must not be.
    world.bucket.clear_hook();
    world.bucket.lose(&nar);
    world.watcher.outcomes.lock().unwrap().clear();
    let ends = world.ends();
    let summary = loft::push::run(&ends, &world.options, Request::Closures(vec![b])).await.unwrap();
    assert_eq!((summary.pushed, summary.reused), (1, 0));
    assert_eq!(world.keys("nar/").len(), 1);
}

#[tokio::test]
async fn an_interruption_aborts_the_parts_under_way() {
    let world = World::new();
    let big = world.store.add("big").file("noise", noise()).finish();
    let interrupt = world.options.interrupt.clone();
    world.set_faults(move |_, request| {
        if request.kind == RequestKind::CreateUpload {
            interrupt.raise();
        }
        None
    });
    let summary = world.push(&[&big]).await.unwrap();
    assert_eq!((summary.interrupted, summary.failed), (1, 0));
    assert_eq!(world.outcome(&big), Outcome::Interrupted);
    assert_eq!(world.bucket.list_uploads(&Prefix::all()).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_cannot_be_read_is_waited_for_but_not_for_ever() {
    let world = World::new();
    let paths = small(&world);
    // Its stamp is the fake's clock, which stands still: only our own clock can end this.
    world.bucket.plant("loft/v1/sweep/01ARZ3NDEKTSV4RRFFQ69G5FAV", &b"garbage"[..]);
    let clock = world.clock.clone();
    let roots = [&paths[3]];
    let clocks = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            clock.advance(Duration::from_secs(5));
        }
    };
    let summary = tokio::select! {
        summary = world.push(&roots) => summary.unwrap(),
        () = clocks => unreachable!(),
    };
    assert_eq!(summary.pushed, 4);
    assert_eq!(world.watcher.waits.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_excluded_stays_out_with_its_referrers() {
    let mut world = World::new();
    let [base, lib, tool, app] = small(&world);
    world.options.policy.exclude = vec![Pattern::parse("lib*").unwrap()];
    let summary = world.push(&[&app]).await.unwrap();
    assert_eq!((summary.pushed, summary.ignored), (2, 2));
    assert_eq!(world.visible(), set(&[base, tool]));
    assert!(matches!(world.outcome(&lib), Outcome::Ignored { why } if why.contains("lib*")));
}
