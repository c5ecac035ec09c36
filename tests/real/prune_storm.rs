//! Three writers, a prune after the other, and a Garage that is killed three times: what is visible is whole whenever
//! one looks, and at the end all that was pushed is there.

use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::loft::{Loft, Pushed};
use crate::support::moments::Moments;
use crate::support::nix::Nix;
use crate::support::process::Ended;
use crate::support::pruning::{Pruned, RETENTION, Running, add_closure, send, summary};
use crate::support::time::DAY;
use loft::nix::StorePath;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

const STORM: Duration = Duration::from_secs(90);
const WRITERS: usize = 3;
/// Of each writer; 30 paths each.
const PUSHES: usize = 10;
const PATHS: usize = 30;
const KILLS: u32 = 3;
/// Closures that are there before; they come of age one after the other.
const GENERATIONS: usize = 40;
const MINUTE: Duration = Duration::from_secs(60);

/// The programs under way, which can all be made to stand still.
#[derive(Default)]
struct Traffic {
    running: Mutex<BTreeSet<u32>>,
    /// Whoever starts one reads, whoever holds them still writes.
    starting: RwLock<()>,
}

impl Traffic {
    fn run(&self, command: Command) -> Ended {
        let mut running = {
            let _may_start = self.starting.read().unwrap();
            let running = Running::start(command);
            self.running.lock().unwrap().insert(running.id());
            running
        };
        loop {
            // Its number is not given to another before it is struck off.
            let mut all = self.running.lock().unwrap();
            if running.has_ended() {
                all.remove(&running.id());
                return running.end();
            }
            drop(all);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn hold<T>(&self, look: impl FnOnce() -> T) -> T {
        let _nobody_starts = self.starting.write().unwrap();
        let held = self.running.lock().unwrap();
        held.iter().for_each(|id| send("STOP", *id));
        // What was sent is carried out.
        std::thread::sleep(Duration::from_millis(150));
        let seen = look();
        held.iter().for_each(|id| send("CONT", *id));
        seen
    }
}

struct Storm {
    cache: Pruned,
    fixture: FixtureStore,
    traffic: Traffic,
    old: Vec<Vec<StorePath>>,
    /// The generation that comes of age next.
    next: AtomicUsize,
    is_over: AtomicBool,
    ends: Instant,
}

impl Storm {
    /// Roots of all that landed.
    fn write(&self, writer: usize) -> Vec<String> {
        let (loft, store) = (Loft::new(), LocalStore::at(self.fixture.root()));
        let begin = self.ends - STORM;
        let mut landed = Vec::new();
        for push in 0..PUSHES {
            let turn = begin + STORM * push as u32 / PUSHES as u32;
            std::thread::sleep(turn.saturating_duration_since(Instant::now()));
            // It relies on what is going right now, and on what goes next.
            let next = self.next.load(Ordering::SeqCst).min(GENERATIONS - 2);
            let below = [next.saturating_sub(1), next, next + 1].map(|n| self.old[n][7 - writer].clone());
            let paths = add_closure(&self.fixture, &format!("w{writer}-{push}"), &below, PATHS);
            let root = self.fixture.logical(&paths[PATHS - 1]);
            let mut tries = 0;
            loop {
                tries += 1;
                let command = self.cache.push_command(&loft, &store, &[&root], &self.cache.bucket().endpoint);
                let ended = self.traffic.run(command);
                if ended.code == Some(0) {
                    Pushed::read(ended).expect_success();
                    break;
                }
                // Garage is away, and a push tells so within seconds where it had not begun.
                assert!(tries < 10, "writer {writer}, push {push}: {ended:?}");
                std::thread::sleep(Duration::from_secs(3));
            }
            landed.push(root);
        }
        landed
    }

    /// How many paths went, and how many prunes did something.
    fn prune(&self, loft: &Loft) -> (u64, u32) {
        let (mut removed, mut busy) = (0, 0);
        while !self.is_over.load(Ordering::SeqCst) {
            // In all less than the life of a lease, and never while a prune is under way.
            if self.next.load(Ordering::SeqCst) < GENERATIONS {
                self.cache.time.pass(MINUTE);
                self.next.fetch_add(1, Ordering::SeqCst);
            }
            let ended = self.traffic.run(self.prune_command(loft));
            // Garage may have been away: then it says so, and the next one goes on.
            assert!(matches!(ended.code, Some(0..=2)), "{ended:?}");
            if ended.stdout.contains("\"event\":\"finished\"") {
                let count = summary(&ended)["removed"].as_u64().unwrap();
                removed += count;
                busy += u32::from(count > 0);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        (removed, busy)
    }

    fn prune_command(&self, loft: &Loft) -> Command {
        let more = ["--retention", RETENTION, "--remove-most"];
        self.cache.prune_command(loft, &self.cache.bucket().endpoint, &more)
    }
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_storm_over_garage() {
    let (cache, fixture, loft) = (Pruned::new(), FixtureStore::new(), Loft::new());
    let store = LocalStore::at(fixture.root());
    let mut old = Vec::new();
    for n in 0..GENERATIONS {
        old.push(add_closure(&fixture, &format!("old-{n}"), &[], 8));
        cache.push(&loft, &store, &[&fixture.logical(&old[n][7])]);
        cache.time.pass(MINUTE);
    }
    cache.pass(30 * DAY - MINUTE * (GENERATIONS as u32));
    let storm = Storm {
        cache,
        fixture,
        traffic: Traffic::default(),
        old,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        ends: Instant::now() + STORM,
    };
    let mut moments = Moments::new();
    let (roots, (removed, busy), looks) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let storm = &storm;
                scope.spawn(move || storm.write(writer))
            })
            .collect();
        let pruner = scope.spawn(|| storm.prune(&Loft::new()));
        // Whatever goes wrong here, the pruner must hear that it is over.
        let over = Over(&storm.is_over);
        let mut looks = 0;
        for kill in 0..KILLS {
            let span = STORM / KILLS;
            let at = storm.ends - STORM + span * kill + moments.next(span * 3 / 4);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            storm.cache.garage.halt();
            std::thread::sleep(moments.next(Duration::from_secs(3)));
            storm.cache.garage.resume();
            for _ in 0..2 {
                storm.traffic.hold(|| storm.cache.expect_sound(&format!("after kill {kill}")));
                looks += 1;
                std::thread::sleep(Duration::from_secs(2));
            }
        }
        std::thread::sleep(storm.ends.saturating_duration_since(Instant::now()));
        let roots: Vec<String> = writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect();
        drop(over);
        (roots, pruner.join().expect("the pruner"), looks)
    });
    storm.cache.expect_sound("after the storm");
    // A sweep that Garage's end has left behind expires.
    storm.cache.pass(12 * MINUTE);
    storm.cache.prune(&loft);
    storm.cache.expect_sound("after the last prune");
    let visible = storm.cache.visible();
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    let wanted = LocalStore::at(storm.fixture.root()).closure(&roots);
    assert!(wanted.len() >= WRITERS * PUSHES * PATHS);
    let lost: Vec<&String> = wanted.iter().filter(|path| !visible.contains(path)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    println!("{} paths pushed, {removed} removed by {busy} prunes, {looks} looks within", wanted.len());
    assert!(busy >= 5, "only {busy} prunes had something to do");
    Nix::installed().fetch(&storm.cache.garage.web, &[roots[PUSHES - 1]], &storm.cache.key.public);
}

/// Sets the flag when it goes, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
