//! Pushes into which something comes: damaged files, failed requests, crashes, interruptions.

use crate::support::closures::{chain, record, set, small};
use crate::support::memory::{Fault, Memory, Moment};
use crate::support::world::World;
use loft::bucket::{Bucket as _, Prefix, RequestKind};
use loft::plan::Request;
use loft::push::PushError;
use loft::report::Outcome;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Does not compress: 20 MiB, more than two parts.
fn noise() -> Vec<u8> {
    (0..20u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
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
