//! Five hundred paths built in bursts, while the service runs, is stopped, is killed: all of them arrive.

use crate::support::machine::Machine;
use crate::support::moments::Moments;
use crate::support::place::Place;
use crate::support::service::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const BURSTS: usize = 10;
const BURST: usize = 50;

fn built_in_bursts(machine: &Machine, store: &str) {
    let site = Site::new(store, Place::garage());
    let mut service = site.watch();
    let mut paths = Vec::new();
    for burst in 0..BURSTS {
        paths.extend(machine.build("burst", burst * BURST..(burst + 1) * BURST));
    }
    let since = Instant::now();
    site.await_all(&paths, &mut service, Duration::from_secs(60));
    println!("the last of {} landed at most {:?} after the last build", paths.len(), since.elapsed());
    service.stop();
    site.expect_fetchable(&paths);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_bursts_of_a_single_user_reach_garage() {
    let machine = Machine::single_user();
    built_in_bursts(&machine, &machine.store.url());
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_bursts_through_a_daemon_reach_garage() {
    let machine = Machine::with_daemon();
    built_in_bursts(&machine, &machine.settings()[0].1);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_bursts_through_a_daemon_alone_reach_garage() {
    let machine = Machine::with_daemon();
    built_in_bursts(&machine, &machine.settings()[1].1);
}

fn stopped_half_of_the_time(machine: &Machine, store: &str) {
    let site = Site::new(store, Place::garage());
    let (mut paths, mut service) = (Vec::new(), Some(site.watch()));
    for burst in 0..BURSTS {
        paths.extend(machine.build("burst", burst * BURST..(burst + 1) * BURST));
        // In the middle of things: what was just built is being noticed or pushed.
        match service.take() {
            Some(running) => drop(running.stop()),
            None => service = Some(site.watch()),
        }
    }
    let mut service = service.unwrap_or_else(|| site.watch());
    site.await_all(&paths, &mut service, Duration::from_secs(60));
    service.stop();
    site.expect_fetchable(&paths);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_stopped_half_of_the_time_before_garage() {
    let machine = Machine::single_user();
    stopped_half_of_the_time(&machine, &machine.store.url());
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_stopped_half_of_the_time_beside_a_daemon_before_garage() {
    let machine = Machine::with_daemon();
    stopped_half_of_the_time(&machine, &machine.settings()[0].1);
}

/// `kill -9` at random moments while things are built.
fn killed_again_and_again(machine: &Machine, store: &str, kills: usize) {
    let site = Site::behind_proxy(store);
    let (mut moments, mut ends) = (Moments::new(), Vec::new());
    // The first start says from where on to watch.
    site.watch().stop();
    let (paths, mut service) = std::thread::scope(|scope| {
        let building = scope.spawn(|| {
            // Smaller bursts with pauses, for as long as the kills take; sizes that take a moment to send.
            let burst = |burst: usize| {
                let built = machine.try_build(
                    "burst",
                    burst * 20..(burst + 1) * 20,
                    "/usr/bin/head -c 300000 /dev/urandom >$out",
                );
                assert_eq!(built.code, Some(0), "{}", built.stderr);
                std::thread::sleep(Duration::from_millis(500));
                built.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
            };
            (0..BURSTS * BURST / 20).flat_map(burst).collect::<Vec<_>>()
        });
        for _ in 0..kills {
            // Some before it is ready.
            let service = site.start(&["watch"]).now();
            std::thread::sleep(moments.next(Duration::from_millis(1600)));
            service.kill();
            // What is on its way through the proxy belongs to the one that is dead.
            std::thread::sleep(Duration::from_millis(100));
            ends.push(Instant::now());
        }
        (building.join().expect("built"), site.watch())
    });
    site.await_all(&paths, &mut service, Duration::from_secs(90));
    // Nothing is left over, either.
    let end = Instant::now() + Duration::from_secs(10);
    while site.queued() > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(site.queued(), 0);
    service.stop();

    // No life of the service sends the same NAR twice, and what is visible is never sent again.
    let (mut uploads, mut in_life) = (0, BTreeMap::new());
    for request in site.proxy().seen() {
        let Some((_, nar)) = request.target.split_once("/nar/") else { continue };
        if request.method != "PUT" {
            continue;
        }
        let life = ends.iter().filter(|end| **end < request.at).count();
        let hash = nar[..52].to_owned();
        uploads += 1;
        *in_life.entry((hash, life)).or_insert(0) += 1;
    }
    let twice: Vec<_> = in_life.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "sent more than once between two interruptions: {twice:?}");
    let pushed_between = in_life.keys().map(|(_, life)| life).collect::<BTreeSet<_>>().len();
    assert_eq!(paths.len(), BURSTS * BURST);
    println!("{kills} kills; {uploads} uploads of {} NARs in {pushed_between} lives", paths.len());
    assert!(pushed_between > kills / 3, "hardly any of the killed ones had pushed: the moments are badly chosen");
    site.expect_fetchable(&paths);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_kills_of_the_service_before_garage() {
    let machine = Machine::single_user();
    killed_again_and_again(&machine, &machine.store.url(), 30);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_kills_of_the_service_beside_a_daemon_before_garage() {
    let machine = Machine::with_daemon();
    killed_again_and_again(&machine, &machine.settings()[0].1, 30);
}
