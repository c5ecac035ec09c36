//! The daemon's client against a daemon that lies, stutters, falls silent or hangs up: an error in
//! bounded time and memory, never a panic, a hang, or a path that is taken for absent.

use crate::support::fake_daemon::{Answer, FakeDaemon, Request, Script, error, list, number, path_info, string};
use crate::support::fixture_store::FixtureStore;
use loft::nix::{PathInfo, Sha256, StoreDir, StorePath, base32};
use loft::remedy::Remedy;
use loft::store::{Protection, Settings, Store, StoreError, closure, open};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

fn path(i: u64) -> StorePath {
    let mut bytes = [0u8; 20];
    bytes[..8].copy_from_slice(&i.to_le_bytes());
    StorePath::parse(&format!("{}-path-{i}", base32::encode(&bytes))).unwrap()
}

/// Refers to the one before.
fn info(i: u64) -> PathInfo {
    PathInfo {
        path: path(i),
        nar_hash: Sha256::of(&i.to_le_bytes()),
        nar_size: NonZeroU64::new(i * 8),
        references: i.checked_sub(1).map(path).into_iter().collect(),
        deriver: i.is_multiple_of(2).then(|| path(i + 1000)),
        ultimate: i % 2 == 1,
        signatures: Vec::new(),
        ca: None,
    }
}

fn infos(count: u64) -> Vec<PathInfo> {
    (0..count).map(info).collect()
}

fn paths(count: u64) -> Vec<StorePath> {
    (0..count).map(path).collect()
}

/// Everything that loft asks a daemon.
fn talk(daemon: &FakeDaemon, count: u64) -> Result<Vec<Option<PathInfo>>, StoreError> {
    let store = open(&daemon.settings())?;
    everything(store.as_ref(), count)
}

fn everything(store: &dyn Store, count: u64) -> Result<Vec<Option<PathInfo>>, StoreError> {
    let protection = store.protect(&path(0))?;
    assert_eq!(store.all_valid_paths()?.len() as u64, count);
    let infos = store.path_infos(&paths(count + 1))?;
    assert_eq!(protection, Protection::Held);
    Ok(infos)
}

fn truth(count: u64) -> Vec<Option<PathInfo>> {
    infos(count).into_iter().map(Some).chain([None]).collect()
}

#[test]
fn every_version_is_understood_with_and_without_noise() {
    for minor in [18, 21, 25, 26, 32, 33, 34, 35, 37, 38, 50] {
        for noise in [false, true] {
            let daemon = FakeDaemon::start(Script { minor, noise, ..Script::truthful(infos(5)) });
            assert_eq!(talk(&daemon, 5).unwrap(), truth(5), "1.{minor}");
            assert_eq!(daemon.connections(), 1);
        }
    }
    let daemon = FakeDaemon::start(Script { minor: 21, ..Script::truthful([]) });
    assert!(open(&daemon.settings()).unwrap().describe().contains("daemon protocol 1.21"));
}

#[test]
fn thousands_in_one_batch() {
    let count = 5000;
    let daemon = FakeDaemon::start(Script::truthful(infos(count)));
    let store = open(&daemon.settings()).unwrap();
    assert_eq!(store.path_infos(&paths(count + 1)).unwrap(), truth(count));
    let order = closure(store.as_ref(), &[path(200)]).unwrap().infos;
    assert_eq!(order, infos(201));
}

/// Answers of a megabyte each, in both directions more than sockets buffer.
#[test]
fn full_buffers_do_not_deadlock() {
    let references = list((0..10_000u32).map(|i| StoreDir::default().join(&path(i.into()))));
    let daemon = FakeDaemon::start(Script::answering(move |_| {
        let (hash, none) = (string(Sha256::of(b"").to_hex()), number(0));
        Answer::Bytes(
            [
                number(1),
                string(""),
                hash,
                references.clone(),
                none.clone(),
                none.clone(),
                none.clone(),
                none,
                string(""),
            ]
            .concat(),
        )
    }));
    let store = open(&daemon.settings()).unwrap();
    let infos = store.path_infos(&paths(200)).unwrap();
    assert!(infos.iter().all(|info| info.as_ref().unwrap().references.len() == 10_000));
}

#[test]
fn an_end_at_every_byte_is_an_error() {
    // Whether the whole answer came.
    type Ask = fn(&dyn Store) -> bool;
    let asks: [Ask; 3] = [
        |store| store.path_infos(&paths(4)).is_ok(),
        |store| store.all_valid_paths().is_ok(),
        |store| store.protect(&path(0)).unwrap() == Protection::Held,
    ];
    for ask in asks {
        let whole = FakeDaemon::start(Script { noise: true, ..Script::truthful(infos(3)) });
        assert!(ask(open(&whole.settings()).unwrap().as_ref()));
        for cut in 0..whole.sent(0) {
            let script = Script { noise: true, cut: Some((None, cut)), ..Script::truthful(infos(3)) };
            let daemon = FakeDaemon::start(script);
            let answered = open(&daemon.settings()).is_ok_and(|store| ask(store.as_ref()));
            assert!(!answered, "{cut} of {} bytes were taken for an answer", whole.sent(0));
            assert!(daemon.connections() <= 2, "{cut}: {} connections", daemon.connections());
        }
    }
}

#[test]
fn a_broken_connection_is_renewed_with_its_roots() {
    let greeting = {
        let daemon = FakeDaemon::start(Script::truthful(infos(3)));
        drop(open(&daemon.settings()).unwrap());
        daemon.sent(0)
    };
    let whole = FakeDaemon::start(Script::truthful(infos(3)));
    talk(&whole, 3).unwrap();
    for cut in greeting..whole.sent(0) {
        let daemon = FakeDaemon::start(Script { cut: Some((Some(0), cut)), ..Script::truthful(infos(3)) });
        assert_eq!(talk(&daemon, 3).unwrap(), truth(3), "{cut}");
        let root = Request::AddTempRoot(StoreDir::default().join(&path(0)));
        assert!(daemon.requests().contains(&(1, root)), "{cut}: {:?}", daemon.requests());
    }
    // A daemon that goes away between two calls.
    let daemon = FakeDaemon::start(Script::truthful(infos(3)));
    let store = open(&daemon.settings()).unwrap();
    everything(store.as_ref(), 3).unwrap();
    daemon.hang_up();
    assert_eq!(store.path_infos(&paths(4)).unwrap(), truth(3));
    let again: Vec<_> = daemon.requests().into_iter().filter(|(connection, _)| *connection == 1).collect();
    assert_eq!(again[0].1, Request::AddTempRoot(StoreDir::default().join(&path(0))));
}

#[test]
fn silence_ends_with_the_time_out() {
    let silences: [(&str, Script); 3] = [
        ("before the greeting", Script::raw(Vec::new())),
        ("in the greeting", Script::raw(number(0x6478696f))),
        ("instead of an answer", Script::answering(|_| Answer::Silence)),
    ];
    for (when, script) in silences {
        let daemon = FakeDaemon::start(script);
        let start = Instant::now();
        let error = talk(&daemon, 100).unwrap_err();
        assert!(matches!(error, StoreError::DaemonLost { .. } | StoreError::Unreachable { .. }), "{when}: {error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{when}: {:?}", start.elapsed());
    }
    let daemon = FakeDaemon::start(Script::answering(|request| match request {
        Request::QueryPathInfo(asked) if asked.ends_with("path-70") => Answer::Silence,
        _ => Answer::Bytes(number(0)),
    }));
    let error = open(&daemon.settings()).unwrap().path_infos(&paths(500)).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry, "{error}");
}

#[test]
fn a_refusal_is_told_in_plain_text_and_harms_nothing_else() {
    for minor in [21, 25, 26, 35] {
        let script = Script::answering(|request| match request {
            Request::QueryPathInfo(asked) if asked.ends_with("path-1") => {
                Answer::Error("\x1b[31;1merror:\x1b[0m path '\x1b[35;1mx\x1b[0m' is\n  not nice".to_owned())
            }
            Request::QueryPathInfo(_) => Answer::Bytes(number(0)),
            _ => Answer::Bytes(number(1)),
        });
        let daemon = FakeDaemon::start(Script { minor, ..script });
        let store = open(&daemon.settings()).unwrap();
        store.protect(&path(0)).unwrap();
        let error = store.path_infos(&paths(200)).unwrap_err();
        assert_eq!(error.remedy(), Remedy::GiveUpOnItem);
        assert!(error.to_string().ends_with("path 'x' is not nice"), "{error}");
        assert_eq!(store.path_infos(&[path(2)]).unwrap(), [None]);
        assert_eq!(daemon.connections(), 1, "the connection holds temporary roots");
    }
    let daemon = FakeDaemon::start(Script::answering(|_| Answer::Error("no".to_owned())));
    let store = open(&daemon.settings()).unwrap();
    assert!(matches!(store.protect(&path(0)).unwrap_err(), StoreError::DaemonRefused { .. }));
    assert!(matches!(store.all_valid_paths().unwrap_err(), StoreError::DaemonRefused { .. }));
}

/// A user whom `allowed-users` leaves out is greeted and shown the door, or just shown the door.
#[test]
fn unwelcome_users_learn_why() {
    let hello = [number(0x6478696f), number(1 << 8 | 34), string("2.8.0")].concat();
    let daemon = FakeDaemon::start(Script::raw([hello, error(34, "user 'x' is not allowed")].concat()));
    let text = open(&daemon.settings()).err().unwrap().to_string();
    assert!(text.contains("user 'x' is not allowed"), "{text}");
    let daemon = FakeDaemon::start(Script { cut: Some((None, 0)), ..Script::truthful([]) });
    let error = open(&daemon.settings()).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("allowed-users"), "{cause}");
}

#[test]
fn nonsense_before_the_first_request_is_refused() {
    let greeting = |version: u64| [number(0x6478696f), number(version)].concat();
    let ok = greeting(1 << 8 | 35);
    for (what, bytes) in [
        ("another magic", number(0x6e697863)),
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("version 1.17", greeting(1 << 8 | 17)),
        ("version 2.35", greeting(2 << 8 | 35)),
        ("version 0", greeting(0)),
        ("version 2^64-1", greeting(u64::MAX)),
        ("a huge Nix version", [ok.clone(), number(u64::MAX)].concat()),
        ("a negative length", [ok.clone(), number(i64::MIN as u64)].concat()),
        ("2 MiB of Nix version", [ok.clone(), number(2 << 20), vec![b'x'; 2 << 20]].concat()),
        ("an unknown message", [ok.clone(), string("2"), number(1), number(0x1234)].concat()),
        (
            "a huge list of fields",
            [ok.clone(), string("2"), number(1), number(0x52534c54), number(1), number(1), number(u64::MAX), number(9)]
                .concat(),
        ),
        (
            "a huge list of traces",
            [
                ok,
                string("2"),
                number(1),
                number(0x63787470),
                string("E"),
                number(0),
                string(""),
                string("m"),
                number(0),
                number(u64::MAX),
                number(1),
            ]
            .concat(),
        ),
    ] {
        let daemon = FakeDaemon::start(Script::raw(bytes));
        let error = open(&daemon.settings()).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert!(matches!(error, StoreError::DaemonProtocol { .. }), "{what}: {error}");
        assert_eq!(error.remedy(), Remedy::Stop);
    }
}

#[test]
fn nonsense_in_answers_is_refused() {
    let good = path_info(&StoreDir::default(), &info(1));
    let last = number(0x616c7473);
    let hash = || string(Sha256::of(b"").to_hex());
    let rest = || [number(0), number(8), number(0), number(0), string("")].concat();
    let valid = |deriver: &str, hash: Vec<u8>, references: Vec<u8>, rest: Vec<u8>| {
        [last.clone(), number(1), string(deriver), hash, references, rest].concat()
    };
    let none = || number(0);
    let mut padded = [last.clone(), number(1), string("a")].concat();
    *padded.last_mut().unwrap() = 1;
    for (what, bytes) in [
        ("validity 2", [last.clone(), number(2)].concat()),
        ("a huge deriver", [last.clone(), number(1), number(u64::MAX)].concat()),
        ("a deriver just over the cap", [last.clone(), number(1), number((1 << 20) + 1)].concat()),
        ("padding that is not zero", padded),
        ("2^63 references", valid("", hash(), number(1 << 63), Vec::new())),
        ("a billion references", valid("", hash(), number(1 << 30), Vec::new())),
        ("a deriver elsewhere", valid("/etc/x", hash(), none(), rest())),
        ("an empty hash", valid("", string(""), none(), rest())),
        ("a hash with a type", valid("", string(format!("sha256:{}", "0".repeat(64))), none(), rest())),
        ("a reference elsewhere", valid("", hash(), list(["/etc/x"].iter()), rest())),
        (
            "a reference with a line break",
            valid("", hash(), list([format!("{}\n", StoreDir::default().join(&path(1)))].iter()), rest()),
        ),
        (
            "a garbled signature",
            valid("", hash(), none(), [number(0), number(8), number(0), list(["x"].iter()), string("")].concat()),
        ),
        (
            "a garbled content address",
            valid("", hash(), none(), [number(0), number(8), number(0), number(0), string("x")].concat()),
        ),
        ("bytes that are not UTF-8", [last.clone(), number(1), string([0xff])].concat()),
        ("no end mark", good),
    ] {
        let daemon = FakeDaemon::start(Script::answering(move |_| Answer::Instead(bytes.clone())));
        let store = open(&daemon.settings()).unwrap();
        let error = store.path_infos(&paths(100)).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert!(matches!(error, StoreError::DaemonProtocol { .. }), "{what}: {error}");
    }
    for (what, bytes) in [
        ("a path elsewhere", list(["/etc/x"].iter())),
        ("2^60 paths", number(1 << 60)),
        ("a huge path", [number(1), number(1 << 40)].concat()),
    ] {
        let daemon = FakeDaemon::start(Script::answering(move |_| Answer::Bytes(bytes.clone())));
        let error = open(&daemon.settings()).unwrap().all_valid_paths().unwrap_err();
        assert!(matches!(error, StoreError::DaemonProtocol { .. }), "{what}: {error}");
    }
}

#[test]
fn a_daemon_that_never_stops_talking_is_left() {
    let chatter = [number(0x6f6c6d67), string(vec![b'x'; 1 << 20])].concat().repeat(80);
    let daemon = FakeDaemon::start(Script::answering(move |_| Answer::Instead(chatter.clone())));
    let error = open(&daemon.settings()).unwrap().path_infos(&[path(0)]).unwrap_err();
    assert!(matches!(error, StoreError::DaemonProtocol { .. }), "{error}");
}

#[test]
fn nothing_listens() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let settings =
        || loft::store::Settings { store: Some(format!("unix://{}", socket.display())), ..Default::default() };
    let error = open(&settings()).err().unwrap();
    assert!(matches!(error, StoreError::DaemonConnect { .. }), "{error}");
    assert!(error.to_string().contains(socket.to_str().unwrap()), "{error}");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = open(&settings()).err().unwrap();
    assert!(matches!(error, StoreError::DaemonConnect { .. }), "{error}");
    assert_eq!(error.remedy(), Remedy::Retry);
}

#[test]
fn a_daemon_that_grants_no_root_is_waited_for_once() {
    let daemon = FakeDaemon::start(Script::answering(|_| Answer::Silence));
    let settings = Settings { daemon_timeout: Some(Duration::from_millis(300)), ..daemon.settings() };
    let store = open(&settings).unwrap();
    let began = Instant::now();
    for n in 0..20 {
        let path = StorePath::parse(&format!("{}-p{n}", "a".repeat(32))).unwrap();
        assert!(matches!(store.protect(&path), Ok(Protection::Unheld(_))));
    }
    assert_eq!(daemon.requests().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_database_that_is_busy_is_not_taken_for_one_that_cannot_be_read() {
    let fixture = FixtureStore::new();
    fixture.add("a").finish();
    fixture.sql(|db| db.pragma_update(None, "journal_mode", "delete").unwrap());
    let socket = fixture.state_dir().join("daemon-socket/socket");
    let _daemon = FakeDaemon::start_at(&socket, Script::truthful([]));
    let store = open(&fixture.settings()).unwrap();
    let cursor = store.registered_since(None).unwrap().unwrap().cursor;
    // Somebody writes, for longer than anybody waits. The daemon's list would make all of the store look new.
    let lock = fixture.state_dir().join("db/db.sqlite.lock");
    std::fs::write(&lock, "").unwrap();
    assert_eq!(store.registered_since(Some(&cursor)).unwrap_err().remedy(), Remedy::Retry);
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(store.registered_since(Some(&cursor)).unwrap().unwrap().paths, []);
}
