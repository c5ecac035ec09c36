//! A large NAR that was cut short is gone on with: what the bucket has is not sent again, and what lands verifies.

use crate::support::memory::{Fault, Memory, Moment};
use crate::support::world::World;
use loft::bucket::RequestKind;
use loft::nix::{Compression, StorePath};
use loft::plan::Request;
use loft::push::{Ends, Interrupt};
use loft::report::Outcome;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

const MIB: usize = 1 << 20;
const PART: usize = 8 * MIB;
/// Of the NAR below: five full ones and a rest.
const PARTS: usize = 6;
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// Does not compress: what it repeats is further back than compressors look here.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len.max(3 * MIB));
    while bytes.len() < len.min(3 * MIB) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    let block = bytes.len();
    while bytes.len() < len {
        bytes.extend_from_within(..block.min(len - bytes.len()));
    }
    bytes.truncate(len);
    bytes
}

fn large(world: &World) -> StorePath {
    world.store.add("large").file("noise", noise(1, 40 * MIB + 5)).finish()
}

fn only(path: &StorePath) -> BTreeSet<StorePath> {
    [path.clone()].into()
}

/// Pushes and drops everything once the bucket has `parts` of the parts, or all and is asked to finish.
async fn killed_after(world: &World, path: &StorePath, parts: usize) {
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let bell = Arc::new(Notify::new());
    let ring = bell.clone();
    world.set_faults(move |moment, request| {
        let stop = match (request.kind, moment) {
            (RequestKind::UploadPart, Moment::Before) => begun.fetch_add(1, Ordering::SeqCst) >= parts,
            (RequestKind::UploadPart, Moment::After) => {
                done.fetch_add(1, Ordering::SeqCst);
                false
            }
            (RequestKind::CompleteUpload, Moment::Before) => true,
            _ => false,
        };
        let all_there = done.load(Ordering::SeqCst) == parts;
        // With some parts missing, nothing but them may come next, and it may not come at all.
        if all_there && (stop || (1..PARTS).contains(&parts)) {
            ring.notify_one();
        }
        stop.then_some(Fault::Delay(FOR_EVER))
    });
    let roots = [path];
    tokio::select! {
        result = world.push(&roots) => panic!("it was to be killed: {result:?}"),
        () = bell.notified() => {}
    }
    world.set_faults(|_, _| None);
    assert_eq!((world.bucket.open_parts(), world.visible()), (vec![parts], BTreeSet::new()));
}

fn opaque(mut bucket: Memory, opaque_etags: bool) -> Memory {
    bucket.opaque_etags = opaque_etags;
    bucket
}

/// What a push asked of the bucket about uploads.
#[derive(Debug, PartialEq)]
struct Asked {
    listings: usize,
    looks: usize,
    begun: usize,
    parts: usize,
    finished: usize,
    aborted: usize,
}

fn asked(world: &World) -> Asked {
    let count = |kind| world.bucket.count(kind);
    Asked {
        listings: count(RequestKind::ListUploads),
        looks: count(RequestKind::ListParts),
        begun: count(RequestKind::CreateUpload),
        parts: count(RequestKind::UploadPart),
        finished: count(RequestKind::CompleteUpload),
        aborted: count(RequestKind::AbortUpload),
    }
}

const AFRESH: Asked = Asked { listings: 1, looks: 0, begun: 1, parts: PARTS, finished: 1, aborted: 0 };

fn resumed(parts: usize) -> Asked {
    Asked { looks: 1, begun: 0, parts, ..AFRESH }
}

/// Pushes; the path must land, and verify (the world's oracle looks at everything).
async fn lands(world: &World, path: &StorePath) -> u64 {
    let summary = world.push(&[path]).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (1, 0), "{:?}", world.outcome(path));
    assert_eq!(world.visible(), only(path));
    summary.file_size
}

#[tokio::test]
async fn parts_that_the_bucket_has_are_not_sent_again() {
    for profile in [Memory::garage, Memory::aws] {
        for parts in 0..=PARTS {
            let world = World::with(profile());
            let path = large(&world);
            killed_after(&world, &path, parts).await;
            let there = world.bucket.open_bytes();
            let sent = lands(&world, &path).await;
            assert_eq!(asked(&world), resumed(PARTS - parts), "killed after {parts} parts");
            assert_eq!(sent + there, world.check()[0].file_size.unwrap());
            assert_eq!((world.keys("nar/").len(), world.bucket.open_parts()), (1, vec![]));
            assert_eq!(*world.watcher.warnings.lock().unwrap(), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn it_can_be_killed_again_and_again_and_on_another_machine() {
    let mut world = World::new();
    let path = large(&world);
    killed_after(&world, &path, 2).await;
    world.ledger = Arc::new(loft::ledger::Ledger::in_memory());
    // Two more on top of the two.
    let done = Arc::new(AtomicUsize::new(0));
    let bell = Arc::new(Notify::new());
    let ring = bell.clone();
    world.set_faults(move |moment, request| {
        let part = request.kind == RequestKind::UploadPart;
        if part && moment == Moment::After && done.fetch_add(1, Ordering::SeqCst) == 1 {
            ring.notify_one();
        }
        (part && moment == Moment::Before && request.part > Some(4)).then_some(Fault::Delay(FOR_EVER))
    });
    let roots = [&path];
    tokio::select! {
        result = world.push(&roots) => panic!("{result:?}"),
        () = bell.notified() => {}
    }
    assert_eq!(world.bucket.open_parts(), [4]);
    world.set_faults(|_, _| None);
    world.ledger = Arc::new(loft::ledger::Ledger::in_memory());
    lands(&world, &path).await;
    assert_eq!(asked(&world), resumed(2));
}

#[tokio::test]
async fn another_setting_starts_afresh() {
    for (compression, level) in [(Compression::Zstd, Some(2)), (Compression::Zstd, None), (Compression::None, None)] {
        let mut world = World::new();
        let path = large(&world);
        killed_after(&world, &path, 3).await;
        world.options.packing.compression = compression;
        world.options.packing.level = level;
        lands(&world, &path).await;
        assert_eq!(asked(&world), AFRESH, "{compression} {level:?}");
        // What nobody has use for any more stays for prune; it may be another machine's.
        assert_eq!(world.bucket.open_parts(), [3]);
    }
}

#[tokio::test]
async fn a_push_with_other_threads_makes_the_bytes_that_are_there() {
    for (first, second) in [(1, 8), (8, 1)] {
        let mut world = World::new();
        let path = large(&world);
        world.options.upload_threads = NonZeroUsize::new(first).unwrap();
        killed_after(&world, &path, 3).await;
        world.options.upload_threads = NonZeroUsize::new(second).unwrap();
        lands(&world, &path).await;
        assert_eq!(asked(&world), resumed(3), "{first}, then {second}");
    }
}

#[tokio::test]
async fn what_is_not_compressed_is_gone_on_with_as_well() {
    let mut world = World::new();
    let path = large(&world);
    world.options.packing.compression = Compression::None;
    killed_after(&world, &path, 4).await;
    lands(&world, &path).await;
    assert_eq!(asked(&world), resumed(2));
}

#[tokio::test]
async fn other_contents_start_afresh() {
    let world = World::new();
    killed_after(&world, &large(&world), 3).await;
    let other = world.store.add("large").file("noise", noise(2, 40 * MIB + 5)).finish();
    lands(&world, &other).await;
    assert_eq!(asked(&world), AFRESH);
}

#[tokio::test]
async fn damaged_files_are_not_published_and_mended_ones_are() {
    let world = World::new();
    let path = large(&world);
    killed_after(&world, &path, 3).await;
    let file = world.store.real_path(&path).join("noise");
    let mut bytes = noise(1, 40 * MIB + 5);
    bytes[12 * MIB] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let summary = world.push(&[&path]).await.unwrap();
    assert_eq!((summary.failed, world.visible()), (1, BTreeSet::new()));
    assert!(matches!(world.outcome(&path), Outcome::Failed { why, .. } if why.contains("NarHash")));
    // Others may still need it.
    assert_eq!(world.bucket.count(RequestKind::AbortUpload), 0);
    std::fs::write(&file, noise(1, 40 * MIB + 5)).unwrap();
    lands(&world, &path).await;
    let asked = asked(&world);
    assert!(asked.begun == 0 && (1..PARTS).contains(&asked.parts), "{asked:?}");
}

#[tokio::test]
async fn what_damaged_files_began_is_aborted() {
    let world = World::new();
    let path = large(&world);
    std::fs::write(world.store.real_path(&path).join("noise"), noise(3, 40 * MIB + 5)).unwrap();
    assert_eq!(world.push(&[&path]).await.unwrap().failed, 1);
    assert_eq!((asked(&world).begun, asked(&world).aborted, world.bucket.open_parts()), (1, 1, vec![]));
}

#[tokio::test]
async fn an_upload_of_more_than_a_day_ago_is_left_alone() {
    for (hours, begun) in [(23, 0), (24, 1)] {
        let world = World::new();
        let path = large(&world);
        killed_after(&world, &path, 3).await;
        // The store's clock counts; ours is a month off.
        world.clock.advance(Duration::from_secs(30 * 86_400));
        world.bucket.clock.advance(Duration::from_secs(hours * 3600));
        lands(&world, &path).await;
        assert_eq!(asked(&world).begun, begun, "after {hours} hours");
    }
}

#[tokio::test]
async fn the_newest_upload_is_gone_on_with() {
    let world = World::new();
    let path = large(&world);
    killed_after(&world, &path, 1).await;
    let old = world.bucket.open_parts();
    // A second one, from somebody who could not see the first.
    world.bucket.clock.advance(Duration::from_secs(60));
    let bell = Arc::new(Notify::new());
    let ring = bell.clone();
    world.set_faults(move |moment, request| match request.kind {
        RequestKind::ListUploads if moment == Moment::Before => Some(Fault::Denied),
        RequestKind::UploadPart if request.part > Some(4) => Some(Fault::Delay(FOR_EVER)),
        RequestKind::UploadPart if moment == Moment::After && request.part == Some(4) => {
            ring.notify_one();
            None
        }
        _ => None,
    });
    let roots = [&path];
    tokio::select! {
        result = world.push(&roots) => panic!("{result:?}"),
        () = bell.notified() => {}
    }
    let both = world.bucket.open_parts();
    assert!(old == [1] && both.len() == 2 && both.iter().max() > Some(&2), "{both:?}");
    world.set_faults(|_, _| None);
    lands(&world, &path).await;
    assert_eq!(asked(&world), resumed(PARTS - both.iter().max().unwrap()));
    assert_eq!(world.bucket.open_parts(), [1]);
}

#[tokio::test]
async fn garbage_under_a_fitting_name_is_sent_over() {
    let world = World::new();
    let path = large(&world);
    killed_after(&world, &path, 2).await;
    world.bucket.plant_part(2, noise(9, PART));
    world.bucket.plant_part(3, noise(9, PART - 1));
    world.bucket.plant_part(PARTS as u32, noise(9, 10));
    world.bucket.plant_part(PARTS as u32 + 1, noise(9, 10));
    lands(&world, &path).await;
    assert_eq!(asked(&world), resumed(PARTS - 1));
}

#[tokio::test]
async fn etags_that_are_no_md5_cost_the_resumption_alone() {
    let world = World::with(opaque(Memory::garage(), true));
    let path = large(&world);
    killed_after(&world, &path, 3).await;
    lands(&world, &path).await;
    assert_eq!(asked(&world), resumed(PARTS));
}

#[tokio::test]
async fn a_look_that_fails_costs_the_resumption_alone() {
    for kind in [RequestKind::ListUploads, RequestKind::ListParts] {
        let world = World::new();
        let path = large(&world);
        killed_after(&world, &path, 3).await;
        world.set_faults(move |_, request| (request.kind == kind).then_some(Fault::Denied));
        lands(&world, &path).await;
        assert_eq!((asked(&world).begun, asked(&world).parts), (1, PARTS), "{kind:?}");
        assert_eq!(*world.watcher.warnings.lock().unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_upload_that_vanishes_is_begun_anew() {
    let parts = [RequestKind::ListParts, RequestKind::UploadPart, RequestKind::CompleteUpload];
    // Both an upload that was gone on with, and one that this very push began.
    for (kind, killed) in parts.iter().flat_map(|kind| [(*kind, true), (*kind, false)]) {
        if kind == RequestKind::ListParts && !killed {
            continue;
        }
        let world = World::new();
        let path = large(&world);
        if killed {
            killed_after(&world, &path, 2).await;
        }
        let (bucket, once) = (Arc::downgrade(&world.bucket), AtomicUsize::new(0));
        world.set_faults(move |moment, request| {
            let now = request.kind == kind && moment == Moment::Before && request.part.is_none_or(|part| part == 4);
            if now && once.fetch_add(1, Ordering::SeqCst) == 0 {
                bucket.upgrade().unwrap().lose_uploads();
            }
            None
        });
        lands(&world, &path).await;
        assert_eq!(asked(&world).begun, 1 + usize::from(!killed), "{kind:?}, killed before: {killed}");
        assert_eq!((world.keys("nar/").len(), world.bucket.open_parts()), (1, vec![]));
    }
}

#[tokio::test]
async fn bytes_that_somebody_else_put_in_between_do_not_land() {
    let world = World::new();
    let path = large(&world);
    killed_after(&world, &path, 2).await;
    let (bucket, once) = (Arc::downgrade(&world.bucket), AtomicUsize::new(0));
    world.set_faults(move |moment, request| {
        let finishing = request.kind == RequestKind::CompleteUpload && moment == Moment::Before;
        if finishing && once.fetch_add(1, Ordering::SeqCst) == 0 {
            bucket.upgrade().unwrap().plant_part(2, noise(9, PART));
        }
        None
    });
    lands(&world, &path).await;
    assert_eq!(asked(&world).begun, 1);
}

fn silent(world: &World) -> Ends {
    Ends { report: Arc::new(loft::report::Silent), ..world.ends() }
}

#[tokio::test]
async fn two_machines_may_go_on_with_the_same_upload() {
    for opaque_etags in [false, true] {
        for profile in [Memory::garage, Memory::aws] {
            let world = World::with(opaque(profile(), opaque_etags));
            let path = large(&world);
            killed_after(&world, &path, 2).await;
            world.bucket.forget_requests();
            let (a, b) = (silent(&world), silent(&world));
            let request = || Request::Closures(vec![path.clone()]);
            let (a, b) = tokio::join!(
                loft::push::run(&a, &world.options, request()),
                loft::push::run(&b, &world.options, request()),
            );
            assert_eq!((a.unwrap().failed, b.unwrap().failed), (0, 0));
            assert_eq!((world.visible(), asked(&world).looks), (only(&path), 2));
            if !opaque_etags {
                let asked = asked(&world);
                assert!(asked.begun == 0 && asked.parts <= 2 * (PARTS - 2), "{asked:?}");
                assert_eq!((world.keys("nar/").len(), world.bucket.open_parts()), (1, vec![]));
            }
        }
    }
}

#[tokio::test]
async fn who_is_overtaken_finds_the_object_and_sends_nothing_twice() {
    let world = World::new();
    let path = large(&world);
    let (held, overtaken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ring, go_on, once) = (held.clone(), overtaken.clone(), Arc::new(AtomicUsize::new(0)));
    world.bucket.set_hook(Arc::new(move |moment, request| {
        let fourth = request.kind == RequestKind::UploadPart && request.part == Some(4) && moment == Moment::Before;
        let hold = fourth && once.fetch_add(1, Ordering::SeqCst) == 0;
        let (ring, go_on) = (ring.clone(), go_on.clone());
        Box::pin(async move {
            if hold {
                ring.notify_one();
                go_on.notified().await;
            }
            None
        })
    }));
    let (slow, quick) = (silent(&world), silent(&world));
    let request = || Request::Closures(vec![path.clone()]);
    let (slow, quick) = tokio::join!(loft::push::run(&slow, &world.options, request()), async {
        held.notified().await;
        let quick = loft::push::run(&quick, &world.options, request()).await;
        overtaken.notify_one();
        quick
    });
    assert_eq!((slow.unwrap().failed, quick.unwrap().failed), (0, 0));
    assert_eq!((world.visible(), world.keys("nar/").len()), (only(&path), 1));
    assert_eq!(asked(&world).begun, 1, "the slow one alone began an upload");
}

#[tokio::test]
async fn what_an_interruption_or_an_error_leaves_is_gone_on_with() {
    for interrupted in [true, false] {
        let mut world = World::new();
        let path = large(&world);
        // Three parts: the encoder cannot be through when the third is sent.
        world.options.memory_limit = 24 << 20;
        let interrupt = world.options.interrupt.clone();
        world.set_faults(move |moment, request| {
            let part = request.part.filter(|_| request.kind == RequestKind::UploadPart && moment == Moment::Before);
            if interrupted && part == Some(3) {
                interrupt.raise();
            }
            (!interrupted && part > Some(4)).then_some(Fault::Denied)
        });
        let summary = world.push(&[&path]).await.unwrap();
        assert_eq!((summary.interrupted, summary.failed), (u64::from(interrupted), u64::from(!interrupted)));
        let there = world.bucket.open_parts();
        // What was on its way when the wish came has arrived.
        assert!(there.len() == 1 && there[0] >= if interrupted { 3 } else { 1 }, "{there:?}");
        world.options.interrupt = Interrupt::default();
        world.set_faults(|_, _| None);
        lands(&world, &path).await;
        assert_eq!(asked(&world), resumed(PARTS - there[0]));
    }
}

#[tokio::test]
async fn one_listing_is_all_that_an_ordinary_push_pays() {
    let world = World::new();
    let small = world.store.add("small").file("noise", noise(4, 31 * MIB)).finish();
    world.push(&[&small]).await.unwrap();
    assert_eq!(asked(&world).listings, 0, "no NAR is large");

    let large = [5, 6, 7].map(|seed| world.store.add("large").file("noise", noise(seed, 33 * MIB)).finish());
    assert_eq!(world.push(&large.each_ref()).await.unwrap().pushed, 3);
    assert_eq!((asked(&world).listings, asked(&world).looks, asked(&world).begun), (1, 0, 3));

    world.push(&large.each_ref()).await.unwrap();
    assert_eq!(asked(&world).listings, 0, "nothing is to be uploaded");
    // Compresses into one part.
    let zeros = world.store.add("zeros").file("zeros", vec![0; 40 * MIB]).finish();
    world.push(&[&zeros]).await.unwrap();
    assert_eq!((asked(&world).listings, asked(&world).looks, asked(&world).begun), (1, 0, 0));
}

/// A directory has no MD5: all is sent again, into the upload that was there.
#[tokio::test]
async fn a_directory_is_no_worse_for_it() {
    use loft::bucket::{Bucket as _, Directory, Headers, Prefix};
    let world = World::new();
    let path = large(&world);
    let folder = tempfile::tempdir().unwrap();
    let directory = Arc::new(Directory::new(folder.path().to_owned(), Arc::new(loft::clock::SystemClock)));
    // The key is the one that a killed push chose.
    killed_after(&world, &path, 0).await;
    let (open, _) = world.bucket.list_uploads(&Prefix::all()).await.unwrap().remove(0);
    let open = directory.start_upload(&open.key, Headers::NAR).await.unwrap();
    directory.put_part(&open, 1, bytes::Bytes::from(noise(9, PART)).into()).await.unwrap();
    let ends = Ends { bucket: directory.clone(), ..silent(&world) };
    let summary = loft::push::run(&ends, &world.options, Request::Closures(vec![path.clone()])).await.unwrap();
    assert_eq!((summary.pushed, summary.failed), (1, 0));
    assert_eq!(directory.list_uploads(&Prefix::all()).await.unwrap(), []);
    let stored = std::fs::read(folder.path().join(open.key.as_str())).unwrap();
    let packed = loft::nar::verify(&stored[..], Compression::Zstd, 1 << 30).unwrap();
    assert_eq!(packed.nar_hash, world.store.info(&path).nar_hash);
}
