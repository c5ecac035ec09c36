//! The service prunes by its schedule, and does not let that get into the way of pushes.

use crate::support::memory::{Fault, Moment};
use crate::support::protocol::ask::at_once;
use crate::support::pruning::{DAY, options};
use crate::support::service::{Bench, eventually};
use loft::bucket::{Bucket as _, Key, RequestKind};
use loft::config::Schedule;
use loft::nix::StorePath;
use loft::prune::Options;
use loft::service::{Command, Pruning};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A bench whose bucket has the true time, with a path that has expired and one that has not.
fn bench(schedule: Schedule) -> (Bench, StorePath, StorePath) {
    let mut bench = Bench::new();
    bench.world.bucket.clock.set_wall(SystemTime::now());
    bench.prune = Some(Pruning { options: options(), schedule, page: None });
    let old = bench.world.store.add("old").file("f", b"old").finish();
    let new = bench.world.store.add("new").file("f", b"new").finish();
    let push = |path: &StorePath| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bench.world.push(&[path])).unwrap();
    };
    push(&old);
    bench.world.bucket.age(40 * DAY);
    push(&new);
    (bench, old, new)
}

/// Due at once: the spread is a tenth of it.
const SOON: Schedule = Schedule::Every(Duration::from_millis(100));

#[test]
fn it_prunes_when_it_is_due_and_remembers_it() {
    let (bench, old, new) = bench(SOON);
    let service = bench.start();
    eventually("the old path goes", || !bench.world.visible().contains(&old));
    eventually("it is noted", || bench.ledger().watch().prunes().unwrap().removed == 1);
    assert!(bench.world.visible().contains(&new));
    assert!(bench.told.has("pruned: 1"));
    let noted = bench.ledger().watch().prunes().unwrap();
    assert!(noted.last_success.is_some_and(|at| SystemTime::now().duration_since(at).unwrap() < DAY));
    service.stop();
    assert_eq!(bench.world.keys("loft/v1/sweep/"), Vec::<String>::new());
}

#[test]
fn its_page_follows_a_prune_and_is_no_reason_to_fail() {
    let (mut bench, old, _) = bench(SOON);
    bench.prune = bench.prune.map(|pruning| Pruning { page: Some(loft::page::Page::default()), ..pruning });
    bench.world.bucket.plant("index.html", "another's");
    let service = bench.start();
    eventually("the old path goes", || !bench.world.visible().contains(&old));
    eventually("it is told", || bench.told.has("was not written by loft"));
    eventually("it is noted", || bench.ledger().watch().prunes().unwrap().removed == 1);
    at_once(bench.world.bucket.delete(&Key::status_page())).unwrap();
    eventually("there is a page", || !bench.world.keys("index.html").is_empty());
    service.stop();
}

#[test]
fn a_restart_neither_forgets_nor_repeats_it() {
    let (bench, old, _) = bench(Schedule::Every(DAY));
    // The last one was an hour ago.
    let hour = Duration::from_secs(3600);
    bench.ledger().watch().note_prune(SystemTime::now() - hour, 0, 0).unwrap();
    let service = bench.start();
    std::thread::sleep(Duration::from_millis(300));
    service.stop();
    assert!(bench.world.visible().contains(&old));
    // Two days ago: it was missed.
    bench.ledger().watch().note_refused_prune(SystemTime::now() - 48 * hour).unwrap();
    let service = bench.start();
    eventually("the old path goes", || !bench.world.visible().contains(&old));
    service.stop();
}

#[test]
fn a_refusal_is_told_once_and_waits_for_the_next_turn() {
    let (mut bench, old, new) = bench(Schedule::Every(DAY));
    bench.ledger().watch().note_refused_prune(SystemTime::now() - 3 * DAY).unwrap();
    // Both have expired: more than half of all.
    bench.world.bucket.age(40 * DAY);
    let service = bench.start();
    eventually("it is refused", || bench.told.has("more than half"));
    eventually("it is noted", || bench.ledger().watch().outages().unwrap().iter().any(|outage| outage.what == "prune"));
    // Pushes go on.
    let more = bench.world.store.add("more").file("f", b"more").finish();
    bench.lands(&[more]);
    service.stop();
    assert_eq!(bench.told.count("more than half"), 1);
    assert!(bench.world.visible().contains(&old) && bench.world.visible().contains(&new));

    // The next turn is a day away: until then status and metrics go on telling it, whoever starts the service anew.
    let service = bench.start();
    bench.lands(&[bench.world.store.add("after").file("f", b"after").finish()]);
    service.stop();
    assert!(bench.ledger().watch().outages().unwrap().iter().any(|outage| outage.what == "prune"));

    // The user says so, and it is well again.
    bench.prune = Some(Pruning { options: Options { remove_most: true, ..options() }, schedule: SOON, page: None });
    let service = bench.start();
    eventually("both go", || !bench.world.visible().contains(&old) && !bench.world.visible().contains(&new));
    eventually("the trouble is over", || bench.ledger().watch().outages().unwrap().is_empty());
    service.stop();
}

#[test]
fn stopping_lets_a_prune_close_its_sweep() {
    let (bench, ..) = bench(SOON);
    let sweeps = Arc::new(AtomicU64::new(0));
    let seen = sweeps.clone();
    bench.world.set_faults(move |moment, sent| {
        if sent.on.starts_with("loft/v1/sweep/") && sent.kind == RequestKind::Put && moment == Moment::After {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        // The second look takes its time.
        let slow = seen.load(Ordering::SeqCst) > 0 && sent.kind == RequestKind::List && moment == Moment::Before;
        slow.then_some(Fault::Delay(Duration::from_millis(200)))
    });
    let service = bench.start();
    eventually("a sweep is open", || sweeps.load(Ordering::SeqCst) > 0);
    service.stop();
    assert_eq!(bench.world.keys("loft/v1/sweep/"), Vec::<String>::new());
    bench.world.check();
}

#[test]
fn a_prune_that_was_stopped_half_way_goes_on_after_a_restart() {
    let (bench, old, _) = bench(Schedule::Every(DAY));
    let long_ago = SystemTime::now() - 3 * DAY;
    bench.ledger().watch().note_prune(long_ago, 0, 0).unwrap();
    let (opened, is_open) = std::sync::mpsc::channel();
    bench.world.set_faults(move |moment, sent| {
        let announces = sent.on.starts_with("loft/v1/sweep/") && sent.kind == RequestKind::Put;
        if announces && moment == Moment::After {
            let _ = opened.send(());
        }
        // What follows takes longer than it takes to stop.
        let follows = sent.kind == RequestKind::List && moment == Moment::Before;
        follows.then_some(Fault::Delay(Duration::from_millis(100)))
    });
    let service = bench.start();
    is_open.recv_timeout(Duration::from_secs(30)).expect("a sweep");
    service.stop();
    assert!(bench.world.visible().contains(&old), "it was to be stopped before it deleted");
    let last = bench.ledger().watch().prunes().unwrap().last.unwrap();
    assert!(last < long_ago + Duration::from_secs(2), "the schedule counts one that did not end");

    bench.world.set_faults(|_, _| None);
    let service = bench.start();
    eventually("the old path goes", || !bench.world.visible().contains(&old));
    service.stop();
}

#[test]
fn a_prune_waits_for_the_bucket_and_a_reload_sets_the_schedule() {
    let (bench, old, _) = bench(Schedule::Every(Duration::from_secs(366 * 86_400)));
    bench.ledger().watch().note_prune(SystemTime::now(), 0, 0).unwrap();
    let service = bench.start();
    std::thread::sleep(Duration::from_millis(200));
    assert!(bench.world.visible().contains(&old));
    let mut setup = bench.setup();
    setup.prune = Some(Pruning { options: options(), schedule: SOON, page: None });
    service.host.reloads.lock().unwrap().push(Ok(setup));
    bench.world.set_faults(|moment, sent| {
        (sent.on == "nix-cache-info" && moment == Moment::Before).then_some(Fault::Unreachable)
    });
    service.command(Command::Reload);
    eventually("the bucket is missed", || bench.told.has("outage: bucket"));
    // With the reason.
    assert!(bench.told.has("Could not reach the server"));
    assert!(bench.world.visible().contains(&old));
    service.stop();
}
