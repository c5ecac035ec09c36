//! The flags of the original loft with its `loft.toml`, and the manners of its service, by the program itself.

use crate::original_toml::example_with;
use crate::support::fixture_store::FixtureStore;
use crate::support::memory::{Fault, Memory, Moment};
use crate::support::s3_server::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET_KEY};
use crate::support::service::eventually;
use loft::bucket::{Key, Kind, RequestKind};
use loft::ledger::Ledger;
use loft::nix::StorePath;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;

/// A machine that ran the original: its configuration, a store, and an S3 server.
struct Machine {
    store: FixtureStore,
    server: S3Server,
    dir: tempfile::TempDir,
    _runtime: Runtime,
}

const FOREIGN: [&str; 4] = ["index.html", "log/x.drv", "nar/with space", "other/x.narinfo"];

/// The program in the background, as a service runs it.
struct Service {
    child: Child,
    log: PathBuf,
}

impl Machine {
    /// `more` are lines of `[loft]`.
    fn new(more: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.block_on(S3Server::start(Memory::garage()));
        let machine = Self { store: FixtureStore::new(), server, dir: tempfile::tempdir().unwrap(), _runtime: runtime };
        let secret = machine.dir.path().join("signing-key");
        let key =
            machine.command(&["key", "generate", "file-name-1", "--out", secret.to_str().unwrap()]).output().unwrap();
        assert!(key.status.success());
        machine.configure(more);
        machine
    }

    fn configure(&self, more: &str) {
        let s3 = [
            format!("bucket = {BUCKET:?}"),
            format!("region = {REGION:?}"),
            format!("endpoint = {:?}", self.server.endpoint),
            format!("access_key = {ACCESS_KEY:?}"),
            format!("secret_key = {SECRET_KEY:?}"),
        ];
        let own = ["scan_on_startup = false", "local_cache_path = \"cache.db\"", "signing_key_path = \"signing-key\""];
        let text = example_with(s3.iter().map(String::as_str), own.into_iter().chain(more.lines()));
        fs::write(self.dir.path().join("loft.toml"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
        let remote = format!("local?root={}", self.store.root().display());
        command.args(args).current_dir(self.dir.path()).env_clear();
        command.env("HOME", self.dir.path()).env("NIX_REMOTE", remote).stdin(Stdio::null());
        command
    }

    /// Runs to its end; what it told.
    #[track_caller]
    fn run(&self, code: i32, args: &[&str]) -> String {
        let ran = self.command(args).output().unwrap();
        let told = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(code), "{args:?}: {told}");
        assert!(!told.contains(SECRET_KEY) && !told.contains("panicked"), "{told}");
        told
    }

    fn start(&self, args: &[&str]) -> Service {
        let service = self.start_with(self.command(args));
        // A dry run writes no place.
        if !args.contains(&"--dry-run") {
            self.has_looked();
        }
        service
    }

    /// Waits until the service has a place: what becomes valid from now on is new to it.
    fn has_looked(&self) {
        eventually("the first look is done", || self.ledger().snapshot(0).is_ok_and(|found| !found.places.is_empty()));
    }

    fn start_with(&self, mut command: Command) -> Service {
        let log = self.dir.path().join("log");
        let child = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let service = Service { child, log };
        eventually("the service watches", || {
            assert!(!service.log().contains("error:"), "{}", service.log());
            service.log().contains("started ")
        });
        service
    }

    fn add(&self, name: &str) -> StorePath {
        self.store.add(name).contents(name).finish()
    }

    fn visible(&self) -> BTreeSet<String> {
        let keys = self.server.memory.objects().into_keys();
        let hash = |key: Key| match key.kind() {
            Kind::NarInfo(hash) => Some(hash.to_string()),
            _ => None,
        };
        keys.filter_map(hash).collect()
    }

    fn has(&self, path: &StorePath) -> bool {
        self.visible().contains(path.hash_part().as_str())
    }

    fn lands(&self, path: &StorePath) {
        eventually("it lands", || self.has(path));
    }

    fn lose(&self, path: &StorePath) {
        self.server.memory.lose(&format!("{}.narinfo", path.hash_part()));
    }

    /// A path that was pushed 40 days ago and one that was pushed now, which refer to the same third one; and objects that
    /// are not loft's.
    fn with_an_old_push(&self) -> [StorePath; 3] {
        self.server.memory.clock.set_wall(SystemTime::now());
        let shared = self.add("shared");
        let old = self.store.add("old").contents("old").reference(&shared).finish();
        let new = self.store.add("new").contents("new").reference(&shared).finish();
        self.run(0, &["--upload-path", self.store.real_path(&old).to_str().unwrap()]);
        for foreign in FOREIGN {
            self.server.memory.plant(foreign, "mine");
        }
        self.server.memory.age(Duration::from_secs(40 * 86_400));
        self.run(0, &["--upload-path", self.store.real_path(&new).to_str().unwrap()]);
        [shared, old, new]
    }

    /// Only the old push has gone; what it shares, and what is not loft's, is there.
    fn is_pruned(&self, [shared, old, new]: &[StorePath; 3]) -> bool {
        let objects = self.server.memory.objects();
        let has = |key: &str| objects.contains_key(&Key::listed(key));
        assert!(self.has(shared) && self.has(new) && FOREIGN.iter().all(|key| has(key)) && has("nix-cache-info"));
        !self.has(old)
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(&self.dir.path().join("cache.db"))
    }
}

impl Service {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it as systemd does.
    #[track_caller]
    fn stop(mut self) -> String {
        self.send(Signal::TERM);
        let code = self.child.wait().unwrap().code();
        let log = self.log();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains(SECRET_KEY) && !log.contains("panicked"), "{log}");
        log
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_bare_command_scans_once_and_then_watches() {
    let machine = Machine::new("scan_on_startup = true\npopulate_cache_on_startup = false");
    let old = machine.add("old");
    let service = machine.start(&[]);
    machine.lands(&old);
    let new = machine.add("new");
    machine.lands(&new);
    eventually("the scan is over", || service.log().contains("scanned"));
    service.stop();

    // Once is once ...
    machine.lose(&old);
    machine.run(0, &["--clear-cache"]);
    let service = machine.start(&[]);
    let newer = machine.add("newer");
    machine.lands(&newer);
    service.stop();
    assert!(!machine.has(&old));
    // ... until that is forgotten.
    let told = machine.run(0, &["--reset-initial-scan"]);
    assert!(told.contains("first scan is forgotten"), "{told}");
    let service = machine.start(&[]);
    machine.lands(&old);
    service.stop();
}

#[test]
fn without_scan_on_startup_only_what_is_new_is_pushed() {
    let machine = Machine::new("scan_on_startup = false");
    let old = machine.add("old");
    let service = machine.start(&["-c", "loft.toml", "--debug"]);
    let new = machine.add("new");
    machine.lands(&new);
    let log = service.stop();
    assert!(!machine.has(&old));
    let told = String::from_utf8(machine.command(&["status", "--local"]).output().unwrap().stdout).unwrap();
    assert!(told.contains("First scan not asked for"), "{told}");
    assert!(log.contains("noticed paths=1") && log.contains(&format!("pushed path={new}")), "{log}");
    // The name under which the original signed, since clients trust that one.
    let nar_info = machine.server.memory.contents()[&Key::nar_info(&new.hash_part())].clone();
    assert!(String::from_utf8_lossy(&nar_info).contains("Sig: nix-cache:"));
}

#[test]
fn populate_cache_fills_the_ledger_and_clear_cache_empties_it() {
    let machine = Machine::new("scan_on_startup = false\npopulate_cache_on_startup = true");
    let paths: Vec<StorePath> = (0..5).map(|n| machine.add(&format!("p{n}"))).collect();
    machine.run(0, &["--force-scan"]);
    assert_eq!(machine.ledger().len(), 5);
    machine.run(0, &["--clear-cache"]);
    assert_eq!(machine.ledger().len(), 0);
    let told = machine.run(0, &["--populate-cache"]);
    assert!(told.contains("5 paths"), "{told}");
    assert_eq!(machine.ledger().len(), 5);
    machine.run(0, &["--clear-cache"]);
    // And the service does so at its start, where that is configured.
    let service = machine.start(&[]);
    eventually("the ledger is filled", || machine.ledger().len() == 5);
    service.stop();
    assert!(paths.iter().all(|path| machine.has(path)));
}

#[test]
fn force_scan_believes_the_bucket_alone() {
    let machine = Machine::new("scan_on_startup = true");
    let (a, b) = (machine.add("a"), machine.add("b"));
    machine.run(0, &["--force-scan"]);
    machine.lose(&a);
    machine.run(0, &["--force-scan", "--dry-run"]);
    assert!(!machine.has(&a), "a dry run sends nothing");
    machine.run(0, &["--force-scan"]);
    assert!(machine.has(&a) && machine.has(&b));
}

#[test]
fn upload_path_may_be_repeated() {
    let machine = Machine::new("");
    let lib = machine.add("lib");
    let (a, b) = (machine.store.add("a").contents("a").reference(&lib).finish(), machine.add("b"));
    let real = |path: &StorePath| machine.store.logical(path);
    let told = machine.run(0, &["--dry-run", "--upload-path", &real(&a)]);
    assert!(told.contains("would push") && machine.visible().is_empty(), "{told}");
    machine.run(0, &["--upload-path", &real(&a), "--upload-path", &real(&b)]);
    assert!([&lib, &a, &b].into_iter().all(|path| machine.has(path)));
}

#[test]
fn a_dry_run_of_the_service_sends_nothing_and_moves_nothing() {
    let machine = Machine::new("scan_on_startup = true");
    let old = machine.add("old");
    let service = machine.start(&["--dry-run"]);
    let told = |path: &StorePath| service.log().contains(&format!("would push path={path}"));
    eventually("the scan is told", || told(&old));
    let new = machine.add("new");
    eventually("the new one is told", || told(&new));
    let service = service.stop();
    assert!(!service.contains("pushed path"));
    assert!(!service.contains("scanned"), "nothing has landed: {service}");
    assert_eq!(machine.server.memory.count(RequestKind::Put), 0);
    let service = machine.start(&[]);
    machine.lands(&old);
    machine.lands(&new);
    service.stop();
}

#[test]
fn what_was_built_while_the_service_was_away_lands() {
    let machine = Machine::new("");
    machine.start(&["watch"]).stop();
    let away = machine.add("away");
    let service = machine.start(&["watch"]);
    machine.lands(&away);
    service.stop();
}

#[test]
fn two_services_on_one_ledger_refuse_each_other() {
    let machine = Machine::new("");
    let service = machine.start(&[]);
    let told = machine.run(1, &[]);
    assert!(told.contains("Another loft service") && told.contains(&service.child.id().to_string()), "{told}");
    // What is pushed once works beside it.
    let path = machine.add("path");
    machine.run(0, &["push", &machine.store.logical(&path)]);
    service.stop();
}

#[test]
fn hangup_rereads_configuration_and_keys() {
    let machine = Machine::new("");
    let service = machine.start(&[]);
    fs::write(machine.dir.path().join("loft.toml"), "[loft\n").unwrap();
    service.send(Signal::HUP);
    eventually("the mistake is told", || service.log().contains("was not reread"));
    machine.configure("exclude = [\"secret-*\"]");
    service.send(Signal::HUP);
    eventually("that it was reread is told", || service.log().lines().any(|line| line == "reread"));
    // Its effect shows once it was read.
    eventually("the pattern holds", || {
        let secret = machine.add("secret-thing");
        let after = machine.add("after");
        machine.lands(&after);
        !machine.has(&secret)
    });
    service.stop();
}

#[test]
fn systemd_hears_of_readiness_status_and_life() {
    let machine = Machine::new("");
    let socket = machine.dir.path().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut command = machine.command(&[]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000");
    let service = machine.start_with(command);
    let mut heard = Vec::new();
    let mut hear = |what: &str| {
        eventually(what, || {
            let mut buffer = [0; 4096];
            while let Ok(length) = listener.recv(&mut buffer) {
                heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            heard.iter().any(|message| message.contains(what))
        });
    };
    hear("READY=1");
    hear("STATUS=watching; nothing is queued");
    hear("WATCHDOG=1");
    service.send(Signal::HUP);
    hear("RELOADING=1");
    service.send(Signal::TERM);
    hear("STOPPING=1");
    service.stop_after_signal();
}

impl Service {
    fn stop_after_signal(mut self) {
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.log());
    }
}

#[test]
fn a_hook_queues_whether_the_service_runs_or_not_and_never_fails() {
    let machine = Machine::new("");
    // Registered before anybody watched, so that only the hook can have told.
    let (up, down) = (machine.add("up"), machine.add("down"));
    let hook = |path: &str, args: &[&str]| {
        let mut command = machine.command(args);
        let ran = command.env("OUT_PATHS", path).output().unwrap();
        let told = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(0), "{told}");
        told
    };
    let service = machine.start(&[]);
    assert_eq!(hook(&machine.store.logical(&up), &["hook"]), "");
    machine.lands(&up);
    service.stop();
    assert_eq!(hook(&machine.store.logical(&down), &["hook"]), "");
    assert_eq!(machine.ledger().queue().counts().unwrap().waiting, 1);
    let service = machine.start(&[]);
    machine.lands(&down);
    service.stop();

    assert!(hook("nonsense", &["hook"]).contains("no store path"));
    assert!(hook("", &["hook"]).is_empty());
    assert!(hook("", &["--debug", "hook"]).contains("OUT_PATHS is empty"));
    assert!(hook(&machine.store.logical(&up), &["-c", "missing.toml", "hook"]).contains("missing.toml"));
    assert!(!hook(&machine.store.logical(&up), &["hook", "--nonsense"]).is_empty());
    // Its socket is there, and nobody answers.
    let stale = std::os::unix::net::UnixListener::bind(machine.dir.path().join("cache.db.socket")).unwrap();
    let derivation = machine.add("other");
    assert_eq!(hook(&machine.store.logical(&derivation), &["hook"]), "");
    assert_eq!(machine.ledger().queue().counts().unwrap().waiting, 1);
    drop(stale);
    // Where nothing can be written it is told, and that is all.
    machine.configure("");
    let text = fs::read_to_string(machine.dir.path().join("loft.toml")).unwrap();
    fs::write(machine.dir.path().join("loft.toml"), text.replace("\"cache.db\"", "\"/proc/nothing/cache.db\""))
        .unwrap();
    assert!(hook(&machine.store.logical(&up), &["hook"]).contains("the build is fine"));
}

#[test]
fn the_program_of_the_hook_is_quick_to_read_its_input() {
    // Closing stdout and stderr, as some daemons do, is no failure either.
    let machine = Machine::new("");
    let path = machine.add("p");
    let mut command = machine.command(&["hook"]);
    let mut child = command
        .env("OUT_PATHS", machine.store.logical(&path))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}

#[test]
fn prometheus_is_answered_while_the_service_runs() {
    let machine = Machine::new("");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    machine.configure(&format!("metrics_address = \"{address}\""));
    let told = machine.run(1, &[]);
    assert!(told.contains("metrics_address") && told.contains(&address.to_string()), "{told}");
    drop(free);
    let service = machine.start(&[]);
    let path = machine.add("p");
    machine.lands(&path);
    let scrape = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    eventually("the push is counted", || scrape().contains("\nloft_pushed_paths_total 1\n"));
    assert!(scrape().contains("\nloft_queue_paths 0\n"));
    service.stop();
}

#[test]
fn a_ledger_that_turns_out_damaged_ends_the_service_and_the_next_one_looks_at_everything() {
    let machine = Machine::new("");
    let ledger = machine.dir.path().join("cache.db");
    let mut service = machine.start(&[]);
    let first = machine.add("first");
    machine.lands(&first);
    // As a failing disk leaves it, journal and all.
    for file in ["cache.db-wal", "cache.db"] {
        let file = machine.dir.path().join(file);
        let length = fs::metadata(&file).map_or(0, |found| found.len() as usize);
        let opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&opened, &vec![0x55; length.max(4096)], 0).unwrap();
    }
    // Another run is the first to see it, and puts the file aside.
    machine.run(0, &["--clear-cache"]);
    let second = machine.add("second");
    eventually("it ends", || service.child.try_wait().unwrap().is_some());
    assert_eq!(service.child.wait().unwrap().code(), Some(1), "{}", service.log());
    assert!(service.log().contains("Start the service again"), "{}", service.log());
    drop(service);
    assert!(ledger.with_extension("db.corrupt").exists());
    machine.lose(&first);
    let service = machine.start(&[]);
    machine.lands(&first);
    machine.lands(&second);
    let told = service.stop();
    assert!(told.contains("is lost: everything in it is looked at"), "{told}");
}

#[test]
fn stopping_does_not_wait_for_a_bucket_that_does_not_answer() {
    let machine = Machine::new("");
    let service = machine.start(&[]);
    let first = machine.add("first");
    machine.lands(&first);
    machine.server.memory.set_faults(|moment, _| {
        (moment == Moment::Before).then_some(Fault::Unavailable(Some(Duration::from_secs(20))))
    });
    machine.add("second");
    let outages = || machine.ledger().watch().outages().unwrap();
    eventually("a request has failed", || outages().iter().any(|outage| outage.what == "bucket"));
    let began = Instant::now();
    service.stop();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(machine.ledger().queue().counts().unwrap().waiting, 1);
}

#[test]
fn the_flag_prune_prunes_once() {
    let machine = Machine::new("prune_retention_days = 30\nprune_max_size_gb = 1000\nprune_target_percentage = 80");
    let paths = machine.with_an_old_push();
    let told = machine.run(0, &["--prune", "--dry-run"]);
    assert!(told.contains("3 paths in the cache") && told.contains("1 not pushed for 30 days"), "{told}");
    assert!(!machine.is_pruned(&paths));
    let told = machine.run(0, &["--prune"]);
    assert!(told.contains("Removed 1 of 1") && told.contains("--undo"), "{told}");
    assert!(machine.is_pruned(&paths));
    assert!(machine.run(0, &["--prune"]).contains("No path had to go"));
}

#[test]
fn the_size_limit_retires_the_oldest_down_to_its_target() {
    // In the unit of the setting nothing this small has a limit; the flag of the verb has bytes.
    let machine = Machine::new("prune_retention_days = 365\nprune_target_percentage = 50");
    let paths = machine.with_an_old_push();
    machine.server.memory.age(Duration::from_secs(2 * 86_400));
    let told = machine.run(0, &["prune", "--max-size", "1000GiB"]);
    assert!(told.contains("No path had to go") && !machine.is_pruned(&paths), "{told}");
    let sizes: u64 = machine
        .server
        .memory
        .objects()
        .iter()
        .filter(|(key, _)| key.as_str().starts_with("nar/") && !key.as_str().contains(' '))
        .map(|(_, object)| object.bytes.len() as u64)
        .sum();
    // Half of what there is cannot hold two of three NARs; more than half of the paths would go.
    let limit = format!("{}", sizes - 1);
    assert!(machine.run(1, &["prune", "--max-size", &limit]).contains("more than half"));
    machine.configure("prune_retention_days = 365\nprune_target_percentage = 90");
    machine.run(0, &["prune", "--max-size", &limit]);
    assert!(machine.is_pruned(&paths));
}

#[test]
fn the_service_prunes_on_both_kinds_of_schedule() {
    for schedule in ["24h", "00:00"] {
        let machine = Machine::new(&format!("prune_enabled = true\nprune_schedule = {schedule:?}"));
        let paths = machine.with_an_old_push();
        // It was due two days ago, with some minutes of spread: as good as passed.
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 86_400);
        machine.ledger().watch().note_refused_prune(long_ago).unwrap();
        if schedule == "24h" {
            let service = machine.start(&[]);
            eventually("it prunes", || machine.is_pruned(&paths));
            eventually("it says so", || service.log().contains("pruned removed=1"));
            let log = service.stop();
            assert!(!log.contains("no effect"), "{log}");
        } else {
            let service = machine.start(&[]);
            let more = machine.add("more");
            machine.lands(&more);
            // Midnight was missed; it is caught up within five minutes, at a time that nobody here can wait for.
            service.stop();
            assert!(machine.run(0, &["--prune"]).contains("Removed 1 of 1"));
        }
    }
}
