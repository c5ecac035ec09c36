//! Prunes of a bucket that pushes have filled: what goes, what stays, what can be undone.

use crate::support::closures::{chain, set, small};
use crate::support::memory::{Fault, Moment};
use crate::support::pruning::{DAY, Pruner};
use crate::support::world::World;
use bytes::Bytes;
use loft::bucket::RequestKind;
use loft::nix::StorePath;
use loft::prune::{MaxSize, PruneError, Refusal, Restored, Summary, Undone};
use loft::record::{Keep, PinRecord, seconds};
use std::collections::BTreeSet;
use std::time::Duration;

#[tokio::test]
async fn what_was_not_pushed_for_the_retention_goes() {
    let world = World::new();
    let [base, lib, tool, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.pass(20 * DAY);
    world.push(&[&lib]).await.unwrap();
    let pruner = Pruner::new(&world);
    assert_eq!(pruner.run().await.removed.len(), 0);

    world.pass(20 * DAY);
    let summary = pruner.run().await;
    assert_eq!(summary.removed.len(), 2);
    assert_eq!(world.visible(), set(&[base, lib.clone()]));
    // Referrers go before what they refer to.
    assert_eq!(summary.removed, [app.hash_part(), tool.hash_part()]);

    // The NARs stay for their grace, and then go with the trash that names them.
    assert_eq!(world.keys("nar/").len(), 4);
    world.pass(6 * DAY);
    assert_eq!(pruner.run().await.nars, 0);
    world.pass(2 * DAY);
    let summary = pruner.run().await;
    assert_eq!((summary.nars, world.keys("nar/").len()), (2, 2));
    assert_eq!(world.keys("loft/v1/trash/"), Vec::<String>::new());
    assert_eq!(world.keys("loft/v1/sweep/"), Vec::<String>::new());
    assert_eq!(world.keys("loft/v1/probe/"), Vec::<String>::new());
    world.check();
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_tells_the_same() {
    let world = World::new();
    let [_, lib, _, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.pass(20 * DAY);
    world.push(&[&lib]).await.unwrap();
    world.pass(20 * DAY);
    let mut pruner = Pruner::new(&world);
    pruner.options.dry_run = true;
    world.bucket.forget_requests();
    let plan = pruner.plan().await.unwrap();
    assert_eq!((plan.counts.paths, plan.counts.expired, plan.counts.retired), (4, 2, 0));
    let names: Vec<String> = plan
        .removals()
        .await
        .unwrap()
        .into_iter()
        .map(|removal| removal.info.unwrap().path.name().to_owned())
        .collect();
    assert_eq!(names, ["app", "tool"]);
    let changing = world.bucket.requests().into_iter().filter(|sent| crate::support::world::changes(sent.kind)).count();
    assert_eq!(changing, 0);
}

#[tokio::test]
async fn more_than_half_goes_only_when_told_so() {
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.pass(40 * DAY);
    let mut pruner = Pruner::new(&world);
    let error = pruner.try_run().await.unwrap_err();
    assert!(matches!(error, PruneError::Refused(Refusal::TooMuch { condemned: 4, total: 4 })), "{error}");
    assert_eq!(world.visible().len(), 4);
    pruner.options.remove_most = true;
    assert_eq!(pruner.run().await.removed.len(), 4);
    assert_eq!(world.visible(), BTreeSet::new());
}

#[tokio::test]
async fn undo_brings_everything_back_under_new_keys() {
    let world = World::new();
    let paths = small(&world);
    world.push(&[&paths[3]]).await.unwrap();
    let before = world.keys("nar/");
    world.pass(40 * DAY);
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    let summary = pruner.run().await;
    let [id] = summary.trash[..] else { panic!("{summary:?}") };
    assert_eq!(world.visible(), BTreeSet::new());

    let undone = pruner.undo(id).await.unwrap();
    assert!(undone.paths.iter().all(|(_, restored)| *restored == Restored::Done), "{undone:?}");
    assert_eq!(world.visible(), set(&paths));
    let pointed_at: BTreeSet<String> = world.check().iter().map(|info| info.url.to_string()).collect();
    assert!(before.iter().all(|key| !pointed_at.contains(key)));
    // What came back is as young as if it had been pushed.
    assert_eq!(pruner.run().await.removed.len(), 0);
    let again = pruner.undo(id).await.unwrap();
    assert!(again.paths.iter().all(|(_, restored)| *restored == Restored::Present), "{again:?}");
    // The old NARs go when their grace has passed, and nothing else.
    world.pass(8 * DAY);
    assert_eq!(pruner.run().await.nars, 4);
    assert_eq!(world.visible(), set(&paths));
}

#[tokio::test]
async fn pins_hold_by_their_rules() {
    let world = World::new();
    let paths: Vec<_> =
        ["forever", "days", "old", "new"].map(|name| world.store.add(name).file("f", name).finish()).into();
    world.push(&paths.iter().collect::<Vec<_>>()).await.unwrap();
    let now = seconds(loft::clock::Clock::wall(world.clock.as_ref()));
    for (n, (path, name, keep)) in [
        (&paths[0], "a", Keep::Forever),
        (&paths[1], "b", Keep::Days(50)),
        (&paths[2], "c", Keep::Last(1)),
        (&paths[3], "c", Keep::Last(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let pin = PinRecord::new("test@here".into(), now, vec![path.clone()], keep).print();
        world.bucket.plant(&format!("loft/v1/pin/{name}/01ARZ3NDEKTSV4RRFFQ69G5FA{n}"), pin);
    }
    world.pass(40 * DAY);
    let pruner = Pruner::new(&world);
    pruner.run().await;
    assert_eq!(world.visible(), set(&[paths[0].clone(), paths[1].clone(), paths[3].clone()]));
    assert_eq!(world.keys("loft/v1/pin/c/").len(), 1);
    world.pass(20 * DAY);
    pruner.run().await;
    assert_eq!(world.visible(), set(&[paths[0].clone(), paths[3].clone()]));
}

#[tokio::test]
async fn a_bucket_that_is_too_large_loses_its_oldest_roots() {
    let world = World::new();
    let noise = |seed: u32| -> Vec<u8> {
        (0..25_000u32).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
    };
    let shared = world.store.add("shared").file("f", noise(99)).finish();
    let mut roots = Vec::new();
    for n in 0..6 {
        let own = world.store.add(&format!("own-{n}")).file("f", noise(n)).finish();
        let root = world.store.add(&format!("root-{n}")).file("f", b"x").reference(&own).reference(&shared).finish();
        world.push(&[&root]).await.unwrap();
        world.pass(2 * DAY);
        roots.push((root, own));
    }
    // Pushed again, the oldest is the youngest.
    world.push(&[&roots[0].0]).await.unwrap();
    world.pass(DAY + Duration::from_secs(1));
    let mut pruner = Pruner::new(&world);
    let bytes = pruner.plan().await.unwrap().counts.bytes;
    pruner.options.max_size = Some(MaxSize { max: bytes - 1, target: bytes * 70 / 100 });
    let plan = pruner.plan().await.unwrap();
    assert_eq!((plan.counts.expired, plan.counts.retired, plan.counts.is_still_too_large), (0, 6, false));
    assert!(plan.counts.bytes_kept <= bytes * 70 / 100);
    pruner.run().await;
    let left: Vec<bool> = roots.iter().map(|(root, _)| world.visible().contains(root)).collect();
    assert_eq!(left, [true, false, false, false, true, true]);
    assert!(world.visible().contains(&shared));
    // What was retired is not wanted any more, and the next prune has nothing to do.
    assert_eq!(pruner.run().await.removed.len(), 0);
    assert_eq!(world.keys("loft/v1/push/").len(), 4);

    // What may not go keeps the bucket large, and is told.
    pruner.options.max_size = Some(MaxSize { max: 1, target: 1 });
    world.push(&[&roots[0].0]).await.unwrap();
    let plan = pruner.plan().await.unwrap();
    assert!(plan.counts.is_still_too_large);
}

#[tokio::test]
async fn foreign_objects_are_never_touched() {
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let foreign =
        ["nix-cache-info", "index.html", "log/x.drv", "debuginfo/ab", "nar/a b", "other/nar/x.nar", "x.narinfo"];
    for key in &foreign[1..] {
        world.bucket.plant(key, &b"mine"[..]);
    }
    world.pass(400 * DAY);
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    pruner.run().await;
    world.pass(20 * DAY);
    pruner.run().await;
    let left: BTreeSet<String> = world.keys("").into_iter().collect();
    let mut expected: BTreeSet<String> = foreign.iter().map(|key| (*key).to_owned()).collect();
    expected.insert("loft/v1/bucket.json".to_owned());
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_second_prune_of_an_unchanged_bucket_reads_no_narinfo() {
    let world = World::new();
    let paths = chain(&world, 50);
    world.push(&[paths.last().unwrap()]).await.unwrap();
    let pruner = Pruner::new(&world);
    let read = || {
        world
            .bucket
            .requests()
            .iter()
            .filter(|sent| sent.kind == RequestKind::Get && sent.on.ends_with(".narinfo"))
            .count()
    };
    world.bucket.forget_requests();
    pruner.run().await;
    assert_eq!(read(), 50);
    world.bucket.forget_requests();
    pruner.run().await;
    assert_eq!(read(), 0);
}

/// A path of a foreign writer who has seen `reference` and writes his narinfo later: its key and bytes.
async fn still_to_come(world: &World, reference: &StorePath) -> (StorePath, String, Bytes) {
    let late = world.store.add("late").file("f", b"late").reference(reference).finish();
    world.push(&[&late]).await.unwrap();
    let key = format!("{}.narinfo", late.hash_part());
    let bytes = world.bucket.object(&key).unwrap();
    world.bucket.lose(&key);
    (late, key, bytes)
}

#[tokio::test]
async fn what_is_referred_to_again_comes_back_by_itself() {
    let world = World::new();
    let [base, lib, tool, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    // A foreign writer saw lib there, and writes its own path after the prune.
    let (late, key, bytes) = still_to_come(&world, &lib).await;
    world.pass(40 * DAY);
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    pruner.run().await;
    world.pass(DAY);
    world.bucket.plant(&key, bytes);
    let summary = pruner.run_broken().await;
    world.forgive();
    assert_eq!((summary.restored, summary.removed.len()), (2, 0));
    assert_eq!(world.visible(), set(&[base, lib, late]));
    let _ = (tool, app);
}

#[tokio::test]
async fn what_comes_back_by_itself_may_lie_in_several_trash_records() {
    let world = World::new();
    let [base, lib, ..] = small(&world);
    world.push(&[&lib]).await.unwrap();
    // A foreign writer saw lib there, and writes its own path after both prunes.
    let (late, key, bytes) = still_to_come(&world, &lib).await;
    world.pass(20 * DAY);
    world.push(&[&base]).await.unwrap();
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    world.pass(20 * DAY);
    assert_eq!(pruner.run().await.removed, [lib.hash_part()]);
    // The base goes with a later prune, into its own record.
    pruner.options.retention = 19 * DAY;
    assert_eq!(pruner.run().await.removed, [base.hash_part()]);
    pruner.options.retention = 30 * DAY;
    world.pass(DAY);
    world.bucket.plant(&key, bytes);
    let summary = pruner.run_broken().await;
    world.forgive();
    assert_eq!((summary.restored, summary.removed.len()), (2, 0));
    assert_eq!(world.visible(), set(&[base, lib, late]));
    world.check();
}

#[tokio::test]
async fn what_could_not_be_put_back_yet_is_not_deleted() {
    let world = World::new();
    let [base, lib, ..] = small(&world);
    world.push(&[&lib]).await.unwrap();
    let (late, key, bytes) = still_to_come(&world, &lib).await;
    world.pass(40 * DAY);
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    assert_eq!(pruner.run().await.removed.len(), 2);
    // The grace is over when the hole is found, and the first attempt to fill it fails.
    world.pass(8 * DAY);
    world.bucket.plant(&key, bytes);
    let narinfo = format!("{}.narinfo", base.hash_part());
    world.set_faults(move |moment, sent| {
        (moment == Moment::Before && sent.kind == RequestKind::Put && sent.on == narinfo).then_some(Fault::Denied)
    });
    let summary = pruner.try_run().await.unwrap();
    assert_eq!((summary.restored, summary.failed), (0, 2));
    world.set_faults(|_, _| None);
    let summary = pruner.run_broken().await;
    world.forgive();
    assert_eq!(summary.restored, 2);
    assert_eq!(world.visible(), set(&[base, lib, late]));
    world.check();
}

#[tokio::test]
async fn garbage_that_stays_is_counted_as_failed() {
    for on in ["loft/v1/push/", "loft/v1/trash/"] {
        let world = World::new();
        let [.., app] = small(&world);
        world.push(&[&app]).await.unwrap();
        let mut pruner = Pruner::new(&world);
        pruner.options.remove_most = true;
        world.pass(40 * DAY);
        world.set_faults(move |moment, sent| {
            let hit = moment == Moment::Before && sent.kind == RequestKind::Delete && sent.on.starts_with(on);
            hit.then_some(Fault::Denied)
        });
        let first = pruner.try_run().await.unwrap();
        world.pass(8 * DAY);
        let second = pruner.try_run().await.unwrap();
        assert_eq!(first.failed + second.failed, if on == "loft/v1/push/" { 2 } else { 1 }, "{on}");
    }
}

#[tokio::test]
async fn an_undo_that_is_interrupted_tells_what_came_back() {
    let world = World::new();
    let paths = chain(&world, 60);
    world.push(&[paths.last().unwrap()]).await.unwrap();
    world.pass(40 * DAY);
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    let id = pruner.run().await.trash[0];
    let (interrupt, copies) = (pruner.options.interrupt.clone(), std::sync::atomic::AtomicU64::new(0));
    world.set_faults(move |moment, sent| {
        let is_tenth = moment == Moment::After
            && sent.kind == RequestKind::Copy
            && copies.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 9;
        if is_tenth {
            interrupt.raise();
        }
        None
    });
    let mut undone = Undone::default();
    let result = loft::prune::undo(&pruner.ends(), &pruner.options, id, &mut undone).await;
    assert!(matches!(result, Err(PruneError::Interrupted)), "{result:?}");
    let done = undone.paths.iter().filter(|(_, restored)| *restored == Restored::Done).count();
    assert!((10..60).contains(&done), "{done}");
    assert_eq!(world.visible().len(), done);
    assert_eq!(world.keys("loft/v1/lease/"), Vec::<String>::new());
    world.check();
}

#[tokio::test]
async fn a_prune_that_is_refused_half_way_tells_what_it_has_done() {
    let world = World::new();
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    world.pass(40 * DAY);
    let mut pruner = Pruner::new(&world);
    pruner.options.remove_most = true;
    pruner.run().await;
    world.push(&[chain(&world, 3).last().unwrap()]).await.unwrap();
    world.pass(40 * DAY);
    let plan = pruner.plan().await.unwrap();
    assert_eq!((plan.counts.expired, plan.counts.due), (3, 4));
    // What it may keep is unknown, and it comes between the sweep and the look for garbage.
    let bucket = world.bucket.clone();
    world.set_faults(move |moment, sent| {
        if moment == Moment::After && sent.kind == RequestKind::Delete && sent.on.starts_with("loft/v1/sweep/") {
            bucket.plant("loft/v1/pin/a/01ARZ3NDEKTSV4RRFFQ69G5FAV", &b"garbage"[..]);
        }
        None
    });
    let mut summary = Summary::default();
    let result = loft::prune::carry_out(&pruner.ends(), &pruner.options, plan, &mut summary).await;
    assert!(matches!(result, Err(PruneError::Refused(Refusal::Unreadable { .. }))), "{result:?}");
    assert_eq!((summary.removed.len(), summary.nars, summary.trash.len()), (3, 0, 1));
}

#[tokio::test]
async fn refusals_delete_nothing() {
    let world = World::new();
    let refused = async |world: &World| Pruner::new(world).try_run().await.map(drop).unwrap_err();
    // An empty bucket.
    assert!(matches!(refused(&world).await, PruneError::Refused(Refusal::NoCache(_))));
    let [.., app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let before = world.bucket.contents();

    // Clocks.
    for off in [10 * 60, 86_400] {
        for ahead in [true, false] {
            let mut pruner = Pruner::new(&world);
            let now = loft::clock::Clock::wall(world.clock.as_ref());
            let off = Duration::from_secs(off);
            let clock = std::sync::Arc::new(crate::support::time::TestClock::default());
            clock.set_wall(if ahead { now + off } else { now - off });
            pruner.clock = clock;
            let error = pruner.try_run().await.unwrap_err();
            assert!(matches!(error, PruneError::Refused(Refusal::Clock(_))), "{error}");
        }
    }
    assert_eq!(world.bucket.contents(), before);

    // A newer format.
    world.bucket.plant("loft/v1/bucket.json", &br#"{"format":2,"generation":"x","created":1}"#[..]);
    assert!(matches!(refused(&world).await, PruneError::Record(_)));
    world.bucket.plant("loft/v1/bucket.json", before[&loft::bucket::Key::bucket_record()].clone());

    // Another sweep; records that cannot be read.
    for key in [
        "loft/v1/sweep/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "loft/v1/lease/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "loft/v1/push/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "loft/v1/pin/a/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ] {
        world.bucket.plant(key, &b"garbage"[..]);
        let error = refused(&world).await;
        assert!(
            matches!(error, PruneError::Refused(Refusal::OtherSweep { .. } | Refusal::Unreadable { .. })),
            "{key}: {error}"
        );
        assert!(error.to_string().contains(key), "{error}");
        world.bucket.lose(key);
    }

    // A listing that fails half-way.
    world.pass(40 * DAY);
    world.set_faults(|moment, sent| {
        let fails = sent.kind == RequestKind::List && sent.on.is_empty() && moment == Moment::After;
        fails.then_some(crate::support::memory::Fault::Denied)
    });
    assert!(matches!(refused(&world).await, PruneError::Bucket(_)));
    world.set_faults(|_, _| None);
    assert_eq!(world.bucket.contents(), before);
}

#[tokio::test]
async fn damaged_narinfos_stay_with_all_that_they_may_need() {
    let world = World::new();
    let [base, lib, tool, app] = small(&world);
    world.push(&[&app]).await.unwrap();
    let key = format!("{}.narinfo", lib.hash_part());
    let text = String::from_utf8(world.bucket.contents()[&loft::bucket::Key::listed(&key)].to_vec()).unwrap();
    world.bucket.plant(&key, text.replace("Compression: zstd", "Compression: lz99"));
    world.pass(40 * DAY);
    let pruner = Pruner::new(&world);
    let summary = pruner.run_broken().await;
    assert_eq!(summary.removed.len(), 2);
    world.pass(10 * DAY);
    pruner.run_broken().await;
    world.bucket.plant(&key, text);
    world.forgive();
    assert_eq!(world.visible(), set(&[base, lib]));
    let _ = (tool, app);
}

#[tokio::test]
async fn a_nar_that_was_wanted_in_between_has_its_whole_grace_again() {
    let world = World::new();
    let path = world.store.add("p").file("f", b"f").finish();
    let rest = chain(&world, 3);
    world.push(&[&path, rest.last().unwrap()]).await.unwrap();
    let key = format!("{}.narinfo", path.hash_part());
    let bytes = world.bucket.contents()[&loft::bucket::Key::listed(&key)].clone();
    let pin = PinRecord::new("test@here".into(), 1, vec![rest[2].clone()], Keep::Forever).print();
    world.bucket.plant("loft/v1/pin/rest/01ARZ3NDEKTSV4RRFFQ69G5FAV", pin);
    let pruner = Pruner::new(&world);
    // Some other program removes the narinfo, and writes it again six days later with the same URL.
    world.bucket.lose(&key);
    world.pass(2 * DAY);
    pruner.run().await;
    world.pass(6 * DAY);
    world.bucket.plant(&key, bytes);
    world.pass(35 * DAY);
    // It goes by its age; whoever has seen it may fetch it for a week from now.
    assert_eq!(pruner.run().await.removed, [path.hash_part()]);
    world.pass(6 * DAY);
    assert_eq!(pruner.run().await.nars, 0);
    world.pass(2 * DAY);
    assert_eq!(pruner.run().await.nars, 1);
}

#[tokio::test]
async fn a_look_that_takes_long_does_not_take_new_pushes_for_the_future() {
    let world = World::new();
    let paths = chain(&world, 3);
    world.push(&[&paths[2]]).await.unwrap();
    let (ours, theirs) = (world.clock.clone(), world.bucket.clock.clone());
    world.set_faults(move |moment, sent| {
        // Ten minutes for each narinfo; the last one is rewritten meanwhile.
        if moment == Moment::After && sent.on.ends_with(".narinfo") {
            ours.advance(Duration::from_secs(600));
            theirs.advance(Duration::from_secs(600));
        }
        None
    });
    let bucket = world.bucket.clone();
    let key = format!("{}.narinfo", paths[0].hash_part());
    let bytes = bucket.contents()[&loft::bucket::Key::listed(&key)].clone();
    let pruner = Pruner::new(&world);
    let plan = pruner.plan().await.unwrap();
    bucket.plant(&key, bytes);
    loft::prune::carry_out(&pruner.ends(), &pruner.options, plan, &mut Summary::default()).await.unwrap();
}

#[tokio::test]
async fn a_hundred_thousand_nars_that_nothing_points_at_go_after_their_grace() {
    let world = World::new();
    let paths = chain(&world, 3);
    world.push(&[&paths[2]]).await.unwrap();
    // Looking at all of it after each of so many requests would take for ever.
    world.bucket.clear_hook();
    let orphans = 100_500;
    for n in 0..orphans {
        world
            .bucket
            .plant(&format!("nar/{}.nar.xz", loft::nix::Sha256::of(&u32::to_le_bytes(n)).to_nix32()), &b"x"[..]);
    }
    let pruner = Pruner::new(&world);
    world.pass(2 * DAY);
    let plan = pruner.plan().await.unwrap();
    assert_eq!((plan.counts.due, plan.counts.expired), (0, 0));
    assert_eq!(pruner.run().await.nars, 0);
    world.pass(8 * DAY);
    assert_eq!(pruner.run().await.nars, 100_000);
    // What was more than one prune bears is recorded by the next one, and goes a week after that.
    pruner.run().await;
    world.pass(8 * DAY);
    assert_eq!(pruner.run().await.nars, 500);
    assert_eq!(world.visible(), set(&paths));
    assert_eq!(world.keys("nar/").len(), 3);
}
