//! Pushing what becomes valid while something goes on: nothing is missed, told twice or tried for ever.

use crate::support::memory::{Fault, Moment};
use crate::support::world::World;
use loft::bucket::RequestKind;
use loft::follow::{Followed, follow};
use loft::nix::StorePath;
use loft::push::PushError;
use loft::report::Outcome;
use loft::watch::{Place, look};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What was valid before counts as old.
fn here(world: &World) -> Place {
    look(world.ends().store.as_ref(), &Place::Nowhere).unwrap().place
}

/// Follows while `meanwhile` goes on, and checks that what was told and what was counted agree.
async fn while_lasts(world: &World, meanwhile: impl AsyncFnOnce()) -> Followed {
    let place = here(world);
    let ends = world.ends();
    let (over, ended) = oneshot::channel();
    let (followed, ()) =
        tokio::join!(follow(&ends, &world.options, place, async { ended.await.unwrap() }), async move {
            meanwhile().await;
            over.send(()).unwrap();
        });
    world.check();
    let summary = &followed.summary;
    let parts = [summary.pushed, summary.present, summary.upstream, summary.ignored, summary.failed];
    assert_eq!(parts.iter().sum::<u64>() + summary.interrupted, summary.considered, "{summary:?}");
    assert_eq!(world.watcher.outcomes.lock().unwrap().len() as u64, summary.considered);
    followed
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}: still not");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn set<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> BTreeSet<StorePath> {
    paths.into_iter().cloned().collect()
}

/// Pushes that came as far as their lease.
fn pushes(world: &World) -> usize {
    let is_lease = |on: &str| on.starts_with("loft/v1/lease/");
    world.bucket.requests().iter().filter(|sent| sent.kind == RequestKind::Put && is_lease(&sent.on)).count()
}

#[tokio::test]
async fn what_comes_first_lands_meanwhile_and_the_rest_at_the_end() {
    let world = World::new();
    let old = world.store.add("old").contents("old").finish();
    let (mut a, mut b) = (None, None);
    let followed = while_lasts(&world, async || {
        let first = world.store.add("a").contents("a").finish();
        until("a lands while it lasts", || world.visible() == set([&first])).await;
        // Too late for a batch before the end.
        b = Some(world.store.add("b").contents("b").reference(&first).finish());
        a = Some(first);
    })
    .await;
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(world.visible(), set([&a, &b]), "and not {old}");
    // `a` was in the closure of both pushes.
    assert_eq!((followed.summary.considered, followed.summary.pushed), (2, 2));
    assert!(followed.summary.file_size > 0 && followed.summary.nar_size > 0);
    assert!(followed.error.is_none() && followed.left.is_empty());
    assert_eq!(pushes(&world), 2);
}

#[tokio::test]
async fn nothing_new_asks_the_bucket_nothing() {
    let world = World::new();
    world.store.add("old").contents("old").finish();
    let followed = while_lasts(&world, async || {
        world.store.add("new.drv").contents("Derive").finish();
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.store.add("flake.lock").contents("").finish();
    })
    .await;
    assert_eq!(followed.summary.considered, 0);
    assert_eq!(world.bucket.requests(), []);
}

#[tokio::test]
async fn what_comes_during_a_push_goes_together_into_the_next() {
    let world = World::new();
    let held = Arc::new(AtomicBool::new(true));
    let hook_held = held.clone();
    world.bucket.set_hook(Arc::new(move |moment, sent| {
        let wait = moment == Moment::Before && sent.on.starts_with("nar/");
        let held = hook_held.clone();
        Box::pin(async move {
            while wait && held.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            None
        })
    }));
    let followed = while_lasts(&world, async || {
        world.store.add("first").contents("first").finish();
        until("the first push sends its NAR", || pushes(&world) == 1).await;
        for n in 0..20 {
            world.store.add(&format!("p{n}")).contents(format!("{n}")).finish();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(pushes(&world), 1, "one push at a time");
        held.store(false, Ordering::SeqCst);
        until("the second push", || world.visible().len() == 21).await;
    })
    .await;
    assert_eq!((followed.summary.pushed, pushes(&world)), (21, 2));
}

/// The end comes while a push is under way.
#[tokio::test]
async fn the_end_waits_for_the_push_that_is_under_way() {
    let world = World::new();
    world.set_faults(|moment, sent| {
        (moment == Moment::Before && sent.on.starts_with("nar/")).then_some(Fault::Delay(Duration::from_millis(100)))
    });
    let followed = while_lasts(&world, async || {
        world.store.add("first").contents("first").finish();
        until("the first push", || pushes(&world) == 1).await;
        world.store.add("second").contents("second").finish();
    })
    .await;
    assert_eq!((followed.summary.pushed, world.visible().len()), (2, 2));
}

/// Refuses the first `times` uploads of NARs for good; counts all.
fn refuse_nars(world: &World, times: u64) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counting = count.clone();
    world.set_faults(move |moment, sent| {
        let is_nar = moment == Moment::Before && sent.kind == RequestKind::Put && sent.on.starts_with("nar/");
        (is_nar && counting.fetch_add(1, Ordering::SeqCst) < times).then_some(Fault::Denied)
    });
    count
}

#[tokio::test]
async fn what_failed_is_tried_once_more_at_the_end_and_told_once() {
    let world = World::new();
    let sent = refuse_nars(&world, 1);
    let followed = while_lasts(&world, async || {
        world.store.add("a").contents("a").finish();
        until("a is refused", || sent.load(Ordering::SeqCst) == 1).await;
        // Others do not drag it along.
        let b = world.store.add("b").contents("b").finish();
        until("b lands", || world.visible() == set([&b])).await;
        assert_eq!(sent.load(Ordering::SeqCst), 2);
    })
    .await;
    assert_eq!((followed.summary.pushed, followed.summary.failed), (2, 0));
    assert_eq!(sent.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_fails_for_good_is_named_with_what_it_blocks_and_left() {
    let world = World::new();
    let sent = refuse_nars(&world, u64::MAX);
    let mut paths = Vec::new();
    let followed = while_lasts(&world, async || {
        let lib = world.store.add("lib").contents("lib").finish();
        until("lib is refused", || sent.load(Ordering::SeqCst) == 1).await;
        paths = vec![world.store.add("app").contents("app").reference(&lib).finish(), lib];
    })
    .await;
    assert_eq!((followed.summary.considered, followed.summary.failed), (2, 2));
    assert!(followed.error.is_none());
    assert!(matches!(world.outcome(&paths[1]), Outcome::Failed { blocked_by: None, .. }));
    assert_eq!(world.visible(), BTreeSet::new());
    // lib twice, app at most twice (a batch of its own may have come before the end).
    assert!(sent.load(Ordering::SeqCst) <= 4, "{sent:?}");
}

#[tokio::test]
async fn what_was_collected_meanwhile_is_a_line_and_no_failure() {
    let world = World::new();
    let database = world.store.state_dir().join("db/db.sqlite");
    // Between the look and the push.
    world.set_faults(move |moment, sent| {
        if moment == Moment::Before && sent.on == "loft/v1/bucket.json" && sent.kind == RequestKind::Get {
            let database = Connection::open(&database).unwrap();
            database.busy_timeout(Duration::from_secs(5)).unwrap();
            database.execute("delete from ValidPaths where path like '%-gone'", []).unwrap();
        }
        None
    });
    let (mut gone, mut kept) = (None, None);
    let followed = while_lasts(&world, async || {
        gone = Some(world.store.add("gone").contents("x").finish());
        kept = Some(world.store.add("kept").contents("y").finish());
    })
    .await;
    let gone = gone.unwrap();
    assert_eq!(world.visible(), set(&kept));
    assert_eq!((followed.summary.pushed, followed.summary.failed, followed.summary.ignored), (1, 0, 1));
    let warnings = world.watcher.warnings.lock().unwrap();
    assert!(warnings.iter().any(|warning| warning.contains(gone.as_str())), "{warnings:?}");
}

#[tokio::test]
async fn damage_to_one_path_costs_that_path_alone() {
    let world = World::new();
    let damage = "create trigger damage after insert on ValidPaths when new.path like '%-p2' or new.path like '%-p5'
                  begin update ValidPaths set hash = 'nonsense' where id = new.id; end";
    world.store.sql(|db| db.execute_batch(damage).unwrap());
    let mut paths = Vec::new();
    let followed = while_lasts(&world, async || {
        // Nobody can look before the next await, so they come in one batch.
        tokio::time::sleep(Duration::from_millis(100)).await;
        paths = (0..7).map(|n| world.store.add(&format!("p{n}")).contents(format!("{n}")).finish()).collect();
        until("the others land meanwhile", || world.visible().len() == 5).await;
    })
    .await;
    assert_eq!((followed.summary.pushed, followed.summary.failed), (5, 2), "{:?}", followed.error);
    for path in [&paths[2], &paths[5]] {
        let Outcome::Failed { why, .. } = world.outcome(path) else { panic!("{:?}", world.outcome(path)) };
        assert!(why.contains("damaged") && why.contains(path.as_str()), "{why}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_away_meanwhile_gets_everything_at_the_end() {
    let world = World::new();
    let is_away = Arc::new(AtomicBool::new(true));
    let away = is_away.clone();
    world.set_faults(move |moment, _| {
        (moment == Moment::Before && away.load(Ordering::SeqCst)).then_some(Fault::Unreachable)
    });
    let warned = || world.watcher.warnings.lock().unwrap().len();
    let followed = while_lasts(&world, async || {
        world.store.add("a").contents("a").finish();
        until("it is told", || warned() == 1).await;
        let asked = world.bucket.requests().len();
        world.store.add("b").contents("b").finish();
        until("another try with what came since", || world.bucket.requests().len() > asked).await;
        is_away.store(false, Ordering::SeqCst);
    })
    .await;
    assert!(followed.error.is_none(), "{:?}", followed.error);
    assert_eq!((followed.summary.pushed, world.visible().len()), (2, 2));
    assert_eq!(warned(), 1, "{:?}", world.watcher.warnings);
}

#[tokio::test]
async fn a_bucket_that_refuses_is_asked_again_at_the_end_alone_and_what_is_left_is_named() {
    let world = World::new();
    world.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Denied));
    let warned = || world.watcher.warnings.lock().unwrap().len();
    let mut paths = Vec::new();
    let followed = while_lasts(&world, async || {
        paths.push(world.store.add("a").contents("a").finish());
        until("it is told", || warned() == 1).await;
        let asked = world.bucket.requests().len();
        // For longer than two pushes are apart.
        for n in 0..6 {
            paths.push(world.store.add(&format!("p{n}")).contents(format!("{n}")).finish());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(world.bucket.requests().len(), asked, "asked again though nothing has changed");
    })
    .await;
    assert!(matches!(followed.error, Some(PushError::Bucket(_))), "{:?}", followed.error);
    paths.sort();
    assert_eq!(followed.left, paths);
    assert_eq!(followed.summary.considered, 0);
}

#[tokio::test]
async fn an_interrupt_ends_the_last_push_and_all_is_accounted_for() {
    let world = World::new();
    let interrupt = world.options.interrupt.clone();
    world.set_faults(move |moment, sent| {
        if moment == Moment::Before && sent.on.starts_with("nar/") {
            interrupt.raise();
        }
        None
    });
    // More than are sent at once.
    let followed = while_lasts(&world, async || {
        for n in 0..200 {
            world.store.add(&format!("p{n}")).contents(format!("{n}")).finish();
        }
    })
    .await;
    assert!(followed.error.is_none() || matches!(followed.error, Some(PushError::Interrupted)));
    let lost = followed.summary.interrupted + followed.left.len() as u64;
    assert!(lost > 0 && followed.summary.failed == 0, "{followed:?}");
    assert_eq!(followed.summary.pushed + lost, 200, "{followed:?}");
}

#[tokio::test]
async fn a_database_that_was_rolled_back_hides_nothing() {
    let world = World::new();
    let a = world.store.add("a").contents("a").finish();
    let database = world.store.state_dir().join("db/db.sqlite");
    let copy = world.store.state_dir().join("copy.sqlite");
    world.store.sql(|db| db.execute("vacuum into ?", [copy.to_str().unwrap()]).unwrap());
    world.store.add("b").contents("b").finish();
    let followed = while_lasts(&world, async || {
        for name in ["db.sqlite-wal", "db.sqlite-shm"] {
            std::fs::remove_file(database.with_file_name(name)).unwrap();
        }
        std::fs::rename(&copy, &database).unwrap();
        until("what is valid lands", || world.visible() == set([&a])).await;
    })
    .await;
    assert_eq!((followed.summary.pushed, followed.summary.failed), (1, 0), "{:?}", followed.error);
    let warnings = world.watcher.warnings.lock().unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("database was replaced")), "{warnings:?}");
}
