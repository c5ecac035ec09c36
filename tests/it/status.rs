//! `loft status`: what it says is so, and looking changes nothing, whatever it looks at.

use crate::support::fixture_store::FixtureStore;
use loft::ledger::{BucketIdentity, Ledger, Settlement, Totals};
use loft::nix::StorePath;
use loft::record::PushRecord;
use loft::store::Cursor;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// A directory with a `loft.toml`; the ledger is `ledger/cache.db` in it.
struct Here(tempfile::TempDir);

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Here {
    fn new() -> Self {
        let here = Self(tempfile::tempdir().unwrap());
        fs::write(here.path("loft.toml"), "[loft]\nlocal_cache_path = \"ledger/cache.db\"\n").unwrap();
        here
    }

    /// With a bucket behind `endpoint`.
    fn at(endpoint: &str) -> Self {
        let here = Self::new();
        let s3 = format!("[s3]\nbucket = \"b\"\nendpoint = \"{endpoint}\"\naccess_key = \"GK1\"\nsecret_key = \"s\"\n");
        let toml = fs::read_to_string(here.path("loft.toml")).unwrap();
        fs::write(here.path("loft.toml"), s3 + &toml).unwrap();
        here
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn cache(&self) -> String {
        format!("file://{}", self.path("cache").display())
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(&self.path("ledger/cache.db"))
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
        command.args(args).current_dir(self.0.path()).env_clear().env("HOME", self.0.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("has a bug"), "{}", ran.stderr);
        ran
    }

    /// As `run`, and nothing in the directory changes.
    fn look(&self, args: &[&str]) -> Ran {
        let before = tree(self.0.path());
        let ran = self.run(args);
        let after = tree(self.0.path());
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{args:?}");
        assert!(before == after, "{args:?} changed a file");
        if !args.iter().any(|arg| matches!(*arg, "--json" | "--prometheus")) {
            // A word that is longer than a line stays whole.
            let fits = |line: &str| line.chars().count() <= 80 || !line.trim().contains(' ');
            assert!(ran.stdout.lines().all(fits), "{}", ran.stdout);
        }
        ran
    }
}

/// Every file, with its content and when it changed.
fn tree(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            files.extend(tree(&path));
            files.insert(path, (Vec::new(), 0, 0));
        } else {
            let bytes = fs::read(&path).unwrap();
            files.insert(path, (bytes, metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    files
}

fn path(n: u64) -> StorePath {
    StorePath::parse(&format!("{n:032}-path-{n}")).unwrap()
}

fn json(ran: &Ran) -> Value {
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn where_nothing_is_nothing_is_made() {
    let here = Here::new();
    let ran = here.look(&["status", "--to", &here.cache()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.contains("none yet") && ran.stdout.contains("nothing was ever pushed"), "{}", ran.stdout);
    assert_eq!(here.look(&["status", "--local"]).code, Some(0));
    let told = json(&here.look(&["status", "--local", "--json"]));
    assert_eq!((&told["local"], &told["cache"]), (&Value::Null, &Value::Null));
    let metrics = here.look(&["status", "--prometheus"]);
    assert!(metrics.stdout.contains("\nloft_ledger_readable 0\n"), "{}", metrics.stdout);
    // Without a bucket there is still this machine's half.
    let ran = here.look(&["status"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.starts_with("Service ") && ran.stderr.contains("No bucket is named"), "{}", ran.stderr);
}

#[test]
fn after_a_push_both_halves_tell_it() {
    let here = Here::new();
    let store = FixtureStore::new();
    let lib = store.add("lib-1.0").file("lib/lib.so", vec![7; 50_000]).finish();
    let app = store.add("app-2.0").file("bin/app", b"app").reference(&lib).finish();
    let (at, root) = (store.settings().store.unwrap(), store.logical(&app));
    let pushed = here.run(&["push", "--to", &here.cache(), "--store", &at, "--pin", "release", &root]);
    assert_eq!(pushed.code, Some(0), "{}", pushed.stderr);

    let ran = here.look(&["status", "--to", &here.cache()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for part in [
        "2 paths, 2 NARs: ",
        "; the paths unpack to ",
        " ago by ",
        ": 2 pushed, 0 there",
        "Pins       release\n",
        "  lib-1.0\n",
        "  app-2.0\n",
        "knows 2 paths",
        "Queue      empty\n",
        " ####",
    ] {
        assert!(ran.stdout.contains(part), "{part:?}: {}", ran.stdout);
    }
    assert!(ran.stdout.is_ascii(), "blocks are for terminals: {}", ran.stdout);
    let told = json(&here.look(&["status", "--to", &here.cache(), "--json", "--full"]));
    let cache = &told["cache"];
    assert_eq!((&cache["paths"], &cache["nars"], &cache["unpacked_is_exact"]), (&2.into(), &2.into(), &true.into()));
    assert_eq!(cache["unpacked"].as_u64().unwrap(), (store.nar(&lib).len() + store.nar(&app).len()) as u64);
    let stored: u64 = cache["largest"].as_array().unwrap().iter().map(|large| large["size"].as_u64().unwrap()).sum();
    assert_eq!(cache["stored"], stored);
    assert_eq!(cache["pushes"][0]["roots"], serde_json::json!([app.as_str()]));
    assert_eq!((&cache["weeks"][0]["nars"], &cache["weeks"].as_array().unwrap().len()), (&2.into(), &26));
    assert_eq!(told["local"]["ledger"]["rows"], 2);
}

/// What a watcher leaves behind when its bucket is away.
fn troubled(here: &Here) {
    let ledger = here.ledger();
    let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    let cursor = Cursor { database: "1".to_owned(), id: 4711, path: None };
    let store = "/nix/store /nix/var/nix /nix/var/nix/daemon-socket/socket";
    let paths: Vec<StorePath> = (0..20).map(path).collect();
    ledger.watch().notice(store, &paths, false, &cursor, ago(600)).unwrap();
    let bucket = BucketIdentity { url: "s3://b at somewhere".to_owned(), generation: "g".to_owned() };
    ledger.watch().begin_scan(&bucket, &[path(90)], ago(7300)).unwrap();
    let due = SystemTime::now() + Duration::from_secs(1000);
    let why =
        "Could not put a thing\nwith a second line and \u{1b}[31m colours, which is long enough to need a second line";
    let postponed = (0..12).map(|n| (path(n), why.to_owned(), due)).collect();
    let last_success = loft::record::seconds(ago(7300));
    let totals = Totals { batches: 3, pushed: 40, failed: 12, nar_size: 5 << 20, file_size: 1 << 20, last_success };
    ledger.watch().settle(&Settlement { done: vec![path(19)], postponed, totals }).unwrap();
    ledger.watch().note_outage("bucket", "connection refused", ago(301)).unwrap();
}

#[test]
fn an_unreachable_bucket_costs_its_half_alone() {
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let here = Here::at(&format!("http://{address}"));
    troubled(&here);
    let ran = here.look(&["status"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("error: Could not get nix-cache-info") && ran.stderr.contains("refused"),
        "{}",
        ran.stderr
    );
    for part in [
        "Service    not running\n",
        "Store      /nix/store: read up to registration 4711\n",
        "First scan begun 2 h ago, 1 path of it queued (s3://b at somewhere)\n",
        "Trouble    bucket, for 5 min: connection refused\n",
        "Queue      20 paths, the oldest for 2 h; 12 failed before\n",
        "             00000000000000000000000000000000-path-0\n",
        "1 try in 10 min, next in 16 min: Could not put a thing with a\n",
        "\\u{1b}[31m",
        "next in 16 min: the same\n",
        "and 4 more; --json has them\n",
        "Pushed     40 paths in 3 batches, 1.00 MiB sent for 5.00 MiB; last success 2 h\n",
    ] {
        assert!(ran.stdout.contains(part), "{part:?}: {}", ran.stdout);
    }
    let ran = here.look(&["status", "--json"]);
    assert_eq!(ran.code, Some(1));
    let told = json(&ran);
    assert!(told["cache"]["error"].as_str().unwrap().contains("refused"));
    let queue = &told["local"]["queue"];
    assert_eq!((&queue["waiting"], &queue["failing"], &queue["scan"]), (&20.into(), &12.into(), &1.into()));
    assert_eq!(queue["paths"].as_array().unwrap().len(), 20);
    assert_eq!((&queue["paths"][0]["attempts"], &queue["paths"][19]["attempts"]), (&1.into(), &0.into()));
    assert_eq!(
        (&told["local"]["trouble"][0]["part"], &told["local"]["totals"]["pushed"]),
        (&"bucket".into(), &40.into())
    );
    assert_eq!(told["local"]["buckets"][0]["first_scan"], "begun");
}

#[test]
fn what_needs_no_bucket_asks_it_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let here = Here::at(&format!("http://{}", listener.local_addr().unwrap()));
    troubled(&here);
    for args in [&["status", "--local"][..], &["status", "--local", "--json"], &["status", "--prometheus"]] {
        let ran = here.look(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    let nobody = listener.accept().map(drop).unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn prunes_are_told_as_they_were_and_as_they_will_be() {
    let here = Here::new();
    here.ledger();
    assert!(!here.look(&["status", "--local"]).stdout.contains("Pruned"));
    let toml = fs::read_to_string(here.path("loft.toml")).unwrap();
    fs::write(here.path("loft.toml"), toml + "prune_enabled = true\nprune_schedule = \"24h\"\n").unwrap();
    assert!(here.look(&["status", "--local"]).stdout.contains("Pruned     never; next soon\n"));
    let began = SystemTime::now() - Duration::from_secs(3 * 3600 + 60);
    here.ledger().watch().note_prune(began, 3, 1 << 30).unwrap();
    let told = here.look(&["status", "--local"]).stdout;
    assert!(told.contains("Pruned     3 paths, 1.00 GiB freed; last time 3 h ago; next in 20 h\n"), "{told}");
    let prunes = &json(&here.look(&["status", "--local", "--json"]))["local"]["prunes"];
    assert_eq!((&prunes["removed"], &prunes["freed"]), (&3.into(), &(1u64 << 30).into()));
    let last = prunes["last"].as_u64().unwrap();
    assert_eq!(prunes["next"].as_u64().unwrap() - last, 24 * 3600);
}

#[test]
fn a_running_service_is_seen() {
    let here = Here::new();
    here.ledger();
    let lock = loft::service::Lock::take(&here.path("ledger/cache.db")).unwrap();
    assert!(here.look(&["status", "--local"]).stdout.starts_with("Service    running\n"));
    drop(lock);
    assert!(here.look(&["status", "--local"]).stdout.starts_with("Service    not running\n"));
}

#[test]
fn a_ledger_that_cannot_be_read_is_left_alone_and_the_cache_is_told() {
    let here = Here::new();
    fs::create_dir(here.path("ledger")).unwrap();
    for content in [&b"this is no database, and longer than a header of one would have to be ............."[..], b""] {
        fs::write(here.path("ledger/cache.db"), content).unwrap();
        let ran = here.look(&["status", "--to", &here.cache()]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stdout.contains("Queue      unknown") && ran.stdout.contains("Cache  "), "{}", ran.stdout);
        assert!(ran.stderr.starts_with("error: The ledger "), "{}", ran.stderr);
        assert!(!ran.stderr.contains("run it as the user"), "this one may read it: {}", ran.stderr);
        let ran = here.look(&["status", "--to", &here.cache(), "--json"]);
        assert_eq!((ran.code, &json(&ran)["cache"]["paths"]), (Some(1), &0.into()));
        let ran = here.look(&["status", "--prometheus"]);
        assert!(ran.code == Some(1) && ran.stdout.contains("\nloft_ledger_readable 0\n"), "{}", ran.stdout);
    }
}

#[test]
fn metrics_go_into_a_file_whole_and_for_everybody() {
    let here = Here::new();
    troubled(&here);
    fs::create_dir(here.path("out")).unwrap();
    let file = here.path("out/loft.prom");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = here.run(&["status", "--prometheus", file.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nloft_queue_paths 20\n") && text.contains("\nloft_trouble{part=\"bucket\"} 1\n"), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(here.path("out")).unwrap().count(), 1, "nothing unfinished stays");
    // A name in the working directory, and places where nothing can be written.
    assert_eq!(here.run(&["status", "--prometheus", "here.prom"]).code, Some(0));
    assert_eq!(fs::read_to_string(here.path("here.prom")).unwrap().lines().count(), text.lines().count());
    for bad in ["nowhere/loft.prom", "out", "/", ""] {
        let ran = here.look(&["status", "--prometheus", bad]);
        assert!(ran.code == Some(1) && ran.stderr.starts_with("error: "), "{bad}: {}", ran.stderr);
    }
}

#[test]
fn what_others_wrote_cannot_steer_a_terminal() {
    let here = Here::new();
    let pushes = here.path("cache/loft/v1/push");
    fs::create_dir_all(&pushes).unwrap();
    fs::create_dir_all(here.path("cache/nar")).unwrap();
    let record = PushRecord::new("\u{1b}]0;evil\u{7}\nroot@host".to_owned(), 0, Vec::new(), Vec::new(), 1, 0);
    fs::write(pushes.join("01ARZ3NDEKTSV4RRFFQ69G5FAV"), record.print()).unwrap();
    fs::write(here.path("cache/nar/\u{1b}[31m.nar"), "x").unwrap();
    fs::write(here.path(&format!("cache/{:032}.narinfo", 0)), "\u{1b}[31m\n").unwrap();
    let ran = here.look(&["status", "--to", &here.cache()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stdout.contains(|c: char| c.is_control() && c != '\n'), "{:?}", ran.stdout);
    assert!(ran.stdout.contains("evil") && ran.stdout.contains("Damaged    1 object"), "{}", ran.stdout);
}

#[test]
fn flags_that_contradict_each_other_are_usage_errors() {
    let here = Here::new();
    for args in [
        &["status", "--local", "--full"][..],
        &["status", "--local", "--to", "file:///x"],
        &["status", "--prometheus", "--json"],
        &["status", "--prometheus", "a", "b"],
        &["status", "x"],
    ] {
        let ran = here.look(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{args:?}");
    }
}
