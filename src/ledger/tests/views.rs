//! Views: they see everything and change nothing.

use super::*;
use crate::nix::StorePath;
use crate::store::Cursor;

fn listed(dir: &tempfile::TempDir) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir.path().join("a/b")) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_view_sees_everything_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Ledger::view(&file(&dir)).is_none());
    assert_eq!(listed(&dir), Vec::<String>::new(), "not even the directory is made");

    let ledger = Ledger::open(&file(&dir));
    ledger.replace(&bucket("g1"), &hashes(0..7), at(0));
    let path = StorePath::parse(&format!("{}-a", hash(1))).unwrap();
    let cursor = Cursor { database: "d".into(), id: 41, path: None };
    ledger.watch().notice("store", std::slice::from_ref(&path), false, &cursor, at(3)).unwrap();
    ledger.watch().notice_inventory("daemon", &[], false, &[], &[], at(3)).unwrap();
    ledger.watch().begin_scan(&bucket("g1"), &[], at(5)).unwrap();
    ledger.watch().note_outage("bucket", "refused", at(6)).unwrap();
    // While the writer is there, and after it: the journal is gone then.
    for ledger in [Some(ledger), None] {
        let before = (listed(&dir), fs::read(file(&dir)).unwrap());
        let view = Ledger::view(&file(&dir)).unwrap();
        assert_eq!(view.trouble(), None);
        let told = view.snapshot(10).unwrap();
        assert_eq!((told.rows, told.queue.waiting, told.queue.oldest), (7, 1, Some(at(3))));
        assert_eq!(told.queued[0].path, path);
        assert_eq!(told.places, [("daemon".to_owned(), None), ("store".to_owned(), Some(cursor.clone()))]);
        let known = KnownBucket { identity: bucket("g1"), size: Some(7), scan: Scan::Begun(at(5)) };
        assert_eq!(told.buckets, [known]);
        assert_eq!(told.outages[0].error, "refused");
        assert!(told.bytes > 10_000, "{}", told.bytes);
        view.remember(&bucket("g1"), &hashes(0..99), at(7));
        assert!(view.clear().is_err());
        assert!(view.queue().add(std::slice::from_ref(&path), at(9)).is_err());
        assert_eq!(view.snapshot(0).unwrap().rows, 7);
        drop(view);
        assert_eq!((listed(&dir), fs::read(file(&dir)).unwrap()), before);
        drop(ledger);
    }
}

#[test]
fn a_view_leaves_what_is_not_a_ledger_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(file(&dir).parent().unwrap()).unwrap();
    let foreign = || {
        let other = Connection::open(file(&dir)).unwrap();
        other.execute_batch("CREATE TABLE a (b)").unwrap();
    };
    let older = || {
        let other = Connection::open(file(&dir)).unwrap();
        other
            .execute_batch("PRAGMA application_id = 0x6c6f6674; PRAGMA user_version = 1; CREATE TABLE path (a)")
            .unwrap();
    };
    let newer = || {
        older();
        Connection::open(file(&dir)).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    };
    let garbage = || fs::write(file(&dir), vec![b'x'; 8192]).unwrap();
    let torn = || {
        Ledger::open(&file(&dir)).remember(&bucket("g1"), &hashes(0..5000), at(0));
        let mut bytes = fs::read(file(&dir)).unwrap();
        bytes[4096..].fill(0x55);
        fs::write(file(&dir), bytes).unwrap();
    };
    let empty = || fs::write(file(&dir), "").unwrap();
    let cases: [(&str, &dyn Fn()); 6] = [
        ("another program's", &foreign),
        ("older loft", &older),
        ("newer loft", &newer),
        ("damaged", &garbage),
        ("damaged", &torn),
        ("empty", &empty),
    ];
    for (word, make) in cases {
        make();
        let before = (listed(&dir), fs::read(file(&dir)).unwrap());
        let view = Ledger::view(&file(&dir)).unwrap();
        let error = view.snapshot(10).unwrap_err();
        let told = format!("{:?} {}", view.trouble(), crate::remedy::chain(&error));
        assert!(told.contains(word), "{told}");
        drop(view);
        assert_eq!((listed(&dir), fs::read(file(&dir)).unwrap()), before, "{word}");
        fs::remove_file(file(&dir)).unwrap();
    }
    // A directory in its place.
    fs::create_dir(file(&dir)).unwrap();
    assert!(Ledger::view(&file(&dir)).unwrap().trouble().unwrap().contains("not a regular file"));
}
