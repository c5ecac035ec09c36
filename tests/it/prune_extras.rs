//! What prunes and undos do with logs, listings and links to debug information.

use crate::support::checking::nar_key;
use crate::support::memory::{Fault, Moment};
use crate::support::pruning::{DAY, Pruner};
use crate::support::world::World;
use bytes::Bytes;
use loft::bucket::{Body, Bucket as _, Headers, Key, RequestKind};
use loft::nix::{BuildId, DebugLink, NarUrl, Sha256, StorePath};
use loft::prune::{PruneError, Restored};
use loft::record::{Keep, LeaseRecord, PinRecord, seconds};
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

const HOUR: Duration = Duration::from_secs(3600);

/// A path that was pushed, and what stands beside it.
struct Extra {
    path: StorePath,
    log: String,
    listing: String,
    link: String,
    id: BuildId,
}

impl Extra {
    async fn pushed(world: &World, name: &str) -> Self {
        let derivation = world.store.missing(&format!("{name}.drv"));
        let path = world.store.add(name).file("f", name).deriver(&derivation).finish();
        world.push(&[&path]).await.unwrap();
        let id = BuildId::parse(&Sha256::of(name.as_bytes()).to_hex()[..40]).unwrap();
        let extra = Self {
            log: Key::log(&derivation).to_string(),
            listing: Key::listing(&path.hash_part()).to_string(),
            link: Key::debug_info(&id).to_string(),
            path,
            id,
        };
        extra.write(world);
        extra
    }

    /// As a push of it does.
    fn write(&self, world: &World) {
        world.bucket.plant(&self.log, "built");
        world.bucket.plant(&self.listing, "{}");
        self.point_at(world, &nar_key(world, &self.path));
    }

    fn point_at(&self, world: &World, nar: &str) {
        let link = DebugLink { nar: NarUrl::parse(nar).unwrap(), id: self.id.clone() };
        world.bucket.plant(&self.link, link.print());
    }

    fn points_at(&self, world: &World) -> String {
        let bytes = world.bucket.object(&self.link).unwrap();
        DebugLink::parse(&self.id, &bytes).unwrap().nar.to_string()
    }

    /// Log, listing, link.
    fn are_there(&self, world: &World) -> [bool; 3] {
        [&self.log, &self.listing, &self.link].map(|key| world.bucket.object(key).is_some())
    }
}

/// Something that stays, so that prunes need not remove most.
async fn pinned(world: &World) -> Extra {
    let extra = Extra::pushed(world, "pinned").await;
    let pin = PinRecord::new("test@here".into(), 1, vec![extra.path.clone()], Keep::Forever).print();
    world.bucket.plant("loft/v1/pin/rest/01ARZ3NDEKTSV4RRFFQ69G5FAV", pin);
    extra
}

/// Once what is not pinned is past its retention: the prune that removes it, to be undone.
async fn removed(world: &World, pruner: &Pruner<'_>) -> Ulid {
    world.pass(40 * DAY);
    let [id] = pruner.run().await.trash[..] else { panic!("not one sweep") };
    id
}

const ALL: [bool; 3] = [true; 3];
const NONE: [bool; 3] = [false; 3];

#[tokio::test]
async fn they_stay_for_as_long_as_their_path_can_be_put_back() {
    let world = World::new();
    let kept = pinned(&world).await;
    let gone = Extra::pushed(&world, "gone").await;
    let pruner = Pruner::new(&world);
    world.pass(40 * DAY);
    assert_eq!(pruner.run().await.removed, [gone.path.hash_part()]);
    assert_eq!(gone.are_there(&world), ALL);
    world.pass(6 * DAY);
    pruner.run().await;
    assert_eq!(gone.are_there(&world), ALL);
    // The NAR goes with the trash record; the next prune finds that nothing needs them any more.
    world.pass(2 * DAY);
    assert_eq!(pruner.run().await.nars, 1);
    let plan = pruner.plan().await.unwrap();
    assert_eq!((plan.counts.records, gone.are_there(&world)), (3, ALL));
    assert_eq!(pruner.run().await.records, 3);
    assert_eq!((gone.are_there(&world), kept.are_there(&world)), (NONE, ALL));
    assert_eq!(pruner.run().await.records, 0);
}

#[tokio::test]
async fn what_is_put_back_has_them_again() {
    let world = World::new();
    let kept = pinned(&world).await;
    let gone = Extra::pushed(&world, "gone").await;
    let before = nar_key(&world, &gone.path);
    let pruner = Pruner::new(&world);
    let id = removed(&world, &pruner).await;
    world.pass(3 * DAY);
    world.bucket.forget_requests();
    pruner.undo(id).await.unwrap();
    let after = nar_key(&world, &gone.path);
    assert_ne!(before, after);
    assert_eq!((gone.points_at(&world), kept.points_at(&world)), (after, nar_key(&world, &kept.path)));
    let requests = world.bucket.requests();
    assert_eq!(requests.iter().filter(|sent| sent.on == "debuginfo/").count(), 1);
    // Long after the old NAR and the trash record have gone, all is there.
    for _ in 0..3 {
        world.pass(9 * DAY);
        pruner.run().await;
    }
    assert!(world.bucket.object(&before).is_none());
    assert_eq!(gone.are_there(&world), ALL);
}

#[tokio::test]
async fn an_undo_that_cannot_write_links_warns_and_the_next_prune_writes_them() {
    let world = World::new();
    pinned(&world).await;
    let gone = Extra::pushed(&world, "gone").await;
    let pruner = Pruner::new(&world);
    let id = removed(&world, &pruner).await;
    let on = gone.link.clone();
    world.set_faults(move |moment, sent| {
        let hit = moment == Moment::Before && sent.kind == RequestKind::Put && sent.on == on;
        hit.then_some(Fault::Denied)
    });
    let undone = pruner.undo(id).await.unwrap();
    assert_eq!(undone.paths, [(gone.path.hash_part(), Restored::Done)]);
    let warnings = world.watcher.warnings.lock().unwrap().clone();
    assert!(warnings.iter().any(|warning| warning.contains("debug information")), "{warnings:?}");
    let old = gone.points_at(&world);
    assert_ne!(old, nar_key(&world, &gone.path));
    // As long as the link cannot be written, the NAR that it names stays, however old.
    world.pass(10 * DAY);
    let summary = pruner.try_run().await.unwrap();
    assert_eq!((summary.nars, summary.failed), (0, 1), "{summary:?}");
    assert!(world.bucket.object(&old).is_some());
    world.set_faults(|_, _| None);
    assert_eq!(pruner.run().await.nars, 1);
    assert_eq!(gone.points_at(&world), nar_key(&world, &gone.path));
    assert_eq!(gone.are_there(&world), ALL);
}

#[tokio::test]
async fn a_link_follows_the_narinfo_where_two_pushes_sent_the_same() {
    let world = World::new();
    pinned(&world).await;
    let path = Extra::pushed(&world, "path").await;
    // The narinfo of one push won, and the link of the other.
    let (won, bytes) = (nar_key(&world, &path.path), world.bucket.object(&nar_key(&world, &path.path)).unwrap());
    let (content, _) = won.split_once('-').unwrap();
    let lost = format!("{content}-01arz3ndektsv4rrffq69g5fav.nar.zst");
    world.bucket.plant(&lost, bytes);
    path.point_at(&world, &lost);
    let pruner = Pruner::new(&world);
    world.pass(2 * DAY);
    pruner.run().await;
    assert_eq!(path.points_at(&world), won);
    world.pass(8 * DAY);
    assert_eq!(pruner.run().await.nars, 1);
    pruner.run().await;
    assert_eq!(path.are_there(&world), ALL);
}

#[tokio::test]
async fn what_others_have_put_there_lives_for_the_retention() {
    let world = World::new();
    pinned(&world).await;
    let log = Key::log(&world.store.missing("failed.drv")).to_string();
    world.bucket.plant(&log, "it failed");
    let id = "07ff23386799818e59ab23df9d6e5da46ac0d251";
    let [nix, odd] = [format!("debuginfo/{id}.debug"), format!("debuginfo/{}", id.replace('0', "1"))];
    let nar = NarUrl::parse("nar/1h1d.nar.xz").unwrap();
    world.bucket.plant(&nix, DebugLink { nar, id: BuildId::parse(id).unwrap() }.print());
    world.bucket.plant(&odd, "{}");
    let pruner = Pruner::new(&world);
    let there = || [&log, &nix, &odd].map(|key| world.bucket.object(key).is_some());
    world.pass(23 * HOUR);
    pruner.run().await;
    assert_eq!(there(), ALL);
    // The link has never named anything that is there.
    world.pass(2 * HOUR);
    pruner.run().await;
    assert_eq!(there(), [true, false, true]);
    world.pass(28 * DAY);
    pruner.run().await;
    assert_eq!(there(), [true, false, true]);
    world.pass(2 * DAY);
    pruner.run().await;
    // What is not understood is not ours.
    assert_eq!(there(), [false, false, true]);
}

#[tokio::test]
async fn what_only_looks_like_them_is_neither_read_nor_deleted() {
    let world = World::new();
    pinned(&world).await;
    let note = format!("log/{}", world.store.missing("note.txt"));
    let huge = "debuginfo/07ff23386799818e59ab23df9d6e5da46ac0d251";
    world.bucket.plant(&note, "no derivation");
    world.bucket.plant(huge, format!("{{\"archive\":\"../nar/gone\",\"x\":\"{}\"}}", "x".repeat(1 << 20)));
    world.pass(40 * DAY);
    world.bucket.forget_requests();
    Pruner::new(&world).run().await;
    assert!([note.as_str(), huge].iter().all(|key| world.bucket.object(key).is_some()));
    let requests = world.bucket.requests();
    assert!(requests.iter().all(|sent| sent.on != huge && sent.on != note), "{requests:?}");
}

#[tokio::test]
async fn unfinished_uploads_of_logs_are_aborted() {
    let world = World::new();
    pinned(&world).await;
    let key = Key::log(&world.store.missing("long.drv"));
    let upload = world.bucket.start_upload(&key, Headers::LOG).await.unwrap();
    world.bucket.put_part(&upload, 1, Body::from(Bytes::from_static(b"built"))).await.unwrap();
    let pruner = Pruner::new(&world);
    world.pass(DAY);
    assert_eq!((pruner.run().await.uploads, world.bucket.open_parts().len()), (0, 1));
    world.pass(2 * DAY);
    assert_eq!((pruner.run().await.uploads, world.bucket.open_parts().len()), (1, 0));
}

#[tokio::test]
async fn what_is_written_again_meanwhile_stays() {
    let world = World::new();
    pinned(&world).await;
    let gone = Extra::pushed(&world, "gone").await;
    world.bucket.lose(&Key::nar_info(&gone.path.hash_part()).to_string());
    world.bucket.lose(&gone.points_at(&world));
    world.pass(40 * DAY);
    let keys = [gone.log.clone(), gone.listing.clone(), gone.link.clone()];
    let bucket = Arc::downgrade(&world.bucket);
    // After everything was looked at, right before the last look at each.
    world.set_faults(move |moment, sent| {
        if moment == Moment::Before && sent.kind == RequestKind::Head && keys.contains(&sent.on) {
            let bucket = bucket.upgrade().unwrap();
            let bytes = bucket.object(&sent.on).unwrap();
            bucket.plant(&sent.on, bytes);
        }
        None
    });
    let pruner = Pruner::new(&world);
    assert_eq!(pruner.plan().await.unwrap().counts.records, 5, "and two push records");
    assert_eq!(pruner.run().await.records, 2, "the two push records");
    assert_eq!(gone.are_there(&world), ALL);
}

#[tokio::test]
async fn what_a_push_in_progress_may_have_written_stays() {
    let world = World::new();
    pinned(&world).await;
    let gone = Extra::pushed(&world, "gone").await;
    world.bucket.lose(&Key::nar_info(&gone.path.hash_part()).to_string());
    world.bucket.lose(&gone.points_at(&world));
    world.pass(40 * DAY);
    let now = loft::clock::Clock::wall(world.clock.as_ref());
    let lease = LeaseRecord::new("long@there".into(), seconds(now - 40 * DAY), Vec::new());
    world.bucket.plant("loft/v1/lease/01ARZ3NDEKTSV4RRFFQ69G5FAV", lease.print());
    let pruner = Pruner::new(&world);
    pruner.run().await;
    assert_eq!(gone.are_there(&world), ALL);
    world.bucket.lose("loft/v1/lease/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    pruner.run().await;
    assert_eq!(gone.are_there(&world), NONE);
}

#[tokio::test]
async fn a_damaged_narinfo_keeps_the_logs_that_it_may_name() {
    let world = World::new();
    pinned(&world).await;
    let path = Extra::pushed(&world, "path").await;
    let other = Key::log(&world.store.missing("other.drv")).to_string();
    world.bucket.plant(&other, "built");
    let key = Key::nar_info(&path.path.hash_part()).to_string();
    let sound = String::from_utf8(world.bucket.object(&key).unwrap().to_vec()).unwrap();
    let pruner = Pruner::new(&world);
    world.bucket.plant(&key, &b"StorePath: /nix"[..]);
    world.pass(40 * DAY);
    pruner.run_broken().await;
    assert!([&path.log, &other].iter().all(|log| world.bucket.object(log).is_some()));
    // Of this one the derivation can be read.
    world.bucket.plant(&key, sound.replace("NarSize: ", "NarSize: x"));
    world.pass(40 * DAY);
    pruner.run_broken().await;
    assert_eq!([&path.log, &other].map(|log| world.bucket.object(log).is_some()), [true, false]);
    assert!(world.bucket.object(&path.listing).is_some());
}

#[tokio::test]
async fn who_may_not_list_them_is_warned_and_prunes_the_rest() {
    let world = World::new();
    pinned(&world).await;
    let gone = Extra::pushed(&world, "gone").await;
    world.pass(40 * DAY);
    let pruner = Pruner::new(&world);
    for prefix in ["log/", "debuginfo/"] {
        for (fault, is_over) in [(Fault::Denied, false), (Fault::Unreachable, true)] {
            world.watcher.warnings.lock().unwrap().clear();
            world.set_faults(move |moment, sent| {
                let hit = moment == Moment::Before && sent.kind == RequestKind::List && sent.on == prefix;
                hit.then(|| fault.clone())
            });
            let planned = pruner.plan().await;
            match is_over {
                // What could not be asked is not told to be empty.
                true => assert!(matches!(planned, Err(PruneError::Bucket(_)))),
                false => assert_eq!(planned.unwrap().counts.expired, 1),
            }
            let warned = world.watcher.warnings.lock().unwrap().iter().any(|told| told.contains("not looked at"));
            assert_eq!(warned, !is_over);
        }
    }
    world.set_faults(|moment, sent| {
        let is_listing = sent.kind == RequestKind::List && matches!(sent.on.as_str(), "log/" | "debuginfo/");
        (moment == Moment::Before && is_listing).then_some(Fault::Denied)
    });
    pruner.run().await;
    for _ in 0..3 {
        world.pass(9 * DAY);
        pruner.run().await;
    }
    assert_eq!(gone.are_there(&world), [true, false, true]);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_told_and_tried_again() {
    let world = World::new();
    pinned(&world).await;
    let gone = Extra::pushed(&world, "gone").await;
    let pruner = Pruner::new(&world);
    for _ in 0..3 {
        world.pass(15 * DAY);
        pruner.run().await;
    }
    world.set_faults(|moment, sent| {
        let hit = moment == Moment::Before && sent.kind == RequestKind::Delete && sent.on.starts_with("log/");
        hit.then_some(Fault::Denied)
    });
    let summary = pruner.try_run().await.unwrap();
    assert_eq!((summary.failed, summary.records), (1, 2), "{summary:?}");
    assert_eq!(gone.are_there(&world), [true, false, false]);
    world.set_faults(|_, _| None);
    pruner.run().await;
    assert_eq!(gone.are_there(&world), NONE);
}

#[tokio::test]
async fn they_cost_three_listings_and_each_link_is_read_once() {
    let world = World::new();
    let [.., app] = crate::support::closures::small(&world);
    world.push(&[&app]).await.unwrap();
    let pruner = Pruner::new(&world);
    let asked = || {
        let requests = world.bucket.requests().into_iter();
        let is_about = |on: &str| on.starts_with("log/") || on.starts_with("debuginfo/");
        requests.filter(|sent| is_about(&sent.on)).map(|sent| (sent.kind, sent.on)).collect::<Vec<_>>()
    };
    let lists = [(RequestKind::List, "log/"), (RequestKind::List, "debuginfo/"), (RequestKind::ListUploads, "log/")]
        .map(|(kind, on)| (kind, on.to_owned()));
    world.bucket.forget_requests();
    pruner.run().await;
    assert_eq!(asked(), lists);

    let path = Extra::pushed(&world, "path").await;
    world.bucket.forget_requests();
    pruner.run().await;
    assert_eq!(asked(), [&lists[..2], &[(RequestKind::Get, path.link.clone())], &lists[2..]].concat());
    world.bucket.forget_requests();
    pruner.run().await;
    assert_eq!(asked(), lists);
}

#[tokio::test]
async fn more_than_one_prune_bears_are_left_to_the_next_ones() {
    let world = World::new();
    let kept = pinned(&world).await;
    world.bucket.clear_hook();
    for n in 0..100_100u32 {
        let hash = &Sha256::of(&n.to_le_bytes()).to_nix32()[..32];
        world.bucket.plant(&format!("log/{hash}-x.drv"), &b"x"[..]);
    }
    world.pass(40 * DAY);
    let pruner = Pruner::new(&world);
    let mut sum = 0;
    for _ in 0..20 {
        let deleted = pruner.run().await.records;
        assert!(deleted <= 100_001, "{deleted}");
        sum += deleted;
        if world.keys("log/").len() == 1 {
            break;
        }
    }
    assert_eq!((sum, kept.are_there(&world)), (100_101, ALL), "with a push record");
}
