//! The local store: its database, its closure, and the daemon in its place where the database fails.

use crate::support::fake_daemon::{FakeDaemon, Request, Script};
use crate::support::fixture_store::FixtureStore;
use loft::nix::{PathInfo, Sha256, StorePath};
use loft::remedy::Remedy;
use loft::store::{Cursor, Protection, StoreError, closure, open, resolve};
use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

const SIGNATURE: &str =
    "key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
const CA: &str = "fixed:r:sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

/// One path for every column, and one without any.
fn varied(fixture: &FixtureStore) -> Vec<StorePath> {
    let plain = fixture.add("plain").contents("text").finish();
    let deriver = fixture.missing("full.drv");
    let full = fixture
        .add("full")
        .executable("bin/full", "#!/bin/sh\n")
        .symlink("bin/alias", "full")
        .directory("empty")
        .reference(&plain)
        .self_reference()
        .deriver(&deriver)
        .ultimate()
        .signature(SIGNATURE)
        .signature(SIGNATURE.replace("key-1", "key-2"))
        .finish();
    let old = fixture.add("old").link("/nowhere").unknown_nar_size().ca(CA).finish();
    let top = fixture.add("top").file("a", "b").references([&old, &full, &plain]).finish();
    vec![plain, full, old, top]
}

fn expected(fixture: &FixtureStore, paths: &[StorePath]) -> Vec<Option<PathInfo>> {
    paths.iter().map(|path| Some(fixture.info(path))).collect()
}

fn paths_of(infos: &[PathInfo]) -> Vec<StorePath> {
    infos.iter().map(|info| info.path.clone()).collect()
}

fn daemon_of(fixture: &FixtureStore, script: Script) -> FakeDaemon {
    FakeDaemon::start_at(&fixture.state_dir().join("daemon-socket/socket"), script)
}

#[test]
fn database_tells_what_was_registered() {
    let fixture = FixtureStore::new();
    let paths = varied(&fixture);
    let store = open(&fixture.settings()).unwrap();
    assert_eq!(store.path_infos(&paths).unwrap(), expected(&fixture, &paths));
    let missing = fixture.missing("missing");
    let asked = [paths[1].clone(), missing, paths[1].clone()];
    let infos = store.path_infos(&asked).unwrap();
    assert_eq!(infos[0], infos[2]);
    assert_eq!(infos[1], None);
    assert!(store.path_infos(&[]).unwrap().is_empty());
    let all: HashSet<_> = store.all_valid_paths().unwrap().into_iter().collect();
    assert_eq!(all, paths.iter().cloned().collect());
    let described = store.describe();
    assert!(described.starts_with("/nix/store in /") && described.ends_with("(database)"), "{described}");
}

#[test]
fn database_is_read_anew_each_time() {
    let fixture = FixtureStore::new();
    let path = fixture.add("a").contents("a").finish();
    let store = open(&fixture.settings()).unwrap();
    assert!(store.path_infos(std::slice::from_ref(&path)).unwrap()[0].is_some());
    fixture.sign(&path, SIGNATURE);
    assert_eq!(store.path_infos(std::slice::from_ref(&path)).unwrap(), expected(&fixture, std::slice::from_ref(&path)));
    fixture.collect(&path);
    assert_eq!(store.path_infos(&[path]).unwrap(), [None]);
    // No reader is left behind that would keep the log from being emptied.
    let busy: i64 = fixture.sql(|db| db.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get(0)).unwrap());
    assert_eq!(busy, 0);
}

#[test]
fn closure_is_complete_and_in_order() {
    let fixture = FixtureStore::new();
    let paths = varied(&fixture);
    fixture.add("unrelated").contents("x").finish();
    let store = open(&fixture.settings()).unwrap();
    let found = closure(store.as_ref(), &[paths[3].clone(), paths[0].clone()]).unwrap().infos;
    assert_eq!(paths_of(&found).into_iter().collect::<HashSet<_>>(), paths.iter().cloned().collect());
    for info in &found {
        assert_eq!(*info, fixture.info(&info.path));
    }
    let mut before = HashSet::new();
    for info in &found {
        assert!(info.references.iter().all(|path| *path == info.path || before.contains(path)));
        before.insert(info.path.clone());
    }
    let missing = fixture.missing("missing");
    let error = closure(store.as_ref(), std::slice::from_ref(&missing)).unwrap_err();
    assert!(matches!(&error, StoreError::NotValid { path, .. } if *path == missing), "{error}");
}

#[test]
fn closures_through_both_back_ends_are_equal() {
    let fixture = FixtureStore::new();
    let paths = varied(&fixture);
    let daemon = FakeDaemon::start(Script::truthful(paths.iter().map(|path| fixture.info(path))));
    let through_daemon = closure(open(&daemon.settings()).unwrap().as_ref(), &paths[3..]).unwrap().infos;
    let through_database = closure(open(&fixture.settings()).unwrap().as_ref(), &paths[3..]).unwrap().infos;
    assert_eq!(through_daemon, through_database);
    // Each path was asked for once.
    assert_eq!(daemon.requests().len(), 4);
}

/// 3 000 paths, each referring to ten others; a chain of 100 000; a path with 100 000 references.
#[test]
fn large_closures() {
    let fixture = FixtureStore::new();
    let broad: Vec<Vec<usize>> = (0..3000usize)
        .map(|i| {
            if i == 0 {
                vec![]
            } else {
                (0..10).map(|k| (i * 7 + k * 131) % i).collect::<HashSet<_>>().into_iter().collect()
            }
        })
        .collect();
    let broad: Vec<Vec<usize>> = broad
        .into_iter()
        .enumerate()
        .map(|(i, mut r)| {
            if i > 0 && !r.contains(&(i - 1)) {
                r.push(i - 1)
            }
            r
        })
        .collect();
    let deep: Vec<Vec<usize>> = (0..100_000usize).map(|i| i.checked_sub(1).into_iter().collect()).collect();
    let star: Vec<Vec<usize>> = (0..100_001).map(|i| if i == 0 { (1..100_001).collect() } else { vec![] }).collect();
    let broad = fixture.add_graph("broad", &broad);
    let deep = fixture.add_graph("deep", &deep);
    let star = fixture.add_graph("star", &star);
    let store = open(&fixture.settings()).unwrap();
    for (name, root, count) in
        [("broad", broad.last(), 3000), ("deep", deep.last(), 100_000), ("star", star.first(), 100_001)]
    {
        let root = root.unwrap().clone();
        let start = Instant::now();
        let infos = closure(store.as_ref(), std::slice::from_ref(&root)).unwrap().infos;
        eprintln!("{name}: {count} paths in {:?}", start.elapsed());
        assert_eq!(infos.len(), count);
        assert_eq!(infos.last().unwrap().path, root);
    }
    let infos = store.path_infos(&broad).unwrap();
    assert!(infos.iter().all(Option::is_some));
}

#[test]
fn a_circle_in_a_damaged_database_is_named() {
    let fixture = FixtureStore::new();
    let paths = fixture.add_graph("round", &[vec![1], vec![2], vec![0]]);
    let store = open(&fixture.settings()).unwrap();
    let error = closure(store.as_ref(), &paths[..1]).unwrap_err();
    assert_eq!(error.remedy(), Remedy::GiveUpOnItem);
    for path in &paths {
        assert!(error.to_string().contains(path.as_str()), "{error}");
    }
}

#[test]
fn damaged_rows_are_named() {
    for (damage, told) in [
        ("update ValidPaths set hash = 'garbage' where id = 2", "garbage"),
        ("update ValidPaths set hash = 'sha256:00' where id = 2", "\"00\""),
        ("update ValidPaths set hash = x'00ff' where id = 2", "hash is of type"),
        ("update ValidPaths set narSize = -1 where id = 2", "narSize -1"),
        ("update ValidPaths set narSize = 'many' where id = 2", "narSize is of type"),
        ("update ValidPaths set deriver = '/etc/passwd' where id = 2", "/etc/passwd"),
        ("update ValidPaths set deriver = 7 where id = 2", "deriver"),
        ("update ValidPaths set sigs = 'no-signature' where id = 2", "no-signature"),
        ("update ValidPaths set ca = 'fixed:rot13:x' where id = 2", "rot13"),
        ("update ValidPaths set path = '/elsewhere/x' where id = 1", "/elsewhere/x"),
        ("update ValidPaths set path = '/nix/store/../x' where id = 1", "/nix/store/../x"),
        ("update ValidPaths set path = x'ff' where id = 1", "type"),
        ("insert into Refs values (2, 4711)", "Refs"),
    ] {
        let fixture = FixtureStore::new();
        let low = fixture.add("low").contents("low").finish();
        let path = fixture.add("path").contents("path").reference(&low).finish();
        let store = open(&fixture.settings()).unwrap();
        fixture.sql(|db| db.execute_batch(&format!("pragma foreign_keys = off; {damage}")).unwrap());
        let asked = std::slice::from_ref(&path);
        for error in [store.path_infos(asked).err(), closure(store.as_ref(), asked).err()] {
            let error = error.unwrap_or_else(|| panic!("{damage}: not seen"));
            let text = error.to_string();
            assert!(matches!(error, StoreError::Damaged { .. }), "{damage}: {text}");
            assert!(text.contains(told) && text.contains("row") && text.contains("table"), "{damage}: {text}");
            assert_eq!(error.remedy(), Remedy::GiveUpOnItem);
        }
    }
}

#[test]
fn odd_rows_that_mean_no_harm_are_read() {
    let fixture = FixtureStore::new();
    let path = fixture.add("path").contents("x").finish();
    fixture.sql(|db| {
        db.execute_batch(
            "alter table ValidPaths add column provenance text;
             drop index IndexReferrer;
             update ValidPaths set narSize = 0, deriver = '', sigs = '', ca = '', ultimate = 0",
        )
        .unwrap();
    });
    let info = open(&fixture.settings()).unwrap().path_infos(std::slice::from_ref(&path)).unwrap().remove(0).unwrap();
    assert_eq!(info, PathInfo { nar_size: None, ..fixture.info(&path) });
}

#[test]
fn what_is_no_database_is_an_error_and_never_an_empty_store() {
    let fixture = FixtureStore::new();
    let settings = fixture.settings();
    let database = fixture.state_dir().join("db/db.sqlite");
    fixture.sql(|db| db.execute_batch("pragma journal_mode = delete").unwrap());
    for (what, bytes) in [("text", b"not a database, but long enough to be one".repeat(40)), ("empty", Vec::new())] {
        std::fs::write(&database, bytes).unwrap();
        let error = open(&settings).err().unwrap_or_else(|| panic!("{what} was taken for a database"));
        let text = error.to_string();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{text}");
        assert!(text.contains("db.sqlite") && text.contains("daemon-socket"), "{text}");
    }
    std::fs::remove_file(&database).unwrap();
    let text = open(&settings).err().unwrap().to_string();
    assert!(text.contains("No such file") && text.contains("db.sqlite") && text.contains("daemon-socket"), "{text}");
}

#[test]
fn rollback_journal_is_read_only_while_nobody_writes() {
    let fixture = FixtureStore::new();
    let path = fixture.add("path").contents("x").finish();
    fixture.sql(|db| db.execute_batch("pragma journal_mode = truncate").unwrap());
    let store = open(&fixture.settings()).unwrap();
    assert!(store.path_infos(std::slice::from_ref(&path)).unwrap()[0].is_some());
    // Nix's lock in this mode.
    let lock = fixture.state_dir().join("db/db.sqlite.lock");
    std::fs::create_dir(&lock).unwrap();
    let error = store.path_infos(std::slice::from_ref(&path)).unwrap_err();
    assert!(error.to_string().contains("kept changing"), "{error}");
    std::fs::remove_dir(&lock).unwrap();
    assert!(store.path_infos(&[path]).unwrap()[0].is_some());
}

#[test]
fn odd_characters_in_the_place_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = FixtureStore::new();
    let path = fixture.add("path").contents("x").finish();
    let root = folder.path().join("a b?c#d%20&e=ä");
    std::os::unix::fs::symlink(fixture.root(), &root).unwrap();
    let mut settings = fixture.settings();
    let encoded: String = root.to_str().unwrap().bytes().map(|byte| format!("%{byte:02X}")).collect();
    settings.store = Some(format!("local?root={encoded}"));
    let store = open(&settings).unwrap();
    assert!(store.path_infos(std::slice::from_ref(&path)).unwrap()[0].is_some());
    assert_eq!(resolve(store.location(), &root.join("nix/store").join(path.as_str())).unwrap(), path);
    assert_eq!(resolve(store.location(), Path::new(&fixture.logical(&path))).unwrap(), path);
}

#[test]
fn daemon_steps_in_where_the_database_cannot_be_read() {
    let fixture = FixtureStore::new();
    let paths = varied(&fixture);
    let daemon = daemon_of(&fixture, Script::truthful(paths.iter().map(|path| fixture.info(path))));
    let store = open(&fixture.settings()).unwrap();
    assert_eq!(store.path_infos(&paths).unwrap(), expected(&fixture, &paths));
    assert!(daemon.requests().is_empty(), "the database is quicker");

    let database = fixture.state_dir().join("db/db.sqlite");
    let hidden = fixture.state_dir().join("db/hidden");
    std::fs::rename(&database, &hidden).unwrap();
    assert_eq!(store.path_infos(&paths).unwrap(), expected(&fixture, &paths));
    assert_eq!(daemon.requests().len(), paths.len());
    assert_eq!(closure(store.as_ref(), &paths[3..]).unwrap().infos.len(), paths.len());
    assert_eq!(store.all_valid_paths().unwrap().len(), paths.len());
    let described = store.describe();
    assert!(described.contains("daemon 2.99.1") && described.contains("db.sqlite"), "{described}");

    drop(daemon);
    let error = store.path_infos(&paths).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    std::fs::rename(&hidden, &database).unwrap();
    assert_eq!(store.path_infos(&paths).unwrap(), expected(&fixture, &paths));
    assert!(!store.describe().contains("db.sqlite"), "{}", store.describe());
}

#[test]
fn protection_comes_from_the_daemon_or_from_a_file_or_not_at_all() {
    let fixture = FixtureStore::new();
    let path = fixture.add("path").contents("x").finish();
    let roots = || std::fs::read_dir(fixture.state_dir().join("temproots")).map_or(0, Iterator::count);

    let daemon = daemon_of(&fixture, Script::truthful([]));
    let store = open(&fixture.settings()).unwrap();
    assert_eq!(store.protect(&path).unwrap(), Protection::Held);
    assert_eq!(daemon.requests(), [(0, Request::AddTempRoot(fixture.logical(&path)))]);
    assert!(store.describe().ends_with("(database, daemon 2.99.1)"), "{}", store.describe());
    assert_eq!(roots(), 0);
    drop((store, daemon));

    let store = open(&fixture.settings()).unwrap();
    assert_eq!(store.protect(&path).unwrap(), Protection::Held);
    assert_eq!(roots(), 1);
    drop(store);
    assert_eq!(roots(), 0);

    std::fs::remove_dir(fixture.state_dir().join("temproots")).unwrap();
    std::fs::write(fixture.state_dir().join("temproots"), "in the way").unwrap();
    let store = open(&fixture.settings()).unwrap();
    let Protection::Unheld(why) = store.protect(&path).unwrap() else { panic!("held by nothing") };
    assert!(why.contains("daemon-socket") && why.contains("temproots"), "{why}");
}

#[test]
fn damage_is_told_though_a_daemon_is_there() {
    let fixture = FixtureStore::new();
    let path = fixture.add("path").wrong_nar_hash(Sha256::of(b"")).finish();
    let _daemon = daemon_of(&fixture, Script::truthful([fixture.info(&path)]));
    let store = open(&fixture.settings()).unwrap();
    fixture.sql(|db| db.execute_batch("update ValidPaths set hash = 'x'").unwrap());
    assert!(matches!(store.path_infos(&[path]).unwrap_err(), StoreError::Damaged { .. }));
}

#[test]
fn registrations_are_told_once_and_in_order() {
    let fixture = FixtureStore::new();
    let store = open(&fixture.settings()).unwrap();
    let since = |cursor: Option<&Cursor>| store.registered_since(cursor).unwrap().unwrap();
    let empty = since(None);
    assert!(empty.paths.is_empty() && empty.from_start);

    let (a, b) = (fixture.add("a").contents("a").finish(), fixture.add("b").contents("b").finish());
    let first = since(Some(&empty.cursor));
    assert_eq!(first.paths, [a.clone(), b.clone()]);
    assert!(!first.from_start);
    let again = since(Some(&first.cursor));
    assert!(again.paths.is_empty() && again.cursor == first.cursor);

    // The last one is collected and another comes: its id is not used again.
    fixture.collect(&b);
    assert!(since(Some(&first.cursor)).paths.is_empty());
    fixture.sign(&a, SIGNATURE);
    let c = fixture.add("c").contents("c").finish();
    let second = since(Some(&first.cursor));
    assert_eq!(second.paths, std::slice::from_ref(&c));
    assert_eq!(since(None).paths, [a, c.clone()]);

    // A cursor of another database, and one from the future of a restored copy.
    for cursor in [
        Cursor { path: Some("/nix/store/another".to_owned()), ..second.cursor.clone() },
        Cursor { id: second.cursor.id + 1, ..second.cursor.clone() },
    ] {
        let all = since(Some(&cursor));
        assert!(all.from_start && all.paths.len() == 2 && all.cursor == second.cursor);
    }
    // The same rows in another file are the same database, as after a reboot that renumbers devices.
    let moved = Cursor { database: "1".to_owned(), ..second.cursor.clone() };
    assert!(!since(Some(&moved)).from_start);
    fixture.collect(&c);
    assert!(!since(Some(&second.cursor)).from_start);
    assert!(since(Some(&moved)).from_start, "neither the row nor the file is known");
    // A damaged row is told, and the others are seen.
    fixture.sql(|db| {
        db.execute("insert into ValidPaths (path, hash, registrationTime) values ('x', 'y', 1)", []).unwrap()
    });
    let d = fixture.add("d").contents("d").finish();
    let third = since(Some(&second.cursor));
    assert_eq!((third.paths, third.damaged.len()), (vec![d], 1));

    let daemon = FakeDaemon::start(Script::truthful([]));
    assert_eq!(open(&daemon.settings()).unwrap().registered_since(None).unwrap(), None);
}
