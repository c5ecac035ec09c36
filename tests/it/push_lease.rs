//! The lease of a push, and the sweeps of others.

use crate::support::closures::{chain, small};
use crate::support::memory::{Fault, Moment};
use crate::support::pruning::{DAY, Pruner};
use crate::support::world::World;
use loft::bucket::RequestKind;
use loft::push::PushError;
use loft::record::SweepRecord;
use loft::report::Outcome;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    world.options.pin = Some(loft::push::Pin { name: "release".into(), keep: loft::record::Keep::Forever });
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
async fn the_lease_stays_while_a_narinfo_may_still_appear() {
    for (fault, stays) in [
        (Fault::Reset, true),
        (Fault::TimeOut, true),
        (Fault::Unavailable(None), true),
        // An earlier try may have come through; the last error alone does not tell.
        (Fault::Unreachable, true),
        (Fault::Denied, false),
    ] {
        let world = World::new();
        let [base, lib, ..] = small(&world);
        world.push(&[&base]).await.unwrap();
        world.pass(40 * DAY);
        let late = format!("{}.narinfo", lib.hash_part());
        world.set_faults({
            let (late, fault) = (late.clone(), fault.clone());
            move |moment, sent| {
                let hit = moment == Moment::Before && sent.kind == RequestKind::Put && sent.on == late;
                hit.then(|| fault.clone())
            }
        });
        assert_eq!(world.push(&[&lib]).await.unwrap().failed, 1, "{fault:?}");
        world.set_faults(|_, _| None);
        assert_eq!(world.keys("loft/v1/lease/").len(), usize::from(stays), "{fault:?}");

        // What it relies on is kept for as long as the request can live.
        let mut pruner = Pruner::new(&world);
        pruner.options.remove_most = true;
        world.pass(Duration::from_secs(30 * 60));
        assert_eq!(pruner.run().await.removed.len(), usize::from(!stays), "{fault:?}");
        world.pass(Duration::from_secs(40 * 60));
        pruner.run().await;
        assert!(!world.visible().contains(&base), "{fault:?}");
        assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
    }
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
