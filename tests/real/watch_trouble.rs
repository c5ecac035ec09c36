//! What goes wrong around the service: it loses nothing, says what is wrong, and does not run hot.

use crate::support::machine::Machine;
use crate::support::place::Place;
use crate::support::service::{Service, Site};
use crate::support::small_disk::SmallDisk;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

const SOON: Duration = Duration::from_secs(30);
/// The longest wait between two attempts is a minute.
const AFTER_AN_OUTAGE: Duration = Duration::from_secs(90);

#[track_caller]
fn wait_until(what: &str, service: &Service, within: Duration, test: impl Fn() -> bool) {
    let end = Instant::now() + within;
    while !test() {
        assert!(Instant::now() < end, "{what} not within {within:?}\n{}", service.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Registers many paths in one transaction: links to one file, as `nix-store --optimise` would make them.
fn register_many(machine: &Machine, count: usize) -> Vec<String> {
    let model = machine.add("model", "the same\n");
    let [hash, size] = ["--hash", "--size"].map(|what| machine.run("nix-store", &["-q", what, &model]).remove(0));
    let hash = hash.trim_start_matches("sha256:");
    let hash = machine.run("nix-hash", &["--to-base16", "--type", "sha256", hash]).remove(0);
    let (mut dump, mut paths) = (String::new(), Vec::new());
    for number in 0..count {
        let digits = format!("{number:0>32}");
        let path = format!("/nix/store/{digits}-many-{number}");
        std::fs::hard_link(machine.store.on_disk(&model), machine.store.on_disk(&path)).expect("link");
        dump.push_str(&format!("{path}\n{hash}\n{size}\n\n0\n"));
        paths.push(path);
    }
    let file = machine.at("dump");
    std::fs::write(&file, dump).expect("dump");
    let mut load = machine.command("sh");
    let ended = load.args(["-c", "exec nix-store --load-db <\"$1\"", "sh"]).arg(&file).status().expect("sh");
    assert!(ended.success());
    paths
}

#[test]
#[ignore = "needs Nix: ./test"]
fn thousands_at_once_reach_a_folder() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let paths = register_many(&machine, 3000);
    site.await_all(&paths, &mut service, Duration::from_secs(100));
    wait_until("an empty queue", &service, SOON, || site.queued() == 0);
    service.stop();
    assert_eq!(site.place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
}

#[test]
#[ignore = "needs Nix: ./test"]
fn overflow_of_the_kernels_event_queue_loses_nothing() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("proc");
    let limit: usize = limit.trim().parse().expect("a number");
    assert!(limit <= 1 << 20, "nobody can overflow {limit} events");
    service.halt();
    // Names that matter, and more than the kernel keeps; the registrations come after the overflow.
    for number in 0..=limit {
        let file = machine.database().join(format!("db.sqlite-{number}"));
        std::fs::write(&file, "").and_then(|()| std::fs::remove_file(&file)).expect("file");
    }
    let paths = machine.build("unseen", 0..5);
    service.signal("CONT");
    site.await_all(&paths, &mut service, SOON);
    // And it still listens: sooner than by polling.
    let (mut waited, rounds) = (Duration::ZERO, 5);
    for number in 0..rounds {
        let (path, since) = (machine.add(&format!("after-{number}"), "after\n"), Instant::now());
        site.await_all(&[path], &mut service, SOON);
        waited += since.elapsed();
    }
    assert!(waited / rounds < Duration::from_millis(1500), "events are no longer heard: {:?}", waited / rounds);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn replaced_databases_lead_to_a_full_scan() {
    let machine = Machine::single_user();
    let before = machine.build("before", 0..3);
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let mut all = machine.build("first", 0..5);
    site.await_all(&all, &mut service, SOON);
    assert_eq!(site.missing(&before).len(), 3, "they were there before");
    // An older state, whole in one file.
    let (database, copy) = (machine.database().join("db.sqlite"), machine.at("copy.sqlite"));
    let save = || {
        let connection = rusqlite::Connection::open(&database).expect("database");
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpoint");
        drop(connection);
        std::fs::copy(&database, &copy).expect("copy");
    };
    let without_journal = || {
        for journal in ["db.sqlite-wal", "db.sqlite-shm"] {
            let _ = std::fs::remove_file(machine.database().join(journal));
        }
    };
    save();
    all.extend(machine.build("forgotten", 0..4));
    site.await_all(&all, &mut service, SOON);

    // Rolled back while the service runs: another file in its place.
    let other = machine.database().join("restored");
    std::fs::copy(&copy, &other).expect("copy");
    without_journal();
    std::fs::rename(&other, &database).expect("in its place");
    // These get the row ids of those that are forgotten.
    all.extend(machine.build("second", 0..4));
    all.extend(before.clone());
    site.await_all(&all, &mut service, SOON);
    assert!(service.log().contains("everything in it is looked at"), "{}", service.log());
    service.stop();

    // Rolled back while it does not run, in the same file.
    let late = machine.build("late", 0..2);
    std::fs::copy(&copy, &database).expect("copy");
    without_journal();
    all.extend(machine.build("third", 0..12));
    let mut service = site.watch();
    site.await_all(&all, &mut service, SOON);
    assert_eq!(site.missing(&late).len(), 2, "they were never valid while anybody looked");
    service.stop();
    site.expect_fetchable(&all);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn store_that_goes_away_is_waited_for() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let mut service = site.watch();
    let (there, away) = (machine.database(), machine.at("db-away"));
    std::fs::rename(&there, &away).expect("away");
    wait_until("the outage", &service, SOON, || site.outages().iter().any(|(what, ..)| what == "store"));
    std::thread::sleep(Duration::from_secs(3));
    let told = service.log().lines().filter(|line| line.contains("store")).count();
    assert!(told < 20, "{told} lines:\n{}", service.log());
    std::fs::rename(&away, &there).expect("back");
    let paths = machine.build("back", 0..3);
    site.await_all(&paths, &mut service, AFTER_AN_OUTAGE);
    wait_until("its end", &service, SOON, || site.outages().is_empty());
}

/// One path that cannot be pushed: others land, it is tried with growing delays, and lands when it is mended.
#[test]
#[ignore = "needs Nix: ./test"]
fn path_that_is_damaged_does_not_hold_up_others() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    site.watch().stop();
    let damaged = machine.add("damaged", "as registered\n");
    let file = machine.store.on_disk(&damaged);
    std::fs::remove_file(&file).and_then(|()| std::fs::write(&file, "otherwise\n")).expect("damage");
    let mut service = site.watch();
    let others = machine.build("others", 0..10);
    site.await_all(&others, &mut service, SOON);
    wait_until("an error in the queue", &service, SOON, || {
        let count = site.ledger().query_row("SELECT count(*) FROM queue WHERE attempts > 0", [], |row| row.get(0));
        count.is_ok_and(|count: i64| count == 1)
    });
    std::thread::sleep(Duration::from_secs(6));
    let tries = service.log().lines().filter(|line| line.contains("damaged")).count();
    assert!(tries <= 12, "{tries} lines in a few seconds:\n{}", service.log());
    assert_eq!(site.missing(std::slice::from_ref(&damaged)).len(), 1);
    std::fs::remove_file(&file).and_then(|()| std::fs::write(&file, "as registered\n")).expect("mended");
    site.await_all(&[damaged], &mut service, AFTER_AN_OUTAGE);
}

fn times(outages: &[(String, i64, String)], what: &str) -> Option<i64> {
    outages.iter().find(|(name, ..)| name == what).map(|(_, since, _)| *since)
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_outage_of_garage_is_waited_out() {
    let machine = Machine::single_user();
    let mut site = Site::new(&machine.store.url(), Place::garage());
    let mut service = site.watch();
    let mut paths = machine.build("before", 0..5);
    site.await_all(&paths, &mut service, SOON);
    let Place::Garage(garage) = &mut site.place else { unreachable!() };
    garage.halt();
    let began = UNIX_EPOCH.elapsed().expect("after 1970").as_secs() as i64;
    paths.extend(machine.build("during", 0..20));
    wait_until("20 queued", &service, SOON, || site.queued() == 20);
    // From the first failed request on, not only when a push gives up.
    wait_until("the outage", &service, Duration::from_secs(8), || times(&site.outages(), "bucket").is_some());
    std::thread::sleep(Duration::from_secs(15));
    paths.extend(machine.build("later", 0..20));
    wait_until("40 queued", &service, SOON, || site.queued() == 40);
    let outages = site.outages();
    let since = times(&outages, "bucket").expect("an outage");
    assert!((began..began + 10).contains(&since), "since {since}, not {began}: {outages:?}");
    assert!(outages[0].2.len() > 20, "why: {outages:?}");
    println!("{outages:?}");
    // A restart in the middle keeps the queue.
    service.stop();
    service = site.watch();
    let Place::Garage(garage) = &mut site.place else { unreachable!() };
    garage.resume();
    let back = Instant::now();
    site.await_all(&paths, &mut service, AFTER_AN_OUTAGE);
    println!("all there {:?} after it was back", back.elapsed());
    wait_until("no outage", &service, SOON, || site.outages().is_empty());
    // The narinfos are there before the push has ended.
    wait_until("an empty queue", &service, SOON, || site.queued() == 0);
    service.stop();
    site.expect_fetchable(&paths);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_refusals_before_garage_are_no_busy_loop() {
    let machine = Machine::single_user();
    let site = Site::behind_proxy(&machine.store.url());
    let mut service = site.watch();
    let mut paths = machine.build("before", 0..5);
    site.await_all(&paths, &mut service, SOON);
    site.proxy().go_away(true);
    paths.extend(machine.build("during", 0..30));
    wait_until("the end of an attempt", &service, AFTER_AN_OUTAGE, || service.log().contains("tried 10 times"));
    let (before, usage) = (site.proxy().turned_away(), service.usage());
    std::thread::sleep(Duration::from_secs(30));
    let (tried, cpu) = (site.proxy().turned_away() - before, service.usage().cpu - usage.cpu);
    println!("{before} connections until the outage, then {tried} in 30 s; CPU {cpu:?}; {:?}", site.outages());
    assert!(tried <= 30, "{tried} connections in 30 s");
    assert!(cpu < Duration::from_secs(1), "{cpu:?} of CPU in 30 s");
    assert_eq!(site.queued(), 30);
    site.proxy().go_away(false);
    site.await_all(&paths, &mut service, AFTER_AN_OUTAGE);
    service.stop();
    site.expect_fetchable(&paths);
}

/// Queued paths are protected while the service runs; what is collected while it does not leaves the queue.
#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_collected_paths_leave_the_queue_before_garage() {
    let machine = Machine::single_user();
    let site = Site::behind_proxy(&machine.store.url());
    let service = site.watch();
    site.proxy().go_away(true);
    let kept = machine.build("kept", 0..10);
    wait_until("all queued", &service, SOON, || site.queued() == 10);
    machine.run("nix-store", &["--gc"]);
    for path in &kept {
        assert!(machine.store.on_disk(path).exists(), "{path} is queued and was collected");
    }
    // After a failed attempt, too.
    wait_until("the end of an attempt", &service, AFTER_AN_OUTAGE, || !site.outages().is_empty());
    std::thread::sleep(Duration::from_millis(500));
    machine.run("nix-store", &["--gc"]);
    assert!(kept.iter().all(|path| machine.store.on_disk(path).exists()), "collected after a failed attempt");
    service.stop();

    let lost = kept[..4].to_vec();
    let roots = machine.store.on_disk("/nix/var/nix/gcroots");
    for path in &kept[4..] {
        let link = roots.join(Path::new(path).file_name().expect("a name"));
        std::os::unix::fs::symlink(path, link).expect("root");
    }
    machine.run("nix-store", &["--gc"]);
    assert!(!machine.store.on_disk(&lost[0]).exists(), "nothing was collected");
    let mut service = site.watch();
    let new = machine.build("new", 0..3);
    site.proxy().go_away(false);
    let rest: Vec<String> =
        kept[4..].iter().chain(&new).filter(|path| machine.store.on_disk(path).exists()).cloned().collect();
    site.await_all(&rest, &mut service, AFTER_AN_OUTAGE);
    wait_until("an empty queue", &service, SOON, || site.queued() == 0);
    for path in &lost {
        if machine.store.on_disk(path).exists() {
            continue;
        }
        let name = path.rsplit('/').next().expect("a name");
        assert!(service.log().lines().any(|line| line.contains(name) && line.contains("collected")), "{name}");
    }
    service.stop();
    site.expect_fetchable(&rest);
}

/// What was noticed while the ledger could not be written is written as soon as it can be: the bucket may be
/// away for longer than this process lives.
#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_full_disk_and_outage_of_garage_at_once_lose_nothing() {
    let machine = Machine::single_user();
    let site = Site::behind_proxy(&machine.store.url());
    let small = SmallDisk::mount(&site.loft.home().join("small"), "1m");
    site.move_ledger(&site.loft.home().join("small/ledger.db"));
    let mut service = site.watch();
    let mut paths = machine.build("before", 0..3);
    site.await_all(&paths, &mut service, SOON);
    site.proxy().go_away(true);
    small.fill();
    paths.extend(machine.build("full", 0..3));
    wait_until("trouble with the ledger", &service, SOON, || service.log().contains("what=ledger"));
    small.make_room();
    paths.extend(machine.build("room", 0..3));
    wait_until("a queue that is written", &service, AFTER_AN_OUTAGE, || site.queued() >= 3);
    service.kill();
    site.proxy().go_away(false);
    let mut service = site.watch();
    site.await_all(&paths, &mut service, AFTER_AN_OUTAGE);
    service.stop();
    site.expect_fetchable(&paths);
}

/// Neither can the path be pushed nor the ledger be written to say so.
#[test]
#[ignore = "needs Nix: ./test"]
fn damaged_path_and_full_disk_are_no_busy_loop() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let small = SmallDisk::mount(&site.loft.home().join("small"), "1m");
    site.move_ledger(&site.loft.home().join("small/ledger.db"));
    let mut service = site.watch();
    small.fill();
    service.halt();
    let damaged = machine.add("damaged", "as registered\n");
    let file = machine.store.on_disk(&damaged);
    std::fs::remove_file(&file).and_then(|()| std::fs::write(&file, "otherwise\n")).expect("damage");
    service.signal("CONT");
    let others = machine.build("others", 0..3);
    // While the ledger takes nothing, a look and a push are as far apart as attempts at the ledger.
    site.await_all(&others, &mut service, AFTER_AN_OUTAGE);
    let (tries, usage) = (service.log().matches("damaged").count(), service.usage());
    std::thread::sleep(Duration::from_secs(5));
    let (tries, cpu) = (service.log().matches("damaged").count() - tries, service.usage().cpu - usage.cpu);
    assert!(tries <= 6 && cpu < Duration::from_millis(500), "{tries} lines and {cpu:?} of CPU in 5 s");
    small.make_room();
    std::fs::remove_file(&file).and_then(|()| std::fs::write(&file, "as registered\n")).expect("mended");
    site.await_all(&[damaged], &mut service, AFTER_AN_OUTAGE);
    drop((service, small));
}

/// The ledger's disk is full for a while: what is noticed meanwhile lands, and survives a kill once there is room.
#[test]
#[ignore = "needs Nix: ./test"]
fn full_disk_of_the_ledger_loses_nothing() {
    let machine = Machine::single_user();
    let site = Site::new(&machine.store.url(), Place::folder());
    let small = SmallDisk::mount(&site.loft.home().join("small"), "1m");
    site.move_ledger(&site.loft.home().join("small/ledger.db"));
    let mut service = site.watch();
    let mut paths = machine.build("before", 0..3);
    site.await_all(&paths, &mut service, SOON);
    small.fill();
    paths.extend(machine.build("full", 0..20));
    site.await_all(&paths, &mut service, AFTER_AN_OUTAGE);
    let usage = service.usage();
    std::thread::sleep(Duration::from_secs(5));
    let cpu = service.usage().cpu - usage.cpu;
    assert!(cpu < Duration::from_millis(500), "{cpu:?} of CPU in 5 s:\n{}", service.log());
    small.make_room();
    paths.extend(machine.build("room", 0..3));
    site.await_all(&paths, &mut service, AFTER_AN_OUTAGE);
    service.kill();
    paths.extend(machine.build("killed", 0..3));
    let mut service = site.watch();
    site.await_all(&paths, &mut service, SOON);
    service.stop();
    site.expect_fetchable(&paths);
}
