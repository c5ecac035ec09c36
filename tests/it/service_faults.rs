//! The service while something is wrong: nothing is missed, nothing spins, and it still ends when it is told to.

use crate::support::fake_daemon::{Answer, FakeDaemon, Request as Asked, Script};
use crate::support::memory::{Fault, Moment};
use crate::support::service::{Bench, eventually};
use loft::bucket::RequestKind;
use loft::nix::{Sha256, StorePath};
use loft::service::socket_path;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn add(bench: &Bench, name: &str) -> StorePath {
    bench.world.store.add(name).contents(name).finish()
}

fn ledger_sql(bench: &Bench, sql: &str) {
    rusqlite::Connection::open(bench.ledger_file()).unwrap().execute_batch(sql).unwrap();
}

const NOTHING_IN: &str = "CREATE TRIGGER no_in BEFORE INSERT ON queue BEGIN SELECT RAISE(FAIL, 'disk full'); END";
const NOTHING_OUT: &str = "CREATE TRIGGER no_out BEFORE DELETE ON queue BEGIN SELECT RAISE(FAIL, 'disk full'); END";

fn refuse_all(bench: &Bench) {
    bench.world.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Unavailable(None)));
}

#[test]
fn what_the_ledger_could_not_take_is_not_passed_over_once_it_can() {
    let bench = Bench::new();
    bench.start().stop();
    let running = bench.start();
    refuse_all(&bench);
    ledger_sql(&bench, NOTHING_IN);
    let first = add(&bench, "first");
    eventually("the ledger's outage is told", || bench.told.has("outage: ledger"));
    ledger_sql(&bench, "DROP TRIGGER no_in");
    let second = add(&bench, "second");
    eventually("the second is queued", || {
        bench.ledger().queue().list(10).unwrap().iter().any(|queued| queued.path == second)
    });
    // It ends before either has landed: all that is left is what the ledger holds.
    running.stop();
    bench.world.set_faults(|_, _| None);
    let running = bench.start();
    bench.lands(&[first, second]);
    running.stop();
}

#[test]
fn a_queue_that_cannot_be_emptied_is_no_busy_loop() {
    let bench = Bench::new();
    let running = bench.start();
    ledger_sql(&bench, NOTHING_OUT);
    let path = add(&bench, "path");
    bench.lands(&[path]);
    eventually("the ledger's outage is told", || bench.told.has("outage: ledger"));
    let before = bench.world.bucket.requests().len();
    std::thread::sleep(Duration::from_secs(1));
    let in_a_second = bench.world.bucket.requests().len() - before;
    // An attempt each 100 ms at the most, of some ten requests.
    assert!(in_a_second <= 130, "{in_a_second} requests in a second");
    ledger_sql(&bench, "DROP TRIGGER no_out");
    bench.empties();
    running.stop();
}

#[test]
fn a_path_that_fails_and_cannot_be_queued_is_no_busy_loop() {
    let bench = Bench::new();
    let running = bench.start();
    ledger_sql(&bench, NOTHING_IN);
    bench.world.store.add("damaged").contents("x").wrong_nar_hash(Sha256::of(b"y")).finish();
    eventually("the ledger's outage is told", || bench.told.has("outage: ledger"));
    let before = bench.world.bucket.requests().len();
    std::thread::sleep(Duration::from_secs(1));
    let in_a_second = bench.world.bucket.requests().len() - before;
    assert!(in_a_second <= 130, "{in_a_second} requests in a second");
    ledger_sql(&bench, "DROP TRIGGER no_in");
    eventually("it is queued, and postponed", || bench.told.has("postponed"));
    running.stop();
}

#[test]
fn a_path_that_comes_back_while_it_is_found_collected_is_not_forgotten() {
    let bench = Bench::new();
    bench.start().stop();
    let (path, other) = (add(&bench, "path"), add(&bench, "other"));
    let name = bench.world.store.logical(&path);
    let columns = "path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca";
    bench.world.store.sql(|db| {
        db.execute_batch(&format!(
            "create temp table saved as select {columns} from ValidPaths where path = '{name}';
             delete from ValidPaths where path = '{name}'"
        ))
        .unwrap();
    });
    // The push of `other`, which has seen that `path` is gone.
    let under_way = Arc::new(AtomicBool::new(false));
    let seen = under_way.clone();
    bench.world.set_faults(move |moment, sent| {
        let slow = moment == Moment::Before && sent.kind == RequestKind::Put && sent.on.starts_with("nar/");
        (slow && !seen.swap(true, Ordering::SeqCst)).then_some(Fault::Delay(Duration::from_secs(2)))
    });
    bench.ledger().queue().add(std::slice::from_ref(&path), std::time::SystemTime::now()).unwrap();
    let running = bench.start();
    eventually("the push is under way", || under_way.load(Ordering::SeqCst));
    let noticed = bench.told.count("noticed");
    bench.world.store.sql(|db| {
        db.execute_batch(&format!("insert into ValidPaths ({columns}) select {columns} from temp.saved")).unwrap();
    });
    eventually("it is noticed again", || bench.told.count("noticed") > noticed);
    bench.lands(&[path, other]);
    bench.empties();
    running.stop();
}

#[test]
fn a_damaged_registration_does_not_keep_the_first_scan_from_everything() {
    let mut bench = Bench::new();
    bench.scan = true;
    let good = add(&bench, "good");
    let bad = add(&bench, "bad");
    let name = bench.world.store.logical(&bad);
    bench.world.store.sql(|db| {
        db.execute("update ValidPaths set path = 'nonsense' where path = ?", [name]).unwrap();
    });
    let running = bench.start();
    bench.lands(&[good]);
    eventually("the scan is done", || bench.told.has("scanned"));
    running.stop();
}

#[test]
fn a_daemon_that_falls_silent_costs_neither_signs_of_life_nor_the_end() {
    let mut bench = Bench::new();
    bench.alive_every = Some(Duration::from_millis(50));
    bench.daemon_timeout = Some(Duration::from_secs(600));
    let socket = bench.world.store.state_dir().join("daemon-socket/socket");
    let daemon = FakeDaemon::start_at(&socket, Script::answering(|_| Answer::Silence));
    let running = bench.start();
    add(&bench, "path");
    eventually("a root is asked for", || {
        daemon.requests().iter().any(|asked| matches!(asked, (_, Asked::AddTempRoot(_))))
    });
    let signs = || running.host.calls.lock().unwrap().iter().filter(|call| *call == "alive").count();
    let before = signs();
    std::thread::sleep(Duration::from_secs(1));
    assert!(signs() - before >= 10, "{} in a second", signs() - before);
    let began = Instant::now();
    running.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(bench.waiting(), 1, "what was noticed is queued before the daemon is asked for anything");
}

#[test]
fn a_hook_hears_queued_only_once_that_is_durable() {
    let bench = Bench::new();
    let old = add(&bench, "old");
    let running = bench.start();
    ledger_sql(&bench, NOTHING_IN);
    let mut stream = UnixStream::connect(socket_path(&bench.ledger_file())).unwrap();
    stream.write_all(format!("{old}\n").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
    // It is pushed all the same.
    bench.lands(&[old]);
    running.stop();
}

#[test]
fn what_a_hook_queued_by_itself_does_not_wait_for_a_path_that_fails() {
    let mut bench = Bench::new();
    (bench.pace.first_delay, bench.pace.longest_for_path) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let old = add(&bench, "old");
    let running = bench.start();
    bench.world.store.add("damaged").contents("x").wrong_nar_hash(Sha256::of(b"y")).finish();
    eventually("the damaged one is postponed", || bench.told.has("postponed"));
    bench.ledger().queue().add(std::slice::from_ref(&old), std::time::SystemTime::now()).unwrap();
    bench.lands(&[old]);
    running.stop();
}

#[test]
fn a_listing_that_is_refused_keeps_nothing_from_the_bucket() {
    let mut bench = Bench::new();
    bench.populate = true;
    bench.world.set_faults(|moment, sent| {
        let narinfos = sent.kind == RequestKind::List && !sent.on.starts_with("loft/");
        (moment == Moment::Before && narinfos).then_some(Fault::Denied)
    });
    let running = bench.start();
    let path = add(&bench, "path");
    bench.lands(&[path]);
    assert!(bench.told.has("not filled from a listing"));
    running.stop();
}

/// A ledger that takes nothing from the very first look on.
#[test]
fn what_becomes_valid_after_the_first_look_is_new_even_if_that_look_could_not_be_written() {
    let bench = Bench::new();
    let old = bench.world.store.add("old").contents("old").finish();
    drop(bench.ledger());
    let holder = rusqlite::Connection::open(bench.ledger_file()).unwrap();
    holder
        .execute_batch(
            "CREATE TRIGGER no_place BEFORE INSERT ON place BEGIN SELECT RAISE(FAIL, 'disk full'); END;
             CREATE TRIGGER no_queue BEFORE INSERT ON queue BEGIN SELECT RAISE(FAIL, 'disk full'); END;",
        )
        .unwrap();
    let running = bench.start();
    let new: Vec<_> = (0..3).map(|n| bench.world.store.add(&format!("new{n}")).contents("x").finish()).collect();
    bench.lands(&new);
    holder.execute_batch("DROP TRIGGER no_place; DROP TRIGGER no_queue;").unwrap();
    eventually("the place is written", || {
        bench.ledger().queue().counts().is_ok() && bench.told.has("recovered: ledger")
    });
    let newer = bench.world.store.add("newer").contents("y").finish();
    bench.lands(&[newer]);
    running.stop();
    assert!(!bench.world.visible().contains(&old));
}

/// The same, and nothing at all is registered until the service has ended.
#[test]
fn the_place_of_a_first_look_is_written_as_soon_as_that_works() {
    let bench = Bench::new();
    bench.world.store.add("old").contents("old").finish();
    drop(bench.ledger());
    let holder = rusqlite::Connection::open(bench.ledger_file()).unwrap();
    let full = "CREATE TRIGGER no_place BEFORE INSERT ON place BEGIN SELECT RAISE(FAIL, 'disk full'); END";
    holder.execute_batch(full).unwrap();
    let running = bench.start();
    eventually("it is told", || bench.told.has("outage: ledger"));
    holder.execute_batch("DROP TRIGGER no_place").unwrap();
    let place = || holder.query_row("SELECT count(*) FROM place", [], |row| row.get::<_, i64>(0)).unwrap();
    eventually("the place is written", || place() == 1);
    running.stop();
    let away = bench.world.store.add("away").contents("away").finish();
    let running = bench.start();
    bench.lands(&[away]);
    running.stop();
}
