//! Tries to make the ledger lie, block or fail.

mod views;
mod watching;

use super::*;
use crate::nix::StorePath;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::UNIX_EPOCH;
use watching::paths;

fn bucket(generation: &str) -> BucketIdentity {
    BucketIdentity { url: "s3://cache".to_owned(), generation: generation.to_owned() }
}

/// The `n`th of many different hashes.
fn hash(n: u64) -> PathHash {
    let digits = crate::nix::base32::encode(&Sha256::of(&n.to_le_bytes()).as_bytes()[..20]);
    PathHash::parse(&digits).unwrap()
}

fn hashes(range: std::ops::Range<u64>) -> Vec<PathHash> {
    range.map(hash).collect()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("a/b/cache.db")
}

#[test]
fn remembers_across_openings_for_one_bucket_and_one_day() {
    let dir = tempfile::tempdir().unwrap();
    Ledger::open(&file(&dir)).remember(&bucket("g1"), &hashes(0..3), at(0));
    let ledger = Ledger::open(&file(&dir));
    assert_eq!(ledger.trouble(), None);
    let asked = hashes(2..5);
    assert_eq!(ledger.known(&bucket("g1"), &asked, at(0)), HashSet::from([hash(2)]));
    assert_eq!(ledger.known(&bucket("g1"), &asked, at(86_399)).len(), 1);
    assert_eq!(ledger.known(&bucket("g1"), &asked, at(86_400)).len(), 0);
    assert_eq!(ledger.known(&bucket("g1"), &asked, at(0) - Duration::from_secs(5)).len(), 0, "from the future");
    assert_eq!(ledger.known(&bucket("g2"), &asked, at(0)).len(), 0);
    let elsewhere = BucketIdentity { url: "s3://other".into(), ..bucket("g1") };
    assert_eq!(ledger.known(&elsewhere, &asked, at(0)).len(), 0);
    ledger.forget(&bucket("g1"), &asked);
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..5), at(1)), HashSet::from([hash(0), hash(1)]));
}

#[test]
fn a_listing_replaces_all_and_tells_the_size() {
    let ledger = Ledger::in_memory();
    let elsewhere = BucketIdentity { url: "s3://other".into(), ..bucket("g1") };
    ledger.remember(&elsewhere, &hashes(0..2), at(0));
    ledger.remember(&bucket("g1"), &hashes(0..5), at(0));
    assert_eq!(ledger.bucket_size(&bucket("g1")), None, "not listed yet");
    ledger.replace(&bucket("g1"), &hashes(4..10), at(1));
    assert_eq!(ledger.bucket_size(&bucket("g1")), Some(6));
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..20), at(2)), hashes(4..10).into_iter().collect());
    assert_eq!(ledger.known(&elsewhere, &hashes(0..20), at(2)).len(), 2);
    assert_eq!(ledger.len(), 8);
    ledger.clear().unwrap();
    assert!(ledger.is_empty());
    assert_eq!(ledger.bucket_size(&bucket("g1")), None);
}

#[test]
fn a_new_generation_ends_the_old_one() {
    let ledger = Ledger::in_memory();
    ledger.remember(&bucket("g1"), &hashes(0..5), at(0));
    ledger.remember(&bucket("g2"), &hashes(5..6), at(0));
    assert_eq!(ledger.len(), 1, "rows of a bucket that was made anew are of no use");
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..6), at(0)).len(), 0);
}

#[test]
fn remembers_pushes() {
    let dir = tempfile::tempdir().unwrap();
    let (roots, others) = (Sha256::of(b"roots"), Sha256::of(b"others"));
    Ledger::open(&file(&dir)).remember_push(&bucket("g1"), &roots, at(7));
    let ledger = Ledger::open(&file(&dir));
    assert_eq!(ledger.last_push(&bucket("g1"), &roots), Some(at(7)));
    assert_eq!(ledger.last_push(&bucket("g1"), &others), None);
    assert_eq!(ledger.last_push(&bucket("g2"), &roots), None);
    ledger.remember_push(&bucket("g1"), &roots, at(9));
    assert_eq!(ledger.last_push(&bucket("g1"), &roots), Some(at(9)));
}

#[test]
fn old_rows_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    Ledger::open(&file(&dir)).remember(&bucket("g1"), &hashes(0..50), at(0));
    let ledger = Ledger::open(&file(&dir));
    ledger.remember(&bucket("g1"), &hashes(50..51), at(2 * 86_400));
    assert_eq!(ledger.len(), 1);
}

#[test]
fn strange_times_are_harmless() {
    let ledger = Ledger::in_memory();
    let before = UNIX_EPOCH - Duration::from_secs(10);
    ledger.remember(&bucket("g1"), &hashes(0..1), before);
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..1), before + Duration::from_secs(1)).len(), 1);
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..1), at(0)).len(), 0);
    let far = UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
    ledger.remember(&bucket("g1"), &hashes(1..2), far);
    assert_eq!(ledger.known(&bucket("g1"), &hashes(1..2), before).len(), 0);
    assert_eq!(ledger.trouble(), None);
}

#[test]
fn the_file_is_the_users_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&file(&dir));
    ledger.remember(&bucket("g1"), &hashes(0..1), at(0));
    for name in ["cache.db", "cache.db-wal"] {
        let mode = fs::metadata(dir.path().join("a/b").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn many_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir);
    // Two openings (as two processes have them) and two threads on each, from the first moment of the file on.
    std::thread::scope(|scope| {
        for opening in 0..2 {
            let path = &path;
            scope.spawn(move || {
                let ledger = Ledger::open(path);
                std::thread::scope(|scope| {
                    for thread in 0..2 {
                        let ledger = &ledger;
                        scope.spawn(move || {
                            for batch in 0..25 {
                                let from = (opening * 2 + thread) * 1000 + batch * 20;
                                ledger.remember(&bucket("g1"), &hashes(from..from + 20), at(0));
                            }
                        });
                    }
                });
                assert_eq!(ledger.trouble(), None);
            });
        }
    });
    assert_eq!(Ledger::open(&path).len(), 4 * 25 * 20);
}

#[test]
fn a_writer_that_died_leaves_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir);
    let ledger = Ledger::open(&path);
    ledger.remember(&bucket("g1"), &hashes(0..10), at(0));
    {
        let state = ledger.lock();
        let connection = state.connection.as_ref().unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        rows::remember(connection, &bucket("g1"), &hashes(10..20), at(0)).unwrap();
    }
    // What a killed process leaves behind: the files as they are in mid-transaction, copied.
    let copy = dir.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(path.with_extension("db-wal"), dir.path().join("copy.db-wal")).unwrap();
    std::mem::forget(ledger);
    let after = Ledger::open(&copy);
    assert_eq!(after.trouble(), None);
    assert_eq!(after.known(&bucket("g1"), &hashes(0..20), at(1)), hashes(0..10).into_iter().collect());
}

/// T6: whatever stands in the file, nothing is "present" that was not remembered, for that bucket and time.
#[test]
fn damage_never_makes_a_path_present() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole.db");
    {
        let ledger = Ledger::open(&path);
        ledger.remember(&bucket("g1"), &hashes(0..200), at(0));
        ledger.remember(&BucketIdentity { url: "s3://other".into(), ..bucket("g1") }, &hashes(200..400), at(0));
        ledger.lock().connection.as_ref().unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    let whole = fs::read(&path).unwrap();
    let stale = at(86_400 + 10);
    let (mut still_known, mut troubled) = (0, 0);
    for case in 0..200usize {
        let mut bytes = whole.clone();
        // Spread over the file, the first page (header and schema) more densely.
        let offset = if case < 80 { case * 3 } else { case * (whole.len() / 200) };
        match case % 4 {
            0 => bytes[offset] ^= 1 << (case % 8),
            1 => bytes[offset] = 0xff,
            2 => bytes.truncate(offset),
            _ => {
                let end = (offset + 512).min(bytes.len());
                bytes[offset..end].fill(0x41);
            }
        }
        let damaged = dir.path().join(format!("{case}.db"));
        fs::write(&damaged, &bytes).unwrap();
        let ledger = Ledger::open(&damaged);
        let known = ledger.known(&bucket("g1"), &hashes(0..600), at(1));
        assert!(known.is_subset(&hashes(0..200).into_iter().collect()), "case {case}");
        assert!(ledger.known(&bucket("g1"), &hashes(0..600), stale).is_empty(), "case {case}");
        assert!(ledger.known(&bucket("g2"), &hashes(0..600), at(1)).is_empty(), "case {case}");
        // It goes on, or says why not; the next opening is fine either way unless it is "newer" now.
        ledger.remember(&bucket("g1"), &hashes(0..3), at(1));
        let trouble = ledger.trouble();
        troubled += u32::from(trouble.is_some());
        still_known += u32::from(!known.is_empty());
        if trouble.is_none() {
            assert_eq!(ledger.known(&bucket("g1"), &hashes(0..3), at(1)).len(), 3, "case {case}");
        }
    }
    assert!(still_known > 20 && troubled > 20, "{still_known} {troubled}: the cases do not try what they should");
}

/// Every bit of one row in turn: its time must not become fresh, its bucket not another.
#[test]
fn a_flipped_bit_in_a_row_makes_it_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole.db");
    let other = BucketIdentity { url: "s3://other".into(), ..bucket("g1") };
    {
        let ledger = Ledger::open(&path);
        ledger.remember(&bucket("g1"), &[], at(0));
        ledger.remember(&other, &hashes(0..1), at(0));
        ledger.lock().connection.as_ref().unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    let whole = fs::read(&path).unwrap();
    let text = hash(0).as_str().as_bytes().to_vec();
    let row = whole.windows(text.len()).position(|bytes| bytes == text).unwrap();
    let damaged = dir.path().join("damaged.db");
    let mut unknown = 0;
    for bit in (row - 8) * 8..(row + text.len() + 12) * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&damaged, &bytes).unwrap();
        let ledger = Ledger::open(&damaged);
        for days in 1..4 {
            assert!(ledger.known(&other, &hashes(0..1), at(days * 86_400 + 10)).is_empty(), "bit {bit}");
        }
        for seconds in [0, 1, 40_000, 86_399] {
            assert!(ledger.known(&bucket("g1"), &hashes(0..1), at(seconds)).is_empty(), "bit {bit}");
        }
        unknown += u32::from(ledger.known(&other, &hashes(0..1), at(1)).is_empty());
        drop(ledger);
        for suffix in ["-wal", "-shm", ".corrupt"] {
            let _ = fs::remove_file(dir.path().join(format!("damaged.db{suffix}")));
        }
    }
    assert!(unknown > 300, "{unknown}");
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    fs::write(&path, "no database at all, but quite a long text to look at".repeat(100)).unwrap();
    let ledger = Ledger::open(&path);
    let trouble = ledger.trouble().unwrap();
    assert!(trouble.contains("cache.db.corrupt"), "{trouble}");
    ledger.remember(&bucket("g1"), &hashes(0..3), at(0));
    drop(ledger);
    let again = Ledger::open(&path);
    assert_eq!(again.trouble(), None);
    assert_eq!(again.len(), 3);
    assert!(fs::read(dir.path().join("cache.db.corrupt")).unwrap().starts_with(b"no database"));
}

#[test]
fn another_programs_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE ValidPaths (id INTEGER); ").unwrap();
    let before = fs::read(&path).unwrap();
    let ledger = Ledger::open(&path);
    ledger.remember(&bucket("g1"), &hashes(0..3), at(0));
    ledger.clear().unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(dir.path().join("db.sqlite.loft").exists());
}

#[test]
fn a_newer_format_is_neither_read_nor_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    Ledger::open(&path).remember(&bucket("g1"), &hashes(0..3), at(0));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let ledger = Ledger::open(&path);
    assert!(ledger.trouble().unwrap().contains("newer loft"));
    assert!(ledger.known(&bucket("g1"), &hashes(0..3), at(0)).is_empty());
    ledger.remember(&bucket("g1"), &hashes(3..4), at(0));
    assert!(ledger.clear().is_err(), "what cannot be read cannot be emptied, and the user asked for it");
    let rows: i64 =
        Connection::open(&path).unwrap().query_row("SELECT count(*) FROM path", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3);
}

#[test]
fn places_that_cannot_be_written_are_told_and_harmless() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let below_a_file = dir.path().join("file/cache.db");
    for path in [dir.path(), &below_a_file, &fifo, Path::new("/proc/nothing/cache.db"), Path::new("/dev/full")] {
        let ledger = Ledger::open(path);
        let trouble = ledger.trouble().unwrap();
        assert!(trouble.contains(&path.display().to_string()), "{trouble}");
        ledger.remember(&bucket("g1"), &hashes(0..1), at(0));
        ledger.replace(&bucket("g1"), &hashes(0..1), at(0));
        assert!(ledger.known(&bucket("g1"), &hashes(0..1), at(0)).is_empty());
        assert_eq!((ledger.len(), ledger.bucket_size(&bucket("g1"))), (0, None));
        assert!(ledger.clear().is_err());
    }
}

#[test]
fn a_full_disk_is_told_and_what_is_there_is_still_known() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&file(&dir));
    ledger.remember(&bucket("g1"), &hashes(0..10), at(0));
    // SQLITE_FULL, as from a full disk: the file may not grow any more.
    ledger.lock().connection.as_ref().unwrap().pragma_update(None, "max_page_count", 1).unwrap();
    ledger.remember(&bucket("g1"), &hashes(10..5000), at(0));
    assert!(ledger.trouble().unwrap().contains("full"));
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..5000), at(1)), hashes(0..10).into_iter().collect());
}

#[test]
fn a_lock_that_nobody_gives_back_costs_time_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&file(&dir));
    ledger.remember(&bucket("g1"), &hashes(0..1), at(0));
    ledger.lock().connection.as_ref().unwrap().busy_timeout(Duration::from_millis(200)).unwrap();
    let other = Connection::open(file(&dir)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = std::time::Instant::now();
    for _ in 0..10 {
        ledger.remember(&bucket("g1"), &hashes(1..2), at(0));
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(ledger.trouble().unwrap().contains("locked"));
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..2), at(0)), HashSet::from([hash(0)]), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    ledger.remember(&bucket("g1"), &hashes(1..2), at(0));
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..2), at(0)).len(), 2);
}

#[test]
fn an_older_ledger_gets_the_new_tables() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir);
    Ledger::open(&file).remember(&bucket("g1"), &hashes(0..2), at(0));
    let db = Connection::open(&file).unwrap();
    db.execute_batch(
        "DROP TABLE copy; DROP TABLE queue; DROP TABLE place; DROP TABLE inventory; DROP TABLE outage; DROP TABLE total;
         ALTER TABLE bucket DROP COLUMN scan_begun; ALTER TABLE bucket DROP COLUMN scan_done; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(db);
    let ledger = Ledger::open(&file);
    assert_eq!(ledger.trouble(), None);
    assert_eq!(ledger.known(&bucket("g1"), &hashes(0..2), at(1)).len(), 2);
    ledger.queue().add(&paths(0..1), at(0)).unwrap();
    assert_eq!(ledger.watch().scan(&bucket("g1")).unwrap(), Scan::Due);
    let version = Version { key: "k".to_owned(), etag: "e".to_owned() };
    ledger.copies(&bucket("g1")).keep(&[(version.clone(), bytes::Bytes::from_static(b"x"))]);
    assert_eq!(ledger.copies(&bucket("g1")).get(&[version]).len(), 1);
}

/// A service's user could otherwise have a root that runs a post-build hook make or take over any file.
#[test]
fn root_follows_no_link_in_the_folder_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("service");
    fs::create_dir(&folder).unwrap();
    // As systemd does for a dynamic user.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    std::os::unix::fs::chown(&folder, Some(4711), Some(4712)).unwrap();
    let (file, elsewhere) = (link.join("cache.db"), dir.path().join("elsewhere"));

    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert!(Ledger::open(&file).queue().add(&paths(0..1), at(0)).is_err());
    assert!(!elsewhere.exists(), "nothing is made where a link leads");
    fs::write(&elsewhere, "").unwrap();
    assert!(Ledger::open(&file).queue().add(&paths(0..1), at(0)).is_err());
    let found = fs::metadata(&elsewhere).unwrap();
    assert_eq!((found.len(), found.uid()), (0, 0), "nothing is written or given away where a link leads");

    fs::remove_file(&file).unwrap();
    let ledger = Ledger::open(&file);
    ledger.queue().add(&paths(0..1), at(0)).unwrap();
    for entry in fs::read_dir(&folder).unwrap() {
        let found = entry.unwrap();
        let owner = found.metadata().unwrap();
        assert_eq!((owner.uid(), owner.gid()), (4711, 4712), "{:?} is the service's", found.file_name());
    }
    drop(ledger);
    assert_eq!(Ledger::open(&file).queue().counts().unwrap().waiting, 1);
}
