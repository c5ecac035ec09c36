//! The service: nothing is missed, nothing is lost, and it is quiet while nothing happens.

use crate::support::memory::{Fault, Moment};
use crate::support::service::{Bench, eventually};
use loft::bucket::RequestKind;
use loft::ledger::Scan;
use loft::nix::{Sha256, StorePath};
use loft::push::identify;
use loft::report::Outcome;
use loft::service::{Command, Lock, socket_path};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn add(bench: &Bench, name: &str) -> StorePath {
    bench.world.store.add(name).contents(name).finish()
}

fn add_many(bench: &Bench, prefix: &str, count: usize) -> Vec<StorePath> {
    (0..count).map(|n| add(bench, &format!("{prefix}{n}"))).collect()
}

#[test]
fn what_becomes_valid_lands_and_nothing_older_does() {
    let bench = Bench::new();
    let old = add(&bench, "old");
    let running = bench.start();
    let (lib, derivation) = (add(&bench, "lib"), add(&bench, "app.drv"));
    let app = bench.world.store.add("app").contents("app").reference(&lib).finish();
    bench.lands(&[lib, app]);
    bench.empties();
    assert!(!bench.world.visible().contains(&derivation) && !bench.world.visible().contains(&old));
    running.stop();
    assert_eq!(bench.ledger().watch().totals().unwrap().pushed, 2);
}

#[test]
fn what_became_valid_while_it_was_away_lands_when_it_is_back() {
    let bench = Bench::new();
    bench.start().stop();
    let mut all = Vec::new();
    for round in 0..3 {
        all.extend(add_many(&bench, &format!("away{round}-"), 20));
        let running = bench.start();
        all.extend(add_many(&bench, &format!("there{round}-"), 20));
        bench.lands(&all);
        running.stop();
    }
    bench.empties();
    let puts = bench.world.bucket.requests().iter().filter(|sent| is_nar(&sent.on)).count();
    assert_eq!(puts, all.len(), "every NAR was sent once");
}

fn is_nar(object: &str) -> bool {
    object.starts_with("nar/")
}

#[test]
fn a_killed_service_misses_nothing() {
    let bench = Bench::new();
    bench.start().stop();
    let mut all = Vec::new();
    for round in 0..5 {
        let running = bench.start();
        all.extend(add_many(&bench, &format!("r{round}-"), 30));
        // As a kill does: the second command ends it without settling anything.
        running.command(Command::Stop);
        drop(running);
    }
    let running = bench.start();
    bench.lands(&all);
    bench.empties();
    running.stop();
}

#[test]
fn a_first_scan_is_done_when_all_of_it_landed() {
    let mut bench = Bench::new();
    bench.scan = true;
    let mut old = add_many(&bench, "old", 5);
    let damaged = bench.world.store.add("damaged").contents("x").wrong_nar_hash(Sha256::of(b"y")).finish();
    let setup = bench.setup();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bucket = runtime.block_on(identify(&setup.ends, Vec::new(), true)).unwrap();
    let scan = || bench.ledger().watch().scan(&bucket).unwrap();
    assert_eq!(scan(), Scan::Due);

    let running = bench.start();
    bench.lands(&old);
    eventually("the damaged one was tried twice", || bench.told.count("postponed") >= 2);
    assert!(matches!(scan(), Scan::Begun(_)), "one of them has not landed");
    running.stop();
    let running = bench.start();
    // Collected, it is nobody's business any more.
    bench.world.store.collect(&damaged);
    eventually("the scan is done", || matches!(scan(), Scan::Done(_)));
    assert!(bench.told.has("scanned"));
    old.push(add(&bench, "new"));
    bench.lands(&old);
    running.stop();

    // It is not done twice, unless that is asked for.
    bench.world.bucket.lose(&format!("{}.narinfo", old[0].hash_part()));
    let running = bench.start();
    let newer = add(&bench, "newer");
    bench.lands(&[newer]);
    running.stop();
    assert!(!bench.world.visible().contains(&old[0]));
    bench.ledger().clear().unwrap();
    bench.ledger().watch().forget_scans().unwrap();
    let running = bench.start();
    bench.lands(&old);
    running.stop();
}

#[test]
fn an_outage_of_the_bucket_is_waited_out() {
    let bench = Bench::new();
    let running = bench.start();
    let down = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicUsize::new(0));
    let (is_down, count) = (down.clone(), asked.clone());
    bench.world.set_faults(move |moment, _| {
        let refuse = moment == Moment::Before && is_down.load(Ordering::SeqCst);
        count.fetch_add(usize::from(refuse), Ordering::SeqCst);
        refuse.then_some(Fault::Unavailable(None))
    });
    let paths = add_many(&bench, "p", 10);
    eventually("an outage is told", || bench.told.has("outage: bucket"));
    let outage = bench.ledger().watch().outages().unwrap().remove(0);
    assert!(outage.what == "bucket" && !outage.error.is_empty());
    let before = asked.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(1));
    let in_a_second = asked.load(Ordering::SeqCst) - before;
    // Ten tries in milliseconds for each attempt, and an attempt each 100 ms at the most.
    assert!((1..=130).contains(&in_a_second), "{in_a_second} requests in a second");
    assert_eq!(bench.waiting(), 10);
    eventually("the status says so", || running.said("status: bucket out of order"));
    down.store(false, Ordering::SeqCst);
    bench.lands(&paths);
    bench.empties();
    assert!(bench.told.has("recovered: bucket"));
    eventually("no outage is left", || bench.ledger().watch().outages().unwrap().is_empty());
    running.stop();
}

#[test]
fn a_path_that_fails_is_tried_again_and_holds_nobody_up() {
    let bench = Bench::new();
    let running = bench.start();
    let refused = Arc::new(AtomicBool::new(true));
    let refusing = refused.clone();
    let bad = bench.world.store.add("bad").contents("bad").finish();
    let nar_hash = bench.world.store.info(&bad).nar_hash.to_nix32();
    bench.world.set_faults(move |moment, sent| {
        let hit = moment == Moment::Before && sent.on.contains(&nar_hash) && refusing.load(Ordering::SeqCst);
        hit.then_some(Fault::Denied)
    });
    let good = add_many(&bench, "good", 5);
    bench.lands(&good);
    eventually("it was tried again and again", || bench.told.count("postponed") >= 3);
    let queued = bench.ledger().queue().list(10).unwrap();
    assert_eq!(queued.iter().map(|queued| &queued.path).collect::<Vec<_>>(), [&bad]);
    assert!(queued[0].attempts >= 2 && queued[0].error.is_some());
    refused.store(false, Ordering::SeqCst);
    bench.lands(&[bad]);
    bench.empties();
    running.stop();
}

#[test]
fn a_path_that_was_collected_leaves_the_queue() {
    let bench = Bench::new();
    bench.start().stop();
    let (gone, stays) = (add(&bench, "gone"), add(&bench, "stays"));
    bench.world.store.collect(&gone);
    let running = bench.start();
    bench.lands(&[stays]);
    bench.empties();
    running.stop();

    // Queued while the bucket was away, and collected before it came back.
    let late = add(&bench, "late");
    bench.ledger().queue().add(std::slice::from_ref(&late), std::time::SystemTime::now()).unwrap();
    bench.world.store.collect(&late);
    let running = bench.start();
    bench.empties();
    running.stop();
    assert_eq!(bench.told.outcomes.lock().unwrap()[&late], [Outcome::Invalid]);
}

#[test]
fn a_damaged_registration_costs_the_others_nothing() {
    let bench = Bench::new();
    bench.start().stop();
    let good = add_many(&bench, "good", 20);
    let bad = add(&bench, "bad");
    let name = bench.world.store.logical(&bad);
    bench.world.store.sql(|db| db.execute("update ValidPaths set hash = 'x' where path = ?", [name]).unwrap());
    let running = bench.start();
    bench.lands(&good);
    eventually("the bad one is postponed", || bench.told.has(&format!("postponed: {bad}")));
    assert_eq!(bench.waiting(), 1);
    running.stop();
}

#[test]
fn a_database_that_was_rolled_back_is_looked_at_whole() {
    let bench = Bench::new();
    bench.start().stop();
    let database = bench.world.store.state_dir().join("db/db.sqlite");
    let earlier = add_many(&bench, "earlier", 3);
    let running = bench.start();
    bench.lands(&earlier);
    running.stop();
    let other = database.with_extension("old");
    let into = other.display().to_string();
    bench.world.store.sql(|db| db.execute("VACUUM INTO ?", [into]).unwrap());
    let lost = add_many(&bench, "lost", 5);
    let running = bench.start();
    bench.lands(&lost);
    // An old copy is put in its place, and goes on with the same ids for other paths.
    bench.world.store.replace_database(&other);
    let new = add_many(&bench, "new", 8);
    bench.lands(&new);
    eventually("it is told", || bench.told.has("not the one of the last look"));
    running.stop();
}

#[test]
fn a_hook_hands_over_what_the_database_would_tell_later() {
    let bench = Bench::new();
    let old = add_many(&bench, "old", 3);
    let running = bench.start();
    let ask = |text: &str| {
        let mut stream = UnixStream::connect(socket_path(&bench.ledger_file())).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(ask(&format!("{}\n{}\n", old[0], old[1])), "queued 2\n");
    bench.lands(&old[..2]);
    bench.empties();
    assert!(ask("/nix/store/nonsense\n").starts_with("refused"));
    // One that says nothing costs the others nothing.
    let silent = UnixStream::connect(socket_path(&bench.ledger_file())).unwrap();
    assert_eq!(ask(&format!("{}\n", old[2])), "queued 1\n");
    bench.lands(&old);
    drop(silent);
    running.stop();
    assert_eq!(bench.told.count("noticed"), 0, "they were registered long before");
}

#[test]
fn stopping_settles_what_is_in_flight_and_keeps_the_rest() {
    let mut bench = Bench::new();
    bench.world.options.upload_threads = std::num::NonZeroUsize::new(1).unwrap();
    bench.start().stop();
    let paths: Vec<_> =
        (0..200).map(|n| bench.world.store.add(&format!("p{n}")).contents(vec![b'x'; 1000]).finish()).collect();
    let running = bench.start();
    eventually("some have landed", || !bench.world.visible().is_empty());
    running.stop();
    let landed = bench.world.visible().len() as u64;
    assert!(bench.world.keys("loft/v1/lease/").is_empty(), "the lease was given back");
    assert_eq!(bench.waiting() + landed, 200, "each has landed or is queued");
    let running = bench.start();
    bench.lands(&paths);
    bench.empties();
    running.stop();
}

#[test]
fn while_nothing_happens_nothing_is_asked_and_nothing_written() {
    let bench = Bench::new();
    let running = bench.start();
    bench.lands(&add_many(&bench, "p", 3));
    bench.empties();
    eventually("it rests", || running.said("status: watching"));
    std::thread::sleep(Duration::from_millis(300));
    bench.world.bucket.forget_requests();
    let files = || {
        let mut found: Vec<_> = std::fs::read_dir(bench.ledger_file().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name(), entry.metadata().unwrap().modified().unwrap(), entry.metadata().unwrap().len())
            })
            .collect();
        found.sort();
        found
    };
    let before = files();
    // Longer than the poll.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(bench.world.bucket.requests().len(), 0);
    assert_eq!(files(), before);
    running.stop();
}

#[test]
fn a_reload_changes_what_comes_next() {
    let bench = Bench::new();
    let running = bench.start();
    let first = add(&bench, "first");
    bench.lands(std::slice::from_ref(&first));
    let mut setup = bench.setup();
    setup.options.keys = [].into();
    running.host.reloads.lock().unwrap().push(Err("loft.toml:3 is wrong".to_owned()));
    running.host.reloads.lock().unwrap().push(Ok(setup));
    running.command(Command::Reload);
    eventually("the mistake is told", || bench.told.has("loft.toml:3 is wrong"));
    let second = add(&bench, "second");
    bench.lands(std::slice::from_ref(&second));
    running.command(Command::Reload);
    eventually("it reloaded twice", || running.host.reloads.lock().unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(100));
    let third = add(&bench, "third");
    bench.lands(std::slice::from_ref(&third));
    running.stop();
    let signed = |path: &StorePath| {
        let visible = bench.world.check();
        visible.iter().find(|info| info.path == *path).unwrap().signatures.len()
    };
    assert_eq!((signed(&first), signed(&second), signed(&third)), (1, 1, 0));
}

#[test]
fn signs_of_life_come_in_time_even_when_much_happens() {
    let mut bench = Bench::new();
    bench.alive_every = Some(Duration::from_millis(50));
    let running = bench.start();
    let until = Instant::now() + Duration::from_secs(2);
    let mut paths = Vec::new();
    while Instant::now() < until {
        paths.push(add(&bench, &format!("p{}", paths.len())));
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.lands(&paths);
    let signs = running.host.calls.lock().unwrap().iter().filter(|call| *call == "alive").count();
    assert!(signs >= 10, "{signs} in two seconds");
    running.stop();
}

#[test]
fn two_services_refuse_each_other_and_a_push_works_beside_one() {
    let bench = Bench::new();
    let running = bench.start();
    assert!(Lock::take(&bench.ledger_file()).unwrap_err().to_string().contains("Another loft service"));
    let aside = add(&bench, "aside");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let setup = bench.setup();
    let request = loft::plan::Request::Closures(vec![aside.clone()]);
    runtime.block_on(loft::push::run(&setup.ends, &setup.options, request)).unwrap();
    bench.lands(&[aside]);
    bench.empties();
    running.stop();
}

#[test]
fn many_at_once_are_one_push() {
    let bench = Bench::new();
    bench.start().stop();
    let paths = add_many(&bench, "p", 300);
    let running = bench.start();
    bench.lands(&paths);
    bench.empties();
    running.stop();
    assert_eq!(bench.world.keys("loft/v1/push/").len(), 1);
    let heads = bench.world.bucket.count(RequestKind::Head);
    assert!(heads < 700, "{heads} HEADs");
}

#[test]
fn a_ledger_that_cannot_be_written_costs_no_path() {
    let bench = Bench::new();
    bench.start().stop();
    let running = bench.start();
    // Another process holds the write lock for longer than anybody waits.
    let holder = rusqlite::Connection::open(bench.ledger_file()).unwrap();
    let page_limit: i64 = holder.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    holder
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON queue BEGIN SELECT RAISE(FAIL, 'disk full'); END")
        .unwrap();
    assert!(page_limit > 0);
    let paths = add_many(&bench, "p", 5);
    bench.lands(&paths);
    eventually("it is told", || bench.told.has("outage: ledger"));
    holder.execute_batch("DROP TRIGGER full").unwrap();
    let more = add_many(&bench, "q", 5);
    bench.lands(&more);
    eventually("it is over", || bench.told.has("recovered: ledger"));
    running.stop();
    // What could not be written then is noticed by the next start, and is there already.
    let running = bench.start();
    bench.empties();
    running.stop();
}

#[test]
fn a_bucket_that_refuses_is_told_before_there_is_anything_to_push() {
    let bench = Bench::new();
    bench.world.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Denied));
    let running = bench.start();
    eventually("it is told", || bench.told.has("outage: bucket"));
    bench.world.set_faults(|_, _| None);
    eventually("and that it is over", || bench.told.has("recovered: bucket"));
    running.stop();
}
